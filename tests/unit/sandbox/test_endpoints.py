"""What a sandbox tells the outside."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from sandbox import endpoints, plan
from sandbox.engines import ENGINES, parts
from sandbox.topology import parse

TOPOLOGY = parse(
    {"hosts": {"edge-1": ["edge"], "api-1": ["api"], "api-2": ["api"]}, "domain": "sandbox.test"}, "t.yml", "sandbox"
)
ADDRESSES = {"edge-1": "10.80.0.11", "api-1": "10.80.0.12", "api-2": "10.80.0.13"}
PARTS = {"database": "mysql", "valkey": "valkey"}
SECRETS = {"aws_access_key_id": "SANDBOXKEY", "aws_secret_access_key": "p'w $x", "database": "dbpw", "jwt": "jwtpw"}


@pytest.fixture
def told() -> dict[str, Any]:
    return endpoints.endpoints(
        TOPOLOGY,
        name="sandbox",
        subnet="10.80.0.0/24",
        provisioned=False,
        addresses=ADDRESSES,
        instances={"edge-1": "i-1", "api-1": "i-2", "api-2": "i-3"},
        services={"api": {"url": "https://api.sandbox.test", "port": 3001}},
        paths={"state": "/s", "ca_file": "/s/tls/ca.pem", "ssh_key": "/s/ssh_key", "inventory": "/i/aws_ec2.yml"},
        aws_endpoint="http://10.80.0.2:5000",
        region="ap-northeast-2",
        nodejs={},
        database={"engine": "mysql", "host": "10.80.0.3", "port": 3306, "name": "app", "user": "app"},
        servers=endpoints.servers({"databases": {"database": "mysql"}, "stores": {}}, PARTS, "sandbox"),
    )


def test_everything_that_others_rely_on_is_there(told: dict[str, Any]) -> None:
    for key in ("domain", "edge", "ca_file", "ssh_key", "inventory", "aws_endpoint", "hosts", "services", "database"):
        assert told[key], key
    assert told["edge"] == "10.80.0.11"
    assert told["hosts"]["api-2"]["address"] == "10.80.0.13"
    assert told["hosts"]["api-2"]["services"] == ["api"]
    assert told["hosts"]["api-2"]["inventory_name"] == "api-2_i-3"
    assert told["services"]["api"] == {"url": "https://api.sandbox.test", "port": 3001, "hosts": ["api-1", "api-2"]}
    assert told["database"]["host"] == "10.80.0.3"


def test_no_secret_is_told(told: dict[str, Any]) -> None:
    text = json.dumps(told)
    assert not any(secret in text for secret in SECRETS.values())


def test_a_sandbox_without_an_edge_has_no_front_door() -> None:
    assert endpoints.edge_address(parse({"hosts": {"a-1": []}}, "t.yml", "x"), {"a-1": "10.0.0.1"}) is None


def test_the_shell_reads_the_environment_file_as_it_was_meant(tmp_path: Any) -> None:
    variables = endpoints.environment_variables(
        state="/with space/.sandbox", endpoint="http://10.80.0.2:5000", region="r-1", secrets=SECRETS, no_proxy="a,b"
    )
    (tmp_path / "env").write_text(endpoints.environment_file(variables, "/with space/bin"))
    script = f'. {tmp_path}/env; . {tmp_path}/env; printf "%s\\n" "$AWS_SECRET_ACCESS_KEY" "$PLATFORM_STATE" "$PATH"'
    script += ' "$NO_PROXY" "${AWS_PROFILE-unset}"'
    shell = subprocess.run(
        ["sh", "-ec", script],
        env={"PATH": "/usr/bin", "AWS_PROFILE": "mine"},
        capture_output=True,
        text=True,
        check=True,
    )
    secret, state, path, no_proxy, profile = shell.stdout.splitlines()
    assert (secret, state) == (SECRETS["aws_secret_access_key"], "/with space/.sandbox")
    assert path == "/with space/bin:/usr/bin"
    assert no_proxy == "a,b,10.80.0.2"
    assert profile == "unset"


def test_known_hosts_names_the_address_and_the_host() -> None:
    assert endpoints.known_hosts({"a": "10.0.0.1"}, {"a": "ssh-ed25519 AAAA"}) == "10.0.0.1,a ssh-ed25519 AAAA\n"


def test_every_host_knows_the_others_by_name() -> None:
    assert "10.80.0.13 api-2\n" in endpoints.hosts_file(ADDRESSES)


def test_the_database_account_comes_from_the_sandbox_only_and_quotes_its_password() -> None:
    sql = ENGINES["mysql"].accounts(["app"], "app", "a'b\\c", IPv4Network("10.80.0.0/24"))
    assert "'app'@'10.80.0.0/255.255.255.0' IDENTIFIED BY 'a\\'b\\\\c';" in sql
    assert "'%'" not in sql
    assert all(line.endswith(";") for line in sql.splitlines())


@pytest.mark.parametrize(
    ("catalogue", "wanted"),
    [
        ("services: {}", {"database": "mysql"}),
        ("databases: {main: {engine: postgresql}}", {"database": "postgresql"}),
        (
            "{databases: {main: {}, events: {engine: postgresql}}, stores: {queue:}}",
            {"database": "mysql", "postgresql": "postgresql", "valkey": "valkey"},
        ),
        ("databases: {main: {engine: sqlite}, other: {engine: [mysql]}}", {"database": "mysql"}),
        ("databases: [main]", {"database": "mysql"}),
    ],
)
def test_only_the_servers_that_a_catalogue_asks_for_run(catalogue: str, wanted: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "services.yml"
    path.write_text(catalogue)
    assert parts(plan.servers(path)) == wanted


def test_the_environment_knows_every_database_and_store_of_the_catalogue() -> None:
    asked = {"databases": {"main": "mysql", "more": "mysql", "events": "postgresql"}, "stores": {"queue": "valkey"}}
    told = endpoints.servers(asked, parts(asked), "sandbox")
    assert {name: (it["host"], it["name"]) for name, it in told["databases"].items()} == {
        "main": ("database", "app"),
        "more": ("database", "more"),
        "events": ("postgresql", "app"),
    }
    assert told["stores"]["queue"]["host"] == "valkey"
    assert told["stores"]["queue"]["password"] == {"secretsmanager": "fivepointers/sandbox/database"}
