# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters about artifacts and releases. Each is documented in the file of its name in plugins/filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.manifests import parse_manifest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters.selection import named
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import retirements, rollbacks


def artifact_id(manifest: str, service: str, origin: str, artifact: str | None = None, keys: Sequence[str] = ()) -> str:
    """Return the id in a manifest that was fetched, checked before anything is read or written by it."""
    try:
        return str(parse_manifest(manifest, service, artifact, origin, plain(keys))["id"])
    except ArchiveError as error:
        raise AnsibleFilterError(str(error)) from error


def artifact_store(address: str | None) -> dict[str, str]:
    """Return the bucket and prefix of an S3 address; empty if there is none."""
    return plans.artifact_store(str(address) if address else None)


def rollback_targets(
    looks: Any, plan: Any, services: Any = None, to: Any = None, secrets: Any = "now"
) -> dict[str, Any]:
    """Return the releases to roll back to, by service, and the secrets that they take; or why there are none."""
    names = named(plan, services) if services else None
    found = plain(looks)
    # An inventory may have a variable of this name, with something else in it.
    of = str(plain(secrets)) if isinstance(secrets, str) else "now"
    known = {item["name"]: item for item in plain(plan["known_secrets"])}
    try:
        releases = rollbacks.rollback_targets(found, names, plain(to) or None)
        recall = rollbacks.recall(found, releases, known, of)
    except rollbacks.RollbackError as error:
        return {"releases": {}, "secrets": {}, "references": [], "told": {}, "problem": str(error)}
    told = {name: f"{release}, with {recall.told[name]}" for name, release in releases.items()}
    return {
        "releases": releases,
        "secrets": recall.names,
        "references": recall.references,
        "told": told,
        "problem": "",
    }


def releases_table(looks: Any, plan: Any, undescribed: Any = None) -> str:
    """Return the live and kept releases, as text."""
    order = [name for batch in plan["batches"] for name in batch]
    return rollbacks.releases_table(plain(looks), order, plain(undescribed or {}))


def undescribed(found: Any, plan: Any, selected: Any = None) -> list[str]:
    """Return a sentence for each service that is on hosts and not described there.

    Raises AnsibleFilterError for one of those selected that would run on two hosts at once.
    """
    try:
        retirements.refuse_timers(plain(found), plan, plain(selected))
    except retirements.RetirementError as error:
        raise AnsibleFilterError(str(error)) from error
    return retirements.remarks(plain(found), plan)


def retirement(looks: Any, plan: Any, retire: Any, back: Any = False, purge: Any = False) -> dict[str, Any]:
    """Return which services are to be retired, brought back or purged, on which hosts; or why not."""
    looks = {host: look for host, look in plain(looks).items() if look}
    names = [name.strip() for name in str(retire or "").split(",") if name.strip()]
    try:
        chosen = retirements.choose(
            {host: look.get("undescribed", {}) for host, look in looks.items()},
            {host: look.get("upstreams", {}) for host, look in looks.items()},
            plan,
            names,
            boolean(back),
            boolean(purge),
        )
    except (retirements.RetirementError, TypeError) as error:
        return {"phase": "", "hosts": {}, "releases": {}, "lines": [], "problem": str(error)}
    return {**chosen, "problem": ""}
