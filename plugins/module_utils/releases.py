# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Releases of services on one host: two slots, one flag file, and no half-made release that could become live.

What is to be comes as `Wanted`, what is as `Seen`; `plan` is a pure function of both. `prepare`, `migrate`
and `switch` carry a plan out. Each may be killed at any point and called again:

- a release is a directory that appears under its name only when it is complete;
- the flag file alone says which slot is live, and changes in one system call;
- what is left over is seen by the next plan, which names and undoes it.

Standard library only, Python 3.9 or later: this runs on hosts, inside the module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pwd
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils import archive as archives
from ansible_collections.fivepointers.platform.plugins.module_utils import probing, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.config_tree import TreeError, apply_tree
from ansible_collections.fivepointers.platform.plugins.module_utils.placeholders import (
    Placeholder,
    PlaceholderError,
    parse,
    render,
    unparse,
)

HOME = "/opt/fivepointers"
SETTINGS = "/etc/fivepointers"
STATE = "/var/lib/fivepointers"
CACHE = "/var/cache"
NGINX = "/etc/nginx"
SLOTS = ("blue", "green")
PARTS = ("code", "environment", "unit", "front", "runtime")
KEEP = 5
HISTORY = 20
# A candidate that ended so often will not get well by itself.
CRASHES = 5
JOURNAL_LINES = 20
RESERVE = 64 << 20
LOCK_TIMEOUT = 60
FRONT_TIMEOUT = 5.0


class ReleaseError(Exception):
    """A release that was refused, failed or could not be finished. The text is for the operator."""


# --- what is to be ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One service as the controller wants it.

    archive: {sha256, size, unpacked, files}. parts: a digest for each of PARTS.
    slots: port of each slot; empty for files, which have no process. unit, migration, front: texts of files.
    environment: templates with ${self.port} and ${secret.…}. files: further files of the release (name: text).
    shared: {source: directory of the code, target: directory below shared/} whose files outlive a release.
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
    migrate: bool
    front: str
    environment: dict[str, str]
    files: dict[str, str]
    shared: dict[str, str]
    drain: float

    @property
    def process(self) -> bool:
        """Whether a process runs in its slots."""
        return bool(self.slots)

    @property
    def front_path(self) -> str:
        """Path of its front, relative to NGINX."""
        return "fivepointers/front-%s.conf" % self.name


def parse_wanted(requests: Sequence[Mapping[str, Any]]) -> list[Wanted]:
    """Return the services of a request of the action."""
    return [Wanted(**request) for request in requests]


def fill_secrets(environment: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Put the secrets into templates of environment variables; ${self.port} stays.

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
    """Return the unit of a service's slot."""
    return "fivepointers-%s@%s.service" % (name, slot)


def release_path(name: str, release: str = "") -> str:
    """Return the directory of a release, or of all."""
    return os.path.join(HOME, name, "releases", release).rstrip("/")


def slot_path(name: str, slot: str) -> str:
    """Return the link that says which release a slot has."""
    return os.path.join(HOME, name, "slots", slot)


def flag_path(name: str) -> str:
    """Return the flag file: where it exists, green is live."""
    return os.path.join(STATE, name + ".green")


def environment_path(name: str, slot: str) -> str:
    """Return the environment file of a slot."""
    return os.path.join(SETTINGS, name, slot + ".env")


def other(slot: str) -> str:
    """Return the slot that this is not."""
    return "green" if slot == "blue" else "blue"


# --- what is ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Slot:
    """A slot as found. faithful: unit and environment file are those of its release."""

    release: str = ""
    faithful: bool = False
    enabled: bool = False
    state: systemd.UnitState = systemd.UNKNOWN


@dataclasses.dataclass(frozen=True)
class Seen:
    """A service as found on the host. live: the slot that gets requests, None before the first switch.

    releases: the complete ones, by id, as their release.json says.
    """

    account: bool = False
    runtime: bool = False
    releases: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    slots: dict[str, Slot] = dataclasses.field(default_factory=lambda: {slot: Slot() for slot in SLOTS})
    flag: str = "blue"
    live: str | None = None
    front: str | None = None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read_json(path: str) -> dict[str, Any]:
    """Return what a file says; empty where it is missing or no JSON."""
    try:
        found = json.loads(_read(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def observe(wanted: Sequence[Wanted]) -> dict[str, Seen]:
    """Return what there is of these services. Reads only."""
    units = [unit_name(item.name, slot) for item in wanted if item.process for slot in SLOTS]
    states = systemd.states(units)
    version = systemd.version() if units else 0
    return {item.name: _observe(item, states, version) for item in wanted}


def _observe(wanted: Wanted, states: Mapping[str, systemd.UnitState], version: int) -> Seen:
    name = wanted.name
    releases = {
        release: _read_json(os.path.join(release_path(name, release), "release.json"))
        for release in _names(release_path(name))
        if not release.startswith(archives.TEMPORARY)
    }
    slots = {slot: _observe_slot(wanted, slot, releases, states, version) for slot in SLOTS}
    flag = "green" if os.path.exists(flag_path(name)) else "blue"
    front = _read(os.path.join(NGINX, wanted.front_path))
    try:
        account = bool(pwd.getpwnam(wanted.user))
    except KeyError:
        account = False
    return Seen(
        account=account,
        runtime=os.access(os.path.join(wanted.runtime, "bin", "node"), os.X_OK),
        releases=releases,
        slots=slots,
        flag=flag,
        live=flag if front is not None and slots[flag].release else None,
        front=front,
    )


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
        and (_read(os.path.join(systemd.UNITS, unit)), _read(path)) == texts
        and os.stat(path).st_mode & 0o777 == 0o600
    )
    return Slot(release, faithful, systemd.is_enabled(unit), states.get(unit, systemd.UnitState(unit)))


def slot_texts(name: str, release: str, port: int, version: int) -> tuple[str, str]:
    """Return the unit and the environment file with which a release runs at a port."""
    directory = release_path(name, release)
    with open(os.path.join(directory, "unit"), encoding="utf-8") as handle:
        unit = systemd.for_version(handle.read(), version)
    with open(os.path.join(directory, "environment"), encoding="utf-8") as handle:
        templates = json.load(handle)
    variables = {key: render(template, port, {})[0] for key, template in templates.items()}
    return unit, systemd.environment_file(variables)


# --- the plan (pure) ----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Plan:
    """What has to be done for one service.

    live, serving: the slot and the release that get requests now. slot: where the candidate runs, or has to.
    candidate: the release has to become live. ready: it is prepared, only the switch is missing.
    stage: nothing, "archive", or the id of a release on the host that has the same code.
    migrate: its migrations have to run, on this host. front: the front has to be written.
    repairs: what is wrong although the right release is live. steps: all that has to be done, in words.
    """

    name: str
    release: str
    live: str | None
    serving: str
    slot: str
    candidate: bool
    ready: bool
    stage: str
    migrate: bool
    front: bool
    reasons: tuple[str, ...]
    repairs: tuple[str, ...]
    steps: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything has to be done."""
        return self.candidate or bool(self.repairs)

    def report(self) -> dict[str, Any]:
        """Return the plan for Ansible's result."""
        return {
            "release": self.release,
            "serving": self.serving,
            "live": self.live,
            "slot": self.slot,
            "changed": self.changed,
            "ready": self.ready,
            "reasons": [*self.reasons, *self.repairs],
            "steps": list(self.steps),
        }


def plan(wanted: Wanted, seen: Seen) -> Plan:
    """Return what has to be done so that the wanted release is live."""
    live = seen.live
    now = seen.slots[live] if live else Slot()
    reasons = _reasons(wanted, seen, now)
    slot = (other(live) if live else "blue") if reasons else (live or "blue")
    there = seen.slots[slot]
    ready = (
        bool(reasons)
        and there.release == wanted.release
        and (not wanted.process or (there.faithful and there.state.running))
    )
    stage = ""
    if reasons and wanted.release not in seen.releases:
        same = (key for key, record in seen.releases.items() if record.get("artifact") == wanted.artifact)
        stage = next(same, "archive")
    repairs = _repairs(wanted, seen, live) if live and not reasons else []
    front = seen.front != wanted.front
    migrate = bool(reasons) and wanted.migrate and now.release != wanted.release
    return Plan(
        name=wanted.name,
        release=wanted.release,
        live=live,
        serving=now.release,
        slot=slot,
        candidate=bool(reasons),
        ready=ready,
        stage=stage,
        migrate=migrate,
        front=front,
        reasons=tuple(reasons),
        repairs=tuple(repairs),
        steps=tuple(_steps(wanted, seen, now, slot, stage, ready, migrate, front) if reasons else repairs),
    )


def _reasons(wanted: Wanted, seen: Seen, now: Slot) -> list[str]:
    """Why the wanted release has to be started and switched to; empty when it is live and well."""
    if seen.live is None:
        return ["it is not on this host yet"]
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
        reasons.append("its unit or environment file was changed by hand")
    if now.state.stopped or now.state.load != "loaded":
        reasons.append("its process does not run (%s)" % now.state.active)
    return reasons


def _repairs(wanted: Wanted, seen: Seen, live: str) -> list[str]:
    """What is wrong although the right release is live."""
    repairs = []
    if seen.front != wanted.front:
        repairs.append("put back its front, which was changed by hand")
    if wanted.process:
        idle = seen.slots[other(live)]
        if not seen.slots[live].enabled:
            repairs.append("let slot %s start with the host" % live)
        if not idle.state.stopped or idle.enabled:
            repairs.append("stop slot %s, which a broken-off run left over" % other(live))
    return repairs


def _steps(
    wanted: Wanted, seen: Seen, now: Slot, slot: str, stage: str, ready: bool, migrate: bool, front: bool
) -> list[str]:
    """What has to be done to bring the candidate in, in words."""
    steps = []
    if wanted.process and not seen.account:
        steps.append("create the user %s" % wanted.user)
    if stage == "archive":
        size = (wanted.archive["size"], wanted.archive["unpacked"])
        steps.append("send and unpack release %s (%s, %s unpacked)" % (wanted.release, *map(megabytes, size)))
    elif stage:
        steps.append("make release %s from the code of release %s" % (wanted.release, stage))
    if not ready:
        if wanted.process:
            at = "127.0.0.1:%d" % wanted.slots[slot]
            steps.append("start %s at %s and wait for its health" % (unit_name(wanted.name, slot), at))
        else:
            steps.append("put release %s into slot %s" % (wanted.release, slot))
    if migrate:
        steps.append("run its migrations")
    if front:
        steps.append("write its front at port %d and reload nginx" % wanted.port)
    before = "slot %s (release %s)" % (seen.live, now.release) if now.release else "nothing"
    steps.append("switch %s from %s to slot %s (release %s)" % (wanted.name, before, slot, wanted.release))
    if wanted.process and now.release:
        steps.append("stop %s after %g s" % (unit_name(wanted.name, other(slot)), wanted.drain))
    return steps


def megabytes(size: float) -> str:
    """Return a size in bytes for people."""
    return "%.1f MB" % (size / 1e6)


# --- writing ------------------------------------------------------------------


def write_file(path: str, text: str, mode: int) -> None:
    """Write a file whole: beside its place, synced, and then renamed."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    temporary = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        os.fchmod(descriptor, mode)
        handle.write(text)
        handle.flush()
        os.fsync(descriptor)
    os.rename(temporary, path)
    archives.sync_directory(os.path.dirname(path))


def point_slot(name: str, slot: str, release: str) -> None:
    """Let a slot have a release, in one step."""
    path = slot_path(name, slot)
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + ".new")
    os.symlink("../releases/" + release, path + ".new")
    os.rename(path + ".new", path)
    archives.sync_directory(os.path.dirname(path))


def set_flag(name: str, slot: str) -> None:
    """Let the next request go to a slot."""
    path = flag_path(name)
    if slot == "green":
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    archives.sync_directory(STATE)


def record_switch(name: str, release: str, slot: str) -> None:
    """Note in the service's state.json what is live since when, and what was before."""
    path = os.path.join(STATE, name, "state.json")
    state = _read_json(path)
    before = state.get("live") or {}
    entry = {"release": release, "slot": slot, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    if before.get("release") != release:
        state["previous"] = before.get("release", "")
    state.update(version=1, live=entry, history=[*state.get("history", []), entry][-HISTORY:])
    write_file(path, json.dumps(state, indent=2) + "\n", 0o644)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the host's lock: one release at a time."""
    os.makedirs(STATE, 0o755, exist_ok=True)
    # nginx looks for the flag files as its own user.
    os.chmod(STATE, 0o755)  # noqa: S103
    with open(os.path.join(STATE, ".lock"), "w", encoding="ascii") as handle:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ReleaseError(
                        "Another release works on this host for %d s already. Wait for it to end, and run this again; "
                        "`fuser -v %s/.lock` shows its process." % (LOCK_TIMEOUT, STATE)
                    ) from None
                time.sleep(0.1)
        yield


# --- staging ------------------------------------------------------------------


def stage(wanted: Wanted, source: str, archive: str | None, secrets: Mapping[str, str]) -> None:
    """Make the release's directory, from its archive or from a release with the same code."""
    path = release_path(wanted.name, wanted.release)
    archives.remove_incomplete(os.path.dirname(path))
    if source == "archive":
        if not archive:
            raise ReleaseError("%s: the archive of release %s did not arrive" % (wanted.name, wanted.release))
        archives.verify(archive, wanted.archive["sha256"])
        check_space(wanted)
    temporary = archives.temporary_directory(path)
    try:
        app = os.path.join(temporary, "app")
        if source == "archive":
            os.mkdir(app, 0o755)
            archives.extract(str(archive), app)
        else:
            link_tree(os.path.join(release_path(wanted.name, source), "app"), app)
        if wanted.kind == "nextjs":
            # Its place has to exist: the unit mounts a writable directory there.
            os.makedirs(os.path.join(app, ".next", "cache"), 0o755, exist_ok=True)
        texts = {"front.conf": wanted.front, **wanted.files}
        if wanted.process:
            texts["unit"] = wanted.unit
        if wanted.migration:
            texts["migration"] = wanted.migration
        texts["release.json"] = json.dumps(record(wanted), indent=2, sort_keys=True) + "\n"
        for name, text in texts.items():
            write_file(os.path.join(temporary, name), text, 0o644)
        if wanted.process:
            filled = fill_secrets(wanted.environment, secrets)
            text = json.dumps(filled, indent=2, sort_keys=True) + "\n"
            write_file(os.path.join(temporary, "environment"), text, 0o600)
        archives.complete(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def record(wanted: Wanted) -> dict[str, Any]:
    """Return what a release says of itself. It holds no secret."""
    return {
        "service": wanted.name,
        "kind": wanted.kind,
        "release": wanted.release,
        "artifact": wanted.artifact,
        "parts": wanted.parts,
        "runtime": wanted.runtime,
        "staged": time.time(),
    }


def check_space(wanted: Wanted) -> None:
    """Raise ReleaseError unless the unpacked release fits."""
    os.makedirs(HOME, 0o755, exist_ok=True)
    disk = os.statvfs(HOME)
    free, needed = disk.f_bavail * disk.f_frsize, wanted.archive["unpacked"] + RESERVE
    if free < needed:
        raise ReleaseError(
            "%s: release %s needs %s at %s (with %s in reserve), and %s are free. Nothing was changed. "
            "Free space there, or give the host a larger disk."
            % (wanted.name, wanted.release, megabytes(needed), HOME, megabytes(RESERVE), megabytes(free))
        )
    # Filesystems that make inodes as they need them say 0.
    if disk.f_files and disk.f_favail < wanted.archive["files"] + 1000:
        raise ReleaseError(
            "%s: release %s has %d files, and the filesystem of %s has %d inodes left. Nothing was changed. "
            "Remove files there." % (wanted.name, wanted.release, wanted.archive["files"], HOME, disk.f_favail)
        )


def link_tree(source: str, target: str) -> None:
    """Make a directory of the same files as another; they share their content on the disk."""
    for folder, names, files in os.walk(source):
        here = os.path.normpath(os.path.join(target, os.path.relpath(folder, source)))
        os.mkdir(here, 0o755)
        for name in [*files, *names]:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                os.symlink(os.readlink(path), os.path.join(here, name))
            elif name in files:
                os.link(path, os.path.join(here, name))


def share(wanted: Wanted) -> None:
    """Add the release's hashed files to those of all kept releases, which the front serves."""
    if not wanted.shared:
        return
    source = os.path.join(release_path(wanted.name, wanted.release), "app", wanted.shared["source"])
    target = os.path.join(HOME, wanted.name, "shared", wanted.shared["target"])
    for folder, _folders, files in os.walk(source):
        here = os.path.normpath(os.path.join(target, os.path.relpath(folder, source)))
        os.makedirs(here, 0o755, exist_ok=True)
        for name in files:
            path, shared = os.path.join(folder, name), os.path.join(here, name)
            if os.path.islink(path) or (os.path.exists(shared) and os.path.samefile(path, shared)):
                continue
            temporary = shared + ".new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.link(path, temporary)
            os.rename(temporary, shared)


def prune(wanted: Wanted, keep: int = KEEP) -> list[str]:
    """Remove all but the newest releases, never one that a slot has; return their ids."""
    name = wanted.name
    needed = {os.path.basename(os.readlink(path)) for path in _slot_links(name)}
    needed.add(_read_json(os.path.join(STATE, name, "state.json")).get("previous", ""))
    found = {
        release: _read_json(os.path.join(release_path(name, release), "release.json")).get("staged", 0.0)
        for release in _names(release_path(name))
        if not release.startswith(archives.TEMPORARY)
    }
    newest = sorted(found, key=lambda release: found[release], reverse=True)
    gone = [release for release in newest[keep:] if release not in needed]
    for release in gone:
        # Under a name that nothing takes for a release, so that a kill leaves no half of one.
        doomed = archives.temporary_directory(release_path(name, release))
        os.rename(release_path(name, release), os.path.join(doomed, "old"))
        shutil.rmtree(doomed, ignore_errors=True)
        shutil.rmtree(os.path.join(CACHE, "fivepointers-" + name, release), ignore_errors=True)
    if gone:
        _unshare(os.path.join(HOME, name, "shared"))
    return gone


def _slot_links(name: str) -> list[str]:
    return [slot_path(name, slot) for slot in SLOTS if os.path.islink(slot_path(name, slot))]


def _unshare(directory: str) -> None:
    """Remove shared files that no release has any more: nothing else links to them."""
    for folder, names, files in os.walk(directory, topdown=False):
        for name in files:
            path = os.path.join(folder, name)
            if os.lstat(path).st_nlink == 1:
                os.unlink(path)
        for name in names:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(folder, name))


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


def listeners(port: int) -> list[tuple[str, str]]:
    """Return who listens on a TCP port of this host: (address, inode of the socket)."""
    found = []
    for path, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        for line in (_read(path) or "").splitlines()[1:]:
            fields = line.split()
            address, _colon, number = fields[1].partition(":")
            if fields[3] == "0A" and int(number, 16) == port:
                words = [address[index : index + 8] for index in range(0, len(address), 8)]
                packed = b"".join(int(word, 16).to_bytes(4, "little") for word in words)
                found.append((socket.inet_ntop(family, packed), fields[9]))
    return found


def holder(inode: str) -> str:
    """Return the process that has a socket open, in words."""
    for pid in _names("/proc"):
        if not pid.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in os.listdir("/proc/%s/fd" % pid):
                if os.readlink("/proc/%s/fd/%s" % (pid, descriptor)) == "socket:[%s]" % inode:
                    return "%s (process %s)" % ((_read("/proc/%s/comm" % pid) or "?").strip(), pid)
    return "a process that cannot be seen from here"


def check_ports(wanted: Wanted, slot: str) -> None:
    """Raise ReleaseError if someone holds the slot's port."""
    for inode in dict.fromkeys(inode for _address, inode in listeners(wanted.slots[slot])):
        raise ReleaseError(
            "%s: port %d, on which slot %s listens, is held by %s. Nothing was changed. Stop that process, or give "
            "the service another port." % (wanted.name, wanted.slots[slot], slot, holder(inode))
        )


def check_front_port(wanted: Wanted, seen: Seen) -> None:
    """Raise ReleaseError if someone other than nginx holds the front's port."""
    if seen.front is not None:
        return
    for inode in dict.fromkeys(inode for _address, inode in listeners(wanted.port)):
        who = holder(inode)
        if not who.startswith("nginx "):
            raise ReleaseError(
                "%s: port %d, on which the front is to listen, is held by %s. Nothing was changed. Stop that "
                "process (is the application still run by hand or by pm2?), or give the service another port."
                % (wanted.name, wanted.port, who)
            )


def exposed(wanted: Wanted, slot: str) -> str:
    """Return a warning if the slot listens on more than the loopback."""
    addresses = sorted({address for address, _inode in listeners(wanted.slots[slot])})
    # An IPv4 address may be listened on through IPv6.
    reachable = [item for item in addresses if not item.startswith(("127.", "::ffff:127.")) and item != "::1"]
    if not reachable:
        return ""
    return (
        "%s listens on %s, port %d, not only on the loopback: whoever reaches the host gets round nginx. Let it "
        "listen on the address in the variable HOST (127.0.0.1); until then only firewalls keep others out."
        % (wanted.name, " and ".join(reachable), wanted.slots[slot])
    )


def health_question(wanted: Wanted, port: int) -> str:
    """Return what the health check asks at a port of this host, in words."""
    health = wanted.health
    if health["type"] == "tcp":
        return "a connection to 127.0.0.1:%d" % port
    return "GET http://127.0.0.1:%d%s, answered with %s" % (
        port,
        health["path"],
        " or ".join(map(str, health["status"])),
    )


def health_problem(wanted: Wanted, port: int) -> str:
    """Ask once at a port of this host; return what came if it is not healthy, or nothing."""
    health = wanted.health
    try:
        if health["type"] == "tcp":
            probing.open_port("127.0.0.1:%d" % port, health["timeout"])
            return ""
        answer = probing.ask(
            "http://127.0.0.1:%d%s" % (port, health["path"]),
            timeout=health["timeout"],
            headers={"X-Forwarded-Proto": "https"},
        )
    except probing.ProbeError as error:
        return "%s (%s)" % (error, error.likely) if error.likely else str(error)
    if answer.status in health["status"]:
        return ""
    likely = probing.likely(answer.status)
    return answer.describe() + (" (%s)" % likely if likely else "")


@dataclasses.dataclass
class Failure:
    """A candidate that did not become healthy."""

    wanted: Wanted
    slot: str
    came: str
    process: str
    seconds: float
    lines: list[str]

    def text(self, host: str, serving: str) -> str:
        """Return all that an operator needs to know."""
        unit = unit_name(self.wanted.name, self.slot)
        shown = "\n".join("    " + line for line in self.lines) or "    (it logged nothing)"
        return (
            "%s on %s, step prepare: release %s did not become healthy in slot %s within %.0f s, and was stopped. %s\n"
            "  Asked: %s\n  Came: %s\n%s  Its last log lines:\n%s\n"
            "  What to do: correct what the log says, build and deploy again. If it only needs longer, raise "
            "health.start_period (%g s). All of its log: journalctl -u %s"
            % (
                self.wanted.name,
                host,
                self.wanted.release,
                self.slot,
                self.seconds,
                "Release %s goes on serving." % serving if serving else "Nothing served before, and nothing does now.",
                health_question(self.wanted, self.wanted.slots[self.slot]),
                self.came,
                "  Its process: %s\n" % self.process if self.process else "",
                shown,
                self.wanted.health["start_period"],
                unit,
            )
        )


def wait_until_healthy(candidates: Sequence[tuple[Wanted, str]]) -> list[Failure]:
    """Wait for all candidates together; return those that failed. Each is asked at its own slot."""
    begun, wall = time.monotonic(), time.time()
    waiting = {unit_name(wanted.name, slot): (wanted, slot) for wanted, slot in candidates}
    asked = dict.fromkeys(waiting, 0.0)
    ends = dict.fromkeys(waiting, "")
    failures = []
    while waiting:
        states = systemd.states(list(waiting))
        for unit, state in states.items():
            wanted, slot = waiting[unit]
            # How it ended is told only until it is started again.
            ends[unit] = state.exit() or ends[unit]
            passed = time.monotonic() - begun
            # Quick at first, since most are up within a second.
            if state.running and passed - asked[unit] < min(wanted.health["interval"], 0.1 + passed / 5):
                continue
            asked[unit] = passed
            came = health_problem(wanted, wanted.slots[slot]) if state.running else "its process does not run"
            if not came:
                after = systemd.states([unit])[unit]
                if after.running and after.pid == state.pid:
                    del waiting[unit]
                    continue
                came = "it answered, and then its process ended"
            over = passed > wanted.health["start_period"]
            if over or state.restarts >= CRASHES or state.active == "failed":
                again = "%d times, and was started again each time" % state.restarts if state.restarts else ""
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
    """What a phase works on. names and seen: for each service; archives: paths of what was sent."""

    host: str
    wanted: list[Wanted]
    seen: dict[str, Seen]
    plans: dict[str, Plan]
    secrets: dict[str, str]
    archives: dict[str, str]
    warnings: list[str] = dataclasses.field(default_factory=list)

    def candidates(self) -> list[tuple[Wanted, Plan]]:
        """Return the services that need a switch."""
        return [(item, self.plans[item.name]) for item in self.wanted if self.plans[item.name].candidate]

    def refresh(self) -> None:
        """Look again, and plan again."""
        self.seen = observe(self.wanted)
        self.plans = {item.name: plan(item, self.seen[item.name]) for item in self.wanted}


def missing_archives(job: Job) -> list[str]:
    """Return the services whose archive has to be sent before they can be prepared."""
    return [item.name for item, todo in job.candidates() if todo.stage == "archive" and item.name not in job.archives]


def prepare(job: Job) -> bool:
    """Stage and start all candidates, and wait for their health. What is live is not touched."""
    todo = [(item, todo) for item, todo in job.candidates() if not todo.ready]
    if not todo:
        return False
    for item, step in todo:
        seen = job.seen[item.name]
        check_front_port(item, seen)
        if item.process and not seen.runtime:
            raise ReleaseError(
                "%s: there is no Node.js at %s. Configure the host first: the role nodejs puts it there."
                % (item.name, item.runtime)
            )
        if item.process:
            ensure_account(item.user)
        if step.stage:
            stage(item, step.stage, job.archives.get(item.name), job.secrets)
        share(item)
    processes = [(item, step.slot) for item, step in todo if item.process]
    try:
        _fill_slots(job, [(item, step.slot) for item, step in todo])
        if processes:
            systemd.systemctl("start", "--no-block", *(unit_name(item.name, slot) for item, slot in processes))
        failures = wait_until_healthy(processes)
        if failures:
            texts = [failure.text(job.host, job.plans[failure.wanted.name].serving) for failure in failures]
            raise ReleaseError("\n".join(texts))
        apply_fronts(job, _new_fronts(job), check=True)
    except BaseException:
        if processes:
            systemd.run(["systemctl", "stop", *(unit_name(item.name, slot) for item, slot in processes)])
        raise
    job.warnings += [warning for warning in (exposed(item, slot) for item, slot in processes) if warning]
    return True


def _fill_slots(job: Job, todo: Sequence[tuple[Wanted, str]]) -> None:
    """Stop what idles in the slots, and write unit, environment and link of the candidates."""
    version = 0
    busy = [unit_name(item.name, slot) for item, slot in todo if item.process]
    if busy:
        version = systemd.version()
        states = systemd.states(busy)
        running = [unit for unit in busy if states[unit].load == "loaded" and not states[unit].stopped]
        if running:
            systemd.systemctl("stop", *running)
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


def _new_fronts(job: Job) -> dict[str, str]:
    """Return the fronts that differ from what is there."""
    return {item.name: item.front for item in job.wanted if job.plans[item.name].front}


def apply_fronts(job: Job, fronts: Mapping[str, str], check: bool = False) -> None:
    """Bring fronts into use together: one validation, one reload. With `check`, only validate."""
    if not fronts:
        return
    paths = {item.name: item.front_path for item in job.wanted}
    trees = {
        "front-" + name: [{"path": paths[name], "content": text, "template": "the front of " + name}]
        for name, text in fronts.items()
    }
    spec = {
        "root": NGINX,
        "trees": trees,
        "validate": ["nginx", "-t", "-q"],
        "reload": ["systemctl", "reload-or-restart", "nginx.service"],
        "prove": {"workers": "/run/nginx.pid", "timeout": 15},
        "explain": ["journalctl", "--quiet", "--no-pager", "--output=cat", "--unit=nginx.service", "--lines=10"],
    }
    try:
        apply_tree(spec, check=check)
    except TreeError as error:
        raise ReleaseError("The front of %s on %s: %s" % (", ".join(fronts), job.host, error)) from error


def migrate(job: Job) -> bool:
    """Run the migrations of each candidate that has some, in its own release and environment."""
    done = False
    for item, todo in job.candidates():
        if todo.migrate:
            _require_ready(job, item, todo)
            _migrate(job, item, todo)
            done = True
    return done


def _migrate(job: Job, item: Wanted, todo: Plan) -> None:
    unit = "fivepointers-%s-migration@%s.service" % (item.name, todo.slot)
    path = os.path.join("/run/systemd/system", unit)
    begun = time.time()
    write_file(path, item.migration, 0o644)
    try:
        systemd.systemctl("daemon-reload")
        status, output = systemd.run(["systemctl", "start", unit], 1000)
        if status:
            lines = systemd.journal(unit, begun, JOURNAL_LINES) or [output]
            state = systemd.states([unit])[unit]
            systemd.run(["systemctl", "stop", unit_name(item.name, todo.slot)])
            raise ReleaseError(
                "%s on %s, step migrate: the migrations of release %s failed%s. %s The schema may be changed in "
                "part.\n  Their last log lines:\n%s\n  What to do: correct the migration, build and deploy again; "
                "the next deploy runs those that are still missing."
                % (
                    item.name,
                    job.host,
                    item.release,
                    ": " + state.exit() if state.exit() else "",
                    "Release %s goes on serving." % todo.serving if todo.serving else "Nothing serves yet.",
                    "\n".join("    " + line for line in lines),
                )
            )
    finally:
        systemd.run(["systemctl", "reset-failed", unit])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _require_ready(job: Job, item: Wanted, todo: Plan) -> None:
    """Raise ReleaseError unless the candidate is prepared and answers."""
    if not todo.ready:
        raise ReleaseError(
            "%s on %s: release %s is not prepared in slot %s (or its process ended since). Run the phase prepare, "
            "or all." % (item.name, job.host, item.release, todo.slot)
        )
    problem = health_problem(item, item.slots[todo.slot]) if item.process else ""
    if problem:
        raise ReleaseError(
            "%s on %s, before the switch: release %s in slot %s is not healthy any more. %s\n  Asked: %s\n  Came: %s\n"
            "  What to do: look at journalctl -u %s, and deploy again."
            % (
                item.name,
                job.host,
                item.release,
                todo.slot,
                "Release %s goes on serving." % todo.serving if todo.serving else "Nothing serves yet.",
                health_question(item, item.slots[todo.slot]),
                problem,
                unit_name(item.name, todo.slot),
            )
        )


def switch(job: Job) -> bool:
    """Let the candidates get all new requests, then drain and stop what they replace. Also do the repairs."""
    if not any(step.changed for step in job.plans.values()):
        return False
    candidates = job.candidates()
    for item, todo in candidates:
        _require_ready(job, item, todo)
    apply_fronts(job, _new_fronts(job))
    for item, todo in candidates:
        _switch(job, item, todo)
    _retire(job, candidates)
    for item in job.wanted:
        if job.plans[item.name].repairs and item.process:
            _repair(item, str(job.plans[item.name].live))
    for item, _todo in candidates:
        prune(item)
    return True


def _switch(job: Job, item: Wanted, todo: Plan) -> None:
    """Flip one flag, and flip it back if the front then does not answer."""
    if item.process:
        # Before the flag: whichever slot the flag names starts with the host.
        systemd.enable(unit_name(item.name, todo.slot))
    set_flag(item.name, todo.slot)
    deadline = time.monotonic() + FRONT_TIMEOUT
    problem = health_problem(item, item.port)
    while problem and time.monotonic() < deadline:
        time.sleep(0.1)
        problem = health_problem(item, item.port)
    if not problem:
        record_switch(item.name, item.release, todo.slot)
        return
    before = job.seen[item.name].front
    if todo.live:
        set_flag(item.name, todo.live)
        if todo.front and before is not None:
            with contextlib.suppress(ReleaseError):
                apply_fronts(job, {item.name: before})
    if item.process:
        systemd.disable(unit_name(item.name, todo.slot))
        systemd.run(["systemctl", "stop", unit_name(item.name, todo.slot)])
    raise ReleaseError(
        "%s on %s, step switch: release %s was healthy in slot %s, but not through the front. %s\n  Asked: %s\n"
        "  Came: %s\n  What to do: look at `nginx -T` and journalctl -u nginx on the host; `systemctl status nginx` "
        "says whether it runs."
        % (
            item.name,
            job.host,
            item.release,
            todo.slot,
            "It was switched back, and release %s serves." % todo.serving if todo.live else "Nothing served before.",
            health_question(item, item.port),
            problem,
        )
    )


def _retire(job: Job, switched: Sequence[tuple[Wanted, Plan]]) -> None:
    """Let the old slots finish what they have, and stop them."""
    old = [(item, todo) for item, todo in switched if item.process and todo.live]
    working = [item.drain for item, todo in old if job.seen[item.name].slots[str(todo.live)].state.running]
    if working:
        time.sleep(max(working))
    units = [unit_name(item.name, str(todo.live)) for item, todo in old]
    for unit in units:
        systemd.disable(unit)
    if units:
        systemd.systemctl("stop", *units)


def _repair(item: Wanted, live: str) -> None:
    """Let exactly the live slot start with the host and run."""
    systemd.enable(unit_name(item.name, live))
    systemd.disable(unit_name(item.name, other(live)))
    state = systemd.states([unit_name(item.name, other(live))])[unit_name(item.name, other(live))]
    if not state.stopped:
        systemd.systemctl("stop", state.name)


def explain(error: BaseException) -> str:
    """Return the text of an error that a phase may raise."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full: %s. What was unfinished is removed; free space and run this again." % error
    return str(error)


#: What the phases may raise and the module reports.
ERRORS = (ReleaseError, archives.ArchiveError, systemd.SystemdError, PlaceholderError, TreeError, OSError)
