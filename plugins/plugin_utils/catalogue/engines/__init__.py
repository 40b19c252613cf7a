# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The engines of databases and stores. To add one, add a file here and name it below. The first is the default."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import (
    mysql,
    postgresql,
    redis,
    valkey,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines.engine import (
    Driver,
    Engine,
    Server,
    Store,
)

ENGINES: dict[str, Engine] = {module.ENGINE.name: module.ENGINE for module in (mysql, postgresql)}
DEFAULT = next(iter(ENGINES))
STORES: dict[str, Store] = {module.ENGINE.name: module.ENGINE for module in (valkey, redis)}
SERVERS: dict[str, Server] = {**ENGINES, **STORES}

__all__ = ["DEFAULT", "ENGINES", "SERVERS", "STORES", "Driver", "Engine", "Server", "Store"]
