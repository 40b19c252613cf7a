#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage metric filters of CloudWatch log groups, with dimensions."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cloudwatchlogs_metric_filters
short_description: Manage metric filters of log groups, with dimensions
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Creates, updates and deletes metric filters of log groups of Amazon CloudWatch.
  - Unlike M(amazon.aws.cloudwatchlogs_log_group_metric_filter), it supports dimensions and units.
  - CloudWatch has no tags for metric filters.
options:
  metric_filters:
    description:
      - The filters.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the filter.
        type: str
        required: true
      log_group_name:
        description:
          - Name of the log group.
        type: str
        required: true
      pattern:
        description:
          - Which events to measure, as a CloudWatch Logs filter pattern.
          - Required if O(metric_filters[].state=present).
        type: str
      metric_transformation:
        description:
          - The metric to publish.
          - Required if O(metric_filters[].state=present).
        type: dict
        suboptions:
          metric_name:
            description:
              - Name of the metric.
            type: str
            required: true
          metric_namespace:
            description:
              - Namespace of the metric.
            type: str
            required: true
          metric_value:
            description:
              - A number, or the field that contains it, such as V($.seconds).
            type: str
            required: true
          default_value:
            description:
              - Value to publish for a minute without matching events. Cannot be combined with dimensions.
            type: float
          dimensions:
            description:
              - Names of dimensions, and the fields with their values.
            type: dict
            default: {}
          unit:
            description:
              - Unit of the metric, such as V(Seconds).
            type: str
            default: None
      state:
        description:
          - Whether the filter exists.
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
- name: Measure the latency of requests by service
  fivepointers.platform.cloudwatchlogs_metric_filters:
    metric_filters:
      - name: production-latency
        log_group_name: /fivepointers/production/nginx
        pattern: "{ $.status != 101 }"
        metric_transformation:
          metric_name: LatencySeconds
          metric_namespace: FivePointers/production
          metric_value: $.seconds
          dimensions: {Service: $.service}
          unit: Seconds
      - name: production-latency-of-all
        log_group_name: /fivepointers/production/nginx
        state: absent
"""

RETURN = r"""
metric_filters:
  description: The filters after the run, in check mode as they would be; an absent one is empty.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the filter.
      type: str
      returned: where present
    log_group_name:
      description: Name of the log group.
      type: str
      returned: where present
    pattern:
      description: Which events are measured.
      type: str
      returned: where present
    metric_transformation:
      description: The metric that is published.
      type: dict
      returned: where present
"""

from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.cloudwatch_resource import (
    STATE,
    Kind,
    Thing,
    run,
    stated,
)

# Option → name in the CloudWatch API.
FIELDS = {
    "metric_name": "metricName",
    "metric_namespace": "metricNamespace",
    "metric_value": "metricValue",
    "default_value": "defaultValue",
    "dimensions": "dimensions",
    "unit": "unit",
}


def current(client: Any, wanted: Thing) -> Thing:
    """Return the filter."""
    arguments = {"logGroupName": wanted["log_group_name"], "filterNamePrefix": wanted["name"]}
    try:
        pages = client.get_paginator("describe_metric_filters").paginate(**arguments)
        filters = [item for page in pages for item in page["metricFilters"] if item["filterName"] == wanted["name"]]
    except is_boto3_error_code("ResourceNotFoundException"):  # the log group does not exist yet
        return {}
    if not filters:
        return {}
    found = filters[0]
    made = {key: found["metricTransformations"][0].get(field) for key, field in FIELDS.items()}
    return {
        "name": found["filterName"],
        "log_group_name": wanted["log_group_name"],
        "pattern": found.get("filterPattern", ""),
        "metric_transformation": transformation(made),
    }


def plan(before: Thing, wanted: Thing) -> Thing:
    """Return the desired state of the filter."""
    kept = {key: wanted[key] for key in ("name", "log_group_name", "pattern")}
    return {**kept, "metric_transformation": transformation(wanted["metric_transformation"])}


def transformation(made: Thing) -> Thing:
    """Return the values of a metric transformation that are set."""
    return stated(**{**made, "unit": made.get("unit") or "None"})


def apply(client: Any, before: Thing, after: Thing, wanted: Thing) -> list[str]:
    """Apply the desired state of the filter."""
    place = {"filterName": wanted["name"], "logGroupName": wanted["log_group_name"]}
    if not after:
        client.delete_metric_filter(**place, aws_retry=True)
        return []
    made = {FIELDS[key]: value for key, value in after["metric_transformation"].items()}
    client.put_metric_filter(**place, filterPattern=after["pattern"], metricTransformations=[made], aws_retry=True)
    return []


METRIC_FILTER = Kind("logs", "metric_filter", current, plan, apply)


def main() -> None:
    """Run the module."""
    metric = {
        "metric_name": {"required": True},
        "metric_namespace": {"required": True},
        "metric_value": {"required": True},
        "default_value": {"type": "float"},
        "dimensions": {"type": "dict", "default": {}},
        "unit": {"default": "None"},
    }
    run(
        METRIC_FILTER,
        {
            "name": {"required": True},
            "log_group_name": {"required": True},
            "pattern": {},
            "metric_transformation": {"type": "dict", "options": metric},
            "state": STATE,
        },
        required_if=[("state", "present", ("pattern", "metric_transformation"))],
    )


if __name__ == "__main__":
    main()
