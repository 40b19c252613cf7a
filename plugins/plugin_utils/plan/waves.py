# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The order of a deployment, given what differs. Imports nothing, since it runs for every host. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def release_waves(batches: Sequence[Sequence[str]], plans: Sequence[Mapping[str, Any]]) -> list[list[list[str]]]:
    """Return the services that differ, in waves of batches: all candidates of a wave start before any is switched to.

    plans: for each host, the services that differ, as the phase plan of the module release returns them. One wave is
    enough if each of them already has a live release. Otherwise each batch is switched before the next one starts,
    since a candidate may need a service that is not running yet.
    """
    differing = {name for plan in plans for name in plan["differing"]}
    fresh = any(not plan["services"][name]["live"] for plan in plans for name in plan["differing"])
    affected = [[name for name in batch if name in differing] for batch in batches]
    affected = [batch for batch in affected if batch]
    if fresh:
        return [[batch] for batch in affected]
    return [affected] if affected else []
