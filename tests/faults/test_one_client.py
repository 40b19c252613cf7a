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
import multiprocessing
import re
import socket
import threading
import time
from collections import Counter
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
#: Opening connections takes most of the time: the brief form has an eighth of them, and so has the edge.
BRIEFLY = 0.4
FEWER = 8
SMALL = {"nginx_worker_connections": 16384 // FEWER, "nginx_proxy_connections_per_client": 1000 // FEWER}
#: What a response is that is worth reading slowly.
LARGE = 64 * MEGABYTE


Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]
#: Started before there are threads, which a fork would not copy.
PROCESSES = multiprocessing.get_context("fork")


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

    def attack(self, attack: Attack, count: int, seconds: float) -> Counter[bytes]:
        """Keep so many connections of an attack up for so long, and be the ten others meanwhile.

        Returns how often the attacker got which answer.
        """
        ready, stop = PROCESSES.Event(), PROCESSES.Event()
        told, tells = PROCESSES.Pipe(duplex=False)
        what = (attack, count, self.port, ready, stop, tells)
        attacker = PROCESSES.Process(target=be_the_attacker, args=what, daemon=True)
        attacker.start()
        until = time.monotonic() + 60
        while not ready.wait(0.05):
            self.look()
            assert attacker.is_alive() and time.monotonic() < until, "the attack does not begin"
        until = time.monotonic() + seconds
        others = [threading.Thread(target=self.be_one_of_the_others, args=(client, until)) for client in OTHERS]
        for other in others:
            other.start()
        while any(other.is_alive() for other in others):
            self.look()
            time.sleep(0.05)
        stop.set()
        got: Counter[bytes] = told.recv()
        attacker.join()
        return got


def be_the_attacker(attack: Attack, count: int, port: int, ready: Any, stop: Any, tells: Any) -> None:
    """Attack in this process until told to stop, each connection again when it ends, and tell which answers came."""
    begun, answers = 0, Counter[bytes]()

    async def repeat() -> None:
        nonlocal begun
        first = True
        while True:
            writer = None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MEGABYTE)
                begun, first = begun + first, False
                if begun == count:
                    ready.set()
                answers[await attack(reader, writer)] += 1
                # This is no test of how fast TCP is.
                await asyncio.sleep(0.5)
            except OSError:
                await asyncio.sleep(0.1)
            finally:
                if writer:
                    writer.close()

    async def run() -> None:
        tasks = [asyncio.ensure_future(repeat()) for _number in range(count)]
        while not stop.is_set():
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    tells.send(answers)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Return the status of an answer, if there is one."""
    with contextlib.suppress(OSError):
        return (await reader.read(4096))[9:12]
    return b""


async def half_sent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Connections, each with headers that do not end."""
    writer.write(head("GET", "/")[:-4])
    return await answer(reader)


async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Requests that the service is slow to answer."""
    writer.write(head("GET", "/held"))
    return await answer(reader)


async def slow_readers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Read large responses a little at a time."""
    writer.write(head("GET", "/large"))
    while await reader.read(4096):
        await asyncio.sleep(0.2)
    return b""


async def slow_uploads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Bodies as large as they may be, of which the end does not come."""
    writer.write(head("POST", "/", Content_Length=str(MEGABYTE)) + b"x" * (MEGABYTE * 9 // 10))
    return await answer(reader)


async def long_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Requests of which everything that is logged is as long as it may be, and takes six times as much in JSON."""
    odd = "\x01" * 15_000
    writer.write(head("A" * 100, "/" + "%01" * 5000, User_Agent=odd, Origin=odd, Referer=odd, X_Tenant_ID="a" * 300))
    return await answer(reader)


def serve(listener: socket.socket) -> None:
    """Be the service."""

    async def run() -> None:
        await (await asyncio.start_server(service, sock=listener, backlog=4096)).serve_forever()

    asyncio.run(run())


@pytest.fixture(params=[BRIEFLY, pytest.param(60.0, marks=pytest.mark.soak)], ids=["briefly", "for a minute"])
def seconds(request: pytest.FixtureRequest) -> float:
    """How long each attack is kept up."""
    return float(request.param)


@pytest.fixture
def edge(tmp_path: Path, seconds: float) -> Iterator[Edge]:
    """The edge before a service; both last as long as the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        process = PROCESSES.Process(target=serve, args=(listener,), daemon=True)
        process.start()
    prefix = live.Prefix(tmp_path)
    prefix.render(
        {
            "nginx_proxy_domain": live.DOMAIN,
            "nginx_proxy_tls": {"mode": "load_balancer", "trusted": ["127.0.0.0/8"]},
            "nginx_proxy_edge": live.edge_plan(api=[upstream]),
            **({} if seconds > BRIEFLY else SMALL),
        }
    )
    with contextlib.contextmanager(live.start)(prefix, None) as running:
        yield Edge(running, tmp_path)
    process.terminate()
    process.join()


def served(edge: Edge, seconds: float) -> None:
    """All others were, and in a minute nearly as often as they asked."""
    assert edge.failures == []
    assert edge.answered >= len(OTHERS) * (seconds / PAUSE / 5 if seconds > BRIEFLY else 1)


def test_half_sent_headers(edge: Edge, seconds: float) -> None:
    edge.attack(half_sent, 9000 if seconds > BRIEFLY else 9000 // FEWER, seconds)
    served(edge, seconds)


def test_requests_that_the_service_is_slow_to_answer(edge: Edge, seconds: float) -> None:
    count = 3000 if seconds > BRIEFLY else 3000 // FEWER
    refused = edge.attack(held, count, seconds)
    served(edge, seconds)
    # Those that were let in wait for a minute, in vain.
    assert refused[b"429"] > count // 3 and set(refused) <= {b"429", b"504"}


def test_responses_that_are_read_slowly(edge: Edge, seconds: float) -> None:
    edge.attack(slow_readers, 5, seconds)
    served(edge, seconds)
    # A megabyte each, where it was the whole of each response.
    assert 0 < edge.disk <= 6 * MEGABYTE


def test_bodies_that_do_not_end(edge: Edge, seconds: float) -> None:
    refused = edge.attack(slow_uploads, 300 if seconds > BRIEFLY else 120, seconds)
    served(edge, seconds)
    assert b"429" in refused
    assert 0 < edge.disk <= 100 * MEGABYTE


def test_requests_that_fill_the_log(edge: Edge, seconds: float) -> None:
    edge.attack(long_lines, 50, seconds)
    served(edge, seconds)
    lines = (edge.path / "access.log").read_bytes().split(b"\n")[:-1]
    written = [line for line in lines if b"AAAA" in line]
    assert len(written) >= 20
    assert max(len(line) for line in written) < 8192
    assert json.loads(written[0])["path"].endswith("…")
