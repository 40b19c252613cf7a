"""Evaluates the alarms in moto every few seconds, and tells their topics."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from moto.acm.models import acm_backends
from moto.cloudwatch.models import Alarm, CloudWatchBackend, cloudwatch_backends
from moto.ec2.models import ec2_backends
from moto.sns.exceptions import SNSNotFoundError
from moto.sns.models import sns_backends

from sandbox.cloudwatch import alarms, api

EVERY = 2.0
MEASURED_EVERY = 30.0
# A period's last values arrive after it is over.
LATE = 3.0


def start() -> None:
    """Evaluate for as long as the process runs."""
    threading.Thread(target=_run, daemon=True, name="alarms").start()


def _run() -> None:
    measured = 0.0
    while True:
        now = time.time()
        try:
            for backend in backends():
                if now - measured >= MEASURED_EVERY:
                    account, region = backend.account_id, backend.region_name
                    instances = ec2_backends[account][region].all_instances()
                    api.instance_metrics(backend, instances, int(os.environ.get("SANDBOX_STATUS_PORT", "0")))
                    api.certificate_metrics(backend, acm_backends[account][region]._certificates.values())
                    api.forget(backend, now)
                evaluate(backend, now - LATE)
            if now - measured >= MEASURED_EVERY:
                measured = now
        except Exception:
            # A reset takes things away in the middle of a round; the next one is whole again.
            traceback.print_exc(file=sys.stderr)
        time.sleep(EVERY)


def backends() -> Iterator[CloudWatchBackend]:
    """What there is of CloudWatch in all accounts and regions."""
    for regions in list(cloudwatch_backends.values()):
        yield from list(regions.values())


def evaluate(backend: CloudWatchBackend, now: float) -> None:
    """Bring all alarms of an account and region up to date; composite alarms after those that they name."""
    points: defaultdict[Any, list[tuple[float, float]]] = defaultdict(list)
    watched = list(backend.alarms.values())
    wanted = {(a.namespace, a.metric_name) for a in watched if a.rule is None}
    for point in list(backend.metric_data):
        if (point.namespace, point.name) in wanted:
            points[api.identity(point)] += [(api.time_of(point), value) for value in api.values_of(point)]
    for alarm in watched:
        if alarm.rule is None and alarm.metric_name:
            key = alarm.namespace, alarm.metric_name, frozenset((item.name, item.value) for item in alarm.dimensions)
            state, reason = alarms.evaluate(_rule(alarm), points[key], now, alarm.state_value)
            _set(backend, alarm, state, reason, now)
    # A composite alarm may name others: as many rounds as there are levels.
    composites = [alarm for alarm in watched if alarm.rule is not None]
    for _level in composites:
        states = {alarm.name: alarm.state_value for alarm in watched}
        news = [(alarm, alarms.ALARM if alarms.raised(str(alarm.rule), states) else alarms.OK) for alarm in composites]
        if all(alarm.state_value == state for alarm, state in news):
            break
        for alarm, state in news:
            named = [child for child in alarms.children(str(alarm.rule)) if states.get(child) == alarms.ALARM]
            _set(backend, alarm, state, f"in alarm: {', '.join(named) or 'none'}", now)
    for alarm in watched:
        _notify(backend, alarm, now)


def _rule(alarm: Alarm) -> alarms.Rule:
    return alarms.Rule(
        statistic=alarm.extended_statistic or alarm.statistic,
        comparison=alarm.comparison_operator,
        threshold=float(alarm.threshold),
        period=int(alarm.period),
        evaluation_periods=int(alarm.evaluation_periods),
        datapoints=int(alarm.datapoints_to_alarm or alarm.evaluation_periods),
        missing=alarm.treat_missing_data or "missing",
    )


def _set(backend: CloudWatchBackend, alarm: Alarm, state: str, reason: str, now: float) -> None:
    if state != alarm.state_value:
        before = alarm.state_value
        backend.set_alarm_state(alarm.name, reason, "{}", state)
        # What was not told yet stays suppressed.
        untold = alarm.__dict__.get("notice") or alarms.Notice(now)
        alarm.__dict__["notice"] = replace(untold, since=now)
        alarm.__dict__["before"] = before


def _notify(backend: CloudWatchBackend, alarm: Alarm, now: float) -> None:
    """Tell the topics of an alarm that changed, once nothing suppresses it."""
    notice = alarm.__dict__.get("notice")
    if notice is None:
        return
    suppressor = backend.alarms.get((getattr(alarm, "actions_suppressor", None) or "").split(":alarm:")[-1])
    wait = getattr(alarm, "actions_suppressor_wait_period", None) or 0
    extension = getattr(alarm, "actions_suppressor_extension_period", None) or 0
    state = suppressor.state_value if suppressor else None
    if not alarms.due(notice, alarm.state_value, state, wait, extension, now):
        return
    del alarm.__dict__["notice"]
    if not alarm.actions_enabled:
        return
    actions = {
        alarms.ALARM: alarm.alarm_actions,
        alarms.OK: alarm.ok_actions,
        alarms.INSUFFICIENT_DATA: alarm.insufficient_data_actions,
    }[alarm.state_value]
    message = {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "NewStateValue": alarm.state_value,
        "OldStateValue": alarm.__dict__.get("before"),
        "NewStateReason": alarm.state_reason,
    }
    for action in actions:
        if ":sns:" in action:
            subject = f"{alarm.state_value}: {alarm.name}"[:100]
            topics = sns_backends[backend.account_id][backend.region_name]
            # As with CloudWatch, an action that fails changes nothing of the alarm.
            with contextlib.suppress(SNSNotFoundError):
                topics.publish(json.dumps(message), action, subject=subject)
