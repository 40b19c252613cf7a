# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A process without a port: a consumer of a queue, a bot."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import PAGE_KEYS, Kind

KIND = Kind(
    name="node_worker",
    layout="node",
    listens="nothing",
    # Two consumers of one queue, or two bots with one token, do everything twice.
    handover="stop-first",
    health={"running": 5},
    script_required=False,
    start="node dist/main.js",
    drain=30,
    hold=0,
    unsupported=PAGE_KEYS | {"build.standalone"},
)
