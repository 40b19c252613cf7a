# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Send requests at a steady rate and say what became of each one. Nothing is retried unless --resend says so.

    python tests/faults/load.py --url https://api.sandbox.test/api/health --connect-to ADDRESS --ca FILE --seconds 20

The schedule does not wait for answers, and latency counts from the instant at which a request was due: a service that
stalls delays all requests of that time, not one for each connection. SIGTERM or SIGINT end it early, with its report.
The exit status is 1 if a request failed, and 3 if the generator itself fell behind its schedule, when its latencies
mean nothing. Times are those of time.monotonic(), which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import gc
import hashlib
import itertools
import json
import math
import os
import random
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# Longer than any request here should take, unless it is told otherwise.
PATIENCE = 10.0
BODY_SIZE = 2048
BODIES = 64
#: The generator kept up if it was hardly ever this late, in seconds: most of the time, and at worst;
BEHIND_P99, BEHIND_WORST = 0.025, 0.15
#: and if this share of its time was enough for its work.
BUSY = 0.8


class Sample(NamedTuple):
    """One request. Times in seconds; `asked` is the service time that it asked for."""

    due: float
    sent: float
    ended: float
    asked: float
    method: str
    status: int
    release: str
    error: str

    @property
    def latency(self) -> float:
        """What it took beyond the service time, from the instant at which it was due."""
        return self.ended - self.due - self.asked


@dataclass
class Target:
    """Where requests go, and what they are like."""

    url: str
    connect_to: str = ""
    ca: str = ""
    post: float = 0.0
    slow: float = 0.0
    service_ms: int = 0
    slow_ms: int = 400
    status: Sequence[int] = (200,)
    close: bool = False
    resend: bool = False
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        self.host = parts.hostname or ""
        self.tls = ssl.create_default_context(cafile=self.ca or None) if parts.scheme == "https" else None
        address, _, port = self.connect_to.partition(":")
        self.address = address or self.host
        self.port = int(port or parts.port or (443 if self.tls else 80))
        path = parts.path or "/"
        self.path = f"{path}?{parts.query}" if parts.query else path
        self.authority = parts.netloc.rpartition("@")[2]
        # The same requests in each run.
        self.random = random.Random(1)
        bodies = [self.random.randbytes(BODY_SIZE) for _ in range(BODIES)]
        self.bodies = [(body, hashlib.sha256(body).hexdigest().encode()) for body in bodies]

    def request(self) -> Request:
        """Return the next request."""
        body, checksum = self.random.choice(self.bodies) if self.random.random() < self.post else (b"", b"")
        milliseconds = self.slow_ms if self.random.random() < self.slow else self.service_ms
        method = "POST" if body else "GET"
        lines = [f"{method} {self.path} HTTP/1.1", f"Host: {self.authority}", "Accept: */*"]
        if self.close:
            lines.append("Connection: close")
        if milliseconds:
            lines.append(f"X-Service-Time: {milliseconds}")
        if body:
            lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
        return Request(method, milliseconds / 1000, ("\r\n".join(lines) + "\r\n\r\n").encode() + body, checksum)


class Request(NamedTuple):
    """What is sent, and the checksum that an application which tells one must tell."""

    method: str
    asked: float
    data: bytes
    checksum: bytes


# --- one connection -----------------------------------------------------------


class FailedError(Exception):
    """A request without a complete answer; the message is the kind."""


class Connection(asyncio.Protocol):
    """A connection that is kept open, with one request at a time on it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future[tuple[int, dict[bytes, bytes]]] | None = None
        self.buffer = b""
        self.head: tuple[int, dict[bytes, bytes]] | None = None
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write to."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that was under way."""
        self.transport = None
        if self.waiter and not self.waiter.done():
            if self.head and not self.head[1].keys() & {b"content-length", b"transfer-encoding"}:
                self.waiter.set_result(self.head)
            else:
                self.waiter.set_exception(FailedError("reset" if isinstance(exc, OSError) else "closed"))

    def data_received(self, data: bytes) -> None:
        """Look for the end of the answer."""
        self.buffer += data
        if not self.waiter or self.waiter.done():
            self.close()
            return
        if self.head is None:
            text, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            first, *lines = text.split(b"\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
            if first.startswith(b"HTTP/1.0"):
                headers.setdefault(b"connection", b"close")
            self.head, self.buffer = (int(first.split(b" ", 2)[1]), headers), rest
        if complete(self.head, self.buffer):
            if self.head[1].get(b"connection", b"").lower() == b"close":
                self.close()
            self.answers += 1
            self.waiter.set_result(self.head)

    @property
    def was_closed_idle(self) -> bool:
        """Whether it had served before, and ended without a byte of the answer that was awaited."""
        return self.answers > 0 and self.head is None and not self.buffer

    async def ask(self, data: bytes) -> tuple[int, dict[bytes, bytes]]:
        """Send a request and return status and headers of the answer."""
        assert self.transport
        self.buffer, self.head = b"", None
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return await self.waiter

    def close(self) -> None:
        """End it."""
        if self.transport:
            self.transport.abort()
            self.transport = None


def complete(head: tuple[int, dict[bytes, bytes]], body: bytes) -> bool:
    """Tell whether the body of an answer is all there."""
    status, headers = head
    if b"content-length" in headers:
        return len(body) >= int(headers[b"content-length"])
    if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
        return status in (204, 304)
    at = 0
    while (end := body.find(b"\r\n", at)) > 0:
        size = int(body[at:end].partition(b";")[0], 16)
        at = end + 2 + size + 2
        if size == 0:
            return len(body) >= at
    return False


# --- the generator ------------------------------------------------------------


class Load:
    """Requests at a rate over a number of connections."""

    def __init__(self, target: Target, rate: float, connections: int) -> None:
        self.target = target
        self.rate = rate
        self.connections = connections
        self.samples: list[Sample] = []
        #: How late the generator itself was with each request.
        self.behind: list[float] = []
        #: The share of the time for which it was at work.
        self.busy = 0.0
        #: Requests that were sent once more, because their kept connection had been closed meanwhile.
        self.resent = 0
        self.stopping = asyncio.Event()
        self.queue: asyncio.Queue[tuple[float, Request] | None] = asyncio.Queue()

    async def run(self, seconds: float) -> None:
        """Send until the time is over or it is stopped, and wait for the answers."""
        opened = await asyncio.gather(*(self._open() for _ in range(self.connections)))
        print(f"load: {self.rate:g} requests/s over {self.connections} connections to {self.target.url}", flush=True)
        # Collecting would stall all connections at once, and little is left to collect.
        gc.collect()
        gc.disable()
        workers = [asyncio.create_task(self._work(connection)) for connection in opened]
        worked, began = time.process_time(), time.monotonic()
        await self._schedule(seconds)
        for _ in workers:
            self.queue.put_nowait(None)
        done, pending = await asyncio.wait(workers, timeout=2 * self.target.patience)
        self.busy = (time.process_time() - worked) / (time.monotonic() - began)
        for worker in pending:
            worker.cancel()
        for worker in done:
            worker.result()
        now = asyncio.get_running_loop().time()
        while not self.queue.empty():
            if job := self.queue.get_nowait():
                due, request = job
                self.samples.append(Sample(due, now, now, request.asked, request.method, 0, "", "unsent"))

    async def _schedule(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in itertools.count():
            due = start + number / self.rate
            if due > start + seconds or self.stopping.is_set():
                return
            request = self.target.request()
            delay = due - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            self.behind.append(loop.time() - due)
            self.queue.put_nowait((due, request))

    async def _open(self) -> Connection:
        target = self.target
        _transport, connection = await asyncio.get_running_loop().create_connection(
            Connection, target.address, target.port, ssl=target.tls, server_hostname=target.host if target.tls else None
        )
        return connection

    async def _work(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while job := await self.queue.get():
            due, request = job
            sent = loop.time()
            status, release, error = 0, "", ""
            try:
                async with asyncio.timeout(self.target.patience):
                    if connection.transport is None or connection.transport.is_closing():
                        connection = await self._open()
                        sent = loop.time()
                    try:
                        status, headers = await connection.ask(request.data)
                    except FailedError:
                        if not (self.target.resend and connection.was_closed_idle):
                            raise
                        self.resent += 1
                        connection = await self._open()
                        status, headers = await connection.ask(request.data)
                release = headers.get(b"x-release", b"").decode()
                if status not in self.target.status:
                    error = f"status {status}"
                elif request.checksum and headers.get(b"x-body-sha256", request.checksum) != request.checksum:
                    error = "corrupt"
            except FailedError as failed:
                error = str(failed)
            except TimeoutError:
                error = "timeout"
            except ConnectionRefusedError:
                error = "refused"
            except (OSError, ssl.SSLError, ValueError) as failed:
                error = type(failed).__name__
            if error and not status:
                connection.close()
            self.samples.append(Sample(due, sent, loop.time(), request.asked, request.method, status, release, error))


# --- what it came to ----------------------------------------------------------


class Switch(NamedTuple):
    """A switch: when it was begun and when it was done, and from which release to which."""

    begun: float
    done: float
    old: str
    new: str


def late_answers(samples: Sequence[Sample], switches: Iterable[Switch], grace: float = 0.05) -> int:
    """Return how many requests that were sent later than a switch, and some grace, the old release answered."""
    return sum(
        sample.release == switch.old and sample.sent > switch.done + grace for switch in switches for sample in samples
    )


def first_answer(samples: Sequence[Sample], switch: Switch) -> float:
    """Return after how many seconds the new release had answered a request."""
    return min((sample.ended for sample in samples if sample.release == switch.new), default=math.inf) - switch.begun


def share(values: Sequence[float], part: float) -> float:
    """Return the value below which a part of sorted values lies."""
    return values[min(len(values) - 1, int(len(values) * part))]


def report(samples: Sequence[Sample], behind: Sequence[float], busy: float, resent: int = 0) -> dict[str, Any]:
    """Return the figures. Latencies are milliseconds beyond the service time that was asked for."""
    latencies = sorted(sample.latency for sample in samples)
    first, last = min(sample.due for sample in samples), max(sample.due for sample in samples)
    answered = sorted(sample.ended for sample in samples if not sample.error and sample.ended < last)
    stalls = [later - earlier for earlier, later in itertools.pairwise([first, *answered, last])]
    late = sorted(behind)
    failures = collections.Counter(sample.error for sample in samples if sample.error)
    releases: dict[str, int] = collections.Counter(sample.release for sample in samples if sample.release)
    return {
        "requests": len(samples),
        "failed": failures.total(),
        "failures": dict(failures),
        "resent": resent,
        "per_second": round((len(samples) - 1) / (last - first), 1) if last > first else 0.0,
        "p50_ms": round(share(latencies, 0.5) * 1000, 1),
        "p99_ms": round(share(latencies, 0.99) * 1000, 1),
        "worst_ms": round(latencies[-1] * 1000, 1),
        "longest_stall_ms": round(max(stalls) * 1000, 1),
        "generator_behind_p99_ms": round(share(late, 0.99) * 1000, 1),
        "generator_behind_worst_ms": round(late[-1] * 1000, 1),
        "generator_busy": round(busy, 2),
        "kept_up": share(late, 0.99) <= BEHIND_P99 and late[-1] <= BEHIND_WORST and busy <= BUSY,
        "releases": dict(releases),
    }


class Result(NamedTuple):
    """A run: its figures and each request."""

    figures: dict[str, Any]
    samples: list[Sample]


class Process:
    """A load as a process of its own, so that who switches does not disturb who measures."""

    def __init__(self, out: Path, **options: str | float) -> None:
        self.out = out
        argv = [sys.executable, __file__, f"--json={out}"]
        argv += [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in options.items()
        ]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        # It says so when its connections are open.
        self.started = self.process.stdout.readline()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def finish(self, timeout: float = 3 * PATIENCE) -> Result:
        """End it, which must not have ended by itself, and return what it measured."""
        assert self.process.poll() is None, "the load ended before what it was to measure"
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout)
        written = json.loads(self.out.read_text())
        return Result(written["figures"], [Sample(*sample) for sample in written["samples"]])


async def run(options: argparse.Namespace) -> Load:
    """Run as the options say."""
    target = Target(
        options.url,
        options.connect_to,
        options.ca,
        options.post,
        options.slow,
        options.service_ms,
        options.slow_ms,
        options.status,
        options.close,
        options.resend,
        options.patience,
    )
    load = Load(target, options.rate, options.connections)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, load.stopping.set)
    await load.run(options.seconds)
    return load


def main() -> int:
    """Send, print the figures, and write each request to a file if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--connect-to", default="", metavar="ADDRESS[:PORT]", help="instead of what the name says")
    parser.add_argument("--ca", default="", metavar="FILE", help="certificates to trust, PEM")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=800, help="requests per second")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--status", type=int, nargs="+", default=[200], help="what is no failure")
    parser.add_argument("--post", type=float, default=0, metavar="SHARE", help="share of requests with a body")
    parser.add_argument("--service-ms", type=int, default=0, help="ask for this duration, by X-Service-Time")
    parser.add_argument("--slow", type=float, default=0, metavar="SHARE", help="share that asks for --slow-ms instead")
    parser.add_argument("--slow-ms", type=int, default=400)
    parser.add_argument("--close", action="store_true", help="send each request over a connection of its own")
    parser.add_argument(
        "--resend",
        action="store_true",
        help="send a request once more where its kept connection was closed before any answer, as HTTP has clients do",
    )
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds after which an answer is given up")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures and each request there")
    options = parser.parse_args()
    # Measuring waits for nobody, where that is allowed. It takes a fifth of a processor.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    try:
        load = asyncio.run(run(options))
    except OSError as error:
        print(f"load: {options.url} cannot be reached: {error}", file=sys.stderr)
        return 1
    figures = report(load.samples, load.behind, load.busy, load.resent)
    for name, value in figures.items():
        print(f"{name:26} {value}")
    if not figures["kept_up"]:
        print("load: fell behind its own schedule: these latencies say nothing about the service")
    if options.json:
        options.json.write_text(json.dumps({"figures": figures, "samples": load.samples}))
    return 1 if figures["failed"] else 0 if figures["kept_up"] else 3


if __name__ == "__main__":
    sys.exit(main())
