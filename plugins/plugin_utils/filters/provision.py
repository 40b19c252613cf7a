# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of AWS resources. Each is documented in the file of its name in plugins/filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def provision(catalogue: Any, environment: Any) -> dict[str, Any]:
    """Return the desired state of each layer; hosts may not exist yet, so they are not read."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters.models import load_model
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import layers

    model = load_model(catalogue, environment)
    if model.environment["aws"] is None:
        raise AnsibleFilterError(
            "\nplatform_environment.aws is missing, so there is nothing to provision. Add it, even if only `aws: {}`: "
            "docs/aws.md lists the settings."
        )
    return layers.provision(model)


def provision_changes(provision: Mapping[str, Any], layer: str, there: Any) -> dict[str, Any]:
    """Return what to do about the resources of a layer, given the existing ones."""
    from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import layers
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import FoundError

    if layer not in layers.LAYERS:
        raise AnsibleFilterError(f"provision_changes: unknown layer '{layer}'. Use one of: {', '.join(layers.LAYERS)}")
    try:
        return layers.changes(plain(provision[layer]), str(plain(layer)), plain(there))
    except FoundError as error:
        raise AnsibleFilterError(f"\n{error}") from None


def environment_resources(found: Sequence[Any], environment: str) -> list[Mapping[str, Any]]:
    """Return the resources whose tags name this environment."""
    from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import of_environment

    return of_environment(plain(found), str(plain(environment)))


def changed_items(results: Any) -> list[str]:
    """Return what tasks changed, as text. results: {what: the task's result}."""
    changed = []
    for what, result in results.items():
        items = [entry for entry in result.get("results", [result]) if entry.get("changed")]
        names = [name for entry in items if (name := _name(entry))]
        if items:
            changed.append(f"{what} {', '.join(names)}".strip())
    return changed


def _name(entry: Any) -> str:
    """Return the name of a result's item; empty if there is none."""
    item = entry.get("item", "")
    while isinstance(item, Mapping) and isinstance(item.get("item"), Mapping):  # a loop over the results of another
        item = item["item"]
    return f"{item.get('name', '') if isinstance(item, Mapping) else item}"


def provision_summary(changed: Any, layers: Any, notices: Any, check_mode: bool) -> str:
    """Return a summary as text: the layers that ran, and what an operator must decide."""
    verb = "would change" if check_mode else "changed"
    lines = [
        f"{layer}: {f'{verb} ' + '; '.join(changed[layer]) if changed[layer] else 'unchanged'}"
        for layer in layers
        if layer in changed
    ]
    return "\n".join([*lines, *(f"Note: {notice}." for notice in notices)])
