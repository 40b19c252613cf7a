"""The stand-in for CloudWatch: alarms fire as CloudWatch's would, and log events become metrics."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.acm.models import acm_backends

from sandbox import certificates
from sandbox.cloudwatch import alarms, api, evaluator
from sandbox.cloudwatch.patterns import PatternError, compile_pattern

EVENT = {"edge": 0, "service": "api", "status": 502, "seconds": 0.25, "body": {"MESSAGE": '{"level":"error"}'}}


@pytest.fixture(autouse=True)
def stand_in(account: None) -> None:
    """An empty account, with the stand-in in it."""
    api.install()


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("", True),
        ("{ $.status = 502 }", True),
        ("{ $.status != 502 }", False),
        ("{ $.status >= 500 && $.status < 502 }", False),
        ("{ ($.edge = 1) || ($.status = 502) }", True),
        ("{ ($.edge = 0) && (($.status = 504) || ($.status = 502)) }", True),
        ('{ $.service = "a*" }', True),
        ('{ $.service != "internal:*" }', True),
        ('{ $.service = "[ab]pi" }', False),
        ("{ $.service >= 1 }", False),
        ("{ $.none = 1 }", False),
        ("{ $.none != 1 }", False),
        ("{ $.body.MESSAGE = %.level.:.?[56ef]% }", True),
        ("{ $.body.MESSAGE = %^error% }", False),
        ("{ $.body = * }", False),
    ],
)
def test_a_pattern_matches(pattern: str, matches: bool) -> None:
    assert compile_pattern(pattern)(EVENT) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "ERROR",
        "{ $.a }",
        "{ $.a = }",
        "{ ($.a = 1 }",
        "{ $.a > word }",
        "{ $.a = 1 $.b }",
        "{ $.a = %(b)% }",
        "{ a = 1 }",
    ],
)
def test_a_wrong_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


def rule(**changed: Any) -> alarms.Rule:
    wanted = {"statistic": "Average", "comparison": "GreaterThanOrEqualToThreshold", "threshold": 0.5, "period": 60}
    return alarms.Rule(**{**wanted, "evaluation_periods": 1, "datapoints": 1, **changed})


# Now is 600: the last whole period is 540 to 600.
@pytest.mark.parametrize(
    ("changed", "points", "before", "after"),
    [
        ({}, [(545, 1), (590, 0)], "OK", "ALARM"),
        ({}, [(545, 1), (590, 0), (599, 0)], "ALARM", "OK"),
        ({}, [(600, 1)], "OK", "INSUFFICIENT_DATA"),
        ({}, [(539, 1)], "OK", "INSUFFICIENT_DATA"),
        ({"missing": "notBreaching"}, [], "ALARM", "OK"),
        ({"missing": "breaching"}, [], "OK", "ALARM"),
        ({"missing": "ignore"}, [], "ALARM", "ALARM"),
        ({"missing": "ignore"}, [], "OK", "OK"),
        ({"evaluation_periods": 3, "datapoints": 2}, [(590, 1), (500, 1), (430, 0)], "OK", "ALARM"),
        ({"evaluation_periods": 3, "datapoints": 3}, [(590, 1), (500, 1), (430, 0)], "ALARM", "OK"),
        ({"evaluation_periods": 2, "datapoints": 2, "missing": "ignore"}, [(590, 1)], "OK", "OK"),
        ({"evaluation_periods": 2, "datapoints": 2, "missing": "ignore"}, [(590, 0)], "ALARM", "OK"),
        ({"evaluation_periods": 2, "datapoints": 2, "missing": "breaching"}, [(590, 1)], "OK", "ALARM"),
        ({"statistic": "Sum", "threshold": 3}, [(550, 1)] * 3, "OK", "ALARM"),
        ({"statistic": "SampleCount", "threshold": 4}, [(550, 1)] * 3, "ALARM", "OK"),
        (
            {"statistic": "Minimum", "threshold": 1, "comparison": "LessThanThreshold"},
            [(550, 1), (551, 0)],
            "OK",
            "ALARM",
        ),
        ({"statistic": "Maximum", "threshold": 85, "comparison": "GreaterThanThreshold"}, [(550, 85)], "ALARM", "OK"),
        ({"statistic": "p99", "threshold": 2}, [(550, 0.1)] * 97 + [(550, 3)] * 3, "OK", "ALARM"),
        ({"statistic": "p50", "threshold": 2}, [(550, 0.1)] * 97 + [(550, 3)] * 3, "ALARM", "OK"),
        # Long periods end with each minute as well.
        ({"period": 500}, [(110, 1), (590, 0)], "OK", "ALARM"),
        ({"period": 500}, [(90, 1), (590, 0)], "ALARM", "OK"),
    ],
)
def test_a_metric_alarm_follows_its_values(changed: dict, points: list, before: str, after: str) -> None:
    assert alarms.evaluate(rule(**changed), points, 600.0, before)[0] == after


@pytest.mark.parametrize(
    ("text", "raised"),
    [
        ('ALARM("a/b")', True),
        ("ALARM(a/b)", True),
        ('ALARM("arn:aws:cloudwatch:ap-northeast-2:123456789012:alarm:a/b")', True),
        ('NOT ALARM("a/b")', False),
        ('OK("a/b") OR INSUFFICIENT_DATA("none")', False),
        ('ALARM("c") OR ALARM("a/b") AND OK("c")', True),
        ('(ALARM("c") OR ALARM("a/b")) AND NOT OK("c")', False),
        ("TRUE AND NOT FALSE", True),
    ],
)
def test_a_composite_alarm_follows_its_rule(text: str, raised: bool) -> None:
    assert alarms.raised(text, {"a/b": "ALARM", "c": "OK"}) is raised


@pytest.mark.parametrize(
    "text", ["", "ALARM()", 'ALARM("a"', 'ALARM("a") OR', '(ALARM("a")', 'ALARM("a") OK("b")', "AND"]
)
def test_a_wrong_rule_is_refused(text: str) -> None:
    with pytest.raises(alarms.RuleError):
        alarms.raised(text, {})


def put_event(logs: Any, event: dict[str, Any], ago: float = 60) -> None:
    events = [{"timestamp": int((time.time() - ago) * 1000), "message": json.dumps(event)}]
    logs.put_log_events(logGroupName="/group", logStreamName="host", logEvents=events)


def test_a_failing_request_is_told_once_and_what_it_takes_along_is_not() -> None:
    logs, cloudwatch, sns, sqs = (boto3.client(name) for name in ("logs", "cloudwatch", "sns", "sqs"))
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    queue = sqs.create_queue(QueueName="people")["QueueUrl"]
    address = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=address)
    logs.create_log_group(logGroupName="/group")
    logs.create_log_stream(logGroupName="/group", logStreamName="host")
    made = {"metricName": "Errors", "metricNamespace": "N", "metricValue": "1", "dimensions": {"Service": "$.service"}}
    logs.put_metric_filter(
        logGroupName="/group", filterName="f", filterPattern="{ $.status >= 500 }", metricTransformations=[made]
    )
    for service in ("api", "sites"):
        cloudwatch.put_metric_alarm(
            AlarmName=f"{service}/down", Namespace="N", MetricName="Errors", Statistic="Average", Threshold=0.5,
            ComparisonOperator="GreaterThanOrEqualToThreshold", Period=60, EvaluationPeriods=1,
            TreatMissingData="notBreaching", Dimensions=[{"Name": "Service", "Value": service}],
        )  # fmt: skip
        suppressor = {} if service == "api" else {"ActionsSuppressor": "api"}
        cloudwatch.put_composite_alarm(
            AlarmName=service, AlarmRule=f'ALARM("{service}/down")', AlarmActions=[topic], OKActions=[topic],
            **suppressor and {**suppressor, "ActionsSuppressorWaitPeriod": 120, "ActionsSuppressorExtensionPeriod": 60},
        )  # fmt: skip
    (backend,) = [found for found in evaluator.backends() if found.alarms]

    def told(now: float) -> list[tuple[str, str]]:
        evaluator.evaluate(backend, now)
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        found = [json.loads(json.loads(message["Body"])["Message"]) for message in messages]
        return sorted((item["AlarmName"], item["NewStateValue"]) for item in found)

    now = time.time()
    assert told(now) == [("api", "OK"), ("sites", "OK")]
    put_event(logs, {**EVENT, "service": "sites"})
    assert told(now) == []  # the alarm of the pages waits for that of the API
    put_event(logs, EVENT)
    put_event(logs, {**EVENT, "status": 200})
    assert told(now) == [("api", "ALARM")]
    states = {
        alarm["AlarmName"]: alarm["StateValue"]
        for kind, alarms_found in cloudwatch.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"]).items()
        if kind.endswith("Alarms")
        for alarm in alarms_found
    }
    assert states == dict.fromkeys(("api", "api/down", "sites", "sites/down"), "ALARM")
    # Neither does it tell later, as long as the API's lasts.
    assert told(now + 1) == []
    # Both are over; what was not told waits whether it stays so.
    assert told(now + 300) == [("api", "OK")]
    assert told(now + 361) == [("sites", "OK")]
    (last, *_earlier) = cloudwatch.describe_alarm_history(AlarmName="sites")["AlarmHistoryItems"]
    assert last["HistorySummary"] == "Alarm updated from ALARM to OK"


def test_a_suppressed_alarm_is_told_once_what_suppresses_it_is_over() -> None:
    notice = alarms.Notice(since=0)
    assert not alarms.due(notice, "ALARM", "OK", 120, 60, 119)
    assert not alarms.due(notice, "ALARM", "ALARM", 120, 60, 200)
    assert not alarms.due(notice, "ALARM", "OK", 120, 60, 300)
    assert not alarms.due(notice, "ALARM", "OK", 120, 60, 359)
    assert alarms.due(notice, "ALARM", "OK", 120, 60, 360)
    assert alarms.due(alarms.Notice(since=0), "ALARM", "OK", 120, 60, 120)
    assert alarms.due(alarms.Notice(since=0), "ALARM", None, 120, 60, 0)
    assert alarms.due(alarms.Notice(since=0), "OK", "OK", 120, 60, 0)
    assert not alarms.due(alarms.Notice(since=0), "OK", "ALARM", 120, 60, 0)


def test_log_events_become_metrics_with_dimensions_once_listed() -> None:
    logs, cloudwatch = boto3.client("logs"), boto3.client("cloudwatch")
    logs.create_log_group(logGroupName="/group")
    logs.create_log_stream(logGroupName="/group", logStreamName="host")
    made = {"metricName": "Seconds", "metricNamespace": "N", "metricValue": "$.seconds"}
    made["dimensions"] = {"Service": "$.service", "Edge": "$.edge_name"}  # type: ignore[assignment]
    for pattern in ("{ $.status = 1 }", "{ $.status >= 500 }"):  # the second takes the first one's place
        logs.put_metric_filter(
            logGroupName="/group", filterName="f", filterPattern=pattern, metricTransformations=[made]
        )
    for event in (
        {**EVENT, "edge_name": "a"},
        {**EVENT, "edge_name": "a"},
        EVENT,
        {**EVENT, "seconds": "-", "edge_name": "a"},
    ):
        put_event(logs, event)
    (metric,) = cloudwatch.list_metrics(Namespace="N")["Metrics"]
    assert metric["Dimensions"] == [{"Name": "Service", "Value": "api"}, {"Name": "Edge", "Value": "a"}]
    (backend,) = [found for found in evaluator.backends() if found.metric_data]
    assert [value for point in backend.metric_data for value in api.values_of(point)] == [0.25, 0.25]
    api.forget(backend, time.time() + 86400)
    assert len(backend.metric_data) == 1


def test_statistics_stand_for_values_that_have_them() -> None:
    cloudwatch = boto3.client("cloudwatch")
    values = {"Minimum": 1, "Maximum": 9, "Sum": 20, "SampleCount": 4}
    cloudwatch.put_metric_data(Namespace="N", MetricData=[{"MetricName": "M", "StatisticValues": values}])
    (point,) = [point for found in evaluator.backends() for point in found.metric_data]
    assert api.values_of(point) == [1, 9, 5, 5]


def test_what_cloudwatch_refuses_is_refused() -> None:
    logs, cloudwatch = boto3.client("logs"), boto3.client("cloudwatch")
    logs.create_log_group(logGroupName="/group")
    made = {"metricName": "M", "metricNamespace": "N", "metricValue": "1"}
    with pytest.raises(ClientError, match="there is no alarm none"):
        cloudwatch.put_composite_alarm(AlarmName="a", AlarmRule='ALARM("none")')
    with pytest.raises(ClientError, match="Invalid filterPattern"):
        logs.put_metric_filter(
            logGroupName="/group", filterName="f", filterPattern="{ nonsense }", metricTransformations=[made]
        )
    with pytest.raises(ClientError, match="cannot have a default value"):
        logs.put_metric_filter(
            logGroupName="/group", filterName="f", filterPattern="",
            metricTransformations=[{**made, "defaultValue": 0, "dimensions": {"A": "$.a"}}],
        )  # fmt: skip


def test_an_instance_that_does_not_answer_fails_its_status_check() -> None:
    class Instance:
        id, state, private_ip = "i-1", "running", "127.0.0.1"

    boto3.client("cloudwatch").put_metric_data(Namespace="N", MetricData=[{"MetricName": "M", "Value": 1}])
    (backend,) = [found for found in evaluator.backends() if found.metric_data]
    for port, failed in ((0, 0.0), (1, 1.0)):
        api.instance_metrics(backend, [Instance()], port)
        assert backend.metric_data[-1].value == failed


def test_a_certificate_tells_how_many_days_it_has_left(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("ca.pem", "certificate.pem", "key.pem")]
    certificates.ensure(*files, ["sandbox.test"], "a sandbox")
    authority, certificate, key = (path.read_bytes() for path in files)
    acm = boto3.client("acm")
    arn = acm.import_certificate(Certificate=certificate, PrivateKey=key, CertificateChain=authority)["CertificateArn"]
    boto3.client("cloudwatch").put_metric_data(Namespace="N", MetricData=[{"MetricName": "M", "Value": 1}])
    (backend,) = [found for found in evaluator.backends() if found.metric_data]
    place = acm_backends[backend.account_id][backend.region_name]
    api.certificate_metrics(backend, place._certificates.values())
    measured = backend.metric_data[-1]
    assert (measured.namespace, measured.name) == ("AWS/CertificateManager", "DaysToExpiry")
    assert [(item.name, item.value) for item in measured.dimensions] == [("CertificateArn", arn)]
    assert measured.value == certificates.CERTIFICATE_DAYS - 1
