# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of the playbooks: thin wrappers around pure functions of module_utils.

What each does stands in the .yml file of its name beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils import catalogue as schema
from ansible_collections.fivepointers.platform.plugins.module_utils import planning
from ansible_collections.fivepointers.platform.plugins.module_utils.schema import listed, plain


def _model(catalogue: Any, environment: Any, hosts: Any) -> planning.Model:
    try:
        return schema.load(catalogue, environment, hosts)
    except schema.CatalogueError as error:
        raise AnsibleFilterError(f"\n{error}") from None


def _derive(function: Callable[[planning.Model], Any]) -> Callable[..., Any]:
    """Make a filter of a derivation: the catalogue is checked first, always as a whole."""

    def derived(catalogue: Any, environment: Any, hosts: Any = None) -> Any:
        return function(_model(catalogue, environment, hosts))

    return derived


def catalogue_problems(catalogue: Any, environment: Any, hosts: Any = None) -> list[dict[str, str]]:
    """Return all problems as {path, value, problem, fix}."""
    return [problem._asdict() for problem in schema.read(catalogue, environment, hosts)[1]]


def service_environment(catalogue: Any, environment: Any, hosts: Any, service: str) -> dict[str, str]:
    """Return the environment variables of one service, as templates."""
    model = _model(catalogue, environment, hosts)
    if service not in model.services:
        names = ", ".join(model.services)
        raise AnsibleFilterError(f"service_environment: there is no service '{service}'. Use one of: {names}")
    return planning.service_environment(model, str(plain(service)))


def services_on(
    plan: Any, host: str, kind: str | None = None, tags: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return the specifications of a host's services."""
    if host not in plan["hosts"]:
        names = listed(plan["hosts"])
        raise AnsibleFilterError(f"services_on: the plan has no host '{host}'. It was made for: {names}")
    wanted = None if tags is None else set(planning.select_services(plan, list(tags)))
    specs = [plan["services"][name] for name in plan["hosts"][host]["services"] if wanted is None or name in wanted]
    return [plain(spec) for spec in specs if kind is None or spec["kind"] == kind]


def select_services(plan: Any, tags: Sequence[str]) -> list[str]:
    """Return the names of the services that the run's tags select, in deploy order."""
    return planning.select_services(plan, [str(plain(tag)) for tag in tags])


def secret_references(plan: Any, services: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the references of the secrets that all or some services use."""
    if services is None:
        return plain(plan["secrets"])
    wanted = {secret for name in services for secret in plan["services"][name]["secrets"]}
    return [plain(item) for item in plan["secrets"] if item["name"] in wanted]


def platform_hosts(hostvars: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return {name: {address, services}} for these hosts of the inventory.

    Reads the variables raw, which is fast, and templates them only where they are templates. What a
    host lacks is None here; the plan refuses it.
    """
    raw_get = getattr(hostvars, "raw_get", hostvars.__getitem__)
    hosts = {}
    for name in names:
        found = raw_get(name)
        if "{{" in f"{found.get('platform_address')}{found.get('platform_services')}":
            found = hostvars[name]
        hosts[str(plain(name))] = {
            "address": plain(found.get("platform_address")),
            "services": plain(found.get("platform_services")),
        }
    return hosts


class FilterModule:
    """The filters that derive from catalogue, environment and hosts."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "plan": _derive(planning.plan),
            "deploy_order": _derive(planning.deploy_order),
            "virtual_hosts": _derive(planning.virtual_hosts),
            "upstreams": _derive(planning.upstreams),
            "allowed_origins": _derive(lambda model: model.origins),
            "health_checks": _derive(planning.health_checks),
            "log_groups": _derive(planning.log_groups),
            "connection_budget": _derive(planning.connection_budget),
            "service_environment": service_environment,
            "catalogue_problems": catalogue_problems,
            "services_on": services_on,
            "select_services": select_services,
            "secret_references": secret_references,
            "platform_hosts": platform_hosts,
        }
