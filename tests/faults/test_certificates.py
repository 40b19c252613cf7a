# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A certificate is renewed under load: no request is lost, no socket closed, and the next connection has the new one.

A reload closes kept connections that are idle. A client that was just about to use one has to send its request again
over a new one, which RFC 9112, 9.3.1 tells all of them. Here they do so once; and that each request was answered once,
and none twice, is seen in the log of the edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from sandbox import certificates
from tests.faults.front import PORT, Front
from tests.faults.load import Process, Result
from tests.unit.nginx import live

KEPT = {
    "rate": 200,
    "connections": 50,
    "post": 0.3,
    "service_ms": 4,
    "slow": 0.01,
    "slow_ms": 500,
    "resend": True,
    "seconds": 120,
}
FRESH = {"rate": 40, "connections": 20, "close": True, "seconds": 120}
RENEWALS = 5
PAUSE = 0.8
TAKEN_UP = 10.0
SOCKETS = 20
#: What certbot in standalone mode keeps port 80 for, at the very least.
AWAY = 0.5


class Seen(NamedTuple):
    """What came of it."""

    kept: Result
    fresh: Result
    #: Which certificate a new connection had, before and after each renewal.
    serials: list[str]
    #: Sockets that still answered at the end.
    sockets: int


def echo(connection: ServerConnection) -> None:
    """Send each message back."""
    with contextlib.suppress(websockets.ConnectionClosed):
        for message in connection:
            connection.send(message)


class Edge:
    """The real edge in an nginx of its own, as where it has a host of its own; as long as the context lasts."""

    def __init__(self, path: Path, **upstreams: list[str]) -> None:
        self.prefix = live.Prefix(path)
        self.tls = path / "issued"
        self.plan = live.edge_plan(**upstreams)
        self._contexts = contextlib.ExitStack()

    def __enter__(self) -> Edge:
        tls = {"mode": "files", "certificate": "x", "key": "y"}
        inputs = {"nginx_proxy_domain": live.DOMAIN, "nginx_proxy_tls": tls, "nginx_proxy_edge": self.plan}
        self.prefix.write(live.render(inputs))
        self.issue()
        main = self.prefix.path / "nginx.conf"
        main.write_text(main.read_text().replace("worker_processes 1;", "worker_processes auto;"))
        self._contexts.enter_context(contextlib.contextmanager(live.start)(self.prefix, None))
        return self

    def __exit__(self, *_error: object) -> None:
        self._contexts.close()

    @property
    def target(self) -> dict[str, str]:
        """The options of load.py that lead here."""
        port = self.prefix.port(443)
        return {"url": f"https://api.{live.DOMAIN}/", "connect_to": f"127.0.0.1:{port}", "ca": str(self.tls / "ca.pem")}

    @property
    def process(self) -> int:
        """nginx's main process."""
        return int((self.prefix.path / "nginx.pid").read_text())

    def issue(self) -> None:
        """Put a new certificate where nginx reads it at its next start or reload."""
        self.tls.mkdir(exist_ok=True)
        files = [self.tls / name for name in ("ca.pem", "edge.crt", "edge.key")]
        files[1].unlink(missing_ok=True)
        certificates.ensure(*files, [live.DOMAIN, f"*.{live.DOMAIN}"], "Test authority")
        live.put_certificate(self.prefix.path, self.tls)

    def reload(self) -> None:
        """Renew as certbot's deploy hook does, and wait until it is taken up."""
        before, deadline = self.serial(), time.monotonic() + TAKEN_UP
        os.kill(self.process, signal.SIGHUP)
        while self.serial() == before:
            assert time.monotonic() < deadline, "new connections have the old certificate"
            time.sleep(0.02)

    def stop_and_start(self) -> None:
        """Renew as certbot in standalone mode does."""
        os.kill(self.process, signal.SIGTERM)
        while (self.prefix.path / "nginx.pid").exists():
            time.sleep(0.01)
        time.sleep(AWAY)
        # A daemon now.
        argv = [live.NGINX, "-p", str(self.prefix.path), "-c", str(self.prefix.path / "nginx.conf")]
        subprocess.run(argv, check=True)
        self._contexts.callback(lambda: os.kill(self.process, signal.SIGTERM))

    def connect(self) -> tuple[socket.socket, ssl.SSLContext]:
        """Return a new connection, and what a client trusts."""
        connection = socket.create_connection(("127.0.0.1", self.prefix.port(443)), timeout=5)
        return connection, ssl.create_default_context(cafile=str(self.tls / "ca.pem"))

    def serial(self) -> str:
        """Return the certificate that a new connection has."""
        plain, context = self.connect()
        with context.wrap_socket(plain, server_hostname=live.DOMAIN) as connection:
            return str((connection.getpeercert() or {})["serialNumber"])

    def answered(self) -> int:
        """Return how many requests to the service were answered with 200, as the log says."""
        lines = map(json.loads, (self.prefix.path / "access.log").read_text().splitlines())
        return sum(line["service"] == "api" and line["status"] == 200 for line in lines)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """An edge in front of a service and of a relay."""
    with serve(echo, "127.0.0.1", 0, compression=None) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        with Front(tmp_path / "host") as front:
            front.start("blue", "release-0")
            service = f"127.0.0.1:{front.prefix.port(PORT)}"
            with Edge(tmp_path / "edge", api=[service], collab=[f"127.0.0.1:{relay.socket.getsockname()[1]}"]) as edge:
                yield edge
        relay.shutdown()


class Pages:
    """Pages with a WebSocket each, in a thread of their own, as long as the context lasts.

    Not with the library's clients for threads: they read and write one TLS connection at a time from two.
    """

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.sockets: list[ClientConnection] = []

    def __enter__(self) -> Pages:
        self.thread.start()
        self.sockets = [self._do(self._open()) for _ in range(SOCKETS)]
        return self

    def __exit__(self, *_error: object) -> None:
        for connection in self.sockets:
            self._do(connection.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def alive(self) -> int:
        """Return how many of them get a message back."""
        return sum(self._do(self._answers(connection)) for connection in self.sockets)

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(30)

    async def _open(self) -> ClientConnection:
        plain, context = self.edge.connect()
        url, origin = f"wss://ws.{live.DOMAIN}/room", websockets.Origin(f"https://{live.DOMAIN}")
        return await connect(url, sock=plain, ssl=context, origin=origin, compression=None, open_timeout=20)

    async def _answers(self, connection: ClientConnection) -> bool:
        try:
            await connection.send("still there?")
            return await asyncio.wait_for(connection.recv(), 5) == "still there?"
        except (websockets.ConnectionClosed, TimeoutError):
            return False


def measured(edge: Edge, renew: Callable[[], Any], times: int) -> Seen:
    """Renew under load."""
    with contextlib.ExitStack() as contexts:
        pages = contexts.enter_context(Pages(edge))
        kept, fresh = (
            contexts.enter_context(Process(edge.tls / f"{name}.json", **edge.target, **options))
            for name, options in (("kept", KEPT), ("fresh", FRESH))
        )
        time.sleep(0.5)
        serials = [edge.serial()]
        for _ in range(times):
            edge.issue()
            renew()
            time.sleep(PAUSE)
            serials.append(edge.serial())
        results = kept.finish(), fresh.finish()
        answering = pages.alive()
    return Seen(*results, serials, answering)


def test_a_renewal_loses_no_request_and_closes_no_socket(edge: Edge) -> None:
    seen = measured(edge, edge.reload, RENEWALS)
    assert seen.kept.figures["failures"] == {}
    assert seen.fresh.figures["failures"] == {}
    assert len(seen.kept.samples) + len(seen.fresh.samples) == edge.answered(), "each was answered, and once"
    assert seen.sockets == SOCKETS
    assert len(set(seen.serials)) == RENEWALS + 1, "each new connection has the new certificate"


def test_a_renewal_on_a_single_host_loses_no_request(tmp_path: Path) -> None:
    """Edge and front are one nginx there: a reload ends the front's connections too, those of the edge among them."""
    with Front(tmp_path, edge=True) as front:
        front.start("blue", "release-0")
        with Process(tmp_path / "kept.json", **front.target, **KEPT) as load:
            for _ in range(RENEWALS):
                time.sleep(PAUSE)
                front.reload()
            time.sleep(PAUSE)
            result = load.finish()
    assert result.figures["failures"] == {}


def test_a_certificate_that_nobody_loads_is_not_shown(edge: Edge) -> None:
    assert len(set(measured(edge, lambda: None, 1).serials)) == 1


def test_a_renewal_that_stops_nginx_loses_requests_and_sockets(edge: Edge) -> None:
    seen = measured(edge, edge.stop_and_start, 1)
    assert seen.kept.figures["failed"] > 10
    assert seen.fresh.figures["failed"] > 3
    assert seen.sockets == 0
    assert len(set(seen.serials)) == 2
