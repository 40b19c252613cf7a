# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters that read the catalogue. Each is documented in the file of its name in plugins/filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters.models import load_model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.loading import plan as whole
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import building, names
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import JourneyError


def plan(catalogue: Any, environment: Any, hosts: Any = None) -> dict[str, Any]:
    """Return the whole plan."""
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
    return names.log_groups(load_model(catalogue, environment))


def build_specs(
    catalogue: Any, environment: Any, catalogue_file: str, service: str | None = None, tags: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the arguments of the module C(build) for each service that has a source."""
    model = load_model(catalogue, environment)
    try:
        return building.build_specs(model, plain(catalogue_file), plain(service), plain(tags))
    except building.NotBuiltError as error:
        raise AnsibleFilterError(f"build_specs: {error}") from None


def platform_hosts(hostvars: Any, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return {name: {address, services}} for these hosts of the inventory.

    Reads the raw variables, which is fast, and only renders those that are templates. Services are those of the groups
    C(service_…), unless variables or tags name them. Missing values are None here, and the plan rejects them.
    """
    raw_get = getattr(hostvars, "raw_get", hostvars.__getitem__)
    hosts = {}
    for name in names:
        found = raw_get(name)
        if "{{" in f"{found.get('platform_address')}{found.get('platform_services')}":
            found = hostvars[name]
        tag = plain(found.get("aws_tags") or {}).get("Services")
        # Groups cannot have hyphens, nor services underscores.
        groups = [
            group[len("service_") :] for group in plain(found.get("group_names") or []) if group.startswith("service_")
        ]
        grouped = [group.replace("_", "-") for group in groups] or None
        hosts[str(plain(name))] = {
            "address": plain(found.get("platform_address", found.get("aws_private_ip_address"))),
            "services": plain(found.get("platform_services", tag.split(",") if tag else grouped)),
        }
    return hosts
