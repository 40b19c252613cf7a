# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What each kind of service means: the one table of their defaults and limits."""

from __future__ import annotations

from typing import Any, NamedTuple


class Kind(NamedTuple):
    """How services of one kind are built, run and reached.

    process: runs under Node.js, in two slots behind the front; otherwise the front serves files.
    websocket: speaks WebSocket, so its public scheme is wss.
    browser: answers with pages, so its public address is an allowed origin.
    port, health: used where the catalogue says nothing; None means that it must say.
    hold: seconds for which a replaced release goes on running, so that a rollback takes no start. A relay may keep
    its documents in memory, where two of them would hold different ones: only a shared store makes it safe.
    hand_off: who moves open sockets to the next release: "bridge" (preloaded by the collection), "application", or
    nobody.
    sockets_per_client: open WebSockets that one client address may have, unless the catalogue says otherwise; None
    for any number. An office has one address: 300 are a hundred people with three documents each.
    foreign: keys of a service, and of its build, that mean nothing to this kind.
    """

    name: str
    process: bool
    websocket: bool
    browser: bool
    port: int | None
    health: dict[str, Any] | None
    command: str
    output: str
    start: str
    hold: int
    hand_off: str
    sockets_per_client: int | None
    foreign: frozenset[str]
    environment: dict[str, str]

    @property
    def scheme(self) -> str:
        """Scheme of the public address."""
        return "wss" if self.websocket else "https"


NO_PAGES = frozenset({"csp", "csp_report_only", "spa"})
FILES_ONLY = frozenset(
    {"start", "migrate", "migrations", "writes", "pool", "secrets", "drain", "hold", "memory", "statsd"}
)
# Long enough to see that something is wrong, and to go back without a start.
HOLD = 300

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="nestjs_api",
            process=True,
            websocket=False,
            browser=False,
            port=None,
            health=None,
            command="npm run build",
            output="dist",
            start="node dist/main.js",
            hold=HOLD,
            hand_off="",
            sockets_per_client=None,
            foreign=NO_PAGES | {"hand_off", "build.standalone"},
            environment={},
        ),
        Kind(
            name="static_frontend",
            process=False,
            websocket=False,
            browser=True,
            port=8080,
            health={"path": "/"},
            command="npm run build",
            output="dist",
            start="",
            hold=0,
            hand_off="",
            sockets_per_client=None,
            foreign=FILES_ONLY | {"hand_off", "sockets_per_client", "build.standalone"},
            environment={},
        ),
        Kind(
            name="nextjs",
            process=True,
            websocket=False,
            browser=True,
            port=None,
            health={"path": "/"},
            command="npm run build",
            output=".next",
            start="node server.js",
            hold=HOLD,
            hand_off="",
            sockets_per_client=None,
            foreign=frozenset({"spa", "hand_off"}),
            environment={"HOSTNAME": "127.0.0.1"},
        ),
        Kind(
            name="yjs_websocket",
            process=True,
            websocket=True,
            browser=False,
            port=None,
            health={"tcp": True},
            command="npm run build --if-present",
            output=".",
            start="node server.js",
            hold=0,
            hand_off="bridge",
            sockets_per_client=300,
            foreign=NO_PAGES | {"build.standalone"},
            environment={},
        ),
    )
}

# A Next.js project without standalone output keeps its node_modules and starts through the framework.
NEXTJS_SERVER_START = "node node_modules/next/dist/bin/next start --hostname 127.0.0.1"
