# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Services that are on a host and are not described for it, found by what is there.

Nothing remembers them: whatever a release writes has the service's name, and says that it is there.
Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import listed, read
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases

NAME = r"([a-z][a-z0-9-]*)"
UNIT = r"fivepointers-%s@(?:%s)\.service" % (NAME, "|".join(releases.SLOTS))
TIMED = r"fivepointers-%s_run\.(?:service|timer)" % NAME
#: What a service has while it runs, in the order of a sentence. A retired service has none of these.
UNITS, TIMER, BOOT, FRONT, SETTINGS, FLAG, MAINTENANCE, EDGE = (
    "unit",
    "timer",
    "boot link",
    "front",
    "environment file",
    "flag",
    "maintenance flag",
    "edge configuration",
)
RUNS = (UNITS, TIMER, BOOT, FRONT, SETTINGS, FLAG, MAINTENANCE, EDGE)
#: What a retired service keeps until it is purged.
RELEASES, STATE, DATA, CACHE, USER = "releases", "state", "data", "cache", "user"
KEPT = (RELEASES, STATE, DATA, CACHE, USER)
USERS = "/etc/passwd"
LISTENS = re.compile(r"^\s*listen (\d+);", re.MULTILINE)
UPSTREAM = re.compile(r"^upstream (\S+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)


def fronts() -> str:
    """Return the directory of the fronts."""
    return os.path.join(releases.NGINX, "fivepointers")


def _places() -> tuple[tuple[str, str, str, tuple[str, ...]], ...]:
    """Return what is looked for: a word for it, its directory, its name, and what has to be below it (one of these)."""
    return (
        (UNITS, systemd.UNITS, UNIT, ()),
        (TIMER, systemd.UNITS, TIMED, ()),
        (TIMER, systemd.WANTS, TIMED, ()),
        (TIMER, systemd.PARKED, TIMED, ()),
        (BOOT, systemd.WANTS, UNIT, ()),
        (BOOT, systemd.PARKED, UNIT, ()),
        (FRONT, fronts(), "front-%s.conf" % NAME, ()),
        (SETTINGS, releases.SETTINGS, NAME, tuple(slot + ".env" for slot in releases.SLOTS)),
        (FLAG, releases.STATE, NAME + r"\.(?:%s)" % "|".join(releases.SLOTS), ()),
        (MAINTENANCE, releases.STATE, "(?!edge.)%s.maintenance" % NAME, ()),
        # A host is an edge as it runs a service, and no service can be called that.
        (EDGE, fronts(), "(edge).conf", ()),
        (RELEASES, releases.HOME, NAME, ("releases", REMOVED)),
        (STATE, releases.STATE, NAME, ("state.json",)),
        (DATA, releases.DATA, "fivepointers-" + NAME, ()),
        (CACHE, releases.CACHE, "fivepointers-" + NAME, ()),
    )


#: Releases that are being removed.
REMOVED = "releases.removed"


def present() -> dict[str, list[str]]:
    """Return what the host has of which services. Reads directories and the list of users."""
    found: dict[str, dict[str, None]] = {}
    for what, directory, pattern, below in _places():
        for entry in listed(directory):
            match = re.fullmatch(pattern, entry)
            path = os.path.join(directory, entry)
            if match and (not below or any(os.path.exists(os.path.join(path, item)) for item in below)):
                found.setdefault(match[1], {})[what] = None
    for user in re.findall("^fp-%s:[^:]*:[^:]*:[^:]*:[^:]*:/nonexistent:" % NAME, read(USERS) or "", re.MULTILINE):
        found.setdefault(user, {})[USER] = None
    # Anybody may call a folder there that; a service has more, until its purge is done.
    return {name: list(what) for name, what in found.items() if not {DATA, CACHE}.issuperset(what)}


def undescribed(described: Collection[str], catalogue: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the services that this host has and that are not described for it.

    described: the services of this host, and edge if it is one. catalogue: those of all hosts, which an edge may have
    closed for maintenance.
    Each has `has` (see RUNS and KEPT), `runs`, `release` (which its live slot has), `since` (when it was switched to),
    and `retired` (what was recorded when it was retired).
    """
    found = {}
    for name, has in present().items():
        if name in described:
            continue
        has = [what for what in has if what != MAINTENANCE or name not in catalogue]
        if not has:
            continue
        try:
            state = releases.read_state(name)
        except releases.ReleaseError:
            # Retiring it explains that. What is there has to be reported all the same.
            state = {}
        found[name] = {
            "has": has,
            "runs": runs(has),
            "release": serving(name),
            "since": str((state.get("live") or {}).get("since", "")),
            "retired": state.get("retired") or {},
        }
    return found


def runs(has: Iterable[str]) -> bool:
    """Whether any of this serves, starts at boot, or holds secrets in a live place."""
    return any(what in RUNS for what in has)


def serving(name: str) -> str:
    """Return the release in the slot to which the flag sends requests; empty if there is none."""
    slot = releases.flagged(name) or "blue"
    try:
        return os.path.basename(os.readlink(releases.slot_path(name, slot)))
    except OSError:
        return ""


def at_ports(ports: Collection[int], name: str) -> list[str]:
    """Return the other services whose fronts listen at any of these ports."""
    found = []
    for entry in listed(fronts()):
        match = re.fullmatch("front-%s.conf" % NAME, entry)
        if match and match[1] != name:
            text = read(os.path.join(fronts(), entry)) or ""
            if any(int(port) in ports for port in LISTENS.findall(text)):
                found.append(match[1])
    return found


def upstreams() -> dict[str, list[str]]:
    """Return to which servers this host's edge and internal addresses send requests, by the upstream's name."""
    found = {}
    for entry in ("edge.conf", "internal.conf"):
        for name, text in UPSTREAM.findall(read(os.path.join(fronts(), entry)) or ""):
            found[name] = re.findall(r"^\s*server (\S+?);?(?:\s|$)", text, re.MULTILINE)
    return found
