# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Security groups of an environment: one for each service, with rules between groups from the flows. Pure.

A host has the groups of all its services. Rules refer to groups by name, never to addresses; only the public entry is
open to the internet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    Report,
    integer,
    keys,
    listed,
    table,
    text,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import MANAGED_BY
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.flows import (
    EDGE,
    HOSTS,
    INSTANCE_CONNECT,
    LOAD_BALANCER,
    WORLD,
    flows,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import aws_name, aws_tags
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import network as aws_network
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import (
    FoundError,
    elsewhere,
    foreign,
    lacks,
)

DATABASE_ACCESS, ENDPOINTS = "database-access", "endpoints"
# Further groups, whose names are reserved; those of flows are reserved anyway.
OWN = (DATABASE_ACCESS, ENDPOINTS)
EVERYBODY = "0.0.0.0/0"
HTTPS = 443

LIMIT_KEYS: dict[str, Key] = {"rules": Key(integer(1, 1000), 60), "groups": Key(integer(1, 16), 5)}

KEYS: dict[str, Key] = {
    "adopt": Key(
        table(
            text(r"[a-z][a-z0-9-]*", "a service, a database, edge or load-balancer"),
            text(r"(?!sg-)[A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]{1,255}", "the name of a security group (not its id)"),
            "a mapping such as {api: name of a group}",
        ),
        {},
    ),
    "limits": Key(keys(LIMIT_KEYS, "a mapping such as {rules: 60, groups: 5}")),
}

CHECK = keys(KEYS, "a mapping such as {adopt: {api: name of a group}}")


def limits(model: Model) -> dict[str, int]:
    """Return the quotas of the account: rules of a group per direction, groups of a host."""
    stated = model.environment["aws"]["security_groups"]["limits"] or {}
    return {key: stated.get(key) or field.default for key, field in LIMIT_KEYS.items()}


def group_name(model: Model, thing: str) -> str:
    """Return the name of the group of a service, database, edge, load-balancer and so on."""
    adopted: dict[str, str] = model.environment["aws"]["security_groups"]["adopt"] or {}
    return adopted.get(thing, aws_name(model, thing))


def on_hosts(model: Model) -> list[str]:
    """Return what hosts run: every service, and the edge."""
    return [EDGE, *model.services]


def openings(model: Model) -> list[tuple[str, str, int]]:
    """Return (source, target, port) for each rule: the flows, with every host listed, and hosts to endpoints."""
    found: list[tuple[str, str, int]] = []
    for flow in flows(model):
        targets = on_hosts(model) if flow.target == HOSTS else [flow.target]
        found.extend((flow.source, target, flow.port) for target in targets)
    if aws_network.interfaces(model):
        found.extend((source, ENDPOINTS, HTTPS) for source in on_hosts(model))
    return list(dict.fromkeys(found))


def derive(model: Model) -> dict[str, Any]:
    """Return the groups with their rules, each complete.

    The rules of a group without `rules` are managed elsewhere; one without `egress` may connect to anything: hosts
    download packages and call AWS, whose addresses cannot be listed, and inside the VPC the target's group decides.
    """
    opened = openings(model)
    things = [LOAD_BALANCER] if model.environment["tls"]["mode"] == "load_balancer" else []
    things += [*on_hosts(model), *model.servers, INSTANCE_CONNECT]
    things += [DATABASE_ACCESS] if model.databases else []
    things += [ENDPOINTS] if aws_network.interfaces(model) else []
    groups = {}
    for thing in things:
        entry: dict[str, Any] = {
            "name": group_name(model, thing),
            "thing": thing,
            "description": f"{thing} of {model.environment['name']}",
            "adopted": thing in (model.environment["aws"]["security_groups"]["adopt"] or {}),
            "tags": aws_tags(model, thing) | {"Name": aws_name(model, thing)},
        }
        if thing != DATABASE_ACCESS:
            entry["rules"] = [_rule(model, source, port) for source, target, port in opened if target == thing]
        if thing in (LOAD_BALANCER, INSTANCE_CONNECT, ENDPOINTS) or thing in model.servers:
            entry["egress"] = [_rule(model, target, port) for source, target, port in opened if source == thing]
        groups[thing] = entry
    return {"groups": groups, "environment": model.environment["name"]}


def _rule(model: Model, end: str, port: int) -> dict[str, Any]:
    """Return a rule in the format of the module, which creates a referenced group that does not exist yet."""
    if end == WORLD:
        return {"proto": "tcp", "ports": [str(port)], "cidr_ip": [EVERYBODY]}
    name = group_name(model, end)
    return {
        "proto": "tcp",
        "ports": [str(port)],
        "group_name": [name],
        "group_desc": f"{end} of {model.environment['name']}",
    }


def problems(report: Report, model: Model) -> None:
    """Require unique names, and no more rules in a group than AWS allows."""
    for name in [*model.services, *model.servers]:
        if name in OWN:
            section = next(key for key in ("services", "databases", "stores") if name in getattr(model, key))
            path = f"{section}.{name}"
            report.add(path, name, f"the security group '{name}' is already used", "Choose another name.")
    root = "platform_environment.aws.security_groups"
    known = [*model.services, *model.servers, EDGE, LOAD_BALANCER, DATABASE_ACCESS]
    adopted: dict[str, str] = model.environment["aws"]["security_groups"]["adopt"] or {}
    owners: dict[str, str] = {}
    for thing in sorted([*known, INSTANCE_CONNECT, ENDPOINTS], key=lambda item: item in adopted):
        owners.setdefault(group_name(model, thing), thing)
    for thing, name in adopted.items():
        if thing not in known:
            problem = f"unknown service or database '{thing}'"
            report.add(f"{root}.adopt.{thing}", thing, problem, f"Use one of: {listed(known)}.")
        elif owners[name] != thing:
            problem = f"this is already the group of '{owners[name]}', and groups cannot be shared"
            report.add(f"{root}.adopt.{thing}", name, problem, f"Remove it to create '{aws_name(model, thing)}'.")
    most = limits(model)["rules"]
    opened = openings(model)
    for side, direction in ((1, "in"), (0, "out")):
        ends = [item[side] for item in opened if side or item[side] in (LOAD_BALANCER, INSTANCE_CONNECT)]
        for end in dict.fromkeys(ends):
            count = ends.count(end)
            if end != WORLD and count > most:
                report.add(
                    f"{root}.limits.rules",
                    most,
                    f"the security group of '{end}' would have {count} rules for what goes {direction}",
                    f"Let fewer services need it; or have AWS raise the quota 'rules per security group', and set "
                    f"rules: {count}.",
                )


# --- compare with AWS ----------------------------------------------------------


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ids of the groups by name and, once the interfaces are looked up, what to do about the groups.

    there: C(groups) of the VPC; then C(interfaces), the network interfaces that have a group to delete,
    and C(remove), the names of these groups.
    """
    found: dict[str, Any] = {"ids": ids(derived, there["groups"])}
    if "interfaces" in there:
        found |= compare(derived, there["groups"], there["remove"], there["interfaces"])
    return found


def compare(
    derived: Mapping[str, Any],
    there: Sequence[Mapping[str, Any]],
    remove: Iterable[str] = (),
    interfaces: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return what to do about the groups of a VPC.

    there: all groups of the VPC, as the info module returns them. remove: names of groups to delete; interfaces: the
    network interfaces that have one of these. Returns make (groups to create or to tag again), change (groups whose
    rules differ, with `differs` as text), remove, and notices.
    """
    by_name = {group["group_name"]: group for group in there}
    wanted = list(derived["groups"].values())
    _refuse_foreign(wanted, by_name)
    make, change, notices = [], [], []
    for group in wanted:
        added, surplus = _differs(group, by_name)
        if group["adopted"] and surplus:
            notices.append(f"security group {group['name']} is adopted and keeps {', '.join(surplus)}")
        words = [f"+ {line}" for line in added] + [f"- {line}" for line in surplus if not group["adopted"]]
        found = by_name.get(group["name"])
        if not found or (not group["adopted"] and lacks(found["tags"], group["tags"])):
            make.append({**group, "differs": words})
        if words:
            change.append({**group, "differs": words})
    names = {group["name"] for group in wanted}
    removed = _removable(list(remove), names, by_name, interfaces)
    notices += [
        f"security group {name} does not belong to anything in the catalogue; to delete it: -e remove={name}"
        for name, group in by_name.items()
        if group["tags"].get("ManagedBy") == MANAGED_BY
        and group["tags"].get("Environment") == derived["environment"]
        and name not in names
        and name not in removed
    ]
    return {"make": make, "change": change, "remove": removed, "notices": notices}


def _refuse_foreign(wanted: Sequence[Mapping[str, Any]], by_name: Mapping[str, Mapping[str, Any]]) -> None:
    for group in wanted:
        found = by_name.get(group["name"])
        if group["adopted"] and not found:
            raise FoundError(
                f"aws.security_groups.adopt.{group['thing']}: group '{group['name']}' not found in the VPC. Correct "
                "the name, or remove the line to create a group."
            )
    refuse_taken(wanted, by_name)


def ids(derived: Mapping[str, Any], there: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the ids of groups by name; reject names of others' groups."""
    by_name = {group["group_name"]: group for group in there}
    refuse_taken(derived["groups"].values(), by_name)
    return {name: str(group["group_id"]) for name, group in by_name.items()}


def refuse_taken(wanted: Iterable[Mapping[str, Any]], by_name: Mapping[str, Mapping[str, Any]]) -> None:
    """Reject groups of others, and of other environments."""
    for group in wanted:
        found = by_name.get(group["name"])
        if not found:
            continue
        other = elsewhere(found["tags"], group["tags"]["Environment"])
        if other:
            raise FoundError(
                f"The security group {found['group_id']} is named '{group['name']}' and {other}. Rename "
                f"'{group['thing']}' in the catalogue, or use separate VPCs for the environments."
            )
        reason = "" if group["adopted"] else foreign(found["tags"], group["tags"])
        if reason:
            raise FoundError(
                f"The security group {found['group_id']} is named '{group['name']}' and {reason}. Adopt it with "
                f"aws.security_groups.adopt: {{{group['thing']}: {group['name']}}}: rules are added, and none are "
                "removed. Or add the tag: then its rules are replaced with those of the catalogue."
            )


def _differs(group: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the missing and the surplus rules of a group, as text."""
    found = by_name.get(group["name"], {})
    names = {entry["group_id"]: name for name, entry in by_name.items()}
    added, surplus = [], []
    for key, permissions, direction in (
        ("rules", "ip_permissions", "from"),
        ("egress", "ip_permissions_egress", "to"),
    ):
        if key not in group:
            continue
        wanted = {f"tcp {rule['ports'][0]} {direction} {_end(rule)}" for rule in group[key]}
        actual = {line for item in found.get(permissions, []) for line in _lines(item, direction, names)}
        added += sorted(wanted - actual)
        surplus += sorted(actual - wanted)
        if not found and not wanted and key == "egress":
            added.append("no egress")
    return added, surplus


def _end(rule: Mapping[str, Any]) -> str:
    return str(rule.get("group_name", rule.get("cidr_ip"))[0])


def _lines(item: Mapping[str, Any], direction: str, names: Mapping[str, str]) -> list[str]:
    """Return a permission of the API as one line for each source."""
    first, last = item.get("from_port"), item.get("to_port")
    protocol = "all" if item["ip_protocol"] == "-1" else str(item["ip_protocol"])
    ports = "" if first is None or protocol == "all" else f" {first}" if first == last else f" {first}-{last}"
    ends = [str(names.get(pair.get("group_id"), pair.get("group_id"))) for pair in item.get("user_id_group_pairs", [])]
    ends += [str(entry["cidr_ip"]) for entry in item.get("ip_ranges", [])]
    ends += [str(entry["cidr_ipv6"]) for entry in item.get("ipv6_ranges", [])]
    ends += [str(entry["prefix_list_id"]) for entry in item.get("prefix_list_ids", [])]
    return [f"{protocol}{ports} {direction} {end}" for end in ends]


def _removable(
    names: Sequence[str],
    wanted: set[str],
    by_name: Mapping[str, Mapping[str, Any]],
    interfaces: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Return the groups to delete; reject those that are not ours, still needed, or in use."""
    for name in names:
        found = by_name.get(name)
        if not found:
            raise FoundError(f"remove: security group '{name}' not found in the VPC. It has: {listed(by_name)}.")
        if found["tags"].get("ManagedBy") != MANAGED_BY:
            raise FoundError(
                f"remove: '{name}' was created by others (no tag ManagedBy={MANAGED_BY}), so delete it there."
            )
        if name in wanted:
            raise FoundError(
                f"remove: the catalogue needs '{name}'. Remove its service or database from the catalogue first."
            )
        users = [
            other
            for other, entry in by_name.items()
            if other != name
            for key in ("ip_permissions", "ip_permissions_egress")
            for item in entry.get(key, [])
            for pair in item.get("user_id_group_pairs", [])
            if pair.get("group_id") == found["group_id"]
        ]
        users += [
            str(interface["id"])
            for interface in interfaces
            if any(group["group_id"] == found["group_id"] for group in interface["groups"])
        ]
        if users:
            raise FoundError(f"remove: '{name}' is in use by {listed(dict.fromkeys(users))}. Detach it first.")
    return list(names)
