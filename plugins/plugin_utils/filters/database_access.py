# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of db_access.yml. Each is documented in the file of its name in plugins/filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters.models import load_model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import grants


def database_access_request(catalogue: Any, environment: Any, asked: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return the request, validated."""
    model = load_model(catalogue, environment)
    if model.environment["aws"] is None:
        raise AnsibleFilterError(
            "\nplatform_environment.aws is missing, so there is no security group to grant access "
            "in. Add it, even if only `aws: {}`, and run provision.yml: docs/aws.md."
        )
    try:
        return grants.request(model, plain(asked), datetime.fromisoformat(plain(now)))
    except grants.AccessError as error:
        raise AnsibleFilterError(f"\n{error}") from None


def database_access_changes(request: Any, there: Any, now: str) -> dict[str, Any]:
    """Return what a request changes, or the commands for a tunnel."""
    try:
        return grants.changes(plain(request), plain(there), datetime.fromisoformat(plain(now)))
    except grants.AccessError as error:
        raise AnsibleFilterError(f"\n{error}") from None


def database_access_rules(groups: Sequence[Any], now: str) -> list[dict[str, Any]]:
    """Return the rules of the security group, which may not exist yet."""
    return grants.all_rules(plain(groups), datetime.fromisoformat(plain(now)))


def database_access_table(rules: Sequence[Any], schedules: Sequence[Any]) -> str:
    """Return the rules as text."""
    return grants.table(plain(rules), [item["name"] for item in plain(schedules)])
