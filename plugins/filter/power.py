# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of starting and stopping an environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import schedule as aws_schedule


def power_schedules(layer: Any, instances: Sequence[Any], databases: Sequence[Any], caller: Any) -> dict[str, Any]:
    """Return the schedules of an environment, and what their role may do."""
    return aws_schedule.schedules(plain(layer), plain(instances), plain(databases), plain(caller))


def of_environment(found: Sequence[Any], environment: str) -> list[Mapping[str, Any]]:
    """Return what the tags say to be of this environment."""
    return aws_schedule.of_environment(plain(found), str(plain(environment)))


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"power_schedules": power_schedules, "of_environment": of_environment}
