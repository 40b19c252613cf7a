# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The database engines. To add one, add a file to this folder and a line here. The first is the default."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import mysql, postgresql
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines.engine import Driver, Engine

ENGINES: dict[str, Engine] = {module.ENGINE.name: module.ENGINE for module in (mysql, postgresql)}
DEFAULT = next(iter(ENGINES))

__all__ = ["DEFAULT", "ENGINES", "Driver", "Engine"]
