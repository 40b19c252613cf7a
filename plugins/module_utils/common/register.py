# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The register in which a run records that it has an environment's lock. Pure functions, and what a store has to do.

A record is {id, number, by, since, beat, members, released}. Its holder counts `beat` up while it lives; whoever finds
that `beat` has not changed for LEASE seconds of its own monotonic time may take over. No clock of another machine
decides anything: `since` is text for people. `number` is the fencing number, higher than any before.
Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

#: Seconds after which a holder that is silent has lost the lock, and between its beats.
LEASE, RENEWAL = 60, 15
POLL = 0.5
#: Seconds for which a claim waits: for a run that is just ending, and for one of the same person, who may have seen it
#: fail; and how much longer for one that began later, but claims at the same time. The younger gives up first, so that
#: one of them works.
ENDING, SAME, YOUNGER = 5.0, 15.0, 6.0

Record = Mapping[str, Any]


class HeldError(Exception):
    """Another run has the lock. record: its record. The text is for the operator."""

    def __init__(self, record: Record, age: float) -> None:
        super().__init__(
            "Another run is changing this environment: %s, by %s, since %s. Nothing was changed. Wait until it has "
            "ended. If it has died, a run that starts in %d s takes over from there."
            % (record.get("id"), record.get("by") or "nobody", record.get("since") or "?", max(1, LEASE - int(age)))
        )
        self.record = record


class LostError(Exception):
    """Another run has taken the lock over. The text is for the operator."""


def held(record: Record, age: float) -> bool:
    """Return whether somebody has the lock. age: seconds since its last beat, as the observer knows them."""
    return bool(record.get("id")) and not record.get("released") and age < LEASE


def claimed(record: Record, age: float, holder: str, by: str, since: str, fence: int = 0) -> dict[str, Any]:
    """Return the record of a new holder. fence: the highest number that was seen at work. Raises HeldError."""
    if record.get("id") == holder:
        return {**record, "released": False}
    if held(record, age):
        raise HeldError(record, age)
    return {
        "id": holder,
        "number": max(int(record.get("number", 0)), fence) + 1,
        "by": by,
        "since": since,
        "beat": 0,
        "members": record.get("members") or {},
        "released": False,
    }


def renewed(record: Record, holder: str, number: int = 0, members: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the record after another beat, with what all registers agreed on. Raises LostError."""
    return {**_settled(record, holder, number, members), "beat": int(record.get("beat", 0)) + 1}


def released(record: Record, holder: str, number: int = 0, members: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the record, free for others, with what all registers agreed on. Raises LostError."""
    return {**_settled(record, holder, number, members), "released": True}


def _settled(record: Record, holder: str, number: int, members: Mapping[str, str] | None) -> dict[str, Any]:
    if record.get("id") != holder:
        raise LostError(
            "This run was silent for so long that it lost the lock of the environment, and %s has it now, by %s, since "
            "%s." % (record.get("id") or "nobody", record.get("by") or "nobody", record.get("since") or "?")
        )
    settled = {"number": max(int(record["number"]), number), "members": dict(members or record.get("members") or {})}
    return {**record, **settled}


class Store:
    """Where a record is kept. Subclasses are the hosts' files and a table."""

    def update(self, change: Callable[[Record, float], dict[str, Any]]) -> dict[str, Any]:
        """Replace the record by what `change` returns, given the record and its age, as one step; return it."""
        raise NotImplementedError

    def gives_up(self, first: Record, now: Record, passed: float, patience: float) -> bool:
        """Return whether to stop waiting for a record that is held."""
        return passed > patience


def claim(
    store: Store,
    holder: str,
    by: str,
    since: str,
    fence: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Return the record of a new holder, waiting a little for one that is just ending. Raises HeldError."""
    begun, first = clock(), None
    while True:
        try:
            return store.update(lambda record, age: claimed(record, age, holder, by, since, fence))
        except HeldError as error:
            first = first or error.record
            older = holder < str(error.record.get("id"))
            patience = (SAME if by == error.record.get("by") else ENDING) + YOUNGER * older
            if store.gives_up(first, error.record, clock() - begun, patience):
                raise
        sleep(POLL)


def agreement(
    claims: Mapping[str, Mapping[str, Any]], hosts: list[str], gone: list[str], intended: int = 0
) -> tuple[int, dict[str, str], list[str]]:
    """Return the fencing number, the members, and why the lock is not ours (empty if it is).

    claims: what each host answered, {mine, member, number, members, problem}, by name in the inventory; a host that
    did not answer is missing. hosts: all names in the inventory. gone: members that will not come back. intended: how
    many hosts the environment is described to have; 0 if that is unknown, -1 if those that are there are enough.
    """
    newest: Mapping[str, Any] = {"number": 0, "members": {}}
    newest = max([newest, *claims.values()], key=lambda item: int(item["number"]))
    seen = {item["member"]: name for name, item in claims.items()}
    silent = [name for name in hosts if name not in claims]
    # Another host that answers under a name has replaced the one that had it.
    known = {
        member: name
        for member, name in newest["members"].items()
        if member not in seen and name not in gone and name not in claims
    }
    missing = sorted(name for name in known.values() if name not in silent)
    # Where the environment says how many hosts it has, that settles it.
    if intended < 0 or 0 < intended <= len(hosts):
        known = {member: name for member, name in known.items() if name in silent}
        missing = []
    members = {**known, **seen}
    problems = []
    wrong = [name for name in gone if name in hosts]
    if wrong:
        problems.append(
            "hosts_gone is %s, but %s is in the inventory. Name only hosts that are gone for good."
            % (",".join(gone), ", ".join(wrong))
        )
    if missing:
        problems.append(
            "This inventory lacks %s, which the last run had in this environment: %s there, %s here. Start what is "
            "stopped, or mend the inventory. If it is gone for good, add: -e hosts_gone=%s"
            % (", ".join(missing), len(newest["members"]), len(hosts), ",".join(missing))
        )
    elif len(hosts) + len(gone) < intended:
        problems.append(
            "This inventory has %d hosts, and platform_environment.aws.hosts describes %d. Start what is stopped, or "
            "correct the counts there. To go on without them, name them: -e hosts_gone=NAME,NAME"
            % (len(hosts), intended)
        )
    # Each host that answers has to be ours. That is a majority unless too many are silent.
    refusals = sorted(item["problem"] for item in claims.values() if not item["mine"])
    if not problems and refusals:
        problems.append(refusals[0])
    elif not problems and 2 * len(seen) <= len(seen) + len(silent):
        problems.append(
            "%d of %d hosts answered, and a majority has to grant the lock of the environment. Nothing was changed. "
            "These did not: %s. If one is gone for good, remove it from the inventory and add: -e hosts_gone=NAME"
            % (len(claims), len(hosts), ", ".join(silent))
        )
    return int(newest["number"]), members, problems
