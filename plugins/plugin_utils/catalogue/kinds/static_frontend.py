# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A frontend built by a bundler such as Vite: static files, served by the front."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import (
    PROCESS_KEYS,
    Hashed,
    Kind,
)

KIND = Kind(
    name="static_frontend",
    layout="static",
    pages=True,
    port=8080,
    health={"path": "/"},
    hold=0,
    hashed=Hashed(source="assets", target="assets"),
    unsupported=PROCESS_KEYS | {"hand_off", "sockets_per_client", "build.standalone"},
    checks=("deep_link", "missing_asset", "runtime_config"),
)
