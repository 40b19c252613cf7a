# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A program that runs at certain times and ends: a report, a clean-up."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import PAGE_KEYS, Kind

KIND = Kind(
    name="node_job",
    layout="node",
    listens="nothing",
    handover="schedule",
    # A run in advance would do what it is there for.
    health={},
    script_required=False,
    start="node dist/main.js",
    drain=60,
    timeout=3600,
    hold=0,
    unsupported=PAGE_KEYS | {"build.standalone"},
)
