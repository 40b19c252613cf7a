# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Next.js: server-rendered pages."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import Hashed, Kind

# Next.js renames its process to next-server, which hides the service it belongs to.
KEEP_TITLE = "--import=data:text/javascript,Object.defineProperty(process,'title',{get:()=>process.argv0,set(){}})"

# Next.js calls the loopback "localhost", whatever name it was given. Under another name, the address that a rewrite
# leads to is not its own, and it calls itself by https, which fails. The front knows 127.0.0.1 only.
LOOPBACK = "localhost"
IPV4 = "--dns-result-order=ipv4first"

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
    start_with_packages=f"node node_modules/next/dist/bin/next start --hostname {LOOPBACK}",
    node_options=f"{KEEP_TITLE} {IPV4}",
    writable=".next/cache",
    hashed=(Hashed(source=".next/static", target="_next/static", anywhere=True),),
    exported="kind: static_frontend, spa: false and build: {output: out}; port and health have defaults",
    unsupported=frozenset({"spa", "hand_off"}),
    environment={"HOSTNAME": LOOPBACK},
)
