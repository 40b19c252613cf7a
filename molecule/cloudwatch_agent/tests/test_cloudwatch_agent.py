"""What a host's services write can be read in CloudWatch Logs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from testinfra.host import Host

STATE = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".sandbox/molecule-cloudwatch-agent"
GROUP = "/fivepointers/agent/api"
CTL = "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"


@pytest.fixture(scope="module")
def logs() -> Any:
    return boto3.client(
        "logs",
        region_name="ap-northeast-2",
        endpoint_url=json.loads((STATE / "endpoints.json").read_text())["aws_endpoint"],
        aws_access_key_id="reader",
        aws_secret_access_key="reader-of-the-logs",
    )


def events(logs: Any, wanted: str, seconds: float = 20) -> list[dict[str, Any]]:
    """The events of the API's log group in which `wanted` stands, as soon as there is one."""
    until = time.monotonic() + seconds
    while True:
        try:
            found = logs.get_log_events(logGroupName=GROUP, logStreamName="api-1", startFromHead=False)["events"]
        except logs.exceptions.ResourceNotFoundException:
            found = []
        matching = [event for event in found if wanted in event["message"]]
        if matching or time.monotonic() > until:
            return matching
        time.sleep(1)


def numbers(logs: Any) -> list[int]:
    """What the blue slot counted, as far as it arrived."""
    messages = [json.loads(event["message"])["body"]["MESSAGE"] for event in events(logs, '\\"slot\\":\\"blue\\"')]
    return [json.loads(message)["number"] for message in messages]


def test_what_a_service_writes_arrives_with_its_journal_entry(host: Host, logs: Any) -> None:
    event = events(logs, "blue")[-1]
    body = json.loads(event["message"])["body"]
    assert json.loads(body["MESSAGE"])["slot"] == "blue"
    assert body["SYSLOG_IDENTIFIER"] == "api"
    assert body["_SYSTEMD_UNIT"] == "fivepointers-api@blue.service"
    assert abs(event["timestamp"] / 1000 - time.time()) < 60


def test_the_other_slot_arrives_although_it_starts_later(host: Host, logs: Any) -> None:
    with host.sudo():
        host.check_output("systemctl start fivepointers-api@green.service")
        try:
            assert events(logs, "fivepointers-api@green.service")
        finally:
            host.check_output("systemctl stop fivepointers-api@green.service")


def test_nothing_is_lost_or_sent_twice_while_the_agent_is_away(host: Host, logs: Any) -> None:
    before = numbers(logs)[-1]
    with host.sudo():
        host.check_output("systemctl stop amazon-cloudwatch-agent.service")
        time.sleep(2)
        host.check_output("systemctl start amazon-cloudwatch-agent.service")
    assert events(logs, f'\\"number\\":{before + 40}}}')
    after = [number for number in numbers(logs) if number > before]
    assert after == list(range(before + 1, after[-1] + 1))


def test_the_log_group_forgets_after_two_weeks(host: Host, logs: Any) -> None:
    events(logs, "blue")
    group = logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"][0]
    assert group["retentionInDays"] == 14


def test_the_agent_runs_as_its_own_user_and_starts_with_the_host(host: Host) -> None:
    service = host.service("amazon-cloudwatch-agent")
    assert service.is_running
    assert service.is_enabled
    pid = host.check_output("systemctl show --property=MainPID --value amazon-cloudwatch-agent")
    assert host.check_output(f"ps -o user= -p {pid}") == "cwagent"


def test_the_agent_says_that_it_is_a_stand_in(host: Host) -> None:
    with host.sudo():
        state = json.loads(host.check_output(f"{CTL} -a status 2>/dev/null"))
    assert state["status"] == "running"
    assert state["configstatus"] == "configured"
    assert "STAND-IN" in state["standin"]


def test_a_configuration_that_the_schema_refuses_is_refused(host: Host) -> None:
    with host.sudo():
        host.check_output("""echo '{"logs": {"wrong": 1}}' > /tmp/wrong.json""")
        said = host.run(f"{CTL} -a append-config -m ec2 -c file:/tmp/wrong.json -s")
        assert said.rc == 1
        assert "/logs: unknown key wrong" in said.stderr
    assert host.service("amazon-cloudwatch-agent").is_running
