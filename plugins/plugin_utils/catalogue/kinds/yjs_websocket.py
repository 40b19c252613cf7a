# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A Y.js relay: several people edit the same documents over WebSocket."""

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
    # A relay may keep documents in memory, and two relays would diverge: holding is only safe with a shared store.
    hold=0,
    hand_off="bridge",
    # An office shares one address: a hundred people with three documents each.
    sockets_per_client=300,
    # The bridge needs the signal itself. A socket may be silent for an hour.
    unsupported=PAGE_KEYS | {"timeout", "build.standalone", "live_signal"},
    checks=("websocket",),
)
