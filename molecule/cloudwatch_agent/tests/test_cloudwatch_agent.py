"""What a host's services write and use can be read in CloudWatch, and what the scheduled check found."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from testinfra.host import Host

STATE = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".sandbox/molecule-cloudwatch-agent"
GROUP = "/fivepointers/agent/api"
CTL = "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"


@pytest.fixture(scope="module")
def endpoints() -> dict[str, Any]:
    return json.loads((STATE / "endpoints.json").read_text())


def client(service: str, endpoints: dict[str, Any]) -> Any:
    return boto3.client(
        service,
        region_name="ap-northeast-2",
        endpoint_url=endpoints["aws_endpoint"],
        aws_access_key_id="reader",
        aws_secret_access_key="reader-of-the-logs",
    )


@pytest.fixture(scope="module")
def logs(endpoints: dict[str, Any]) -> Any:
    return client("logs", endpoints)


@pytest.fixture(scope="module")
def cloudwatch(endpoints: dict[str, Any]) -> Any:
    return client("cloudwatch", endpoints)


def until(condition: Callable[[], Any], seconds: float = 25) -> Any:
    limit = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < limit:
        time.sleep(1)
    return found


def events(
    logs: Any, wanted: str, seconds: float = 20, group: str = GROUP, stream: str = "api-1"
) -> list[dict[str, Any]]:
    """The events of a log group in which `wanted` stands, as soon as there is one."""
    until = time.monotonic() + seconds
    while True:
        try:
            found = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=False)["events"]
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
    found = numbers(logs)
    # Since the service started last.
    after = found[len(found) - found[::-1].index(before) :]
    assert after == list(range(before + 1, after[-1] + 1))


def test_what_nginx_notes_arrives_as_it_is_also_when_its_file_is_rotated(host: Host, logs: Any) -> None:
    place = {"group": "/fivepointers/agent/nginx", "stream": "api-1/access"}
    first = events(logs, '"status":200', **place)[0]
    assert first["message"] == '{"time":"2026-11-26T17:58:06+00:00","service":"api","status":200}'
    run = time.time_ns()
    with host.sudo():
        assert host.check_output("stat --format %U:%G:%a /var/log/nginx/access.log") == "www-data:adm:640"
        host.check_output(
            f"cd /var/log/nginx && mv access.log access.log.1 && echo old-{run} >> access.log.1 && "
            f"install -o www-data -g adm -m 640 /dev/null access.log && echo new-{run} >> access.log"
        )
    assert len(events(logs, f"old-{run}", **place)) == 1
    assert len(events(logs, f"new-{run}", **place)) == 1


def lowest(cloudwatch: Any, metric: str, service: str) -> float | None:
    """The lowest value of the last moments."""
    now = datetime.now(UTC)
    points = cloudwatch.get_metric_statistics(
        Namespace="FivePointers/agent", MetricName=metric, Dimensions=[{"Name": "Service", "Value": service}],
        StartTime=now - timedelta(seconds=8), EndTime=now + timedelta(seconds=5), Period=60, Statistics=["Minimum"],
    )["Datapoints"]  # fmt: skip
    return min((point["Minimum"] for point in points), default=None)


def test_the_hosts_state_is_measured_under_its_instance(cloudwatch: Any, endpoints: dict[str, Any]) -> None:
    instance = {"Name": "InstanceId", "Value": endpoints["hosts"]["api-1"]["instance_id"]}

    def names() -> set[str]:
        metrics = cloudwatch.list_metrics(Namespace="FivePointers/agent", Dimensions=[instance])["Metrics"]
        return {metric["MetricName"] for metric in metrics}

    wanted = {"mem_used_percent", "disk_used_percent", "swap_used_percent", "procstat_lookup_pid_count"}
    assert until(lambda: wanted <= names()), names()
    for metric in ("mem_used_percent", "disk_used_percent"):
        assert 0 < (until(lambda name=metric: lowest(cloudwatch, name, "host")) or 0) < 100
    assert lowest(cloudwatch, "procstat_lookup_pid_count", "nginx") == 0


def test_a_service_that_stops_is_seen_within_two_intervals(host: Host, cloudwatch: Any) -> None:
    assert until(lambda: lowest(cloudwatch, "procstat_lookup_pid_count", "api")) == 1
    with host.sudo():
        host.check_output("systemctl stop fivepointers-api@blue.service")
        try:
            gone = until(lambda: lowest(cloudwatch, "procstat_lookup_pid_count", "api") == 0, seconds=12)
        finally:
            host.check_output("systemctl start fivepointers-api@blue.service")
    assert gone


def test_a_service_sends_metrics_of_its_own(host: Host, cloudwatch: Any) -> None:
    host.check_output("bash -c 'echo -n jobs.done:3\\|c\\|#Service:api > /dev/udp/127.0.0.1/8125'")
    assert until(lambda: cloudwatch.list_metrics(Namespace="FivePointers/agent", MetricName="jobs_done")["Metrics"])


def test_the_scheduled_check_publishes_what_it_found(host: Host, logs: Any) -> None:
    with host.sudo():
        host.check_output("systemctl start fivepointers-synthetic.service")
        said = host.check_output("journalctl --identifier=synthetic --output=cat --no-pager")
    place = {"group": "/fivepointers/agent/verify", "stream": "api-1/fivepointers-verify"}
    event = json.loads(events(logs, '"verify"', **place)[-1]["message"])
    assert event["verify"]["succeeded"] == 0
    (failure,) = event["verify"]["failures"]
    assert failure.startswith("collab: co-edit: "), failure
    assert "refused" in failure, failure
    assert "1 failed" in said
    assert host.service("fivepointers-synthetic.timer").is_running
    assert host.service("fivepointers-synthetic.timer").is_enabled


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
