# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filter that makes the CloudWatch agent's configuration for a host."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.agent import (
    ConfigurationError,
    configuration,
    monthly_cost,
)

DOCUMENTATION = r"""
---
name: cloudwatch_agent_configuration
short_description: Derive the CloudWatch agent's configuration for a host
version_added: '0.1.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Says which units' and files' logs go to which log group, and which few metrics are measured.
  - Refuses names that the agent would ignore in silence, with the name that was probably meant.
positional: _input
options:
  _input:
    description: Names of the services on the host. V(nginx) stands for the front and the edge.
    type: list
    elements: str
    required: true
  log_groups:
    description: Service name to log group. A service without one is not collected.
    type: dict
    required: true
  region:
    description: The AWS region.
    type: str
    required: true
  log_stream:
    description: Name of the stream within each log group.
    type: str
    required: true
  retention_days:
    description: Days for which the log groups keep events.
    type: int
    required: true
  namespace:
    description: Namespace of the metrics.
    type: str
    required: true
  metrics:
    description: The agent's section C(metrics_collected). Empty for no metrics.
    type: dict
    required: true
  processes:
    description: Service name to the regular expression that matches the command lines of its processes.
    type: dict
    default: {}
  files:
    description:
      - Files whose lines are collected, each a mapping with C(path), C(log_group), and C(timestamp_format) where the
        lines have a time.
    type: list
    elements: dict
    default: []
  statsd:
    description: Address and port at which services may send metrics, such as V(127.0.0.1:8125). Empty for none.
    type: str
    default: ''
  interval:
    description: Seconds between two measurements.
    type: int
    default: 60
  user:
    description: User that the agent runs as.
    type: str
    default: cwagent
  endpoint_url:
    description: Address of the CloudWatch APIs, where it is not AWS's own.
    type: str
    default: ''
  additional:
    description: Merged over the result. Lists are appended.
    type: dict
    default: {}
"""

EXAMPLES = r"""
# {'agent': {…}, 'logs': {'logs_collected': {'journald': {'collect_list': [{'units': ['fivepointers-api@blue.service', …
configuration: >-
  {{ ['api'] | fivepointers.platform.cloudwatch_agent_configuration(
       log_groups={'api': '/fivepointers/production/api'}, region='ap-northeast-2', log_stream=inventory_hostname,
       retention_days=30, namespace='FivePointers/production', metrics={'mem': {'measurement': ['used_percent']}}) }}
"""

RETURN = r"""
_value:
  description: The configuration, in the agent's own shape.
  type: dict
"""


def cloudwatch_agent_configuration(services: list[str], **arguments: t.Any) -> dict[str, t.Any]:
    """See DOCUMENTATION. Raises AnsibleFilterError with every mistake."""
    try:
        return configuration(services, **arguments)
    except ConfigurationError as error:
        raise AnsibleFilterError(f"The CloudWatch agent's configuration is wrong:\n{error}") from error
    except TypeError as error:
        raise AnsibleFilterError(f"cloudwatch_agent_configuration: {error}") from error


def cloudwatch_agent_cost(hosts: list[dict[str, t.Any]]) -> str:
    """See cloudwatch_agent_cost.yml."""
    return str(monthly_cost(hosts)["text"])


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name to function."""
        return {
            "cloudwatch_agent_configuration": cloudwatch_agent_configuration,
            "cloudwatch_agent_cost": cloudwatch_agent_cost,
        }
