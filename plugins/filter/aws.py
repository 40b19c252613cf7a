# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of provision.yml that compare what shall be with what AWS has: thin wrappers around pure functions.

What each does stands in the .yml file of its name beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import dns as aws_dns
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import hosts as aws_hosts
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import monitoring as aws_monitoring
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import network as aws_network
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    security_groups as aws_security_groups,
)


def _found(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a filter of a comparison; what does not fit ends the run with its text."""

    def compared(derived: Any, *there: Any, **options: Any) -> Any:
        try:
            return function(plain(derived), *map(plain, there), **{key: plain(item) for key, item in options.items()})
        except aws_network.FoundError as error:
            raise AnsibleFilterError(f"\n{error}") from None

    return compared


def changed_items(results: Any) -> list[str]:
    """Return what tasks changed, in words. results: {what: the task's result}."""
    changed = []
    for what, result in results.items():
        items = [entry for entry in result.get("results", [result]) if entry.get("changed")]
        names = [str(plain(_name(entry))) for entry in items if _name(entry)]
        if items:
            changed.append(f"{what} {', '.join(names)}".strip())
    return changed


def provision_summary(changed: Any, layers: Any, notices: Any, check_mode: bool) -> str:
    """Return what was done as text: the layers that ran, and what is left for a person to decide."""
    verb = "would change" if check_mode else "changed"
    lines = [
        f"{layer}: {f'{verb} ' + '; '.join(changed[layer]) if changed[layer] else 'as it shall be'}"
        for layer in layers
        if layer in changed
    ]
    return "\n".join(str(plain(line)) for line in [*lines, *(f"Note: {notice}." for notice in notices)])


def _name(entry: Any) -> Any:
    item = entry.get("item", "")
    while isinstance(item, dict) and isinstance(item.get("item"), dict):  # a loop over the results of another
        item = item["item"]
    return item.get("name", "") if isinstance(item, dict) else item


class FilterModule:
    """The filters that compare with AWS."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "found_network": _found(aws_network.found_network),
            "found_nats": _found(aws_network.found_nats),
            "found_tables": _found(aws_network.found_tables),
            "found_endpoints": _found(aws_network.found_endpoints),
            "found_groups": _found(aws_security_groups.found_groups),
            "group_ids": _found(aws_security_groups.group_ids),
            "foreign": lambda found, wanted: aws_network.foreign(plain(found), plain(wanted)),
            "found_hosts": _found(aws_hosts.found_hosts),
            "found_roles": _found(aws_hosts.found_roles),
            "found_templates": _found(aws_hosts.found_templates),
            "found_log_groups": _found(aws_monitoring.found_log_groups),
            "found_records": _found(aws_dns.found_records),
            "changed_items": changed_items,
            "provision_summary": provision_summary,
        }
