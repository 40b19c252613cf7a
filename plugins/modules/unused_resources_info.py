#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Find what costs money in an account and serves nothing, or look again at what a plan file names."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: unused_resources_info
short_description: Find what costs money and serves nothing
version_added: '0.1.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Reads one region of an account and judges what it finds, with an estimate of what each unused resource costs a month.
  - With O(plan), looks again at what that file marks for removal, and says which of it may go now.
  - What carries the tag C(Keep), or a tag that begins with C(aws:) since another service manages it, is never unused.
  - Changes nothing, and does the same in check mode.
options:
  kinds:
    description:
      - The kinds of resources to look at. All without it; with O(plan), none.
    type: list
    elements: str
    choices: [environment, instance, volume, load_balancer, target_group, nat_gateway, address, endpoint, image,
              snapshot, database_snapshot, security_group, log_group]
  days:
    description:
      - From how many days on something is unused for long enough, for each of C(environment), C(instance), C(volume),
        C(load_balancer), C(nat_gateway), C(endpoint), C(image), C(snapshot) and C(database_snapshot).
      - They add to the defaults; with O(plan), those of the plan hold.
    type: dict
    default: {}
  prices:
    description:
      - Prices in USD that add to, or replace, those that are known. Names and units stand in the result.
    type: dict
    default: {}
  production:
    description:
      - Values of the tag C(Environment) of instances that are meant to run all the time.
    type: list
    elements: str
    default: [production]
  plan:
    description:
      - The file that a report was written to, with C(remove) set to true where a resource shall go.
    type: path
  done:
    description:
      - Ids of what was removed already, or would be in check mode. What waited for these may go.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Looks in check mode as well, since looking changes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Find what serves nothing, snapshots from a year on
  fivepointers.platform.unused_resources_info:
    region: ap-northeast-2
    days: {snapshot: 365}
  register: found

- name: Look again at the volumes that the plan marks
  fivepointers.platform.unused_resources_info:
    region: ap-northeast-2
    plan: unused.yml
    kinds: [volume]
"""

RETURN = r"""
account:
  description: The account that was looked at.
  returned: always
  type: str
kinds:
  description: The kinds that were looked at; with O(plan), those of what it marks, in the order in which they can go.
  returned: always
  type: list
  elements: str
report:
  description: What a plan file holds. Every entry of C(resources) has C(remove), which is false.
  returned: without O(plan)
  type: dict
prices:
  description: The prices that the estimates rest on, in USD, by GB and month or by hour.
  returned: without O(plan)
  type: dict
table:
  description: The lines of a table.
  returned: without O(plan)
  type: list
  elements: str
go:
  description: What the plan marks, is still unused and is as the plan describes it.
  returned: with O(plan)
  type: list
  elements: dict
left:
  description: A line for each that the plan marks and must not go, with the reason.
  returned: with O(plan)
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fivepointers.platform.plugins.module_utils import unused
from ansible_collections.fivepointers.platform.plugins.module_utils.schema import (
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

try:
    import yaml
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    pass  # AnsibleAWSModule says what is missing

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
    "route_tables": ("ec2", "describe_route_tables", "RouteTables", {}),
    "security_groups": ("ec2", "describe_security_groups", "SecurityGroups", {}),
    "snapshots": ("ec2", "describe_snapshots", "Snapshots", {"OwnerIds": ["self"]}),
    "target_groups": ("elbv2", "describe_target_groups", "TargetGroups", {}),
    "volumes": ("ec2", "describe_volumes", "Volumes", {}),
}
TAGS_IN_A_CALL = 20

DAYS = keys({kind: Key(integer(0, 36500)) for kind in unused.DAYS}, "a mapping of kinds to days")
ENTRY = keys(
    {
        "remove": Key(boolean, required=True, hint="Write remove: true or remove: false."),
        "kind": Key(choice(list(unused.KINDS), "a kind of resource"), required=True, hint="Take it from the report."),
        "id": Key(text(r"\S+", "the id from the report"), required=True, hint="Take it from the report."),
        "evidence": Key(any_mapping, required=True, hint="Take it from the report."),
        **{name: Key(anything) for name in ("name", "reason", "monthly", "note", "tags", "after", "protected")},
    },
    "an entry of the report",
)
PLAN = keys(
    {
        "account": Key(text(r"\d{12}", "the account of the report, in quotes"), required=True, hint="Write a report."),
        "region": Key(text(r"[a-z0-9-]+", "the region of the report"), required=True, hint="Write a report."),
        "resources": Key(items(ENTRY, "a list of resources"), required=True, hint="Write a report."),
        "days": Key(DAYS, default={}),
        **{name: Key(anything) for name in ("made", "prices_of", "total")},
    },
    "a plan as the report writes it",
)


def gather(client: Callable[[str], Any], sources: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return what the API answers for each source."""
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
    add_tags(client, facts.get("load_balancers", []), "LoadBalancerArn")
    add_tags(client, facts.get("target_groups", []), "TargetGroupArn")
    return facts


def protected(api: Any, instance: dict[str, Any]) -> bool:
    """Return whether an instance must not be terminated."""
    answer = api.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="disableApiTermination")
    return bool(answer["DisableApiTermination"].get("Value"))


def complete_balancer(api: Any, balancer: dict[str, Any]) -> None:
    """Add to a balancer what its listeners do, and whether it may be deleted."""
    arn = balancer["LoadBalancerArn"]
    listeners = api.get_paginator("describe_listeners").paginate(LoadBalancerArn=arn).build_full_result()["Listeners"]
    balancer["Actions"] = [action["Type"] for item in listeners for action in item.get("DefaultActions", [])]
    attributes = api.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    balancer["Protected"] = {"Key": "deletion_protection.enabled", "Value": "true"} in attributes


def add_tags(client: Callable[[str], Any], resources: list[dict[str, Any]], arn: str) -> None:
    """Add the tags, which the Elastic Load Balancing API tells apart from the rest."""
    found = {}
    names = [item[arn] for item in resources]
    for start in range(0, len(names), TAGS_IN_A_CALL):
        answer = client("elbv2").describe_tags(ResourceArns=names[start : start + TAGS_IN_A_CALL])
        for item in answer["TagDescriptions"]:
            found[item["ResourceArn"]] = item["Tags"]
    for item in resources:
        item["Tags"] = found.get(item[arn], [])


def read_plan(content: str, account: str, region: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Return a plan, and what is wrong with it: nothing may be removed then."""
    try:
        data = plain(yaml.safe_load(content))
    except yaml.YAMLError as error:
        return None, [f"it is not YAML: {' '.join(str(error).split())}"]
    report = Report()
    plan = PLAN(report, "", data)
    wrong = [f"{item.path or 'the file'} = {item.value}: {item.problem}. {item.fix}" for item in report.problems]
    if plan is None or wrong:
        return None, wrong
    for key, value in (("account", account), ("region", region)):
        if plan[key] != value:
            wrong.append(f"{key} = {plan[key]}: this is {value}. Use the plan of this {key}, or write a report.")
    known = [(entry["kind"], entry["id"]) for entry in plan["resources"]]
    for kind, name in sorted({item for item in known if known.count(item) > 1}):
        wrong.append(f"{kind} {name}: it is there more than once. Leave one.")
    return plan, wrong


def summary(resources: list[dict[str, Any]], region: str) -> tuple[float, list[str]]:
    """Return the sum a month, and the lines of the report: what costs, then what does not."""
    costly = [item for item in resources if item["monthly"] != 0]
    free = [item for item in resources if item["monthly"] == 0]
    total = round(sum(item["monthly"] or 0 for item in costly), 2)
    lines = unused.table(costly) if costly else ["Nothing that costs money is unused."]
    if costly:
        lines += ["", f"{total:.2f} USD a month, at list prices of {unused.PRICES_OF}."]
        if not unused.PRICES_OF.startswith(region):
            lines[-1] += f" In {region} prices differ: state them in unused_prices."
    return total, [*lines, *(["", "Unused, and costs nothing or next to it:", *unused.table(free)] if free else [])]


def main() -> None:
    """Run the module."""
    spec = {
        "kinds": {"type": "list", "elements": "str", "choices": list(unused.KINDS)},
        "days": {"type": "dict", "default": {}},
        "prices": {"type": "dict", "default": {}},
        "production": {"type": "list", "elements": "str", "default": ["production"]},
        "plan": {"type": "path"},
        "done": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleAWSModule(argument_spec=spec, supports_check_mode=True)
    settings = plain(module.params)
    report = Report()
    days = DAYS(report, "days", settings["days"])
    for name, value in settings["prices"].items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            report.add(f"prices.{name}", value, "this is not a price", "Write USD, such as 0.05.")
    if report.problems:
        module.fail_json(msg="\n".join(f"{p.path} = {p.value}: {p.problem}. {p.fix}" for p in report.problems))
    clients: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in clients:
            clients[service] = module.client(service)
        return clients[service]

    try:
        account = client("sts").get_caller_identity()["Account"]
        region = module.region
        kinds = [kind for kind in unused.KINDS if kind in (settings["kinds"] or unused.KINDS)]
        plan = None
        if settings["plan"]:
            path = Path(settings["plan"])
            if not path.is_file():
                module.fail_json(msg=f"There is no plan {path}: write a report first, or give its path.")
            plan, wrong = read_plan(path.read_text(), account, region)
            if plan is None or wrong:
                module.fail_json(msg="\n".join([f"Nothing was removed. The plan {path} cannot be used:", *wrong]))
            days = plan["days"]
            marked = [entry for entry in plan["resources"] if entry["remove"]]
            named = {entry["kind"] for entry in marked}
            kinds = [kind for kind in unused.KINDS if kind in named and kind in (settings["kinds"] or named)]
            if not settings["kinds"]:
                module.exit_json(changed=False, account=account, kinds=kinds, go=[], left=[])
        rules = unused.Rules(
            datetime.now(timezone.utc),
            {**unused.DAYS, **{kind: value for kind, value in days.items() if value is not None}},
            {**unused.PRICES, **settings["prices"]},
            tuple(settings["production"]),
        )
        facts = gather(client, {source for kind in kinds for source in unused.KINDS[kind].sources})
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The account cannot be read")
    verdicts = unused.judge(facts, rules, kinds)
    if plan is not None:
        planned = [entry for entry in marked if entry["kind"] in kinds]
        go, left = unused.decide(planned, verdicts, settings["done"])
        module.exit_json(changed=False, account=account, kinds=kinds, go=go, left=left)
    resources = unused.unused(verdicts)
    total, lines = summary(resources, region)
    module.exit_json(
        changed=False,
        account=account,
        kinds=kinds,
        table=lines,
        prices=dict(rules.prices),
        report={
            "account": account,
            "region": region,
            "made": unused.text(rules.now),
            "days": dict(rules.days),
            "prices_of": unused.PRICES_OF,
            "total": total,
            "resources": [{"remove": False, **entry} for entry in resources],
        },
    )


if __name__ == "__main__":
    main()
