"""A stand-in for what moto lacks of EventBridge Scheduler: the clock. moto keeps schedules and never runs them.

Reads the schedules from the sandbox's API, and calls what is due through the same API. Only the forms that the
collection uses are known; anything else is refused, so that nothing seems to work here that was never tried.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from botocore.exceptions import ClientError
from botocore.model import ListShape, Shape, StructureShape

from sandbox.errors import SandboxError

ACTION = re.compile(r"arn:aws:scheduler:::aws-sdk:([a-z0-9]+):([A-Za-z0-9]+)")
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MINUTE = timedelta(minutes=1)
# Longer gaps are not caught up with: EventBridge Scheduler was not away either.
MOST = timedelta(days=15)


@dataclass(frozen=True)
class Invocation:
    """One call that was made; `error` is what the API answered, or empty."""

    schedule: str
    action: str
    error: str = ""


def run_due(client: Callable[[str], Any], now: datetime, since: datetime | None = None) -> list[Invocation]:
    """Run what is due at `now` and was not at `since` (a minute before, if not given); return the calls made.

    client: makes a client of a service, such as `session.client`. One-time schedules that are late run as well. As
    in AWS, an answer that is an error does not keep a schedule from being deleted after its completion.
    """
    scheduler = client("scheduler")
    after = max(since or now - MINUTE, now - MOST)
    made = []
    for item in scheduler.get_paginator("list_schedules").paginate().build_full_result()["Schedules"]:
        name = {"GroupName": item["GroupName"], "Name": item["Name"]}
        schedule = scheduler.get_schedule(**name)
        if schedule["State"] != "ENABLED" or not is_due(schedule, after, now):
            continue
        made.append(invoke(client, "/".join(name.values()), schedule["Target"]))
        if schedule["ScheduleExpression"].startswith("at(") and schedule.get("ActionAfterCompletion") == "DELETE":
            scheduler.delete_schedule(**name)
    return made


def is_due(schedule: Mapping[str, Any], after: datetime, now: datetime) -> bool:
    """Whether the schedule has a time after `after` and not after `now`."""
    expression = schedule["ScheduleExpression"]
    zone = ZoneInfo(schedule.get("ScheduleExpressionTimezone") or "UTC")
    if match := re.fullmatch(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)", expression):
        at = datetime.fromisoformat(match[1]).replace(tzinfo=zone).astimezone(UTC)
        return at <= now and (after < at or schedule.get("ActionAfterCompletion") == "DELETE")
    if match := re.fullmatch(r"cron\((\d+) (\d+) \? \* (\S+) \*\)", expression):
        minute = now.replace(second=0, microsecond=0)
        while minute > after:
            local = minute.astimezone(zone)
            if (local.hour, local.minute) == (int(match[2]), int(match[1])) and DAYS[local.weekday()] in days(match[3]):
                return True
            minute -= MINUTE
        return False
    raise SandboxError(
        f"The stand-in for EventBridge Scheduler does not support {expression}. See sandbox/scheduler.py."
    )


def days(field: str) -> set[str]:
    """Return the days of a cron expression's field: *, names, ranges of names."""
    found: set[str] = set()
    for part in field.split(","):
        first, _dash, last = ("MON-SUN" if part == "*" else part).partition("-")
        found.update(DAYS[DAYS.index(first) : DAYS.index(last or first) + 1])
    return found


def invoke(client: Callable[[str], Any], schedule: str, target: Mapping[str, Any]) -> Invocation:
    """Call the action of the API that is the target."""
    match = ACTION.fullmatch(target["Arn"])
    if not match:
        raise SandboxError(
            f"{schedule}: the stand-in for EventBridge Scheduler does not support the target {target['Arn']}."
        )
    api = client(match[1])
    operations = {name[0].lower() + name[1:]: name for name in api.meta.service_model.operation_names}
    operation = operations.get(match[2])
    if operation is None:
        raise SandboxError(f"{schedule}: {match[1]} has no action {match[2]}.")
    shape = api.meta.service_model.operation_model(operation).input_shape
    method = next(name for name, of in api.meta.method_to_api_mapping.items() if of == operation)
    try:
        getattr(api, method)(**translated(schedule, json.loads(target.get("Input") or "{}"), shape))
    except ClientError as error:
        return Invocation(schedule, f"{match[1]}:{match[2]}", str(error))
    return Invocation(schedule, f"{match[1]}:{match[2]}")


def translated(schedule: str, value: Any, shape: Shape | None) -> Any:
    """Return parameters under boto3's names; EventBridge Scheduler takes those of the AWS SDK for Java."""
    if isinstance(shape, StructureShape):
        members = {java(name): (name, member) for name, member in shape.members.items()}
        for key in value:
            if key not in members:
                raise SandboxError(f"{schedule}: the input has {key}, and may have {', '.join(members)}.")
        return {members[key][0]: translated(schedule, item, members[key][1]) for key, item in value.items()}
    if isinstance(shape, ListShape):
        return [translated(schedule, item, shape.member) for item in value]
    return value


def java(name: str) -> str:
    """Return a parameter's name as the AWS SDK for Java has it: DBInstanceIdentifier is DbInstanceIdentifier."""
    return re.sub(r"[A-Z]+(?=[A-Z][a-z]|$)", lambda word: word[0].capitalize(), name)
