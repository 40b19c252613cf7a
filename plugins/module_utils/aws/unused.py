# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Find resources in an account that cost money and are not used. Pure: it judges API responses, and calls nothing.

Each kind of resource has a judge: a function of all gathered facts that returns a verdict on every resource of its
kind. A verdict says either why the resource is unused, or what uses it. Its evidence identifies what was judged: while
that is unchanged, a decision about the resource still applies.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import is_production

HOURS = 730  # in a month, as AWS counts

# List prices in USD. Missing prices are reported as unknown.
PRICES_OF = "ap-northeast-2, October 2026"
PRICES: dict[str, float] = {
    # Per GB and month.
    "volume.gp3": 0.0912,
    "volume.gp2": 0.114,
    "volume.standard": 0.08,
    "snapshot.standard": 0.05,
    "snapshot.archive": 0.0125,
    "database_snapshot": 0.095,
    "log": 0.0314,
    # Per hour.
    "address": 0.005,
    "load_balancer.application": 0.0225,
    "load_balancer.network": 0.0225,
    "nat_gateway": 0.059,
    "endpoint": 0.013,  # per zone
    "instance.t3.nano": 0.0065,
    "instance.t3.micro": 0.013,
    "instance.t3.small": 0.026,
    "instance.t3.medium": 0.052,
    "instance.t3.large": 0.104,
    "instance.t3.xlarge": 0.208,
    "instance.t4g.nano": 0.0052,
    "instance.t4g.micro": 0.0104,
    "instance.t4g.small": 0.0208,
    "instance.t4g.medium": 0.0416,
    "instance.t4g.large": 0.0832,
    "instance.t4g.xlarge": 0.1664,
}

# Days after which a resource counts as unused. AWS does not report since when a volume or a load balancer has been
# unused: for these, the days since creation count.
DAYS: dict[str, int] = {
    "environment": 14,
    "instance": 30,
    "volume": 7,
    "load_balancer": 7,
    "nat_gateway": 7,
    "endpoint": 7,
    "image": 90,
    "snapshot": 90,
    "database_snapshot": 90,
}

KEEP = "Keep"


class Rules(NamedTuple):
    """The rules: the current time, days for each kind, prices, and the environments that always run.

    environment: whose resources may be removed; without one, nothing is said about that.
    """

    now: datetime
    days: Mapping[str, int] = DAYS
    prices: Mapping[str, float] = PRICES
    production: tuple[str, ...] = ("production",)
    environment: str = ""


@dataclass
class Verdict:
    """One resource, and the verdict on it."""

    kind: str
    id: str
    name: str
    evidence: dict[str, Any]
    tags: dict[str, str]
    reason: str = ""
    used: str = ""
    monthly: float | None = 0.0
    note: str = ""
    # Other unused resources that must be removed first.
    after: list[str] = field(default_factory=list)
    # Protection that must be turned off manually first.
    protected: str = ""


Facts = Mapping[str, list[dict[str, Any]]]
Judge = Callable[[Facts, Rules], Iterator[Verdict]]


def judge(facts: Facts, rules: Rules, kinds: Iterable[str]) -> list[Verdict]:
    """Return a verdict on every resource of these kinds."""
    wanted = set(kinds)
    return [own(settle(item), rules) for kind in KINDS if kind in wanted for item in KINDS[kind].judge(facts, rules)]


def own(verdict: Verdict, rules: Rules) -> Verdict:
    """Protect whatever is not, by its tag, the environment's that cleans up."""
    owner = verdict.tags.get("Environment")
    if rules.environment and owner != rules.environment:
        fix = f"clean up with the inventory of {owner}" if owner else f"tag it Environment={rules.environment} first"
        has = f"the tag Environment={owner}" if owner else "no tag Environment"
        verdict.protected = notes(verdict.protected, f"it has {has}: {fix}")
    return verdict


def settle(verdict: Verdict) -> Verdict:
    """Mark resources that are tagged to keep, or managed by another service, as in use."""
    owner = next((f"{key}={value}" for key, value in sorted(verdict.tags.items()) if key.startswith("aws:")), None)
    if owner:
        verdict.used = verdict.used or f"managed by another service ({owner}): remove it there"
    if KEEP in verdict.tags:
        verdict.used = verdict.used or f"it has the tag {KEEP}"
    return verdict


def unused(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Return the unused resources as plain data, the most expensive first."""
    found = [asdict(verdict) for verdict in verdicts if not verdict.used]
    for entry in found:
        del entry["used"]
    return sorted(found, key=lambda entry: (-(entry["monthly"] or 0), entry["kind"], entry["id"]))


def table(resources: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table: resource, reason and monthly cost."""
    rows = [("kind", "id", "name", "USD a month", "why")]
    rows += [
        (
            entry["kind"],
            entry["id"],
            entry["name"],
            "unknown" if entry["monthly"] is None else f"{entry['monthly']:.2f}",
            notes(entry["reason"], entry["note"], entry["protected"]),
        )
        for entry in resources
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join([*(row[n].ljust(widths[n]) for n in range(3)), row[3].rjust(widths[3]), row[4]]) for row in rows]


def decide(
    planned: Iterable[Mapping[str, Any]], verdicts: Iterable[Verdict], done: Iterable[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return which planned resources may be removed now, and a line for each that is left.

    done: ids of resources that were, or would be, removed before.
    """
    now = {(verdict.kind, verdict.id): verdict for verdict in verdicts}
    gone = set(done)
    go: list[dict[str, Any]] = []
    left: list[str] = []
    for entry in planned:
        verdict = now.get((entry["kind"], entry["id"]))
        why = obstacle(entry, verdict, gone)
        if why or verdict is None:
            left.append(f"{entry['kind']} {entry['id']}: {why}")
        else:
            go.append(asdict(verdict))
    return go, left


def obstacle(entry: Mapping[str, Any], verdict: Verdict | None, gone: set[str]) -> str:
    """Return why a planned resource must not be removed now, or an empty string."""
    if verdict is None:
        return "it no longer exists"
    if verdict.used:
        return f"it is in use: {verdict.used}"
    if verdict.evidence != entry["evidence"]:
        changed = sorted(
            key
            for key in {*verdict.evidence, *entry["evidence"]}
            if verdict.evidence.get(key) != entry["evidence"].get(key)
        )
        return f"it has changed since the plan: {', '.join(changed)}"
    if verdict.protected:
        return verdict.protected
    waiting = [item for item in verdict.after if item not in gone]
    return f"{', '.join(waiting)} must be removed first" if waiting else ""


# --- helpers ---------------------------------------------------------------------------------


def tags_of(resource: Mapping[str, Any]) -> dict[str, str]:
    """Return tags as a mapping. Some services call the list TagList."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags") or resource.get("TagList") or []}


def stamp(value: datetime | str) -> datetime:
    """Return a time; some services return text."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def text(moment: datetime | str) -> str:
    """Return a time as text, in UTC with seconds."""
    return stamp(moment).astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(moment: datetime | str, rules: Rules) -> int:
    """Return the full days that have passed."""
    return (rules.now - stamp(moment)).days


def young(kind: str, moment: datetime | str, rules: Rules, what: str = "created") -> str:
    """Return why a resource is too recent to count as unused, or an empty string."""
    days = age(moment, rules)
    return "" if days >= rules.days[kind] else f"{what} only {days} days ago (the limit is {rules.days[kind]})"


def price(rules: Rules, *amounts: tuple[str, float]) -> tuple[float | None, str]:
    """Return the sum of price × amount of known prices, and a note about unknown ones."""
    missing = sorted({name for name, _amount in amounts if name not in rules.prices})
    known = [rules.prices[name] * amount for name, amount in amounts if name in rules.prices]
    note = f"no price is known for {', '.join(missing)}" if missing else ""
    return (round(sum(known), 2) if known or not amounts else None), note


def notes(*parts: str) -> str:
    """Join the notes that are not empty."""
    return "; ".join(filter(None, parts))


def volume_price(rules: Rules, volumes: Iterable[Mapping[str, Any]]) -> tuple[float | None, str]:
    """Return the cost of volumes, without extra throughput and operations."""
    return price(rules, *((f"volume.{volume['VolumeType']}", volume["Size"]) for volume in volumes))


# --- judges ----------------------------------------------------------------------------------


def environments(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Environments that are not production and never stopped: in use day and night, or forgotten.

    The launch time is that of the last start, so an instance that a schedule stops out of hours is never old.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for instance in facts["instances"]:
        name = tags_of(instance).get("Environment")
        if name and instance["State"]["Name"] == "running":
            groups[name].append(instance)
    for name, members in sorted(groups.items()):
        newest = max((instance["LaunchTime"] for instance in members), key=stamp)
        cost, note = price(rules, *((f"instance.{instance['InstanceType']}", HOURS) for instance in members))
        verdict = Verdict(
            "environment",
            name,
            name,
            {"started": {instance["InstanceId"]: text(instance["LaunchTime"]) for instance in members}},
            {key: value for instance in members for key, value in tags_of(instance).items() if key != "Name"},
            f"not production, and its {len(members)} instances have run for {age(newest, rules)} days without a stop",
            monthly=cost,
            note=notes(note, "cleanup stops the instances, and keeps their volumes"),
        )
        if name in rules.production or is_production(name):
            verdict.used = "it is production"
        verdict.used = verdict.used or young("environment", newest, rules, "an instance started")
        yield verdict


def instances(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Stopped instances: their volumes still cost money."""
    volumes = {volume["VolumeId"]: volume for volume in facts["volumes"]}
    for instance in facts["instances"]:
        state = instance["State"]["Name"]
        if state in ("terminated", "shutting-down"):
            continue
        disks = {item["Ebs"]["VolumeId"]: item["Ebs"] for item in instance.get("BlockDeviceMappings", [])}
        stay = sorted(item for item, disk in disks.items() if not disk.get("DeleteOnTermination"))
        cost, note = volume_price(rules, (volumes[item] for item in disks if item in volumes))
        since = stopped_at(instance)
        verdict = Verdict(
            "instance",
            instance["InstanceId"],
            tags_of(instance).get("Name", ""),
            {"state": state, "since": text(since), "volumes": sorted(disks)},
            tags_of(instance),
            f"stopped {age(since, rules)} days ago",
            monthly=cost,
            note=notes(note, f"these volumes are kept: {', '.join(stay)}" if stay else ""),
            protected="termination protection is on" if instance.get("Protected") else "",
        )
        verdict.used = f"it is {state}" if state != "stopped" else young("instance", since, rules, "stopped")
        yield verdict


def stopped_at(instance: Mapping[str, Any]) -> datetime | str:
    """Return when an instance stopped, from its transition reason; otherwise when it last started."""
    found = re.search(r"\((\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) (?:GMT|UTC)\)", instance.get("StateTransitionReason", ""))
    return f"{found[1]}T{found[2]}Z" if found else instance["LaunchTime"]


def volumes(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Volumes that are not attached to an instance."""
    for volume in facts["volumes"]:
        cost, note = volume_price(rules, [volume])
        holders = [item["InstanceId"] for item in volume.get("Attachments", [])]
        verdict = Verdict(
            "volume",
            volume["VolumeId"],
            tags_of(volume).get("Name", ""),
            {"created": text(volume["CreateTime"]), "size": volume["Size"], "type": volume["VolumeType"]},
            tags_of(volume),
            f"{volume['Size']} GB, not attached, created {age(volume['CreateTime'], rules)} days ago",
            monthly=cost,
            note=note,
        )
        if holders or volume["State"] != "available":
            verdict.used = f"attached to {', '.join(holders)}" if holders else f"it is {volume['State']}"
        verdict.used = verdict.used or young("volume", volume["CreateTime"], rules)
        yield verdict


def load_balancers(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Load balancers without healthy targets. Redirects alone count as use; next to empty groups they do not."""
    for balancer in facts["load_balancers"]:
        arn = balancer["LoadBalancerArn"]
        groups = [group for group in facts["target_groups"] if arn in group["LoadBalancerArns"]]
        targets = [target for group in groups for target in group["Targets"]]
        serving = [target["Target"]["Id"] for target in targets if target["TargetHealth"]["State"] in SERVING]
        answers = sorted({action for action in balancer["Actions"] if action != "forward"})
        cost, note = price(rules, (f"load_balancer.{balancer['Type']}", HOURS))
        verdict = Verdict(
            "load_balancer",
            arn,
            balancer["LoadBalancerName"],
            {"created": text(balancer["CreatedTime"]), "type": balancer["Type"], "targets": len(targets)},
            tags_of(balancer),
            f"none of its {len(targets)} targets are healthy: check first whether any should be"
            if targets
            else "no targets",
            monthly=cost,
            note=note,
            protected="deletion protection is on" if balancer["Protected"] else "",
        )
        if balancer["Type"] not in ("application", "network"):
            verdict.used = f"load balancers of type {balancer['Type']} are not checked"
        elif serving:
            verdict.used = f"it serves {', '.join(sorted(set(serving))[:5])}"
        elif answers and not groups:
            verdict.used = f"it responds without targets: {', '.join(answers)}"
        verdict.used = verdict.used or young("load_balancer", balancer["CreatedTime"], rules)
        yield verdict


# A draining target may return; one that the load balancer does not check yet, or not at all, may be healthy.
SERVING = ("healthy", "initial", "draining", "unavailable")


def target_groups(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Target groups without targets that no used load balancer forwards to."""
    balancers = {item.id: item for item in map(settle, load_balancers(facts, rules))}
    for group in facts["target_groups"]:
        senders = [balancers[arn] for arn in group["LoadBalancerArns"] if arn in balancers]
        busy = [item.name for item in senders if item.used]
        verdict = Verdict(
            "target_group",
            group["TargetGroupArn"],
            group["TargetGroupName"],
            {"type": group["TargetType"], "vpc": group.get("VpcId", "")},
            tags_of(group),
            "no targets, and no used load balancer forwards to it",
            after=sorted(item.id for item in senders),
        )
        if group["Targets"]:
            verdict.used = f"it has {len(group['Targets'])} targets"
        elif busy:
            verdict.used = f"load balancer {', '.join(busy)} forwards to it"
        yield verdict


def nat_gateways(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """NAT gateways that no route uses."""
    routed = {
        route.get("NatGatewayId"): item["RouteTableId"] for item in facts["route_tables"] for route in item["Routes"]
    }
    for gateway in facts["nat_gateways"]:
        if gateway["State"] in ("deleted", "deleting", "failed"):
            continue
        cost, note = price(rules, ("nat_gateway", HOURS))
        verdict = Verdict(
            "nat_gateway",
            gateway["NatGatewayId"],
            tags_of(gateway).get("Name", ""),
            {"created": text(gateway["CreateTime"]), "vpc": gateway["VpcId"]},
            tags_of(gateway),
            "no route uses it",
            monthly=cost,
            note=notes(note, "its address is kept, and is in the next report"),
        )
        if gateway["NatGatewayId"] in routed:
            verdict.used = f"route table {routed[gateway['NatGatewayId']]} uses it"
        verdict.used = verdict.used or young("nat_gateway", gateway["CreateTime"], rules)
        yield verdict


def addresses(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Addresses that are not associated."""
    for address in facts["addresses"]:
        cost, note = price(rules, ("address", HOURS))
        holder = address.get("InstanceId") or address.get("NetworkInterfaceId") or address.get("AssociationId")
        yield Verdict(
            "address",
            address["PublicIp"],
            tags_of(address).get("Name", ""),
            {"allocation": address.get("AllocationId", "")},
            tags_of(address),
            "not associated with anything",
            used=f"associated with {holder}" if holder else "",
            monthly=cost,
            note=note,
        )


def endpoints(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Interface endpoints in networks with no other interfaces, so nothing can call them."""
    callers: dict[str, str] = {}
    for item in facts["interfaces"]:
        if item.get("InterfaceType") not in ("vpc_endpoint", "nat_gateway") and not is_of_endpoint(item, facts):
            callers[item.get("VpcId", "")] = item["NetworkInterfaceId"]
    for endpoint in facts["endpoints"]:
        if endpoint["VpcEndpointType"] != "Interface" or endpoint["State"].lower() in ("deleting", "deleted"):
            continue
        zones = len(endpoint["SubnetIds"])
        cost, note = price(rules, ("endpoint", HOURS * zones))
        verdict = Verdict(
            "endpoint",
            endpoint["VpcEndpointId"],
            endpoint["ServiceName"],
            {"created": text(endpoint["CreationTimestamp"]), "vpc": endpoint["VpcId"], "zones": zones},
            tags_of(endpoint),
            "its network has no other interfaces",
            monthly=cost,
            note=note,
        )
        if endpoint["VpcId"] in callers:
            verdict.used = f"{callers[endpoint['VpcId']]} in the same network may use it"
        verdict.used = verdict.used or young("endpoint", endpoint["CreationTimestamp"], rules)
        yield verdict


def is_of_endpoint(interface: Mapping[str, Any], facts: Facts) -> bool:
    """Return whether an interface belongs to an endpoint."""
    return any(interface["NetworkInterfaceId"] in item.get("NetworkInterfaceIds", []) for item in facts["endpoints"])


def images(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Old images that no instance, launch template or parameter names. The cost is that of their snapshots."""
    running = {
        item["ImageId"]: item["InstanceId"] for item in facts["instances"] if item["State"]["Name"] != "terminated"
    }
    named = {item["LaunchTemplateData"].get("ImageId"): item["LaunchTemplateId"] for item in facts["launch_templates"]}
    stated = {
        name: parameter["Name"]
        for parameter in facts["parameters"]
        for name in re.findall(r"\bami-[0-9a-f]+\b", parameter["Value"])
    }
    for image in facts["images"]:
        verdict = Verdict(
            "image",
            image["ImageId"],
            image.get("Name", ""),
            {"created": text(image["CreationDate"]), "snapshots": sorted(snapshots_of(image))},
            tags_of(image),
            f"created {age(image['CreationDate'], rules)} days ago, and not used by anything",
            note="its snapshots cost money, and are listed separately",
            protected="deregistration protection is on" if protects(image) else "",
        )
        if image["ImageId"] in running:
            verdict.used = f"{running[image['ImageId']]} runs from it"
        elif image["ImageId"] in named:
            verdict.used = f"launch template {named[image['ImageId']]} uses it"
        elif image["ImageId"] in stated:
            verdict.used = f"parameter {stated[image['ImageId']]} names it"
        elif image.get("Public"):
            verdict.used = "it is public, so others may use it"
        verdict.used = verdict.used or young("image", image["CreationDate"], rules)
        yield verdict


def protects(image: Mapping[str, Any]) -> bool:
    """Return whether an image has deregistration protection."""
    return str(image.get("DeregistrationProtection") or "disabled") != "disabled"


def snapshots_of(holder: Mapping[str, Any]) -> list[str]:
    """Return the snapshots that an image or a launch template refers to."""
    disks = [item.get("Ebs") or {} for item in holder.get("BlockDeviceMappings", [])]
    return [disk["SnapshotId"] for disk in disks if disk.get("SnapshotId")]


def snapshots(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Old snapshots that no used image needs."""
    idle = {item.id for item in map(settle, images(facts, rules)) if not item.used}
    holders: dict[str, list[str]] = defaultdict(list)
    for image in facts["images"]:
        for name in snapshots_of(image):
            holders[name].append(image["ImageId"])
    for template in facts["launch_templates"]:
        for name in snapshots_of(template["LaunchTemplateData"]):
            holders[name].append(template["LaunchTemplateId"])
    existing = {volume["VolumeId"] for volume in facts["volumes"]}
    newest: dict[str, str] = {}
    for item in sorted(facts["snapshots"], key=lambda item: stamp(item["StartTime"])):
        newest[item["VolumeId"]] = item["SnapshotId"]
    for snapshot in facts["snapshots"]:
        busy = [holder for holder in holders[snapshot["SnapshotId"]] if holder not in idle]
        cost, note = price(rules, (f"snapshot.{snapshot.get('StorageTier', 'standard')}", snapshot["VolumeSize"]))
        last = newest[snapshot["VolumeId"]] == snapshot["SnapshotId"]
        whose = "of a volume that exists" if snapshot["VolumeId"] in existing else "of a deleted volume"
        verdict = Verdict(
            "snapshot",
            snapshot["SnapshotId"],
            tags_of(snapshot).get("Name", "") or snapshot.get("Description", ""),
            {"created": text(snapshot["StartTime"]), "size": snapshot["VolumeSize"], "volume": snapshot["VolumeId"]},
            tags_of(snapshot),
            f"created {age(snapshot['StartTime'], rules)} days ago, {'the last one ' if last else ''}{whose}",
            monthly=cost,
            note=notes(note, "the price is an upper limit"),
            after=sorted(holders[snapshot["SnapshotId"]]),
        )
        verdict.used = f"{', '.join(busy)} needs it" if busy else young("snapshot", snapshot["StartTime"], rules)
        yield verdict


def database_snapshots(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Old manual snapshots of databases, which never expire."""
    existing = {item["DBInstanceIdentifier"] for item in facts["databases"]}
    for snapshot in facts["database_snapshots"]:
        if snapshot["SnapshotType"] != "manual" or "SnapshotCreateTime" not in snapshot:
            continue
        cost, note = price(rules, ("database_snapshot", snapshot["AllocatedStorage"]))
        whose = (
            "exists" if snapshot["DBInstanceIdentifier"] in existing else "was deleted: this may be all that is left"
        )
        verdict = Verdict(
            "database_snapshot",
            snapshot["DBSnapshotIdentifier"],
            snapshot["DBInstanceIdentifier"],
            {"created": text(snapshot["SnapshotCreateTime"]), "size": snapshot["AllocatedStorage"]},
            tags_of(snapshot),
            f"created {age(snapshot['SnapshotCreateTime'], rules)} days ago, of a database that {whose}",
            monthly=cost,
            note=notes(note, "the price is an upper limit"),
            used=young("database_snapshot", snapshot["SnapshotCreateTime"], rules),
        )
        yield verdict


def security_groups(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Groups that no interface, group, database, load balancer or launch template uses. They are free."""
    users: dict[str, str] = {}
    for group in facts["security_groups"]:
        for rule in (*group["IpPermissions"], *group["IpPermissionsEgress"]):
            for pair in rule.get("UserIdGroupPairs", []):
                if pair.get("GroupId") != group["GroupId"]:
                    users[pair.get("GroupId", "")] = f"the rules of {group['GroupName']} refer to it"
    for template in facts["launch_templates"]:
        data = template["LaunchTemplateData"]
        named = [*data.get("SecurityGroupIds", []), *data.get("SecurityGroups", [])]
        named += [item for network in data.get("NetworkInterfaces", []) for item in network.get("Groups", [])]
        users.update(dict.fromkeys(named, f"launch template {template['LaunchTemplateName']} uses it"))
    for balancer in facts["load_balancers"]:
        users.update(dict.fromkeys(balancer.get("SecurityGroups", []), f"{balancer['LoadBalancerName']} uses it"))
    for database in facts["databases"]:
        named = [item["VpcSecurityGroupId"] for item in database["VpcSecurityGroups"]]
        users.update(dict.fromkeys(named, f"{database['DBInstanceIdentifier']} uses it"))
    for item in facts["interfaces"]:
        named = [group["GroupId"] for group in item.get("Groups", [])]
        users.update(dict.fromkeys(named, f"{item['NetworkInterfaceId']} uses it"))
    for group in facts["security_groups"]:
        used = users.get(group["GroupId"]) or users.get(group["GroupName"], "")
        yield Verdict(
            "security_group",
            group["GroupId"],
            group["GroupName"],
            {"name": group["GroupName"], "vpc": group.get("VpcId", "")},
            tags_of(group),
            "no interface uses it, and nothing refers to it",
            used="it is the default group of its network" if group["GroupName"] == "default" else used,
        )


def log_groups(facts: Facts, rules: Rules) -> Iterator[Verdict]:
    """Log groups that never expire their events."""
    for group in facts["log_groups"]:
        cost, note = price(rules, ("log", group.get("storedBytes", 0) / 1e9))
        kept = group.get("retentionInDays")
        yield Verdict(
            "log_group",
            group["logGroupName"],
            "",
            {"retention": "for ever"},
            dict(group.get("Tags") or {}),
            "keeps its events forever",
            used=f"it keeps its events for {kept} days" if kept else "",
            monthly=cost,
            note=notes(note, "cleanup sets a retention, and older events expire"),
        )


class Kind(NamedTuple):
    """How a kind is judged, and which facts that needs."""

    judge: Judge
    sources: tuple[str, ...]


# In the order of removal: a resource comes before those that it uses.
KINDS: dict[str, Kind] = {
    "environment": Kind(environments, ("instances",)),
    "instance": Kind(instances, ("instances", "volumes")),
    "volume": Kind(volumes, ("volumes",)),
    "load_balancer": Kind(load_balancers, ("load_balancers", "target_groups")),
    "target_group": Kind(target_groups, ("load_balancers", "target_groups")),
    "nat_gateway": Kind(nat_gateways, ("nat_gateways", "route_tables")),
    "address": Kind(addresses, ("addresses",)),
    "endpoint": Kind(endpoints, ("endpoints", "interfaces")),
    "image": Kind(images, ("images", "instances", "launch_templates", "parameters")),
    "snapshot": Kind(snapshots, ("snapshots", "images", "instances", "launch_templates", "parameters", "volumes")),
    "database_snapshot": Kind(database_snapshots, ("database_snapshots", "databases")),
    "security_group": Kind(
        security_groups, ("security_groups", "interfaces", "launch_templates", "load_balancers", "databases")
    ),
    "log_group": Kind(log_groups, ("log_groups",)),
}
