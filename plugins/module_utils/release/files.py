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
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases
from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import (
    SLOTS,
    ReleaseError,
    Wanted,
    fill_secrets,
    flag_path,
    megabytes,
    release_path,
    slot_path,
    state_path,
)

HISTORY = 20
RESERVE = 64 << 20


# --- slots and state ----------------------------------------------------------


def point_slot(name: str, slot: str, release: str) -> None:
    """Point a slot to a release, atomically."""
    write_link(slot_path(name, slot), "../releases/" + release)


def set_flag(name: str, slot: str) -> None:
    """Send the next request to a slot."""
    path = flag_path(name)
    if slot == "green":
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    sync_directory(releases.STATE)


def begin_switch(name: str, release: str, slot: str, before: Mapping[str, str], author: Mapping[str, Any]) -> None:
    """Record a switch before the flag changes. Commit or take_back ends it."""
    state = releases.read_state(name)
    state.pop("unconfirmed", None)
    state["pending"] = {"release": release, "slot": slot, "before": dict(before), "since": time.time(), **author}
    _write_state(name, state)


def end_switch(name: str) -> None:
    """Forget a switch that was reverted."""
    state = releases.read_state(name)
    if state.pop("pending", None):
        _write_state(name, state)


def confirm_switch(name: str) -> None:
    """Record that a switch is confirmed: the host no longer takes it back by itself."""
    state = releases.read_state(name)
    state["pending"]["confirmed"] = True
    _write_state(name, state)


def note_unconfirmed(name: str, switch: Mapping[str, Any]) -> None:
    """Record that this host took a switch back by itself, until the next one."""
    state = releases.read_state(name)
    state["unconfirmed"] = {key: switch[key] for key in ("release", "deployment", "by") if key in switch}
    _write_state(name, state)


def record_switch(name: str, release: str, slot: str) -> None:
    """Record in state.json what is live, since when, by whom, and what was live before.

    A rollback follows `line` backwards. A release is appended to it or, if it is in there already, everything after it
    is cut off.
    """
    state = releases.read_state(name)
    state.pop("retired", None)
    pending = state.pop("pending", None) or {}
    before = state.get("live") or {}
    if (before.get("release"), before.get("slot")) != (release, slot):
        now = pending.get("since") or time.time()
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        entry = {"release": release, "slot": slot, "since": since, "at": now}
        entry.update({key: pending[key] for key in ("deployment", "by") if pending.get(key)})
        line = state.get("line") or [item["release"] for item in (before,) if item]
        line = line[: line.index(release) + 1] if release in line else [*line, release]
        state.update(version=1, live=entry, line=line[-HISTORY:], history=[*state.get("history", []), entry][-HISTORY:])
    elif not pending:
        return
    _write_state(name, state)


def record_retirement(name: str, retired: Mapping[str, str]) -> None:
    """Record that no release is live any more, and which one comes back: {release, since, deployment, by}."""
    state = releases.read_state(name)
    for key in ("live", "held", "pending"):
        state.pop(key, None)
    _write_state(name, {**state, "retired": dict(retired)})


def previous(state: Mapping[str, Any]) -> str:
    """Return the release that a rollback leads to, given state.json; empty if there is none."""
    line = state.get("line", [])
    return str(line[-2]) if len(line) > 1 else ""


def hold(name: str, slot: str, until: float) -> None:
    """Record until when (seconds since 1970) a replaced slot keeps running."""
    state = releases.read_state(name)
    state["held"] = {"slot": slot, "since": time.time(), "until": until}
    _write_state(name, state)


def _write_state(name: str, state: Mapping[str, Any]) -> None:
    write_file(state_path(name), json.dumps(state, indent=2) + "\n", 0o644)


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
    temporary = archives.temporary_directory(path)
    try:
        app = os.path.join(temporary, "app")
        if source == "archive":
            os.mkdir(app, 0o755)
            archives.extract(str(archive), app)
        else:
            link_tree(os.path.join(release_path(wanted.name, source), "app"), app)
        for directory in wanted.writable:
            os.makedirs(os.path.join(app, directory), 0o755, exist_ok=True)
        texts = {"front.conf": wanted.front, **wanted.files}
        if wanted.process:
            texts["unit"] = wanted.unit
        if wanted.migration:
            texts["migration"] = wanted.migration
        if wanted.listing:
            texts["listing"] = wanted.listing
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
    # A new host has no such directory yet, and a check must not create it.
    place = releases.HOME
    while not os.path.exists(place):
        place = os.path.dirname(place)
    disk = os.statvfs(place)
    free, needed = disk.f_bavail * disk.f_frsize, wanted.archive["unpacked"] + RESERVE
    if free < needed:
        raise ReleaseError(
            "%s: release %s needs %s at %s (with %s in reserve), and %s are free. Nothing was changed. "
            "Free some space there, or give the host a larger disk."
            % (wanted.name, wanted.release, megabytes(needed), releases.HOME, megabytes(RESERVE), megabytes(free))
        )
    # Filesystems that allocate inodes dynamically report 0.
    if disk.f_files and disk.f_favail < wanted.archive["files"] + 1000:
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
    if not wanted.shared:
        return
    source = os.path.join(release_path(wanted.name, wanted.release), "app", wanted.shared["source"])
    target = os.path.join(releases.HOME, wanted.name, "shared", wanted.shared["target"])
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


def prune(wanted: Wanted) -> list[str]:
    """Remove the oldest releases that are too many or too large together; return their ids.

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
    newest = sorted(records, key=lambda release: records[release].get("staged", 0.0), reverse=True)
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
        # Under a name that nothing takes for a release, so that a kill leaves no incomplete one.
        doomed = archives.temporary_directory(release_path(name, release))
        os.rename(release_path(name, release), os.path.join(doomed, "old"))
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
