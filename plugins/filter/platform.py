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
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import listed, plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as schema
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.picture import topology
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import names, order, rollbacks, variables
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets import ec2
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import layers as provisioning
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import monitoring as aws_monitoring


def _model(catalogue: Any, environment: Any, hosts: Any) -> Model:
    try:
        return schema.load(catalogue, environment, hosts)
    except schema.CatalogueError as error:
        raise AnsibleFilterError(f"\n{error}") from None


def _derive(function: Callable[[Model], Any]) -> Callable[..., Any]:
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
    return variables.service_environment(model, str(plain(service)))


def provision(catalogue: Any, environment: Any) -> dict[str, Any]:
    """Return what each layer of AWS makes; hosts are not there yet, so none are looked at."""
    model = _model(catalogue, environment, None)
    if model.environment["aws"] is None:
        raise AnsibleFilterError(
            "\nplatform_environment.aws is missing, so there is nothing to provision. Add it, if only as `aws: {}`: "
            "docs/aws.md says which settings there are."
        )
    return provisioning.provision(model)


def monitoring_of(
    derived: Any, caller: str, instances: Sequence[Any], certificates: Sequence[Any], host_alarms: Sequence[Any]
) -> dict[str, Any]:
    """Return the alarms and the dashboard with what only the account knows."""
    account = plain([caller, instances, certificates, host_alarms])
    return aws_monitoring.complete(plain(derived), *account)


def services_on(
    plan: Any,
    host: str,
    kind: str | None = None,
    tags: Sequence[str] | None = None,
    only: str | Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the specifications of a host's services, in deploy order."""
    if host not in plan["hosts"]:
        names = listed(plan["hosts"])
        raise AnsibleFilterError(f"services_on: the plan has no host '{host}'. It was made for: {names}")
    wanted = select_services(plan, ["all"] if tags is None else tags, only)
    here = set(plan["hosts"][host]["services"]) & set(wanted)
    specs = [plan["services"][name] for batch in plan["batches"] for name in batch if name in here]
    return [plain(spec) for spec in specs if kind is None or spec["kind"] == kind]


def _named(plan: Any, services: str | Sequence[str]) -> list[str]:
    """Return the services that an operator named, as a list or joined by commas."""
    given = services.split(",") if isinstance(services, str) else [str(plain(name)) for name in services]
    names = [name.strip() for name in given if name.strip()]
    for name in names:
        if name not in plan["services"]:
            raise AnsibleFilterError(
                f"service: the catalogue has no service '{name}'. Use one of: {listed(plan['services'])}"
            )
    return names


def release_waves(plan: Any, releases: Sequence[Any]) -> list[list[list[str]]]:
    """Return the batches that differ, grouped into waves whose candidates start together."""
    return order.release_waves(plan["batches"], [plain(item) for item in releases if item])


def artifact_choice(release: str | None, service: str | None) -> dict[str, str]:
    """Return the artifacts that an operator chose, by service, from 'api:1a2b,sites:3c4d' or one of one service."""
    chosen = {}
    for item in str(release or "").split(","):
        name, colon, artifact = item.strip().rpartition(":")
        if not item.strip():
            continue
        if not colon:
            name = str(service or "")
        if not name or "," in name:
            raise AnsibleFilterError(
                f"release: '{item.strip()}' does not say of which service it is. Write -e release=api:{artifact}, "
                f"or add -e service=NAME."
            )
        chosen[name] = artifact
    return chosen


def artifact_store(address: str | None) -> dict[str, str]:
    """Return the bucket and prefix of an address in S3; empty where there is none."""
    return plans.artifact_store(plain(address))


def rollback_targets(looks: Any, plan: Any, services: Any = None, to: Any = None) -> dict[str, Any]:
    """Return the releases to which a rollback goes, by service, or why there is none."""
    named = _named(plan, services) if services else None
    try:
        return {"releases": rollbacks.rollback_targets(plain(looks), named, plain(to) or None), "problem": ""}
    except rollbacks.RollbackError as error:
        return {"releases": {}, "problem": str(error)}


def releases_table(looks: Any, plan: Any) -> str:
    """Return what is live and what is kept, as text."""
    return rollbacks.releases_table(plain(looks), [name for batch in plan["batches"] for name in batch])


def select_services(plan: Any, tags: Sequence[str], only: str | Sequence[str] | None = None) -> list[str]:
    """Return the names of the services that the run's tags select, and of these `only` some, in deploy order."""
    names = plans.select_services(plan, [str(plain(tag)) for tag in tags])
    wanted = _named(plan, only) if only else names
    return [name for name in names if name in wanted]


def secret_references(plan: Any, services: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the references of the secrets that all or some services use."""
    if services is None:
        return plain(plan["secrets"])
    wanted = {secret for name in _named(plan, services) for secret in plan["services"][name]["secrets"]}
    return [plain(item) for item in plan["secrets"] if item["name"] in wanted]


def platform_hosts(hostvars: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return {name: {address, services}} for these hosts of the inventory.

    Where a host says neither, they are what EC2 says: its private address and the tag Services. Reads the
    variables raw, which is fast, and templates them only where they are templates. What a host lacks is
    None here; the plan refuses it.
    """
    raw_get = getattr(hostvars, "raw_get", hostvars.__getitem__)
    hosts = {}
    for name in names:
        found = raw_get(name)
        if "{{" in f"{found.get('platform_address')}{found.get('platform_services')}":
            found = hostvars[name]
        tag = plain(found.get("aws_tags") or {}).get("Services")
        hosts[str(plain(name))] = {
            "address": plain(found.get("platform_address", found.get("aws_private_ip_address"))),
            "services": plain(found.get("platform_services", tag.split(",") if tag else None)),
        }
    return hosts


class FilterModule:
    """The filters that derive from catalogue, environment and hosts."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "plan": _derive(plans.plan),
            "deploy_order": _derive(order.deploy_order),
            "virtual_hosts": _derive(plans.virtual_hosts),
            "upstreams": _derive(ec2.upstreams),
            "allowed_origins": _derive(lambda model: model.origins),
            "health_checks": _derive(plans.health_checks),
            "log_groups": _derive(names.log_groups),
            "connection_budget": _derive(plans.connection_budget),
            "topology": _derive(topology.picture),
            "service_environment": service_environment,
            "catalogue_problems": catalogue_problems,
            "provision": provision,
            "monitoring_of": monitoring_of,
            "services_on": services_on,
            "select_services": select_services,
            "release_waves": release_waves,
            "artifact_choice": artifact_choice,
            "artifact_store": artifact_store,
            "rollback_targets": rollback_targets,
            "releases_table": releases_table,
            "secret_references": secret_references,
            "platform_hosts": platform_hosts,
        }
