"""What the plan says about the services, where the sandbox tells it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.topology import Topology


def services(topology: Topology, addresses: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Each service's part of the plan, by name."""
    del topology, addresses
    return {}
