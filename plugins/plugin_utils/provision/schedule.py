# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The layer C(schedule): the hours in which an environment runs, and what is started and stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import available_timezones

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Key, Report, keys, text
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import is_production
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import aws_name, aws_tags
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import iam
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import of_environment

RENAME = "Rename that role, or the environment."
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TARGETS = "arn:aws:scheduler:::aws-sdk"


def days(report: Report, path: str, value: Any) -> list[str] | None:
    """Check days of the week, such as mon-fri or mon,wed."""
    found: list[str] = []
    for part in value.split(",") if isinstance(value, str) else [""]:
        first, dash, last = part.strip().lower().partition("-")
        last = last if dash else first
        if first not in DAYS or last not in DAYS or DAYS.index(last) < DAYS.index(first):
            report.add(
                path, value, "these are not valid days", "Write days from mon to sun, such as mon-fri or mon,wed,fri."
            )
            return None
        found += DAYS[DAYS.index(first) : DAYS.index(last) + 1]
    return [day for day in DAYS if day in found]


def timezone(report: Report, path: str, value: Any) -> str | None:
    """Check a time zone by its name in the IANA database, if this machine has the database."""
    if isinstance(value, str) and re.fullmatch(r"[A-Z][A-Za-z0-9_+/-]*", value):
        known = available_timezones()
        if not known or value in known:
            return value
    fix = f"Write a name such as Asia/Seoul, or UTC.{report.suggest(value, available_timezones())}"
    report.add(path, value, "this is not a known time zone", fix)
    return None


time = text(r"(?:[01]\d|2[0-3]):[0-5]\d", 'a time in quotes, such as "08:00"')

KEYS: dict[str, Key] = {
    "start": Key(time, required=True, hint='Add when the environment starts, such as "08:00".'),
    "stop": Key(time, required=True, hint='Add when the environment stops, such as "20:00".'),
    "days": Key(days, list(DAYS[:5])),
    "timezone": Key(timezone, required=True, hint="Add the time zone of these times, such as Asia/Seoul."),
}


def CHECK(report: Report, path: str, value: Any) -> dict[str, Any] | None:  # noqa: N802 - named as every layer's
    """Check the hours; without settings there is no schedule."""
    if value is None or value == {}:
        return {}
    checked = keys(KEYS, 'a mapping such as {start: "08:00", stop: "20:00", timezone: Asia/Seoul}')(report, path, value)
    if checked and checked["start"] and checked["start"] == checked["stop"]:
        report.add(f"{path}.stop", checked["stop"], "start and stop are the same time", "Write another time.")
    return checked


def problems(report: Report, model: Model) -> None:
    """Require that production always runs."""
    stated = (model.environment["aws"] or {}).get("schedule")
    name = str(model.environment["name"])
    if stated and is_production(name):
        report.add(
            "platform_environment.aws.schedule",
            stated.get("stop"),
            f"this would stop {name} every day",
            "Remove it. Schedules are for environments that nobody uses at night.",
        )


def derive(model: Model) -> dict[str, Any]:
    """Return the cron expressions of start and stop, empty without a schedule, and the names of resources."""
    stated = model.environment["aws"]["schedule"]
    return {
        "name": aws_name(model, "schedule"),
        "environment": model.environment["name"],
        "region": model.environment["region"],
        "production": is_production(model.environment["name"]),
        "tags": aws_tags(model),
        "expressions": {action: cron(stated[action], stated["days"]) for action in ("start", "stop") if stated},
        "timezone": stated["timezone"] if stated else "",
    }


def cron(time_of_day: str, on: Sequence[str]) -> str:
    """Return the cron expression. Days are listed, since weeks start on Sunday there, and MON-SUN would be empty."""
    hour, _colon, minute = time_of_day.partition(":")
    return f"cron({int(minute)} {int(hour)} ? * {'*' if len(on) == len(DAYS) else ','.join(on).upper()} *)"


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the C(schedules), and their C(role), which is allowed to start and stop exactly these instances.

    there: the environment's C(instances) and all C(databases) of the region, as ec2_instance_info and rds_instance_info
    return them; C(caller); and the C(roles) that have the role's name. Returns also the C(roles) to create or change
    and the C(refusals) of C(iam.compare).
    """
    partition, account = there["caller"]["arn"].split(":")[1], there["caller"]["account"]
    ids = sorted(item["instance_id"] for item in there["instances"])
    arns = [f"arn:{partition}:ec2:{derived['region']}:{account}:instance/{item}" for item in ids]
    statements = [_allow("ec2:StartInstances", "ec2:StopInstances", resources=arns)] if ids else []
    targets = [("hosts", "ec2", "Instances", {"InstanceIds": ids})] if ids else []
    own = of_environment(there["databases"], derived["environment"])
    own = sorted(own, key=lambda item: item["db_instance_identifier"])
    if own:
        resources = [item["db_instance_arn"] for item in own]
        statements.append(_allow("rds:StartDBInstance", "rds:StopDBInstance", resources=resources))
    for item in own:
        name = item["db_instance_identifier"]
        # Parameters are named as in the AWS SDK for Java, which EventBridge Scheduler requires.
        targets.append((name, "rds", "DBInstance", {"DbInstanceIdentifier": name}))
    role = iam.scheduler_role(derived["name"], "Starts and stops the environment", derived["tags"], account, statements)
    return {
        "role": role,
        **iam.compare([role], there["roles"], RENAME),
        "schedules": [
            {
                "name": f"{action}-{name}",
                "expression": expression,
                "arn": f"{TARGETS}:{api}:{action}{noun}",
                # As text, since Ansible would sort the keys.
                "input": json.dumps(given),
            }
            for action, expression in derived["expressions"].items()
            for name, api, noun, given in targets
        ],
    }


def _allow(*actions: str, resources: Sequence[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
