# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Database, bucket, load balancer and names by provision.yml: a dry run, a first run, and one that mends drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3

from sandbox import certificates
from tests.integration.test_35_provision import ENVIRONMENT, REGION, Account, account

__all__ = ["account"]
LAYERS = "database,artifacts,load_balancer,dns"
TAGS = {"Platform": "fivepointers", "Environment": "trial", "ManagedBy": "fivepointers.platform"}
# moto tells nothing of gp3's throughput, without which the module breaks.
STACK = {**ENVIRONMENT, "artifacts": "s3://trial-builds", "aws": {"database": {"storage_type": "gp2"}}}


class Stack:
    """What the layers made, as the API tells it."""

    def __init__(self, used: Account) -> None:
        self.used = used
        keys = (used.environment["AWS_ACCESS_KEY_ID"], used.environment["AWS_SECRET_ACCESS_KEY"])
        session = boto3.session.Session(*keys, region_name=REGION)
        url = used.environment["AWS_ENDPOINT_URL"]
        names = ("ec2", "rds", "s3", "elbv2", "route53", "acm")
        self.ec2, self.rds, self.s3, self.elbv2, self.route53, self.acm = (
            session.client(name, endpoint_url=url) for name in names
        )  # type: Any, Any, Any, Any, Any, Any

    def surroundings(self, folder: Path) -> str:
        """Make what the layers before these make, and a certificate; return the edge's id."""

        def tags(kind: str, name: str, **more: str) -> list[dict[str, Any]]:
            found = [{"Key": key, "Value": value} for key, value in {**TAGS, "Name": name, **more}.items()]
            return [{"ResourceType": kind, "Tags": found}]

        vpc = self.ec2.create_vpc(CidrBlock="10.20.0.0/16", TagSpecifications=tags("vpc", "trial"))["Vpc"]["VpcId"]
        subnets = [
            self.ec2.create_subnet(
                VpcId=vpc, CidrBlock=f"10.20.{number * 16}.0/20", AvailabilityZone=f"{REGION}{'ac'[number % 2]}"
            )["Subnet"]["SubnetId"]
            for number in range(4)
        ]
        for name in ("load-balancer", "database"):
            self.ec2.create_security_group(GroupName=f"trial-{name}", Description=name, VpcId=vpc)
        pem, key = folder / "certificate.pem", folder / "key.pem"
        certificates.ensure(folder / "ca.pem", pem, key, ["example.com", "api.example.com"], "trial")
        self.acm.import_certificate(Certificate=pem.read_bytes(), PrivateKey=key.read_bytes())
        edge = self.ec2.run_instances(
            ImageId="ami-12c6146b", InstanceType="t3.small", MinCount=1, MaxCount=1, SubnetId=subnets[2],
            TagSpecifications=tags("instance", "edge", Services="edge"),
        )["Instances"][0]  # fmt: skip
        return str(edge["InstanceId"])

    def group(self) -> dict[str, Any]:
        """The group of targets."""
        found: dict[str, Any] = self.elbv2.describe_target_groups()["TargetGroups"][0]
        return found

    def attributes(self) -> dict[str, str]:
        """The load balancer's attributes."""
        arn = self.elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        found = self.elbv2.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
        return {item["Key"]: item["Value"] for item in found}

    def everything(self) -> dict[str, Any]:
        """All of it, without what is anew in each answer."""
        arn = self.elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        (instance,) = self.rds.describe_db_instances()["DBInstances"]
        del instance["LatestRestorableTime"]
        (zone,) = self.route53.list_hosted_zones()["HostedZones"]
        parameters = self.rds.describe_db_parameters(DBParameterGroupName="trial-database")["Parameters"]
        target_health = self.elbv2.describe_target_health(TargetGroupArn=self.group()["TargetGroupArn"])
        return {
            "instance": instance,
            "parameters": {item["ParameterName"]: item["ParameterValue"] for item in parameters},
            "bucket": self.s3.get_public_access_block(Bucket="trial-builds")["PublicAccessBlockConfiguration"],
            "lifecycle": self.s3.get_bucket_lifecycle_configuration(Bucket="trial-builds")["Rules"],
            "listeners": self.elbv2.describe_listeners(LoadBalancerArn=arn)["Listeners"],
            "group": self.group(),
            "targets": [item["Target"]["Id"] for item in target_health["TargetHealthDescriptions"]],
            "records": self.route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"],
        }

    def drift(self, edge: str) -> None:
        """Change something in each layer by hand."""
        arn = self.elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
        lax = {"idle_timeout.timeout_seconds": "60", "routing.http.drop_invalid_header_fields.enabled": "false"}
        attributes = [{"Key": key, "Value": value} for key, value in lax.items()]
        self.elbv2.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=attributes)
        group = self.group()["TargetGroupArn"]
        self.elbv2.modify_target_group(TargetGroupArn=group, HealthCheckPath="/nothing")
        self.elbv2.deregister_targets(TargetGroupArn=group, Targets=[{"Id": edge}])
        self.s3.delete_public_access_block(Bucket="trial-builds")
        without_tls = {"ParameterName": "require_secure_transport", "ParameterValue": "0", "ApplyMethod": "immediate"}
        self.rds.modify_db_parameter_group(DBParameterGroupName="trial-database", Parameters=[without_tls])
        self.rds.modify_db_instance(DBInstanceIdentifier="trial-database", BackupRetentionPeriod=1)
        (zone,) = self.route53.list_hosted_zones()["HostedZones"]
        elsewhere = {"Name": "api.example.com", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.9"}]}
        self.route53.change_resource_record_sets(
            HostedZoneId=zone["Id"], ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": elsewhere}]}
        )


def test_a_stack_is_told_made_and_mended(account: Account, tmp_path: Path) -> None:
    """The dry run makes nothing; the last run changes exactly what was changed by hand."""
    account.state(STACK)
    stack = Stack(account)
    code, changed, output = account.provision("--check", layers=LAYERS)
    assert code == 0 and changed > 0, output
    summary = output[output.index("database: would change") :]
    for word in (
        "trial-database: parameters",
        "trial-builds, made anew",
        "trial-edge, a load balancer",
        "zone example.com",
    ):
        assert word in summary
    assert "aws acm request-certificate" in summary
    assert stack.rds.describe_db_instances()["DBInstances"] == []
    assert stack.route53.list_hosted_zones()["HostedZones"] == []

    edge = stack.surroundings(tmp_path)
    code, _changed, output = account.provision(layers=LAYERS)
    assert code == 0, output
    made = stack.everything()
    database = made["instance"]
    assert not database["PubliclyAccessible"] and database["StorageEncrypted"]
    assert database["BackupRetentionPeriod"] == 7 and database["MasterUserSecret"]["SecretArn"]
    assert f"answers at {database['Endpoint']['Address']}" in " ".join(output.split())
    assert made["parameters"]["require_secure_transport"] == "1" and made["parameters"]["max_connections"] == "100"
    assert set(made["bucket"].values()) == {True}
    assert made["targets"] == [edge]
    plain, secure = sorted(made["listeners"], key=lambda item: item["Port"])
    assert plain["DefaultActions"][0]["RedirectConfig"]["Protocol"] == "HTTPS"
    assert secure["Certificates"] and secure["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    names = {item["Name"] for item in made["records"] if "AliasTarget" in item}
    assert names == {"api.example.com.", "example.com."}

    stack.drift(edge)
    code, changed, output = account.provision(layers=LAYERS)
    assert code == 0, output
    assert stack.everything() == made
    attributes = stack.attributes()
    assert attributes["idle_timeout.timeout_seconds"] == "3600"
    assert attributes["routing.http.drop_invalid_header_fields.enabled"] == "true"
    summary = output[output.index("database: changed") :]
    assert "database: changed trial-database; trial-database: parameters\n" in summary
    assert "artifacts: changed trial-builds: private true instead of false\n" in summary
    assert f"load_balancer: changed targets; attributes; targets {edge}\n" in summary
    assert "dns: changed records api.example.com\n" in summary
    # Instance, parameters, block of public access, group of targets, attributes, target, record.
    assert changed == 7, output
