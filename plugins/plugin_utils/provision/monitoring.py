# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The layer C(monitoring): log groups, their metrics, alarms, dashboard and saved queries. Pure functions.

C(derive) uses catalogue and environment only; C(complete) adds what depends on the account: its number, instances and
certificates.

nginx writes its access log to a file, as one JSON object per request, whose fields are those of the event. A journal
entry is the event C({"body": {"MESSAGE": "…", …}}): if the message is JSON itself, metric filters see text, and queries
parse it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    Report,
    integer,
    items,
    keys,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import names, order
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import lacks

# Values that the module amazon.aws.cloudwatchlogs_log_group accepts.
RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 3653)


def retention(report: Report, path: str, value: Any) -> int | None:
    """Check the days for which events are kept."""
    checked: int | None = integer(1, RETENTION_DAYS[-1])(report, path, value)
    if checked is None or checked in RETENTION_DAYS:
        return checked
    known = ", ".join(map(str, RETENTION_DAYS))
    report.add(path, value, "this is not a retention that CloudWatch supports", f"Write one of: {known}.")
    return None


PERCENT = integer(1, 100)
KEYS: dict[str, Key] = {
    "emails": Key(items(values.email, "a list of e-mail addresses"), []),
    "retention_days": Key(retention, 30),
    "down_percent": Key(PERCENT, 50),
    "errors_percent": Key(PERCENT, 5),
    "latency_p99_ms": Key(integer(1, 600000), 2000),
    "application_errors": Key(integer(1, 1000000), 10),
    "memory_percent": Key(PERCENT, 90),
    "disk_percent": Key(PERCENT, 85),
    "swap_percent": Key(PERCENT, 50),
    "connections_percent": Key(PERCENT, 80),
    "certificate_days": Key(integer(1, 365), 21),
}
CHECK = keys(KEYS, "a mapping such as {emails: [team@example.com]}")

# Levels are words ("error", "fatal"), or numbers as in pino (50, 60). In JSON within JSON they can only be
# matched as text; groups of alternatives are not allowed.
ERROR = "{ $.body.MESSAGE = %.level.:.?[56ef]% }"
ANY = '{ $.body.MESSAGE = "*" }'
# What the unit of a run logs at its end.
RUN_ENDED = '$.body.MESSAGE = "run ended: *"'
RUN_SUCCEEDED = "run ended: success *"
# Log lines of fronts. The edge logs the same requests again, and so do calls between services.
FRONT = '($.edge = 0) && ($.service != "internal:*")'
# Requests that only the edge can log: no front responded.
NO_FRONT = "($.edge = 1) && (($.status = 502) || ($.status = 504))"
SWITCHING_PROTOCOLS = 101


def derive(model: Model) -> dict[str, Any]:
    """Return the resources of monitoring, without what depends on the account."""
    settings = model.environment["aws"]["monitoring"]
    return {
        "environment": model.environment["name"],
        "region": model.environment["region"],
        "namespace": namespace(model),
        "certificate": model.environment["domain"] if model.environment["tls"]["mode"] == "load_balancer" else "",
        "tags": names.aws_tags(model),
        "settings": dict(settings),
        "log_groups": log_groups(model, settings["retention_days"]),
        "metric_filters": metric_filters(model),
        "topic": {
            "name": names.aws_name(model, "alarms"),
            "subscriptions": [{"endpoint": address, "protocol": "email"} for address in settings["emails"]],
        },
        "alarms": [{"tags": names.aws_tags(model), **item} for item in alarms(model)],
        "composites": composites(model),
        "dashboard": {"name": names.aws_name(model, "platform"), "body": {"widgets": widgets(model)}},
        "queries": queries(model),
    }


def synthetic_period(model: Model) -> int:
    """Return the interval of the scheduled check in seconds, as whole minutes; 0 if there is none."""
    settings = model.environment.get("synthetic") or {"enabled": True, "interval": 900}
    return -(-int(settings["interval"]) // 60) * 60 if settings["enabled"] and model.journeys else 0


def namespace(model: Model) -> str:
    """Return the namespace of the environment's own metrics."""
    return f"FivePointers/{model.environment['name']}"


# --- logs ---------------------------------------------------------------------


def writers(model: Model) -> list[str]:
    """Return the services that write their own logs; static files are served by nginx alone."""
    return [name for name in model.services if model.is_process(name)]


def websockets(model: Model) -> list[str]:
    """Return the services that speak WebSocket."""
    return [name for name in model.services if KINDS[model.services[name]["kind"]].websocket]


def log_groups(model: Model, days: int) -> list[dict[str, Any]]:
    """Return the log groups: one per service with logs, one for nginx on all hosts, one for the scheduled check."""
    return [
        {"name": names.log_group(model, name), "retention_days": days, "tags": names.aws_tags(model, name)}
        for name in ("nginx", *(["verify"] if synthetic_period(model) else []), *writers(model))
    ]


def differing_log_groups(
    wanted: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the log groups to create or change. there: those of the environment, as the info module returns them."""
    by_name = {group["log_group_name"]: group for group in there}
    return [
        group
        for group in wanted
        if (found := by_name.get(group["name"])) is None
        or found.get("retention_in_days") != group["retention_days"]
        or lacks(found["tags"], group["tags"])
    ]


def metric_filters(model: Model) -> list[dict[str, Any]]:
    """Return the metric filters of the logs.

    A metric of zeros and ones is a count (sum), a share (average) and the number of requests (sample count) at once.
    """
    nginx = names.log_group(model, "nginx")
    front, service = {"group": nginx, "service": "$.service"}, "$.body.SYSLOG_IDENTIFIER"
    found = [
        ("errors", f"{{ {FRONT} && ($.status >= 500) }}", "ErrorsServer", "1", front),
        ("no-errors", f"{{ {FRONT} && ($.status < 500) }}", "ErrorsServer", "0", front),
        ("no-front", f"{{ {NO_FRONT} }}", "ErrorsServer", "1", front),
        # The duration of a WebSocket is the time that it is open.
        (
            "latency",
            f"{{ {FRONT} && ($.status != {SWITCHING_PROTOCOLS}) }}",
            "LatencySeconds",
            "$.seconds",
            front,
        ),
    ]
    for name in writers(model):
        group = {"group": names.log_group(model, name), "service": service}
        # Zeros do not change a sum, and make the metric exist before the first error.
        found += [
            ("application-errors", ERROR, "ApplicationErrors", "1", group),
            ("application-lines", ANY, "ApplicationErrors", "0", group),
        ]
        if model.is_scheduled(name):
            found += [
                ("runs", f"{{ {RUN_ENDED} }}", "RunsFailed", "0", group),
                (
                    "runs-failed",
                    f'{{ ({RUN_ENDED}) && ($.body.MESSAGE != "{RUN_SUCCEEDED}") }}',
                    "RunsFailed",
                    "1",
                    group,
                ),
            ]
    if synthetic_period(model):
        group = {"group": names.log_group(model, "verify"), "service": ""}
        found += [
            ("verify-succeeded", "{ $.verify.succeeded >= 0 }", "VerifySucceeded", "$.verify.succeeded", group),
            ("verify-seconds", "{ $.verify.seconds >= 0 }", "VerifySeconds", "$.verify.seconds", group),
        ]
    return [
        {
            "name": names.aws_name(model, name),
            "log_group_name": where["group"],
            "pattern": pattern,
            "metric_transformation": {
                "metric_name": metric,
                "metric_namespace": namespace(model),
                "metric_value": value,
                "dimensions": {"Service": where["service"]} if where["service"] else {},
                "unit": "Seconds" if metric.endswith("Seconds") else "Count",
            },
        }
        for name, pattern, metric, value, where in found
    ]


def queries(model: Model) -> list[dict[str, Any]]:
    """Return the saved queries of Logs Insights."""
    nginx = [names.log_group(model, "nginx")]
    applications = [names.log_group(model, name) for name in writers(model)]
    request = "fields @timestamp, service, method, path, status, seconds, "
    parsed = "fields jsonParse(body.MESSAGE) as entry"
    level = 'entry.level in ["error", "fatal"] or entry.level >= 50'
    found = [
        (
            "errors of the services",
            applications,
            f"{parsed}, @timestamp, body.SYSLOG_IDENTIFIER as service, body._HOSTNAME as host, "
            "body.FIVEPOINTERS_RELEASE as release, entry.requestId, entry.message, entry.reason, entry.stack\n"
            f"| filter {level}\n| sort @timestamp desc\n| limit 200",
        ),
        (
            "errors by message",
            applications,
            f"{parsed}\n| filter {level}\n"
            "| stats count(*) as errors, min(@timestamp) as first, max(@timestamp) as last "
            "by body.SYSLOG_IDENTIFIER as service, entry.message, entry.reason\n| sort errors desc",
        ),
        (
            "requests that failed",
            nginx,
            f"{request}upstream, upstream_status, request_id\n"
            "| filter status >= 500\n| sort @timestamp desc\n| limit 200",
        ),
        (
            "slowest paths",
            nginx,
            "filter edge = 0 and status != 101\n"
            "| stats count(*) as requests, pct(seconds, 50) as p50, pct(seconds, 95) as p95, "
            "pct(seconds, 99) as p99 by service, method, path\n| sort p99 desc\n| limit 50",
        ),
        (
            "one request through all services",
            nginx + applications,
            "fields @timestamp, @log, @message\n| filter @message like /REQUEST_ID/\n| sort @timestamp asc",
        ),
    ]
    return [
        {"name": f"{model.environment['name']}/{name}", "log_groups": groups, "query": query}
        for name, groups, query in found
        if groups
    ]


# --- alarms -------------------------------------------------------------------

# The agent publishes each metric per host, and once more with this dimension alone for all hosts together.
HOST_METRICS = {"memory": "mem_used_percent", "disk": "disk_used_percent", "swap": "swap_used_percent"}
# Seconds within which an alarm reacts to its metric.
EVALUATED = 120
# Previous errors and slow requests remain in an alarm's periods for five minutes: until then, the missing dependency
# counts as the cause.
LEFT_BEHIND = 300 + EVALUATED
MORE, LESS = "GreaterThanOrEqualToThreshold", "LessThanThreshold"


def alarms(model: Model) -> list[dict[str, Any]]:
    """Return the alarms on metrics of services, databases and the synthetic check. None of them notifies."""
    settings = model.environment["aws"]["monitoring"]
    found: list[dict[str, Any]] = []
    for name in model.services:
        found += service_alarms(model, name, settings)
    for database, budget in plans.connection_budget(model).items():
        most = budget["max_connections"]
        found.append(
            alarm(
                names.aws_name(model, f"{database}/connections"),
                f"{database} has {settings['connections_percent']} % of its {most} connections in use",
                ("AWS/RDS", "DatabaseConnections", {"DBInstanceIdentifier": names.aws_name(model, database)}),
                "Maximum",
                most * settings["connections_percent"] / 100,
                periods=3,
            )
        )
    host = {"Service": "host"}
    for thing, metric in HOST_METRICS.items():
        most = settings[f"{thing}_percent"]
        found.append(
            alarm(
                of_environment(model, f"hosts/{thing}"),
                f"{most} % of a host's {thing} is in use",
                (namespace(model), metric, host),
                "Maximum",
                most,
                period=300,
                periods=2,
            )
        )
    if period := synthetic_period(model):
        found.append(
            alarm(
                of_environment(model, "verify-failed"),
                "the scheduled check through the front door fails, or is not running",
                (namespace(model), "VerifySucceeded", {}),
                "Minimum",
                1,
                period=period,
                periods=2,
                comparison=LESS,
                missing="breaching",
            )
        )
    return found


def service_alarms(model: Model, name: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the alarms of one service."""
    own = namespace(model), {"Service": name}
    failed = f"% of requests to {name} fail"
    errors, latency, logged = (
        (own[0], metric, own[1]) for metric in ("ErrorsServer", "LatencySeconds", "ApplicationErrors")
    )
    prefix = names.aws_name(model, name)
    down, share = settings["down_percent"], settings["errors_percent"]
    slow, count = settings["latency_p99_ms"] / 1000, settings["application_errors"]
    found = []
    if model.listens(name):
        found += [
            # Without requests the state is kept: a service that is down gets none once a load balancer takes it out.
            alarm(f"{prefix}/down", f"{down} {failed}", errors, "Average", down / 100, missing="ignore"),
            alarm(
                f"{prefix}/errors", f"{share} {failed}", errors, "Average", share / 100,
                periods=5, datapoints=3,
            ),
        ]  # fmt: skip
    if model.listens(name) and name not in websockets(model):
        found.append(
            alarm(
                f"{prefix}/latency", f"one of a hundred requests to {name} takes {slow:g} s", latency, "p99", slow,
                period=300, periods=3,
            )
        )  # fmt: skip
    if model.is_scheduled(name):
        found += run_alarms(model, name, prefix)
    elif model.is_process(name):
        runs = own[0], "procstat_lookup_pid_count", own[1]
        found.append(
            alarm(
                f"{prefix}/not-running",
                f"{name} is not running on one of its hosts",
                runs,
                "Minimum",
                1,
                comparison=LESS,
            )
        )
    if model.is_process(name):
        what = f"{name} logs {count} errors in five minutes"
        found.append(alarm(f"{prefix}/application-errors", what, logged, "Sum", count, period=300))
    return [{**item, "tags": names.aws_tags(model, name)} for item in found]


def run_alarms(model: Model, name: str, prefix: str) -> list[dict[str, Any]]:
    """Return the alarms of what runs by a schedule: a run failed, or none ended in time."""
    runs = namespace(model), "RunsFailed", {"Service": name}
    found = [alarm(f"{prefix}/failed", f"a run of {name} failed", runs, "Sum", 1)]
    if hours := model.services[name]["overdue"]:
        found.append(
            alarm(
                f"{prefix}/overdue",
                f"no run of {name} ended within {hours} h",
                runs,
                "SampleCount",
                1,
                period=3600,
                periods=hours,
                comparison=LESS,
                missing="breaching",
            )
        )
    return found


def alarm(
    name: str,
    description: str,
    metric: tuple[str, str, dict[str, str]],
    statistic: str,
    threshold: float,
    *,
    period: int = 60,
    periods: int = 1,
    datapoints: int | None = None,
    comparison: str = MORE,
    missing: str = "notBreaching",
) -> dict[str, Any]:
    """Return the arguments of C(cloudwatch_metric_alarms)."""
    return {
        "name": name,
        "description": description,
        "namespace": metric[0],
        "metric_name": metric[1],
        "dimensions": metric[2],
        "statistic": statistic,
        "threshold": float(threshold),
        "comparison": comparison,
        "period": period,
        "evaluation_periods": periods,
        "datapoints_to_alarm": datapoints or periods,
        "treat_missing_data": missing,
    }


def composites(model: Model) -> list[dict[str, Any]]:
    """Return the alarms that notify: one for each thing that can fail, each after the alarms that it refers to.

    If a dependency takes a service down, the dependency notifies, and the service does not.
    """
    settings = model.environment["aws"]["monitoring"]
    named = {name: names.aws_name(model, name) for name in (*model.databases, *model.services)}
    found = [
        composite(model, named[name], f"database {name}", [f"{named[name]}/connections"]) for name in model.databases
    ]
    for name in [name for batch in order.deploy_order(model) for name in batch]:
        needs = [named[other] for other in model.services[name]["needs"] if other in model.services]
        needs = needs if model.is_process(name) else []
        entry = composite(
            model,
            named[name],
            f"service {name}",
            [item["name"] for item in service_alarms(model, name, settings)],
            name,
        )
        if len(needs) > 1:
            what = f"what {name} needs"
            found.append({**composite(model, f"{named[name]}/needs", what, needs, name), "notifies": False})
            needs = [found[-1]["name"]]
        found.append({**entry, **suppressed_by("".join(needs), LEFT_BEHIND)})
    services = of_environment(model, "services")
    found.append(
        {**composite(model, services, "any service", [named[name] for name in model.services]), "notifies": False}
    )
    if period := synthetic_period(model):
        front_door = composite(
            model,
            of_environment(model, "front-door"),
            "login, signup or co-editing",
            [of_environment(model, "verify-failed")],
        )
        found.append({**front_door, **suppressed_by(services, period + EVALUATED)})
    return found


def suppressed_by(suppressor: str, seconds: int) -> dict[str, Any]:
    """Return the settings that suppress an alarm while another is raised, and for some time after."""
    return {"actions_suppressor": suppressor, "actions_suppressor_extension_period": seconds}


def of_environment(model: Model, thing: str) -> str:
    """Return the name of an alarm that does not belong to a service; names of services contain no slash."""
    return f"{model.environment['name']}/{thing}"


def composite(model: Model, name: str, what: str, children: Iterable[str], service: str = "") -> dict[str, Any]:
    """Return a composite alarm that any of these alarms raises."""
    return {
        "name": name,
        "description": f"{model.environment['name']}: {what}",
        "rule": any_of(children),
        **suppressed_by("", 0),
        "notifies": True,
        "tags": names.aws_tags(model, service),
    }


def any_of(names: Iterable[str]) -> str:
    """Return the rule that is true if any of these alarms is raised."""
    return " OR ".join(f'ALARM("{name}")' for name in names)


# --- dashboard ----------------------------------------------------------------

WIDTH, HEIGHT = 24, 6


def widgets(model: Model) -> list[dict[str, Any]]:
    """Return the dashboard's widgets, row by row."""
    rows = [verify_row(model)] if synthetic_period(model) else []
    rows += [service_row(model, name) for name in model.services]
    rows += [host_row(model)]
    rows += [[graph(model, *connections(model, database))] for database in model.databases]
    placed = []
    for index, row in enumerate(rows):
        width = WIDTH // len(row)
        for place, widget in enumerate(row):
            placed.append({**widget, "x": place * width, "y": index * HEIGHT, "width": width, "height": HEIGHT})
    return placed


def graph(
    model: Model, title: str, metrics: list[Any], stat: str = "Average", lines: Sequence[tuple[str, float]] = ()
) -> dict[str, Any]:
    """Return a widget that shows metrics over time, with horizontal lines."""
    properties: dict[str, Any] = {
        "title": title,
        "region": model.environment["region"],
        "view": "timeSeries",
        "stat": stat,
        "period": 60,
        "metrics": metrics,
        "yAxis": {"left": {"min": 0}},
    }
    if lines:
        properties["annotations"] = {"horizontal": [{"label": label, "value": value} for label, value in lines]}
    return {"type": "metric", "properties": properties}


def verify_row(model: Model) -> list[dict[str, Any]]:
    """Return the widgets of the synthetic check."""
    own = namespace(model)
    return [
        graph(model, "Login, signup and co-editing work", [[own, "VerifySucceeded"]], "Minimum"),
        graph(model, "Seconds that the check takes", [[own, "VerifySeconds"]], "Maximum"),
    ]


def service_row(model: Model, name: str) -> list[dict[str, Any]]:
    """Return traffic, errors and latency of a service, and what else there is of its kind."""
    row = request_graphs(model, name) if model.listens(name) else []
    if model.is_process(name):
        errors = [namespace(model), "ApplicationErrors", "Service", name]
        row.append(graph(model, f"{name}: errors logged", [errors], "Sum"))
    if model.is_scheduled(name):
        runs = [namespace(model), "RunsFailed", "Service", name]
        series = [[*runs, {"stat": "SampleCount", "label": "ended"}], [*runs, {"label": "failed"}]]
        row.append(graph(model, f"{name}: runs", series, "Sum"))
    return row


def request_graphs(model: Model, name: str) -> list[dict[str, Any]]:
    """Return traffic, failed requests and latency of a service that listens."""
    settings = model.environment["aws"]["monitoring"]
    own = namespace(model)
    errors = [own, "ErrorsServer", "Service", name]
    share = [("alarm", float(settings["errors_percent"])), ("down", float(settings["down_percent"]))]
    row = [
        graph(model, f"{name}: requests a minute", [[*errors, {"label": "requests"}]], "SampleCount"),
        graph(
            model,
            f"{name}: failed requests, percent",
            [
                [{"expression": "100 * errors", "label": "failed", "id": "share"}],
                [*errors, {"id": "errors", "visible": False}],
            ],
            "Average",
            share,
        ),
    ]  # fmt: skip
    if name in websockets(model) and model.services[name].get("statsd"):
        row.append(graph(model, f"{name}: open WebSockets", [[own, "OpenSockets", "Service", name]], "Sum"))
    else:
        series = [
            [own, "LatencySeconds", "Service", name, {"stat": stat, "label": stat}] for stat in ("p50", "p95", "p99")
        ]
        lines = [("alarm", settings["latency_p99_ms"] / 1000)]
        row.append(graph(model, f"{name}: seconds for a request", series, "p99", lines))
    return row


def host_row(model: Model) -> list[dict[str, Any]]:
    """Return the widgets of the hosts' usage. Hosts come and go, so they are searched for."""
    settings = model.environment["aws"]["monitoring"]
    row = []
    for thing, metric in HOST_METRICS.items():
        lines = [("alarm", float(settings[f"{thing}_percent"]))]
        row.append(graph(model, f"hosts: {thing}, percent", [of_hosts(model, metric, "host", thing)], "Maximum", lines))
    staying = [name for name in writers(model) if not model.is_scheduled(name)]
    usage = [of_hosts(model, "procstat_cpu_usage", name, f"cpu{index}") for index, name in enumerate(staying)]
    return [*row, graph(model, "services: processor, percent", usage, "Maximum")]


def of_hosts(model: Model, metric: str, service: str, identity: str) -> list[dict[str, Any]]:
    """Return a metric of a service on each of its hosts, with any further dimensions."""
    terms = f'Namespace="{namespace(model)}" MetricName="{metric}" Service="{service}" InstanceId'
    return [{"expression": f"SEARCH('{terms}', 'Maximum', 60)", "id": identity}]


def connections(model: Model, database: str) -> tuple[str, list[Any], str, list[tuple[str, float]]]:
    """Return the arguments of the graph of a database's connections, with the budget."""
    budget = plans.connection_budget(model)[database]
    metric = ["AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier", names.aws_name(model, database)]
    lines = [("budget", float(budget["allowed"])), ("max_connections", float(budget["max_connections"]))]
    return f"{database}: connections", [metric], "Maximum", lines


# --- with the account ---------------------------------------------------------


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the C(log_groups) to create or change, and alarms and dashboard as C(complete) returns them.

    there: C(log_groups) of the environment, C(caller) (the ARN of the caller), its C(instances), all C(certificates) of
    the region, and the C(host_alarms) that exist.
    """
    of_domain = [item for item in there["certificates"] if item["domain_name"] == derived["certificate"]]
    return {
        "log_groups": differing_log_groups(derived["log_groups"], there["log_groups"]),
        **complete(derived, there["caller"], there["instances"], of_domain, there["host_alarms"]),
    }


def complete(
    derived: Mapping[str, Any],
    caller: str,
    instances: Sequence[Mapping[str, Any]],
    certificates: Sequence[Mapping[str, Any]],
    host_alarms: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the alarms with the data of the account, and the dashboard that shows their states.

    :param caller: the ARN of the caller; it contains partition and account.
    :param instances: as C(amazon.aws.ec2_instance_info) returns them.
    :param certificates: as C(community.aws.acm_certificate_info) returns them.
    :param host_alarms: the existing alarms of hosts, as C(amazon.aws.cloudwatch_metric_alarm_info) returns them.
    """
    partition, account = caller.split(":")[1], caller.split(":")[4]

    def arn(service: str, name: str) -> str:
        return f"arn:{partition}:{service}:{derived['region']}:{account}:{name}"

    topic = arn("sns", derived["topic"]["name"])
    alarms_found, composites_found = list(derived["alarms"]), list(derived["composites"])
    finished: list[dict[str, Any]] = []
    status = [status_alarm(derived, host) for host in sorted(instances, key=lambda item: item["instance_id"])]
    alarms_found += status
    hosts = [item for item in derived["alarms"] if item["name"].startswith(f"{derived['environment']}/hosts/")]
    composites_found.append(_raised_by(derived, "hosts", [*hosts, *status], "a host"))
    if certificates:
        own = [certificate_alarm(derived, item, index) for index, item in enumerate(certificates)]
        alarms_found += own
        what = f"certificate of {derived['certificate']}"
        composites_found.append(_raised_by(derived, "certificate", own, what))
    notifying = [item["name"] for item in composites_found if item["notifies"]]
    for item in composites_found:
        actions = [topic] if item["name"] in notifying else []
        finished.append({**item, "alarm_actions": actions, "ok_actions": actions})
        del finished[-1]["notifies"]
    states = {
        "type": "alarm",
        "x": 0, "y": 0, "width": WIDTH, "height": 3,
        "properties": {
            "title": f"{derived['environment']}: alarms",
            "alarms": [arn("cloudwatch", f"alarm:{name}") for name in notifying],
        },
    }  # fmt: skip
    below = [{**widget, "y": widget["y"] + states["height"]} for widget in derived["dashboard"]["body"]["widgets"]]
    wanted = {item["name"] for item in alarms_found}
    gone = sorted(item["alarm_name"] for item in host_alarms if item["alarm_name"] not in wanted)
    return {
        "topic_arn": topic,
        "gone": [{"name": name, "state": "absent"} for name in gone],
        "alarms": [{"tags": dict(derived["tags"]), **item} for item in alarms_found],
        "composites": finished,
        "dashboard": {**derived["dashboard"], "body": {"widgets": [states, *below]}},
    }


def _raised_by(derived: Mapping[str, Any], thing: str, own: Sequence[Mapping[str, Any]], what: str) -> dict[str, Any]:
    return {
        "name": f"{derived['environment']}/{thing}",
        "description": f"{derived['environment']}: {what}",
        "rule": any_of(item["name"] for item in own),
        **suppressed_by("", 0),
        "notifies": True,
        "tags": dict(derived["tags"]),
    }


def status_alarm(derived: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """Return the alarm on the EC2 status checks of a host."""
    name = (host.get("tags") or {}).get("Name", host["instance_id"])
    return alarm(
        f"{derived['environment']}/hosts/{host['instance_id']}",
        f"the EC2 status checks of {name} fail",
        ("AWS/EC2", "StatusCheckFailed", {"InstanceId": host["instance_id"]}),
        "Maximum",
        1,
        periods=2,
    )


def certificate_alarm(derived: Mapping[str, Any], certificate: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return the alarm on a certificate that is about to expire."""
    days = derived["settings"]["certificate_days"]
    return alarm(
        f"{derived['environment']}/certificate-expiry-{index + 1}",
        f"the certificate of {derived['certificate']} expires within {days} days",
        ("AWS/CertificateManager", "DaysToExpiry", {"CertificateArn": certificate["certificate_arn"]}),
        "Minimum",
        days,
        period=86400,
        comparison=LESS,
    )


# --- checks -------------------------------------------------------------------

SEARCH = re.compile(r"SEARCH\('(?P<terms>[^']+)'")
TERM = re.compile(r"(?P<name>\w+)(?:=\"(?P<value>[^\"]*)\")?")


def missing_metrics(body: Mapping[str, Any], known: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the metrics of a dashboard that do not exist: each as text, or as its search.

    :param known: as C(ListMetrics) returns them.
    """
    there = [
        {"Namespace": item["Namespace"], "MetricName": item["MetricName"]}
        | {dimension["Name"]: dimension["Value"] for dimension in item["Dimensions"]}
        for item in known
    ]
    missing = []
    for widget in body["widgets"]:
        for entry in widget["properties"].get("metrics", []):
            words = [part for part in entry if isinstance(part, str)]
            if words:
                wanted = dict(zip(["Namespace", "MetricName", *words[2::2]], [*words[:2], *words[3::2]], strict=True))
                if wanted not in there:
                    missing.append(" ".join(words))
            elif search := SEARCH.match(entry[0]["expression"]):
                terms = {term["name"]: term["value"] for term in TERM.finditer(search["terms"])}
                if not any(_found(terms, item) for item in there):
                    missing.append(entry[0]["expression"])
    return missing


def _found(terms: Mapping[str, str | None], metric: Mapping[str, str]) -> bool:
    """Return whether a metric matches all terms of a search; a term without a value is the name of a dimension."""
    return all(key in metric and value in (None, metric[key]) for key, value in terms.items())
