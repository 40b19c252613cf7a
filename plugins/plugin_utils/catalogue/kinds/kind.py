# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What defines a kind of service. Other code reads these attributes; only a kind's own file names the kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import SCHEDULE

# Seconds: long enough to notice a problem and roll back without starting a process.
HOLD = 300
# Seconds that a response may take to begin, and a pause in it.
TIMEOUT = 60
# Service keys that need a kind with pages, or a kind with a process.
PAGE_KEYS = frozenset({"csp", "csp_report_only", "headers", "spa"})
PROCESS_KEYS = frozenset(
    {
        "start",
        "migrate",
        "migrations",
        "schema_at_start",
        "state",
        "write",
        "writes",
        "pool",
        "secrets",
        "timeout",
        "drain",
        "hold",
        "memory",
        "statsd",
        "aws",
        "live_signal",
    }
)
# Service keys that need a port, and those that nothing with a port has.
PORT_KEYS = frozenset("port public cors timeout body_limit rate_limits sockets_per_client sticky hold hand_off".split())
PORTLESS_KEYS = frozenset({"handover"})
# Service keys of what runs by a schedule, and those that need a process that stays.
SCHEDULE_KEYS = frozenset({"schedule", "overdue"})
STAYING_KEYS = frozenset({"handover", "live_signal"})


@dataclass(frozen=True)
class Hashed:
    """Files with a digest in their name. They outlive their release, since open pages still request them.

    source: their directory in the code.
    target: the path they are served under, without leading or trailing slash.
    mixed: other files may be there too. Those without a digit or a capital in their path have no digest in it.
    anywhere: the application may have them below any path, as basePath and assetPrefix of Next.js say.
    """

    source: str
    target: str
    mixed: bool = False
    anywhere: bool = False


@dataclass(frozen=True)
class Kind:
    """How services of one kind are built, started, reached, checked and switched.

    name: its name in the catalogue.
    layout: what an artifact contains, see module_utils.build.layouts: "static" (files that the front serves), "node"
    (a program with its packages) or "next" (a Next.js build). Every layout but "static" runs as a process in two slots.
    listens: "http", "websocket", or "nothing", which means neither port nor front.
    handover: what a switch moves: "requests" (new requests go to the other slot), "documents" (open sockets move too,
    document by document), or the process itself: "stop-first" (the old one ends before the new one starts) or
    "overlap", which are the catalogue's choice. "schedule" means that the next run is one of the new release.
    pages: serves pages, so its public address is an allowed origin, and its pages get the headers for pages.
    inline_scripts: its pages contain inline scripts, which take the nonce of the request, and inline styles.
    streams: streams pages, sending each part as soon as it is ready.
    port, health: the defaults; None if the catalogue must set them.
    script, script_required: the script of package.json that builds it, and whether it is required.
    output: the folder that the build writes to, relative to the source.
    standalone: its builds may omit their packages; such a build is started with `start`, any other with
    `start_with_packages`.
    node_options: put into NODE_OPTIONS before the catalogue's value.
    writable: the one folder of the code that a release may write to; each release has its own.
    hashed: see Hashed; the most usual one first.
    exported: what to write in the catalogue for a project whose build leaves files only.
    drain: seconds that a replaced release has for its last requests or, without a port, a process that is told to end.
    timeout: seconds that a response may take to begin or, of what runs by a schedule, a run.
    hold: seconds that a replaced release keeps running, so that a rollback does not have to start it.
    hand_off: who moves open sockets to the next release: "bridge" (preloaded by the collection), "application", or
    "" for nobody.
    sockets_per_client: limit of open WebSockets for one client address; None for no limit.
    unsupported: keys of a service, and of its build, that are rejected beside those that do not go with `listens`.
    environment: environment variables that every service of this kind gets.
    checks: what verification checks besides health and headers, by the names in plugin_utils.verify.derive.
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
    hashed: tuple[Hashed, ...] = ()
    exported: str = ""
    drain: int = 10
    timeout: int = TIMEOUT
    hold: int = HOLD
    hand_off: str = ""
    sockets_per_client: int | None = None
    unsupported: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[str, ...] = ()

    @property
    def process(self) -> bool:
        """Whether it runs under Node.js, in two slots behind the front; if not, the front serves its files."""
        return self.layout != "static"

    @property
    def rejected(self) -> frozenset[str]:
        """Keys of a service, and of its build, that are rejected."""
        if self.scheduled:
            return self.unsupported | (PORT_KEYS - {"timeout"}) | STAYING_KEYS
        return self.unsupported | SCHEDULE_KEYS | (PORT_KEYS if self.listens == "nothing" else PORTLESS_KEYS)

    @property
    def scheduled(self) -> bool:
        """Whether it runs by a schedule and ends by itself."""
        return self.handover == SCHEDULE

    @property
    def health_types(self) -> tuple[str, ...]:
        """The types of health checks that it can have."""
        if self.listens != "nothing":
            return ("http", "tcp")
        return ("command",) if self.scheduled else ("running", "file", "command")

    @property
    def websocket(self) -> bool:
        """Whether users connect to it by WebSocket."""
        return self.listens == "websocket"

    @property
    def scheme(self) -> str:
        """The scheme of its public address."""
        return "wss" if self.websocket else "https"
