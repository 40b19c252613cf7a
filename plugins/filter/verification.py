# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filter that says what must be true at the front door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify import derive


def verification(plan: Any, catalogue: Any) -> list[dict[str, Any]]:
    """Return the checks of an environment, for the module ``verify``."""
    try:
        return derive.verification(plain(plan), plain(catalogue.get("journeys") or []))
    except derive.JourneyError as error:
        raise AnsibleFilterError(f"verification: {error}") from None


class FilterModule:
    """The filter by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by name."""
        return {"verification": verification}
