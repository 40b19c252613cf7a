# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Valkey."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines.engine import BARE, Store

ENGINE = Store(
    name="valkey",
    title="Valkey",
    port=6379,
    # Clients of both know this one.
    scheme="redis",
    drivers=BARE,
    version="8.2",
    # A queue must not lose jobs when memory is full: it is told instead.
    parameters={"maxmemory-policy": "noeviction"},
)
