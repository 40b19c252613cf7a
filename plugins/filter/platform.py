# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters that plan an environment, and that select from a plan. Each is documented in the .yml file of its name.

To find one filter, Ansible loads every file of this folder, in each of its processes, and compiles what they import. So
a filter imports what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def load_model(catalogue: Any, environment: Any, hosts: Any = None) -> Any:
    """Return the checked model; end the run with all mistakes."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.loading import CatalogueError, load

    try:
        return load(catalogue, environment, hosts)
    except CatalogueError as error:
        raise AnsibleFilterError(f"\n{error}") from None


def _plain(value: Any) -> Any:
    from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain

    return plain(value)


def _listed(names: Any) -> str:
    from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import listed

    return listed(names)


# --- from the catalogue -------------------------------------------------------------


def plan(catalogue: Any, environment: Any, hosts: Any = None) -> dict[str, Any]:
    """Return the whole plan."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.loading import plan as whole
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import JourneyError

    model = load_model(catalogue, environment, hosts)
    try:
        return whole(model)
    except JourneyError as error:
        raise AnsibleFilterError(f"plan: {error}") from None


def topology(catalogue: Any, environment: Any, hosts: Any = None) -> str:
    """Return the picture of an environment."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.picture import topology as pictures

    return pictures.picture(load_model(catalogue, environment, hosts))


def log_groups(catalogue: Any, environment: Any) -> dict[str, str]:
    """Return the log group of each service."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as planning

    return planning.log_groups(load_model(catalogue, environment))


def build_specs(
    catalogue: Any, environment: Any, catalogue_file: str, service: str | None = None, tags: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return what the module C(build) needs of each service that has a source."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import building

    model = load_model(catalogue, environment)
    try:
        return building.build_specs(model, _plain(catalogue_file), _plain(service), _plain(tags))
    except building.NotBuiltError as error:
        raise AnsibleFilterError(f"build_specs: {error}") from None


def platform_hosts(hostvars: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return {name: {address, services}} for these hosts of the inventory.

    Reads the variables raw, which is fast, and templates them only where they are templates. What a host lacks is None
    here; the plan refuses it.
    """
    raw_get = getattr(hostvars, "raw_get", hostvars.__getitem__)
    hosts = {}
    for name in names:
        found = raw_get(name)
        if "{{" in f"{found.get('platform_address')}{found.get('platform_services')}":
            found = hostvars[name]
        tag = _plain(found.get("aws_tags") or {}).get("Services")
        hosts[str(_plain(name))] = {
            "address": _plain(found.get("platform_address", found.get("aws_private_ip_address"))),
            "services": _plain(found.get("platform_services", tag.split(",") if tag else None)),
        }
    return hosts


# --- from a plan --------------------------------------------------------------------


def _named(plan: Any, services: str | Sequence[str]) -> list[str]:
    """Return the services that an operator named, as a list or joined by commas."""
    given = services.split(",") if isinstance(services, str) else [str(_plain(name)) for name in services]
    names = [name.strip() for name in given if name.strip()]
    for name in names:
        if name not in plan["services"]:
            raise AnsibleFilterError(
                f"service: the catalogue has no service '{name}'. Use one of: {_listed(plan['services'])}"
            )
    return names


def select_services(plan: Any, tags: Sequence[str], only: str | Sequence[str] | None = None) -> list[str]:
    """Return the names of the services that the run's tags select, and of these `only` some, in deploy order."""
    if "all" in tags:  # nearly always, and of every host: nothing has to be imported for it
        names = [str(_plain(name)) for batch in plan["batches"] for name in batch]
    else:
        from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as planning

        names = planning.select_services(plan, [str(_plain(tag)) for tag in tags])
    wanted = _named(plan, only) if only else names
    return [name for name in names if name in wanted]


def services_on(
    plan: Any,
    host: str,
    kind: str | None = None,
    tags: Sequence[str] | None = None,
    only: str | Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the specifications of a host's services, in deploy order."""
    if host not in plan["hosts"]:
        raise AnsibleFilterError(
            f"services_on: the plan has no host '{host}'. It was made for: {_listed(plan['hosts'])}"
        )
    wanted = select_services(plan, ["all"] if tags is None else tags, only)
    here = set(plan["hosts"][host]["services"]) & set(wanted)
    specs = [plan["services"][name] for batch in plan["batches"] for name in batch if name in here]
    return [_plain(spec) for spec in specs if kind is None or spec["kind"] == kind]


def secret_references(plan: Any, services: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the references of the secrets that all or some services use."""
    references: list[dict[str, Any]] = _plain(plan["secrets"])
    if services is None:
        return references
    wanted = {secret for name in _named(plan, services) for secret in plan["services"][name]["secrets"]}
    return [item for item in references if item["name"] in wanted]


# --- deployments --------------------------------------------------------------------


def artifact_choice(artifact: str | None, service: str | None = None) -> dict[str, str]:
    """Return the artifacts that an operator chose, by service, from 'api:1a2b,sites:3c4d' or one of one service."""
    chosen = {}
    for item in str(artifact or "").split(","):
        name, colon, identifier = item.strip().rpartition(":")
        if not item.strip():
            continue
        if not colon:
            name = str(service or "")
        if not name or "," in name:
            raise AnsibleFilterError(
                f"artifact: '{item.strip()}' does not say of which service it is. Write -e artifact=api:{identifier}, "
                f"or add -e service=NAME."
            )
        chosen[name] = identifier
    return chosen


def artifact_store(address: str | None) -> dict[str, str]:
    """Return the bucket and prefix of an address in S3; empty where there is none."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as planning

    return planning.artifact_store(_plain(address))


def release_waves(plan: Any, releases: Sequence[Any]) -> list[list[list[str]]]:
    """Return the batches that differ, grouped into waves whose candidates start together."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as planning

    return planning.release_waves(plan["batches"], [_plain(item) for item in releases if item])


def rollback_targets(looks: Any, plan: Any, services: Any = None, to: Any = None) -> dict[str, Any]:
    """Return the releases to which a rollback goes, by service, or why there is none."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import rollbacks

    named = _named(plan, services) if services else None
    try:
        return {"releases": rollbacks.rollback_targets(_plain(looks), named, _plain(to) or None), "problem": ""}
    except rollbacks.RollbackError as error:
        return {"releases": {}, "problem": str(error)}


def releases_table(looks: Any, plan: Any) -> str:
    """Return what is live and what is kept, as text."""
    from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import rollbacks

    return rollbacks.releases_table(_plain(looks), [name for batch in plan["batches"] for name in batch])


class FilterModule:
    """Ansible finds the filters here."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "plan": plan,
            "topology": topology,
            "log_groups": log_groups,
            "build_specs": build_specs,
            "platform_hosts": platform_hosts,
            "select_services": select_services,
            "services_on": services_on,
            "secret_references": secret_references,
            "artifact_choice": artifact_choice,
            "artifact_store": artifact_store,
            "release_waves": release_waves,
            "rollback_targets": rollback_targets,
            "releases_table": releases_table,
        }
