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
from ansible_collections.fivepointers.platform.plugins.module_utils.schema import plain


def _model(catalogue: Any, environment: Any, hosts: Any) -> planning.Model:
    try:
        return schema.load(catalogue, environment, hosts)
    except schema.CatalogueError as error:
        raise AnsibleFilterError("\n%s" % error) from None


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
        raise AnsibleFilterError(
            "service_environment: the catalogue has no service '%s'. Use one of: %s"
            % (service, ", ".join(model.services))
        )
    return planning.service_environment(model, str(plain(service)))


def services_on(
    plan: Any, host: str, kind: str | None = None, tags: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return the specifications of a host's services."""
    if host not in plan["hosts"]:
        raise AnsibleFilterError(
            "services_on: the plan has no host '%s'. It was made for: %s" % (host, ", ".join(plan["hosts"]))
        )
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
    """Return {name: {address, services}} for the hosts of the inventory."""
    raw_get = getattr(hostvars, "raw_get", None)
    hosts = {}
    for name in names:
        name = str(plain(name))
        found = raw_get(name) if raw_get else hostvars[name]
        values = {key: found.get(key) for key in ("platform_address", "platform_services")}
        if raw_get and any(isinstance(value, str) and "{{" in value for value in values.values()):
            templated = hostvars[name]
            values = {key: templated.get(key) for key in values}
        missing = [key for key, value in values.items() if value is None]
        if missing:
            raise AnsibleFilterError(
                "platform_hosts: the host '%s' has no variable %s. Set it in the inventory: platform_address is the "
                "private IPv4 address, platform_services the list of services (tag Services)."
                % (name, " and no ".join(missing))
            )
        hosts[name] = {
            "address": plain(values["platform_address"]),
            "services": plain(values["platform_services"]),
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
