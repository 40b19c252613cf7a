# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Next.js: pages made by a server."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import Hashed, Kind

# It calls its process next-server, and nobody could tell which service that is.
KEEP_TITLE = "--import=data:text/javascript,Object.defineProperty(process,'title',{get:()=>process.argv0,set(){}})"

KIND = Kind(
    name="nextjs",
    layout="next",
    pages=True,
    inline_scripts=True,
    streams=True,
    health={"path": "/"},
    output=".next",
    standalone=True,
    start="node server.js",
    start_with_packages="node node_modules/next/dist/bin/next start --hostname 127.0.0.1",
    node_options=KEEP_TITLE,
    writable=".next/cache",
    hashed=Hashed(source=".next/static", target="_next/static"),
    unsupported=frozenset({"spa", "hand_off"}),
    environment={"HOSTNAME": "127.0.0.1"},
)
