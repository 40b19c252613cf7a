# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Releases of services on one host: two slots, one flag file, and no incomplete release that could become live.

`Wanted` is the desired state, `Seen` the actual one. `plan` is a pure function of both, and phases.py carries it out.
It may be killed at any point:

- a release is a directory that appears under its name only when it is complete;
- only the flag file decides which slot is live, and it changes in one system call, which needs no disk space;
- the next plan sees leftovers, reports them and removes them.

Standard library only, Python 3.9 or later: this runs on hosts, inside the module.
"""

from __future__ import annotations

import collections
import dataclasses
import grp
import json
import os
import pwd
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive as archives
from ansible_collections.fivepointers.platform.plugins.module_utils.common import records, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import (
    NUMBER,
    DamagedError,
    listed,
    read,
    read_checked,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.identifiers import is_release_id
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    Placeholder,
    parse,
    render,
    unparse,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.sockets import ESTABLISHED, tcp_sockets
from ansible_collections.fivepointers.platform.plugins.module_utils.release import leases, schedules

HOME = "/opt/fivepointers"
SETTINGS = "/etc/fivepointers"
STATE = leases.STATE
CACHE = "/var/cache"
DATA = "/var/lib"
RUN = "/run"
# What a process touches to say that it works.
HEALTH_FILE = "health"
NGINX = "/etc/nginx"
# As whom nginx reads files.
NGINX_USER = "www-data"
SLOTS = ("blue", "green")
PARTS = ("code", "environment", "unit", "front", "runtime")
# A timer may be late by this many seconds.
TIMER_SLACK = 30
# The handover of a service of which no two processes run at once.
ALONE = "stop-first"
# The handover of a service that a timer starts: its next run is one of the live release.
SCHEDULE = "schedule"


class ReleaseError(Exception):
    """A release that was refused, failed or could not be finished. The text is for the operator."""


# --- desired state ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Desired state of one service.

    archive: {sha256, size, unpacked, files}. parts: a digest for each of PARTS.
    port: that of its front; 0 for none. slots: port of each slot; empty for files, which have no process. unit,
    migration, listing, check, front: texts of files. hold: seconds for which the old slot keeps running after a switch.
    keep: {releases, bytes}.
    environment: templates with ${self.port} and ${secret.…}. files: further files of the release (name: text).
    shared: {directory below shared/: directory of the code} whose files outlive a release.
    writable: directories below the code that have to exist, because the unit mounts a writable one there.
    handover: what moves to the new slot at a switch: requests, or documents with their open sockets. Without a front it
    says whether the old process ends first (ALONE), overlaps the new one, or runs by a SCHEDULE.
    schedule: when it runs, as OnCalendar= of a timer. here: whether it does so on this host.
    fingerprint: the unit that describes the schemas of its databases, on the first of its hosts. schema_at_start: what
    is done about a candidate that changes them when it starts: refuse or report.
    commit: {id, time (seconds since 1970)} of the code, if it comes from git.
    native: the code in the archive that is for certain machines only: [{package, file, platform, libc}].
    of: the kept release that this one is, except for its secrets, which are newer.

    Releases that were staged by an earlier version lack the fields that have a default.
    """

    name: str
    kind: str
    release: str
    artifact: str
    parts: dict[str, str]
    archive: dict[str, Any]
    port: int
    slots: dict[str, int]
    health: dict[str, Any]
    user: str
    runtime: str
    unit: str
    migration: str
    listing: str
    migrate: bool
    front: str
    environment: dict[str, str]
    files: dict[str, str]
    shared: dict[str, str]
    drain: float
    hold: float
    keep: dict[str, int]
    writable: list[str] = dataclasses.field(default_factory=list)
    handover: str = "requests"
    check: str = ""
    fingerprint: str = ""
    schema_at_start: str = "refuse"
    schedule: str = ""
    here: bool = False
    commit: dict[str, Any] = dataclasses.field(default_factory=dict)
    of: str = ""
    native: list[dict[str, str]] = dataclasses.field(default_factory=list)

    @property
    def process(self) -> bool:
        """Whether a process runs in its slots."""
        return bool(self.slots)

    @property
    def scheduled(self) -> bool:
        """Whether a timer starts its process, which ends by itself."""
        return self.handover == SCHEDULE

    @property
    def stays(self) -> bool:
        """Whether its process is to run all the time while it is live."""
        return self.process and not self.scheduled

    @property
    def front_path(self) -> str:
        """Path of its front, relative to NGINX."""
        return "fivepointers/front-%s.conf" % self.name


def parse_wanted(requests: Sequence[Mapping[str, Any]]) -> list[Wanted]:
    """Return the services of a request of the action."""
    return [Wanted(**request) for request in requests]


#: Fields that a release keeps as files next to its release.json, and fields that it does not keep.
TEXTS = {
    "unit": "unit",
    "migration": "migration",
    "listing": "listing",
    "check": "check",
    "fingerprint": "fingerprint",
    "front": "front.conf",
}
PASSING = ("migrate", "environment", "files", "here", "native")


def record_of(wanted: Wanted) -> dict[str, Any]:
    """Return what is needed to run a release again, without its texts. Contains no secret."""
    record = dataclasses.asdict(wanted)
    for key in (*TEXTS, *PASSING):
        del record[key]
    return record


SWITCH = {"release": str, "slot": str, "since": (str, *NUMBER), "deployment": str, "by": str, "number": int}
COMMIT = {"id": str, "time": int}
STATE_SHAPE = {
    "live": {**SWITCH, "commit": COMMIT},
    "pending": {**SWITCH, "before": {"release": str, "slot": str}},
    "held": {"slot": str, "until": NUMBER, "since": NUMBER},
    "unconfirmed": {"release": str, "deployment": str, "by": str},
    "retired": {"release": str, "since": str, "deployment": str, "by": str, "timer": str},
    "line": [str],
    "history": [SWITCH],
}


RELEASE_SHAPE = {
    "artifact": str,
    "staged": NUMBER,
    "parts": dict.fromkeys(PARTS, str),
    "wanted": {"archive": {"unpacked": int}, "commit": COMMIT, "of": str, "port": int, "handover": str},
}


def had_timer(name: str) -> bool:
    """Whether a service that was retired on this host ran by a schedule here. Raises ReleaseError."""
    return bool((read_state(name).get("retired") or {}).get("timer"))


def read_state(name: str) -> dict[str, Any]:
    """Return the content of a service's state.json; empty if there is none. Raises ReleaseError."""
    path = state_path(name)
    try:
        state = records.read(path, STATE_SHAPE)
        entries = [(place, state[place]) for place in ("live", "pending") if state.get(place)]
        entries += [("pending.before", entry.get("before", {})) for place, entry in entries if place == "pending"]
        entries += [("history", entry) for entry in state.get("history", [])]
        for place, entry in entries:
            lacking = [key for key in ("release", "slot") if key not in entry]
            if lacking:
                raise DamagedError("%s is damaged: %s lacks %s." % (path, place, " and ".join(lacking)))
        return state
    except DamagedError as error:
        raise ReleaseError(
            "%s: %s Nothing was changed. Move the file away on this host: sudo mv %s %s.damaged. The next deployment "
            "records again what is live; releases from before can then be chosen with -e to= only."
            % (name, error, path, path)
        ) from error


def write_state(name: str, state: Mapping[str, Any]) -> None:
    """Write a service's state.json."""
    records.write(state_path(name), state)


def read_release(name: str, release: str) -> dict[str, Any]:
    """Return what is recorded of a release that the host keeps; empty if it keeps none. Raises ReleaseError."""
    directory = release_path(name, release)
    try:
        return read_checked(os.path.join(directory, "release.json"), RELEASE_SHAPE)
    except DamagedError as error:
        raise ReleaseError(
            "%s: %s Nothing was changed. If release %s is not live, remove it on this host: sudo rm -r %s"
            % (name, error, release, directory)
        ) from error


def load_wanted(name: str, release: str) -> Wanted:
    """Return a release as it was staged: the only source of a rollback.

    Raises ReleaseError if the host does not keep it.
    """
    directory = release_path(name, release)
    # It comes from the controller, which has it from a person or from hosts' journals.
    record = read_release(name, release).get("wanted") if is_release_id(release) else None
    if not record:
        kept = ", ".join(item for item in listed(release_path(name)) if not item.startswith(archives.TEMPORARY))
        raise ReleaseError(
            "%s: there is no release '%s' on this host. It keeps: %s. The playbook releases.yml lists them."
            % (name, release, kept or "none")
        )
    known = {field.name for field in dataclasses.fields(Wanted)}
    fields: dict[str, Any] = {key: value for key, value in record.items() if key in known}
    fields.update({key: read(os.path.join(directory, file)) or "" for key, file in TEXTS.items()})
    try:
        return Wanted(**fields, migrate=False, environment={}, files={})
    except TypeError as error:
        raise ReleaseError(
            "%s: %s/release.json is damaged: %s. Choose another release." % (name, directory, error)
        ) from error


def fill_secrets(environment: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Fill secrets into templates of environment variables; ${self.port} stays.

    Raises PlaceholderError for a secret that is not among `secrets`; the message holds no value.
    """
    filled = {}
    for name, template in environment.items():
        parts: list[Any] = []
        for part in parse(template):
            if isinstance(part, Placeholder) and part.name.startswith("secret."):
                part = render(str(part), "", secrets)[0]
            parts.append(part)
        filled[name] = unparse(parts)
    return filled


# --- paths --------------------------------------------------------------------


def unit_name(name: str, slot: str) -> str:
    """Return the unit of a slot."""
    return "fivepointers-%s@%s.service" % (name, slot)


def release_path(name: str, release: str = "") -> str:
    """Return the directory of a release, or of all."""
    return os.path.join(HOME, name, "releases", release).rstrip("/")


def slot_path(name: str, slot: str) -> str:
    """Return the link from a slot to its release."""
    return os.path.join(HOME, name, "slots", slot)


def flag_path(name: str, slot: str = "green") -> str:
    """Return the flag file by the name that it has if a slot is live. nginx looks for green's."""
    return os.path.join(STATE, "%s.%s" % (name, slot))


def flagged(name: str) -> str:
    """Return the slot that the flag file names, and nginx follows; empty if there is none: nginx then takes blue."""
    return next((slot for slot in ("green", "blue") if os.path.exists(flag_path(name, slot))), "")


def state_path(name: str) -> str:
    """Return the file that records what is live, since when, and what was live before."""
    return os.path.join(STATE, name, "state.json")


def environment_path(name: str, slot: str) -> str:
    """Return the environment file of a slot."""
    return os.path.join(SETTINGS, name, slot + ".env")


def data_path(name: str) -> str:
    """Return the directory of a service whose files outlive its releases."""
    return os.path.join(DATA, "fivepointers-" + name)


def health_path(name: str, slot: str) -> str:
    """Return the file that the process in a slot touches to say that it works."""
    return os.path.join(RUN, "fivepointers-%s-%s" % (name, slot), HEALTH_FILE)


def other(slot: str) -> str:
    """Return the other slot."""
    return "green" if slot == "blue" else "blue"


# --- actual state ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Slot:
    """A slot as found. faithful: its unit and environment file are those of its release."""

    release: str = ""
    faithful: bool = False
    enabled: bool = False
    state: systemd.UnitState = systemd.UNKNOWN


@dataclasses.dataclass(frozen=True)
class Seen:
    """A service as found on the host. live: the slot that receives requests, None before the first switch.

    flag: the slot that the flag names, or should. lost: there is no flag, so that nginx takes blue.
    releases: the complete ones, by id, from their release.json. recorded: release and slot in state.json.
    pending: a switch that is not committed, {release, slot, before: {release, slot}, deployment, number, since}.
    commit: {id, time} of the code that is live, if it is known.
    unconfirmed: a switch that this host took back by itself, {release, deployment, by}.
    exposed: other users of the host can read its folders.
    timer: texts of the units by which it is started, by name. ticking: whether its timer is started, also at boot.
    held: the slot that keeps running for a while, so that a rollback needs no start. sockets: open connections to the
    live slot, of a service that hands over documents.
    """

    account: bool = False
    runtime: bool = False
    releases: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    slots: dict[str, Slot] = dataclasses.field(default_factory=lambda: {slot: Slot() for slot in SLOTS})
    flag: str = "blue"
    lost: bool = False
    live: str | None = None
    front: str | None = None
    recorded: tuple[str, str] = ("", "")
    pending: dict[str, Any] = dataclasses.field(default_factory=dict)
    commit: dict[str, Any] = dataclasses.field(default_factory=dict)
    unconfirmed: dict[str, Any] = dataclasses.field(default_factory=dict)
    held: str = ""
    sockets: int = 0
    exposed: bool = False
    timer: dict[str, str] = dataclasses.field(default_factory=dict)
    ticking: bool = False


def observe(wanted: Sequence[Wanted]) -> dict[str, Seen]:
    """Return the actual state of these services. Only reads."""
    units = [unit_name(item.name, slot) for item in wanted if item.process for slot in SLOTS]
    units += [schedules.timer(item.name) for item in wanted if item.scheduled]
    states = systemd.states(units)
    version = systemd.version() if units else 0
    found = {item.name: _observe(item, states, version) for item in wanted}
    if any(item.handover == "documents" for item in wanted):
        ports = collections.Counter(int(item[0].partition(":")[2], 16) for item in tcp_sockets(ESTABLISHED))
        for item in wanted:
            live = found[item.name].live
            if item.handover == "documents" and live:
                found[item.name] = dataclasses.replace(found[item.name], sockets=ports[item.slots[live]])
    return found


def _observe(wanted: Wanted, states: Mapping[str, systemd.UnitState], version: int) -> Seen:
    name = wanted.name
    releases = {
        release: read_release(name, release)
        for release in listed(release_path(name))
        if not release.startswith(archives.TEMPORARY)
    }
    slots = {slot: _observe_slot(wanted, slot, releases, states, version) for slot in SLOTS}
    front = read(os.path.join(NGINX, wanted.front_path))
    state = read_state(name)
    recorded, held = state.get("live") or {}, state.get("held") or {}
    found = flagged(name)
    flag = found or _flag_before(wanted, state, slots)
    # A front makes it live or, if it has none, a switch.
    switched = front is not None
    if not switched and releases.get(slots[flag].release, {}).get("wanted", {}).get("port") == 0:
        switched = bool(state.get("live") or state.get("pending"))
    try:
        account = bool(pwd.getpwnam(wanted.user))
    except KeyError:
        account = False
    timer = schedules.timer(name)
    return Seen(
        timer=schedules.found(name),
        ticking=timer in states and states[timer].running and systemd.is_enabled(timer),
        account=account,
        runtime=os.access(os.path.join(wanted.runtime, "bin", "node"), os.X_OK),
        releases=releases,
        slots=slots,
        flag=flag,
        lost=not found,
        exposed=bool(exposed(wanted)),
        live=flag if switched and slots[flag].release else None,
        front=front,
        recorded=(recorded.get("release", ""), recorded.get("slot", "")),
        pending=state.get("pending") or {},
        commit=recorded.get("commit") or {},
        unconfirmed=state.get("unconfirmed") or {},
        held=held.get("slot", "") if is_held(held, time.time()) else "",
    )


def is_held(held: Mapping[str, Any], now: float) -> bool:
    """Return whether a slot is still to run. A clock that was put back ends it: nobody knows how long it has run."""
    return float(held.get("since", 0)) - TIMER_SLACK < now < float(held.get("until", 0)) + TIMER_SLACK


def exposed(wanted: Wanted) -> list[tuple[str, int]]:
    """Return the folders of a service that other users can read, with the group that may."""
    name, user = wanted.name, wanted.user if wanted.process else NGINX_USER
    folders = [(release_path(name, item), user) for item in listed(release_path(name))]
    folders += [(os.path.join(HOME, name, "shared"), NGINX_USER), (os.path.join(SETTINGS, name), "root")]
    found = [(path, group_id(group)) for path, group in folders if os.path.isdir(path)]
    return [(path, group) for path, group in found if group is not None and os.stat(path).st_mode & 0o007]


def group_id(name: str) -> int | None:
    """Return the number of a group; None if there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _flag_before(wanted: Wanted, state: Mapping[str, Any], slots: Mapping[str, Slot]) -> str:
    """Return the slot that a flag named before it was lost.

    Hosts of earlier versions had none while blue was live, also within a switch to blue. Otherwise the state knows.
    """
    live = state.get("live") or {}
    there = slots["green"]
    right = live.get("slot") == "green" and there.release == live.get("release") and not state.get("pending")
    return "green" if right and (not wanted.stays or there.state.running) else "blue"


def _observe_slot(
    wanted: Wanted, slot: str, releases: Mapping[str, Any], states: Mapping[str, systemd.UnitState], version: int
) -> Slot:
    try:
        release = os.path.basename(os.readlink(slot_path(wanted.name, slot)))
    except OSError:
        release = ""
    if release not in releases:
        release = ""
    if not wanted.process:
        return Slot(release, bool(release))
    unit = unit_name(wanted.name, slot)
    try:
        texts = slot_texts(wanted.name, release, wanted.slots[slot], version) if release else None
    except (OSError, ValueError):
        texts = None
    path = environment_path(wanted.name, slot)
    faithful = (
        texts is not None
        and (read(os.path.join(systemd.UNITS, unit)), read(path)) == texts
        and os.stat(path).st_mode & 0o777 == 0o600
    )
    return Slot(release, faithful, systemd.is_enabled(unit), states.get(unit, systemd.UnitState(unit)))


def slot_texts(name: str, release: str, port: int, version: int) -> tuple[str, str]:
    """Return the unit and the environment file of a release at a port."""
    directory = release_path(name, release)
    with open(os.path.join(directory, "unit"), encoding="utf-8") as handle:
        unit = systemd.for_version(handle.read(), version)
    with open(os.path.join(directory, "environment"), encoding="utf-8") as handle:
        templates = json.load(handle)
    variables = {key: render(template, port, {})[0] for key, template in templates.items()}
    return unit, systemd.environment_file(variables)


# --- the plan (pure) ----------------------------------------------------------


def early(wanted: Wanted, seen: Seen) -> bool:
    """Whether the process of a candidate runs before the switch."""
    return wanted.stays and not alone(wanted, seen)


def alone(wanted: Wanted, seen: Seen) -> bool:
    """Whether no two processes of a service may run at once: the release that is wanted says so, or the live one."""
    others = (seen.slots[seen.flag].release, str((seen.pending.get("before") or {}).get("release")))
    records = [seen.releases.get(release, {}).get("wanted", {}) for release in others]
    return ALONE in (wanted.handover, *(record.get("handover") for record in records))


def timer_texts(wanted: Wanted) -> dict[str, str]:
    """Return the units by which a service is to be started on this host; none where no timer does that."""
    return schedules.texts(wanted.name, wanted.schedule, flag_path(wanted.name)) if wanted.here else {}


def timer_differs(wanted: Wanted, seen: Seen) -> bool:
    """Whether its timer has to be written, started or removed."""
    return seen.timer != timer_texts(wanted) or seen.ticking != wanted.here


def front_differs(wanted: Wanted, seen: Seen) -> bool:
    """Whether its front has to be written, or removed."""
    return (seen.front or "") != wanted.front


@dataclasses.dataclass(frozen=True)
class Plan:
    """What has to be done for one service.

    live, serving: the slot and the release that receive requests now. slot: the candidate's.
    anywhere: the release that serves here or, if none does, on another host.
    candidate: the release has to become live. ready: it is prepared, only the switch is missing.
    stage: empty, "archive", or the id of a release on the host that has the same code.
    migrate: its migrations have to run, on this host. front: the front has to be written.
    older: why its code is older than what is live; empty if it is not, or if that is unknown.
    repairs: drift to fix although the right release is live. steps: everything that has to be done, in words.
    """

    name: str
    release: str
    live: str | None
    serving: str
    anywhere: str
    slot: str
    candidate: bool
    ready: bool
    stage: str
    migrate: bool
    front: bool
    older: str
    reasons: tuple[str, ...]
    repairs: tuple[str, ...]
    steps: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything has to be done."""
        return self.candidate or bool(self.repairs)

    @property
    def migrates_first(self) -> bool:
        """Whether its migrations run before it is started.

        Nothing serves that could miss what they change, and a first release may need them to become healthy.
        """
        return self.migrate and not self.anywhere

    def report(self) -> dict[str, Any]:
        """Return the plan for Ansible's result."""
        return {
            "release": self.release,
            "serving": self.serving,
            "live": self.live,
            "slot": self.slot,
            "changed": self.changed,
            "ready": self.ready,
            "older": self.older,
            "reasons": [*self.reasons, *self.repairs],
            "steps": list(self.steps),
        }


def plan(wanted: Wanted, seen: Seen, elsewhere: str = "") -> Plan:
    """Return what has to be done to make the desired release live. elsewhere: what serves on another host."""
    live = seen.live
    now = seen.slots[live] if live else Slot()
    reasons = _reasons(wanted, seen, now)
    slot = (other(live) if live else "blue") if reasons else (live or "blue")
    there = seen.slots[slot]
    ready = (
        bool(reasons)
        and there.release == wanted.release
        and (not wanted.process or (there.faithful and (there.state.running or not early(wanted, seen))))
    )
    stage = ""
    if reasons and wanted.release not in seen.releases:
        code = wanted.parts["code"]
        same = (key for key, record in seen.releases.items() if record.get("parts", {}).get("code") == code)
        stage = next(same, "archive")
    repairs = _repairs(wanted, seen, live) if live and not reasons else []
    front = front_differs(wanted, seen)
    migrate = bool(reasons) and wanted.migrate and now.release != wanted.release
    anywhere = now.release or elsewhere
    return Plan(
        name=wanted.name,
        release=wanted.release,
        live=live,
        serving=now.release,
        anywhere=anywhere,
        slot=slot,
        candidate=bool(reasons),
        ready=ready,
        stage=stage,
        migrate=migrate,
        front=front,
        older=_older(wanted, seen.releases.get(now.release, {}), seen) if reasons else "",
        reasons=tuple(reasons),
        repairs=tuple(repairs),
        steps=tuple(_steps(wanted, seen, now, slot, stage, ready, migrate, anywhere, front) if reasons else repairs),
    )


def _older(wanted: Wanted, record: Mapping[str, Any], seen: Seen) -> str:
    """Why the code is older than what is live; empty if it is the same or newer, or if that is unknown.

    What is live may have been deployed again with a later commit than the one that its release was made with.
    """
    new, old = wanted.commit, seen.commit or record.get("wanted", {}).get("commit") or {}
    if wanted.parts.get("code") == record.get("parts", {}).get("code") or not {"id", "time"} <= set(old):
        return ""
    live = "commit %.12s (%s), which is live" % (old["id"], clock(old["time"]))
    if not {"id", "time"} <= set(new):
        return "%s: its code names no commit, so it may be older than %s" % (wanted.name, live)
    if new["time"] >= old["time"]:
        return ""
    return "%s: its code is of commit %.12s (%s), which is older than %s" % (
        wanted.name,
        new["id"],
        clock(new["time"]),
        live,
    )


def clock(seconds: float) -> str:
    """Return a time as text."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _reasons(wanted: Wanted, seen: Seen, now: Slot) -> list[str]:
    """Why the desired release has to be started and switched to; empty if it is live and running."""
    reasons = _differences(wanted, seen, now)
    if reasons and seen.unconfirmed:
        reasons.append(
            "this host took release %s back by itself: the deployment %s, by %s, ended before it confirmed"
            % tuple(seen.unconfirmed.get(key, "?") for key in ("release", "deployment", "by"))
        )
    return reasons


def _differences(wanted: Wanted, seen: Seen, now: Slot) -> list[str]:
    if seen.live is None:
        return ["it is not deployed on this host yet"]
    if now.release != wanted.release:
        before = seen.releases[now.release].get("parts", {})
        differ = [
            "%s differs (%s, was %s)" % (part, wanted.parts.get(part), before.get(part))
            for part in PARTS
            if before.get(part) != wanted.parts.get(part)
        ]
        return ["its %s" % text for text in differ] or ["release %s is live" % now.release]
    if not wanted.process:
        return []
    reasons = []
    if not now.faithful:
        reasons.append("its unit or environment file was changed manually")
    if not wanted.stays:
        return reasons
    if now.state.stopped or now.state.load != "loaded":
        reasons.append("its process is not running (%s)" % now.state.active)
    return reasons


def _repairs(wanted: Wanted, seen: Seen, live: str) -> list[str]:
    """Drift to fix although the right release is live."""
    repairs = []
    if seen.lost and live == "green":
        repairs.append("restore its flag file, which was lost: requests go to slot blue")
    elif seen.lost:
        repairs.append("create its flag file, so that a switch needs no disk space")
    if seen.exposed:
        repairs.append("let no other user of the host read its folders")
    if front_differs(wanted, seen):
        repairs.append("restore its front, which was changed manually")
    if seen.pending:
        repairs.append("commit its switch, which was left uncommitted")
    elif seen.recorded != (wanted.release, live):
        repairs.append("record that it is live, which an interrupted run did not do")
    if timer_differs(wanted, seen):
        repairs.append(_timer_step(wanted, seen))
    if wanted.stays:
        idle = seen.slots[other(live)]
        if not seen.slots[live].enabled:
            repairs.append("enable slot %s at boot" % live)
        if idle.enabled or not (idle.state.stopped or seen.held == other(live)):
            repairs.append("stop slot %s, which an interrupted run left running" % other(live))
    return repairs


def _timer_step(wanted: Wanted, seen: Seen) -> str:
    if wanted.here:
        return "start its timer (%s)" % wanted.schedule
    return "remove its timer" + (": it runs on another host" if wanted.scheduled else "")


def _steps(
    wanted: Wanted,
    seen: Seen,
    now: Slot,
    slot: str,
    stage: str,
    ready: bool,
    migrate: bool,
    anywhere: str,
    front: bool,
) -> list[str]:
    """What has to be done to make the candidate live, in words."""
    steps = []
    if wanted.process and not seen.account:
        steps.append("create the user %s" % wanted.user)
    if stage == "archive":
        size = (wanted.archive["size"], wanted.archive["unpacked"])
        steps.append("send and unpack release %s (%s, %s unpacked)" % (wanted.release, *map(megabytes, size)))
    elif stage:
        steps.append("create release %s from the code of release %s" % (wanted.release, stage))
    one = wanted.stays and alone(wanted, seen)
    start = "start %s%s and wait until it is healthy" % (
        unit_name(wanted.name, slot),
        " at 127.0.0.1:%d" % wanted.slots[slot] if wanted.process and wanted.port else "",
    )
    migrations = ["run its migrations"] if migrate else []
    if not anywhere:
        steps += migrations
    if not ready and not one:
        if wanted.stays:
            steps.append(start)
        else:
            steps.append("put release %s into slot %s" % (wanted.release, slot))
    if anywhere:
        steps += migrations
    if front:
        what = "write its front at port %d" % wanted.port if wanted.port else "remove its front"
        steps.append(what + " and reload nginx")
    stop = unit_name(wanted.name, other(slot))
    if one and now.release:
        steps.append("stop %s and wait until it has ended" % stop)
    before = "slot %s (release %s)" % (seen.live, now.release) if now.release else "nothing"
    steps.append("switch %s from %s to slot %s (release %s)" % (wanted.name, before, slot, wanted.release))
    if seen.sockets:
        steps.append("move its %d open sockets, document by document" % seen.sockets)
    if timer_differs(wanted, seen):
        steps.append(_timer_step(wanted, seen))
    if one:
        steps.append(start)
    elif wanted.stays and now.release:
        steps.append("stop %s after %g s" % (stop, max(wanted.drain, wanted.hold)))
    return steps


def megabytes(size: float) -> str:
    """Return a size in bytes as text."""
    return "%.1f MB" % (size / 1e6)
