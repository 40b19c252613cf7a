#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage CloudWatch dashboards."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cloudwatch_dashboard
short_description: Manage CloudWatch dashboards
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Creates, updates and deletes a dashboard of Amazon CloudWatch.
  - Can mark a point in time, such as a deployment, on all graphs, and keeps the marks when the dashboard is updated.
  - CloudWatch has no tags for dashboards.
options:
  name:
    description:
      - Name of the dashboard.
    type: str
    required: true
  body:
    description:
      - The dashboard, in the format that CloudWatch documents as dashboard body structure.
      - Required to create a dashboard. Without it, O(marker) is added to an existing one.
    type: dict
  marker:
    description:
      - A point in time to mark with a vertical line on every time series graph.
    type: dict
    suboptions:
      label:
        description:
          - What happened.
        type: str
        required: true
      time:
        description:
          - When, in ISO 8601, such as V(2026-11-26T18:07:34Z).
        type: str
        required: true
  markers_kept:
    description:
      - How many of the latest marks to keep. V(0) removes all.
    type: int
    default: 20
  state:
    description:
      - Whether the dashboard exists.
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
- name: Create a dashboard with one graph
  fivepointers.platform.cloudwatch_dashboard:
    name: production-platform
    body:
      widgets:
        - type: metric
          x: 0
          y: 0
          width: 12
          height: 6
          properties:
            region: ap-northeast-2
            view: timeSeries
            metrics: [[AWS/RDS, DatabaseConnections, DBInstanceIdentifier, production-database]]

- name: Mark a deployment on it
  fivepointers.platform.cloudwatch_dashboard:
    name: production-platform
    marker: {label: "api 4f2a", time: "2026-11-26T18:07:34Z"}

- name: Delete it
  fivepointers.platform.cloudwatch_dashboard:
    name: production-platform
    state: absent
"""

RETURN = r"""
dashboard:
  description: The dashboard after the run, in check mode as it would be; empty if it is absent.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the dashboard.
      type: str
      returned: where present
    body:
      description: Its body.
      type: dict
      returned: where present
"""

import copy
import json
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.cloudwatch_resource import (
    STATE,
    Kind,
    Thing,
    bring_about,
)

Mark = tuple[str, str]


def current(client: Any, wanted: Thing) -> Thing:
    """Return the dashboard."""
    try:
        found = client.get_dashboard(DashboardName=wanted["name"], aws_retry=True)
    except is_boto3_error_code(["ResourceNotFound", "DashboardNotFoundError"]):
        return {}
    return {"name": wanted["name"], "body": json.loads(found["DashboardBody"])}


def plan(before: Thing, wanted: Thing) -> Thing:
    """Return the desired state of the dashboard."""
    if not (before or wanted["body"]):
        return {}
    earlier = before.get("body", {})
    marks = markers(earlier)
    if wanted["marker"]:
        marks.add((wanted["marker"]["time"], wanted["marker"]["label"]))
    kept = sorted(marks)[len(marks) - min(len(marks), wanted["markers_kept"]) :]
    return {"name": wanted["name"], "body": marked(wanted["body"] or earlier, kept)}


def markers(body: Thing) -> set[Mark]:
    """Return the marks of all graphs."""
    return {
        (line["value"], line.get("label", ""))
        for widget in body.get("widgets", [])
        for line in widget.get("properties", {}).get("annotations", {}).get("vertical", [])
        if isinstance(line, dict) and "value" in line
    }


def marked(body: Thing, marks: list[Mark]) -> Thing:
    """Return the body with exactly these marks on all time series graphs."""
    result = copy.deepcopy(body)
    for widget in result.get("widgets", []):
        properties = widget.get("properties", {})
        if widget.get("type") != "metric" or properties.get("view", "timeSeries") != "timeSeries":
            continue
        annotations = properties.setdefault("annotations", {})
        annotations["vertical"] = [{"label": label, "value": time} for time, label in marks]
        for key in [key for key in annotations if not annotations[key]]:
            del annotations[key]
        if not annotations:
            del properties["annotations"]
    return result


def apply(client: Any, before: Thing, after: Thing, wanted: Thing) -> list[str]:
    """Apply the desired state of the dashboard; return CloudWatch's validation messages."""
    if not after:
        client.delete_dashboards(DashboardNames=[before["name"]], aws_retry=True)
        return []
    answer = client.put_dashboard(DashboardName=after["name"], DashboardBody=json.dumps(after["body"]), aws_retry=True)
    return [f"{item.get('DataPath')}: {item.get('Message')}" for item in answer.get("DashboardValidationMessages", [])]


DASHBOARD = Kind("cloudwatch", "dashboard", current, plan, apply)


def main() -> None:
    """Run the module."""
    marker = {"label": {"required": True}, "time": {"required": True}}
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "body": {"type": "dict"},
            "marker": {"type": "dict", "options": marker},
            "markers_kept": {"type": "int", "default": 20},
            "state": STATE,
        },
        required_if=[("state", "present", ("body", "marker"), True)],
        supports_check_mode=True,
    )
    (before,), (after,) = bring_about(module, DASHBOARD, [module.params])
    module.exit_json(changed=before != after, dashboard=after, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
