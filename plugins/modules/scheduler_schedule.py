#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage schedules of Amazon EventBridge Scheduler."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: scheduler_schedule
short_description: Manage schedules of Amazon EventBridge Scheduler
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Creates, updates and deletes one-time and recurring schedules.
  - Options that are not given have their defaults; on an update, EventBridge Scheduler keeps no previous values.
  - Schedules have no tags. Their groups do, see M(fivepointers.platform.scheduler_schedule_group).
options:
  name:
    description:
      - Name of the schedule, unique in its group.
    type: str
    required: true
  group_name:
    description:
      - Group of the schedule, which must exist.
    type: str
    default: default
  state:
    description:
      - Whether the schedule exists.
    type: str
    choices: [present, absent]
    default: present
  description:
    description:
      - What the schedule is for.
    type: str
    default: ''
  schedule_expression:
    description:
      - When the target is invoked, such as V(at(2030-01-31T12:00:00\)), V(rate(5 minutes\)) or
        V(cron(0 8 ? * MON-FRI *\)).
      - Required if O(state=present).
    type: str
  schedule_expression_timezone:
    description:
      - Time zone of O(schedule_expression), by its name in the IANA database.
    type: str
    default: UTC
  flexible_time_window:
    description:
      - Minutes within which the target may be invoked after the scheduled time. V(0) turns the window off.
    type: int
    default: 0
  action_after_completion:
    description:
      - Whether the schedule is deleted after its last invocation.
    type: str
    choices: [NONE, DELETE]
    default: NONE
  enabled:
    description:
      - Whether the target is invoked.
    type: bool
    default: true
  target:
    description:
      - What is invoked. Required if O(state=present).
    type: dict
    suboptions:
      arn:
        description:
          - ARN of the target. V(arn:aws:scheduler:::aws-sdk:ec2:stopInstances) calls that action of the API.
        type: str
        required: true
      role_arn:
        description:
          - ARN of the role that invokes the target.
        type: str
        required: true
      input:
        description:
          - Input of the target. For API actions, their parameters, named as in the AWS SDK for Java, for example
            C(DbInstanceIdentifier).
        type: json
      dead_letter_arn:
        description:
          - ARN of a queue for events that could not be delivered.
        type: str
      maximum_event_age:
        description:
          - Seconds for which a failed invocation is retried.
        type: int
        default: 86400
      maximum_retry_attempts:
        description:
          - How often a failed invocation is retried.
        type: int
        default: 185
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fivepointers.platform.attributes.resource
"""

EXAMPLES = r"""
- name: Stop a development host in the evening
  fivepointers.platform.scheduler_schedule:
    name: stop-development
    schedule_expression: cron(0 20 ? * MON-FRI *)
    schedule_expression_timezone: Asia/Seoul
    target:
      arn: arn:aws:scheduler:::aws-sdk:ec2:stopInstances
      role_arn: arn:aws:iam::123456789012:role/development-schedule
      input: {InstanceIds: [i-0123456789abcdef0]}

- name: Do it once, and delete the schedule afterwards
  fivepointers.platform.scheduler_schedule:
    name: stop-tonight
    schedule_expression: at(2030-01-31T20:00:00)
    action_after_completion: DELETE
    target:
      arn: arn:aws:scheduler:::aws-sdk:ec2:stopInstances
      role_arn: arn:aws:iam::123456789012:role/development-schedule
      input: {InstanceIds: [i-0123456789abcdef0]}

- name: Delete a schedule
  fivepointers.platform.scheduler_schedule:
    name: stop-development
    state: absent
"""

RETURN = r"""
schedule:
  description: The schedule after the run, in check mode as it would be; empty if it is absent.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the schedule.
      type: str
      returned: where present
    schedule_expression:
      description: When the target is invoked.
      type: str
      returned: where present
    target:
      description: What is invoked.
      type: dict
      returned: where present
"""

import contextlib
import json
from typing import Any

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it
    import botocore

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry

KEYS = (
    "Name", "GroupName", "Description", "ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow",
    "ActionAfterCompletion", "State", "Target",
)  # fmt: skip


def wanted(params: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of CreateSchedule and UpdateSchedule for this schedule."""
    target = params["target"]
    window = params["flexible_time_window"]
    return {
        "Name": params["name"],
        "GroupName": params["group_name"],
        "Description": params["description"],
        "ScheduleExpression": params["schedule_expression"],
        "ScheduleExpressionTimezone": params["schedule_expression_timezone"],
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": window} if window else {"Mode": "OFF"},
        "ActionAfterCompletion": params["action_after_completion"],
        "State": "ENABLED" if params["enabled"] else "DISABLED",
        "Target": {
            "Arn": target["arn"],
            "RoleArn": target["role_arn"],
            **({"Input": target["input"]} if target["input"] is not None else {}),
            **({"DeadLetterConfig": {"Arn": target["dead_letter_arn"]}} if target["dead_letter_arn"] else {}),
            "RetryPolicy": {
                "MaximumEventAgeInSeconds": target["maximum_event_age"],
                "MaximumRetryAttempts": target["maximum_retry_attempts"],
            },
        },
    }


def comparable(schedule: dict[str, Any]) -> dict[str, Any]:
    """Return the configurable part of a schedule, with its input parsed, so that spaces make no difference."""
    found = {"Description": "", **{key: schedule[key] for key in KEYS if key in schedule}}
    if "Input" in found.get("Target", {}):
        found["Target"] = {**found["Target"], "Input": _read(found["Target"]["Input"])}
    return found


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def current(client: Any, name: str, group: str) -> dict[str, Any]:
    """Return the schedule; empty if it or its group does not exist."""
    try:
        return client.get_schedule(Name=name, GroupName=group, aws_retry=True)
    except is_boto3_error_code("ResourceNotFoundException"):
        return {}


def apply(client: Any, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Apply the desired state of the schedule."""
    if not after:
        client.delete_schedule(Name=before["Name"], GroupName=before["GroupName"], aws_retry=True)
    elif before:
        client.update_schedule(**after, aws_retry=True)
    else:
        client.create_schedule(**after, aws_retry=True)


def main() -> None:
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "group_name": {"default": "default"},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "description": {"default": ""},
            "schedule_expression": {},
            "schedule_expression_timezone": {"default": "UTC"},
            "flexible_time_window": {"type": "int", "default": 0},
            "action_after_completion": {"choices": ["NONE", "DELETE"], "default": "NONE"},
            "enabled": {"type": "bool", "default": True},
            "target": {
                "type": "dict",
                "options": {
                    "arn": {"required": True},
                    "role_arn": {"required": True},
                    "input": {"type": "json"},
                    "dead_letter_arn": {},
                    "maximum_event_age": {"type": "int", "default": 86400},
                    "maximum_retry_attempts": {"type": "int", "default": 185},
                },
            },
        },
        required_if=[("state", "present", ("schedule_expression", "target"))],
        supports_check_mode=True,
    )
    name, group = module.params["name"], module.params["group_name"]
    try:
        client = module.client("scheduler", retry_decorator=AWSRetry.jittered_backoff())
        before = current(client, name, group)
        after = wanted(module.params) if module.params["state"] == "present" else {}
        shown = [comparable(item) if item else {} for item in (before, after)]
        changed = shown[0] != shown[1]
        if changed and not module.check_mode:
            apply(client, before, after)
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        verb = "delete" if module.params["state"] == "absent" else "create or update"
        module.fail_json_aws(error, msg=f"Cannot {verb} the schedule {group}/{name}")
    module.exit_json(
        changed=changed,
        schedule=camel_dict_to_snake_dict(shown[1], ignore_list=["Input"]),
        diff={"before": shown[0], "after": shown[1]},
    )


if __name__ == "__main__":
    main()
