# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Services that are on hosts and not described there: what to say of them, and which to retire. Pure functions.

`found`: {host: {service: what the module release returns as undescribed}}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Found = Mapping[str, Mapping[str, Mapping[str, Any]]]

COMMAND = "ansible-playbook playbooks/retire.yml -e retire="
PURGE = " -e purge=true"


class RetirementError(Exception):
    """A refused retirement. The text gives the reason and the fix."""


def by_service(found: Found) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return what hosts have that is not described there, by service and host."""
    services: dict[str, dict[str, Mapping[str, Any]]] = {}
    for host, names in sorted(found.items()):
        for name, item in names.items():
            services.setdefault(name, {})[host] = item
    return dict(sorted(services.items()))


def described_for(plan: Mapping[str, Any], name: str) -> str:
    """Return, in words, where a service is described, or the edge."""
    if name not in plan["services"] and name != "edge":
        return "is not in the catalogue"
    return "is described for %s only" % _hosts(plan, name)


def _hosts(plan: Mapping[str, Any], name: str) -> str:
    return ", ".join(host for host, entry in plan["hosts"].items() if name in entry["described"]) or "no host"


def remarks(found: Found, plan: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each service that is on hosts which do not have it in the plan, with what to do.

    Retired services are left out: they are as somebody wanted them.
    """
    lines = []
    for name, hosts in by_service(found).items():
        running = {host: item for host, item in hosts.items() if item["runs"]}
        remains = [host for host, item in hosts.items() if not item["runs"] and not item["retired"]]
        if running:
            what = ", ".join(dict.fromkeys(thing for item in running.values() for thing in item["has"]))
            lines.append(
                "%s %s, and is still on %s (%s). Retire it: %s%s"
                % (name, described_for(plan, name), ", ".join(map(_where, running.items())), what, COMMAND, name)
            )
        if remains:
            what = ", ".join(dict.fromkeys(thing for host in remains for thing in hosts[host]["has"]))
            lines.append(
                "%s %s, and %s still has its %s. Remove that: %s%s%s"
                % (name, described_for(plan, name), ", ".join(remains), what, COMMAND, name, PURGE)
            )
    return lines


def refuse_timers(found: Found, plan: Mapping[str, Any], selected: Sequence[str] | None = None) -> None:
    """Raise RetirementError for a service that runs by a schedule and would do so on two hosts.

    selected: the services that are deployed; None for all.
    """
    for name, hosts in by_service(found).items():
        there = [host for host, item in hosts.items() if "timer" in item["has"]]
        if not there or (selected is not None and name not in selected):
            continue
        if plan["services"].get(name, {}).get("schedule"):
            raise RetirementError(
                "%s %s, and its timer is still on %s: it would run on both. Nothing was deployed. Retire it there "
                "first: %s%s" % (name, described_for(plan, name), ", ".join(there), COMMAND, name)
            )


def _where(entry: tuple[str, Mapping[str, Any]]) -> str:
    host, item = entry
    release = "release %s" % item["release"] if item["release"] else "no release"
    return "%s with %s%s" % (host, release, " since %s" % item["since"] if item["since"] else "")


def choose(
    found: Found,
    upstreams: Mapping[str, Mapping[str, Sequence[str]]],
    plan: Mapping[str, Any],
    names: Sequence[str],
    back: bool = False,
    purge: bool = False,
) -> dict[str, Any]:
    """Return what to do: C(phase), C(hosts) ({host: [{name: service}]}), and C(lines), the same in words.

    C(releases) are those to bring back ({host: {service: release}}). Nothing is left to do if C(hosts) is empty.

    upstreams: {host: {upstream: servers}}, where the hosts' nginx sends requests.

    Raises RetirementError with every reason for refusing.
    """
    if not names:
        raise RetirementError("retire: no service is given. Write -e retire=NAME. %s" % _known(found))
    if back and purge:
        raise RetirementError("retire: write -e back=true or -e purge=true, not both.")
    services = by_service(found)
    chosen: dict[str, list[str]] = {}
    releases: dict[str, dict[str, str]] = {}
    lines, problems = [], []
    for name in dict.fromkeys(names):
        if name not in services:
            problems.append(_unknown(name, found, plan))
            continue
        for host, item in services[name].items():
            problem, line = "", "%s on %s: nothing to do, it %s" % (name, host, _state(item))
            later = _timer_went(services[name], host) if back else ""
            if later:
                line = "%s on %s: nothing to do, its timer went to %s afterwards" % (name, host, later)
            elif back and item["retired"]:
                release = item["retired"].get("release", "")
                releases.setdefault(host, {})[name] = release
                line = "%s on %s: bring back release %s" % (name, host, release)
                if item["retired"].get("timer") and name in plan["services"]:
                    problem = "its timer runs for %s, and it would run twice" % _hosts(plan, name)
                if not release or "releases" not in item["has"]:
                    problem = "it had no release there. Deploy it again, from a catalogue that has it"
            elif back and not item["runs"]:
                problem = "it was not retired there, so there is nothing to bring back"
            elif purge and item["runs"]:
                problem = "it still runs there. Retire it first: %s%s" % (COMMAND, name)
            elif purge or (not back and item["runs"]):
                line = "%s on %s: remove its %s" % (name, host, ", ".join(_removed(item, purge)))
                problem = _asked(name, host, upstreams, plan)
            if problem:
                problems.append("%s on %s: %s." % (name, host, problem))
            elif "nothing to do" not in line:
                chosen.setdefault(host, []).append(name)
            lines.append(line)
    if problems:
        raise RetirementError("Refused; nothing was changed:\n- %s" % "\n- ".join(problems))
    phase = "back" if back else "purge" if purge else "retire"
    hosts = {host: [{"name": name} for name in names] for host, names in chosen.items()}
    return {"phase": phase, "hosts": hosts, "releases": releases, "lines": lines}


def _timer_went(hosts: Mapping[str, Mapping[str, Any]], host: str) -> str:
    """Return which host had the timer of a retired service after this one; empty if none had, or it has none."""
    ended = {other: item["retired"].get("since", "") for other, item in hosts.items() if item["retired"].get("timer")}
    last = max(ended, key=lambda other: (ended[other], other), default=host)
    return last if host in ended and last != host else ""


def _state(item: Mapping[str, Any]) -> str:
    if item["runs"]:
        return "runs"
    if item["retired"]:
        return "was retired at %s" % item["retired"].get("since", "a time that is not known")
    return "does not run"


def _removed(item: Mapping[str, Any], purge: bool) -> list[str]:
    kept = ("releases", "state", "data", "cache", "user")
    return [what for what in item["has"] if (what in kept) == purge]


def _asked(name: str, host: str, upstreams: Mapping[str, Mapping[str, Sequence[str]]], plan: Mapping[str, Any]) -> str:
    """Return why a service must not be stopped on a host: the nginx of others sends requests there."""
    address = plan["hosts"][host]["address"]
    asking = []
    for other, found in sorted(upstreams.items()):
        # Nobody asks a host that no longer is an edge, or runs nothing, and site.yml leaves its nginx as it is.
        names = ["edge_" + name] if plan["hosts"][other]["edge"] else []
        names += ["internal_" + name] if plan["hosts"][other]["services"] else []
        if any(server.rpartition(":")[0] == address for upstream in names for server in found.get(upstream, ())):
            asking.append(other)
    if not asking:
        return ""
    return "nginx on %s still sends requests there. Run playbooks/site.yml first, which points it elsewhere" % (
        ", ".join(asking)
    )


def _unknown(name: str, found: Found, plan: Mapping[str, Any]) -> str:
    if name in plan["services"] or name == "edge":
        return (
            "'%s' is described for %s, and is on no other host. To retire it, remove it from the catalogue, or from "
            "the tag Services of a host, and run playbooks/site.yml." % (name, _hosts(plan, name))
        )
    return "'%s' is neither in the catalogue nor on any of the hosts. %s" % (name, _known(found))


def _known(found: Found) -> str:
    names = ", ".join(by_service(found))
    return "These are on hosts that are not to run them: %s." % names if names else "There is nothing to retire."
