# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A Y.js relay: documents that several people edit at once, over WebSocket."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import PAGE_KEYS, Kind

KIND = Kind(
    name="yjs_websocket",
    layout="node",
    listens="websocket",
    handover="documents",
    health={"tcp": True},
    script_required=False,
    output=".",
    start="node server.js",
    # It may keep documents in memory, where two relays would hold different ones: only a shared store makes it safe.
    hold=0,
    hand_off="bridge",
    # An office has one address: a hundred people with three documents each.
    sockets_per_client=300,
    unsupported=PAGE_KEYS | {"build.standalone"},
    checks=("websocket",),
)
