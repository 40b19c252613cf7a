"""The calls that moto lacks, put into its own classes, and metrics made of log events as they arrive."""

from __future__ import annotations

import datetime
import json
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.cloudwatch import models as cloudwatch
from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.logs import models as logs
from moto.logs.exceptions import InvalidParameterException
from moto.logs.exceptions import ResourceNotFoundException as LogsNotFound
from moto.logs.responses import LogsResponse

from sandbox.cloudwatch import alarms
from sandbox.cloudwatch.patterns import MISSING, PatternError, compile_pattern, value_at

SUPPRESSOR_KEYS = ("ActionsSuppressor", "ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod")
# What was measured before is dropped, but for the last value of each metric: it says that there is such a metric.
KEEP_SECONDS = 3 * 3600


class CompositeAlarm(cloudwatch.Alarm):
    """A composite alarm, with the attributes that the answer names."""

    def __init__(self, account: str, region: str, arguments: dict[str, Any]) -> None:
        super().__init__(
            account_id=account, region_name=region, name=arguments["AlarmName"], rule=arguments["AlarmRule"],
            description=arguments.get("AlarmDescription", ""), actions_enabled=arguments.get("ActionsEnabled", True),
            alarm_actions=arguments.get("AlarmActions", []), ok_actions=arguments.get("OKActions", []),
            insufficient_data_actions=arguments.get("InsufficientDataActions", []),
            namespace="", metric_name="", metric_data_queries=None, comparison_operator="", evaluation_periods=0,
            datapoints_to_alarm=None, period=0, threshold=0, statistic="", extended_statistic=None, dimensions=[],
            unit=None, treat_missing_data=None, evaluate_low_sample_count_percentile=None, threshold_metric_id=None,
        )  # fmt: skip
        self.alarm_name, self.alarm_description = self.name, self.description
        self.alarm_rule = arguments["AlarmRule"]
        self.actions_suppressor, self.actions_suppressor_wait_period, self.actions_suppressor_extension_period = (
            arguments.get(key) for key in SUPPRESSOR_KEYS
        )


def install() -> None:
    """Put everything into moto's classes, once."""
    if hasattr(CloudWatchResponse, "put_composite_alarm"):
        return
    for function in (put_composite_alarm, describe_alarms, describe_alarm_history):
        setattr(CloudWatchResponse, function.__name__, function)
    for call in (
        put_query_definition, describe_query_definitions, delete_query_definition,
        put_metric_filter,
    ):  # fmt: skip
        setattr(LogsResponse, call.__name__, call)
    cloudwatch.Alarm.update_state = _with_history(cloudwatch.Alarm.update_state)  # type: ignore[method-assign]
    backend: Any = cloudwatch.CloudWatchBackend
    backend.put_metric_alarm = _keeping_the_state(backend.put_metric_alarm)
    backend.get_filtered_metrics = distinct_metrics
    logs.LogGroup.put_log_events = _measured(logs.LogGroup.put_log_events)  # type: ignore[method-assign]


# --- alarms -------------------------------------------------------------------


def put_composite_alarm(self: CloudWatchResponse) -> ActionResult:
    """PutCompositeAlarm."""
    backend, arguments = self.cloudwatch_backend, self._get_params()
    name, rule = arguments["AlarmName"], arguments["AlarmRule"]
    try:
        alarms.raised(rule, {})
    except alarms.RuleError as error:
        raise ValidationError(f"AlarmRule: {error}") from error
    unknown = [child for child in alarms.children(rule) if child not in backend.alarms]
    if unknown or name in alarms.children(rule):
        raise ValidationError(f"AlarmRule: there is no alarm {', '.join(unknown)}" if unknown else "AlarmRule: a cycle")
    alarm = CompositeAlarm(backend.account_id, backend.region_name, arguments)
    _keep_state(alarm, backend.alarms.get(name))
    backend.alarms[name] = alarm
    if arguments.get("Tags"):
        backend.tagger.tag_resource(alarm.alarm_arn, arguments["Tags"])
    return EmptyResult()


def describe_alarms(self: CloudWatchResponse) -> ActionResult:
    """DescribeAlarms. Without AlarmTypes it answers with metric alarms alone, as CloudWatch does."""
    wanted = self._get_params()
    types, prefix = wanted.get("AlarmTypes") or ["MetricAlarm"], wanted.get("ActionPrefix") or ""
    found = [
        alarm
        for alarm in list(self.cloudwatch_backend.alarms.values())
        if alarm.name in (wanted.get("AlarmNames") or [alarm.name])
        and alarm.name.startswith(wanted.get("AlarmNamePrefix") or "")
        and wanted.get("StateValue") in (None, alarm.state_value)
        and (not prefix or any(action.startswith(prefix) for action in alarm.alarm_actions))
    ]
    return ActionResult(
        {
            "MetricAlarms": [a for a in found if a.rule is None and "MetricAlarm" in types],
            "CompositeAlarms": [a for a in found if a.rule is not None and "CompositeAlarm" in types],
        }
    )


def describe_alarm_history(self: CloudWatchResponse) -> ActionResult:
    """DescribeAlarmHistory: the changes of states, the latest first."""
    name = self._get_params().get("AlarmName")
    items = [
        item
        for alarm in self.cloudwatch_backend.alarms.values()
        for item in getattr(alarm, "changes", [])
        if name in (None, alarm.name)
    ]
    return ActionResult({"AlarmHistoryItems": sorted(items, key=lambda item: item["Timestamp"], reverse=True)})


def _with_history(update: Callable[..., None]) -> Callable[..., None]:
    def update_state(self: cloudwatch.Alarm, reason: str, reason_data: str, state_value: str) -> None:
        before = self.state_value
        update(self, reason, reason_data, state_value)
        self.__dict__.setdefault("changes", []).append(
            {
                "AlarmName": self.name,
                "AlarmType": "CompositeAlarm" if self.rule is not None else "MetricAlarm",
                "Timestamp": self.state_updated_timestamp,
                "HistoryItemType": "StateUpdate",
                "HistorySummary": f"Alarm updated from {before} to {state_value}",
                "HistoryData": json.dumps({"oldState": before, "newState": state_value, "reason": reason}),
            }
        )

    return update_state


def _keep_state(alarm: cloudwatch.Alarm, before: cloudwatch.Alarm | None) -> None:
    alarm.state_value = before.state_value if before else alarms.INSUFFICIENT_DATA
    if before:
        alarm.__dict__.update({key: before.__dict__[key] for key in ("changes", "notice") if key in before.__dict__})


def _keeping_the_state(put: Callable[..., cloudwatch.Alarm]) -> Callable[..., cloudwatch.Alarm]:
    def put_metric_alarm(
        self: cloudwatch.CloudWatchBackend, name: str, *args: Any, **arguments: Any
    ) -> cloudwatch.Alarm:
        before = self.alarms.get(name)
        alarm = put(self, name, *args, **arguments)
        _keep_state(alarm, before)
        return alarm

    return put_metric_alarm


# --- metrics ------------------------------------------------------------------


def identity(point: cloudwatch.MetricDatumBase) -> tuple[str, str, frozenset[tuple[str | None, str | None]]]:
    """What makes two data points points of one metric."""
    return point.namespace, point.name, frozenset((item.name, item.value) for item in point.dimensions)


def distinct_metrics(
    self: cloudwatch.CloudWatchBackend, metric_name: str, namespace: str, dimensions: list[dict[str, str]]
) -> list[cloudwatch.MetricDatumBase]:
    """ListMetrics, each metric once: moto takes two points with two dimensions for different ones."""
    found = {identity(point): point for point in self.get_all_metrics()}
    return [point for point in found.values() if point.filter(namespace, metric_name, dimensions)]


def forget(backend: cloudwatch.CloudWatchBackend, now: float) -> None:
    """Drop what is old."""
    points = list(backend.metric_data)
    last = {identity(point): index for index, point in enumerate(points)}
    kept = set(last.values())
    backend.metric_data = [
        point for index, point in enumerate(points) if index in kept or time_of(point) >= now - KEEP_SECONDS
    ] + backend.metric_data[len(points) :]


def time_of(point: cloudwatch.MetricDatumBase) -> float:
    """The time of a data point. moto keeps times without a zone, in UTC."""
    at = point.timestamp
    return (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).timestamp()


def values_of(point: cloudwatch.MetricDatumBase) -> list[float]:
    """The values of a data point; of an aggregated one, values that have the same statistics."""
    if isinstance(point, cloudwatch.MetricDatum):
        return [point.value]
    assert isinstance(point, cloudwatch.MetricAggregatedDatum)
    count = int(point.sample_count)
    if count < 3:
        return [point.min, point.max][:count]
    return [point.min, point.max] + [(point.sum - point.min - point.max) / (count - 2)] * (count - 2)


def instance_metrics(backend: cloudwatch.CloudWatchBackend, instances: Iterable[Any], port: int) -> None:
    """Publish EC2's own metric of whether hosts run: whether they accept a connection."""
    for instance in instances:
        if instance.state == "running":
            dimensions = [{"Name": "InstanceId", "Value": instance.id}]
            failed = 0.0 if not port or _accepts(instance.private_ip, port) else 1.0
            measured = {"MetricName": "StatusCheckFailed", "Dimensions": dimensions, "Value": failed, "Unit": "Count"}
            backend.put_metric_data("AWS/EC2", [measured])


def certificate_metrics(backend: cloudwatch.CloudWatchBackend, certificates: Iterable[Any]) -> None:
    """Publish ACM's own metric of how many days certificates are valid for."""
    for certificate in certificates:
        left = certificate._cert.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        dimensions = [{"Name": "CertificateArn", "Value": certificate.arn}]
        measured = {"MetricName": "DaysToExpiry", "Dimensions": dimensions, "Value": float(left.days), "Unit": "Count"}
        backend.put_metric_data("AWS/CertificateManager", [measured])


def _accepts(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


# --- logs ---------------------------------------------------------------------


def put_metric_filter(self: LogsResponse) -> str:
    """PutMetricFilter, with what moto leaves out; a filter of the same name is replaced."""
    wanted = json.loads(self.body)
    group = _group(self, wanted["logGroupName"])
    try:
        compile_pattern(wanted["filterPattern"])
    except PatternError as error:
        raise InvalidParameterException(msg=f"Invalid filterPattern: {error}") from error
    for item in wanted["metricTransformations"]:
        if item.get("dimensions") and "defaultValue" in item:
            raise InvalidParameterException(msg="A metric with dimensions cannot have a default value")
    backend = self.logs_backend
    backend.filters.delete_filter(wanted["filterName"], group.name)
    backend.filters.metric_filters.append(wanted)
    return ""


def _group(self: LogsResponse, name: str) -> logs.LogGroup:
    group = self.logs_backend.groups.get(name)
    if group is None:
        raise LogsNotFound
    return group


def _queries(self: LogsResponse) -> dict[str, dict[str, Any]]:
    return self.logs_backend.__dict__.setdefault("query_definitions", {})


def put_query_definition(self: LogsResponse) -> str:
    """PutQueryDefinition."""
    wanted = json.loads(self.body)
    name = wanted.pop("queryDefinitionId", None) or str(uuid.uuid4())
    _queries(self)[name] = {**wanted, "queryDefinitionId": name}
    return json.dumps({"queryDefinitionId": name})


def describe_query_definitions(self: LogsResponse) -> str:
    """DescribeQueryDefinitions."""
    prefix = self._get_param("queryDefinitionNamePrefix") or ""
    return json.dumps(
        {"queryDefinitions": [item for item in _queries(self).values() if item["name"].startswith(prefix)]}
    )


def delete_query_definition(self: LogsResponse) -> str:
    """DeleteQueryDefinition."""
    if _queries(self).pop(self._get_param("queryDefinitionId"), None) is None:
        raise LogsNotFound
    return json.dumps({"success": True})


def _measured(put: Callable[..., str]) -> Callable[..., str]:
    def put_log_events(self: logs.LogGroup, log_stream_name: str, log_events: list[dict[str, Any]]) -> str:
        token = put(self, log_stream_name, log_events)
        filters = logs.logs_backends[self.account_id][self.region].filters.get_matching_filters(
            log_group_name=self.name
        )
        backend = cloudwatch.cloudwatch_backends[self.account_id][self.region]
        for item in filters:
            for namespace, point in measure(item, log_events):
                backend.put_metric_data(namespace, [point])
        return token

    return put_log_events


def measure(metric_filter: dict[str, Any], events: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the namespaces and data points that a metric filter makes of log events."""
    matches = compile_pattern(metric_filter["filterPattern"])
    for event in events:
        try:
            parsed = json.loads(event["message"])
        except ValueError:
            continue
        if not matches(parsed):
            continue
        for wanted in metric_filter["metricTransformations"]:
            value = _reading(wanted["metricValue"], parsed)
            dimensions = {name: value_at(parsed, path) for name, path in (wanted.get("dimensions") or {}).items()}
            if value is None or not all(isinstance(item, str) for item in dimensions.values()):
                continue
            yield (
                wanted["metricNamespace"],
                {
                    "MetricName": wanted["metricName"],
                    "Dimensions": [{"Name": name, "Value": item} for name, item in dimensions.items()],
                    "Timestamp": datetime.datetime.fromtimestamp(event["timestamp"] / 1000, datetime.UTC).replace(
                        tzinfo=None
                    ),
                    "Value": value,
                    "Unit": wanted.get("unit", "None"),
                },
            )


def _reading(value: str, event: Any) -> float | None:
    found = value_at(event, value) if value.startswith("$") else value
    try:
        return None if found is MISSING or isinstance(found, bool) else float(found)
    except (TypeError, ValueError):
        return None
