# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""provision.yml on an account of its own: a dry run, a first run, one that mends drift, and one with nothing to do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from sandbox import certificates
from sandbox.scheduler import run_due
from tests import warm
from tests.unit.aws import recorder

REGION = "ap-northeast-2"
CATALOGUE: dict[str, Any] = {
    "services": {
        "api": {
            "kind": "nestjs_api",
            "port": 3001,
            "health": "/health",
            "public": [{"host": "api"}],
            "needs": ["database"],
            "build": {"source": "api"},
        }
    },
    "databases": {"database": {"engine": "mysql"}},
}
ENVIRONMENT: dict[str, Any] = {
    "name": "trial",
    "domain": "example.com",
    "region": REGION,
    "tls": {"mode": "load_balancer"},
    "databases": {
        "database": {
            "host": "db.internal",
            "name": "app",
            "user": "app",
            "password": {"variable": "unused"},
            "max_connections": 100,
        }
    },
    "artifacts": "s3://trial-builds",
    "artifact_signing": False,
    "aws": {
        "network": {"nat": "none", "endpoints": []},
        "hosts": {"all": {"services": ["edge", "api"]}},
        # moto tells nothing of gp3's throughput, without which the module breaks.
        "database": {"storage_type": "gp2"},
        "schedule": {"start": "08:00", "stop": "20:00", "timezone": "Asia/Seoul"},
    },
}
TAGS = {"Platform": "fivepointers", "Environment": "trial", "ManagedBy": "fivepointers.platform"}


class Account:
    """An AWS API of its own, with a playbook's inventory."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        keys = {"AWS_ACCESS_KEY_ID": "TRIAL12345", "AWS_SECRET_ACCESS_KEY": "unusual-trial-key"}
        self.environment = {
            **os.environ,
            **keys,
            "AWS_ENDPOINT_URL": url,
            "ANSIBLE_CONFIG": str(recorder.ROOT / "ansible.cfg"),
        }
        session = boto3.session.Session(*keys.values(), region_name=REGION)
        self.client: Callable[[str], Any] = lambda name: session.client(name, endpoint_url=url)
        names = ("ec2", "rds", "s3", "elbv2", "route53", "acm", "cloudwatch", "iam", "logs")
        self.ec2, self.rds, self.s3, self.elbv2, self.route53, self.acm, self.cloudwatch, self.iam, self.logs = (
            self.client(name) for name in names
        )  # type: Any, Any, Any, Any, Any, Any, Any, Any, Any
        inventory = folder / "inventories" / "trial"
        (inventory / "group_vars" / "all").mkdir(parents=True)
        (inventory.parent / "services.yml").write_text(yaml.safe_dump(CATALOGUE))
        self.programs = warm.programs(self.environment)
        python = {"ansible_connection": "local", "ansible_python_interpreter": str(self.programs / "python")}
        (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"localhost": python}}}))
        self.inventory = inventory
        path = inventory / "group_vars" / "all" / "environment.yml"
        path.write_text(yaml.safe_dump({"platform_environment": ENVIRONMENT}))

    def provision(self, *arguments: str) -> tuple[int, int, str]:
        """Run the playbook; return its code, how many tasks changed something, and its output."""
        return self.run("provision", *arguments)

    def run(self, playbook: str, *arguments: str) -> tuple[int, int, str]:
        """The same of another playbook."""
        command = [str(self.programs / "ansible-playbook"), "-i", str(self.inventory)]
        command += [str(recorder.ROOT / "playbooks" / f"{playbook}.yml"), *arguments]
        run = subprocess.run(
            command, env=self.environment, cwd=recorder.ROOT, capture_output=True, text=True, timeout=600
        )
        changed = re.search(r"changed=(\d+)", run.stdout)
        return run.returncode, int(changed[1]) if changed else -1, run.stdout + run.stderr

    def host(self) -> dict[str, Any]:
        """Return the one instance."""
        filters = [{"Name": "tag:Environment", "Values": ["trial"]}]
        reservations = self.ec2.describe_instances(Filters=filters)["Reservations"]
        (found,) = [instance for item in reservations for instance in item["Instances"]]
        return found

    def group(self, name: str) -> dict[str, Any]:
        """Return a security group by its name."""
        (found,) = self.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])[
            "SecurityGroups"
        ]
        return found

    def another(self) -> str:
        """Launch a host of another environment; return its id."""
        tags = [{"Key": key, "Value": value} for key, value in {**TAGS, "Environment": "other"}.items()]
        made = self.ec2.run_instances(
            ImageId="ami-12c6146b",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        return str(made["Instances"][0]["InstanceId"])

    def statements(self, role: str) -> list[dict[str, Any]]:
        """Return what a role of the same name's policy allows."""
        found = self.iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]["Statement"]
        return list(found)

    def retag(self, layer: str, tags: dict[str, str]) -> None:
        """Have these as the only tags of that thing of a layer which only its tags make this environment's."""
        items, gone = [{"Key": key, "Value": value} for key, value in {"Note": "x", **tags}.items()], list(TAGS)
        roles = {"hosts": "trial-host", "database_access": "trial-database-access", "schedule": "trial-schedule"}
        if layer in roles:
            self.iam.untag_role(RoleName=roles[layer], TagKeys=gone)
            self.iam.tag_role(RoleName=roles[layer], Tags=items)
        elif layer == "database":
            arn = self.rds.describe_db_instances()["DBInstances"][0]["DBInstanceArn"]
            self.rds.remove_tags_from_resource(ResourceName=arn, TagKeys=gone)
            self.rds.add_tags_to_resource(ResourceName=arn, Tags=items)
        else:
            arn = self.elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
            self.elbv2.remove_tags(ResourceArns=[arn], TagKeys=gone)
            self.elbv2.add_tags(ResourceArns=[arn], Tags=items)

    def states(self) -> dict[str, str]:
        """Return the state of each host and database."""
        items = [item for group in self.ec2.describe_instances()["Reservations"] for item in group["Instances"]]
        found = {item["InstanceId"]: item["State"]["Name"] for item in items}
        databases = self.rds.describe_db_instances()["DBInstances"]
        return found | {item["DBInstanceIdentifier"]: item["DBInstanceStatus"] for item in databases}

    def certificate(self) -> None:
        """Import a certificate of the public names."""
        pem, key = self.folder / "certificate.pem", self.folder / "key.pem"
        certificates.ensure(self.folder / "ca.pem", pem, key, ["example.com", "api.example.com"], "trial")
        self.acm.import_certificate(Certificate=pem.read_bytes(), PrivateKey=key.read_bytes())

    def targets(self) -> dict[str, Any]:
        """Return the group of targets."""
        found: dict[str, Any] = self.elbv2.describe_target_groups()["TargetGroups"][0]
        return found

    def attributes(self) -> dict[str, str]:
        """Return the load balancer's attributes."""
        arn = self.elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        found = self.elbv2.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
        return {item["Key"]: item["Value"] for item in found}

    def public_access(self) -> dict[str, bool]:
        """Return what of the bucket is kept from the public; empty where nobody said."""
        try:
            found = self.s3.get_public_access_block(Bucket="trial-builds")
        except self.s3.exceptions.ClientError:
            return {}
        return dict(found["PublicAccessBlockConfiguration"])

    def everything(self) -> dict[str, Any]:
        """Return what the layers made, as the API tells it, without what is anew in each answer."""
        asked = ("vpcs", "subnets", "internet_gateways", "route_tables", "vpc_endpoints", "security_groups")
        answers = {name: getattr(self.ec2, f"describe_{name}")() for name in asked}
        versions = self.ec2.describe_launch_template_versions(LaunchTemplateName="trial-all")["LaunchTemplateVersions"]
        host = self.host()
        arn = self.elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        (instance,) = self.rds.describe_db_instances()["DBInstances"]
        del instance["LatestRestorableTime"]
        (zone,) = self.route53.list_hosted_zones()["HostedZones"]
        parameters = self.rds.describe_db_parameters(DBParameterGroupName="trial-database")["Parameters"]
        target_health = self.elbv2.describe_target_health(TargetGroupArn=self.targets()["TargetGroupArn"])
        return {
            **{
                name: [item for key, item in answer.items() if key != "ResponseMetadata"]
                for name, answer in answers.items()
            },
            "versions": [version["LaunchTemplateData"] for version in versions],
            "host": (host["InstanceId"], _tags(host), sorted(group["GroupId"] for group in host["SecurityGroups"])),
            "instance": instance,
            "parameters": {item["ParameterName"]: item["ParameterValue"] for item in parameters},
            "bucket": self.public_access(),
            "lifecycle": self.s3.get_bucket_lifecycle_configuration(Bucket="trial-builds")["Rules"],
            "listeners": self.elbv2.describe_listeners(LoadBalancerArn=arn)["Listeners"],
            "target group": self.targets(),
            "targets": [item["Target"]["Id"] for item in target_health["TargetHealthDescriptions"]],
            "records": self.route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"],
            "roles": {
                item["RoleName"]: (item["Description"], item["AssumeRolePolicyDocument"])
                for item in self.iam.list_roles()["Roles"]
            },
            "logs": {
                item["logGroupName"]: item["retentionInDays"] for item in self.logs.describe_log_groups()["logGroups"]
            },
            "alarms": sorted(item["AlarmName"] for item in self.cloudwatch.describe_alarms()["MetricAlarms"]),
        }

    def halve(self) -> None:
        """Remove something of most layers, as a first run that was killed leaves it."""
        arn = self.elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        for listener in self.elbv2.describe_listeners(LoadBalancerArn=arn)["Listeners"]:
            self.elbv2.delete_listener(ListenerArn=listener["ListenerArn"])
        for group in self.logs.describe_log_groups()["logGroups"]:
            self.logs.delete_log_group(logGroupName=group["logGroupName"])
        alarms = self.cloudwatch.describe_alarms()["MetricAlarms"]
        self.cloudwatch.delete_alarms(AlarmNames=[alarm["AlarmName"] for alarm in alarms])
        (zone,) = self.route53.list_hosted_zones()["HostedZones"]
        records = self.route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
        changes = [{"Action": "DELETE", "ResourceRecordSet": item} for item in records if "AliasTarget" in item]
        self.route53.change_resource_record_sets(HostedZoneId=zone["Id"], ChangeBatch={"Changes": changes})
        group = self.group("trial-database")
        self.ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])

    def drift(self) -> None:
        """Change something in each layer by hand."""
        host, database = self.host()["InstanceId"], self.group("trial-database")["GroupId"]
        opened = {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
        self.ec2.authorize_security_group_ingress(GroupId=database, IpPermissions=[opened])
        self.ec2.delete_tags(Resources=[host], Tags=[{"Key": "Name"}])
        self.ec2.modify_instance_attribute(InstanceId=host, Groups=[database])
        self.iam.update_role_description(RoleName="trial-host", Description="by hand")
        arn = self.elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        lax = {"idle_timeout.timeout_seconds": "60", "routing.http.drop_invalid_header_fields.enabled": "false"}
        attributes = [{"Key": key, "Value": value} for key, value in lax.items()]
        self.elbv2.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=attributes)
        group = self.targets()["TargetGroupArn"]
        self.elbv2.modify_target_group(TargetGroupArn=group, HealthCheckPath="/nothing")
        self.elbv2.deregister_targets(TargetGroupArn=group, Targets=[{"Id": host}])
        self.s3.delete_public_access_block(Bucket="trial-builds")
        without_tls = {"ParameterName": "require_secure_transport", "ParameterValue": "0", "ApplyMethod": "immediate"}
        self.rds.modify_db_parameter_group(DBParameterGroupName="trial-database", Parameters=[without_tls])
        self.rds.modify_db_instance(DBInstanceIdentifier="trial-database", BackupRetentionPeriod=1)
        (zone,) = self.route53.list_hosted_zones()["HostedZones"]
        elsewhere = {"Name": "api.example.com", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.9"}]}
        self.route53.change_resource_record_sets(
            HostedZoneId=zone["Id"], ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": elsewhere}]}
        )
        self.logs.put_retention_policy(logGroupName="/fivepointers/trial/nginx", retentionInDays=1)
        self.cloudwatch.delete_alarms(AlarmNames=[self.cloudwatch.describe_alarms()["MetricAlarms"][0]["AlarmName"]])


def _tags(resource: dict[str, Any]) -> dict[str, str]:
    """Return the tags that are not AWS's own."""
    return {tag["Key"]: tag["Value"] for tag in resource["Tags"] if not tag["Key"].startswith("aws:")}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An empty account, in a process of its own."""
    folder = tmp_path_factory.mktemp("provision")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = {
        **os.environ,
        "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
        "MOTO_ENABLE_RECORDING": "true",
        "MOTO_RECORDER_FILEPATH": str(folder / "calls"),
    }
    with (folder / "moto.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "sandbox.cloudwatch", "--port", str(port)],
            env=environment,
            cwd=recorder.ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until and server.poll() is None, (folder / "moto.log").read_text()
                time.sleep(0.2)
        yield Account(folder, f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(10)


def test_an_environment_is_made_mended_and_then_left_alone(account: Account) -> None:
    """The whole life: a dry run makes nothing and tells all; drift is mended, and nothing else is touched."""
    code, changed, output = account.provision("--check")
    assert code == 0 and changed > 0, output
    words = ["trial-public-1", "trial-private-2", "trial (internet gateway)", "trial-s3", "trial-host", "trial-all-1"]
    words += [f"trial-{thing}" for thing in ("load-balancer", "edge", "api", "database", "database-access")]
    words += ["trial-database: parameters", "trial-builds, created", "trial-edge, a load balancer"]
    words += ["zone example.com", "database_access: would change role", "schedule: would change"]
    words += ["monitoring: would change"]
    summary = output[output.index("network: would change") :]
    assert [word for word in words if word not in summary] == [], summary
    assert "aws acm request-certificate" in summary
    assert account.ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.20.0.0/16"]}])["Vpcs"] == []
    assert account.rds.describe_db_instances()["DBInstances"] == []
    assert account.route53.list_hosted_zones()["HostedZones"] == []
    assert account.cloudwatch.describe_alarms()["MetricAlarms"] == []

    account.certificate()
    other = account.another()
    code, _changed, output = account.provision()
    assert code == 0, output
    host = account.host()
    assert _tags(host) == {**TAGS, "Name": "trial-all-1", "Service": "all", "Services": "edge,api"}
    assert not host.get("PublicIpAddress")
    assert {group["GroupName"] for group in host["SecurityGroups"]} == {"trial-edge", "trial-api"}
    assert [
        (rule["FromPort"], [pair["GroupId"] for pair in rule["UserIdGroupPairs"]], rule["IpRanges"])
        for rule in account.group("trial-database")["IpPermissions"]
    ] == [(3306, [account.group("trial-api")["GroupId"]], [])]
    made = account.everything()
    assert made["versions"][-1]["MetadataOptions"]["HttpTokens"] == "required"
    assert made["versions"][-1]["BlockDeviceMappings"][0]["Ebs"]["Encrypted"]
    database = made["instance"]
    assert not database["PubliclyAccessible"] and database["StorageEncrypted"]
    assert database["BackupRetentionPeriod"] == 7 and database["MasterUserSecret"]["SecretArn"]
    assert f"answers at {database['Endpoint']['Address']}" in " ".join(output.split())
    assert made["parameters"]["require_secure_transport"] == "1" and made["parameters"]["max_connections"] == "100"
    assert set(made["bucket"].values()) == {True}
    assert made["targets"] == [host["InstanceId"]]
    plain, secure = sorted(made["listeners"], key=lambda item: item["Port"])
    assert plain["DefaultActions"][0]["RedirectConfig"]["Protocol"] == "HTTPS"
    assert secure["Certificates"] and secure["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    names = {item["Name"] for item in made["records"] if "AliasTarget" in item}
    assert names == {"api.example.com."}

    allowed = {
        statement["Action"] if isinstance(statement["Action"], str) else statement["Action"][0]: statement["Resource"]
        for role in ("trial-database-access", "trial-schedule")
        for statement in account.statements(role)
    }
    arn = f"arn:aws:ec2:{REGION}:123456789012"
    assert allowed == {
        "ec2:RevokeSecurityGroupIngress": f"{arn}:security-group/{account.group('trial-database-access')['GroupId']}",
        "ec2:StartInstances": [f"{arn}:instance/{host['InstanceId']}"],
        "rds:StartDBInstance": [database["DBInstanceArn"]],
    }

    # By hand, at night: the database open to a network, a host in a group of another, tags and records gone.
    account.drift()
    code, changed, output = account.provision("--diff")
    assert code == 0, output
    assert account.everything() == made
    attributes = account.attributes()
    assert attributes["idle_timeout.timeout_seconds"] == "3600"
    assert attributes["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert "- tcp 3306 from 10.0.0.0/8" in output, output
    summary = output[output.index("network: unchanged") :]
    for line in (
        "security_groups: changed rules of trial-database",
        "database: changed trial-database; trial-database: parameters",
        "artifacts: changed trial-builds: private true instead of false",
        f"load_balancer: changed targets; attributes; targets {host['InstanceId']}",
        "hosts: changed roles trial-host; tags of trial-all-1; groups of trial-all-1",
        "dns: changed records api.example.com",
        "database_access: unchanged",
        "schedule: unchanged",
        "monitoring: changed logs /fivepointers/trial/nginx; alarms",
    ):
        assert f"{line}\n" in summary, summary
    # Rules; role, tags and groups of the host; instance, parameters, block of public access, group of targets,
    # attributes, target, record; logs, alarm.
    assert changed == 13, output

    code, changed, output = account.provision()
    assert code == 0 and changed == 0, output
    assert account.everything() == made

    # From here on no controller: the stand-in's clock moves, and only the API is asked.
    running = account.states()
    friday = datetime(2026, 11, 27, 11, 0, 20, tzinfo=UTC)  # 20:00 in Seoul
    assert len(run_due(account.client, friday)) == 2
    stopped = account.states()
    assert stopped == {host["InstanceId"]: "stopped", "trial-database": "stopped", other: "running"}
    weekend = run_due(account.client, friday + timedelta(days=2), friday + timedelta(minutes=1))
    assert (weekend, account.states()) == ([], stopped)
    assert len(run_due(account.client, datetime(2026, 11, 29, 23, 0, 20, tzinfo=UTC))) == 2  # Monday, 8:00 in Seoul
    assert account.states() == running

    # What docs/iam allows is what the modules called in these runs.
    policies = sorted(path.stem for path in recorder.POLICIES.glob("provision*.json"))
    recording = recorder.recorded(account.folder / "calls")
    calls = [call.of_environment("trial", "trial-builds") for call in recording]
    assert recorder.refused(policies, calls) == []
    # The policies demand the tag of what is made by the tag alone.
    made = [call for call in calls if call.action in recorder.TAGGED]
    assert len(made) > 5
    assert [call for call in made if ("Environment", "EXAMPLE-ENVIRONMENT") not in call.tags] == []
    assert recorder.untried(policies, calls) == set()


@pytest.mark.parametrize(
    ("layer", "tags"),
    [
        # The three roles are made by one module.
        pytest.param("hosts", {}, marks=pytest.mark.soak),
        ("hosts", {"ManagedBy": TAGS["ManagedBy"], "Environment": "other"}),
        pytest.param("database_access", {}, marks=pytest.mark.soak),
        pytest.param("schedule", {}, marks=pytest.mark.soak),
        ("database", {}),
        ("load_balancer", {}),
    ],
    ids=["role", "role of another environment", "role for access", "role for hours", "database", "load balancer"],
)
def test_what_has_our_name_and_not_our_tags_is_left_alone(account: Account, layer: str, tags: dict[str, str]) -> None:
    """Made by hand, or by another environment whose names meet this one's."""
    account.retag(layer, tags)
    try:
        before = account.everything()
        code, _changed, output = account.provision("--tags", layer)
        assert code != 0, output
        reason = "has the tag Environment=other" if tags else "has no tag ManagedBy=fivepointers.platform"
        assert re.search(rf"The (role|RDS instance|load balancer) trial-\S+ {reason}", " ".join(output.split())), output
        assert account.everything() == before
    finally:
        account.retag(layer, TAGS)


@pytest.mark.soak
def test_a_dry_run_tells_what_a_run_would_do_and_changes_nothing(account: Account) -> None:
    """On an account that is complete, drifted and half made; an empty one is above."""
    if not account.ec2.describe_launch_templates()["LaunchTemplates"]:
        account.certificate()
        assert account.provision()[0] == 0
    for state, spoil in (("complete", lambda: None), ("drifted", account.drift), ("half made", account.halve)):
        spoil()
        before = account.everything()
        code, told, output = account.provision("--check", "--diff")
        assert code == 0, f"{state}: {output}"
        assert account.everything() == before, f"{state}: a dry run changed something"
        code, changed, output = account.provision("--diff")
        assert (code, changed) == (0, told), f"{state}: a dry run told of {told}\n{output}"
        code, told, output = account.provision("--check", "--diff")
        assert (code, told) == (0, 0), f"{state}: {output}"
    before = account.states()
    for state in ("stopped", "running"):
        code, told, output = account.run("power", "--check", "--diff", "-e", f"state={state}")
        assert code == 0 and bool(told) == (state == "stopped"), output
        assert account.states() == before
    # It would write its plan to a file.
    code, _told, output = account.run("unused_resources", "--check", "--diff")
    assert code == 0, output
