# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Redis. ElastiCache has its last free version, and Valkey in its place."""

from __future__ import annotations

import dataclasses

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import valkey

ENGINE = dataclasses.replace(valkey.ENGINE, name="redis", title="Redis", version="7.1")
