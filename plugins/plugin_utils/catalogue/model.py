# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The model that everything is derived from: what catalogue, environment and hosts say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS


@dataclass
class Model:
    """The normalised input. `hosts` is None without an inventory."""

    environment: dict[str, Any]
    services: dict[str, dict[str, Any]]
    databases: dict[str, dict[str, Any]]
    stores: dict[str, dict[str, Any]]
    journeys: list[dict[str, Any]]
    hosts: dict[str, dict[str, Any]] | None
    origins: dict[str, list[str]] = field(default_factory=dict)
    placement: dict[str, list[str]] = field(default_factory=dict)

    @property
    def servers(self) -> dict[str, dict[str, Any]]:
        """Return the databases and stores."""
        return {**self.databases, **self.stores}

    @property
    def access(self) -> dict[str, dict[str, Any]]:
        """Return what the environment says of databases and stores."""
        return {**self.environment["databases"], **self.environment["stores"]}

    def is_process(self, name: str) -> bool:
        """Whether the service runs under Node.js."""
        kind = self.services[name]["kind"]
        return kind in KINDS and KINDS[kind].process

    def is_scheduled(self, name: str) -> bool:
        """Whether the service runs by a schedule and ends by itself, so that it is mostly not running."""
        kind = self.services[name]["kind"]
        return kind in KINDS and KINDS[kind].scheduled

    def listens(self, name: str) -> bool:
        """Whether others can connect to the service: it has a port and a front."""
        kind = self.services[name]["kind"]
        return kind not in KINDS or KINDS[kind].listens != "nothing"
