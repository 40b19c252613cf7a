# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""All filters of the collection: a table of where each one is. The .yml files beside this one document them.

To find one filter, Ansible loads all files of this folder, anew in nearly every process that it starts for a task and a
host, and compiles what they import. So this file imports nothing: a filter is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

PACKAGE = "ansible_collections.fivepointers.platform.plugins.plugin_utils.filters"

# Module of plugin_utils/filters -> its filters.
FILTERS = {
    "planning": ("build_specs", "log_groups", "plan", "platform_hosts", "topology"),
    "selection": ("artifact_choice", "release_waves", "secret_references", "select_services", "services_on"),
    "releases": ("artifact_id", "artifact_store", "releases_table", "retirement", "rollback_targets", "undescribed"),
    "edge": ("csp_reports", "edge_configuration", "error_page"),
    "cloudwatch_agent": ("cloudwatch_agent_configuration", "cloudwatch_agent_cost"),
    "provision": ("changed_items", "environment_resources", "provision", "provision_changes", "provision_summary"),
    "database_access": (
        "database_access_changes",
        "database_access_request",
        "database_access_rules",
        "database_access_table",
    ),
}


def deferred(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports the filter when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(f"{PACKAGE}.{module}"), name)(*args, **kwargs)

    return call


class FilterModule:
    """Ansible finds the filters here."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {name: deferred(module, name) for module, names in FILTERS.items() for name in names}
