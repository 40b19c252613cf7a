# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The entry point: read catalogue, environment and hosts, fill in what depends on several parts, check the result."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Problem, Report
from ansible_collections.fivepointers.platform.plugins.plugin_utils import checks
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.read import read as read_model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.plan import allowed_origins
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets import ec2
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import layers
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify import derive


class CatalogueError(Exception):
    """Raised with every problem of a catalogue and its environment."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(describe(problems))
        self.problems = problems


def describe(problems: list[Problem]) -> str:
    """Return the problems as text for an operator, one paragraph each."""
    heading = f"The configuration is invalid: {len(problems)} problem{'' if len(problems) == 1 else 's'}."
    return "\n\n".join(
        [heading] + [f"{item.path}: {item.value}\n  Problem: {item.problem}.\n  Fix: {item.fix}" for item in problems]
    )


def read(catalogue: Any, environment: Any, hosts: Any = None) -> tuple[Model, list[Problem]]:
    """Read everything into a model; return it with all problems.

    hosts: {inventory name: {address, services}}, or None without an inventory, which skips every check that
    depends on hosts. Only a model without problems may be planned.
    """
    report = Report()
    model = read_model(report, catalogue, environment, hosts, layers.check)
    _complete(model)
    checks.run(report, model)
    layers.problems(report, model)
    return model, report.problems


def load(catalogue: Any, environment: Any, hosts: Any = None) -> Model:
    """Read everything into a model, or raise CatalogueError with all problems."""
    model, problems = read(catalogue, environment, hosts)
    if problems:
        raise CatalogueError(problems)
    return model


def plan(model: Model) -> dict[str, Any]:
    """Return the whole plan of a model without problems, including the checks of its verification.

    Raises verify.derive.JourneyError.
    """
    whole = plans.plan(model)
    whole["checks"] = derive.verification(whole, model.journeys)
    aws = model.environment["aws"] is not None
    # The security group whose rules expire, empty if there is none.
    whole["access_group"] = layers.layer("database_access").derive(model)["group"] if aws else ""
    return whole


def _complete(model: Model) -> None:
    """Fill in what depends on several parts of the input."""
    for name, access in model.environment["databases"].items():
        if access["port"] is None and name in model.databases:
            access["port"] = model.databases[name]["port"]
        access["reader"] = access["reader"] or access["host"]
        if access["tls"] is None:
            access["tls"] = bool(model.environment["database_ca"])
    for name, access in model.environment["stores"].items():
        if access["port"] is None and name in model.stores:
            access["port"] = model.stores[name]["port"]
    for service in model.services.values():
        if not any(name in model.databases for name in service["needs"]):
            service["pool"] = None
        # Below the same prefix as the public address: an application has one path, whoever calls.
        service["internal_url"] = ec2.internal_url(service["port"], urlsplit(service["url"] or "").path)
    for host, entry in (model.hosts or {}).items():
        for name in entry["services"]:
            if name in model.services:
                model.placement.setdefault(name, []).append(host)
    model.origins = allowed_origins(model.services, model.environment["cors"]["extra_origins"])
    layers.complete(model)
