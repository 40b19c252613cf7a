# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Files of a service on its host: releases, slots, the flag file, and what outlives a release.

Everything is written atomically, and is on disk before anything depends on it.
Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive as archives
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import (
    listed,
    sync_directory,
    write_file,
    write_link,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release import environments, releases
from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import (
    SLOTS,
    ReleaseError,
    Wanted,
    fill_secrets,
    flag_path,
    megabytes,
    other,
    release_path,
    slot_path,
    write_state,
)

HISTORY = 20
# What a way back that has to write files may use up: so many files of so many bytes.
SPARE_FILES, SPARE_BYTES = 32, 256 << 10


# --- slots and state ----------------------------------------------------------


def point_slot(name: str, slot: str, release: str) -> None:
    """Point a slot to a release, atomically."""
    write_link(slot_path(name, slot), "../releases/" + release)


def set_flag(name: str, slot: str) -> None:
    """Send the next request to a slot: one rename of a file, which needs no disk space."""
    path = flag_path(name, slot)
    try:
        os.rename(flag_path(name, other(slot)), path)
    except FileNotFoundError:
        # It has that name already, or was lost, or an earlier version had none.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    sync_directory(releases.STATE)


def allocate(name: str, slot: str) -> None:
    """Create what a switch and its way back only rewrite, so that neither needs disk space: flag and state."""
    if not releases.flagged(name):
        set_flag(name, slot)
    write_state(name, releases.read_state(name))


def begin_switch(name: str, release: str, slot: str, before: Mapping[str, str], author: Mapping[str, Any]) -> None:
    """Record a switch before the flag changes. Commit or take_back ends it."""
    state = releases.read_state(name)
    state.pop("unconfirmed", None)
    # Its timer is cancelled: what was held is live from now on.
    state.pop("held", None)
    state["pending"] = {"release": release, "slot": slot, "before": dict(before), "since": time.time(), **author}
    write_state(name, state)


def end_switch(name: str) -> None:
    """Forget a switch that was reverted."""
    state = releases.read_state(name)
    if state.pop("pending", None):
        write_state(name, state)


def confirm_switch(name: str) -> None:
    """Record that a switch is confirmed: the host no longer takes it back by itself."""
    state = releases.read_state(name)
    state["pending"]["confirmed"] = True
    write_state(name, state)


def note_unconfirmed(name: str, switch: Mapping[str, Any]) -> None:
    """Record that this host took a switch back by itself, until the next one."""
    state = releases.read_state(name)
    state["unconfirmed"] = {key: switch[key] for key in ("release", "deployment", "by") if key in switch}
    write_state(name, state)


def own_switch(name: str, author: Mapping[str, Any]) -> None:
    """Record that another deployment confirms a switch, or takes it back, in place of the one that made it."""
    state = releases.read_state(name)
    state["pending"].update(author)
    write_state(name, state)


def record_switch(name: str, release: str, slot: str, commit: Mapping[str, Any] | None = None) -> None:
    """Record in state.json what is live, since when, by whom, and what was live before.

    A rollback follows `line` backwards. A release is appended to it or, if it is in there already, be it with other
    secrets, everything after it is cut off. commit: of its code as it is deployed now, which may be a later one.
    """
    state = releases.read_state(name)
    state.pop("retired", None)
    pending = state.pop("pending", None) or {}
    before = state.get("live") or {}
    if (before.get("release"), before.get("slot")) != (release, slot):
        now = pending.get("since") or time.time()
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        entry: dict[str, Any] = {"release": release, "slot": slot, "since": since, "at": now}
        entry.update({"commit": {key: commit[key] for key in ("id", "time")}} if commit else {})
        entry.update({key: pending[key] for key in ("deployment", "by", "number") if pending.get(key)})
        line = state.get("line") or [item["release"] for item in (before,) if item]
        origins = [_origin(name, item) for item in line]
        origin = _origin(name, release)
        line = [*(line[: origins.index(origin)] if origin in origins else line), release]
        state.update(version=1, live=entry, line=line[-HISTORY:], history=[*state.get("history", []), entry][-HISTORY:])
    elif not pending:
        return
    write_state(name, state)


def _origin(name: str, release: str) -> str:
    """Return the release that a release is, except for its secrets."""
    return str(releases.read_release(name, release).get("wanted", {}).get("of") or release)


def record_retirement(name: str, retired: Mapping[str, str]) -> None:
    """Record that no release is live any more, and which one comes back: {release, since, deployment, by}.

    timer: what started it, if it ran by a schedule.
    """
    state = releases.read_state(name)
    for key in ("live", "held", "pending", "unconfirmed"):
        state.pop(key, None)
    write_state(name, {**state, "retired": dict(retired)})


def previous(state: Mapping[str, Any]) -> str:
    """Return the release that a rollback leads to, given state.json; empty if there is none."""
    line = state.get("line", [])
    return str(line[-2]) if len(line) > 1 else ""


def forget_hold(name: str) -> None:
    """Forget that a slot keeps running, since it gets another release."""
    state = releases.read_state(name)
    if state.pop("held", None):
        write_state(name, state)


def hold(name: str, slot: str, until: float) -> None:
    """Record until when (seconds since 1970) a replaced slot keeps running."""
    state = releases.read_state(name)
    state["held"] = {"slot": slot, "since": time.time(), "until": until}
    write_state(name, state)


# --- space --------------------------------------------------------------------


def shortage() -> str:
    """Return which file system of releases, state and caches has less left than is kept free; empty if none."""
    for place in dict.fromkeys(map(existing, (releases.HOME, releases.STATE, releases.CACHE))):
        disk = os.statvfs(place)
        free = disk.f_bavail * disk.f_frsize
        if free < archives.RESERVE:
            return "the disk is full: %s has %s left, and %s have to stay free" % (
                place,
                megabytes(free),
                megabytes(archives.RESERVE),
            )
        # Filesystems that allocate inodes dynamically report 0.
        if disk.f_files and disk.f_favail < archives.RESERVED_INODES:
            return "the disk is full: %s has %d inodes left, and %d have to stay free" % (
                place,
                disk.f_favail,
                archives.RESERVED_INODES,
            )
    return ""


def existing(place: str) -> str:
    """Return a directory, or the nearest above it that exists: a new host has none, and a check creates none."""
    while not os.path.exists(place):
        place = os.path.dirname(place)
    return place


def keep_spare() -> None:
    """Keep some space for a way back that has to write files."""
    directory = _spare()
    os.makedirs(directory, 0o700, exist_ok=True)
    for number in range(SPARE_FILES):
        descriptor = os.open(os.path.join(directory, str(number)), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SPARE_BYTES)
        finally:
            os.close(descriptor)


def use_spare() -> bool:
    """Free that space if there is no other; return whether it was."""
    if not shortage() or not listed(_spare()):
        return False
    shutil.rmtree(_spare(), ignore_errors=True)
    return True


def _spare() -> str:
    return os.path.join(releases.STATE, ".spare")


# --- staging ------------------------------------------------------------------


def stage(wanted: Wanted, source: str, archive: str | None, secrets: Mapping[str, str]) -> None:
    """Create the directory of a release, from its archive or from a release with the same code."""
    path = release_path(wanted.name, wanted.release)
    archives.remove_incomplete(os.path.dirname(path))
    if source == "archive":
        if not archive:
            raise ReleaseError("%s: the archive of release %s did not arrive" % (wanted.name, wanted.release))
        try:
            archives.verify(archive, wanted.archive["sha256"])
        except archives.ArchiveError as error:
            raise ReleaseError(
                "%s: %s Build it again: ansible-playbook playbooks/build.yml -e service=%s"
                % (wanted.name, error, wanted.name)
            ) from error
        check_space(wanted)
    temporary = archives.temporary_directory(path, 0o700)
    try:
        app = os.path.join(temporary, "app")
        if source == "archive":
            os.mkdir(app, 0o755)
            archives.extract(str(archive), app, limit=(wanted.archive["unpacked"], wanted.archive["files"]))
        else:
            link_tree(os.path.join(release_path(wanted.name, source), "app"), app)
        for directory in wanted.writable:
            os.makedirs(os.path.join(app, directory), 0o755, exist_ok=True)
        texts = {file: text for key, file in releases.TEXTS.items() if (text := getattr(wanted, key)) or key == "front"}
        texts.update(wanted.files)
        texts["release.json"] = json.dumps(record(wanted), indent=2, sort_keys=True) + "\n"
        for name, text in texts.items():
            write_file(os.path.join(temporary, name), text, 0o644)
        if wanted.process:
            filled = fill_secrets(wanted.environment, secrets)
            for file, variables in ((environments.VALUES, filled), (environments.TEMPLATES, wanted.environment)):
                text = json.dumps(variables, indent=2, sort_keys=True) + "\n"
                write_file(os.path.join(temporary, file), text, 0o600)
        _seclude(temporary, releases.group_id(wanted.user if wanted.process else releases.NGINX_USER))
        archives.complete(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def record(wanted: Wanted) -> dict[str, Any]:
    """Return what is recorded of a release. Contains no secret."""
    return {
        "service": wanted.name,
        "kind": wanted.kind,
        "release": wanted.release,
        "artifact": wanted.artifact,
        "parts": wanted.parts,
        "runtime": wanted.runtime,
        "staged": time.time(),
        "wanted": releases.record_of(wanted),
    }


def check_space(wanted: Wanted) -> None:
    """Raise ReleaseError unless the unpacked release fits on the disk."""
    disk = os.statvfs(existing(releases.HOME))
    free, needed = disk.f_bavail * disk.f_frsize, wanted.archive["unpacked"] + archives.RESERVE
    if free < needed:
        raise ReleaseError(
            "%s: release %s needs %s at %s (with %s in reserve), and %s are free. Nothing was changed. "
            "Free some space there, or give the host a larger disk."
            % (
                wanted.name,
                wanted.release,
                megabytes(needed),
                releases.HOME,
                megabytes(archives.RESERVE),
                megabytes(free),
            )
        )
    if disk.f_files and disk.f_favail < wanted.archive["files"] + archives.RESERVED_INODES:
        raise ReleaseError(
            "%s: release %s has %d files, and the filesystem of %s has %d inodes left. Nothing was changed. "
            "Remove files there." % (wanted.name, wanted.release, wanted.archive["files"], releases.HOME, disk.f_favail)
        )


def link_tree(source: str, target: str) -> None:
    """Create a copy of a directory whose files share their content on disk with the original."""
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
    """Add the hashed files of a release to those of all kept releases, which the front serves."""
    for target, source in wanted.shared.items():
        _share(
            os.path.join(release_path(wanted.name, wanted.release), "app", source),
            os.path.join(releases.HOME, wanted.name, "shared", target),
        )


def _share(source: str, target: str) -> None:
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


def seclude(wanted: Wanted) -> None:
    """Let other users of the host not read the folders of a service."""
    for path, group in releases.exposed(wanted):
        _seclude(path, group)


def _seclude(path: str, group: int | None) -> None:
    if group is not None:
        os.chown(path, -1, group)
        os.chmod(path, 0o750)  # noqa: S103


def prune(wanted: Wanted) -> list[str]:
    """Remove releases that are too many or too large together, first what was live longest ago; return their ids.

    Never one that a slot has, which is the live, the held and any draining one, nor the way back.
    """
    name = wanted.name
    state = releases.read_state(name)
    needed = {os.path.basename(os.readlink(path)) for path in _slot_links(name)}
    needed |= {previous(state), (state.get("pending") or {}).get("before", {}).get("release", "")}
    records = {
        release: releases.read_release(name, release)
        for release in listed(release_path(name))
        if not release.startswith(archives.TEMPORARY)
    }
    # A release that was staged long ago may have been deployed again since. What never was live goes first.
    turns = {entry["release"]: turn for turn, entry in enumerate(state.get("history", []))}
    newest = sorted(records, key=lambda it: (turns.get(it, -1), records[it].get("staged", 0.0)), reverse=True)
    kept: list[str] = []
    # What is needed counts first: the others share what it leaves.
    for release in sorted(newest, key=lambda release: release not in needed):
        # Releases with the same code share its files.
        sizes = {records[item].get("parts", {}).get("code"): _unpacked(records[item]) for item in [*kept, release]}
        fits = len(kept) < wanted.keep["releases"] and sum(sizes.values()) <= wanted.keep["bytes"]
        if fits or release in needed:
            kept.append(release)
    gone = [release for release in newest if release not in kept]
    for release in gone:
        # Under a name that nothing takes for a release, so that a kill leaves no incomplete one. Needs no disk space.
        doomed = release_path(name, archives.TEMPORARY + release)
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(release_path(name, release), doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        shutil.rmtree(os.path.join(releases.CACHE, "fivepointers-" + name, release), ignore_errors=True)
    if gone:
        _unshare(os.path.join(releases.HOME, name, "shared"))
    return gone


def _unpacked(record: Mapping[str, Any]) -> int:
    return int(record.get("wanted", {}).get("archive", {}).get("unpacked", 0))


def _slot_links(name: str) -> list[str]:
    return [slot_path(name, slot) for slot in SLOTS if os.path.islink(slot_path(name, slot))]


def _unshare(directory: str) -> None:
    """Remove shared files that no release has: nothing else links to them."""
    for folder, names, files in os.walk(directory, topdown=False):
        for name in files:
            path = os.path.join(folder, name)
            if os.lstat(path).st_nlink == 1:
                os.unlink(path)
        for name in names:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(folder, name))
