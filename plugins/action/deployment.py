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
from collections.abc import Mapping

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import report as deploy_report
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.companion import accompany, ask
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.probe import Probe
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.steps import (
    message_of,
    outcome_of,
    released,
    targets,
    timeline,
)

SETTLE = 10.0


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
