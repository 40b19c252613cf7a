# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Which releases a rollback restores, and which are kept. Pure functions over what the hosts report.

`looks`: {host: {service: what the phase look of the module release returns for it}}.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.release.migrations import Migration, obstacles

Looks = Mapping[str, Mapping[str, Mapping[str, Any]]]


class RollbackError(Exception):
    """A refused rollback. The text gives every reason and the fix."""


def by_service(looks: Looks) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return what the hosts report, by service: {service: {host: look}}."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for host, services in looks.items():
        for name, look in services.items():
            found.setdefault(name, {})[host] = look
    return found


def last_deployment(looks: Looks) -> str:
    """Return the identifier of the newest deployment that is live anywhere; empty if there was none.

    One that was interrupted before its commit takes precedence.
    """
    every = [look for services in looks.values() for look in services.values()]
    entries = [look["pending"] for look in every if look["pending"]] or [look["live"] for look in every if look["live"]]
    newest: Mapping[str, Any] = max(entries, key=_order, default={})
    return str(newest.get("deployment", ""))


def _order(entry: Mapping[str, Any]) -> tuple[int, str]:
    """Return what orders deployments: their number, which no clock changes.

    Entries of earlier versions have none. They are older, and ordered by time.
    """
    number = int(entry.get("number", 0))
    return number, "" if number else str(entry.get("since", ""))


def _number_of(looks: Looks, deployment: str | None) -> int | None:
    """Return the number of a deployment; 0 if it is of an earlier version, None if no host knows it."""
    entries = [entry for services in looks.values() for look in services.values() for entry in look["history"]]
    numbers = [int(entry.get("number", 0)) for entry in entries if entry.get("deployment", "") == deployment]
    return max(numbers, default=None)


@dataclasses.dataclass(frozen=True)
class Recall:
    """What a rollback needs of the secrets' store, and what it says of secrets.

    names: of the secrets of each release that takes those of now, by service. references: of those, for the lookup
    `secrets`. told: which secrets a release comes back with, in words.
    """

    names: dict[str, list[str]]
    references: list[Mapping[str, Any]]
    told: dict[str, str]


def recall(looks: Looks, releases: Mapping[str, str], known: Mapping[str, Mapping[str, Any]], of: str) -> Recall:
    """Return which secrets of now the releases of a rollback take.

    known: the references of the environment's secrets, by name. of: C(now), or C(then) for the values of then.

    Raises RollbackError for a secret that the environment does not have any more.
    """
    if of not in ("now", "then"):
        # It is not shown: it may be a secret.
        raise RollbackError("Rollback refused; nothing was changed: secrets is neither now nor then.")
    found = by_service(looks)
    names: dict[str, list[str]] = {}
    told, problems = {}, []
    for name, release in releases.items():
        kept = [item for look in found[name].values() for item in look["kept"] if item["release"] == release]
        used = [item.get("secrets") for item in kept]
        if None in used:
            told[name] = "secrets of then, since an earlier version staged it without their names"
            continue
        names[name] = sorted({secret for item in used for secret in item or ()})
        told[name] = "secrets of %s" % of if names[name] else "no secrets"
        if of == "now":
            gone = ", ".join("'%s'" % secret for secret in names[name] if secret not in known)
            if gone:
                problems.append(
                    "%s: release %s uses the secret %s, which the environment does not have any more. Add it to "
                    "platform_environment again, or go back with the values of then: -e secrets=then"
                    % (name, release, gone)
                )
    if problems:
        raise RollbackError("Rollback refused; nothing was changed:\n- %s" % "\n- ".join(problems))
    if of == "then":
        return Recall({}, [], told)
    needed = sorted({secret for secrets in names.values() for secret in secrets})
    return Recall(names, [known[secret] for secret in needed], told)


def rollback_targets(looks: Looks, services: Sequence[str] | None, to: str | None) -> dict[str, str]:
    """Return the release that each service rolls back to.

    services: those to roll back; None for the whole stack. to: a release, for one service; for several or the stack, a
    deployment, to restore what was live after it. Without it, named services roll back to their previous release, and
    the stack to its state before the last deployment.

    Raises RollbackError with every reason for refusing.
    """
    found = by_service(looks)
    problems = ["these hosts run no service '%s'" % name for name in services or () if name not in found]
    if problems:
        raise RollbackError("%s. Known services: %s." % ("; ".join(problems), ", ".join(sorted(found))))
    names = list(services if services is not None else found)
    last = last_deployment(looks)
    number = _number_of(looks, to)
    chosen: dict[str, str] = {}
    for name in names:
        wanted = {}
        broken = not to and any(look["pending"] for look in found[name].values())
        for host, look in found[name].items():
            target = _target(look, services is not None, len(names) == 1, to, number, last)
            if broken and not look["pending"] and look["live"]:
                # It has taken its own switch back, or was never switched.
                target = str(look["live"]["release"])
            if target is not None:
                wanted[host] = target
        release = next(iter(wanted.values()), "")
        if not wanted:
            continue
        if set(wanted.values()) != {release} or set(wanted) != set(found[name]):
            said = ", ".join("%s: %s" % (host, target or "none") for host, target in sorted(wanted.items()))
            problems.append(
                "%s: its hosts would roll back to different releases (%s). Choose one with -e to=" % (name, said)
            )
            continue
        problems += _refusals(name, found[name], release, last if services is None else "")
        if any(look["pending"] or look["live"].get("release") != release for look in found[name].values()):
            chosen[name] = release
    if problems:
        raise RollbackError("Rollback refused; nothing was changed:\n- %s" % "\n- ".join(problems))
    if not chosen:
        raise RollbackError(
            "Nothing to roll back to: %s. releases.yml lists the live and the kept releases."
            % ("%s is already live" % to if to else "no release before the live one is known")
        )
    return chosen


def _target(
    look: Mapping[str, Any], named: bool, alone: bool, to: str | None, number: int | None, last: str
) -> str | None:
    """Return the release that one host rolls back to; None if the rollback does not affect it.

    number: that of the deployment `to`, as `_number_of` gives it.
    """
    pending = look["pending"]
    if not look["live"] and not pending:
        return None
    history = look["history"]
    if to:
        if alone and any(to in (item["release"], item["artifact"]) for item in look["kept"]):
            return next(str(item["release"]) for item in look["kept"] if to in (item["release"], item["artifact"]))
        before = history if number is None else [entry for entry in history if int(entry.get("number", 0)) <= number]
        if not number:
            # Identifiers of deployments start with their time.
            before = [entry for entry in before if entry.get("deployment", "") <= to]
        known = any(entry.get("deployment") == to for entry in history)
        if alone and not known:
            return to
        return str(before[-1]["release"]) if before else ""
    if pending:
        return str(pending["before"]["release"])
    if not named and last and look["live"].get("deployment") != last:
        return None
    return str(look["previous"])


def _refusals(name: str, looks: Mapping[str, Mapping[str, Any]], release: str, deployment: str) -> list[str]:
    """Return why a service cannot roll back to a release."""
    if not release:
        what = "deployment %s was its first" % deployment if deployment else "it has no release before the live one"
        return ["%s: %s" % (name, what)]
    problems = []
    for host, look in sorted(looks.items()):
        if release not in [item["release"] for item in look["kept"]]:
            kept = ", ".join(item["release"] for item in look["kept"]) or "none"
            problems.append("%s: release '%s' is not kept on %s. Kept releases: %s" % (name, release, host, kept))
    # Each host recorded what ran while it was the first one.
    schema = [Migration(**item) for look in looks.values() for item in look["schema"]]
    knowing = [item["schema"] for look in looks.values() for item in look["kept"] if _has(item, release)]
    known = knowing[0] if knowing else []
    names = [item["name"] for item in known if item.get("known", True)]
    against = dict.fromkeys(obstacles(schema, names))
    if against:
        problems.append(
            "%s: the database has moved past release %s: %s removed or narrowed what it uses. Deploy code that "
            "supports the new schema instead" % (name, release, ", ".join(against))
        )
    return problems


def _has(item: Mapping[str, Any], release: str) -> bool:
    return item["release"] == release and bool(item["schema"])


def releases_table(looks: Looks, order: Iterable[str], undescribed: Looks | None = None) -> str:
    """Return the live, held, previous and kept releases of each service and host, as text.

    undescribed: {host: {service: what the module release returns}} of those that are on a host and not described there.
    """
    rows = [("service", "host", "release", "artifact", "state", "since / staged (UTC)", "by", "MB")]
    found = by_service(looks)
    more = sorted({name for names in (undescribed or {}).values() for name in names})
    for name in dict.fromkeys([*order, *more]):
        for host, look in sorted(found.get(name, {}).items()):
            beside = (undescribed or {}).get(host, {}).get(name)
            kept = [(item["release"], item["artifact"][:12], *_row(look, item)) for item in look["kept"]]
            if beside:
                kept = [(*row[:2], _beside(row, beside), *row[3:]) for row in kept or [NO_RELEASE]]
            rows += [(name, host, *row) for row in kept]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]  # noqa: B905
    timers = [
        "%s on %s: %s" % (name, host, _runs(look["timer"]))
        for name in dict.fromkeys([*order, *more])
        for host, look in sorted(found.get(name, {}).items())
        if look.get("timer")
    ]
    return "\n".join([*lines, *(["", *timers] if timers else [])])


def _runs(timer: Mapping[str, str]) -> str:
    """Say when something runs next, and how the last run ended."""
    last = "no run has ended yet"
    if timer.get("ended"):
        how = "well" if timer["result"] == "success" else "with %s (status %s)" % (timer["result"], timer["status"])
        last = "the last run, of release %s, ended %s at %s" % (timer["release"], how, timer["ended"])
    now = "a run is going on; " if timer["running"] else ""
    return "%snext run %s; %s" % (now, timer["next"] or "unknown, since its timer is stopped", last)


# Of a service that has left something else.
NO_RELEASE = ("-", "-", "", "-", "-", "-")


def _beside(row: Sequence[str], beside: Mapping[str, Any]) -> str:
    """Return the state of a release whose service is not described on its host."""
    if row == NO_RELEASE:
        return "not described: its %s" % ", ".join(beside["has"])
    if beside["retired"] and not beside["runs"]:
        return "retired" if row[0] == beside["retired"].get("release") else "kept, retired"
    return row[2] + ", not described"


def _row(look: Mapping[str, Any], item: Mapping[str, Any]) -> tuple[str, str, str, str]:
    release = item["release"]
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(item["staged"]))
    entry: Mapping[str, Any] = next((past for past in reversed(look["history"]) if past["release"] == release), {})
    state = "kept"
    if look["live"].get("release") == release:
        state, entry = "live", look["live"]
        since = entry.get("since", since)
    elif look["pending"].get("release") == release:
        state = "switched, not committed"
    elif look["previous"] == release:
        state = "previous, still running" if look["held"] else "previous"
    return state, since, entry.get("by", "-"), "%.1f" % (item["bytes"] / 1e6)
