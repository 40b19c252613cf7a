# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""playbooks/unused_resources.yml in an account where every kind of resource is there twice: used and unused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.module_utils.aws import unused
from botocore.exceptions import ClientError

from tests.unit.aws import recorder

pytestmark = pytest.mark.slow

BOOK = "playbooks/unused_resources.yml"
ZONES = ("ap-northeast-2a", "ap-northeast-2b")
KEEP = [{"Key": "Keep", "Value": "yes"}]


class Account:
    """What was made in the account: ids by the names that the tests use."""

    def __init__(self, api: recorder.Api) -> None:
        self.ec2, self.elb = api.client("ec2"), api.client("elbv2")
        self.rds, self.logs, self.ssm = api.client("rds"), api.client("logs"), api.client("ssm")
        self.ids: dict[str, str] = {}
        self.network()
        self.machines()
        self.storage()
        self.balancers()
        self.rest()
        self.own()

    def network(self) -> None:
        ec2 = self.ec2
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        empty = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
        make = ec2.create_subnet
        self.subnets = [
            make(VpcId=self.vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for n, zone in enumerate(ZONES)
        ]
        alone = make(VpcId=empty, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
        for name, vpc, subnet in (("endpoint used", self.vpc, self.subnets[0]), ("endpoint", empty, alone)):
            answer = ec2.create_vpc_endpoint(
                VpcId=vpc,
                ServiceName=f"com.amazonaws.{recorder.REGION}.ssm",
                VpcEndpointType="Interface",
                SubnetIds=[subnet],
            )
            self.ids[name] = answer["VpcEndpoint"]["VpcEndpointId"]
        for name in ("group used", "group named", "group"):
            self.ids[name] = ec2.create_security_group(GroupName=name, Description="x", VpcId=self.vpc)["GroupId"]
        pair = [{"GroupId": self.ids["group named"]}]
        rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "UserIdGroupPairs": pair}
        ec2.authorize_security_group_ingress(GroupId=self.ids["group used"], IpPermissions=[rule])
        for name in ("address used", "address", "address of gateway used", "address of gateway"):
            answer = ec2.allocate_address(Domain="vpc")
            self.ids[name] = answer["PublicIp"]
            self.ids[f"allocation {name}"] = answer["AllocationId"]
        for name in ("gateway used", "gateway"):
            answer = ec2.create_nat_gateway(
                SubnetId=self.subnets[0], AllocationId=self.ids[f"allocation address of {name}"]
            )
            self.ids[name] = answer["NatGateway"]["NatGatewayId"]
        table = ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=self.ids["gateway used"])

    def machines(self) -> None:
        ec2 = self.ec2
        # ec2_vol and moto: a volume of no snapshot has no snapshot's id, which AWS always gives.
        first = ec2.create_volume(Size=8, AvailabilityZone=ZONES[0])["VolumeId"]
        self.ids["snapshot"] = ec2.create_snapshot(VolumeId=first)["SnapshotId"]
        ec2.delete_volume(VolumeId=first)
        disk = {"SnapshotId": self.ids["snapshot"], "VolumeSize": 8, "VolumeType": "gp3", "DeleteOnTermination": True}
        for name, tags in (
            ("web", {"Environment": "production"}),
            ("dev", {"Environment": "development"}),
            ("here", {}),
            ("stopped", {}),
            ("stopped kept", {"Keep": "yes"}),
            ("stopped protected", {}),
        ):
            tagged = [{"Key": key, "Value": value} for key, value in {"Name": name, **tags}.items()]
            self.ids[name] = ec2.run_instances(
                ImageId="ami-12c6146b",
                InstanceType="t3.small",
                MinCount=1,
                MaxCount=1,
                SubnetId=self.subnets[0],
                SecurityGroupIds=[self.ids["group used"]],
                BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": disk}],
                TagSpecifications=[{"ResourceType": "instance", "Tags": tagged}],
            )["Instances"][0]["InstanceId"]
            if "stopped" in name:
                ec2.stop_instances(InstanceIds=[self.ids[name]])
        ec2.modify_instance_attribute(InstanceId=self.ids["stopped protected"], DisableApiTermination={"Value": True})
        ec2.associate_address(InstanceId=self.ids["web"], AllocationId=self.ids["allocation address used"])

    def storage(self) -> None:
        ec2 = self.ec2
        for name, tags in (("volume", []), ("volume kept", KEEP), ("volume for later", []), ("volume untagged", [])):
            answer = ec2.create_volume(
                SnapshotId=self.ids["snapshot"],
                Size=10,
                VolumeType="gp3",
                AvailabilityZone=ZONES[0],
                TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": name}, *tags]}],
            )
            self.ids[name] = answer["VolumeId"]
        for name in ("image used", "image stated", "image"):
            disk = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": self.ids["snapshot"]}}
            self.ids[name] = ec2.register_image(Name=name, BlockDeviceMappings=[disk])["ImageId"]
            made = ec2.describe_images(ImageIds=[self.ids[name]])["Images"][0]
            # moto gives each image a snapshot of its own.
            self.ids[f"snapshot of {name}"] = made["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        self.ssm.put_parameter(Name="/golden", Type="String", Value=f"first {self.ids['image stated']}")
        ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData={"ImageId": self.ids["image used"]})

    def balancers(self) -> None:
        elb = self.elb
        for name in ("serving", "idle", "idle-elsewhere", "protected", "redirecting"):
            made = elb.create_load_balancer(Name=name, Subnets=self.subnets, SecurityGroups=[self.ids["group used"]])
            self.ids[name] = arn = made["LoadBalancers"][0]["LoadBalancerArn"]
            redirect = {"Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS", "StatusCode": "HTTP_301"}}
            action: dict[str, Any] = redirect
            if name != "redirecting":
                target = elb.create_target_group(Name=f"of-{name}", Protocol="HTTP", Port=80, VpcId=self.vpc)
                self.ids[f"targets of {name}"] = target["TargetGroups"][0]["TargetGroupArn"]
                action = {"Type": "forward", "TargetGroupArn": self.ids[f"targets of {name}"]}
            elb.create_listener(LoadBalancerArn=arn, Protocol="HTTP", Port=80, DefaultActions=[action])
        elb.register_targets(TargetGroupArn=self.ids["targets of serving"], Targets=[{"Id": self.ids["web"]}])
        others = [{"Key": "Environment", "Value": "production"}]
        elb.add_tags(ResourceArns=[self.ids["idle-elsewhere"]], Tags=others)
        on = [{"Key": "deletion_protection.enabled", "Value": "true"}]
        elb.modify_load_balancer_attributes(LoadBalancerArn=self.ids["protected"], Attributes=on)

    def rest(self) -> None:
        for name, tags in (
            ("/log", {"Environment": "staging"}),
            ("/log-kept", {"Environment": "staging"}),
            ("/log-keep", {"Environment": "staging", "Keep": "yes"}),
            ("/log-untagged", {}),
        ):
            self.logs.create_log_group(logGroupName=name, tags=tags)
        self.logs.put_retention_policy(logGroupName="/log-kept", retentionInDays=30)
        self.rds.create_db_instance(
            DBInstanceIdentifier="db", Engine="mysql", DBInstanceClass="db.t3.micro", AllocatedStorage=20
        )
        for name, environment in (("before", "staging"), ("elsewhere", "production")):
            self.rds.create_db_snapshot(
                DBSnapshotIdentifier=name,
                DBInstanceIdentifier="db",
                Tags=[{"Key": "Environment", "Value": environment}],
            )
        self.ids |= {"log": "/log", "log untagged": "/log-untagged", "database snapshot": "before"}
        self.ids |= {"database snapshot elsewhere": "elsewhere", "environment": "staging"}
        self.ids["environment development"] = "development"

    def own(self) -> None:
        """Tag what is of this environment: nothing else may be removed."""
        others = ("dev", "web", "untagged", "elsewhere")
        tag = [{"Key": "Environment", "Value": "staging"}]
        ids = {name: value for name, value in self.ids.items() if not any(word in name for word in others)}
        ec2 = [value for name, value in ids.items() if re.match(r"(eipalloc|[a-z]+)-[0-9a-z]", value) and name != "log"]
        self.ec2.create_tags(Resources=ec2, Tags=tag)
        arns = [value for value in ids.values() if value.startswith("arn:aws:elasticloadbalancing")]
        self.elb.add_tags(ResourceArns=arns, Tags=tag)

    def volumes(self) -> dict[str, str]:
        found = self.ec2.describe_volumes()["Volumes"]
        return {item["VolumeId"]: item["State"] for item in found}

    def instance(self, name: str) -> str:
        answer = self.ec2.describe_instances(InstanceIds=[self.ids[name]])
        return str(answer["Reservations"][0]["Instances"][0]["State"]["Name"])


UNUSED = (
    "environment|stopped|stopped protected|volume|volume for later|idle|protected|targets of idle|targets of protected|"
    "gateway|address|endpoint|image|snapshot|snapshot of image|database snapshot|group|log"
).split("|")
# Unused as well, but of others or of nobody.
FOREIGN = (
    "environment development|volume untagged|idle-elsewhere|targets of idle-elsewhere|database snapshot elsewhere|"
    "log untagged"
).split("|")
# What is marked in the plan, and goes; the rest of what is marked is left.
GOES = (
    "environment|stopped|volume|idle|targets of idle|gateway|address|endpoint|image|snapshot of image|"
    "database snapshot|group|log"
).split("|")
MARKED = [*GOES, *FOREIGN, "stopped protected", "volume for later", "protected"]

Run = Callable[..., str]


@pytest.fixture(scope="module")
def api() -> Iterator[recorder.Api]:
    with recorder.Api() as found:
        yield found


@pytest.fixture(scope="module")
def account(api: recorder.Api) -> Account:
    return Account(api)


@pytest.fixture(scope="module")
def run(api: recorder.Api, tmp_path_factory: pytest.TempPathFactory) -> Run:
    plan = tmp_path_factory.mktemp("plan") / "unused.yml"
    variables = {
        "platform_environment": {"name": "staging", "region": recorder.REGION},
        "unused_plan": str(plan),
        # In moto, everything is made now.
        "unused_days": dict.fromkeys(unused.DAYS, 0),
        "snapshot": True,
    }

    def playbook(*options: str, code: int = 0) -> str:
        done = api.playbook(BOOK, "localhost,", variables, *options)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    playbook.plan = plan  # type: ignore[attr-defined]
    return playbook


@pytest.fixture(scope="module")
def calls(api: recorder.Api) -> list[recorder.Call]:
    return []


@pytest.fixture(scope="module")
def reported(api: recorder.Api, account: Account, run: Run, calls: list[recorder.Call]) -> dict[str, Any]:
    api.calls.clear()
    shown = run()
    calls += api.calls
    plan: Path = run.plan  # type: ignore[attr-defined]
    return {
        "shown": shown,
        "plan": yaml.safe_load(plan.read_text()),
        "json": json.loads(plan.with_suffix(".json").read_text()),
    }


def test_exactly_what_is_unused_is_reported(account: Account, reported: dict[str, Any]) -> None:
    names = {value: key for key, value in account.ids.items()}
    # Interfaces that moto leaves of the balancer, and the default groups, are its own.
    found = [names.get(entry["id"], entry["id"]) for entry in reported["plan"]["resources"]]
    assert sorted(found) == sorted(UNUSED + FOREIGN)
    assert not any(entry["remove"] for entry in reported["plan"]["resources"])
    assert {entry["kind"] for entry in reported["plan"]["resources"]} == set(unused.KINDS)


def test_table_and_json_say_the_same(account: Account, reported: dict[str, Any]) -> None:
    assert reported["json"]["resources"] == reported["plan"]["resources"]
    assert reported["json"]["prices"]["nat_gateway"] == unused.PRICES["nat_gateway"]
    assert reported["json"]["total"] == pytest.approx(sum(entry["monthly"] for entry in reported["plan"]["resources"]))
    for entry in reported["plan"]["resources"]:
        assert entry["id"] in reported["shown"]


def test_cleanup_removes_what_the_plan_marks_and_nothing_else(
    api: recorder.Api, account: Account, run: Run, reported: dict[str, Any], calls: list[recorder.Call]
) -> None:
    plan: Path = run.plan  # type: ignore[attr-defined]
    marked = [account.ids[name] for name in MARKED]
    for entry in reported["plan"]["resources"]:
        entry["remove"] = entry["id"] in marked
    plan.write_text(yaml.safe_dump(reported["plan"]))
    # Between the report and the cleanup, somebody takes a volume into use.
    account.ec2.attach_volume(
        VolumeId=account.ids["volume for later"], InstanceId=account.ids["web"], Device="/dev/sdf"
    )
    before = account.volumes()
    api.calls.clear()

    shown = run("--tags", "cleanup")

    calls += api.calls
    api.calls.clear()
    ids = account.ids
    shown = " ".join(shown.split())
    assert f"Left: volume {ids['volume for later']}: it is in use: attached to {ids['web']}" in shown
    assert f"Left: instance {ids['stopped protected']}: termination protection is on" in shown
    assert "Left: load_balancer" in shown and "deletion protection is on" in shown
    for name, what, reason in (
        ("volume untagged", "volume", "it has no tag Environment: tag it Environment=staging first"),
        ("log untagged", "log_group", "it has no tag Environment: tag it Environment=staging first"),
        ("environment development", "environment", "it has the tag Environment=development: clean up with"),
        ("idle-elsewhere", "load_balancer", "it has the tag Environment=production: clean up with the inventory of"),
        ("database snapshot elsewhere", "database_snapshot", "it has the tag Environment=production: clean up with"),
    ):
        assert f"Left: {what} {ids[name]}: {reason}" in shown
    assert set(before) - set(account.volumes()) >= {ids["volume"]}
    assert set(before) - set(account.volumes()) <= {ids["volume"], *disks(before, account)}
    states = {
        name: account.instance(name) for name in ("web", "dev", "here", "stopped", "stopped kept", "stopped protected")
    }
    assert states == {
        "web": "running",
        "dev": "running",
        "here": "stopped",
        "stopped": "terminated",
        "stopped kept": "stopped",
        "stopped protected": "stopped",
    }
    balancers = {item["LoadBalancerName"] for item in account.elb.describe_load_balancers()["LoadBalancers"]}
    assert balancers == {"serving", "idle-elsewhere", "protected", "redirecting"}
    targets = {item["TargetGroupName"] for item in account.elb.describe_target_groups()["TargetGroups"]}
    assert targets == {"of-serving", "of-idle-elsewhere", "of-protected"}
    addresses = {item["PublicIp"] for item in account.ec2.describe_addresses()["Addresses"]}
    assert (
        ids["address"] not in addresses
        and {ids["address used"], ids["address of gateway"], ids["address of gateway used"]} <= addresses
    )
    endpoints = {item["VpcEndpointId"]: item["State"] for item in account.ec2.describe_vpc_endpoints()["VpcEndpoints"]}
    assert endpoints.get(ids["endpoint"], "deleted") == "deleted" and endpoints[ids["endpoint used"]] == "available"
    images = {item["ImageId"] for item in account.ec2.describe_images(Owners=["self"])["Images"]}
    assert ids["image"] not in images and {ids["image used"], ids["image stated"]} <= images
    snapshots = account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert ids["snapshot of image"] not in {item["SnapshotId"] for item in snapshots}
    assert {ids["snapshot"], ids["snapshot of image used"]} <= {item["SnapshotId"] for item in snapshots}
    assert [item["VolumeSize"] for item in snapshots if item["VolumeId"] == ids["volume"]] == [10]
    groups = {item["GroupName"] for item in account.ec2.describe_security_groups()["SecurityGroups"]}
    assert {"group used", "group named"} <= groups and "group" not in groups
    gateways = {item["NatGatewayId"]: item["State"] for item in account.ec2.describe_nat_gateways()["NatGateways"]}
    assert gateways.get(ids["gateway"], "deleted") == "deleted" and gateways[ids["gateway used"]] == "available"
    logs = {
        item["logGroupName"]: item.get("retentionInDays") for item in account.logs.describe_log_groups()["logGroups"]
    }
    assert logs == {"/log": 30, "/log-kept": 30, "/log-keep": None, "/log-untagged": None}
    with pytest.raises(ClientError, match="not found"):
        account.rds.describe_db_snapshots(DBSnapshotIdentifier="before")
    assert account.rds.describe_db_snapshots(DBSnapshotIdentifier="elsewhere")["DBSnapshots"]


def disks(volumes: dict[str, str], account: Account) -> set[str]:
    """The volumes that go with the instance that goes."""
    kept = {account.ids[name] for name in ("volume", "volume kept", "volume for later", "volume untagged")}
    return set(volumes) - kept


def test_what_cannot_be_removed_is_told_at_the_end(account: Account, run: Run, api: recorder.Api) -> None:
    """AWS refuses one, and the others go all the same."""
    plan: Path = run.plan  # type: ignore[attr-defined]
    broken = yaml.safe_load(plan.read_text())
    for entry in broken["resources"]:
        entry["remove"] = entry["id"] in (account.ids["snapshot"], account.ids["targets of protected"])
    plan.write_text(yaml.safe_dump(broken))
    api.refuse.add("ec2:DeleteSnapshot")
    shown = " ".join(run("--tags", "cleanup", code=2).split())
    assert f"snapshot {account.ids['snapshot']}: An error occurred (DependencyViolation)" in shown
    assert account.ids["targets of protected"] in shown


def test_the_policies_allow_what_was_called(calls: list[recorder.Call]) -> None:
    assert len(calls) > 50
    policies = ["unused_resources", "unused_resources_cleanup"]
    assert recorder.refused(policies, calls) == []
    assert recorder.untried(policies, calls) == set()
