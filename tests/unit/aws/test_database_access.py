# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Access to the database: what is refused, what a grant is, and that its time ends it."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogue
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import grants as access
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import schedule as aws_schedule
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.scheduler import run_due
from tests.unit.aws import recorder

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 27, 9, 30, 40, tzinfo=UTC)
FINE: dict[str, Any] = {"access": "grant", "address": "203.0.113.7", "hours": "2", "owner": "kim", "reason": "order 17",
                        "database": None}  # fmt: skip
GROUP: dict[str, Any] = {"group_id": "sg-1", "group_name": "staging-database-access", "ip_permissions": []}
DATABASES = [{"vpc_security_groups": [{"vpc_security_group_id": "sg-1"}], "publicly_accessible": True}]

# name → what is asked otherwise, where the problem is, words of the problem or its fix
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown action": ({"access": "grnt"}, "access", "Did you mean 'grant'?"),
    "unknown database": ({"database": "databse"}, "database", "Did you mean 'database'?"),
    "no address": ({"address": None}, "address", "the address is missing"),
    "an empty address": ({"address": ""}, "address", "the address is missing"),
    "a name": ({"address": "office.example.com"}, "address", "not an address"),
    "an address that is too short": ({"address": "203.0.113"}, "address", "not an address"),
    "an octet that is too large": ({"address": "203.0.113.300"}, "address", "not an address"),
    "a number": ({"address": 3405803783}, "address", "not an address"),
    "a list": ({"address": ["203.0.113.7"]}, "address", "not an address"),
    "two addresses": ({"address": "203.0.113.7,203.0.113.8"}, "address", "not an address"),
    "everybody": ({"address": "0.0.0.0/0"}, "address", "matches every address"),
    "everybody, in disguise": ({"address": "203.0.113.7/0"}, "address", "matches every address"),
    "everybody of IPv6": ({"address": "::/0"}, "address", "matches every address"),
    "half of everybody": ({"address": "128.0.0.0/1"}, "address", "2147483648 addresses"),
    "a network": ({"address": "203.0.113.0/24"}, "address", "256 addresses"),
    "two neighbours": ({"address": "203.0.113.6/31"}, "address", "2 addresses"),
    "a network of IPv6": ({"address": "2001:db8::/64"}, "address", "18446744073709551616 addresses"),
    "no address at all": ({"address": "0.0.0.0"}, "address", "unspecified address"),
    "loopback": ({"address": "127.0.0.1"}, "address", "loopback"),
    "loopback of IPv6": ({"address": "::1"}, "address", "loopback"),
    "link-local": ({"address": "169.254.169.254"}, "address", "link-local"),
    "link-local of IPv6": ({"address": "fe80::1"}, "address", "link-local"),
    "an interface": ({"address": "fe80::1%eth0"}, "address", "not an address"),
    "multicast": ({"address": "224.0.0.1"}, "address", "multicast"),
    "broadcast": ({"address": "255.255.255.255"}, "address", "reserved"),
    "reserved": ({"address": "240.0.0.1"}, "address", "reserved"),
    "private": ({"address": "192.168.1.20"}, "address", "-e access=tunnel"),
    "private, of the VPC": ({"address": "10.0.1.5"}, "address", "database_access.networks"),
    "a provider's private address": ({"address": "100.64.0.9"}, "address", "private or reserved"),
    "private in IPv6": ({"address": "fd00::7"}, "address", "private or reserved"),
    "IPv4 in IPv6": ({"address": "::ffff:203.0.113.7"}, "address", "IPv4-mapped IPv6 address"),
    "no hours": ({"hours": None}, "hours", "number of hours is missing"),
    "zero hours": ({"hours": "0"}, "hours", "out of range"),
    "hours below zero": ({"hours": "-1"}, "hours", "not a number of hours"),
    "more than a day": ({"hours": "25"}, "hours", "at most 24"),
    "for ever": ({"hours": "999999999"}, "hours", "at most 24"),
    "more digits than a number has": ({"hours": "9" * 5000}, "hours", "not a number of hours"),
    "half an hour": ({"hours": "0.5"}, "hours", "not a number of hours"),
    "hours with a unit": ({"hours": "2h"}, "hours", "whole number from 1 to 24"),
    "yes": ({"hours": True}, "hours", "not a number of hours"),
    "digits of another script": ({"hours": "\u0662"}, "hours", "not a number of hours"),
    "no owner": ({"owner": None}, "owner", "owner is missing"),
    "an owner of two words": ({"owner": "kim lee"}, "owner", "not a valid owner"),
    "an owner that forges an end": ({"owner": "kim until=2099-01-01T00:00Z"}, "owner", "not a valid owner"),
    "no reason": ({"reason": None}, "reason", "reason is missing"),
    "a reason of spaces": ({"reason": "   "}, "reason", "reason is missing"),
    "a reason that EC2 does not accept": ({"reason": "\uc8fc 17"}, "reason", "EC2 does not accept '\uc8fc' in a rule"),
    "a reason of two lines": ({"reason": "a\nb"}, "reason", "EC2 does not accept '\\n'"),
    "a reason that is too long": ({"reason": "x" * 250}, "reason", "Shorten it"),
    "words that the shell lost": ({"words": "17"}, "-e", "quotes inside"),
    "revoke what": ({"access": "revoke", "address": None, "owner": None}, "address", "neither an address nor an owner"),
    "revoke a network": ({"access": "revoke", "address": "203.0.113.0/24"}, "address", "256 addresses"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "path", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_with_the_reason(
    load: Callable[..., Model], change: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(access.AccessError) as refused:
        access.request(load(), {**FINE, **change}, NOW)
    text = str(refused.value)
    assert text.startswith("Nothing was changed.")
    assert re.findall(r"^(\S+): ", text, re.MULTILINE) == [path], "one mistake, one reason"
    assert words in text
    assert "Fix: " in text


def test_all_mistakes_are_told_at_once(load: Callable[..., Model]) -> None:
    with pytest.raises(access.AccessError) as refused:
        access.request(load(), {**dict.fromkeys(FINE), "access": "grant"}, NOW)
    assert re.findall(r"^(\w+): ", str(refused.value), re.MULTILINE) == ["address", "hours", "owner", "reason"]


@pytest.mark.parametrize("address", ["203.0.113.7", "203.0.113.7/32", " 203.0.113.7 ", "8.8.8.8", "2001:db8::7/128"])
def test_one_address_is_granted(load: Callable[..., Model], address: str) -> None:
    asked = access.request(load(), {**FINE, "address": address}, NOW)
    assert asked["cidr"] == address.strip().partition("/")[0] + ("/128" if ":" in address else "/32")
    # Two hours after 09:30:40, and never more.
    assert asked["description"] == "owner=kim until=2026-11-27T11:30Z reason=order 17"


def test_the_environment_sets_the_longest_time_and_the_private_networks(load: Callable[..., Model]) -> None:
    model = load(database_access={"hours": 1, "networks": ["10.8.0.0/16"]})
    with pytest.raises(access.AccessError, match="whole number from 1 to 1"):
        access.request(model, FINE, NOW)
    asked = access.request(model, {**FINE, "hours": 1, "address": "10.8.0.9"}, NOW)
    assert (asked["cidr"], asked["public"]) == ("10.8.0.9/32", False)
    with pytest.raises(access.AccessError, match="private"):
        access.request(model, {**FINE, "hours": 1, "address": "10.9.0.9"}, NOW)


@pytest.mark.parametrize("setting", [{"hours": 25}, {"hours": 0}, {"networks": ["0.0.0.0/0"]}, {"hour": 1}])
def test_settings_that_would_open_more_are_refused(load: Callable[..., Model], setting: dict[str, Any]) -> None:
    with pytest.raises(catalogue.CatalogueError, match=r"platform_environment\.aws\.database_access\."):
        load(database_access=setting)


@settings(max_examples=40)
@given(
    reason=st.text(alphabet=st.sampled_from("ab Z09._-:/()#,@[]+=&;{}!$*"), min_size=1, max_size=120).filter(str.strip),
    hours=st.integers(1, 24),
    owner=st.from_regex(r"[A-Za-z0-9._+@-]{1,64}", fullmatch=True),
    later=st.integers(0, 48 * 3600),
)
def test_a_rule_says_what_was_granted_and_ends_in_time(reason: str, hours: int, owner: str, later: int) -> None:
    asked = access.request(MODEL, {**FINE, "owner": owner, "reason": reason, "hours": hours}, NOW)
    ranges = [{"cidr_ip": asked["cidr"], "description": asked["description"]}]
    permission = {"ip_protocol": "tcp", "from_port": 3306, "to_port": 3306, "ip_ranges": ranges}
    [rule] = access.rules({**GROUP, "ip_permissions": [permission]}, NOW + timedelta(seconds=later))
    assert (rule["owner"], rule["reason"], rule["source"]) == (owner, reason.strip(), "203.0.113.7/32")
    assert len(asked["description"]) <= 255
    if later >= hours * 3600:
        assert rule["expired"]
    if later < hours * 3600 - 60:
        assert not rule["expired"]


MODEL = catalogue.load(
    yaml.safe_load((ROOT / "inventories/services.yml").read_text()),
    {
        "name": "development",
        "domain": "dev.example.com",
        "region": "ap-northeast-2",
        "tls": {"mode": "files", "certificate": "/a", "key": "/b"},
        "databases": {
            "database": {
                "host": "db.internal",
                "name": "app",
                "user": "app",
                "password": {"secretsmanager": "a"},
                "max_connections": 66,
            }
        },
        "secrets": {"jwt": {"secretsmanager": "b"}},
        "aws": {},
    },
)


def described(description: str, cidr: str = "203.0.113.7/32", port: int = 3306) -> dict[str, Any]:
    ranges = [{"cidr_ip": cidr, "description": description}]
    permission = {"ip_protocol": "tcp", "from_port": port, "to_port": port, "ip_ranges": ranges}
    return {**GROUP, "ip_permissions": [permission]}


def test_what_others_made_has_no_end_and_is_never_swept() -> None:
    for text in ("", "the office", "owner=kim until=soon reason=x", "owner=kim until=2020-13-40T00:00Z reason=x"):
        [rule] = access.rules(described(text), NOW)
        assert not rule["expired"]
        assert rule["until"] == ""
    every = {"ip_protocol": "-1", "user_id_group_pairs": [{"group_id": "sg-9"}], "ip_ranges": []}
    [rule] = access.rules({**GROUP, "ip_permissions": [every]}, NOW)
    assert (rule["source"], rule["port"]) == ("sg-9", None)
    assert "sg-9     range  ?      never        ?     nothing" in access.table([rule], [])


def test_the_schedule_revokes_exactly_the_rule() -> None:
    asked = access.request(MODEL, FINE, NOW)
    granted = access.grant(asked, GROUP, DATABASES, NOW)
    assert granted["schedule"]["expression"] == "at(2026-11-27T11:30:00)"
    assert json.loads(granted["schedule"]["input"]) == {
        "GroupId": "sg-1",
        "IpPermissions": [
            {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "203.0.113.7/32"}]}
        ],
    }
    assert not granted["warning"]
    assert re.fullmatch(
        r"[0-9A-Za-z_.-]{1,64}", access.schedule_name("2001:db8:1111:2222:3333:4444:5555:6666/128", 3306)
    )


def test_a_second_grant_moves_the_end_and_another_owner_is_refused() -> None:
    asked = access.request(MODEL, FINE, NOW)
    there = described("owner=kim until=2026-11-27T10:00Z reason=order 16")
    assert access.grant(asked, there, DATABASES, NOW)["extends"]
    over = described("owner=lee until=2026-11-27T09:00Z reason=order 16")
    assert not access.grant(asked, over, DATABASES, NOW)["extends"], "what is over hinders nobody"
    for description, words in (
        ("owner=lee until=2026-11-27T10:00Z reason=order 16", "for lee: order 16"),
        ("the office", "unknown owner"),
    ):
        with pytest.raises(access.AccessError, match=words):
            access.grant(asked, described(description), DATABASES, NOW)


def test_a_rule_that_would_open_nothing_is_refused_or_warned_of() -> None:
    asked = access.request(MODEL, FINE, NOW)
    with pytest.raises(access.AccessError, match="no RDS instance has the security group"):
        access.grant(asked, GROUP, [{"vpc_security_groups": [{"vpc_security_group_id": "sg-2"}]}], NOW)
    private = [{**DATABASES[0], "publicly_accessible": False}]
    assert "access=tunnel" in access.grant(asked, GROUP, private, NOW)["warning"]


def test_only_what_is_named_is_revoked() -> None:
    rules = [
        *access.rules(described("owner=kim until=2026-11-27T10:00Z reason=a"), NOW),
        *access.rules(described("owner=kim until=2026-11-27T10:00Z reason=b", "203.0.113.8/32"), NOW),
        *access.rules(described("by hand", "203.0.113.9/32"), NOW),
    ]

    def chosen(**asked: Any) -> list[str]:
        given = {**dict.fromkeys(FINE), "access": "revoke", **asked}
        return [rule["source"] for rule in access.revoked(access.request(MODEL, given, NOW), rules)]

    assert chosen(owner="kim") == ["203.0.113.7/32", "203.0.113.8/32"]
    assert chosen(owner="kim", address="203.0.113.8") == ["203.0.113.8/32"]
    assert chosen(address="203.0.113.9") == ["203.0.113.9/32"]
    with pytest.raises(access.AccessError, match=r"Current rules: 203\.0\.113\.7/32 \(kim\)"):
        chosen(owner="lee")


def test_the_tunnel_goes_through_a_host_that_may_connect_to_the_database() -> None:
    hosts = [
        {"instance_id": "i-1", "tags": {"Services": "sites"}},
        {"instance_id": "i-2", "tags": {"Services": "collab, api"}},
        {"instance_id": "i-3", "tags": {}},
    ]
    asked = access.request(MODEL, {**dict.fromkeys(FINE), "access": "tunnel"}, NOW)
    words = access.tunnel(asked, hosts).split()
    assert words[words.index("--target") + 1] == "i-2"
    assert words[words.index("--document-name") + 1] == "AWS-StartPortForwardingSessionToRemoteHost"
    parameters = json.loads(words[words.index("--parameters") + 1].strip("'"))
    assert parameters == {"host": ["db.internal"], "portNumber": ["3306"], "localPortNumber": ["13306"]}
    assert "--port=13306" in words
    with pytest.raises(access.AccessError, match="no running host"):
        access.tunnel(asked, hosts[:1])


# --- by the playbooks, with the account of a moto server -----------------------------------------


class Account:
    """An account of an environment, and the playbooks run against it."""

    def __init__(self, api: recorder.Api, path: Path) -> None:
        self.client, self._api = api.client, api
        # What playbooks called, as the policies of docs/iam name it.
        self.calls: list[recorder.Call] = []
        self.inventory = path / "inventories/development"
        variables = self.inventory / "group_vars/all"
        variables.mkdir(parents=True)
        (path / "inventories/services.yml").write_text((ROOT / "inventories/services.yml").read_text())
        interpreter = f"ansible_python_interpreter={api.python}"
        (self.inventory / "hosts.ini").write_text(f"localhost ansible_connection=local {interpreter}\n")
        stated = copy.deepcopy(MODEL.environment["stated"])
        stated["aws"] = {"schedule": {"start": "08:00", "stop": "20:00", "timezone": "Asia/Seoul"}}
        (variables / "environment.yml").write_text(json.dumps({"platform_environment": stated}))

    def seed(self) -> None:
        """Make what other layers make: a group, a database that carries it, and hosts."""
        ec2, rds = self.client("ec2"), self.client("rds")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{i}.0/24")["Subnet"]["SubnetId"] for i in (1, 2)]
        name = "development-database-access"
        self.client("scheduler").create_schedule_group(Name=name)
        self.group = ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        rds.create_db_subnet_group(DBSubnetGroupName="s", DBSubnetGroupDescription="s", SubnetIds=subnets)
        for environment, groups in (("development", [self.group]), ("staging", [])):
            tags = [{"Key": "Platform", "Value": "fivepointers"}, {"Key": "Environment", "Value": environment}]
            rds.create_db_instance(
                DBInstanceIdentifier=f"{environment}-database", DBInstanceClass="db.t3.micro", Engine="mysql",
                MasterUsername="app", MasterUserPassword="unusual-secret-1", AllocatedStorage=20,
                DBSubnetGroupName="s", VpcSecurityGroupIds=groups, Tags=tags,
            )  # fmt: skip
            ec2.run_instances(
                ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnets[0],
                TagSpecifications=[{"ResourceType": "instance", "Tags": [*tags, {"Key": "Services", "Value": "api"}]}],
            )  # fmt: skip

    def play(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        self._api.calls.clear()
        done = self._api.playbook(f"playbooks/{playbook}", str(self.inventory / "hosts.ini"), {}, *arguments)
        self.calls += [call.of_environment("development") for call in self._api.calls]
        return done

    def rules(self) -> list[dict[str, Any]]:
        found = self.client("ec2").describe_security_groups(GroupIds=[self.group])["SecurityGroups"][0]
        return [item for permission in found["IpPermissions"] for item in permission["IpRanges"]]

    def schedules(self, group: str) -> list[str]:
        return sorted(item["Name"] for item in self.client("scheduler").list_schedules(GroupName=group)["Schedules"])

    def states(self) -> dict[str, str]:
        """State of each host and database, by environment."""
        found = {}
        for group in self.client("ec2").describe_instances()["Reservations"]:
            for item in group["Instances"]:
                tags = {tag["Key"]: tag["Value"] for tag in item["Tags"]}
                found[f"{tags['Environment']} host"] = item["State"]["Name"]
        for item in self.client("rds").describe_db_instances()["DBInstances"]:
            found[item["DBInstanceIdentifier"]] = item["DBInstanceStatus"]
        return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Account]:
    with recorder.Api() as api:
        account = Account(api, tmp_path)
        account.seed()
        yield account


@pytest.mark.slow
def test_access_for_an_hour_is_gone_after_an_hour(server: Account) -> None:
    permission = {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306}
    by_hand = {"CidrIp": "203.0.113.50/32", "Description": "by hand"}
    over = {"CidrIp": "203.0.113.60/32", "Description": "owner=lee until=2020-01-01T00:00Z reason=forgotten"}
    full = [{"CidrIp": f"8.8.{i}.8/32"} for i in range(59)]

    def change(action: str, *ranges: dict[str, str]) -> None:
        call = getattr(server.client("ec2"), f"{action}_security_group_ingress")
        call(GroupId=server.group, IpPermissions=[{**permission, "IpRanges": list(ranges)}])

    change("authorize", by_hand)
    # EC2 has no room for another rule: what was begun is taken back.
    change("authorize", *full)
    wanted = ("access=grant", "address=203.0.113.7", "hours=1", "owner=kim", "reason='order 17'")
    grant = [word for item in wanted for word in ("-e", item)]
    failed = server.play("db_access.yml", *grant)
    assert failed.returncode != 0
    assert "RulesPerSecurityGroupLimitExceeded" in failed.stdout
    assert "203.0.113.7/32 got no access" in failed.stdout
    assert server.schedules("development-database-access") == []
    change("revoke", *full)

    # One whose schedule failed is swept by the next run.
    change("authorize", over)
    before = datetime.now(UTC)
    done = server.play("db_access.yml", *grant)
    assert done.returncode == 0, done.stdout
    assert re.search(r"203\.0\.113\.7/32 +3306 +kim .* schedule +order 17", done.stdout)
    assert [rule["CidrIp"] for rule in server.rules()] == ["203.0.113.50/32", "203.0.113.7/32"], "swept, granted"
    assert server.schedules("development-database-access") == ["203.0.113.7-3306"]
    assert recorder.refused("db_access", server.calls) == []
    assert recorder.untried(["db_access"], server.calls) == set()

    # From here on no controller: the stand-in's clock moves, and only the API is asked.
    assert run_due(server.client, before + timedelta(minutes=58)) == []
    assert len(server.rules()) == 2
    [made] = run_due(server.client, datetime.now(UTC) + timedelta(hours=1))
    assert (made.action, made.error) == ("ec2:revokeSecurityGroupIngress", "")
    assert server.rules() == [by_hand], "only what was granted is gone"
    assert server.schedules("development-database-access") == []


@pytest.mark.slow
def test_an_environment_is_stopped_and_started_and_no_other_is_touched(server: Account) -> None:
    every = server.states()
    assert len(every) == 4 and set(every.values()) == {"running", "available"}
    done = server.play("power.yml", "-e", "state=stopped")
    assert done.returncode == 0, done.stdout
    stopped = {"development host": "stopped", "development-database": "stopped"}
    assert server.states() == every | stopped
    done = server.play("power.yml", "-e", "state=running")
    assert done.returncode == 0, done.stdout
    assert server.states() == every
    assert recorder.refused(["power", "inventory"], server.calls) == []
    assert recorder.untried(["power"], server.calls) == set()


def test_an_environment_that_is_stopped_says_how_to_start_it(template: Callable[[str, dict[str, Any]], Any]) -> None:
    tasks = yaml.safe_load((ROOT / "playbooks/plan.yml").read_text())[0]["tasks"]
    [message] = [task["ansible.builtin.assert"]["fail_msg"] for task in tasks if "ansible.builtin.assert" in task]
    variables = {
        "ansible_inventory_sources": ["inventories/development"],
        "platform_environment": {"name": "x", "region": "y"},
    }
    for stopped, words in (({"instances": [{}, {}]}, "2 are stopped. Start them:"), ({}, "Tag the instances")):
        text = " ".join(template(message, {**variables, "__stopped": stopped}).split())
        assert words in text
        assert ("power.yml -e state=running" in text) == bool(stopped)


# --- hours -------------------------------------------------------------------------------------

HOURS = {"start": "08:00", "stop": "20:00", "timezone": "Asia/Seoul"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": "8:00"}, ("schedule.start: 8:00", '"08:00"')),
        ({"start": 480}, ("schedule.start: 480", "in quotes")),  # what YAML makes of 8:00
        ({"stop": "24:00"}, ("schedule.stop", "24:00")),
        ({"stop": "08:00"}, ("schedule.stop", "same time")),
        ({"days": "weekdays"}, ("schedule.days: weekdays", "mon-fri")),
        ({"days": "fri-mon"}, ("schedule.days: fri-mon", "mon,wed,fri")),
        ({"days": ["mon"]}, ("schedule.days", "mon-fri")),
        ({"timezone": "Asia/Soul"}, ("schedule.timezone: Asia/Soul", "Asia/Seoul'?")),
        ({"timezone": "KST+9 now"}, ("schedule.timezone", "Asia/Seoul")),
        ({"stopp": "20:00"}, ("schedule.stopp", "'stop'?")),
    ],
)
def test_wrong_hours_are_refused(load: Callable[..., Model], change: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(catalogue.CatalogueError) as refused:
        load(schedule={**HOURS, **change})
    assert len(refused.value.problems) == 1
    assert all(word in str(refused.value) for word in words), str(refused.value)


@pytest.mark.parametrize(
    ("name", "production"),
    [("production", True), ("prod", True), ("eu-prod", True), ("production-2", True), ("product", False),
     ("staging", False), ("reproduction", False)],
)  # fmt: skip
def test_production_has_no_hours(
    load: Callable[..., Model], environment: dict[str, Any], name: str, production: bool
) -> None:
    environment["name"] = name
    if production:
        with pytest.raises(catalogue.CatalogueError, match=f"this would stop {name} every day"):
            load(schedule=HOURS)
    else:
        assert aws_schedule.derive(load(schedule=HOURS))["expressions"]
    assert aws_schedule.derive(load())["expressions"] == {}


@pytest.mark.parametrize(
    ("stated", "field"),
    [("mon-fri", "MON,TUE,WED,THU,FRI"), ("Sat, sun", "SAT,SUN"), ("mon-sun", "*"), ("wed,mon", "MON,WED")],
)
def test_days_become_those_of_cron(load: Callable[..., Model], stated: str, field: str) -> None:
    layer = aws_schedule.derive(load(schedule={**HOURS, "days": stated}))
    assert layer["expressions"] == {"start": f"cron(0 8 ? * {field} *)", "stop": f"cron(0 20 ? * {field} *)"}
