# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Unused resources in the account: gather facts, read a plan, and remove the resources that it marks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.aws import unused
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    Report,
    any_mapping,
    anything,
    boolean,
    choice,
    integer,
    items,
    keys,
    plain,
    text,
)

with suppress(ImportError):  # the modules report what is missing
    import yaml
    from botocore.exceptions import BotoCoreError, ClientError

Client = Callable[[str], Any]

# Source -> service, operation, key of the answer, arguments.
CALLS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "addresses": ("ec2", "describe_addresses", "Addresses", {}),
    "databases": ("rds", "describe_db_instances", "DBInstances", {}),
    "database_snapshots": ("rds", "describe_db_snapshots", "DBSnapshots", {"SnapshotType": "manual"}),
    "endpoints": ("ec2", "describe_vpc_endpoints", "VpcEndpoints", {}),
    "images": ("ec2", "describe_images", "Images", {"Owners": ["self"]}),
    "instances": ("ec2", "describe_instances", "Reservations", {}),
    "interfaces": ("ec2", "describe_network_interfaces", "NetworkInterfaces", {}),
    "launch_templates": (
        "ec2",
        "describe_launch_template_versions",
        "LaunchTemplateVersions",
        {"Versions": ["$Latest", "$Default"]},
    ),
    "load_balancers": ("elbv2", "describe_load_balancers", "LoadBalancers", {}),
    "log_groups": ("logs", "describe_log_groups", "logGroups", {}),
    "nat_gateways": ("ec2", "describe_nat_gateways", "NatGateways", {}),
    "parameters": (
        "ssm",
        "describe_parameters",
        "Parameters",
        {"ParameterFilters": [{"Key": "Type", "Option": "Equals", "Values": ["String", "StringList"]}]},
    ),
    "route_tables": ("ec2", "describe_route_tables", "RouteTables", {}),
    "security_groups": ("ec2", "describe_security_groups", "SecurityGroups", {}),
    "snapshots": ("ec2", "describe_snapshots", "Snapshots", {"OwnerIds": ["self"]}),
    "target_groups": ("elbv2", "describe_target_groups", "TargetGroups", {}),
    "volumes": ("ec2", "describe_volumes", "Volumes", {}),
}
TAGS_IN_A_CALL = 20
PARAMETERS_IN_A_CALL = 10
# Retention periods of CloudWatch Logs.
RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)

DAYS = keys({kind: Key(integer(0, 36500)) for kind in unused.DAYS}, "a mapping of kinds to days")
ENTRY = keys(
    {
        "remove": Key(boolean, required=True, hint="Write remove: true or remove: false."),
        "kind": Key(choice(list(unused.KINDS), "a kind of resource"), required=True, hint="Copy it from the report."),
        "id": Key(text(r"\S+", "the id from the report"), required=True, hint="Copy it from the report."),
        "evidence": Key(any_mapping, required=True, hint="Copy it from the report."),
        **{name: Key(anything) for name in ("name", "reason", "monthly", "note", "tags", "after", "protected")},
    },
    "an entry of the report",
)
PLAN = keys(
    {
        "account": Key(text(r"\d{12}", "the account of the report, in quotes"), required=True, hint="Create a report."),
        "region": Key(text(r"[a-z0-9-]+", "the region of the report"), required=True, hint="Create a report."),
        "resources": Key(items(ENTRY, "a list of resources"), required=True, hint="Create a report."),
        "days": Key(DAYS, default={}),
        **{name: Key(anything) for name in ("made", "prices_of", "total")},
    },
    "a plan as in the report",
)


def clients(module: Any) -> Client:
    """Return a function that returns the client of a service, created only once."""
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = module.client(service)
        return made[service]

    return client


def gather(client: Client, sources: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the API's response for each source."""
    facts = {}
    for source in sorted(sources):
        service, operation, key, arguments = CALLS[source]
        api = client(service)
        if api.can_paginate(operation):
            facts[source] = api.get_paginator(operation).paginate(**arguments).build_full_result().get(key, [])
        else:
            facts[source] = getattr(api, operation)(**arguments)[key]
    if "instances" in facts:
        facts["instances"] = [item for group in facts["instances"] for item in group["Instances"]]
        for instance in facts["instances"]:
            instance["Protected"] = instance["State"]["Name"] == "stopped" and protected(client("ec2"), instance)
    for balancer in facts.get("load_balancers", []):
        complete_balancer(client("elbv2"), balancer)
    for group in facts.get("target_groups", []):
        arn = group["TargetGroupArn"]
        group["Targets"] = client("elbv2").describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    if "parameters" in facts:
        facts["parameters"] = parameters(client("ssm"), facts["parameters"])
    for group in facts.get("log_groups", []):
        # Those that expire their events are left anyway.
        if not group.get("retentionInDays"):
            arn = group["arn"].removesuffix(":*")
            group["Tags"] = client("logs").list_tags_for_resource(resourceArn=arn)["tags"]
    add_tags(client, facts.get("load_balancers", []), "LoadBalancerArn")
    add_tags(client, facts.get("target_groups", []), "TargetGroupArn")
    return facts


def protected(api: Any, instance: dict[str, Any]) -> bool:
    """Return whether an instance has termination protection."""
    answer = api.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="disableApiTermination")
    return bool(answer["DisableApiTermination"].get("Value"))


def parameters(api: Any, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return parameters with their values."""
    names = [item["Name"] for item in found]
    whole: list[dict[str, Any]] = []
    for start in range(0, len(names), PARAMETERS_IN_A_CALL):
        whole += api.get_parameters(Names=names[start : start + PARAMETERS_IN_A_CALL])["Parameters"]
    return whole


def complete_balancer(api: Any, balancer: dict[str, Any]) -> None:
    """Add the listeners' actions and the deletion protection to a load balancer."""
    arn = balancer["LoadBalancerArn"]
    listeners = api.get_paginator("describe_listeners").paginate(LoadBalancerArn=arn).build_full_result()["Listeners"]
    balancer["Actions"] = [action["Type"] for item in listeners for action in item.get("DefaultActions", [])]
    attributes = api.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    balancer["Protected"] = {"Key": "deletion_protection.enabled", "Value": "true"} in attributes


def add_tags(client: Client, resources: list[dict[str, Any]], arn: str) -> None:
    """Add the tags, which the Elastic Load Balancing API returns separately."""
    found = {}
    names = [item[arn] for item in resources]
    for start in range(0, len(names), TAGS_IN_A_CALL):
        answer = client("elbv2").describe_tags(ResourceArns=names[start : start + TAGS_IN_A_CALL])
        for item in answer["TagDescriptions"]:
            found[item["ResourceArn"]] = item["Tags"]
    for item in resources:
        item["Tags"] = found.get(item[arn], [])


def read_plan(content: str, account: str, region: str) -> tuple[dict[str, Any], list[str]]:
    """Return a plan and its mistakes; if there are any, nothing may be removed."""
    try:
        data = plain(yaml.safe_load(content))
    except yaml.YAMLError as error:
        return {}, [f"not valid YAML: {' '.join(str(error).split())}"]
    report = Report()
    plan = PLAN(report, "", data)
    wrong = [f"{item.path or 'the file'} = {item.value}: {item.problem}. {item.fix}" for item in report.problems]
    if plan is None or wrong:
        return {}, wrong
    for key, value in (("account", account), ("region", region)):
        if plan[key] != value:
            wrong.append(f"{key} = {plan[key]}: the {key} is {value}. Use a plan for this {key}, or create a report.")
    known = [(entry["kind"], entry["id"]) for entry in plan["resources"]]
    for kind, name in sorted({item for item in known if known.count(item) > 1}):
        wrong.append(f"{kind} {name}: listed more than once. Keep one.")
    return plan, wrong


def remove(client: Client, entry: Mapping[str, Any], retention: int, snapshot: bool) -> None:
    """Remove one resource; raises the errors of AWS."""
    kind, name = entry["kind"], entry["id"]
    ec2, elb = client("ec2"), client("elbv2")
    if kind == "environment":
        ec2.stop_instances(InstanceIds=sorted(entry["evidence"]["started"]))
    elif kind == "instance":
        ec2.terminate_instances(InstanceIds=[name])
    elif kind == "volume":
        if snapshot:
            keep_snapshot(ec2, entry)
        ec2.delete_volume(VolumeId=name)
    elif kind == "load_balancer":
        elb.delete_load_balancer(LoadBalancerArn=name)
        elb.get_waiter("load_balancers_deleted").wait(LoadBalancerArns=[name])
    elif kind == "target_group":
        elb.delete_target_group(TargetGroupArn=name)
    elif kind == "nat_gateway":
        ec2.delete_nat_gateway(NatGatewayId=name)
    elif kind == "address":
        ec2.release_address(AllocationId=entry["evidence"]["allocation"])
    elif kind == "endpoint":
        for refusal in ec2.delete_vpc_endpoints(VpcEndpointIds=[name])["Unsuccessful"]:
            raise ClientError({"Error": refusal["Error"]}, "DeleteVpcEndpoints")
    elif kind == "image":
        ec2.deregister_image(ImageId=name)
    elif kind == "snapshot":
        ec2.delete_snapshot(SnapshotId=name)
    elif kind == "database_snapshot":
        client("rds").delete_db_snapshot(DBSnapshotIdentifier=name)
    elif kind == "security_group":
        ec2.delete_security_group(GroupId=name)
    elif kind == "log_group":
        client("logs").put_retention_policy(logGroupName=name, retentionInDays=retention)
    else:
        raise AssertionError(f"unknown kind {kind}")


def keep_snapshot(ec2: Any, volume: Mapping[str, Any]) -> None:
    """Create a snapshot of a volume, and wait until it is complete."""
    tags = {"Name": volume["name"] or volume["id"], **volume["tags"]}
    answer = ec2.create_snapshot(
        VolumeId=volume["id"],
        Description=f"{volume['id']} before its removal",
        TagSpecifications=[
            {"ResourceType": "snapshot", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    )
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[answer["SnapshotId"]])


def clean(
    client: Client, marked: list[dict[str, Any]], rules: unused.Rules, act: Callable[[dict[str, Any]], None]
) -> tuple[list[str], list[str], list[str]]:
    """Check the marked resources again, kind by kind, and remove those that are still unused.

    Returns the removed ids, a line for each resource that was left, and one for each that could not be removed.
    """
    gone: list[str] = []
    left: list[str] = []
    failed: list[str] = []
    for kind in unused.KINDS:
        for entry in (entry for entry in marked if entry["kind"] == kind):
            # Again for each: the last one may come into use while the first ones are removed.
            try:
                facts = gather(client, unused.KINDS[kind].sources)
                now = rules._replace(now=datetime.now(timezone.utc))
                go, stays = unused.decide([entry], unused.judge(facts, now, [kind]), gone)
                left += stays
                for item in go:
                    act(item)
                    gone.append(item["id"])
            except (BotoCoreError, ClientError) as error:  # noqa: PERF203 - continue with the others
                failed.append(f"{kind} {entry['id']}: {error}")
    return gone, left, failed
