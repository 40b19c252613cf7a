"""What monitoring makes of the catalogue, and the modules that make it."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fivepointers.platform.plugins.module_utils.aws import log_errors
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogue
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import monitoring as aws_monitoring
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from sandbox.cloudwatch import alarms as stand_in_alarms
from sandbox.cloudwatch import api, evaluator
from sandbox.cloudwatch.patterns import compile_pattern

CALLER = "arn:aws:iam::123456789012:user/operator"
TOPIC = "arn:aws:sns:ap-northeast-2:123456789012:staging-alarms"
INSTANCES = [{"instance_id": "i-0a", "tags": {"Name": "api-1"}}, {"instance_id": "i-0b", "tags": {}}]
GONE = [
    {"alarm_name": "staging/hosts/i-0a"},
    {"alarm_name": "staging/hosts/i-0f"},
    {"alarm_name": "staging/hosts/disk"},
]
Load = Callable[..., Any]


def request(**changed: Any) -> dict[str, Any]:
    return {"edge": 0, "service": "api", "status": 200, "seconds": 0.1, **changed}


def line(message: Any, **changed: Any) -> dict[str, Any]:
    text = message if isinstance(message, str) else json.dumps(message, separators=(",", ":"))
    return {"body": {"MESSAGE": text, "SYSLOG_IDENTIFIER": "api", "_HOSTNAME": "api-1", "PRIORITY": "6", **changed}}


@pytest.fixture
def derived(load: Load) -> dict[str, Any]:
    """What monitoring makes, without the account."""
    return aws_monitoring.derive(load(monitoring={"emails": ["team@example.com"]}))


@pytest.fixture
def whole(derived: dict[str, Any]) -> dict[str, Any]:
    """The same with the account."""
    return aws_monitoring.complete(derived, CALLER, INSTANCES, [{"certificate_arn": "arn:c"}], GONE)


# --- the plan -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "path", "part"),
    [
        ({"emails": ["nobody"]}, "emails[0]", "an e-mail address"),
        ({"retention_days": 8}, "retention_days", "Write one of: 1, 3, 5, 7"),
        ({"errors_percent": 0}, "errors_percent", "1 to 100"),
        ({"latency_p99_ms": "2s"}, "latency_p99_ms", "a whole number"),
        ({"disk": 85}, "disk", "disk_percent"),
    ],
)
def test_wrong_settings_are_refused(services: dict, environment: dict, settings: dict, path: str, part: str) -> None:
    environment["aws"] = {"monitoring": settings}
    (problem,) = catalogue.read(services, environment)[1]
    assert problem.path.endswith(f"aws.monitoring.{path}")
    assert part in problem.fix


def test_each_request_is_measured_once_at_its_front_and_a_missing_front_at_the_edge(derived: dict[str, Any]) -> None:
    filters = [item for item in derived["metric_filters"] if item["log_group_name"] == "/fivepointers/staging/nginx"]
    assert len(filters) == 4

    def measured(event: dict[str, Any]) -> list[tuple[str, float]]:
        record = [{"timestamp": 0, "message": json.dumps(event)}]
        found = []
        for item in filters:
            made = item["metric_transformation"]
            wanted = {
                "metricName": made["metric_name"], "metricNamespace": "N", "metricValue": made["metric_value"],
                "dimensions": made["dimensions"],
            }  # fmt: skip
            for _place, point in api.measure(
                {"filterPattern": item["pattern"], "metricTransformations": [wanted]}, record
            ):
                assert point["Dimensions"] == [{"Name": "Service", "Value": event["service"]}]
                found.append((point["MetricName"], point["Value"]))
        return sorted(found)

    assert measured(request()) == [("ErrorsServer", 0), ("LatencySeconds", 0.1)]
    assert measured(request(status=503)) == [("ErrorsServer", 1), ("LatencySeconds", 0.1)]
    assert measured(request(edge=1)) == []
    assert measured(request(edge=1, status=502)) == [("ErrorsServer", 1)]
    assert measured(request(edge=1, status=500)) == []
    assert measured(request(service="internal:api", status=500)) == []
    # A service may be called that.
    assert measured(request(service="internal-api", status=500)) == [("ErrorsServer", 1), ("LatencySeconds", 0.1)]
    assert measured(request(service="collab", status=101, seconds=600)) == [("ErrorsServer", 0)]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"level": "error", "message": "no"}, True),
        ({"level": "fatal"}, True),
        ({"time": 1, "level": 50, "msg": "pino"}, True),
        ({"level": 60}, True),
        ({"level": 30}, False),
        ({"level": "info", "message": "no error"}, False),
        ({"level": "warn"}, False),
        ({"message": '{"level":"error"}', "level": "info"}, False),
        ("plain text about an error", False),
    ],
)
def test_lines_with_the_level_of_an_error_are_counted(message: Any, error: bool) -> None:
    assert compile_pattern(aws_monitoring.ERROR)(line(message)) is error
    assert compile_pattern(aws_monitoring.ANY)(line(message))
    if isinstance(message, dict):
        assert log_errors.is_error(message) is error


def test_log_groups_that_are_right_are_left_alone(derived: dict[str, Any]) -> None:
    wanted = derived["log_groups"]
    there = [
        {
            "log_group_name": item["name"],
            "retention_in_days": item["retention_days"],
            "tags": {**item["tags"], "A": "b"},
        }
        for item in wanted
    ]
    assert aws_monitoring.differing_log_groups(wanted, there) == []
    assert aws_monitoring.differing_log_groups(wanted, there[1:]) == wanted[:1]
    for drift in ({"retention_in_days": 1}, {"retention_in_days": None}, {"tags": {}}):
        assert aws_monitoring.differing_log_groups(wanted, [{**there[0], **drift}, *there[1:]]) == wanted[:1], drift


def test_only_composite_alarms_notify_and_every_alarm_is_in_one(whole: dict[str, Any]) -> None:
    names = {item["name"] for item in whole["alarms"]}
    assert not any("alarm_actions" in item for item in whole["alarms"])
    notifying = [item for item in whole["composites"] if item["alarm_actions"]]
    children = [child for item in notifying for child in stand_in_alarms.children(item["rule"])]
    assert sorted(children) == sorted(names)
    assert {tuple(item["alarm_actions"]) for item in notifying} == {(TOPIC,)}
    assert {item["name"] for item in notifying} == {
        "staging-database", "staging-api", "staging-sites", "staging-collab", "staging-frontend", "staging/front-door",
        "staging/hosts", "staging/certificate",
    }  # fmt: skip
    # Children come first, as CloudWatch wants them.
    known = set(names)
    for item in whole["composites"]:
        assert set(stand_in_alarms.children(item["rule"])) <= known
        assert item["actions_suppressor"] in {"", *known}
        known.add(item["name"])
    assert all(
        item["tags"]["ManagedBy"] == "fivepointers.platform" for item in [*whole["alarms"], *whole["composites"]]
    )
    assert whole["gone"] == [{"name": "staging/hosts/i-0f", "state": "absent"}]


def test_what_a_service_needs_silences_it(load: Load, services: dict[str, Any]) -> None:
    services["services"]["sites"]["needs"] = ["api", "collab"]
    found = {item["name"]: item for item in aws_monitoring.derive(load())["composites"]}
    assert found["staging-collab"]["actions_suppressor"] == "staging-api"
    assert found["staging-sites"]["actions_suppressor"] == "staging-sites/needs"
    assert found["staging-sites/needs"]["rule"] == 'ALARM("staging-api") OR ALARM("staging-collab")'
    # Files are served whatever the API does.
    assert found["staging-frontend"]["actions_suppressor"] == ""
    assert found["staging/front-door"]["actions_suppressor"] == "staging/services"


@given(needs=st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True), percent=st.integers(1, 100))
def test_the_plan_holds_for_any_needs(needs: list[str], percent: int) -> None:
    entry = {"kind": "nestjs_api", "health": "/", "build": {"source": "."}}
    services = {name: {**entry, "port": 3001 + index} for index, name in enumerate("abcd")}
    services["last"] = {**entry, "port": 3010, "needs": needs}
    environment = {
        "name": "e", "domain": "example.com", "region": "ap-northeast-2",
        "tls": {"mode": "load_balancer", "trusted": []},
        "aws": {"monitoring": {"errors_percent": percent}},
    }  # fmt: skip
    model, problems = catalogue.read({"services": services}, environment)
    assert not problems
    whole = aws_monitoring.complete(aws_monitoring.derive(model), CALLER, [], [], [])
    known = {item["name"] for item in whole["alarms"]}
    assert len(known) == len(whole["alarms"])
    for item in whole["composites"]:
        assert set(stand_in_alarms.children(item["rule"])) <= known
        known.add(item["name"])


# --- the modules --------------------------------------------------------------


def run(capsys: pytest.CaptureFixture, module_name: str, /, check: bool = False, **arguments: Any) -> dict[str, Any]:
    module = importlib.import_module(f"ansible_collections.fivepointers.platform.plugins.modules.{module_name}")
    arguments = {"region": "ap-northeast-2", "_ansible_check_mode": check, **arguments}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_the_whole_layer_is_made_once_and_drift_repaired(
    account: None, capsys: pytest.CaptureFixture, derived: dict[str, Any], whole: dict[str, Any]
) -> None:
    api.install()
    logs, cloudwatch = boto3.client("logs"), boto3.client("cloudwatch")
    for group in derived["log_groups"]:
        logs.create_log_group(logGroupName=group["name"])
    steps: list[tuple[str, dict[str, Any]]] = [
        ("cloudwatchlogs_metric_filters", {"metric_filters": derived["metric_filters"]}),
        ("cloudwatch_metric_alarms", {"metric_alarms": whole["alarms"]}),
        ("cloudwatch_composite_alarms", {"composite_alarms": whole["composites"]}),
        ("cloudwatch_dashboard", whole["dashboard"]),
        ("cloudwatch_query_definitions", {"query_definitions": derived["queries"]}),
    ]

    def changed(check: bool = False) -> list[str]:
        return [name for name, arguments in steps if run(capsys, name, check, **arguments)["changed"]]

    every = [name for name, _arguments in steps]
    assert changed(check=True) == every
    assert not logs.describe_metric_filters()["metricFilters"]
    assert changed() == every
    assert changed() == []
    # By hand: a threshold, a rule, a tag, a query.
    api_alarm = next(item for item in whole["composites"] if item["name"] == "staging-api")
    cloudwatch.put_composite_alarm(AlarmName="staging-api", AlarmRule="FALSE")
    arn = f"arn:aws:cloudwatch:ap-northeast-2:123456789012:alarm:{whole['alarms'][0]['name']}"
    cloudwatch.untag_resource(ResourceARN=arn, TagKeys=["ManagedBy"])
    assert changed(check=True) == ["cloudwatch_metric_alarms", "cloudwatch_composite_alarms"]
    result = run(capsys, "cloudwatch_composite_alarms", composite_alarms=whole["composites"])
    assert [item["rule"] for item in result["diff"]["before"]] == ["FALSE"]
    assert [item["rule"] for item in result["diff"]["after"]] == [api_alarm["rule"]]
    assert changed() == ["cloudwatch_metric_alarms"]
    assert cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"]


@pytest.mark.slow
def test_things_are_deleted(account: None, capsys: pytest.CaptureFixture) -> None:
    api.install()
    boto3.client("logs").create_log_group(logGroupName="/g")
    metric = {"namespace": "N", "metric_name": "M", "comparison": "LessThanThreshold", "threshold": 1, "period": 60}
    made = {"metric_name": "M", "metric_namespace": "N", "metric_value": "1"}
    for name, key, item, there in (
        ("cloudwatch_metric_alarms", "metric_alarms", {"name": "a/b"}, metric),
        ("cloudwatch_composite_alarms", "composite_alarms", {"name": "a"}, {"rule": "TRUE"}),
        ("cloudwatch_query_definitions", "query_definitions", {"name": "q"}, {"query": "fields @message"}),
        (
            "cloudwatchlogs_metric_filters", "metric_filters", {"name": "f", "log_group_name": "/g"},
            {"pattern": "", "metric_transformation": made},
        ),
    ):  # fmt: skip
        assert run(capsys, name, **{key: [{**item, **there}]})["changed"]
        gone = {key: [{**item, "state": "absent"}]}
        assert run(capsys, name, check=True, **gone)["changed"]
        assert run(capsys, name, **gone)["changed"]
        assert not run(capsys, name, **gone)["changed"]
        assert "missing" in run(capsys, name, **{key: [item]})["msg"]


@pytest.mark.slow
def test_a_dashboard_keeps_the_marks_of_deployments(account: None, capsys: pytest.CaptureFixture) -> None:
    graph = {"type": "metric", "properties": {"metrics": [["N", "M"]], "view": "timeSeries"}}
    number = {"type": "metric", "properties": {"metrics": [["N", "M"]], "view": "singleValue"}}
    body = {"widgets": [graph, number]}

    def dashboard(**arguments: Any) -> dict[str, Any]:
        return run(capsys, "cloudwatch_dashboard", name="d", **arguments)

    def marks(result: dict[str, Any]) -> list[str]:
        first, second = result["dashboard"]["body"]["widgets"]
        assert second == number
        return [mark["label"] for mark in first["properties"].get("annotations", {}).get("vertical", [])]

    assert not dashboard(marker={"label": "too early", "time": "2026-01-01T00:00:00Z"})["changed"]
    dashboard(body=body)
    for day in (3, 1, 2):
        result = dashboard(marker={"label": f"api {day}", "time": f"2026-01-0{day}T00:00:00Z"})
        assert result["changed"]
    assert marks(result) == ["api 1", "api 2", "api 3"]
    assert not dashboard(marker={"label": "api 2", "time": "2026-01-02T00:00:00Z"})["changed"]
    assert not dashboard(body=body)["changed"]
    changed = dashboard(body={"widgets": [{**graph, "width": 12}, number]}, markers_kept=2)
    assert changed["changed"]
    assert marks(changed) == ["api 2", "api 3"]
    assert dashboard(state="absent")["changed"]
    assert not dashboard(state="absent")["changed"]
    assert "one of the following are missing" in dashboard()["msg"] or "any of the following" in dashboard()["msg"]


def test_pages_of_queries_are_read_to_the_end(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    client = boto3.client("logs", region_name="ap-northeast-2", aws_access_key_id="a", aws_secret_access_key="b")
    found = {"name": "q", "queryDefinitionId": "1", "queryString": "old", "logGroupNames": ["/b", "/a"]}
    with Stubber(client) as stub:
        asked = {"queryDefinitionNamePrefix": "q"}
        stub.add_response(
            "describe_query_definitions", {"queryDefinitions": [{"name": "q2"}], "nextToken": "2"}, dict(asked)
        )
        stub.add_response("describe_query_definitions", {"queryDefinitions": [found]}, {**asked, "nextToken": "2"})
        stub.add_client_error("describe_query_definitions", "AccessDeniedException", "no")
        monkeypatch.setattr(AnsibleAWSModule, "client", lambda *_args, **_options: Retrying(client))
        wanted = {"query_definitions": [{"name": "q", "query": "old", "log_groups": ["/a", "/b"]}]}
        assert not run(capsys, "cloudwatch_query_definitions", **wanted)["changed"]
        failed = run(capsys, "cloudwatch_query_definitions", **wanted)
        assert failed["failed"]
        assert "Cannot create or update the query definition q" in failed["msg"]


class Retrying:
    """A client that takes `aws_retry`, as the module's own does."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return lambda aws_retry=False, **arguments: getattr(self.client, name)(**arguments)


def test_the_dashboard_shows_only_what_is_measured(whole: dict[str, Any]) -> None:
    own = "FivePointers/staging"
    known = [
        {"Namespace": own, "MetricName": metric, "Dimensions": [{"Name": "Service", "Value": service}]}
        for service in ("api", "sites", "collab", "frontend")
        for metric in ("ErrorsServer", "LatencySeconds", "ApplicationErrors")
    ]
    missing = aws_monitoring.missing_metrics(whole["dashboard"]["body"], known)
    assert not any("ErrorsServer" in item for item in missing)
    assert f"{own} VerifySucceeded" in missing
    instance = [{"Name": "InstanceId", "Value": "i-0a"}]
    for service, metrics in (
        ("host", ("mem_used_percent", "disk_used_percent", "swap_used_percent")),
        *((name, ("procstat_cpu_usage",)) for name in ("api", "sites", "collab")),
    ):
        more = [{"Name": "Service", "Value": service}]
        # Without the instance it is the sum of all hosts, which is not what is searched for.
        known += [{"Namespace": own, "MetricName": metric, "Dimensions": more} for metric in metrics]
        assert any(service in item for item in aws_monitoring.missing_metrics(whole["dashboard"]["body"], known))
        known += [{"Namespace": own, "MetricName": metric, "Dimensions": [*more, *instance]} for metric in metrics]
    known += [{"Namespace": own, "MetricName": f"Verify{word}", "Dimensions": []} for word in ("Succeeded", "Seconds")]
    rds = [{"Name": "DBInstanceIdentifier", "Value": "staging-database"}]
    known.append({"Namespace": "AWS/RDS", "MetricName": "DatabaseConnections", "Dimensions": rds})
    sockets = [{"Name": "Service", "Value": "collab"}]
    known.append({"Namespace": own, "MetricName": "OpenSockets", "Dimensions": sockets})
    assert aws_monitoring.missing_metrics(whole["dashboard"]["body"], known) == []


@pytest.mark.slow
def test_a_service_that_answers_no_more_raises_its_own_alarm_within_two_periods(
    account: None, capsys: pytest.CaptureFixture, derived: dict[str, Any], whole: dict[str, Any]
) -> None:
    api.install()
    logs, cloudwatch = boto3.client("logs"), boto3.client("cloudwatch")
    for group in derived["log_groups"]:
        logs.create_log_group(logGroupName=group["name"])
    for name in ("nginx", "verify"):
        logs.create_log_stream(logGroupName=f"/fivepointers/staging/{name}", logStreamName="edge")
    run(capsys, "cloudwatchlogs_metric_filters", metric_filters=derived["metric_filters"])
    run(capsys, "cloudwatch_metric_alarms", metric_alarms=whole["alarms"])
    run(capsys, "cloudwatch_composite_alarms", composite_alarms=whole["composites"])
    now = time.time() // 60 * 60
    requests = [request(service=service, status=502 if service == "api" else 200) for service in ("api", "sites")]
    for group, events in (("nginx", requests), ("verify", [{"verify": {"succeeded": 0, "seconds": 1.2}}])):
        logs.put_log_events(
            logGroupName=f"/fivepointers/staging/{group}",
            logStreamName="edge",
            logEvents=[{"timestamp": int((now - 50) * 1000), "message": json.dumps(item)} for item in events],
        )
    (backend,) = [found for found in evaluator.backends() if found.alarms]
    evaluator.evaluate(backend, now)
    raised = cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm"], StateValue="ALARM")["CompositeAlarms"]
    notifying = {alarm["AlarmName"] for alarm in raised if alarm["AlarmActions"]}
    # The scheduled check fails as well: its periods are longer, and the API's alarm silences it then.
    assert notifying - {"staging/front-door"} == {"staging-api"}
    metrics = cloudwatch.list_metrics(Namespace="FivePointers/staging")["Metrics"]
    seen = {(item["MetricName"], *(entry["Value"] for entry in item["Dimensions"])) for item in metrics}
    assert {("VerifySucceeded",), ("VerifySeconds",), ("ErrorsServer", "api"), ("LatencySeconds", "sites")} <= seen


@pytest.mark.slow
@pytest.mark.parametrize(("second", "minutes"), [(10, 2), (250, 20)])
def test_one_fault_is_told_once_whenever_it_comes_and_whatever_it_leaves_behind(
    account: None, capsys: pytest.CaptureFixture, derived: dict[str, Any], whole: dict[str, Any],
    second: int, minutes: int,
) -> None:  # fmt: skip
    """An API that stops for some minutes, with requests to it and to the pages that need it, which log errors."""
    api.install()
    logs, cloudwatch, sns, sqs = (boto3.client(name) for name in ("logs", "cloudwatch", "sns", "sqs"))
    topic = sns.create_topic(Name="staging-alarms")["TopicArn"]
    queue = sqs.create_queue(QueueName="people")["QueueUrl"]
    address = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=address)
    for group in derived["log_groups"]:
        logs.create_log_group(logGroupName=group["name"])
        logs.create_log_stream(logGroupName=group["name"], logStreamName="host")
    run(capsys, "cloudwatchlogs_metric_filters", metric_filters=derived["metric_filters"])
    run(capsys, "cloudwatch_metric_alarms", metric_alarms=whole["alarms"])
    run(capsys, "cloudwatch_composite_alarms", composite_alarms=whole["composites"])
    (backend,) = [found for found in evaluator.backends() if found.alarms]
    told: list[tuple[str, str]] = []

    def write(group: str, at: int, *messages: dict[str, Any]) -> None:
        events = [{"timestamp": at * 1000, "message": json.dumps(message)} for message in messages]
        if events:
            logs.put_log_events(logGroupName=f"/fivepointers/staging/{group}", logStreamName="host", logEvents=events)

    def minute(at: int, down: bool) -> None:
        """What is measured at a moment of a minute; and what is told at its end."""
        write("nginx", at, request(status=502 if down else 200), request(service="sites", status=500 if down else 200))
        write("sites", at, *[line({"level": "error"}, SYSLOG_IDENTIFIER="sites") for _time in range(12 if down else 0)])
        if at % 900 < 60:
            write("verify", at, {"verify": {"succeeded": 0 if down else 1, "seconds": 1}})
        runs = {"MetricName": "procstat_lookup_pid_count", "Timestamp": at, "Value": 0 if down else 1}
        runs["Dimensions"] = [{"Name": "Service", "Value": "api"}]
        cloudwatch.put_metric_data(Namespace=derived["namespace"], MetricData=[runs])
        evaluator.evaluate(backend, at // 60 * 60 + 63)
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            said = json.loads(json.loads(message["Body"])["Message"])
            told.append((said["NewStateValue"], said["AlarmName"]))

    stops = int(time.time()) // 900 * 900 - 3600 + second
    for at in range(stops - 1860, stops, 60):
        minute(at, down=False)
    told.clear()
    for at in range(stops, stops + 60 * minutes, 60):
        minute(at, down=True)
    assert told == [("ALARM", "staging-api")]
    for at in range(stops + 60 * minutes, stops + 60 * minutes + 1800, 60):
        minute(at, down=False)
    # What was silent may say that it is well.
    assert told[1] == ("OK", "staging-api")
    assert [name for state, name in told if state == "ALARM"] == ["staging-api"], told


# --- errors -------------------------------------------------------------------

STACK = "Error: user {0} not found\n    at new Promise (<anonymous>)\n    at node:internal/x:1:1\n" + (
    "    at Users.find (/opt/fivepointers/api/releases/{1}/app/dist/users.js:{2}:5)"
)


def event(message: Any, at: int = 0, **changed: Any) -> tuple[str, dict[str, Any]]:
    return "api", {"timestamp": at * 1000, "message": json.dumps(line(message, **changed))}


def test_errors_of_one_kind_are_one_whatever_release_user_and_line() -> None:
    found = log_errors.grouped(
        event(
            {
                "level": "error", "message": "request failed", "requestId": f"r{index}", "error": "Error",
                "reason": f"user {index} not found", "stack": STACK.format(index, release, index * 7),
            },
            index, FIVEPOINTERS_RELEASE=release, _HOSTNAME=f"api-{index}",
        )
        for index, release in ((2, "b" * 12), (1, "a" * 12), (3, "b" * 12))
    )  # fmt: skip
    (group,) = found
    assert group["count"] == 3
    assert (group["first_seen"], group["last_seen"]) == ("1970-01-01T00:00:01Z", "1970-01-01T00:00:03Z")
    assert group["frame"] == "Users.find (dist/users.js)"
    assert group["releases"] == ["a" * 12, "b" * 12]
    assert group["hosts"] == ["api-1", "api-2", "api-3"]
    assert group["sample"]["request_id"] == "r3"
    assert "user 2 not found" in group["message"]
    assert "r3" in log_errors.table(found)


def test_different_errors_stay_apart() -> None:
    lines: list[Any] = [
        {"level": "error", "message": "cannot pay"},
        {"level": "error", "message": "cannot ship"},
        {
            "level": 50,
            "msg": "pino",
            "err": {"type": "TypeError", "message": "x is undefined", "stack": "T\n    at f (a.js:1:1)"},
        },
        {"level": "info", "message": "an error was not made"},
        "not JSON, and no error",
    ]
    found = log_errors.grouped(event(item) for item in lines)
    assert {(item["type"], item["message"]) for item in found} == {
        ("", "cannot pay"), ("", "cannot ship"), ("TypeError", "pino: x is undefined"),
    }  # fmt: skip
    assert {item["frame"] for item in found} == {"", "f (a.js)"}


def test_an_exception_that_ended_a_process_is_one_error_with_its_stack() -> None:
    lines = [
        "TypeError: boom 7",
        "    at run (file:///opt/x/releases/1/app/main.js:1:2)",
        "    at node:internal/y:3:4",
        "Node.js v24",
    ]
    found = log_errors.grouped([event(text, _PID="1") for text in lines] + [event("out of memory", PRIORITY="2")])
    assert [(item["type"], item["message"], item["frame"], item["count"]) for item in found] == [
        ("TypeError", "boom 7", "run (main.js)", 1),
        ("", "out of memory", "", 1),
    ]
    pattern = compile_pattern(log_errors.PATTERN)
    assert [pattern(line(text)) for text in lines] == [True, True, True, False]
    assert pattern(line("out of memory", PRIORITY="2"))


def test_the_report_reads_the_log_groups(account: None, capsys: pytest.CaptureFixture) -> None:
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName="/g")
    logs.create_log_stream(logGroupName="/g", logStreamName="api-1")
    now = int(time.time())
    events = [
        event({"level": "error", "message": text}, at)[1]
        for text, at in (("old", now - 7200), ("new", now - 60), ("new", now - 50))
    ]
    logs.put_log_events(logGroupName="/g", logStreamName="api-1", logEvents=events)
    groups = {"api": "/g", "sites": "/none"}
    found = run(capsys, "cloudwatchlogs_errors_info", log_groups=groups, hours=1)
    assert [(item["message"], item["count"]) for item in found["errors"]] == [("new", 2)]
    assert found["complete"] is True
    assert "new" in found["table"]
    found = run(capsys, "cloudwatchlogs_errors_info", log_groups=groups, hours=3, limit=2)
    assert found["complete"] is False
    assert "above 0" in run(capsys, "cloudwatchlogs_errors_info", log_groups=groups, hours=0)["msg"]
