# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What an environment needs of AWS, derived from the catalogue: one module for each layer, put together here.

A layer is a module with C(CHECK), which checks its settings below C(platform_environment.aws), and C(derive(model)),
which returns what its tasks make. An environment that states C(aws) has all layers, with defaults for what it does
not state. Pure functions: nothing asks AWS.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils import aws_database_access, aws_schedule
from ansible_collections.fivepointers.platform.plugins.module_utils.planning import Model
from ansible_collections.fivepointers.platform.plugins.module_utils.schema import Key, Report, any_mapping, keys

# Layer -> its module, in the order in which they are made.
LAYERS: dict[str, ModuleType] = {
    "database_access": aws_database_access,
    "schedule": aws_schedule,
}

FIELDS: dict[str, Key] = {layer: Key(module.CHECK) for layer, module in LAYERS.items()}


def check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """The settings of all layers; each that is not stated is as if it were an empty mapping."""
    stated = any_mapping(report, path, value)
    if stated is None:
        return None
    return keys(FIELDS, "a mapping of layers to their settings")(report, path, {key: {} for key in LAYERS} | stated)


def provision(model: Model) -> dict[str, Any]:
    """Return what each layer makes."""
    return {layer: module.derive(model) for layer, module in LAYERS.items()}
