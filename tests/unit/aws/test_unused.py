# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What is unused, what it costs, and what of a plan may go: by tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.aws import unused, unused_account
from ansible_collections.fivepointers.platform.plugins.modules import unused_resources_info as module

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
RULES = unused.Rules(NOW)
NETWORK = "vpc-1"


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def tags(**values: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def volume(name: str = "vol-1", days: float = 7, **changes: Any) -> dict[str, Any]:
    found = {"VolumeId": name, "CreateTime": ago(days), "Size": 100, "VolumeType": "gp3", "State": "available"}
    return {**found, "Attachments": [], **changes}


def instance(name: str = "i-1", state: str = "stopped", days: float = 30, **changes: Any) -> dict[str, Any]:
    found = {"InstanceId": name, "State": {"Name": state}, "LaunchTime": ago(100), "InstanceType": "t3.small"}
    reason = f"User initiated ({ago(days):%Y-%m-%d %H:%M:%S} GMT)"
    disks = [{"Ebs": {"VolumeId": "vol-1", "DeleteOnTermination": True}}]
    return {**found, "StateTransitionReason": reason, "BlockDeviceMappings": disks, "ImageId": "ami-0", **changes}


def running(name: str, environment: str, days: float, **changes: Any) -> dict[str, Any]:
    return instance(name, "running", LaunchTime=ago(days), Tags=tags(Environment=environment), **changes)


def snapshot(name: str = "snap-1", days: float = 90, **changes: Any) -> dict[str, Any]:
    return {"SnapshotId": name, "VolumeId": "vol-9", "StartTime": ago(days), "VolumeSize": 40, **changes}


def image(name: str = "ami-1", days: float = 90, **changes: Any) -> dict[str, Any]:
    disks = [{"Ebs": {"SnapshotId": "snap-1"}}, {"VirtualName": "ephemeral0"}]
    return {
        "ImageId": name,
        "CreationDate": f"{ago(days):%Y-%m-%dT%H:%M:%S}.000Z",
        "BlockDeviceMappings": disks,
        **changes,
    }


def template(**data: Any) -> dict[str, Any]:
    return {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "web", "LaunchTemplateData": data}


def balancer(name: str = "lb", days: float = 7, **changes: Any) -> dict[str, Any]:
    found = {
        "LoadBalancerArn": f"arn:aws:e:r:1:loadbalancer/app/{name}/1",
        "LoadBalancerName": name,
        "Type": "application",
    }
    return {**found, "CreatedTime": ago(days), "Actions": ["redirect", "forward"], "Protected": False, **changes}


def group(*states: str, of: str = "lb", **changes: Any) -> dict[str, Any]:
    targets = [{"Target": {"Id": f"i-{n}"}, "TargetHealth": {"State": state}} for n, state in enumerate(states)]
    arns = [balancer(of)["LoadBalancerArn"]] if of else []
    found = {"TargetGroupArn": "arn:tg", "TargetGroupName": "tg", "TargetType": "instance", "LoadBalancerArns": arns}
    return {**found, "Targets": targets, **changes}


def security_group(name: str, rules: list[str] | None = None) -> dict[str, Any]:
    pairs = [{"UserIdGroupPairs": [{"GroupId": other} for other in rules or []]}]
    return {"GroupId": f"sg-{name}", "GroupName": name, "IpPermissions": pairs, "IpPermissionsEgress": []}


def gateway(days: float = 7, state: str = "available") -> dict[str, Any]:
    return {"NatGatewayId": "nat-1", "State": state, "CreateTime": ago(days), "VpcId": NETWORK}


def endpoint(days: float = 7, **changes: Any) -> dict[str, Any]:
    found = {"VpcEndpointId": "vpce-1", "VpcEndpointType": "Interface", "State": "available", "ServiceName": "ssm"}
    found |= {"CreationTimestamp": ago(days), "VpcId": NETWORK, "SubnetIds": ["a", "b"]}
    return {**found, "NetworkInterfaceIds": ["eni-own"], **changes}


def interface(name: str, *groups: str) -> dict[str, Any]:
    return {"NetworkInterfaceId": name, "VpcId": NETWORK, "Groups": [{"GroupId": item} for item in groups]}


def database_snapshot(days: float = 90, kind: str = "manual") -> dict[str, Any]:
    found = {"DBSnapshotIdentifier": "before", "DBInstanceIdentifier": "db", "SnapshotType": kind}
    return {**found, "SnapshotCreateTime": ago(days), "AllocatedStorage": 20}


def look(kind: str, **facts: list[dict[str, Any]]) -> list[unused.Verdict]:
    return unused.judge({**{source: [] for source in unused_account.CALLS}, **facts}, RULES, [kind])


# kind, facts → (price a month, or None) of what is unused, or the words that say why it is in use.
CASES: list[tuple[str, dict[str, list[dict[str, Any]]], float | str | None]] = [
    ("volume", {"volumes": [volume()]}, 9.12),
    ("volume", {"volumes": [volume(days=6.9999)]}, "created only 6 days ago (the limit is 7)"),
    ("volume", {"volumes": [volume(VolumeType="io2")]}, None),
    ("volume", {"volumes": [volume(Attachments=[{"InstanceId": "i-1"}], State="in-use")]}, "attached to i-1"),
    ("volume", {"volumes": [volume(State="creating")]}, "it is creating"),
    ("volume", {"volumes": [volume(Tags=tags(Keep=""))]}, "it has the tag Keep"),
    ("volume", {"volumes": [volume(Tags=[{"Key": "aws:backup:x", "Value": "y"}])]}, "remove it there"),
    ("instance", {"instances": [instance()], "volumes": [volume()]}, 9.12),
    ("instance", {"instances": [instance()]}, 0.0),
    ("instance", {"instances": [instance(days=29.9999)]}, "stopped only 29 days ago"),
    ("instance", {"instances": [instance(StateTransitionReason="")]}, 0.0),
    ("instance", {"instances": [instance(StateTransitionReason="", LaunchTime=ago(29))]}, "stopped only 29 days ago"),
    ("instance", {"instances": [instance(state="running")]}, "it is running"),
    (
        "instance",
        {"instances": [instance(Tags=[{"Key": "aws:autoscaling:groupName", "Value": "w"}])]},
        "aws:autoscaling",
    ),
    ("environment", {"instances": [running("a", "dev", 14), running("b", "dev", 20)]}, 37.96),
    ("environment", {"instances": [running("a", "dev", 13.9999), running("b", "dev", 20)]}, "started only 13 days ago"),
    ("environment", {"instances": [running("a", "production", 400)]}, "it is production"),
    ("environment", {"instances": [running("a", "dev", 14, InstanceType="x9.huge")]}, None),
    ("address", {"addresses": [{"PublicIp": "192.0.2.1", "AllocationId": "e"}]}, 3.65),
    ("address", {"addresses": [{"PublicIp": "192.0.2.1", "AssociationId": "e"}]}, "associated with e"),
    ("address", {"addresses": [{"PublicIp": "192.0.2.1", "NetworkInterfaceId": "eni"}]}, "associated with eni"),
    ("snapshot", {"snapshots": [snapshot()]}, 2.0),
    ("snapshot", {"snapshots": [snapshot(StorageTier="archive")]}, 0.5),
    ("snapshot", {"snapshots": [snapshot(days=89.9999)]}, "created only 89 days ago"),
    ("snapshot", {"snapshots": [snapshot()], "images": [image()]}, 2.0),
    (
        "snapshot",
        {"snapshots": [snapshot()], "images": [image()], "parameters": [{"Name": "/golden", "Value": "ami-1"}]},
        "ami-1 needs it",
    ),
    ("snapshot", {"snapshots": [snapshot()], "images": [image()], "instances": [instance(ImageId="ami-1")]}, "ami-1"),
    ("snapshot", {"snapshots": [snapshot()], "images": [image(days=89)]}, "ami-1 needs it"),
    (
        "snapshot",
        {
            "snapshots": [snapshot()],
            "launch_templates": [template(BlockDeviceMappings=[{"Ebs": {"SnapshotId": "snap-1"}}])],
        },
        "lt-1 needs it",
    ),
    ("image", {"images": [image()]}, 0.0),
    (
        "image",
        {"images": [image()], "parameters": [{"Name": "/golden", "Value": "ami-1,x"}]},
        "parameter /golden names",
    ),
    ("image", {"images": [image()], "parameters": [{"Name": "/golden", "Value": "ami-12"}]}, 0.0),
    ("image", {"images": [image(Tags=tags(Keep="1"))]}, "it has the tag Keep"),
    ("image", {"images": [image(days=89.9999)]}, "created only 89 days ago"),
    ("image", {"images": [image()], "instances": [instance(ImageId="ami-1")]}, "i-1 runs from it"),
    ("image", {"images": [image()], "instances": [instance(state="terminated", ImageId="ami-1")]}, 0.0),
    ("image", {"images": [image()], "launch_templates": [template(ImageId="ami-1")]}, "lt-1 uses it"),
    ("image", {"images": [image(Public=True)]}, "it is public"),
    ("load_balancer", {"load_balancers": [balancer()], "target_groups": [group()]}, 16.43),
    ("load_balancer", {"load_balancers": [balancer(days=6)], "target_groups": [group()]}, "created only 6 days ago"),
    ("load_balancer", {"load_balancers": [balancer()], "target_groups": [group("unhealthy", "unused")]}, 16.43),
    ("load_balancer", {"load_balancers": [balancer()], "target_groups": [group("unhealthy", "healthy")]}, "serves i-1"),
    ("load_balancer", {"load_balancers": [balancer()], "target_groups": [group("initial")]}, "serves i-0"),
    ("load_balancer", {"load_balancers": [balancer()]}, "it responds without targets: redirect"),
    ("load_balancer", {"load_balancers": [balancer(Actions=[])]}, 16.43),
    ("load_balancer", {"load_balancers": [balancer(Type="gateway")]}, "not checked"),
    ("target_group", {"target_groups": [group(of="")]}, 0.0),
    ("target_group", {"target_groups": [group("unhealthy", of="")]}, "it has 1 targets"),
    ("target_group", {"target_groups": [group()], "load_balancers": [balancer()]}, 0.0),
    (
        "target_group",
        {"target_groups": [group()], "load_balancers": [balancer(days=1)]},
        "load balancer lb forwards to it",
    ),
    ("security_group", {"security_groups": [security_group("a")]}, 0.0),
    ("security_group", {"security_groups": [security_group("a", ["sg-a"])]}, 0.0),
    ("security_group", {"security_groups": [security_group("default")]}, "default"),
    ("security_group", {"security_groups": [security_group("a")], "interfaces": [interface("eni-1", "sg-a")]}, "eni-1"),
    (
        "security_group",
        {"security_groups": [security_group("a")], "launch_templates": [template(SecurityGroupIds=["sg-a"])]},
        "launch template web",
    ),
    (
        "security_group",
        {
            "security_groups": [security_group("a")],
            "databases": [{"DBInstanceIdentifier": "db", "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-a"}]}],
        },
        "db uses it",
    ),
    (
        "security_group",
        {"security_groups": [security_group("a")], "load_balancers": [balancer(SecurityGroups=["sg-a"])]},
        "lb",
    ),
    (
        "log_group",
        {"log_groups": [{"logGroupName": "/a", "Tags": {"Keep": "yes"}}]},
        "it has the tag Keep",
    ),
    ("log_group", {"log_groups": [{"logGroupName": "/a", "storedBytes": 100_000_000_000}]}, 3.14),
    ("log_group", {"log_groups": [{"logGroupName": "/a", "retentionInDays": 30}]}, "for 30 days"),
    ("database_snapshot", {"database_snapshots": [database_snapshot()]}, 1.9),
    ("database_snapshot", {"database_snapshots": [database_snapshot(days=89)]}, "created only 89 days ago"),
    ("nat_gateway", {"nat_gateways": [gateway()]}, 43.07),
    ("nat_gateway", {"nat_gateways": [gateway(days=6)]}, "created only 6 days ago"),
    (
        "nat_gateway",
        {
            "nat_gateways": [gateway()],
            "route_tables": [{"RouteTableId": "rtb-1", "Routes": [{"NatGatewayId": "nat-1"}]}],
        },
        "route table rtb-1 uses it",
    ),
    ("endpoint", {"endpoints": [endpoint()], "interfaces": [interface("eni-own")]}, 18.98),
    ("endpoint", {"endpoints": [endpoint(days=6)]}, "created only 6 days ago"),
    ("endpoint", {"endpoints": [endpoint()], "interfaces": [interface("eni-2")]}, "eni-2 in the same network"),
]


@pytest.mark.parametrize("kind, facts, wanted", CASES)
def test_each_kind_is_judged(kind: str, facts: dict[str, Any], wanted: float | str | None) -> None:
    (verdict,) = look(kind, **facts)
    if isinstance(wanted, str):
        assert wanted in verdict.used
    else:
        assert (verdict.used, verdict.monthly) == ("", wanted)
        assert verdict.reason and verdict.evidence
        assert wanted is not None or "no price is known for" in verdict.note


@pytest.mark.parametrize(
    "kind, facts",
    [
        ("instance", {"instances": [instance(state="terminated")]}),
        ("nat_gateway", {"nat_gateways": [gateway(state="deleted")]}),
        ("endpoint", {"endpoints": [endpoint(VpcEndpointType="Gateway")]}),
        ("database_snapshot", {"database_snapshots": [database_snapshot(kind="automated")]}),
        ("environment", {"instances": [instance(state="running"), instance(Tags=tags(Environment="dev"))]}),
    ],
)
def test_what_is_gone_or_free_or_ends_by_itself_is_not_there(kind: str, facts: dict[str, Any]) -> None:
    assert look(kind, **facts) == []


def test_every_kind_and_every_limit_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(unused.KINDS)
    limited = {case[0] for case in CASES if isinstance(case[2], str) and "ago" in case[2]}
    assert limited >= set(unused.DAYS)


def test_groups_that_refer_to_each_other_keep_each_other() -> None:
    """Whoever wants both gone removes the rules first: that a group is named must never be guessed away."""
    verdicts = look("security_group", security_groups=[security_group("a", ["sg-b"]), security_group("b", ["sg-a"])])
    assert [item.used for item in verdicts] == ["the rules of b refer to it", "the rules of a refer to it"]


def test_the_last_snapshot_of_a_volume_is_told() -> None:
    found = look("snapshot", snapshots=[snapshot("old", 200), snapshot("new", 100)], volumes=[volume("vol-9")])
    assert [("the last one" in item.reason, "exists" in item.reason) for item in found] == [(False, True), (True, True)]


def test_dearest_first_and_unknown_prices_are_said() -> None:
    facts = {
        "volumes": [volume("cheap", Size=1), volume("dear"), volume("odd", VolumeType="io2"), volume("new", days=1)]
    }
    entries = unused.unused(look("volume", **facts))
    assert [entry["id"] for entry in entries] == ["dear", "cheap", "odd"]
    total, lines = module.summary(entries, "ap-northeast-2")
    assert total == 9.21
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["volume", "dear", "9.12"],
        ["volume", "cheap", "0.09"],
        ["volume", "odd", "unknown"],
    ]
    assert lines[-1] == "9.21 USD a month, at list prices of ap-northeast-2, October 2026."
    assert "Prices in eu-west-1 differ" in module.summary(entries, "eu-west-1")[1][-1]


def planned(kind: str, **facts: Any) -> list[dict[str, Any]]:
    return unused.unused(look(kind, **facts))


@pytest.mark.parametrize(
    "then, now, why",
    [
        (volume(), volume(), None),
        (volume(), volume(Attachments=[{"InstanceId": "i-7"}], State="in-use"), "it is in use: attached to i-7"),
        (volume(), volume(Size=200), "it has changed since the plan: size"),
        (volume(), volume(days=8), "it has changed since the plan: created"),
        (volume(), volume(Tags=tags(Keep="yes")), "it is in use: it has the tag Keep"),
        (volume(), volume("vol-2"), "it no longer exists"),
    ],
)
def test_only_what_is_as_it_was_may_go(then: dict[str, Any], now: dict[str, Any], why: str | None) -> None:
    go, left = unused.decide(planned("volume", volumes=[then]), look("volume", volumes=[now]), [])
    assert [entry["id"] for entry in go] == ([] if why else ["vol-1"])
    assert left == ([f"volume vol-1: {why}"] if why else [])


def test_what_is_protected_is_left() -> None:
    facts = {"instances": [instance(Protected=True)]}
    assert unused.decide(planned("instance", **facts), look("instance", **facts), []) == (
        [],
        ["instance i-1: termination protection is on"],
    )


def test_what_others_own_and_what_nobody_does_is_left() -> None:
    """For every kind, and also where AWS said nothing of tags."""
    rules = RULES._replace(environment="staging")
    for tagged, why in (
        ({"Tags": tags(Environment="staging")}, ""),
        ({"Tags": tags(Environment="production")}, "it has the tag Environment=production: clean up with"),
        ({"Tags": []}, "it has no tag Environment: tag it Environment=staging first"),
        ({}, "it has no tag Environment"),
    ):
        (verdict,) = unused.judge(
            {"load_balancers": [balancer(Actions=["forward"], **tagged)], "target_groups": []}, rules, ["load_balancer"]
        )
        assert verdict.used == ""
        left = unused.obstacle({"evidence": verdict.evidence}, verdict, set())
        assert bool(left) == bool(why) and left.startswith(why)
        (verdict,) = unused.judge(
            {"database_snapshots": [database_snapshot() | {"TagList": tagged.get("Tags")}], "databases": []},
            rules,
            ["database_snapshot"],
        )
        assert unused.obstacle({"evidence": verdict.evidence}, verdict, set()).startswith(why)


def test_a_snapshot_waits_for_its_image() -> None:
    facts = {"snapshots": [snapshot()], "images": [image()]}
    plan = planned("snapshot", **facts)
    assert unused.decide(plan, look("snapshot", **facts), [])[1] == ["snapshot snap-1: ami-1 must be removed first"]
    assert unused.decide(plan, look("snapshot", **facts), ["ami-1"])[1] == []
    assert unused.decide(plan, look("snapshot", snapshots=[snapshot()]), [])[1] == []


PLAN = """
account: '123456789012'
region: ap-northeast-2
resources:
- {remove: true, kind: volume, id: vol-1, evidence: {size: 1}, reason: because}
"""


def test_a_plan_is_read() -> None:
    plan, wrong = unused_account.read_plan(PLAN, "123456789012", "ap-northeast-2")
    assert wrong == [] and plan is not None and plan["resources"][0]["id"] == "vol-1"


@pytest.mark.parametrize(
    "before, after, words",
    [
        ("remove: true", "remove: yes please", "resources[0].remove = yes please"),
        ("remove: true, ", "", "resources[0].remove"),
        ("kind: volume", "kind: volumes", "Did you mean 'volume'?"),
        ("id: vol-1", "id: [vol-1]", "resources[0].id"),
        ("evidence: {size: 1}, ", "", "resources[0].evidence"),
        ("reason: because", "reason: because, removed: true", "unknown key 'removed'"),
        ("'123456789012'", "'999999999999'", "account = 999999999999: the account is 123456789012"),
        ("region: ap-northeast-2", "region: eu-west-1", "region = eu-west-1: the region is ap-northeast-2"),
        ("resources:", "resources: [", "not valid YAML"),
        ("resources:", "things:", "resources"),
        ("because}", "because}\n- {remove: false, kind: volume, id: vol-1, evidence: {}}", "more than once"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_reason(before: str, after: str, words: str) -> None:
    assert before in PLAN
    wrong = unused_account.read_plan(PLAN.replace(before, after), "123456789012", "ap-northeast-2")[1]
    assert words in "\n".join(wrong)


def test_the_documented_kinds_are_those_that_there_are() -> None:
    import yaml

    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert options["kinds"]["choices"] == list(unused.KINDS)
    assert {source for kind in unused.KINDS.values() for source in kind.sources} == set(unused_account.CALLS)
