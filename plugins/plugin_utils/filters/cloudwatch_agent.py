# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of the role cloudwatch_agent. Each is documented in the file of its name in plugins/filter."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError


def cloudwatch_agent_configuration(services: list[str], **arguments: t.Any) -> dict[str, t.Any]:
    """Return the configuration; raise AnsibleFilterError with every mistake."""
    from ansible_collections.fivepointers.platform.plugins.module_utils.aws.agent import (
        ConfigurationError,
        configuration,
    )

    try:
        return configuration(services, **arguments)
    except ConfigurationError as error:
        raise AnsibleFilterError(f"The CloudWatch agent's configuration is not valid:\n{error}") from error
    except TypeError as error:
        raise AnsibleFilterError(f"cloudwatch_agent_configuration: {error}") from error


def cloudwatch_agent_cost(hosts: list[dict[str, t.Any]]) -> str:
    """Return the monthly cost of the metrics of hosts, as text."""
    from ansible_collections.fivepointers.platform.plugins.module_utils.aws.agent import monthly_cost

    return str(monthly_cost(hosts)["text"])
