# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The kinds of services. To add one, add a file to this folder and a line here."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import (
    nestjs_api,
    nextjs,
    node_job,
    node_worker,
    static_frontend,
    yjs_websocket,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import Hashed, Kind

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (nestjs_api, static_frontend, nextjs, yjs_websocket, node_worker, node_job)
}

__all__ = ["KINDS", "Hashed", "Kind"]
