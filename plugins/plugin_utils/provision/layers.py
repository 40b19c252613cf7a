# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The layers of AWS resources of an environment: one module of this package for each, combined here.

A layer has C(CHECK), which checks its settings below C(platform_environment.aws); C(derive(model)), which returns the
desired state of its resources; C(changes(derived, there)), which returns what to do about them, given what was looked
up in AWS; and optionally C(problems(report, model)), for problems that involve several values. An environment that
sets C(aws) has all layers, with defaults for what it does not set. Pure functions that do not call AWS.

Modules of layers are imported when the first environment sets C(aws), or when a filter needs one of them: Ansible
compiles imports again in each of its processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Key, Report, any_mapping, keys
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model

# In the order in which they are created.
LAYERS = (
    "network",
    "security_groups",
    "database",
    "artifacts",
    "load_balancer",
    "hosts",
    "dns",
    "database_access",
    "schedule",
    "monitoring",
)
# The hosts have these: what services may do in AWS.
SETTINGS = (*LAYERS, "permissions")


def layer(name: str) -> ModuleType:
    """Return the module of a layer."""
    return import_module(f"{__name__.rpartition('.')[0]}.{name}")


def check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """Check the settings of all layers; a missing one counts as an empty mapping."""
    stated = any_mapping(report, path, value)
    if stated is None:
        return None
    fields = {name: Key(layer(name).CHECK) for name in SETTINGS}
    return keys(fields, "a mapping of layers to their settings")(report, path, {name: {} for name in SETTINGS} | stated)


def complete(model: Model) -> None:
    """Add derived settings: the edge trusts the load balancer, which is in the public subnets."""
    tls, network = model.environment["tls"], (model.environment["aws"] or {}).get("network")
    if tls["mode"] == "load_balancer" and network and network["cidr"] and not network["vpc"]:
        made = [subnet["cidr"] for subnet in layer("network").subnets(model) if subnet["kind"] == "public"]
        tls["trusted"] = list(dict.fromkeys([*(tls["trusted"] or []), *made]))


def problems(report: Report, model: Model) -> None:
    """Check each layer against the whole model. Problems of single values were reported before."""
    aws = model.environment["aws"]
    if aws is None or any(aws[name] is None for name in SETTINGS):
        return
    for module in map(layer, SETTINGS):
        if hasattr(module, "problems"):
            module.problems(report, model)


def provision(model: Model) -> dict[str, Any]:
    """Return the desired state of each layer."""
    return {name: layer(name).derive(model) for name in LAYERS}


def changes(derived: Mapping[str, Any], name: str, there: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to do about the resources of a layer. derived: what C(provision) returned for it."""
    found: dict[str, Any] = layer(name).changes(derived, there)
    return found
