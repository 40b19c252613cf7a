# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Retire services that are not described on a host, and purge what is kept of them.

Both may be killed at any point and run again: what is left is found by what is there.
A retired service keeps its releases, user and data, and comes back by the phases prepare, switch and commit.

Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import sync_directory
from ansible_collections.fivepointers.platform.plugins.module_utils.release import (
    files,
    leftovers,
    phases,
    releases,
    schedules,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import SLOTS, ReleaseError

#: What the role nginx_proxy wrote.
EDGE_TREE = "nginx_proxy"


def todo(phase: str, names: Sequence[str], described: Collection[str], catalogue: Collection[str]) -> dict[str, Any]:
    """Return what a phase would remove of these services, by name; nothing of a service that is done.

    Raises ReleaseError for a service that is described here, and for a purge of one that was not retired.
    """
    found = leftovers.undescribed(described, catalogue)
    todo = {}
    for name in names:
        if name in described:
            raise ReleaseError("%s: it is described on this host, so it cannot be retired. Nothing was changed." % name)
        has = found.get(name, {}).get("has", [])
        if phase == "purge" and leftovers.runs(has):
            raise ReleaseError("%s: it was not retired, so it cannot be purged. Nothing was changed." % name)
        wanted = leftovers.KEPT if phase == "purge" else leftovers.RUNS
        if leftovers.runs(has) or (phase == "purge" and has):
            todo[name] = [what for what in has if what in wanted]
    return todo


def retire(host: str, todo: dict[str, list[str]], author: dict[str, str]) -> None:
    """Stop these services, and remove what they have in live places: fronts (with one reload), units, secrets, flags.

    The way back is on disk before anything is removed.
    """
    for name in todo:
        if os.path.isdir(releases.release_path(name)):
            _record(name, author)
    fronts = {name: None for name, has in todo.items() if leftovers.FRONT in has}
    edge = [EDGE_TREE] if any(leftovers.EDGE in has for has in todo.values()) else []
    phases.apply_fronts(phases.Job(host, [], {}, {}, {}, {}), fronts, others=edge)
    units = [unit for name in todo for unit in (schedules.timer(name), schedules.launcher(name))]
    units += [releases.unit_name(name, slot) for name in todo for slot in SLOTS]
    for unit in units:
        systemd.disable(unit)
    phases.cancel_retirement(list(todo))
    phases.stop_quietly(units)
    running = [unit for unit, state in systemd.states(units).items() if not state.stopped]
    if running:
        raise ReleaseError("%s on %s did not stop. See: systemctl status %s" % (running[0], host, running[0]))
    for unit in units:
        for directory in (systemd.PARKED, systemd.UNITS):
            _unlink(os.path.join(directory, unit))
    systemd.systemctl("daemon-reload")
    for name in todo:
        _unlink(schedules.stamp(name))
        _remove(os.path.join(releases.SETTINGS, name))
        _remove(os.path.join(releases.HOME, name, "slots"))
        for suffix in (*SLOTS, "maintenance"):
            _unlink(os.path.join(releases.STATE, "%s.%s" % (name, suffix)))
    sync_directory(releases.STATE)
    for name, has in leftovers.present().items():
        file = "front-%s.conf" % name if leftovers.FRONT in has else "edge.conf" if leftovers.EDGE in has else ""
        if name in todo and file:
            raise ReleaseError(
                "%s: %s on %s was not written by a release or a role, and is still there. Remove it, and reload nginx."
                % (name, os.path.join(leftovers.fronts(), file), host)
            )


def _record(name: str, author: dict[str, str]) -> None:
    """Record which release comes back, unless an earlier run that was killed has done so."""
    state = releases.read_state(name)
    if state.get("retired"):
        return
    pending = state.get("pending")
    # What was switched to and never committed is no release to come back to.
    release = pending.get("before", {}).get("release", "") if pending else leftovers.serving(name)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    timer = {"timer": schedules.timer(name)} if schedules.found(name) else {}
    files.record_retirement(name, {"release": release, "since": since, **timer, **author})


def purge(todo: Sequence[str], warn: Callable[[str], None]) -> None:
    """Remove releases, data, cache, state and user of these retired services. There is no way back.

    Of a folder that a symbolic link put elsewhere, the link is removed; warn is told where the data is, which is kept.
    """
    for name in todo:
        home = os.path.join(releases.HOME, name)
        removed = os.path.join(home, leftovers.REMOVED)
        # Of a purge that was killed, after which the service was deployed again.
        _remove(removed)
        # At once, so that no run takes half of a release for one.
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(home, "releases"), removed)
        folders = [os.path.join(directory, "fivepointers-" + name) for directory in (releases.CACHE, releases.DATA)]
        # The state comes last of these: it says that the service was retired.
        folders += [removed, home, os.path.join(releases.SETTINGS, name), os.path.join(releases.STATE, name)]
        for path in folders:
            if os.path.islink(path):
                warn(
                    "%s was a link to %s. The link is removed, and what it led to is kept: remove that, or give it to "
                    "another user, since the number of fp-%s is free." % (path, os.path.realpath(path), name)
                )
            _remove(path)
        # The user comes last: its number is free then, and whoever gets it must not own what a killed run left.
        if leftovers.USER in leftovers.present().get(name, []):
            status, output = systemd.run(["userdel", "fp-" + name])
            if status:
                raise ReleaseError("The user fp-%s cannot be removed: %s" % (name, output))


def _remove(path: str) -> None:
    if os.path.islink(path):
        _unlink(path)
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
