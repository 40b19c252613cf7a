# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The phases of a release on a host: prepare, migrate, switch, and then commit or take_back.

Each may be killed at any point and run again.

Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import pwd
import shlex
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive as archives
from ansible_collections.fivepointers.platform.plugins.module_utils.common import http_client, platforms, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.config_tree import TreeError, apply_tree
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import read, write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import PlaceholderError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.sockets import holder, listeners
from ansible_collections.fivepointers.platform.plugins.module_utils.release import (
    adoption,
    leftovers,
    releases,
    schedules,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release.files import (
    allocate,
    begin_switch,
    check_space,
    end_switch,
    forget_hold,
    hold,
    keep_spare,
    point_slot,
    prune,
    record_switch,
    seclude,
    set_flag,
    share,
    shortage,
    stage,
    use_spare,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release.leases import HostError
from ansible_collections.fivepointers.platform.plugins.module_utils.release.migrations import (
    Migration,
    MigrationError,
    obstacles,
    parse_listing,
    parse_schema,
    pending_contracts,
    remembered,
    schema_changes,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import (
    Plan,
    ReleaseError,
    Seen,
    Wanted,
    alone,
    early,
    environment_path,
    observe,
    other,
    plan,
    slot_texts,
    timer_differs,
    timer_texts,
    unit_name,
)

NOT_RUNNING = "its process is not running"
# A candidate that crashed this often will not recover.
CRASHES = 5
JOURNAL_LINES = 20
FRONT_TIMEOUT = 2.0
# Marks the unit of a process that hands over its sockets, and the time it gets to join the documents.
HAND_OFF, BRIDGE_TIMEOUT = "HAND_OFF_STATUS=", 5.0
# Marks the unit of a process that is told when its slot becomes live, or no longer is.
LIVE_SIGNAL = "SLOT_LIVE_SIGNAL="


# --- candidates ---------------------------------------------------------------


def ensure_account(user: str) -> None:
    """Create the system user of a service."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        shell = next((path for path in ("/usr/sbin/nologin", "/sbin/nologin") if os.path.exists(path)), "/bin/false")
        status, output = systemd.run(
            [
                "useradd",
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir=/nonexistent",
                "--shell=" + shell,
                user,
            ]
        )
        if status:
            raise ReleaseError("The user %s cannot be created: %s" % (user, output)) from None


def check_ports(wanted: Wanted, slot: str) -> None:
    """Raise ReleaseError if the port of the slot is in use."""
    port = wanted.slots[slot]
    for inode in dict.fromkeys(inode for _address, inode in listeners(port)) if port else ():
        raise ReleaseError(
            "%s: port %d of slot %s is in use by %s. Nothing was changed. Stop that process, or give "
            "the service another port." % (wanted.name, port, slot, holder(inode))
        )


def foreign(wanted: Wanted, seen: Seen) -> dict[str, str]:
    """Return which processes other than nginx hold the port of a front that does not exist yet, by inode."""
    if seen.front is not None or not wanted.port:
        return {}
    found = {inode: holder(inode) for _address, inode in listeners(wanted.port)}
    return {inode: who for inode, who in found.items() if not who.startswith("nginx ")}


def check_front_port(wanted: Wanted, seen: Seen, adopt: bool = False) -> None:
    """Raise ReleaseError if another process than nginx holds the front's port and is not, or cannot be, adopted."""
    found = foreign(wanted, seen)
    if found and adopt:
        adoption.capture(wanted.name, wanted.port, list(found))
    elif found:
        raise ReleaseError(
            "%s: port %d of the front is in use by %s. Nothing was changed. Stop that process (if it is the same "
            "application, started manually or by pm2, -e adopt=true takes the port over from it, see "
            "docs/adoption.md), or give the service another port."
            % (wanted.name, wanted.port, next(iter(found.values())))
        )


def check_leftovers(job: Job) -> None:
    """Raise ReleaseError if a front that is there already would get the requests of a candidate.

    nginx would accept both, and the one whose name comes first would answer. A front of a described service that
    moves to another port is none of these.
    """
    described = job.described
    if described is None:
        return
    for item, _todo in job.candidates():
        for holding in leftovers.at_ports([item.port, *item.slots.values()], item.name):
            if holding in described and item.name in described:
                continue
            what, fix = "", "Give '%s' another port, and deploy it." % holding
            if holding not in described:
                what = ", which runs there and is not described"
                fix = (
                    "Retire it first: ansible-playbook playbooks/retire.yml -e retire=%s (requests to the port fail "
                    "until '%s' is deployed). Or, so that none fails, deploy '%s' with another port, and retire '%s' "
                    "afterwards." % (holding, item.name, item.name, holding)
                )
            raise ReleaseError(
                "%s: port %d on %s is in use by the service '%s'%s. Nothing was changed. %s"
                % (item.name, item.port, job.host, holding, what, fix)
            )


def check_schedules(job: Job) -> None:
    """Raise ReleaseError for a schedule that is never due on this host, or that would run beside a process."""
    for item, todo in job.candidates():
        # What was once live may come back after its last time.
        problem = schedules.problem(item.schedule) if item.scheduled and not job.rollback else ""
        if problem:
            raise ReleaseError(
                "%s on %s: its schedule is '%s', %s. Nothing was changed. Try it on the host: "
                "systemd-analyze calendar '%s'" % (item.name, job.host, item.schedule, problem, item.schedule)
            )
        record = job.seen[item.name].releases.get(todo.serving, {}).get("wanted", {})
        was = record.get("handover", "requests") == releases.SCHEDULE
        if todo.serving and was != item.scheduled:
            before, now = ("by a schedule", "all the time")[:: 1 if was else -1]
            raise ReleaseError(
                "%s on %s: it runs %s, and cannot become one that runs %s. Nothing was changed. Describe the new one "
                "under another name, and retire this one with -e retire=%s."
                % (item.name, job.host, before, now, item.name)
            )


def require_ended(job: Job, item: Wanted, units: Sequence[str], why: str) -> None:
    """Wait for the end of a run of what runs by a schedule. Raises ReleaseError if it takes longer than its drain."""
    unit = schedules.wait(units, item.drain)
    if unit:
        raise ReleaseError(
            "%s on %s: a run is still going on, and %s. It was waited for %g s ('drain'). Nothing was changed. Deploy "
            "again when it has ended (systemctl status %s), or end it there: sudo systemctl stop %s"
            % (item.name, job.host, why, item.drain, unit, unit)
        )


def check_native(job: Job) -> None:
    """Raise ReleaseError if a candidate has native code that does not run on this machine."""
    platform, libc = platforms.here(), platforms.libc()
    found = [(item, platforms.unfit(item.native, platform, libc)) for item, _todo in job.candidates()]
    refused = [
        "%s: %s in artifact %s is for %s, and %s is %s. Nothing was changed. Build on a machine like that; or use a "
        "package that has code for both; or, if the service works without it, leave it out with build.exclude: [%s]."
        % (
            item.name,
            code["file"],
            item.artifact,
            platforms.described(code["platform"], code["libc"]),
            job.host,
            platforms.described(platform, libc),
            code["file"],
        )
        for item, code in found
        if code
    ]
    if refused:
        raise ReleaseError("\n".join(refused))


def exposed(wanted: Wanted, slot: str) -> str:
    """Return a warning if the slot listens on other addresses than the loopback."""
    if not wanted.port:
        return ""
    addresses = sorted({address for address, _inode in listeners(wanted.slots[slot])})
    # An IPv4 address may be listened on through IPv6.
    reachable = [item for item in addresses if not item.startswith(("127.", "::ffff:127.")) and item != "::1"]
    if not reachable:
        return ""
    return (
        "%s listens on %s, port %d, not only on the loopback: anyone who can reach the host can bypass nginx. Make it "
        "listen on the address in the variable HOST (127.0.0.1). Until then, only firewalls protect it."
        % (wanted.name, " and ".join(reachable), wanted.slots[slot])
    )


def health_question(wanted: Wanted, port: int) -> str:
    """Describe the health check: its request at a port of this host, or what it does without one."""
    health = wanted.health
    if health["type"] == "running":
        return "whether its process keeps running for %d s" % health["running"]
    if health["type"] == "file":
        return "whether it touched the file in HEALTH_FILE within the last %d s" % health["file"]
    if health["type"] == "command":
        return "whether `%s` succeeds" % shlex.join(health["command"])
    if health["type"] == "tcp":
        return "a connection to 127.0.0.1:%d" % port
    return "GET http://127.0.0.1:%d%s, answered with %s" % (
        port,
        health["path"],
        " or ".join(map(str, health["status"])),
    )


def health_problem(wanted: Wanted, port: int) -> str:
    """Check a port of this host once; return what came if it is not healthy, else an empty text."""
    health = wanted.health
    try:
        if health["type"] == "tcp":
            http_client.open_port("127.0.0.1:%d" % port, health["timeout"])
            return ""
        answer = http_client.ask(
            "http://127.0.0.1:%d%s" % (port, health["path"]),
            timeout=health["timeout"],
            headers={"X-Forwarded-Proto": "https"},
        )
    except http_client.ProbeError as error:
        return "%s (%s)" % (error, error.likely) if error.likely else str(error)
    if answer.status in health["status"]:
        return ""
    likely = http_client.likely(answer.status)
    return answer.describe() + (" (%s)" % likely if likely else "")


def slot_problem(wanted: Wanted, slot: str, state: systemd.UnitState | None = None) -> str:
    """Check a slot once; return what came if it is not healthy. state: of its unit, if the caller knows it."""
    health = wanted.health
    if health["type"] == "running":
        state = state or systemd.states([unit_name(wanted.name, slot)])[unit_name(wanted.name, slot)]
        if not state.running:
            return NOT_RUNNING
        # A process that was started again begins anew.
        running = time.monotonic() - state.started
        return "" if running >= health["running"] else "it has been running for %.0f s" % running
    if health["type"] == "file":
        try:
            age = time.time() - os.stat(releases.health_path(wanted.name, slot)).st_mtime
        except OSError:
            return "it has not touched it yet"
        return "" if age <= health["file"] else "it touched it %.0f s ago" % age
    if health["type"] == "command":
        failed = _run_once(wanted, slot, "check", wanted.check)
        return "" if failed is None else ": ".join(filter(None, (failed.how, *failed.lines[-1:])))
    return health_problem(wanted, wanted.slots[slot])


def health_now(job: Job, wanted: Wanted, slot: str) -> str:
    """Check a candidate once; return what came if it is not healthy.

    Files are always healthy. So is what does not run before the switch, as far as anybody can tell.
    """
    checked = wanted.health["type"] == "command" if wanted.scheduled else early(wanted, job.seen[wanted.name])
    if not checked:
        return ""
    return slot_problem(wanted, slot)


@dataclasses.dataclass
class Failure:
    """A candidate that did not become healthy."""

    wanted: Wanted
    slot: str
    came: str
    process: str
    seconds: float
    lines: list[str]

    def text(self, host: str, serving: str, reverted: str = "") -> str:
        """Return everything that an operator needs to know. reverted: what became of a switch to it, in sentences."""
        unit = unit_name(self.wanted.name, self.slot)
        now = "Release %s is still serving." % serving if serving else "No release was serving, and none is now."
        shown = "\n".join("    " + line for line in self.lines) or "    (it logged nothing)"
        return (
            "%s on %s, step %s: release %s did not become healthy in slot %s within %.0f s, and was stopped. %s\n"
            "  Asked: %s\n  Came: %s\n%s  Its last log lines:\n%s\n"
            "  What to do: fix what the log says, build and deploy again. If it only needs more time, raise "
            "health.start_period (%g s). Its full log: journalctl -u %s"
            % (
                self.wanted.name,
                host,
                "switch" if reverted else "prepare",
                self.wanted.release,
                self.slot,
                self.seconds,
                reverted or now,
                health_question(self.wanted, self.wanted.slots[self.slot]),
                self.came,
                "  Its process: %s\n" % self.process if self.process else "",
                shown,
                self.wanted.health["start_period"],
                unit,
            )
        )


def wait_until_healthy(candidates: Sequence[tuple[Wanted, str]], patient: Collection[str] = ()) -> list[Failure]:
    """Wait for all candidates at once; return those that failed. Each is checked at its own slot.

    If the disk becomes full meanwhile, they are what fills it, as far as anybody can tell.

    patient: services that may crash as often as they like, within their time: what they need is on its way.
    """
    watch = not shortage()
    begun, wall = time.monotonic(), time.time()
    waiting = {unit_name(wanted.name, slot): (wanted, slot) for wanted, slot in candidates}
    asked = dict.fromkeys(waiting, 0.0)
    ends = dict.fromkeys(waiting, "")
    failures = []
    while waiting:
        states = systemd.states(list(waiting))
        for unit, state in states.items():
            wanted, slot = waiting[unit]
            # systemd reports how it ended only until the next start.
            ends[unit] = state.exit() or ends[unit]
            passed = time.monotonic() - begun
            # Often at first, because most are up within a second.
            if state.running and passed - asked[unit] < min(wanted.health["interval"], 0.1 + passed / 5):
                continue
            asked[unit] = passed
            came = slot_problem(wanted, slot, state) if state.running else NOT_RUNNING
            if not came:
                after = systemd.states([unit])[unit]
                if after.running and after.pid == state.pid:
                    del waiting[unit]
                    continue
                came = "it answered, and then its process exited"
            full = shortage() if watch else ""
            came = full or came
            over = passed > wanted.health["start_period"]
            lost = state.restarts >= CRASHES and wanted.name not in patient
            if full or over or lost or state.active == "failed":
                again = "%d times, and was restarted each time" % state.restarts if state.restarts else ""
                process = " ".join(filter(None, (ends[unit], again)))
                lines = systemd.journal(unit, wall, JOURNAL_LINES)
                failures.append(Failure(wanted, slot, came, process, passed, lines))
                del waiting[unit]
        if waiting:
            time.sleep(0.1)
    return failures


# --- the phases ---------------------------------------------------------------


@dataclasses.dataclass
class Job:
    """What a phase works on. seen, plans, archives (paths of what was sent): by service."""

    host: str
    wanted: list[Wanted]
    seen: dict[str, Seen]
    plans: dict[str, Plan]
    secrets: dict[str, str]
    archives: dict[str, str]
    # {deployment, by, number}: whose switches these are.
    author: dict[str, Any] = dataclasses.field(default_factory=dict)
    allow_contract: bool = False
    # Services whose code may be replaced by older code; all for every one.
    allow_older: Sequence[str] = ()
    # Whether ports are taken over; from whom they were, or to whom they were given back.
    adopt: bool = False
    adopted: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)
    # Whether these releases were live before: then a full disk does not keep them from it.
    rollback: bool = False
    # The services of this host; None if that is not known.
    described: list[str] | None = None
    # What any host says of each service: its releases that serve, and contract migrations. Empty if only this one says.
    anywhere: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def candidates(self) -> list[tuple[Wanted, Plan]]:
        """Return the services that need a switch."""
        return [(item, self.plans[item.name]) for item in self.wanted if self.plans[item.name].candidate]

    def refresh(self) -> None:
        """Look again, and plan again."""
        self.seen = {name: adoption.unfinished(name, seen) for name, seen in observe(self.wanted).items()}
        self.plans = {
            item.name: plan(item, self.seen[item.name], self.anywhere.get(item.name, {}).get("serving", ""))
            for item in self.wanted
        }
        for item, todo in self.candidates() if self.adopt else ():
            for who in foreign(item, self.seen[item.name]).values():
                steps = ("stop %s, and take port %d over from it" % (who, item.port), *todo.steps)
                self.plans[item.name] = dataclasses.replace(todo, steps=steps)


def missing_archives(job: Job) -> list[str]:
    """Return the services whose archive has to be sent before prepare. Raises ReleaseError if one does not fit."""
    missing = [item for item, todo in job.candidates() if todo.stage == "archive" and item.name not in job.archives]
    for item in missing:
        check_space(item)
    return [item.name for item in missing]


def prepare(job: Job) -> bool:
    """Stage and start all candidates, and wait until they are healthy. Live releases are not touched.

    The exception is a release that an interrupted deployment switched to and nobody verified: if another one is
    desired now, that switch is reverted first, so that no rollback leads to it.
    """
    mended = mend_flags(job)
    unverified = abandoned(job)
    if unverified:
        take_back(dataclasses.replace(job, wanted=unverified))
        job.refresh()
    # A candidate of an earlier run that became unhealthy is started again.
    todo = [(item, todo) for item, todo in job.candidates() if not todo.ready or health_now(job, item, todo.slot)]
    if not todo:
        return bool(unverified) or mended
    check_leftovers(job)
    check_schedules(job)
    older = [step.older for item, step in todo if step.older and not {"all", item.name} & set(job.allow_older)]
    if older:
        raise ReleaseError(
            "%s. Nothing was changed. Update your checkout, build and deploy again. To go back on purpose, use "
            "rollback.yml, or add -e older=true." % "; ".join(older)
        )
    require_space(job)
    if not shutil.which("nginx"):
        raise ReleaseError(
            "nginx is not installed on %s. Configure the host first: the role nginx installs it." % job.host
        )
    for item, step in todo:
        if item.scheduled:
            require_ended(job, item, [unit_name(item.name, step.slot)], "the new release needs its slot")
        seen = job.seen[item.name]
        check_front_port(item, seen, job.adopt)
        if item.process and not seen.runtime:
            raise ReleaseError(
                "%s: there is no Node.js at %s. Configure the host first: the role nodejs installs it."
                % (item.name, item.runtime)
            )
        if item.process:
            ensure_account(item.user)
        if step.stage:
            stage(item, step.stage, job.archives.get(item.name), job.secrets)
        share(item)
        seclude(item)
        allocate_way_back(item, seen)
    if not shortage():
        keep_spare()
    processes = [(item, step.slot) for item, step in todo if early(item, job.seen[item.name])]
    try:
        _fill_slots(job, [(item, step.slot) for item, step in todo])
        for item, step in todo:
            if step.migrates_first:
                _migrate(job, item, step)
        schemas = _schemas(job, processes)
        if processes:
            systemd.systemctl("start", "--no-block", *(unit_name(item.name, slot) for item, slot in processes))
        # Another host migrates for them meanwhile.
        patient = [item.name for item, step in todo if item.migration and not item.migrate and not step.anywhere]
        failures = [*wait_until_healthy(processes, patient), *_unfit(job, todo, patient)]
        texts = [_told(job, failure) for failure in failures]
        texts += _changed_schemas(job, processes, schemas)
        if texts:
            raise ReleaseError("\n".join(texts))
        apply_fronts(job, _new_fronts(job), check=True)
    except BaseException:
        stop_quietly([unit_name(item.name, slot) for item, slot in processes])
        raise
    job.warnings += [warning for warning in (exposed(item, slot) for item, slot in processes) if warning]
    return True


def _told(job: Job, failure: Failure) -> str:
    """Return why a candidate is not healthy, with what may be missing."""
    step = job.plans[failure.wanted.name]
    text = failure.text(job.host, step.anywhere)
    if step.migrate and not step.migrates_first:
        text += (
            ". Its migrations have not run: they do once it is healthy. If it needs what they add, deploy them first, "
            "with code that does not."
        )
    return text


def _unfit(job: Job, todo: Sequence[tuple[Wanted, Plan]], patient: Collection[str]) -> list[Failure]:
    """Check the candidates that a timer will start; return those that are not fit to run.

    patient: services that have their time for it: what they need is on its way.
    """
    failures = []
    for item, step in todo:
        begun = time.time()
        came = health_now(job, item, step.slot) if item.scheduled else ""
        while came and item.name in patient and time.time() - begun < item.health["start_period"]:
            time.sleep(item.health["interval"])
            came = health_now(job, item, step.slot)
        if came:
            lines = systemd.journal(once_unit(item.name, "check", step.slot), begun, JOURNAL_LINES)
            failures.append(Failure(item, step.slot, came, "", time.time() - begun, lines))
    return failures


def allocate_way_back(item: Wanted, seen: Seen) -> None:
    """Create everything that a switch and its way back then only rename or rewrite."""
    allocate(item.name, seen.flag)
    if item.stays:
        for slot in releases.SLOTS:
            systemd.park(unit_name(item.name, slot))


def mend_flags(job: Job) -> bool:
    """Create or restore the flags of live services that have none."""
    lost = [item for item in job.wanted if job.seen[item.name].lost and job.seen[item.name].live]
    for item in lost:
        allocate_way_back(item, job.seen[item.name])
    return bool(lost)


def require_space(job: Job) -> None:
    """Raise ReleaseError if a deployment would begin, or switch, on a full disk. A rollback may have to."""
    problem = "" if job.rollback else shortage()
    if problem:
        raise ReleaseError(
            "%s on %s: %s. What is live was not changed. Free some space there (logs, caches and files of the "
            "services), or give the host a larger disk."
            % (", ".join(item.name for item, _todo in job.candidates()), job.host, problem)
        )


def abandoned(job: Job) -> list[Wanted]:
    """Return the services with an uncommitted switch to another release than the desired one.

    Also those whose switch broke off when the old process had ended and the new one had not started.
    """
    found = []
    for item in job.wanted:
        seen = job.seen[item.name]
        ended = item.process and alone(item, seen) and seen.slots[seen.flag].state.stopped
        if seen.pending and (seen.pending["release"] != item.release or ended):
            found.append(item)
    return found


def stop_quietly(units: Sequence[str]) -> None:
    """Stop failed candidates without raising: another error is being raised already."""
    if units:
        systemd.run(["systemctl", "stop", *units], systemd.STOP_TIMEOUT)
        systemd.run(["systemctl", "reset-failed", *units])


def _fill_slots(job: Job, todo: Sequence[tuple[Wanted, str]]) -> None:
    """Stop what runs in the idle slots, and write unit, environment and link of the candidates."""
    version = 0
    busy = [unit_name(item.name, slot) for item, slot in todo if item.process]
    if busy:
        version = systemd.version()
        states = systemd.states(busy)
        # A run that began meanwhile goes on.
        stays = [unit_name(item.name, slot) for item, slot in todo if item.stays]
        running = [unit for unit in stays if states[unit].load == "loaded" and not states[unit].stopped]
        # The timer of a held release in that slot would stop the candidate.
        cancel_retirement([item.name for item, _slot in todo if item.process])
        for item, _slot in todo:
            forget_hold(item.name)
        if running:
            systemd.systemctl("stop", *running, timeout=systemd.STOP_TIMEOUT)
        systemd.run(["systemctl", "reset-failed", *busy])
    for item, slot in todo:
        if item.process:
            check_ports(item, slot)
            unit, environment = slot_texts(item.name, item.release, item.slots[slot], version)
            write_file(environment_path(item.name, slot), environment, 0o600)
            write_file(os.path.join(systemd.UNITS, unit_name(item.name, slot)), unit, 0o644)
        point_slot(item.name, slot, item.release)
    if busy:
        systemd.systemctl("daemon-reload")


def hand_over(item: Wanted, slot: str) -> None:
    """Start the process in a slot after the one in the other has ended: no two run at once."""
    old = unit_name(item.name, other(slot))
    systemd.run(["systemctl", "stop", old], systemd.STOP_TIMEOUT)
    if not systemd.states([old])[old].stopped:
        raise ReleaseError("%s: %s does not stop. See: systemctl status %s" % (item.name, old, old))
    set_flag(item.name, slot)
    systemd.systemctl("start", "--no-block", unit_name(item.name, slot))


def _asked(unit: str, mark: str) -> bool:
    """Whether the process of a unit waits for a signal of this kind. Without that, the signal would end it."""
    return mark in (read(os.path.join(systemd.UNITS, unit)) or "")


def _signal(unit: str) -> None:
    systemd.run(["systemctl", "kill", "--kill-who=main", "--signal=SIGUSR2", unit])


def make_live(name: str, slot: str) -> None:
    """Make a slot live, and signal that to those processes of both slots that asked for it."""
    set_flag(name, slot)
    for unit in (unit_name(name, item) for item in releases.SLOTS):
        if _asked(unit, LIVE_SIGNAL):
            _signal(unit)


def _new_fronts(job: Job) -> dict[str, str]:
    """Return the fronts that differ from those on the host."""
    return {item.name: item.front for item in job.wanted if job.plans[item.name].front}


def apply_fronts(
    job: Job,
    fronts: Mapping[str, str | None],
    check: bool = False,
    reload: bool = True,
    others: Sequence[str] = (),
) -> None:
    """Apply fronts together: one validation, one reload; None removes one. With `check`, only validate.

    others: further owners of nginx's files, of which everything is removed.
    """
    if not fronts and not others:
        return
    paths = {item.name: item.front_path for item in job.wanted}
    trees = {
        "front-" + name: [{"path": paths[name], "content": text, "template": "the front of " + name}] if text else []
        for name, text in fronts.items()
    }
    trees.update({owner: [] for owner in others})
    spec = {
        "root": releases.NGINX,
        "trees": trees,
        "validate": ["nginx", "-t", "-q"],
        "reload": ["systemctl", "reload-or-restart", "nginx.service"],
        "prove": {"workers": "/run/nginx.pid", "timeout": 15},
        "explain": ["journalctl", "--quiet", "--no-pager", "--output=cat", "--unit=nginx.service", "--lines=10"],
    }
    if not reload:
        spec.update(reload=[], prove={})
    try:
        apply_tree(spec, check=check)
    except TreeError as error:
        raise ReleaseError("The front of %s on %s: %s" % (", ".join([*fronts, *others]), job.host, error)) from error


def migrate(job: Job) -> bool:
    """Run the migrations of the candidates, each in its own release and environment.

    Those of a first release ran before it was started.
    """
    done = False
    for item, todo in job.candidates():
        if todo.migrate and not todo.migrates_first:
            _require_ready(job, item, todo)
            _migrate(job, item, todo)
            done = True
    return done


def _migrate(job: Job, item: Wanted, todo: Plan) -> None:
    listing = _listing(item, todo.slot) if item.listing else []
    refusal = _refusal(job, item, todo, listing)
    if refusal:
        stop_quietly([unit_name(item.name, todo.slot)])
        raise ReleaseError("%s on %s, step migrate: %s" % (item.name, job.host, refusal))
    failed = _run_once(item, todo.slot, "migration", item.migration)
    if failed is not None:
        stop_quietly([unit_name(item.name, todo.slot)])
        raise ReleaseError(
            "%s on %s, step migrate: the migrations of release %s failed%s. %s %s\n"
            "  Their last log lines:\n%s\n  What to do: fix the migration, build and deploy again; "
            "the next deployment runs those that are still missing."
            % (
                item.name,
                job.host,
                item.release,
                ": " + failed.how if failed.how else "",
                "Release %s is still serving." % todo.anywhere if todo.anywhere else "No release is serving yet.",
                _schema_now(item, todo.slot),
                "\n".join("    " + line for line in failed.lines),
            )
        )
    if item.listing:
        found = remembered(_stored_schema(job, item), _listing(item, todo.slot))
        text = json.dumps([migration._asdict() for migration in found], indent=1) + "\n"
        # What the database has now, and which migrations this release knows.
        write_file(_schema_path(item.name), text, 0o644)
        write_file(os.path.join(releases.release_path(item.name, item.release), "schema.json"), text, 0o644)


def _schemas(job: Job, processes: Sequence[tuple[Wanted, str]]) -> dict[str, dict[str, str]]:
    """Return what the databases of candidates look like, by service, where that is known."""
    found = {}
    for item, slot in processes:
        if not item.fingerprint:
            continue
        unit = once_unit(item.name, "fingerprint", slot)
        begun = time.time()
        failed = _run_once(item, slot, "fingerprint", item.fingerprint)
        try:
            found[item.name] = parse_schema(failed.lines if failed else systemd.journal(unit, begun, 200))
        except MigrationError as error:
            job.warnings.append(
                "%s: whether it changes the schema when it starts is not known: %s. With schema_at_start: ignore, "
                "nobody asks." % (item.name, error)
            )
    return found


def _changed_schemas(
    job: Job, processes: Sequence[tuple[Wanted, str]], before: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return what is wrong with candidates that changed a schema when they started; where they may, warn."""
    known = [(item, slot) for item, slot in processes if item.name in before]
    after = _schemas(job, known)
    problems = []
    for item, _slot in known:
        changes = schema_changes(before[item.name], after.get(item.name, before[item.name]))
        if not changes:
            continue
        found = "release %s changed the schema when it started, and not by `migrate` (%s)" % (item.release, changes)
        serving = job.plans[item.name].anywhere
        # Nothing that serves can miss what the first release changed.
        if item.schema_at_start == "report" or not serving:
            job.warnings.append("%s: %s." % (item.name, found))
            continue
        problems.append(
            "%s on %s, step prepare: %s. It was stopped. Release %s is still serving, with the schema as it is now.\n"
            "  What to do: turn off what does it (synchronize, migrationsRun, sequelize.sync, prisma db push), compare "
            "the schema with what the code needs, and leave changes to `migrate`. If it may change the schema, set "
            "schema_at_start: report." % (item.name, job.host, found, serving)
        )
    return problems


def _schema_path(name: str) -> str:
    return os.path.join(releases.STATE, name, "schema.json")


def applied_contracts(name: str) -> list[str]:
    """Return the contract migrations that the database of a service has, as far as this host recorded them."""
    return obstacles(_recorded_schema(name), ())


def _stored_schema(job: Job, item: Wanted) -> list[Migration]:
    """Return the migrations of the database as the last deployment that ran any recorded them.

    Of those that ran on other hosts, the contract migrations are known.
    """
    contracts = job.anywhere.get(item.name, {}).get("contracts", ())
    recorded = [migration for migration in _recorded_schema(item.name) if migration.name not in contracts]
    return [*recorded, *(Migration(name, applied=True, contract=True) for name in contracts)]


def _recorded_schema(name: str) -> list[Migration]:
    try:
        return [Migration(**entry) for entry in json.loads(read(_schema_path(name)) or "[]")]
    except (TypeError, ValueError):
        return []


def _refusal(job: Job, item: Wanted, todo: Plan, listing: Sequence[Migration]) -> str:
    """Return why this release must not use this database, or migrate it; empty if it may."""
    if not item.listing:
        return ""
    past = obstacles(_stored_schema(job, item), [migration.name for migration in listing if migration.known])
    if past:
        return (
            "the database has moved past release %s: %s removed or narrowed what it uses. The schema was not changed."
            "\n  What to do: deploy code that includes that migration." % (item.release, ", ".join(past))
        )
    pending = pending_contracts(listing) if todo.anywhere and not job.allow_contract else []
    if pending:
        return (
            "%s would remove or narrow what release %s still uses. The schema was not changed.\n"
            "  What to do: first deploy code that does not need it, and this migration later; or, if no running code "
            "needs it, deploy with -e allow_contract_migrations=true. You cannot roll back past it."
            % (", ".join(pending), todo.anywhere)
        )
    return ""


@dataclasses.dataclass
class _Ended:
    how: str
    lines: list[str]


def once_unit(name: str, what: str, slot: str) -> str:
    """Return the unit of a command that runs once. Names of services hold no underscore, so it is none of a slot."""
    return "fivepointers-%s_%s@%s.service" % (name, what, slot)


def _run_once(item: Wanted, slot: str, what: str, text: str) -> _Ended | None:
    """Run a command of a candidate as a unit, in its release and environment; return how it failed, if it did."""
    unit = once_unit(item.name, what, slot)
    path = os.path.join("/run/systemd/system", unit)
    begun = time.time()
    write_file(path, text, 0o644)
    try:
        systemd.systemctl("daemon-reload")
        status, output = systemd.run(["systemctl", "start", unit], 1000)
        if status:
            lines = systemd.journal(unit, begun, JOURNAL_LINES) or [output]
            return _Ended(systemd.states([unit])[unit].exit(), lines)
    finally:
        systemd.run(["systemctl", "reset-failed", unit])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return None


def _listing(item: Wanted, slot: str) -> list[Migration]:
    """Ask a candidate which migrations exist, and which are applied."""
    unit = once_unit(item.name, "listing", slot)
    begun = time.time()
    failed = _run_once(item, slot, "listing", item.listing)
    lines = failed.lines if failed else systemd.journal(unit, begun, 200)
    try:
        if failed:
            raise MigrationError("it failed%s" % (": " + failed.how if failed.how else ""))
        return parse_listing(lines)
    except MigrationError as error:
        raise ReleaseError(
            "%s, step migrate: the command `migrations` of release %s does not list them: %s\n"
            "  Its last log lines:\n%s\n  What to do: make it print the JSON that docs/catalogue.md describes, or "
            "remove `migrations` from the catalogue."
            % (item.name, item.release, error, "\n".join("    " + line for line in lines[-JOURNAL_LINES:]))
        ) from error


def _schema_now(item: Wanted, slot: str) -> str:
    """Describe the state of the schema after a failed migration, as far as it is known."""
    if not item.listing:
        return "The schema may be changed in part."
    try:
        missing = [migration.name for migration in _listing(item, slot) if not migration.applied]
    except (ReleaseError, systemd.SystemdError):
        return "The schema may be changed in part."
    return "The schema lacks: %s. All before are applied." % ", ".join(missing) if missing else "All are applied."


def _require_ready(job: Job, item: Wanted, todo: Plan) -> None:
    """Raise ReleaseError unless the candidate is prepared and answers."""
    if not todo.ready:
        raise ReleaseError(
            "%s on %s: release %s is not prepared in slot %s (or its process has exited). Run the phase prepare, "
            "or all." % (item.name, job.host, item.release, todo.slot)
        )
    problem = health_now(job, item, todo.slot)
    if problem:
        now = "Release %s is still serving." % todo.serving if todo.serving else "No release is serving yet."
        raise _no_longer_healthy(job, item, todo.slot, "before the switch", problem, now)


def require_steady(job: Job, names: Collection[str]) -> None:
    """Raise ReleaseError if one of these services has no port and is no longer healthy in the slot switched to.

    Whoever verifies a deployment from outside cannot see it.
    """
    for item in job.wanted:
        if item.name in names and item.stays and not item.port:
            slot = job.seen[item.name].pending["slot"]
            problem = slot_problem(item, slot)
            if problem:
                raise _no_longer_healthy(job, item, slot, "after the switch", problem, "The switch is not confirmed.")


def _no_longer_healthy(job: Job, item: Wanted, slot: str, when: str, problem: str, now: str) -> ReleaseError:
    return ReleaseError(
        "%s on %s, %s: release %s in slot %s is no longer healthy. %s\n  Asked: %s\n  Came: %s\n"
        "  What to do: check journalctl -u %s, and deploy again."
        % (
            item.name,
            job.host,
            when,
            item.release,
            slot,
            now,
            health_question(item, item.slots[slot]),
            problem,
            unit_name(item.name, slot),
        )
    )


def switch(job: Job) -> bool:
    """Send all new requests to the candidates. What they replace keeps running until the commit."""
    candidates = job.candidates()
    fronts = _new_fronts(job)
    timers = _stop_timers(job)
    if not candidates and not fronts:
        return timers
    adopted = []
    # A timer that was to stop the slot after its hold time would stop what is live.
    cancel_retirement([item.name for item, _todo in candidates if item.process])
    for item, todo in candidates:
        _require_ready(job, item, todo)
        check_front_port(item, job.seen[item.name], job.adopt)
        seen = job.seen[item.name]
        if seen.front is None and (adoption.underway(item.name) or foreign(item, seen)):
            adopted.append(item.name)
    if candidates:
        require_space(job)
    fronts = {name: text for name, text in fronts.items() if name not in adopted}
    if not job.rollback:
        apply_fronts(job, fronts)
    else:
        problem = restore_fronts(job, fronts)
        if problem:
            job.warnings.append(_unfinished(job, ", ".join(fronts), [problem]))
    for item, todo in candidates:
        if item.name in adopted:
            _adopt(job, item, todo)
        _switch(job, item, todo)
    return True


def _stop_timers(job: Job) -> bool:
    """Stop those timers before the switch; return whether there were any.

    Where another host may begin a run afterwards, one that is going on has to end first.
    """
    ending = timers_to_stop(job)
    ticked = [item for item in ending if job.seen[item.name].ticking]
    try:
        for item in ending:
            schedules.stop(item.name)
            if not item.here:
                require_ended(job, item, [*_slots(item), schedules.launcher(item.name)], "its host changes")
    except ERRORS:
        for item in ticked:
            schedules.resume(item.name)
        raise
    return bool(ending)


def timers_to_stop(job: Job) -> list[Wanted]:
    """Return the services whose timer this host will not have, or not with these times."""
    return [item for item in job.wanted if job.seen[item.name].timer not in ({}, timer_texts(item))]


def timers_to_resume(job: Job) -> list[Wanted]:
    """Return the services whose timer is stopped on this host."""
    seen = job.seen
    return [
        item
        for item in job.wanted
        if schedules.timer(item.name) in seen[item.name].timer and not seen[item.name].ticking
    ]


def _slots(item: Wanted) -> list[str]:
    return [unit_name(item.name, slot) for slot in releases.SLOTS]


def _adopt(job: Job, item: Wanted, todo: Plan) -> None:
    """Take the front's port over from its holder, or resume where an earlier run was killed."""
    held = list(foreign(item, job.seen[item.name]))
    record = adoption.capture(item.name, item.port, held) if held else adoption.recorded(item.name)
    begin_switch(item.name, item.release, todo.slot, {"release": "", "slot": ""}, job.author)
    make_live(item.name, todo.slot)
    adoption.write_record(item.name, record, adoption.STOPPING)
    try:
        # Everything slow comes before anything is stopped.
        apply_fronts(job, {item.name: item.front}, reload=False)
        outage = adoption.take_over(item.name, record, lambda: not health_problem(item, item.port))
    except ERRORS as error:
        _back(job, item, todo.slot, "", None)
        raise ReleaseError(
            "%s on %s, step switch: port %d could not be taken over from %s: %s. It was returned."
            % (item.name, job.host, item.port, record["was"], error)
        ) from error
    job.adopted[item.name] = {"was": record["was"], "outage_ms": outage, "given_back": False}


def _switch(job: Job, item: Wanted, todo: Plan) -> None:
    """Flip the flag, and flip it back if the front does not become healthy."""
    if item.stays:
        # Before the flag: the slot that the flag names must always start at boot.
        systemd.enable(unit_name(item.name, todo.slot))
    _bridge(item, todo)
    before = {"release": todo.serving, "slot": todo.live or ""}
    begin_switch(item.name, item.release, todo.slot, before, job.author)
    if item.process and alone(item, job.seen[item.name]):
        _switch_alone(job, item, todo)
    else:
        make_live(item.name, todo.slot)
    if not item.port:
        return
    deadline = time.monotonic() + FRONT_TIMEOUT
    problem = health_problem(item, item.port)
    while problem and time.monotonic() < deadline:
        time.sleep(0.1)
        problem = health_problem(item, item.port)
    if not problem:
        return
    undone = _back(job, item, todo.slot, todo.live or "", job.seen[item.name].front if todo.front else item.front)
    raise ReleaseError(
        "%s on %s, step switch: release %s was healthy in slot %s, but not through the front. %s\n  Asked: %s\n"
        "  Came: %s\n  What to do: check `nginx -T` and /var/log/nginx/error.log on the host; `systemctl status nginx` "
        "shows whether it is running.%s"
        % (
            item.name,
            job.host,
            item.release,
            todo.slot,
            "It was switched back, and release %s is serving." % todo.serving
            if todo.live
            else "%s is serving again." % job.adopted[item.name]["was"].capitalize()
            if item.name in job.adopted
            else "No release was serving before.",
            health_question(item, item.port),
            problem,
            "\n  " + undone if undone else "",
        )
    )


def _switch_alone(job: Job, item: Wanted, todo: Plan) -> None:
    """End the old process, start the new one and wait until it is healthy; or start the old one again."""
    hand_over(item, todo.slot)
    failures = wait_until_healthy([(item, todo.slot)])
    if failures:
        front = job.seen[item.name].front if todo.front else item.front
        undone = _back(job, item, todo.slot, todo.live or "", front)
        now = "Release %s was started again." % todo.serving if todo.live else "No release was live before."
        raise ReleaseError(failures[0].text(job.host, "", " ".join(filter(None, (now, undone)))))


def _bridge(item: Wanted, todo: Plan) -> None:
    """Make the live relay join its documents with the candidate's, before any client gets there.

    Only if its release was started with the hand-off module. A relay that is too slow is no reason to fail: clients
    bring their own state along.
    """
    unit = unit_name(item.name, todo.live or "")
    if not todo.live or not _asked(unit, HAND_OFF):
        return
    status = os.path.join(releases.data_path(item.name), ".hand-off-%s" % todo.live)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(status)
    _signal(unit)
    deadline = time.monotonic() + BRIDGE_TIMEOUT
    while not os.path.exists(status) and time.monotonic() < deadline:
        time.sleep(0.02)


def _back(job: Job, item: Wanted, slot: str, before: str, front: str | None) -> str:
    """Revert one switch: the flag first, then the front; the slot that loses its requests is drained and stopped.

    None of this needs disk space, but a front that differs. What fails once the old release has the requests is
    returned in words; the switch then stays recorded, so that the next run finishes it.
    """
    if before and item.process and alone(item, job.seen[item.name]):
        hand_over(item, before)
        release = job.seen[item.name].slots[before].release
        # If it does not become healthy, it is live all the same: nobody verified the other one.
        for failure in wait_until_healthy([(releases.load_wanted(item.name, release) if release else item, before)]):
            text = "%s on %s: release %s was started again, and is not healthy: %s"
            job.warnings.append(text % (item.name, job.host, release, failure.came))
    elif before:
        make_live(item.name, before)
    problem, undone = "", []
    record = adoption.prepare_return(item.name) if front is None else {}
    begun = time.monotonic()
    try:
        if (front or "") != (read(os.path.join(releases.NGINX, item.front_path)) or ""):
            apply_fronts(job, {item.name: front})
    except ERRORS as error:
        if not before:
            raise
        problem = explain(error)
    finally:
        if record:
            outage = adoption.give_back(item.name, record, lambda: _answers(item), begun)
            job.adopted[item.name] = {"was": record["was"], "outage_ms": outage, "given_back": True}
    if item.stays:
        try:
            if before:
                systemd.enable(unit_name(item.name, before))
            systemd.disable(unit_name(item.name, slot))
        except OSError as error:
            undone.append(explain(error))
        if before or record:
            time.sleep(item.drain)
        stop_quietly([unit_name(item.name, slot)])
    if problem:
        # What filled the disk is stopped by now.
        problem = restore_fronts(job, {item.name: front})
    undone += [problem] if problem else []
    if undone:
        return _unfinished(job, item.name, undone)
    end_switch(item.name)
    return ""


def restore_fronts(job: Job, fronts: Mapping[str, str | None]) -> str:
    """Apply fronts on a way back, if need be with the spare space; return what failed, if it did."""
    try:
        apply_fronts(job, fronts)
    except ERRORS as error:
        return restore_fronts(job, fronts) if use_spare() else explain(error)
    return ""


def _unfinished(job: Job, names: str, problems: Sequence[str]) -> str:
    return "%s on %s: the old release has the requests again, but this is not done: %s The next run does it." % (
        names,
        job.host,
        " ".join(problems),
    )


def _answers(item: Wanted) -> bool:
    """Whether anything answers at the port of a service: what ran before may have another health check."""
    with contextlib.suppress(http_client.ProbeError):
        if item.health["type"] == "tcp":
            http_client.open_port("127.0.0.1:%d" % item.port, item.health["timeout"])
        else:
            http_client.ask("http://127.0.0.1:%d%s" % (item.port, item.health["path"]), timeout=item.health["timeout"])
        return True
    return False


def give_back(job: Job) -> bool:
    """Return ports to their previous holders, and stop the slots."""
    adopted = [item for item in job.wanted if adoption.recorded(item.name)]
    for item in adopted:
        seen = job.seen[item.name]
        if item.process:
            cancel_retirement([item.name])
            systemd.disable(unit_name(item.name, other(seen.flag)))
            stop_quietly([unit_name(item.name, other(seen.flag))])
        adoption.end_live(item.name)
        _back(job, item, seen.flag, "", None)
    return bool(adopted)


def take_back(job: Job) -> bool:
    """Revert all uncommitted switches, the last one first, and stop candidates that were not switched to.

    All flags change before anything else: from then on the old releases are serving. Only one whose process has ended
    meanwhile is started first.
    """
    done = False
    open_switches = []
    ended = []
    for item in reversed(job.wanted):
        seen = job.seen[item.name]
        before = seen.pending.get("before") or {}
        if not seen.pending:
            continue
        # Only revert to a slot that still has the old release.
        # Of what runs alone, the new process ends before the old one starts.
        way = "" if item.process and alone(item, seen) else before.get("slot", "")
        if way and seen.slots[way].release == before.get("release") and seen.flag == seen.pending["slot"]:
            if item.stays and seen.slots[way].state.stopped:
                ended.append((item, way))
            else:
                make_live(item.name, way)
        open_switches.append((item, seen.pending["slot"], before))
    if ended:
        systemd.run(["systemctl", "start", *(unit_name(item.name, way) for item, way in ended)])
        # If it does not become healthy, it serves all the same: nobody verified the other one.
        wait_until_healthy(ended)
    for item, slot, before in open_switches:
        done = True
        front: str | None = None
        if before.get("release"):
            front = read(os.path.join(releases.release_path(item.name, before["release"]), "front.conf"))
        undone = _back(job, item, slot, before.get("slot", ""), front)
        job.warnings += [undone] if undone else []
    for item in timers_to_resume(job):
        schedules.resume(item.name)
        done = True
    for item in job.wanted:
        seen = job.seen[item.name]
        if seen.pending or not item.stays:
            continue
        slot = other(seen.live) if seen.live else "blue"
        state = seen.slots[slot].state
        if seen.held != slot and not state.stopped and state.load == "loaded":
            stop_quietly([unit_name(item.name, slot)])
            done = True
    return done


def commit(job: Job) -> bool:
    """Record what is live, enable it at boot, and stop what it replaced, after its drain or hold time."""
    mend_flags(job)
    for item in job.wanted:
        adoption.settle(item.name)
    todo = [(item, job.plans[item.name]) for item in job.wanted if job.plans[item.name].repairs]
    for item, step in todo:
        live = str(step.live)
        record_switch(item.name, item.release, live, item.commit)
        if timer_differs(item, job.seen[item.name]):
            _set_timer(item)
        if item.stays:
            systemd.enable(unit_name(item.name, live))
            systemd.disable(unit_name(item.name, other(live)))
    _retire(job, [(item, other(str(step.live))) for item, step in todo if item.stays])
    for item, _step in todo:
        seclude(item)
        prune(item)
    return bool(todo)


def _set_timer(item: Wanted) -> None:
    """Start the timer of a service, or remove it, as it is to be on this host."""
    if item.here:
        schedules.start(item.name, timer_texts(item))
    else:
        schedules.remove(item.name)


def _retire(job: Job, old: Sequence[tuple[Wanted, str]]) -> None:
    """Stop the replaced slots: held ones by a timer, the others after their drain."""
    now, ends, units = time.time(), [0.0], []
    for item, slot in old:
        seen = job.seen[item.name]
        unit = unit_name(item.name, slot)
        if seen.slots[slot].state.stopped or seen.held == slot:
            continue
        since = float(seen.pending.get("since") or 0)
        # A request may take longer than the old release is kept for a rollback.
        until = since + (max(item.hold, item.drain) if item.hold else 0)
        if until > now + 1:
            hold(item.name, slot, until)
            _retire_later(item.name, unit, until)
            continue
        if seen.slots[slot].state.running:
            ends.append(since + item.drain - now)
        units.append(unit)
    if units:
        time.sleep(max(ends))
        systemd.systemctl("stop", *units, timeout=systemd.STOP_TIMEOUT)


def retirement(name: str) -> str:
    """Return the name, without suffix, of the timer and service that stop a held slot."""
    return "fivepointers-%s-retire" % name


def _retire_later(name: str, unit: str, until: float) -> None:
    cancel_retirement([name])
    # A reboot removes the timer, and stops the slot as well: only the live one starts at boot.
    status, output = systemd.run(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            "--unit=" + retirement(name),
            "--description=Stop what a release replaced",
            # An absolute time: a relative one would start over with each daemon-reload.
            "--on-calendar=@%d" % until,
            "--timer-property=AccuracySec=1s",
            "systemctl",
            "stop",
            unit,
        ]
    )
    if status:
        raise ReleaseError("The timer that stops %s after its hold time was refused: %s" % (unit, output))


def cancel_retirement(names: Sequence[str]) -> None:
    """Cancel the timers of these services."""
    if names:
        units = [retirement(name) + suffix for name in names for suffix in (".timer", ".service")]
        systemd.run(["systemctl", "stop", *units])


def explain(error: BaseException) -> str:
    """Return the message for an error that a phase may raise."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full: %s. Unfinished files were removed. Free some space and run this again." % error
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return (
            "The file system is read-only: %s. Nothing on this host can be changed, and what is live stays live. The "
            "kernel's log says why (journalctl -k); repair the file system, mount it for writing, and run this again."
            % error
        )
    return str(error)


#: What the phases may raise and the module reports.
ERRORS = (ReleaseError, HostError, archives.ArchiveError, systemd.SystemdError, PlaceholderError, TreeError, OSError)
