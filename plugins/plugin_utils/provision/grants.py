# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Temporary database access: validates requests, and reads the rules that say who has access.

A grant is a rule in a dedicated security group. The rule's description contains its owner, end and reason, so that
anyone who sees the group knows them, and no file or controller has to remember them. Pure functions.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Union

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Problem, Report, listed
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import tagged_services
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import ENGINES
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import database_access

ACTIONS = ("tunnel", "grant", "list", "revoke", "sweep")
REVOKE = "arn:aws:scheduler:::aws-sdk:ec2:revokeSecurityGroupIngress"
TUNNEL = "Use the tunnel, which needs no address: -e access=tunnel."
# Characters that EC2 accepts in a rule's description, and its maximum length.
CHARACTERS = r"[A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]"
LONGEST = 255
DESCRIPTION = re.compile(r"owner=(\S+) until=(\d{4}-\d\d-\d\dT\d\d:\d\dZ) reason=(.+)")
MINUTE = "%Y-%m-%dT%H:%MZ"
LOCAL_PORT = 10000

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]  # noqa: UP007 - pylint of ansible-test knows no other
# Documentation networks: nobody has these addresses, so that the manual's examples can be tried.
DOCUMENTATION_NETWORKS = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
RESERVED_FOR_EXAMPLES = [ipaddress.ip_network(item) for item in DOCUMENTATION_NETWORKS]


class AccessError(Exception):
    """The request is rejected, with every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        reasons = [f"{item.path}: {item.value}\n  Problem: {item.problem}.\n  Fix: {item.fix}" for item in problems]
        super().__init__("\n\n".join(["Nothing was changed.", *reasons]))


def refuse(path: str, value: Any, problem: str, fix: str) -> AccessError:
    """Return the error of one problem."""
    report = Report()
    report.add(path, value, problem, fix)
    return AccessError(report.problems)


# --- the request ------------------------------------------------------------------


def request(model: Model, asked: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Validate a request, and return it with derived values; raise AccessError.

    asked: access, address, hours, owner, reason, database; None if not given. words: what -e could not assign.
    Returns also the C(group) on which access is granted, the C(name) of schedules and role, and the C(region).
    """
    report = Report()
    if asked.get("words"):
        fix = "Use quotes inside the quotes: -e \"reason='what it is for'\"."
        report.add("-e", asked["words"], "these words do not belong to a variable", fix)
    settings = model.environment["aws"]["database_access"]
    action = asked["access"]
    if action not in ACTIONS:
        fix = f"Write one of: {listed(ACTIONS)}.{report.suggest(action, ACTIONS)}"
        report.add("access", action, "this is not a valid action", fix)
    found: dict[str, Any] = {
        "access": action,
        "database": _database(report, model, asked["database"]),
        "region": model.environment["region"],
        **{key: database_access.derive(model)[key] for key in ("group", "name")},
    }
    if action == "grant":
        found["cidr"] = _cidr(report, asked["address"], settings["networks"])
        hours = _hours(report, asked["hours"], settings["hours"])
        found["owner"] = _owner(report, asked["owner"])
        reason = _reason(report, asked["reason"])
        # Rounded down to minutes: never longer than requested.
        end = (now + timedelta(hours=hours)).replace(second=0, microsecond=0)
        found["until"] = end.strftime(MINUTE)
        found["description"] = f"owner={found['owner']} until={found['until']} reason={reason}"
        found["public"] = bool(found["cidr"]) and not _inside(found["cidr"], settings["networks"])
        if len(found["description"]) > LONGEST:
            over = len(found["description"]) - LONGEST
            report.add("reason", reason, f"EC2 allows {LONGEST} characters, and this is {over} too long", "Shorten it.")
    if action == "revoke":
        if asked["address"] is None and asked["owner"] is None:
            fix = "Add -e address=… or -e owner=…. To see the current grants: -e access=list."
            report.add("address", None, "neither an address nor an owner is given", fix)
        found["cidr"] = None if asked["address"] is None else _network(report, asked["address"])
        found["owner"] = None if asked["owner"] is None else _owner(report, asked["owner"])
    if report.problems:
        raise AccessError(report.problems)
    return found


def _database(report: Report, model: Model, name: Any) -> dict[str, Any]:
    """Return the database, with its address and port; the first one by default."""
    names = list(model.environment["databases"])
    if name is None and names:
        name = names[0]
    if name not in names:
        fix = f"Write one of: {listed(names)}.{report.suggest(name, names)}" if names else "Add one."
        report.add("database", name, "unknown database in platform_environment.databases", fix)
        return {}
    access = model.environment["databases"][name]
    return {
        "name": name,
        **{key: access[key] for key in ("host", "port", "user")},
        "schema": access["name"],
        "engine": model.databases[name]["engine"],
        "callers": [caller for caller, service in model.services.items() if name in service["needs"]],
    }


def _network(report: Report, value: Any) -> str | None:
    """Return one address, alone or as a network of one, in the format of EC2."""
    fix = "Write one address, such as 203.0.113.7. Yours: curl https://checkip.amazonaws.com"
    if value is None or value == "":
        report.add("address", value, "the address is missing", fix)
        return None
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        network = ipaddress.ip_interface(value.strip()).network
    except ValueError:
        report.add("address", value, "this is not an address", fix)
        return None
    if network.prefixlen == 0:
        report.add("address", value, "this matches every address", fix)
        return None
    if network.num_addresses > 1:
        report.add("address", value, f"these are {network.num_addresses} addresses", fix)
        return None
    return str(network)


def _cidr(report: Report, value: Any, networks: Sequence[str]) -> str | None:
    """Return one address that may be granted access."""
    cidr = _network(report, value)
    problem = _kind(ipaddress.ip_interface(cidr).ip, networks) if cidr else ""
    if problem:
        report.add("address", value, problem, TUNNEL)
        return None
    return cidr


def _kind(address: Address, networks: Sequence[str]) -> str:
    """Return why an address cannot be granted access, or an empty string."""
    for word, applies in (
        ("the unspecified address", address.is_unspecified),
        ("a loopback address", address.is_loopback),
        ("a multicast address", address.is_multicast),
        ("a link-local address", address.is_link_local),
        ("an IPv4-mapped IPv6 address", getattr(address, "ipv4_mapped", None) is not None),
    ):
        if applies:
            return f"this is {word}"
    if _inside(str(address), networks) or any(address in network for network in RESERVED_FOR_EXAMPLES):
        return ""
    if address.is_global and not address.is_reserved:
        return ""
    return (
        "this is a private or reserved address, and the database would see another one; to allow addresses of a VPN or "
        "a peered network, add it to platform_environment.aws.database_access.networks"
    )


def _inside(address: str, networks: Sequence[str]) -> bool:
    given = ipaddress.ip_interface(address).ip
    return any(given in ipaddress.ip_network(network) for network in networks)


def _hours(report: Report, value: Any, most: int) -> int:
    fix = f"Write -e hours= with a whole number from 1 to {most}."
    if value is None or value == "":
        report.add("hours", value, "the number of hours is missing", fix)
        return 0
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", str(value), re.ASCII):
        report.add("hours", value, "this is not a number of hours", fix)
        return 0
    if not 1 <= int(value) <= most:
        limit = f"; at most {most} are allowed" if int(value) else ""
        report.add("hours", value, f"this number of hours is out of range{limit}", fix)
        return 0
    return int(value)


def _owner(report: Report, value: Any) -> str:
    fix = "Write -e owner= with a login or an e-mail address: letters, digits and . _ + @ -"
    if not value:
        report.add("owner", value, "the owner is missing", fix)
    elif not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._+@-]{1,64}", value):
        report.add("owner", value, "this is not a valid owner", fix)
    return str(value)


def _reason(report: Report, value: Any) -> str:
    reason = value.strip() if isinstance(value, str) else value
    if not reason:
        report.add("reason", value, "the reason is missing", "Write -e \"reason='what it is for'\".")
    elif not isinstance(reason, str) or not re.fullmatch(f"{CHARACTERS}+", reason):
        strange = sorted(set(re.sub(CHARACTERS, "", str(reason))))
        fix = "Write letters from a to z, digits, spaces and ._-:/()#,@[]+=&;{}!$*"
        report.add("reason", reason, f"EC2 does not accept {listed(map(repr, strange))} in a rule's description", fix)
    return str(reason)


# --- current grants ---------------------------------------------------------------


def rules(group: Mapping[str, Any], now: datetime) -> list[dict[str, Any]]:
    """Return the rules of the group, as returned by ec2_security_group_info; those that never expire first.

    Each: source, port (None for a range), owner, until, reason, left (seconds) and expired. Rules without
    this format have neither owner nor end: somebody else created them, and they are only revoked by address.
    """
    found = []
    for permission in group["ip_permissions"]:
        first, last = permission.get("from_port"), permission.get("to_port")
        port = first if first == last and permission["ip_protocol"] == "tcp" else None
        for kind, key in (("ip_ranges", "cidr_ip"), ("ipv6_ranges", "cidr_ipv6"), ("user_id_group_pairs", "group_id"),
                          ("prefix_list_ids", "prefix_list_id")):  # fmt: skip
            found += [
                {"source": item[key], "port": port, **_described(item.get("description") or "", now)}
                for item in permission.get(kind) or []
            ]
    return sorted(found, key=lambda rule: (rule["until"], rule["source"], str(rule["port"])))


def all_rules(groups: Sequence[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Return the rules of groups, each with its C(group_id)."""
    return [{**rule, "group_id": group["group_id"]} for group in groups for rule in rules(group, now)]


def _described(description: str, now: datetime) -> dict[str, Any]:
    match = DESCRIPTION.fullmatch(description)
    try:
        end = datetime.strptime(match[2], MINUTE).replace(tzinfo=UTC) if match else None
    except ValueError:  # not a valid date
        end = None
    if not match or end is None:
        return {"owner": "", "until": "", "reason": description, "left": None, "expired": False}
    left = int((end - now).total_seconds())
    return {"owner": match[1], "until": match[2], "reason": match[3], "left": left, "expired": left <= 0}


def grant(
    asked: Mapping[str, Any], group: Mapping[str, Any], databases: Sequence[Mapping[str, Any]], now: datetime
) -> dict[str, Any]:
    """Return the rule of a grant and the schedule that revokes it; raise AccessError.

    databases: as returned by rds_instance_info.
    """
    reached = [
        item
        for item in databases
        if group["group_id"] in [of["vpc_security_group_id"] for of in item.get("vpc_security_groups") or []]
    ]
    if not reached:
        raise refuse(
            "database",
            asked["database"]["name"],
            f"no RDS instance has the security group {group['group_name']}, so a rule would have no effect",
            "Run provision.yml --tags security_groups,database. " + TUNNEL,
        )
    port = asked["database"]["port"]
    there = [item for item in rules(group, now) if not item["expired"]]
    present = [item for item in there if (item["source"], item["port"]) == (asked["cidr"], port)]
    for item in present:
        if item["owner"] != asked["owner"]:
            raise refuse(
                "owner",
                asked["owner"],
                f"{asked['cidr']} already has access, for {item['owner'] or 'an unknown owner'}: {item['reason']}",
                "An address can have only one owner. Revoke it first: -e access=revoke -e address=" + asked["cidr"],
            )
    several, one = ("Ipv6Ranges", "CidrIpv6") if ":" in asked["cidr"] else ("IpRanges", "CidrIp")
    permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, several: [{one: asked["cidr"]}]}
    end = datetime.strptime(asked["until"], MINUTE)
    return {
        "cidr": asked["cidr"],
        "port": port,
        "description": asked["description"],
        "extends": bool(present),
        "warning": _unreachable(asked, reached),
        "schedule": {
            "name": schedule_name(asked["cidr"], port),
            "description": asked["description"],
            "expression": f"at({end.isoformat()})",
            "arn": REVOKE,
            "input": json.dumps({"GroupId": group["group_id"], "IpPermissions": [permission]}),
        },
    }


def _unreachable(asked: Mapping[str, Any], databases: Sequence[Mapping[str, Any]]) -> str:
    """Warn if a rule alone does not give access."""
    if not asked["public"] or any(item.get("publicly_accessible") for item in databases):
        return ""
    return f"No database with this group has a public address, so it can only be reached through a forwarder. {TUNNEL}"


def schedule_name(source: str, port: int) -> str:
    """Return the name of the schedule that revokes a grant: one per address and port, so that it can be changed."""
    return f"{source.partition('/')[0].replace(':', '-')}-{port}"


def revoked(asked: Mapping[str, Any], present: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules to revoke; raise AccessError if there are none."""
    found = [
        {**item, "schedule": schedule_name(item["source"], item["port"])}
        for item in present
        if asked["cidr"] in (None, item["source"]) and asked["owner"] in (None, item["owner"]) and item["port"]
    ]
    if not found:
        path, value = ("address", asked["cidr"]) if asked["cidr"] else ("owner", asked["owner"])
        there = listed(f"{item['source']} ({item['owner'] or 'owner unknown'})" for item in present)
        raise refuse(path, value, "no rule matches", f"Current rules: {there}." if there else "There are no rules.")
    return found


def table(present: Sequence[Mapping[str, Any]], ended_by: Iterable[str]) -> str:
    """Return the rules as text. ended_by: names of the existing schedules."""
    schedules = set(ended_by)
    rows = [("address", "port", "owner", "until (UTC)", "left", "ends by", "reason")]
    for item in present:
        name = schedule_name(item["source"], item["port"]) if item["port"] else ""
        ends = "schedule" if name in schedules else "next run" if item["until"] else "nothing"
        rows.append((item["source"], str(item["port"] or "range"), item["owner"] or "?", item["until"] or "never",
                     _left(item["left"]), ends, item["reason"]))  # fmt: skip
    if not present:
        return "No address has access to the database."
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _left(seconds: int | None) -> str:
    if seconds is None:
        return "?"
    return "expired" if seconds <= 0 else f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def changes(asked: Mapping[str, Any], there: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return what a checked request changes: C(grant) or C(revoke), or the commands of a C(tunnel).

    there: C(groups), the security group on which access is granted; for a grant also C(databases), and for a tunnel
    C(instances).
    """
    if asked["access"] == "grant":
        return {"grant": grant(asked, there["groups"][0], there["databases"], now)}
    if asked["access"] == "revoke":
        return {"revoke": revoked(asked, [rule for rule in all_rules(there["groups"], now) if not rule["expired"]])}
    return {"tunnel": tunnel(asked, there["instances"])} if asked["access"] == "tunnel" else {}


# --- the tunnel -------------------------------------------------------------------


def tunnel(asked: Mapping[str, Any], instances: Sequence[Mapping[str, Any]]) -> str:
    """Return the commands for a tunnel through a host that may connect to the database; raise AccessError.

    instances: the running ones of the environment, as returned by ec2_instance_info.
    """
    database, callers = asked["database"], asked["database"]["callers"]
    for item in sorted(instances, key=lambda found: found["instance_id"]):
        if set(tagged_services(item.get("tags"))) & set(callers):
            break
    else:
        raise refuse(
            "database",
            database["name"],
            f"no running host has a service that needs it ({listed(callers) or 'no service does'})",
            "Start the environment: playbooks/power.yml -e state=running",
        )
    local = LOCAL_PORT + database["port"] if database["port"] + LOCAL_PORT <= 65535 else database["port"]
    ports = {"portNumber": [str(database["port"])], "localPortNumber": [str(local)]}
    parameters = json.dumps({"host": [database["host"]], **ports}, separators=(",", ":"))
    client = {"port": local, "user": shlex.quote(database["user"]), "schema": shlex.quote(database["schema"])}
    region, document = asked["region"], "AWS-StartPortForwardingSessionToRemoteHost"
    return "\n".join(
        [
            f"aws ssm start-session --region {region} --target {item['instance_id']} \\",
            f"  --document-name {document} \\",
            f"  --parameters {shlex.quote(parameters)}",
            "",
            *(line.format(**client) for line in ENGINES[database["engine"]].client),
        ]
    )
