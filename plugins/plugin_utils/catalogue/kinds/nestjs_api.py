# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""NestJS: an HTTP API that returns data, not pages."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import PAGE_KEYS, Kind

KIND = Kind(
    name="nestjs_api",
    layout="node",
    start="node dist/main.js",
    unsupported=PAGE_KEYS | {"hand_off", "build.standalone"},
    checks=("cors",),
)
