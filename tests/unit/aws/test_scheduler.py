# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The modules for EventBridge Scheduler and for one ingress rule, and the sandbox's stand-in for its clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fivepointers.platform.plugins.modules import (
    ec2_security_group_ingress,
    scheduler_schedule,
    scheduler_schedule_group,
    scheduler_schedule_info,
)

from sandbox.errors import SandboxError
from sandbox.scheduler import is_due, run_due

Run = Callable[..., dict[str, Any]]
TARGET = {
    "arn": "arn:aws:scheduler:::aws-sdk:ec2:stopInstances",
    "role_arn": "arn:aws:iam::123456789012:role/schedule",
    "input": '{"InstanceIds": ["i-1"]}',
}
SCHEDULE = {"name": "stop", "group_name": "dev", "schedule_expression": "cron(0 20 ? * MON-FRI *)", "target": TARGET}


@pytest.fixture
def run(account: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a module in the account: run(module, check=False, **arguments)."""
    make, made = AnsibleAWSModule.client, {}

    def client(module: Any, service: str, **options: Any) -> Any:
        """Make each client once: that takes longer than what it does here."""
        key = (service, *options)
        if key not in made:
            made[key] = make(module, service, **options)
        return made[key]

    monkeypatch.setattr(AnsibleAWSModule, "client", client)

    def call(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"region": "ap-northeast-2", **arguments, "_ansible_check_mode": check}
        with patch_module_args(given), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return call


@pytest.mark.slow
def test_a_schedule_is_made_moved_and_deleted_and_nothing_is_done_twice(run: Run) -> None:
    run(scheduler_schedule_group, name="dev", tags={"Environment": "dev"})
    client = boto3.client("scheduler")
    assert run(scheduler_schedule, check=True, **SCHEDULE)["changed"]
    assert client.list_schedules()["Schedules"] == []

    made = run(scheduler_schedule, **SCHEDULE)
    assert made["changed"]
    assert made["schedule"]["target"]["arn"] == TARGET["arn"]
    there = client.get_schedule(Name="stop", GroupName="dev")
    assert json.loads(there["Target"]["Input"]) == {"InstanceIds": ["i-1"]}
    assert (there["State"], there["FlexibleTimeWindow"]) == ("ENABLED", {"Mode": "OFF"})
    spaces = {**SCHEDULE, "target": {**TARGET, "input": '{"InstanceIds":["i-1"]}'}}
    assert not run(scheduler_schedule, **SCHEDULE)["changed"]
    assert not run(scheduler_schedule, **spaces)["changed"]

    moved = {**SCHEDULE, "schedule_expression": "at(2030-01-31T12:00:00)"}
    assert (
        run(scheduler_schedule, check=True, **moved)["diff"]["after"]["ScheduleExpression"] == "at(2030-01-31T12:00:00)"
    )
    assert client.get_schedule(Name="stop", GroupName="dev")["ScheduleExpression"].startswith("cron")
    assert run(scheduler_schedule, **moved)["changed"]
    assert run(scheduler_schedule, **{**moved, "enabled": False})["schedule"]["state"] == "DISABLED"
    assert client.get_schedule(Name="stop", GroupName="dev")["ScheduleExpression"] == "at(2030-01-31T12:00:00)"
    [listed] = run(scheduler_schedule_info, group_name="dev", name_prefix="st")["schedules"]
    assert (listed["name"], listed["state"]) == ("stop", "DISABLED")
    assert run(scheduler_schedule_info, group_name="dev", name_prefix="x")["schedules"] == []

    gone = {"name": "stop", "group_name": "dev", "state": "absent"}
    assert run(scheduler_schedule, check=True, **gone)["changed"]
    assert run(scheduler_schedule, **gone)["changed"]
    assert not run(scheduler_schedule, **gone)["changed"]
    assert client.list_schedules()["Schedules"] == []


def test_a_group_has_its_tags_and_takes_its_schedules_along(run: Run) -> None:
    client = boto3.client("scheduler")

    def tags() -> dict[str, str]:
        arn = client.get_schedule_group(Name="dev")["Arn"]
        return {item["Key"]: item["Value"] for item in client.list_tags_for_resource(ResourceArn=arn)["Tags"]}

    assert run(scheduler_schedule_group, check=True, name="dev")["changed"]
    assert run(scheduler_schedule_group, name="dev", tags={"A": "1", "B": "2"})["changed"]
    assert not run(scheduler_schedule_group, name="dev", tags={"A": "1", "B": "2"})["changed"]
    assert not run(scheduler_schedule_group, name="dev")["changed"]
    assert run(scheduler_schedule_group, name="dev", tags={"B": "3"}, purge_tags=False)["changed"]
    assert tags() == {"A": "1", "B": "3"}
    assert run(scheduler_schedule_group, name="dev", tags={"B": "3"})["changed"]
    assert tags() == {"B": "3"}
    run(scheduler_schedule, **SCHEDULE)
    assert run(scheduler_schedule_group, name="dev", state="absent")["changed"]
    assert not run(scheduler_schedule_group, name="dev", state="absent")["changed"]
    assert run(scheduler_schedule_info)["schedules"] == []


@pytest.mark.slow
def test_one_rule_is_added_described_and_revoked_and_no_other_is_touched(run: Run) -> None:
    client = boto3.client("ec2")
    vpc = client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group = client.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]
    other = {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, "IpRanges": [{"CidrIp": "203.0.113.9/32"}]}
    client.authorize_security_group_ingress(GroupId=group, IpPermissions=[other])

    def rules() -> dict[str, str]:
        found = client.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
        ranges = [item for permission in found for item in permission["IpRanges"] + permission["Ipv6Ranges"]]
        return {item.get("CidrIp") or item["CidrIpv6"]: item.get("Description", "") for item in ranges}

    for cidr in ("203.0.113.7/32", "2001:db8::7/128"):
        rule = {"group_id": group, "cidr": cidr, "port": 3306}
        assert run(ec2_security_group_ingress, check=True, **rule, description="one")["changed"]
        assert rules() == {"203.0.113.9/32": ""}
        assert run(ec2_security_group_ingress, **rule, description="one")["rule"]["description"] == "one"
        assert not run(ec2_security_group_ingress, **rule, description="one")["changed"]
        assert not run(ec2_security_group_ingress, **rule)["changed"]
        assert run(ec2_security_group_ingress, **rule, description="two")["changed"]
        assert rules() == {"203.0.113.9/32": "", cidr: "two"}
        assert not run(ec2_security_group_ingress, **{**rule, "port": 3307}, state="absent")["changed"]
        assert run(ec2_security_group_ingress, **rule, state="absent")["changed"]
        assert not run(ec2_security_group_ingress, **rule, state="absent")["changed"]
        assert rules() == {"203.0.113.9/32": ""}
    assert "sg-0" in run(ec2_security_group_ingress, group_id="sg-0", cidr="203.0.113.7/32", port=1)["msg"]


# --- the stand-in ------------------------------------------------------------------------------

FRIDAY = datetime(2026, 11, 27, 11, 0, tzinfo=UTC)  # 20:00 in Seoul


@pytest.mark.parametrize(
    ("expression", "zone", "now", "due"),
    [
        ("at(2026-11-27T11:00:00)", "UTC", FRIDAY, True),
        ("at(2026-11-27T11:00:01)", "UTC", FRIDAY, False),
        ("at(2026-11-27T20:00:00)", "Asia/Seoul", FRIDAY, True),
        ("at(2026-11-27T10:00:00)", "UTC", FRIDAY, False),  # was due an hour ago
        ("cron(0 20 ? * MON,FRI *)", "Asia/Seoul", FRIDAY, True),
        ("cron(0 20 ? * MON-FRI *)", "Asia/Seoul", FRIDAY + timedelta(seconds=50), True),
        ("cron(0 20 ? * MON-FRI *)", "Asia/Seoul", FRIDAY + timedelta(seconds=60), False),
        ("cron(0 20 ? * MON-FRI *)", "UTC", FRIDAY, False),
        ("cron(0 20 ? * MON-FRI *)", "Asia/Seoul", FRIDAY + timedelta(days=1), False),
        ("cron(0 20 ? * * *)", "Asia/Seoul", FRIDAY + timedelta(days=1), True),
    ],
)
def test_a_schedule_is_due_at_its_time_in_its_zone(expression: str, zone: str, now: datetime, due: bool) -> None:
    schedule = {"ScheduleExpression": expression, "ScheduleExpressionTimezone": zone}
    assert is_due(schedule, now - timedelta(minutes=1), now) == due


def test_the_stand_in_refuses_what_was_never_tried(run: Run) -> None:
    run(scheduler_schedule_group, name="dev")
    for change, words in (
        ({"schedule_expression": "rate(5 minutes)"}, r"rate\(5 minutes\)"),
        ({"target": {**TARGET, "arn": "arn:aws:lambda:ap-northeast-2:123456789012:function:f"}}, "the target"),
        ({"target": {**TARGET, "arn": "arn:aws:scheduler:::aws-sdk:ec2:stopInstance"}}, "no action stopInstance"),
        # The name that boto3 has; EventBridge Scheduler wants DbInstanceIdentifier.
        (
            {"target": {**TARGET, "arn": "arn:aws:scheduler:::aws-sdk:rds:stopDBInstance",
                        "input": '{"DBInstanceIdentifier": "a"}'}},
            "DbInstanceIdentifier",
        ),
    ):  # fmt: skip
        run(scheduler_schedule, **{**SCHEDULE, "schedule_expression_timezone": "Asia/Seoul", **change})
        with pytest.raises(SandboxError, match=words):
            run_due(boto3.client, FRIDAY)


@pytest.mark.slow
def test_what_the_api_answers_is_told_and_the_schedule_is_over_all_the_same(run: Run) -> None:
    run(scheduler_schedule_group, name="dev")
    once = {**SCHEDULE, "schedule_expression": "at(2026-11-27T11:00:00)", "action_after_completion": "DELETE"}
    run(scheduler_schedule, **{**once, "enabled": False})
    assert run_due(boto3.client, FRIDAY) == []
    run(scheduler_schedule, **once)
    [made] = run_due(boto3.client, FRIDAY)
    assert (made.schedule, made.action) == ("dev/stop", "ec2:stopInstances")
    assert "InvalidInstanceID" in made.error
    assert run(scheduler_schedule_info)["schedules"] == []
