# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The controller's half of a deployment: who deploys, the process that renews and measures, the report."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import signal
import socket
import time
import typing as t
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.module_utils.release.leases import LEASE, RENEWAL
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import report as deploy_report
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.probe import Probe

# Stands for the label of a wildcard address, and names the document that is edited.
PROBE = "deployment-probe"
# What an application answers by itself; a gateway's errors are from 500 on.
ANSWERED = list(range(200, 500))
SETTLE = 10.0


# --- pure ---------------------------------------------------------------------


def targets(services: Sequence[Mapping[str, t.Any]], origin: str | None = None) -> list[dict[str, t.Any]]:
    """Return what is asked during a deployment: each public service once, as users reach it."""
    found: list[dict[str, t.Any]] = []
    for service in services:
        if not service["public"]:
            continue
        url = service["url"].replace("*", PROBE, 1).rstrip("/")
        if url.startswith("wss:"):
            if service["yjs"]:
                target = {"service": service["name"], "kind": "websocket", "url": "%s/%s" % (url, PROBE)}
                found.append({**target, "origin": origin})
            continue
        path = service["health"].get("path") or "/"
        found.append({"service": service["name"], "kind": "http", "url": url + path, "status": ANSWERED})
    return found


def outcome_of(steps: Sequence[Mapping[str, t.Any]], failures: Sequence[str]) -> str:
    """Return what became of a deployment whose phases did this."""
    back = {step["host"]: not step["failed"] for step in steps if step["name"] == "take back"}
    if not back and not failures and not any(step["failed"] for step in steps):
        return "committed"
    switched = {step["host"] for step in steps if step["name"] == "switch"}
    return "taken back" if all(back.values()) and switched <= set(back) else "failed"


def released(steps: Sequence[Mapping[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
    """Return, for each service that was to change, its releases before and after, and its hosts."""
    found: dict[str, dict[str, t.Any]] = {}
    for step in steps:
        if step["name"] not in ("prepare", "switch"):
            continue
        for name, change in step["releases"].items():
            if change["from"] == change["to"]:
                continue
            entry = found.setdefault(name, {**change, "hosts": []})
            if step["host"] not in entry["hosts"]:
                entry["hosts"].append(step["host"])
    return found


def timeline(steps: Sequence[Mapping[str, t.Any]], started: float) -> list[dict[str, t.Any]]:
    """Return the phases as the report draws them, in seconds since the start; what came between is the verification."""
    drawn = [
        {
            "name": step["name"],
            "services": step["services"],
            "host": step["host"],
            "start": round(step["start"] - started, 3),
            "end": round(step["end"] - started, 3),
        }
        for step in steps
    ]
    switched = [step["end"] for step in drawn if step["name"] == "switch"]
    after = [step["start"] for step in drawn if step["name"] in ("commit", "take back")]
    if switched and after and min(after) > max(switched):
        drawn.append({"name": "verify", "services": [], "host": "", "start": max(switched), "end": min(after)})
    return sorted(drawn, key=lambda step: step["start"])


def message_of(outcome: str, steps: Sequence[Mapping[str, t.Any]], failures: Sequence[str]) -> str:
    """Return all that an operator has to know of a deployment that failed."""
    if outcome == "committed":
        return ""
    texts = ["%s: %s" % (step["host"], step["message"]) for step in steps if step["failed"]]
    if any(step["name"] == "commit" for step in steps):
        end = (
            "What was switched to serves. Only the commit is not complete (see above): mend that, and run deploy.yml "
            "again, which completes it."
        )
    elif outcome == "taken back":
        end = "Everything that was switched is taken back: the releases from before serve."
    else:
        end = (
            "It could not be taken back everywhere (see above), so that hosts may serve different releases. Mend what "
            "is told above, or stop the host that cannot be reached; then run deploy.yml again: it goes on from what "
            "it finds. releases.yml says what is live."
        )
    return "\n\n".join([*texts, *failures, end])


def who() -> str:
    """Return who deploys: a person at a machine, or who started a workflow."""
    actor = os.environ.get("GITHUB_ACTOR")
    if actor:
        return "%s (workflow run %s)" % (actor, os.environ.get("GITHUB_RUN_ID", "?"))
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return "%s@%s" % (user, socket.gethostname())


# --- the process that lives as long as the deployment ----------------------------


def birth(pid: int) -> str:
    """Return what tells a process from a later one with the same number; empty where it is gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as handle:
            return handle.read().rpartition(")")[2].split()[19]
    except OSError:
        return "?"


def accompany(parent: int, lease: t.Callable[[str], bool | None], probe: Probe, path: str) -> None:
    """Renew the lease and measure until told to end. Writes the measurement to a file.

    lease: changes it; says whether it is ours, None where the host did not answer. One renewal that does not get
    through is made up for by the next.

    SIGUSR1 asks for what was measured so far. When the playbook is gone, killed or interrupted, the lease is given
    back, so that the next deployment need not wait for its end: whatever still runs of this one has a lower number.
    """
    wanted: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: wanted.append(number))
    born = birth(parent)
    probe.start()
    renewed = time.monotonic()
    due = renewed + RENEWAL
    while signal.SIGTERM not in wanted:
        time.sleep(0.1)
        if birth(parent) != born:
            lease("ended")
            break
        if signal.SIGUSR1 in wanted:
            wanted.remove(signal.SIGUSR1)
            write_file(path, json.dumps(probe.result()), 0o644)
        if time.monotonic() > due:
            due = time.monotonic() + RENEWAL
            ours = lease("renewed")
            if ours:
                renewed = time.monotonic()
            elif ours is False or time.monotonic() > renewed + LEASE:
                break
    write_file(path, json.dumps(probe.stop()), 0o644)


def ask(pid: int, number: int, path: str, patience: float) -> dict[str, t.Any] | None:
    """Ask the process for its measurement; None where it does not answer."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return None
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as handle:
            found: dict[str, t.Any] = json.load(handle)
            return found
        time.sleep(0.05)
    return None


# --- the action ---------------------------------------------------------------


class ActionModule(ActionBase):
    """The controller's half of deployment."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Begin, measure or end."""
        super().run(tmp, task_vars)
        self._variables = task_vars or {}
        args = plain(self._task.args)
        state = args.get("state")
        if self._task.check_mode:
            return {"changed": False}
        if state == "begun":
            return self._begin(args)
        if state not in ("measured", "ended"):
            raise AnsibleActionFail("deployment: state is %r; write begun, measured or ended" % state)
        begun = args.get("begun") or {}
        if not begun.get("number"):
            # The lock was somebody else's: there is nothing to end.
            return {"changed": False, "skipped": True}
        return self._measure(begun) if state == "measured" else self._end(begun, args.get("failures") or [])

    def _lease(self, state: str, holder: str, by: str = "") -> dict[str, t.Any]:
        result: dict[str, t.Any] = self._execute_module(
            module_name="fivepointers.platform.deployment",
            module_args={"state": state, "id": holder, "by": by},
            task_vars=self._variables,
        )
        result.pop("invocation", None)
        return result

    def _holds(self, state: str, holder: str) -> bool | None:
        """Change the lease; say whether it is ours, None where that cannot be told."""
        try:
            result = self._lease(state, holder)
        except Exception:
            return None
        return not result.get("failed") if "number" in result or "lost" in result else None

    def _begin(self, args: Mapping[str, t.Any]) -> dict[str, t.Any]:
        environment = args["environment"]
        settings = environment["deployment"]
        reports = os.path.abspath(os.path.expanduser(args["reports"]))
        started = time.time()
        holder = "%s-%s" % (time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started)), secrets.token_hex(2))
        by = who()
        result = self._lease("begun", holder, by)
        if result.get("failed"):
            return result
        os.makedirs(reports, exist_ok=True)
        begun = {
            "id": holder,
            "number": result["number"],
            "by": by,
            "started": started,
            "environment": environment["name"],
            "budget": {key: value for key, value in (settings["budget"] or {}).items() if value is not None},
            "watch": settings["watch"],
            "journal": os.path.join(reports, holder + ".steps"),
            "measurement": os.path.join(reports, holder + ".measurement"),
            "report": os.path.join(reports, holder + ".html"),
        }
        open(begun["journal"], "w", encoding="utf-8").close()
        probe = Probe(
            targets(args.get("services") or [], args.get("origin")) if settings["rate"] else [],
            rate=settings["rate"],
            ca_file=args.get("ca_file"),
            connect_to=environment["front_door"] or None,
        )
        begun["process"] = self._start(holder, probe, begun["measurement"])
        return {"changed": False, **begun}

    def _start(self, holder: str, probe: Probe, path: str) -> int:
        parent = os.getppid()
        child = os.fork()
        if child:
            return child
        try:
            # Of a session of its own: a Ctrl-C in the terminal ends the playbook, and that ends this.
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            accompany(parent, lambda state: self._holds(state, holder), probe, path)
        finally:
            os._exit(0)

    def _measure(self, begun: Mapping[str, t.Any]) -> dict[str, t.Any]:
        switched = [step["end"] for step in self._steps(begun) if step["name"] == "switch"]
        time.sleep(max(0.0, max(switched, default=0.0) + begun["watch"] - time.time()))
        measured = ask(begun["process"], signal.SIGUSR1, begun["measurement"], SETTLE)
        if measured is None:
            return {"changed": False, "failed": True, "msg": "The process that measures the deployment has ended."}
        over = deploy_report.over_budget(measured, begun["budget"])
        return {"changed": False, "failed": bool(over), "msg": "\n".join(over), "over_budget": over}

    def _steps(self, begun: Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
        with open(begun["journal"], encoding="utf-8") as handle:
            return [json.loads(line) for line in handle]

    def _end(self, begun: Mapping[str, t.Any], failures: list[str]) -> dict[str, t.Any]:
        measured = ask(begun["process"], signal.SIGTERM, begun["measurement"], SETTLE)
        try:
            lease = self._lease("ended", begun["id"])
        except AnsibleError as error:
            lease = {"failed": True, "msg": "The lock ends by itself within a minute: %s" % error}
        steps = self._steps(begun)
        outcome = outcome_of(steps, failures)
        message = message_of(outcome, steps, failures)
        report = {
            "deployment": begun["id"],
            "environment": begun["environment"],
            "by": begun["by"],
            "started": "%s.%03dZ"
            % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begun["started"])), begun["started"] % 1 * 1000),
            "seconds": round(time.time() - begun["started"], 3),
            "outcome": outcome,
            "message": message,
            "services": released(steps),
            "steps": timeline(steps, begun["started"]),
            "probe": measured,
            "budget": begun["budget"],
            "over_budget": deploy_report.over_budget(measured, begun["budget"]) if measured else [],
        }
        write_file(begun["report"].removesuffix(".html") + ".json", json.dumps(report), 0o644)
        write_file(begun["report"], deploy_report.html(report), 0o644)
        for path in (begun["journal"], begun["measurement"]):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        result = {
            "changed": False,
            "failed": outcome != "committed",
            "msg": message,
            "services": sorted(report["services"]),
            "outcome": outcome,
            "table": deploy_report.table(report),
            "report": begun["report"],
        }
        if lease.get("failed"):
            result["warnings"] = [str(lease.get("msg"))]
        return result
