# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters that select from a plan. They run for every host, so they import as little as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.identifiers import is_artifact_id
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import waves


def named(plan: Any, services: str | Sequence[str]) -> list[str]:
    """Return the services that an operator selected, as a list or separated by commas."""
    given = services.split(",") if isinstance(services, str) else [str(name) for name in services]
    names = [name.strip() for name in given if name.strip()]
    for name in names:
        if name not in plan["services"]:
            raise AnsibleFilterError(f"service: unknown service '{name}'. Use one of: {', '.join(plan['services'])}")
    return names


def select_services(plan: Any, tags: Sequence[str], only: str | Sequence[str] | None = None) -> list[str]:
    """Return the services that the run's tags select, limited to `only`, in deployment order."""
    if "all" in tags:  # the usual case, for every host: avoid the import
        names = [name for batch in plan["batches"] for name in batch]
    else:
        names = plans.select_services(plan, [str(tag) for tag in tags])
    wanted = named(plan, only) if only else names
    return [name for name in names if name in wanted]


def services_on(
    plan: Any,
    host: str,
    kind: str | None = None,
    tags: Sequence[str] | None = None,
    only: str | Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the specifications of a host's services, in deployment order."""
    if host not in plan["hosts"]:
        raise AnsibleFilterError(
            f"services_on: unknown host '{host}'. The plan was created for: {', '.join(plan['hosts'])}"
        )
    wanted = select_services(plan, ["all"] if tags is None else tags, only)
    here = set(plan["hosts"][host]["services"]) & set(wanted)
    specs = [plan["services"][name] for batch in plan["batches"] for name in batch if name in here]
    return [spec for spec in specs if kind is None or spec["kind"] == kind]


def secret_references(plan: Any, services: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the references to secrets that all or some services use."""
    references: list[dict[str, Any]] = list(plan["secrets"])
    if services is None:
        return references
    wanted = {secret for name in named(plan, services) for secret in plan["services"][name]["secrets"]}
    return [item for item in references if item["name"] in wanted]


def artifact_choice(artifact: str | None, service: str | None = None) -> dict[str, str]:
    """Return the artifacts that an operator chose, by service, from 'api:ID,sites:ID' or a single id."""
    chosen = {}
    for item in str(artifact or "").split(","):
        name, colon, identifier = item.strip().rpartition(":")
        if not item.strip():
            continue
        if not colon:
            name = str(service or "")
        if not name or "," in name:
            raise AnsibleFilterError(
                f"artifact: '{item.strip()}' does not name its service. Write -e artifact=api:{identifier}, "
                f"or add -e service=NAME."
            )
        if not is_artifact_id(identifier):
            raise AnsibleFilterError(
                f"artifact: {identifier!r:.80} is not an artifact's id, which has 16 to 64 hexadecimal digits. "
                "playbooks/releases.yml lists those on the hosts."
            )
        chosen[name] = identifier
    return chosen


def release_waves(plan: Any, releases: Sequence[Any]) -> list[list[list[str]]]:
    """Return the batches that differ, grouped into waves whose candidates start together."""
    return waves.release_waves(plan["batches"], [item for item in releases if item])
