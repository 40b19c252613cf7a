#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage composite alarms of CloudWatch."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cloudwatch_composite_alarms
short_description: Manage composite alarms of CloudWatch
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Creates, updates and deletes alarms whose state depends on the states of other alarms.
  - For alarms on metrics, use M(amazon.aws.cloudwatch_metric_alarm).
options:
  composite_alarms:
    description:
      - The alarms. List an alarm before those that refer to it.
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
      rule:
        description:
          - When the alarm is raised, such as V(ALARM("a"\) OR ALARM("b"\)).
          - Required if O(composite_alarms[].state=present).
        type: str
      actions_enabled:
        description:
          - Whether the actions of the alarm are enabled.
        type: bool
        default: true
      alarm_actions:
        description:
          - ARNs to notify when the alarm is raised.
        type: list
        elements: str
        default: []
      ok_actions:
        description:
          - ARNs to notify when the alarm returns to OK.
        type: list
        elements: str
        default: []
      insufficient_data_actions:
        description:
          - ARNs to notify when data is insufficient.
        type: list
        elements: str
        default: []
      actions_suppressor:
        description:
          - Name or ARN of an alarm; while it is raised, the actions of this one are suppressed.
        type: str
        default: ''
      actions_suppressor_wait_period:
        description:
          - Seconds to wait for O(composite_alarms[].actions_suppressor) to be raised before acting.
        type: int
        default: 120
      actions_suppressor_extension_period:
        description:
          - Seconds to wait before acting after O(composite_alarms[].actions_suppressor) returned to OK.
        type: int
        default: 120
      tags:
        description:
          - Tags of the alarm. Without this option they are left unchanged.
        type: dict
      purge_tags:
        description:
          - Whether tags that are not in O(composite_alarms[].tags) are removed.
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
- name: Send one notification for any fault of the API, and suppress those of the pages meanwhile
  fivepointers.platform.cloudwatch_composite_alarms:
    composite_alarms:
      - name: production-api
        rule: ALARM("production-api/down") OR ALARM("production-api/errors")
        alarm_actions: ["arn:aws:sns:ap-northeast-2:123456789012:production-alarms"]
        tags: {Environment: production}
      - name: production-sites
        rule: ALARM("production-sites/down")
        alarm_actions: ["arn:aws:sns:ap-northeast-2:123456789012:production-alarms"]
        actions_suppressor: production-api

- name: Delete an alarm
  fivepointers.platform.cloudwatch_composite_alarms:
    composite_alarms:
      - {name: production-sites, state: absent}
"""

RETURN = r"""
composite_alarms:
  description: The alarms after the run, in check mode as they would be; an absent one is empty.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the alarm.
      type: str
      returned: where present
    rule:
      description: When it is raised.
      type: str
      returned: where present
    alarm_actions:
      description: ARNs to notify.
      type: list
      elements: str
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
    "rule": "AlarmRule",
    "actions_enabled": "ActionsEnabled",
    "alarm_actions": "AlarmActions",
    "ok_actions": "OKActions",
    "insufficient_data_actions": "InsufficientDataActions",
}
SUPPRESSOR = {
    "actions_suppressor": "ActionsSuppressor",
    "actions_suppressor_wait_period": "ActionsSuppressorWaitPeriod",
    "actions_suppressor_extension_period": "ActionsSuppressorExtensionPeriod",
}


def current(client: Any, wanted: Thing) -> Thing:
    """Return the alarm."""
    found = client.describe_alarms(AlarmNames=[wanted["name"]], AlarmTypes=["CompositeAlarm"], aws_retry=True)
    if not found["CompositeAlarms"]:
        return {}
    alarm = found["CompositeAlarms"][0]
    fields = {key: alarm.get(field) for key, field in (FIELDS | SUPPRESSOR).items()}
    return {
        "name": wanted["name"],
        **stated(**fields),
        "actions_enabled": alarm["ActionsEnabled"],
        "tags": current_tags(client, alarm["AlarmArn"]),
    }


def plan(before: Thing, wanted: Thing) -> Thing:
    """Return the desired state of the alarm."""
    fields = {**FIELDS, **(SUPPRESSOR if wanted["actions_suppressor"] else {})}
    return {
        "name": wanted["name"],
        **stated(**{key: wanted[key] for key in fields}),
        "actions_enabled": wanted["actions_enabled"],
        "tags": planned_tags(before, wanted),
    }


def apply(client: Any, before: Thing, after: Thing, wanted: Thing) -> list[str]:
    """Apply the desired state of the alarm."""
    if not after:
        client.delete_alarms(AlarmNames=[before["name"]], aws_retry=True)
        return []
    arguments = {field: after[key] for key, field in (FIELDS | SUPPRESSOR).items() if key in after}
    client.put_composite_alarm(AlarmName=after["name"], **arguments, aws_retry=True)
    apply_alarm_tags(client, "CompositeAlarm", before, after)
    return []


COMPOSITE_ALARM = Kind("cloudwatch", "composite_alarm", current, plan, apply)


def main() -> None:
    """Run the module."""
    actions = {"type": "list", "elements": "str", "default": []}
    run(
        COMPOSITE_ALARM,
        {
            "name": {"required": True},
            "description": {"default": ""},
            "rule": {},
            "actions_enabled": {"type": "bool", "default": True},
            "alarm_actions": actions,
            "ok_actions": actions,
            "insufficient_data_actions": actions,
            "actions_suppressor": {"default": ""},
            "actions_suppressor_wait_period": {"type": "int", "default": 120},
            "actions_suppressor_extension_period": {"type": "int", "default": 120},
            "tags": {"type": "dict"},
            "purge_tags": {"type": "bool", "default": True},
            "state": STATE,
        },
        required_if=[("state", "present", ("rule",))],
    )


if __name__ == "__main__":
    main()
