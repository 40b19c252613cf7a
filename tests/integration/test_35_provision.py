# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""provision.yml on an account of its own: a dry run, a first run, drift made by hand, and a run that mends it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.integration.harness import ROOT

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
        },
        "frontend": {"kind": "static_frontend", "public": [{"host": "@"}], "build": {"source": "frontend"}},
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
    "aws": {"network": {"nat": "none", "endpoints": []}, "hosts": {"all": {"services": ["edge", "api", "frontend"]}}},
}
# Of this playbook's layers, those that need nothing but the catalogue.
LAYERS = "network,security_groups,hosts"


class Account:
    """An AWS API of its own, with a playbook's inventory."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        keys = {"AWS_ACCESS_KEY_ID": "TRIAL12345", "AWS_SECRET_ACCESS_KEY": "unusual-trial-key"}
        self.environment = {**os.environ, **keys, "AWS_ENDPOINT_URL": url, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        session = boto3.session.Session(*keys.values(), region_name=REGION)
        self.ec2: Any = session.client("ec2", endpoint_url=url)
        inventory = folder / "inventories" / "trial"
        (inventory / "group_vars" / "all").mkdir(parents=True)
        (inventory.parent / "services.yml").write_text(yaml.safe_dump(CATALOGUE))
        python = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"localhost": python}}}))
        self.inventory = inventory
        self.state(ENVIRONMENT)

    def state(self, environment: dict[str, Any]) -> None:
        """Write what differs in the environment."""
        path = self.inventory / "group_vars" / "all" / "environment.yml"
        path.write_text(yaml.safe_dump({"platform_environment": environment}))

    def provision(self, *arguments: str, layers: str = LAYERS) -> tuple[int, int, str]:
        """Run the playbook; return its code, how many tasks changed something, and its output."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.inventory)]
        command += [str(ROOT / "playbooks" / "provision.yml"), "--tags", layers, *arguments]
        run = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
        changed = re.search(r"changed=(\d+)", run.stdout)
        return run.returncode, int(changed[1]) if changed else -1, run.stdout + run.stderr

    def host(self) -> dict[str, Any]:
        """Return the one instance."""
        reservations = self.ec2.describe_instances()["Reservations"]
        (found,) = [instance for item in reservations for instance in item["Instances"]]
        return found

    def group(self, name: str) -> dict[str, Any]:
        """Return a security group by its name."""
        (found,) = self.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])[
            "SecurityGroups"
        ]
        return found

    def everything(self) -> dict[str, Any]:
        """Return what the layers made, as the API tells it."""
        asked = ("vpcs", "subnets", "internet_gateways", "route_tables", "vpc_endpoints", "security_groups")
        answers = {name: getattr(self.ec2, f"describe_{name}")() for name in asked}
        versions = self.ec2.describe_launch_template_versions(LaunchTemplateName="trial-all")["LaunchTemplateVersions"]
        host = self.host()
        return {
            **{
                name: [item for key, item in answer.items() if key != "ResponseMetadata"]
                for name, answer in answers.items()
            },
            "versions": [version["LaunchTemplateData"] for version in versions],
            "host": (host["InstanceId"], _tags(host), sorted(group["GroupId"] for group in host["SecurityGroups"])),
        }


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
    environment = {**os.environ, "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true"}
    with (folder / "moto.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--port", str(port)], env=environment, stdout=log, stderr=log
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
    names = ["trial-public-1", "trial-private-2", "trial (internet gateway)", "trial-s3", "trial-host", "trial-all-1"]
    names += [f"trial-{thing}" for thing in ("load-balancer", "edge", "api", "frontend", "database", "database-access")]
    summary = output[output.index("network: would change") :]
    assert [name for name in names if name not in summary] == [], summary
    assert account.ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.20.0.0/16"]}])["Vpcs"] == []

    code, _changed, output = account.provision()
    assert code == 0, output
    host = account.host()
    tags = {"Platform": "fivepointers", "Environment": "trial", "ManagedBy": "fivepointers.platform"}
    assert _tags(host) == {**tags, "Name": "trial-all-1", "Service": "all", "Services": "edge,api,frontend"}
    assert not host.get("PublicIpAddress")
    assert {group["GroupName"] for group in host["SecurityGroups"]} == {"trial-edge", "trial-api", "trial-frontend"}
    database = account.group("trial-database")
    assert [
        (rule["FromPort"], [pair["GroupId"] for pair in rule["UserIdGroupPairs"]], rule["IpRanges"])
        for rule in database["IpPermissions"]
    ] == [(3306, [account.group("trial-api")["GroupId"]], [])]
    made = account.everything()
    assert made["versions"][-1]["MetadataOptions"]["HttpTokens"] == "required"
    assert made["versions"][-1]["BlockDeviceMappings"][0]["Ebs"]["Encrypted"]

    # By hand, at night: the database open to a network, a tag gone, a host in a group of another.
    opened = {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    account.ec2.authorize_security_group_ingress(GroupId=database["GroupId"], IpPermissions=[opened])
    account.ec2.delete_tags(Resources=[host["InstanceId"]], Tags=[{"Key": "Name"}])
    account.ec2.modify_instance_attribute(InstanceId=host["InstanceId"], Groups=[database["GroupId"]])
    code, changed, output = account.provision("--diff", layers="security_groups,hosts")
    assert code == 0 and changed == 3, output
    assert "security_groups: changed rules of trial-database\n" in output, output
    assert "hosts: changed tags of trial-all-1; groups of trial-all-1\n" in output, output
    assert "- tcp 3306 from 10.0.0.0/8" in output, output
    assert account.everything() == made

    code, changed, output = account.provision()
    assert code == 0 and changed == 0, output
    assert account.everything() == made
