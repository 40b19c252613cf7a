# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What an environment needs of AWS, derived from the catalogue: one module for each layer, put together here.

A layer is a module with C(CHECK), which checks its settings below C(platform_environment.aws), and C(derive(model)),
which returns what its tasks make; it may have C(problems(report, model)) for what no single value shows. An
environment that states C(aws) has all layers, with defaults for what it does not state. Pure functions: nothing asks
AWS.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Key, Report, any_mapping, keys
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import artifacts as aws_artifacts
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import database as aws_database
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    database_access as aws_database_access,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import dns as aws_dns
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import hosts as aws_hosts
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import load_balancer as aws_load_balancer
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import monitoring as aws_monitoring
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import network as aws_network
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import schedule as aws_schedule
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    security_groups as aws_security_groups,
)

# Layer -> its module, in the order in which they are made.
LAYERS: dict[str, ModuleType] = {
    "network": aws_network,
    "security_groups": aws_security_groups,
    "database": aws_database,
    "artifacts": aws_artifacts,
    "load_balancer": aws_load_balancer,
    "hosts": aws_hosts,
    "dns": aws_dns,
    "database_access": aws_database_access,
    "schedule": aws_schedule,
    "monitoring": aws_monitoring,
}

FIELDS: dict[str, Key] = {layer: Key(module.CHECK) for layer, module in LAYERS.items()}


def check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """The settings of all layers; each that is not stated is as if it were an empty mapping."""
    stated = any_mapping(report, path, value)
    if stated is None:
        return None
    return keys(FIELDS, "a mapping of layers to their settings")(report, path, {key: {} for key in LAYERS} | stated)


def complete(model: Model) -> None:
    """Put in what follows from the settings: the edge trusts the load balancer, which is in the public subnets."""
    tls, network = model.environment["tls"], (model.environment["aws"] or {}).get("network")
    if tls["mode"] == "load_balancer" and network and network["cidr"] and not network["vpc"]:
        made = [subnet["cidr"] for subnet in aws_network.subnets(model) if subnet["kind"] == "public"]
        tls["trusted"] = list(dict.fromkeys([*(tls["trusted"] or []), *made]))


def problems(report: Report, model: Model) -> None:
    """Check each layer against the whole model. What is broken in itself was reported already."""
    aws = model.environment["aws"]
    if aws is None or any(aws[layer] is None for layer in LAYERS):
        return
    for module in LAYERS.values():
        if hasattr(module, "problems"):
            module.problems(report, model)


def provision(model: Model) -> dict[str, Any]:
    """Return what each layer makes."""
    return {layer: module.derive(model) for layer, module in LAYERS.items()}
