# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a kind of service says of itself. Everything else asks a kind; only its own file names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Long enough to notice that something is wrong, and to roll back without starting anything.
HOLD = 300
# Keys of a service that make no sense without pages, or without a process.
PAGE_KEYS = frozenset({"csp", "csp_report_only", "spa"})
PROCESS_KEYS = frozenset(
    {"start", "migrate", "migrations", "writes", "pool", "secrets", "drain", "hold", "memory", "statsd"}
)


@dataclass(frozen=True)
class Hashed:
    """Files with a digest in their name, which outlive their release: open pages still ask for them.

    source: their directory in the code.
    target: the path below which users find them, without slashes at its ends.
    """

    source: str
    target: str


@dataclass(frozen=True)
class Kind:
    """How services of one kind are built, started, reached, checked and switched.

    name: what the catalogue calls it.
    layout: what goes into an artifact, see module_utils.build.layouts: "static" (files that the front serves), "node"
    (a program with its packages) or "next" (a build of Next.js). Anything but "static" is a process in two slots.
    listens: "http", "websocket", or "nothing": then it has neither port nor front.
    handover: what moves at a switch: "requests" (new ones go to the other slot), or "documents" (so do open sockets,
    document by document).
    pages: answers with pages, so its public address is an allowed origin, and pages get their headers.
    inline_scripts: its pages hold inline scripts and styles that only the application itself could sign.
    streams: sends a page piece by piece, each as soon as it is ready.
    port, health: used where the catalogue states nothing; None where it must state it.
    script, script_required: the script of package.json that builds it, and whether there must be one.
    output: the folder that the build writes, relative to the source.
    standalone: its builds may leave their packages out; such a build is started by `start`, another by
    `start_with_packages`.
    node_options: for NODE_OPTIONS, before what the catalogue states.
    writable: the one folder of the code that a release may write to; each release has its own.
    hashed: see Hashed.
    hold: seconds for which a replaced release goes on running, so that a rollback starts nothing.
    hand_off: who moves open sockets to the next release: "bridge" (preloaded by the collection), "application", or
    nobody.
    sockets_per_client: open WebSockets that one client address may have; None for any number.
    unsupported: keys of a service, and of its build, that are refused.
    environment: environment variables that every service of this kind gets.
    checks: what verification looks at besides health and headers, by the names in plugin_utils.verify.derive.
    """

    name: str
    layout: str
    listens: str = "http"
    handover: str = "requests"
    pages: bool = False
    inline_scripts: bool = False
    streams: bool = False
    port: int | None = None
    health: Mapping[str, Any] | None = None
    script: str = "build"
    script_required: bool = True
    output: str = "dist"
    standalone: bool = False
    start: str = ""
    start_with_packages: str = ""
    node_options: str = ""
    writable: str = ""
    hashed: Hashed | None = None
    hold: int = HOLD
    hand_off: str = ""
    sockets_per_client: int | None = None
    unsupported: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[str, ...] = ()

    @property
    def process(self) -> bool:
        """Whether it runs under Node.js, in two slots behind the front; otherwise the front serves files."""
        return self.layout != "static"

    @property
    def websocket(self) -> bool:
        """Whether users reach it by WebSocket."""
        return self.listens == "websocket"

    @property
    def scheme(self) -> str:
        """Scheme of the public address."""
        return "wss" if self.websocket else "https"
