"""The account of a sandbox whose hosts provision.yml makes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import moto
import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import network as aws_network

from sandbox import aws, containers, lifecycle, network
from sandbox.engines import ENGINES
from sandbox.paths import TOPOLOGIES
from sandbox.state import State

SECRETS = {"aws_access_key_id": "SANDBOX123", "aws_secret_access_key": "unusual-secret-1"}
IMAGES = {"host": "host", "mysql": "database"}


@pytest.fixture
def account() -> Iterator[aws.Account]:
    """An account in this process, with a subnet."""
    with moto.mock_aws():
        yield aws.Account(f"https://ec2.{aws.REGION}.amazonaws.com", SECRETS)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """A sandbox of which an earlier run knew one host; containers are only noted."""
    state = State("trial", tmp_path, "abc", "10.80.0.0/24", provisioned=True, addresses={"sandbox-api-1": "10.80.0.36"})
    monkeypatch.setattr(containers, "wait_for_ssh", lambda addresses, state: None)
    return state


def launch(account: aws.Account, name: str, address: str, environment: str = "sandbox") -> str:
    subnets = account.ec2.describe_subnets(Filters=[{"Name": "cidr-block", "Values": ["10.80.0.0/24"]}])["Subnets"]
    if not subnets:
        vpc = account.ec2.create_vpc(CidrBlock="10.80.0.0/24")["Vpc"]["VpcId"]
        subnets = [account.ec2.create_subnet(VpcId=vpc, CidrBlock="10.80.0.0/24")["Subnet"]]
    tags = {"Name": name, "Platform": "fivepointers", "Environment": environment, "Services": "api,edge"}
    return str(
        account.ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnets[0]["SubnetId"], PrivateIpAddress=address,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            ],
        )["Instances"][0]["InstanceId"]
    )  # fmt: skip


def test_the_hosts_are_the_environments_instances_that_live(
    account: aws.Account, state: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr(lifecycle, "_start", lambda state, topology, images: started.append(dict(state.addresses)))
    second, first = launch(account, "sandbox-web-1", "10.80.0.52"), launch(account, "sandbox-api-1", "10.80.0.37")
    launch(account, "other-api-1", "10.80.0.38", "other")
    account.ec2.terminate_instances(InstanceIds=[launch(account, "sandbox-web-2", "10.80.0.53")])
    before = lifecycle.load_topology("sandbox", TOPOLOGIES / "sandbox.yml")
    topology, ids = lifecycle._follow(state, before, account, IMAGES)
    assert started == [{"sandbox-api-1": "10.80.0.37", "sandbox-web-1": "10.80.0.52"}] == [state.addresses]
    assert [(host.name, host.services) for host in topology.hosts] == [
        ("sandbox-api-1", ("api", "edge")), ("sandbox-web-1", ("api", "edge")),
    ]  # fmt: skip
    assert ids == {"sandbox-api-1": first, "sandbox-web-1": second}
    said = capsys.readouterr().out
    assert "sandbox-api-1: another address" in said and "web-1" not in said


def test_an_empty_account_leaves_the_hosts_that_are_known(
    account: aws.Account, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_start", lambda *args: pytest.fail("nothing is to be started"))
    before = lifecycle.load_topology("sandbox", TOPOLOGIES / "sandbox.yml")
    topology, ids = lifecycle._follow(state, before, account, IMAGES)
    assert topology.hosts == () and ids == {}
    assert state.addresses == {"sandbox-api-1": "10.80.0.36"}


def test_who_makes_the_hosts_decides_whose_account_it_is(state: State) -> None:
    specs = {aws.container("10.80.0.2", "image", provisioned).spec(state.identity) for provisioned in (True, False)}
    assert len(specs) == 2


@pytest.mark.parametrize("name", ["sandbox", "development", "account"])
def test_no_host_gets_an_address_that_the_sandbox_uses_itself(name: str) -> None:
    cidr = network.preferred(name)
    environment: dict[str, Any] = {"name": name, "region": aws.REGION, "aws": {"network": {"cidr": str(cidr)}}}
    model: Any = SimpleNamespace(environment=environment)
    offsets = (1, network.AWS, *range(network.DATABASE, network.DATABASE + len(ENGINES)))
    assert max(offsets) < network.FIRST_HOST
    used = [ipaddress.IPv4Address(network.address(cidr, offset)) for offset in offsets]
    private = [ipaddress.IPv4Network(item["cidr"]) for item in aws_network.subnets(model) if item["kind"] == "private"]
    assert len(private) == 2 and all(subnet.subnet_of(cidr) for subnet in private)
    assert not [address for address in used for subnet in private if address in subnet]
