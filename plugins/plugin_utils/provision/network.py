# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The network of an environment: a VPC with public and private subnets in two zones, or an existing one. Pure.

Hosts and databases are in private subnets, the load balancer is in public ones. A VPC that is set in the
configuration is used as it is: this layer creates and changes nothing in it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Check,
    Key,
    Report,
    choice,
    items,
    keys,
    refuse_type,
    text,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import MANAGED_BY
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import aws_name, aws_tags
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import FoundError, lacks

ZONES = 2
# The VPC is divided into sixteen: two public parts, two private ones, and twelve for other uses.
PARTS = 4
# AWS services that hosts call. With a NAT gateway they need no endpoints, which cost money by the hour.
INTERFACES = ("ssm", "ssmmessages", "ec2messages", "logs", "monitoring", "secretsmanager")


def vpc_network(report: Report, path: str, value: Any) -> str | None:
    """Check the addresses of a VPC: large enough for sixteen subnets that AWS accepts."""
    try:
        found = ipaddress.IPv4Network(value if isinstance(value, str) else "")
    except ValueError:
        found = ipaddress.IPv4Network("0.0.0.0/0")
    if 16 <= found.prefixlen <= 24 and found.is_private:
        return str(found)
    report.add(
        path, value, "this is not a valid network for a VPC", "Write a private one from /16 to /24: 10.20.0.0/16."
    )
    return None


def reference(pattern: str, example: str, several: bool = False) -> Check:
    """Check a reference to existing resources: an id (or a list of ids), or the tags to find them by."""
    one = text(pattern, f"an id such as {example}, or tags such as {{Name: main}}")

    def check(report: Report, path: str, value: Any) -> Any:
        if isinstance(value, dict) and value and all(isinstance(item, str) for item in value.values()):
            return {str(key): item for key, item in value.items()}
        if several and isinstance(value, list) and value:
            return items(one, "a list of ids")(report, path, value) or None
        if several or not isinstance(value, str):
            one_of = "a list" if several else "a string"
            wanted = f"{'a list of ids' if several else 'an id'} ({example}), or tags"
            refuse_type(report, path, value, f"{one_of} or a mapping", wanted)
            return None
        return one(report, path, value)

    return check


SUBNET_KEYS: dict[str, Key] = {
    kind: Key(
        reference(r"subnet-[0-9a-f]{8,17}", "subnet-0abc12345678def01", several=True),
        required=True,
        hint=f"Add the ids of the {kind} subnets, or the tags to find them by.",
    )
    for kind in ("public", "private")
}

KEYS: dict[str, Key] = {
    "cidr": Key(vpc_network, "10.20.0.0/16"),
    "zones": Key(items(text(r"[a-z]{2}(?:-[a-z]+)+-\d[a-z]", "a zone such as ap-northeast-2a"), "a list of zones"), []),
    "nat": Key(choice(("one", "each_zone", "none"), "a valid kind of NAT"), "one"),
    "endpoints": Key(items(choice(INTERFACES, "an endpoint"), "a list such as [ssm, logs]")),
    "vpc": Key(reference(r"vpc-[0-9a-f]{8,17}", "vpc-0abc12345678def01")),
    "subnets": Key(keys(SUBNET_KEYS, "a mapping with public and private")),
}


def CHECK(report: Report, path: str, value: Any) -> dict[str, Any] | None:  # noqa: N802 - a check, like the others
    """Check the settings of the network: how to create it, or what to use instead."""
    checked = keys(KEYS, "a mapping such as {cidr: 10.20.0.0/16}")(report, path, value)
    if checked is None:
        return None
    if ("vpc" in value) != ("subnets" in value):
        missing, stated = ("subnets", "vpc") if "vpc" in value else ("vpc", "subnets")
        fix = "Add it, to use an existing network; or remove both, to create one."
        report.add(f"{path}.{missing}", None, f"'{stated}' is set without '{missing}'", fix)
    if "vpc" in value:
        for key in ("cidr", "zones", "nat", "endpoints"):
            if key in value:
                problem = f"'{key}' is not supported for an existing VPC, which is used as it is"
                report.add(f"{path}.{key}", value[key], problem, "Remove it, or remove 'vpc' and 'subnets'.")
    if checked["zones"] and len(set(checked["zones"])) != ZONES:
        report.add(f"{path}.zones", checked["zones"], "the subnets need two zones", "Write two different zones.")
    return checked


def settings(model: Model) -> dict[str, Any]:
    """Return the checked settings of the network."""
    found: dict[str, Any] = model.environment["aws"]["network"]
    return found


def subnets(model: Model) -> list[dict[str, Any]]:
    """Return the subnets to create: public and private, one in each zone. `zone` counts from 0."""
    parts = list(ipaddress.ip_network(settings(model)["cidr"]).subnets(PARTS))
    return [
        {
            "name": aws_name(model, f"{kind}-{zone + 1}"),
            "kind": kind,
            "zone": zone,
            "cidr": str(parts[first + zone]),
            "tags": aws_tags(model) | {"Name": aws_name(model, f"{kind}-{zone + 1}")},
        }
        for kind, first in (("public", 0), ("private", ZONES))
        for zone in range(ZONES)
    ]


def interfaces(model: Model) -> list[str]:
    """Return the endpoints through which hosts reach AWS: all by default, if there is no NAT gateway."""
    network = settings(model)
    if network["vpc"]:
        return []
    if network["endpoints"] is None:
        return list(INTERFACES) if network["nat"] == "none" else []
    return list(dict.fromkeys(network["endpoints"]))


def derive(model: Model) -> dict[str, Any]:
    """Return the VPC with all its parts; for an existing one, only how to find it."""
    network = settings(model)
    if network["vpc"]:
        return {
            "adopted": True,
            "vpc_filters": _filters("vpc-id", network["vpc"]),
            "kinds": network["subnets"],
            "subnets": [],
        }
    made = subnets(model)
    names = {kind: [item["name"] for item in made if item["kind"] == kind] for kind in ("public", "private")}
    ways = {"one": 1, "each_zone": ZONES, "none": 0}[network["nat"]]
    region = model.environment["region"]
    tables: list[dict[str, Any]] = [{"name": "public", "subnets": names["public"], "way": "internet"}]
    for zone, name in enumerate(names["private"]):
        tables.append({"name": f"private-{zone + 1}", "subnets": [name], "way": min(zone, ways - 1) if ways else ""})
    return {
        "adopted": False,
        "name": model.environment["name"],
        "cidr": network["cidr"],
        "tags": aws_tags(model),
        "vpc_filters": {"tag:Name": model.environment["name"], "cidr": network["cidr"]},
        "kinds": {kind: [item["cidr"] for item in made if item["kind"] == kind] for kind in names},
        "zones": network["zones"],
        "subnets": made,
        "nat": [
            {
                "name": aws_name(model, f"nat-{zone + 1}"),
                "zone": zone,
                "tags": aws_tags(model) | {"Name": aws_name(model, f"nat-{zone + 1}")},
            }
            for zone in range(ways)
        ],
        "route_tables": [
            {
                **table,
                "name": aws_name(model, table["name"]),
                "tags": aws_tags(model) | {"Name": aws_name(model, table["name"])},
            }
            for table in tables
        ],
        "endpoints": [
            {
                "name": aws_name(model, service),
                "service": f"com.amazonaws.{region}.{service}",
                "type": "Gateway" if service == "s3" else "Interface",
                "tags": aws_tags(model) | {"Name": aws_name(model, service)},
            }
            for service in ["s3", *interfaces(model)]
        ],
        "endpoints_group": aws_name(model, "endpoints") if interfaces(model) else "",
    }


def _filters(key: str, value: str | Mapping[str, str]) -> dict[str, str]:
    return {key: value} if isinstance(value, str) else {f"tag:{name}": item for name, item in value.items()}


# --- compare with AWS ----------------------------------------------------------


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network as AWS has it, and which parts of it to create or fix.

    there: C(vpcs) found by its filters, and the C(subnets) of that VPC; later also its C(nat_gateways),
    C(route_tables) and C(endpoints), as the info modules return them.
    Returns what C(existing) returns, and for each later key the resources of that name to create or fix.
    """
    found = existing(derived, there["vpcs"], there["subnets"])
    if "nat_gateways" in there:
        found["nat_gateways"] = missing_nat_gateways(derived, found, there["nat_gateways"])
    if "route_tables" in there:
        found["route_tables"] = missing_route_tables(derived, found, there["nat_gateways"], there["route_tables"])
    if "endpoints" in there:
        found["endpoints"] = missing_endpoints(derived, there["endpoints"])
    return found


def existing(
    derived: Mapping[str, Any], vpcs: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the VPC and its subnets as AWS has them, with what is missing.

    derived: the result of `derive`. vpcs: those found by its filters. there: all subnets of that VPC.
    Returns vpc (empty if it must be created), public and private (ids in the order of the zones), zones (of the private
    ones), and missing: the subnets to create or to tag.
    """
    where = ", ".join(f"{key}={value}" for key, value in derived["vpc_filters"].items())
    if len(vpcs) > 1:
        several = ", ".join(str(vpc["vpc_id"]) for vpc in vpcs)
        raise FoundError(
            f"{len(vpcs)} VPCs have {where}: {several}. Set the one to use: aws.network.vpc: {vpcs[0]['vpc_id']}."
        )
    if derived["adopted"]:
        if not vpcs:
            raise FoundError(f"aws.network.vpc: no VPC has {where}. Correct it, or remove it to create one.")
        return {"vpc": vpcs[0]["vpc_id"], "missing": [], **_adopted(derived["kinds"], there, vpcs[0]["vpc_id"])}
    if not vpcs:
        return {"vpc": "", "public": [], "private": [], "zones": [], "missing": derived["subnets"]}
    if vpcs[0]["tags"].get("ManagedBy") != MANAGED_BY:
        raise FoundError(
            f"The VPC {vpcs[0]['vpc_id']} has {where}, but not the tag ManagedBy={MANAGED_BY}, so it was created "
            "by others. Set another aws.network.cidr; use it as it is with aws.network.vpc and aws.network.subnets; "
            "or add the tag, if it was lost."
        )
    by_cidr = {subnet["cidr_block"]: subnet for subnet in there}
    ids = {kind: [by_cidr[cidr]["id"] for cidr in cidrs if cidr in by_cidr] for kind, cidrs in derived["kinds"].items()}
    return {
        "vpc": vpcs[0]["vpc_id"],
        **ids,
        "zones": [by_cidr[cidr]["availability_zone"] for cidr in derived["kinds"]["private"] if cidr in by_cidr],
        "missing": [
            subnet
            for subnet in derived["subnets"]
            if subnet["cidr"] not in by_cidr or lacks(by_cidr[subnet["cidr"]]["tags"], subnet["tags"])
        ],
    }


def _adopted(kinds: Mapping[str, Any], there: Sequence[Mapping[str, Any]], vpc: str) -> dict[str, list[str]]:
    """Return the existing subnets of each kind, by the configured ids or tags."""
    chosen: dict[str, list[Mapping[str, Any]]] = {}
    for kind, wanted in kinds.items():
        if isinstance(wanted, Mapping):
            chosen[kind] = [subnet for subnet in there if not lacks(subnet["tags"], wanted)]
        else:
            chosen[kind] = [subnet for name in wanted for subnet in there if subnet["id"] == name]
            missing = set(wanted) - {subnet["id"] for subnet in chosen[kind]}
            if missing:
                raise FoundError(f"aws.network.subnets.{kind}: {vpc} has no {', '.join(sorted(missing))}. Correct it.")
        zones = _zones(chosen[kind])
        if len(set(zones)) < ZONES:
            raise FoundError(
                f"aws.network.subnets.{kind}: found {[subnet['id'] for subnet in chosen[kind]]} in the zones {zones}; "
                "the load balancer and the database need subnets in two zones. Set at least one of each zone."
            )
    return {
        **{kind: [str(subnet["id"]) for subnet in found] for kind, found in chosen.items()},
        "zones": _zones(chosen["private"]),
    }


def _zones(found: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(subnet["availability_zone"]) for subnet in found]


def missing_nat_gateways(
    derived: Mapping[str, Any], network: Mapping[str, Any], there: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the NAT gateways to create or to tag, each with its `subnet`. there: the active ones of the VPC."""
    by_subnet = {nat["subnet_id"]: nat for nat in there}
    wanted = [{**nat, "subnet": network["public"][nat["zone"]]} for nat in derived["nat"]]
    return [
        nat
        for nat in wanted
        if nat["subnet"] not in by_subnet or lacks(by_subnet[nat["subnet"]].get("tags", {}), nat["tags"])
    ]


def missing_route_tables(
    derived: Mapping[str, Any],
    network: Mapping[str, Any],
    nats: Sequence[Mapping[str, Any]],
    there: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the route tables to create or to change, each with `id` (empty if it is new), `subnet_ids` and `routes`.

    A table is identified by its name, or by one of its subnets. Routes and subnets that others added are kept.
    """
    by_subnet = {nat["subnet_id"]: nat["nat_gateway_id"] for nat in nats}
    ids = {f"{kind}-{zone + 1}": name for kind in ("public", "private") for zone, name in enumerate(network[kind])}
    differing = []
    for table in derived["route_tables"]:
        subnet_ids = [ids[name[len(derived["name"]) + 1 :]] for name in table["subnets"]]
        way = {"internet": "igw", "": ""}.get(table["way"]) if isinstance(table["way"], str) else None
        if way is None:
            way = by_subnet[network["public"][table["way"]]]
        served = {
            entry["route_table_id"]: {item.get("subnet_id") for item in entry["associations"]}
            for entry in there
            if entry["tags"].get("Name") == table["name"] or entry["tags"].get("ManagedBy") == MANAGED_BY
        }
        found = next(
            (
                entry
                for entry in there
                if entry["tags"].get("Name") == table["name"]
                or served.get(entry["route_table_id"], set()) & {*subnet_ids}
            ),
            None,
        )
        if (
            found is None
            or lacks(found["tags"], table["tags"])
            or not {*subnet_ids} <= served.get(found["route_table_id"], set())
            or (way and not any(_leads(route, way) for route in found["routes"]))
        ):
            routes = [{"dest": "0.0.0.0/0", "gateway_id": way}] if way else []
            identity = found["route_table_id"] if found else ""
            differing.append({**table, "id": identity, "subnet_ids": subnet_ids, "routes": routes})
    return differing


def _leads(route: Mapping[str, Any], way: str) -> bool:
    """Return whether a default route points to a gateway; `igw` means the internet gateway of the VPC."""
    gateway = str(route.get("nat_gateway_id") or route.get("gateway_id") or "")
    ends_there = gateway.startswith("igw-") if way == "igw" else gateway == way
    return route.get("destination_cidr_block") == "0.0.0.0/0" and route.get("state") == "active" and ends_there


def missing_endpoints(derived: Mapping[str, Any], there: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the endpoints to create or to tag. there: those of the VPC, whose tags are a list of key and value."""
    tags = {
        endpoint["service_name"]: {tag["key"]: tag["value"] for tag in endpoint.get("tags") or []} for endpoint in there
    }
    return [
        endpoint
        for endpoint in derived["endpoints"]
        if endpoint["service"] not in tags or lacks(tags[endpoint["service"]], endpoint["tags"])
    ]
