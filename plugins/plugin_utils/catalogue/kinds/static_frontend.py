# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A frontend built by a bundler such as Vite: static files, served by the front."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import (
    PROCESS_KEYS,
    Hashed,
    Kind,
)

# Where Vite, Next.js, Astro, Nuxt and bundlers of the kind of webpack put files with a digest in their name.
HASHED = ("assets", "_next/static", "_astro", "_nuxt", "static")

KIND = Kind(
    name="static_frontend",
    layout="static",
    pages=True,
    port=8080,
    health={"path": "/"},
    hold=0,
    hashed=tuple(Hashed(name, name, mixed=name == "static") for name in HASHED),
    unsupported=PROCESS_KEYS | {"hand_off", "sockets_per_client", "sticky", "build.standalone"},
    checks=("deep_link", "missing_asset", "runtime_config"),
)
