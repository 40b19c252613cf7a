#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage alarms on metrics of CloudWatch, many at once and with tags."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cloudwatch_metric_alarms
short_description: Manage many alarms on metrics of CloudWatch, with tags
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Creates, updates and deletes alarms on single metrics of Amazon CloudWatch.
  - Unlike M(amazon.aws.cloudwatch_metric_alarm), it sets tags, supports diff mode, and takes a list.
options:
  metric_alarms:
    description:
      - The alarms.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the alarm.
        type: str
        required: true
      description:
        description:
          - What it means when the alarm is raised.
        type: str
        default: ''
      namespace:
        description:
          - Namespace of the metric.
          - Required if O(metric_alarms[].state=present), as are the metric's name, threshold, comparison and period.
        type: str
      metric_name:
        description:
          - Name of the metric.
        type: str
      dimensions:
        description:
          - Dimensions of the metric. CloudWatch requires the exact set.
        type: dict
        default: {}
      statistic:
        description:
          - V(Sum), V(Average), V(Minimum), V(Maximum), V(SampleCount), or a percentile such as V(p99).
        type: str
        default: Average
      comparison:
        description:
          - How the statistic is compared with the threshold.
        type: str
        choices:
          - GreaterThanOrEqualToThreshold
          - GreaterThanThreshold
          - LessThanThreshold
          - LessThanOrEqualToThreshold
      threshold:
        description:
          - Value to compare the statistic with.
        type: float
      period:
        description:
          - Length of a period in seconds.
        type: int
      evaluation_periods:
        description:
          - Number of periods to evaluate.
        type: int
        default: 1
      datapoints_to_alarm:
        description:
          - How many of these must breach the threshold. All by default.
        type: int
      treat_missing_data:
        description:
          - How to treat a period without data.
        type: str
        choices: [missing, breaching, notBreaching, ignore]
        default: missing
      alarm_actions:
        description:
          - ARNs to notify when the alarm is raised.
        type: list
        elements: str
        default: []
      tags:
        description:
          - Tags of the alarm. Without this option they are left unchanged.
        type: dict
      purge_tags:
        description:
          - Whether tags that are not in O(metric_alarms[].tags) are removed.
        type: bool
        default: true
      state:
        description:
          - Whether the alarm exists.
        type: str
        choices: [present, absent]
        default: present
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fivepointers.platform.attributes.resource
"""

EXAMPLES = r"""
- name: Raise an alarm if one of a hundred requests takes two seconds, and delete another alarm
  fivepointers.platform.cloudwatch_metric_alarms:
    metric_alarms:
      - name: production-api/latency
        namespace: FivePointers/production
        metric_name: LatencySeconds
        dimensions: {Service: api}
        statistic: p99
        comparison: GreaterThanOrEqualToThreshold
        threshold: 2
        period: 300
        evaluation_periods: 3
        tags: {Environment: production}
      - name: production-api/slow
        state: absent
"""

RETURN = r"""
metric_alarms:
  description: The alarms after the run, in check mode as they would be; an absent one is empty.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the alarm.
      type: str
      returned: where present
    threshold:
      description: Value that the statistic is compared with.
      type: float
      returned: where present
    tags:
      description: Its tags.
      type: dict
      returned: where present
"""

from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.aws.cloudwatch_resource import (
    STATE,
    Kind,
    Thing,
    apply_alarm_tags,
    current_tags,
    planned_tags,
    run,
    stated,
)

# Option → name in the CloudWatch API.
FIELDS = {
    "description": "AlarmDescription",
    "namespace": "Namespace",
    "metric_name": "MetricName",
    "comparison": "ComparisonOperator",
    "threshold": "Threshold",
    "period": "Period",
    "evaluation_periods": "EvaluationPeriods",
    "datapoints_to_alarm": "DatapointsToAlarm",
    "treat_missing_data": "TreatMissingData",
    "alarm_actions": "AlarmActions",
}
COMPARISONS = [
    "GreaterThanOrEqualToThreshold",
    "GreaterThanThreshold",
    "LessThanThreshold",
    "LessThanOrEqualToThreshold",
]
NEEDED = ("namespace", "metric_name", "comparison", "threshold", "period")


def current(client: Any, wanted: Thing) -> Thing:
    """Return the alarm."""
    found = client.describe_alarms(AlarmNames=[wanted["name"]], AlarmTypes=["MetricAlarm"], aws_retry=True)
    if not found["MetricAlarms"]:
        return {}
    alarm = found["MetricAlarms"][0]
    fields = {key: alarm.get(field) for key, field in FIELDS.items()}
    return {
        "name": wanted["name"],
        **stated(**fields),
        "dimensions": {item["Name"]: item["Value"] for item in alarm.get("Dimensions", [])},
        "statistic": alarm.get("ExtendedStatistic") or alarm.get("Statistic"),
        "tags": current_tags(client, alarm["AlarmArn"]),
    }


def plan(before: Thing, wanted: Thing) -> Thing:
    """Return the desired state of the alarm."""
    datapoints = wanted["datapoints_to_alarm"] or wanted["evaluation_periods"]
    return {
        "name": wanted["name"],
        **stated(**{key: wanted[key] for key in FIELDS} | {"datapoints_to_alarm": datapoints}),
        "dimensions": dict(wanted["dimensions"]),
        "statistic": wanted["statistic"],
        "tags": planned_tags(before, wanted),
    }


def apply(client: Any, before: Thing, after: Thing, wanted: Thing) -> list[str]:
    """Apply the desired state of the alarm."""
    if not after:
        client.delete_alarms(AlarmNames=[before["name"]], aws_retry=True)
        return []
    arguments = {field: after[key] for key, field in FIELDS.items() if key in after}
    arguments["ExtendedStatistic" if after["statistic"].startswith("p") else "Statistic"] = after["statistic"]
    arguments["Dimensions"] = [{"Name": key, "Value": value} for key, value in after["dimensions"].items()]
    client.put_metric_alarm(AlarmName=after["name"], **arguments, aws_retry=True)
    apply_alarm_tags(client, "MetricAlarm", before, after)
    return []


METRIC_ALARM = Kind("cloudwatch", "metric_alarm", current, plan, apply)


def main() -> None:
    """Run the module."""
    run(
        METRIC_ALARM,
        {
            "name": {"required": True},
            "description": {"default": ""},
            "namespace": {},
            "metric_name": {},
            "dimensions": {"type": "dict", "default": {}},
            "statistic": {"default": "Average"},
            "comparison": {"choices": COMPARISONS},
            "threshold": {"type": "float"},
            "period": {"type": "int"},
            "evaluation_periods": {"type": "int", "default": 1},
            "datapoints_to_alarm": {"type": "int"},
            "treat_missing_data": {"choices": ["missing", "breaching", "notBreaching", "ignore"], "default": "missing"},
            "alarm_actions": {"type": "list", "elements": "str", "default": []},
            "tags": {"type": "dict"},
            "purge_tags": {"type": "bool", "default": True},
            "state": STATE,
        },
        required_if=[("state", "present", NEEDED)],
    )


if __name__ == "__main__":
    main()
