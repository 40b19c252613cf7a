# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The layer `dns`: the names of the catalogue, in a zone that is created or adopted. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    integer,
    items,
    keys,
    optional,
    text,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import MANAGED_BY, tagged_services
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.read import domain_of
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import names
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import load_balancer as aws_load_balancer
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import FoundError

KEYS: dict[str, Key] = {
    "zone": Key(optional(values.zone)),
    "replace": Key(items(text(r"(?:\*\.)?[a-z0-9.-]+", "a name such as api.example.com"), "a list of names"), []),
    "ttl": Key(integer(1, 86400), 300),
}
CHECK = keys(KEYS, "a mapping such as {zone: Z0123456789ABCDEFGHIJ}")


def derive(model: Model) -> dict[str, Any]:
    """Return the C(zones), one for each domain: C(zone) (an id, or empty if one is created) and C(domain).

    Each has the C(names) below its domain, which point to the edges.
    """
    settings = model.environment["aws"]["dns"]
    further = model.environment["domains"]
    zones = {model.environment["domain"]: settings["zone"], **{name: item["zone"] for name, item in further.items()}}
    root = "platform_environment"
    public = [host["server_name"] for host in plans.virtual_hosts(model)]
    return {
        "zones": [
            {
                "zone": stated or "",
                # Where the id is stated.
                "key": f"{root}.domains.{domain}.zone" if domain in further else f"{root}.aws.dns.zone",
                "domain": domain,
                "names": [name for name in public if domain_of(name, zones) == domain],
            }
            for domain, stated in zones.items()
        ],
        # Identifies zones that were created here: AWS includes the comment in the list of zones.
        "comment": f"{model.environment['name']}, made by {MANAGED_BY}",
        "replace": settings["replace"],
        "ttl": settings["ttl"],
        "load_balancer": model.environment["tls"]["mode"] == "load_balancer",
        "tags": names.aws_tags(model, "edge"),
    }


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return a domain's C(zone) and, once its records are looked up, the C(records) and which of them to C(write).

    there: the C(domain), C(zones) that route53_info found for it; then the C(records) of the zone, the environment's
    C(instances), the C(certificates) of the region, and the C(load_balancer) (empty if there is none).
    """
    (own,) = (item for item in derived["zones"] if item["domain"] == there["domain"])
    wanted = {**derived, **own}
    found: dict[str, Any] = {"zone": zone(there["zones"], wanted)}
    if "records" in there:
        edges = [
            item
            for item in there["instances"]
            if item["state"]["name"] == "running" and "edge" in tagged_services(item.get("tags"))
        ]
        pending = [item for item in there["certificates"] if item["status"] == "PENDING_VALIDATION"]
        balanced = derived["load_balancer"]
        found["records"] = records(wanted, there["load_balancer"], [] if balanced else edges, pending)
        found["write"] = differing_records(found["records"], there["records"], derived["ttl"])
    return found


def validation_records(certificates: Iterable[Mapping[str, Any]], names: Iterable[str]) -> list[dict[str, str]]:
    """Return the records that validate the domain for ACM, for pending certificates that cover one of the names.

    certificates: what acm_certificate_info found. names: those of the environment.
    """
    wanted = list(names)
    found = {}
    for certificate in certificates:
        for option in certificate.get("domain_validation_options") or []:
            record = option.get("resource_record")
            stated = [option["domain_name"]]
            if record and any(aws_load_balancer.covers(stated, name) for name in wanted):
                found[record["name"]] = {key: record[key] for key in ("name", "type", "value")}
    return list(found.values())


def zone(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return C(id) (empty if it must be created), C(name), and whether it is C(ours) to create and change.

    found: what route53_info found: the configured zone, or those from the domain's name on.
    """
    domain = wanted["domain"]
    if wanted["zone"]:
        name = str(found["HostedZone"]["Name"]).rstrip(".")
        if domain != name and not domain.endswith(f".{name}"):
            raise FoundError(
                f"{wanted['key']} is {wanted['zone']}, the zone of {name}, but the domain is {domain}: write the id of "
                "the zone that contains it."
            )
        return {"id": wanted["zone"], "name": name, "ours": False}
    zones = [
        item
        for item in found["HostedZones"]
        if item["Name"] == f"{domain}." and not item.get("Config", {}).get("PrivateZone")
    ]
    if not zones:
        return {"id": "", "name": domain, "ours": True}
    made = [item for item in zones if item.get("Config", {}).get("Comment") == wanted["comment"]]
    if len(made) == len(zones) == 1:
        return {"id": made[0]["Id"].rsplit("/", 1)[-1], "name": domain, "ours": True}
    ids = ", ".join(item["Id"].rsplit("/", 1)[-1] for item in zones)
    raise FoundError(
        f"A zone for {domain} already exists that was not created here: {ids}. Set which one to use: {wanted['key']}."
    )


def records(
    wanted: Mapping[str, Any],
    load_balancer: Mapping[str, Any],
    edges: Iterable[Mapping[str, Any]],
    certificates: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the records in the format of route53: for the names, and for certificates pending validation.

    load_balancer: what elb_application_lb_info found, or empty. edges: what ec2_instance_info found.
    """
    found: list[dict[str, Any]] = []
    addresses = sorted(item["public_ip_address"] for item in edges if item.get("public_ip_address"))
    target: dict[str, Any] = {"type": "A", "value": addresses, "alias": False, "alias_hosted_zone_id": ""}
    if load_balancer:
        target["value"] = [f"{load_balancer['dns_name'].lower()}."]
        target |= {"alias": True, "alias_hosted_zone_id": load_balancer["canonical_hosted_zone_id"]}
    if target["value"]:
        found += [{"name": name, **target} for name in wanted["names"]]
    for record in validation_records(certificates, wanted["names"]):
        name, value = record["name"].rstrip("."), record["value"]
        entry = {"name": name, "type": record["type"], "value": [value]}
        found.append({**entry, "alias": False, "alias_hosted_zone_id": ""})
    return found


def differing_records(
    wanted: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]], ttl: int
) -> list[Mapping[str, Any]]:
    """Return the records to write: those that are missing or differ. there: what route53_info found."""
    # Route 53 returns a wildcard's star as its octal code.
    has = {(item["name"].replace(r"\052", "*").rstrip("."), item["type"]): item for item in there}
    return [item for item in wanted if not _same(item, has.get((item["name"], item["type"]), {}), ttl)]


def _same(wanted: Mapping[str, Any], found: Mapping[str, Any], ttl: int) -> bool:
    if wanted["alias"]:
        alias = found.get("alias_target") or {}
        return (alias.get("dns_name"), alias.get("hosted_zone_id"), alias.get("evaluate_target_health")) == (
            wanted["value"][0],
            wanted["alias_hosted_zone_id"],
            True,
        )
    values = sorted(item["value"] for item in found.get("resource_records") or [])
    return (found.get("ttl"), values) == (ttl, sorted(wanted["value"]))
