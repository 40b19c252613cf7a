# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of db_access.yml: thin wrappers around pure functions of module_utils."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as schema
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import grants as access


def _model(catalogue: Any, environment: Any) -> Model:
    try:
        model = schema.load(catalogue, environment)
    except schema.CatalogueError as error:
        raise AnsibleFilterError(f"\n{error}") from None
    if model.environment["aws"] is None:
        raise AnsibleFilterError(
            "\nplatform_environment.aws is missing, so there is no group on which access could be granted. Add it, if "
            "only as `aws: {}`, and run provision.yml: docs/aws.md."
        )
    return model


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an error of a refusal."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except access.AccessError as error:
            raise AnsibleFilterError(f"\n{error}") from None

    return wrapped


def database_access_request(catalogue: Any, environment: Any, asked: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return what is asked for, checked."""
    return access.request(_model(catalogue, environment), plain(asked), datetime.fromisoformat(plain(now)))


def database_access_rules(groups: Sequence[Any], now: str) -> list[dict[str, Any]]:
    """Return the rules of the group, of which there may be none yet."""
    when = datetime.fromisoformat(plain(now))
    return [{**rule, "group_id": group["group_id"]} for group in plain(groups) for rule in access.rules(group, when)]


def database_access_grant(asked: Any, group: Any, databases: Sequence[Any], now: str) -> dict[str, Any]:
    """Return the rule and the schedule of a grant."""
    return access.grant(plain(asked), plain(group), plain(databases), datetime.fromisoformat(plain(now)))


def database_access_revoked(rules: Sequence[Any], asked: Any) -> list[dict[str, Any]]:
    """Return the rules that are asked to be revoked."""
    return access.revoked(plain(asked), plain(rules))


def database_access_table(rules: Sequence[Any], schedules: Sequence[Any]) -> str:
    """Return the rules as text."""
    return access.table(plain(rules), [item["name"] for item in plain(schedules)])


def database_access_tunnel(catalogue: Any, environment: Any, asked: Any, instances: Sequence[Any]) -> str:
    """Return the commands of a tunnel."""
    return access.tunnel(_model(catalogue, environment), plain(asked)["database"], plain(instances))


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "database_access_request": _refusing(database_access_request),
            "database_access_rules": database_access_rules,
            "database_access_grant": _refusing(database_access_grant),
            "database_access_revoked": _refusing(database_access_revoked),
            "database_access_table": database_access_table,
            "database_access_tunnel": _refusing(database_access_tunnel),
        }
