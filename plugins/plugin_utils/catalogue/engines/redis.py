# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Redis. ElastiCache has its last free version, and Valkey in its place."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines.engine import Driver, Store

ENGINE = Store(
    name="redis",
    title="Redis",
    port=6379,
    # Clients of both know this one.
    scheme="redis",
    drivers={"node": Driver("", node=True)},
    version="7.1",
    # A queue must not lose jobs when memory is full: it is told instead.
    parameters={"maxmemory-policy": "noeviction"},
)
