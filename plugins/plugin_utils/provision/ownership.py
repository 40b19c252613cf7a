# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Who owns a resource, by its tags: this environment's, another environment's, or somebody else's. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import MANAGED_BY


class FoundError(ValueError):
    """The resources in AWS do not match the settings. The text names the resource, and the fix."""


def lacks(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether a resource lacks one of the desired tags. Other tags are kept."""
    return any(found.get(key) != value for key, value in wanted.items())


def foreign(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Return why a resource with the desired name is not this environment's; empty if its tags say that it is.

    The names of two environments can collide: service eu-api of production, and api of production-eu.
    """
    if found.get("ManagedBy") != MANAGED_BY:
        return f"has no tag ManagedBy={MANAGED_BY}, so it was created by others"
    return elsewhere(found, wanted["Environment"])


def elsewhere(found: Mapping[str, str], environment: str) -> str:
    """Return why a resource belongs to another environment, according to its tags; empty if it does not."""
    other = found.get("Environment", environment)
    if found.get("ManagedBy") != MANAGED_BY or other == environment:
        return ""
    return f"has the tag Environment={other}, so it belongs to that environment and not to {environment}"


def of_environment(found: Sequence[Mapping[str, Any]], environment: str) -> list[Mapping[str, Any]]:
    """Return the resources whose tags Platform and Environment name this environment."""
    wanted = {"Platform": "fivepointers", "Environment": environment}
    return [item for item in found if wanted.items() <= dict(item.get("tags") or {}).items()]
