# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""One client does its worst to the edge, while ten others are served without a failure.

The edge is a real nginx with one worker, behind a load balancer, for which this test stands in: all of them call from
its address, and the limits are those of the client that it names. `make soak` keeps each attack up for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nginx import live

API = f"api.{live.DOMAIN}"
ATTACKER = "203.0.113.66"
OTHERS = [f"198.51.100.{number}" for number in range(1, 11)]
PAUSE = 0.05
#: None of the others waits longer, on a machine that does other things as well.
PATIENCE = 5.0
MEGABYTE = 1024 * 1024
#: What a response is that is worth reading slowly.
LARGE = 64 * MEGABYTE


def head(method: str, path: str, client: str = ATTACKER, **headers: str) -> bytes:
    """The head of a request as the load balancer passes it on."""
    lines = {"Host": API, "X-Forwarded-For": client, "X-Forwarded-Proto": "https", **headers}
    told = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{told}\r\n".encode("latin-1")


async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer: /large with much, /held not at all, everything else at once."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while request := await reader.readuntil(b"\r\n\r\n"):
            if length := re.search(rb"(?i)\r\ncontent-length: (\d+)", request):
                await reader.readexactly(int(length[1]))
            path = request.split(b" ", 2)[1]
            if path == b"/held":
                await reader.read()
                break
            size = LARGE if path == b"/large" else 2
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _part in range(0, size, MEGABYTE):
                writer.write(b"x" * min(size, MEGABYTE))
                await writer.drain()
    writer.close()


@dataclass
class Edge:
    """The edge, and what is seen of it during an attack."""

    live: Any
    path: Path
    loop: asyncio.AbstractEventLoop
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    #: The most bytes that temporary files had.
    disk: int = 0

    @property
    def port(self) -> int:
        return int(self.live.ports[80])

    def look(self) -> None:
        """See how large the temporary files are. nginx removes their names at once, and keeps them open."""
        master = (self.path / "nginx.pid").read_text().strip()
        size = 0
        for worker in Path(f"/proc/{master}/task/{master}/children").read_text().split():
            for file in Path(f"/proc/{worker}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if "/temp_" in str(file.readlink()):
                        size += file.stat().st_blocks * 512
        self.disk = max(self.disk, size)

    def be_one_of_the_others(self, client: str, until: float) -> None:
        """Ask again and again, each time over a new connection, as somebody who just came."""
        while time.monotonic() < until:
            begun = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
                    connection.sendall(head("GET", "/", client, Connection="close"))
                    status = connection.recv(4096).split(b" ")[1:2]
            except OSError as error:
                self.failures.append(f"{client}: {error!r}")
            else:
                self.answered += status == [b"200"]
                self.failures += [f"{client}: {status}"] if status != [b"200"] else []
            time.sleep(max(0.0, PAUSE - (time.monotonic() - begun)))

    def attack(self, attack: Attack, seconds: float) -> Any:
        """Keep an attack up for so long, and be the ten others meanwhile; returns what the attacker got."""
        ready, until = threading.Event(), time.monotonic() + 60
        stop = asyncio.Event()
        got = asyncio.run_coroutine_threadsafe(attack(self, ready, stop), self.loop)
        while not ready.wait(0.05):
            self.look()
            assert time.monotonic() < until, "the attack does not begin"
            assert not got.done(), got.exception()
        until = time.monotonic() + seconds
        others = [threading.Thread(target=self.be_one_of_the_others, args=(client, until)) for client in OTHERS]
        for other in others:
            other.start()
        while any(other.is_alive() for other in others):
            self.look()
            time.sleep(0.05)
        self.loop.call_soon_threadsafe(stop.set)
        return got.result(30)


Attack = Callable[[Edge, threading.Event, asyncio.Event], Awaitable[Any]]


async def again_and_again(
    edge: Edge, count: int, ready: threading.Event, stop: asyncio.Event, one: Callable[..., Awaitable[Any]]
) -> list[Any]:
    """Do as many at once as said, each again when it ends; ready once each has begun. Returns what they returned."""
    begun, results = 0, []

    async def repeat() -> None:
        nonlocal begun
        first = True
        while not stop.is_set():
            writer = None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=MEGABYTE)
                task = asyncio.ensure_future(one(reader, writer))
                await asyncio.sleep(0)
                begun, first = begun + first, False
                if begun >= count:
                    ready.set()
                halt = asyncio.ensure_future(stop.wait())
                await asyncio.wait([task, halt], return_when=asyncio.FIRST_COMPLETED)
                halt.cancel()
                if task.done():
                    results.append(task.result())
                task.cancel()
            except OSError:
                await asyncio.sleep(0.1)
            finally:
                if writer:
                    writer.close()

    await asyncio.gather(*(repeat() for _number in range(count)))
    return results


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Return the status of an answer, if there is one, and rest a little: this is no test of how fast TCP is."""
    status = b""
    with contextlib.suppress(OSError):
        status = (await reader.read(4096))[9:12]
    await asyncio.sleep(0.5)
    return status


async def half_sent(edge: Edge, ready: threading.Event, stop: asyncio.Event) -> list[Any]:
    """9,000 connections, each with headers that do not end."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("GET", "/")[:-4])
        with contextlib.suppress(OSError):
            await reader.read()

    return await again_and_again(edge, 9000, ready, stop, one)


async def held(edge: Edge, ready: threading.Event, stop: asyncio.Event) -> list[Any]:
    """3,000 requests that the service is slow to answer."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(head("GET", "/held"))
        return await answer(reader)

    return await again_and_again(edge, 3000, ready, stop, one)


async def slow_readers(edge: Edge, ready: threading.Event, stop: asyncio.Event) -> list[Any]:
    """Five that read large responses a little at a time."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("GET", "/large"))
        while await reader.read(4096):
            await asyncio.sleep(0.2)

    return await again_and_again(edge, 5, ready, stop, one)


async def slow_uploads(edge: Edge, ready: threading.Event, stop: asyncio.Event) -> list[Any]:
    """300 bodies as large as they may be, of which the end does not come."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(head("POST", "/", Content_Length=str(MEGABYTE)) + b"x" * (MEGABYTE * 9 // 10))
        return await answer(reader)

    return await again_and_again(edge, 300, ready, stop, one)


async def long_lines(edge: Edge, ready: threading.Event, stop: asyncio.Event) -> list[Any]:
    """Requests of which everything that is logged is as long as it may be, and takes six times as much in JSON."""
    odd = "\x01" * 15_000
    request = head("A" * 100, "/" + "%01" * 5000, User_Agent=odd, Origin=odd, Referer=odd, X_Tenant_ID="a" * 300)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(request)
        return await answer(reader)

    return await again_and_again(edge, 50, ready, stop, one)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """The edge before a service; both last as long as the test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(service, "127.0.0.1", 0, backlog=4096), loop
    ).result()
    prefix = live.Prefix(tmp_path)
    prefix.render(
        {
            "nginx_proxy_domain": live.DOMAIN,
            "nginx_proxy_tls": {"mode": "load_balancer", "trusted": ["127.0.0.0/8"]},
            "nginx_proxy_edge": live.edge_plan(api=["127.0.0.1:%d" % server.sockets[0].getsockname()[1]]),
        }
    )
    with contextlib.contextmanager(live.start)(prefix, None) as running:
        yield Edge(running, tmp_path, loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()


@pytest.fixture(params=[1.5, pytest.param(60.0, marks=pytest.mark.soak)], ids=["briefly", "for a minute"])
def seconds(request: pytest.FixtureRequest) -> float:
    """How long each attack is kept up."""
    return float(request.param)


def served(edge: Edge, seconds: float) -> None:
    """All others were, and nearly as often as they asked."""
    assert edge.failures == []
    assert edge.answered >= len(OTHERS) * seconds / PAUSE / 5


def test_half_sent_headers(edge: Edge, seconds: float) -> None:
    edge.attack(half_sent, seconds)
    served(edge, seconds)


def test_requests_that_the_service_is_slow_to_answer(edge: Edge, seconds: float) -> None:
    refused = edge.attack(held, seconds)
    served(edge, seconds)
    assert set(refused) == {b"429"}


def test_responses_that_are_read_slowly(edge: Edge, seconds: float) -> None:
    edge.attack(slow_readers, seconds)
    served(edge, seconds)
    # A megabyte each, where it was the whole of each response.
    assert 0 < edge.disk <= 6 * MEGABYTE


def test_bodies_that_do_not_end(edge: Edge, seconds: float) -> None:
    refused = edge.attack(slow_uploads, seconds)
    served(edge, seconds)
    assert b"429" in refused
    assert 0 < edge.disk <= 100 * MEGABYTE


def test_requests_that_fill_the_log(edge: Edge, seconds: float) -> None:
    edge.attack(long_lines, seconds)
    served(edge, seconds)
    lines = (edge.path / "access.log").read_bytes().split(b"\n")[:-1]
    written = [line for line in lines if b"AAAA" in line]
    assert len(written) >= 20
    assert max(len(line) for line in written) < 8192
    assert json.loads(written[0])["path"].endswith("…")
