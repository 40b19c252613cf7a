"""Topology files: what is right, and that each mistake is told with its cure."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.errors import SandboxError
from sandbox.paths import TOPOLOGIES
from sandbox.topology import Host, parse


def test_the_sandbox_has_one_host_for_each_service() -> None:
    topology = parse(yaml.safe_load((TOPOLOGIES / "sandbox.yml").read_text()), "sandbox.yml", "sandbox")
    assert topology.domain == "sandbox.test"
    assert {service for host in topology.hosts for service in host.services} == {
        "edge",
        "frontend",
        "api",
        "sites",
        "collab",
    }
    assert all(len(host.services) == 1 for host in topology.hosts)


def test_development_is_one_host_with_all_services() -> None:
    topology = parse(yaml.safe_load((TOPOLOGIES / "development.yml").read_text()), "development.yml", "development")
    assert [host.name for host in topology.hosts] == ["dev-1"]
    assert set(topology.hosts[0].services) == {"edge", "frontend", "api", "sites", "collab"}


def test_environment_and_domain_follow_from_the_name() -> None:
    topology = parse({"hosts": {"a-1": None}}, "t.yml", "mine")
    assert (topology.environment, topology.domain) == ("mine", "mine.test")
    assert topology.hosts == (Host("a-1"),)


def test_a_catalogue_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "services.yml").touch()
    topology = parse({"hosts": {"a-1": None}, "catalogue": "services.yml"}, "t.yml", "mine", tmp_path)
    assert topology.catalogue == tmp_path / "services.yml"


def test_a_subnet_is_read() -> None:
    topology = parse({"hosts": {"a-1": []}, "subnet": "10.90.0.0/24"}, "t.yml", "mine")
    assert topology.subnet == ipaddress.IPv4Network("10.90.0.0/24")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "must be a mapping"),
        ([], "must be a mapping"),
        ({}, "hosts: None must map host names"),
        ({"hosts": {}}, "hosts: {} must map host names"),
        ({"hosts": ["a-1"]}, "must map host names"),
        ({"hosts": {"a-1": "api"}}, "hosts.a-1: 'api' is not a list"),
        ({"hosts": {"a-1": ["api", "api"]}}, "hosts.a-1: 'api' is listed twice"),
        ({"hosts": {"a-1": ["api,edge"]}}, "hosts.a-1: 'api,edge' is listed twice or contains a comma"),
        ({"hosts": {"a-1": [1]}}, "hosts.a-1: [1] is not a list of services"),
        ({"hosts": {"A_1": []}}, "hosts: 'A_1' is not a host name"),
        ({"hosts": {"a-1\n": []}}, "is not a host name"),
        ({"hosts": {1: []}}, "hosts: 1 is not a host name"),
        ({"hosts": {"database": []}}, "hosts.database: the sandbox uses this name itself"),
        (
            {"hosts": {"a-1": []}, "host": {}},
            "host: unknown key; a topology has environment, domain, subnet, catalogue, suite, hosts",
        ),
        (
            {"hosts": {"a-1": []}, "suite": "sid"},
            "suite: 'sid' is not a release of Debian that hosts can have; use bookworm",
        ),
        ({"hosts": {"a-1": []}, "catalogue": "none.yml"}, "catalogue: 'none.yml' is not a file"),
        ({"hosts": {"a-1": []}, "catalogue": ["a"]}, "catalogue: ['a'] is not a file"),
        ({"hosts": {"a-1": []}, "domain": "localhost"}, "domain: 'localhost' is not a domain"),
        ({"hosts": {"a-1": []}, "domain": "a..test"}, "domain: 'a..test' is not a domain"),
        ({"hosts": {"a-1": []}, "environment": "My Env"}, "environment: 'My Env' is not a name"),
        ({"hosts": {"a-1": []}, "subnet": "10.0.0.1/24"}, "subnet: 10.0.0.1/24 has host bits set"),
        ({"hosts": {"a-1": []}, "subnet": "8.8.8.0/24"}, "subnet: 8.8.8.0/24 is not usable"),
        ({"hosts": {"a-1": []}, "subnet": "10.0.0.0/29"}, "subnet: 10.0.0.0/29 is not usable"),
        ({"hosts": {f"a-{n}": [] for n in range(20)}, "subnet": "10.0.0.0/27"}, "has no room for 20 hosts"),
    ],
)
def test_mistakes_are_told(data: Any, told: str) -> None:
    with pytest.raises(SandboxError) as error:
        parse(data, "t.yml", "mine")
    assert told in str(error.value)
    assert str(error.value).startswith("t.yml: ")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SandboxError) as error:
        parse({"hosts": {"A": [], "b-1": "x"}, "domain": 3, "subnet": "x"}, "t.yml", "mine")
    assert len(str(error.value).splitlines()) == 4


@pytest.mark.parametrize("path", sorted(TOPOLOGIES.glob("*.yml")), ids=lambda path: path.stem)
def test_the_topologies_that_we_ship_are_right(path: Path) -> None:
    assert parse(yaml.safe_load(path.read_text()), path.name, path.stem).hosts
