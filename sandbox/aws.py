"""The AWS API of a sandbox: moto in a container, with the hosts and secrets registered in it."""

from __future__ import annotations

import hashlib
import ipaddress
import sysconfig
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from sandbox.containers import Container
from sandbox.errors import SandboxError

PORT = 5000
REGION = "ap-northeast-2"
MANAGED_BY = "fivepointers-sandbox"
START_LIMIT = 60.0
# What makes moto answer as AWS does; its defaults are laxer.
ENVIRONMENT = {
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
    # Hosts count as failed by EC2's own checks where nothing listens here.
    "SANDBOX_STATUS_PORT": "22",
    "PYTHONPATH": "/opt/site-packages:/opt",
    "PYTHONUNBUFFERED": "1",
}


# The API is on this machine: never through a proxy.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Instance:
    """A host as EC2 shows it."""

    name: str
    address: str
    tags: dict[str, str]


def container(address: str, image: str, provisioned: bool) -> Container:
    """moto and what it lacks of CloudWatch, run by the host image's Python with the virtual environment's packages.

    :param provisioned: whose hosts the account holds. The other way, it is another account: an empty one.
    """
    # Writable, so that what Python compiles at the first start is there at the next.
    options = ["--stop-timeout=3", f"--volume={sysconfig.get_path('purelib')}:/opt/site-packages"]
    options += [f"--volume={Path(__file__).parent}:/opt/sandbox:ro"]
    options += [f"--env={key}={value}" for key, value in ENVIRONMENT.items()]
    options += ["--label=fivepointers.account=provisioned"] if provisioned else []
    command = ("python3", "-m", "sandbox.cloudwatch", "--host", address, "--port", str(PORT))
    return Container("aws", "aws", address, image, tuple(options), command)


def endpoint(address: str) -> str:
    """The address of the API."""
    return f"http://{address}:{PORT}"


def wait(url: str, name: str) -> None:
    """Wait until the API answers."""
    until = time.monotonic() + START_LIMIT
    while not answers(url):
        if time.monotonic() > until:
            raise SandboxError(
                f"The AWS API at {url} does not answer within {START_LIMIT:.0f} s. "
                f"Its output: python3 -m sandbox podman logs {name}.aws"
            )
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Whether the API answers. moto's start page is the cheapest that it has."""
    try:
        with DIRECT.open(f"{url}/moto-api/", timeout=3):
            return True
    except OSError:
        return False


class Account:
    """The account that the sandbox's hosts live in."""

    def __init__(self, url: str, secrets: Mapping[str, str]) -> None:
        self.url = url
        session = boto3.session.Session(
            aws_access_key_id=secrets["aws_access_key_id"],
            aws_secret_access_key=secrets["aws_secret_access_key"],
            region_name=REGION,
        )
        config = Config(retries={"max_attempts": 2}, proxies={}, connect_timeout=5, read_timeout=30)
        self.ec2: Any = session.client("ec2", endpoint_url=url, config=config)
        self.secretsmanager: Any = session.client("secretsmanager", endpoint_url=url, config=config)

    def register(self, subnet: str, instances: list[Instance]) -> dict[str, str]:
        """Make EC2 show exactly these instances; returns the id of each by name.

        For small topologies that have to be there within seconds, such as tests want; `make up` has provision.yml
        make its hosts. Whatever else was made in the account stays.
        """
        network = self._subnet(subnet)
        ids: dict[str, str] = {}
        wanted = {(item.name, item.address, _frozen(item.tags)): item for item in instances}
        for found in self._instances([{"Name": "tag:ManagedBy", "Values": [MANAGED_BY]}]):
            tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
            identity = (tags.get("Name", ""), found.get("PrivateIpAddress", ""), _frozen(tags))
            if identity in wanted:
                ids[wanted.pop(identity).name] = found["InstanceId"]
            else:
                self.ec2.terminate_instances(InstanceIds=[found["InstanceId"]])
        for item in wanted.values():
            ids[item.name] = self._run(item, network)
        return ids

    def provisioned(self, environment: str) -> dict[str, Instance]:
        """The instances that provision.yml made, by id, in the order of their addresses."""
        filters = [
            {"Name": "tag:Platform", "Values": ["fivepointers"]},
            {"Name": "tag:Environment", "Values": [environment]},
        ]
        found = {}
        for item in self._instances(filters):
            tags_of = {tag["Key"]: tag["Value"] for tag in item["Tags"]}
            found[item["InstanceId"]] = Instance(tags_of["Name"], item["PrivateIpAddress"], tags_of)
        return dict(sorted(found.items(), key=lambda pair: ipaddress.IPv4Address(pair[1].address)))

    def put_secrets(self, values: Mapping[str, str]) -> None:
        """Make Secrets Manager hold these values."""
        for name, value in values.items():
            try:
                if self.secretsmanager.get_secret_value(SecretId=name)["SecretString"] != value:
                    self.secretsmanager.put_secret_value(SecretId=name, SecretString=value)
            except self.secretsmanager.exceptions.ResourceNotFoundException:
                self.secretsmanager.create_secret(Name=name, SecretString=value)

    def _instances(self, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        alive = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
        pages = self.ec2.get_paginator("describe_instances").paginate(Filters=[*filters, alive])
        return [item for page in pages for group in page["Reservations"] for item in group["Instances"]]

    def _subnet(self, cidr: str) -> str:
        found = self.ec2.describe_subnets(Filters=[{"Name": "cidr-block", "Values": [cidr]}])["Subnets"]
        if found:
            return str(found[0]["SubnetId"])
        tags = [{"Key": "Name", "Value": "sandbox"}, {"Key": "ManagedBy", "Value": MANAGED_BY}]
        vpc = self.ec2.create_vpc(CidrBlock=cidr, TagSpecifications=[{"ResourceType": "vpc", "Tags": tags}])["Vpc"][
            "VpcId"
        ]
        subnet = self.ec2.create_subnet(
            VpcId=vpc, CidrBlock=cidr, TagSpecifications=[{"ResourceType": "subnet", "Tags": tags}]
        )
        return str(subnet["Subnet"]["SubnetId"])

    def _run(self, item: Instance, subnet: str) -> str:
        # The same host gets the same id each time, so that inventory names outlive moto.
        self._seed(int.from_bytes(hashlib.sha256(f"{item.name} {item.address}".encode()).digest()[:6], "big"))
        answer = self.ec2.run_instances(
            ImageId="ami-12c6146b",
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            PrivateIpAddress=item.address,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in item.tags.items()]}
            ],
        )["Instances"][0]
        self._seed(time.time_ns())
        if answer["PrivateIpAddress"] != item.address:
            raise SandboxError(
                f"The AWS API gave {item.name} the address {answer['PrivateIpAddress']}, not {item.address}."
            )
        return str(answer["InstanceId"])

    def _seed(self, number: int) -> None:
        request = urllib.request.Request(f"{self.url}/moto-api/seed?a={number}", method="POST")  # noqa: S310 - the sandbox's own address
        DIRECT.open(request, timeout=5).close()


def tags(environment: str, host: str, services: tuple[str, ...]) -> dict[str, str]:
    """The tags of a host, which the inventory reads."""
    return {
        "Name": host,
        "Platform": "fivepointers",
        "Environment": environment,
        "Services": ",".join(services),
        "ManagedBy": MANAGED_BY,
    }


def _frozen(tags_of: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(tags_of.items()))
