# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Streams through the edge, through internal calls and the front: part by part, on a live nginx."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text

from tests.unit.nginx.conftest import inputs
from tests.unit.nginx.live import DOMAIN, NODE, Live, Prefix, put_certificate, start
from tests.unit.nginx.test_uploads import on_disk
from tests.unit.release.conftest import make_spec

API = f"api.{DOMAIN}"
NAME, PORT, INTERNAL = "api", 3001, 33001
EVENTS = 3
# More than the kernel and the memory of nginx hold for a client that reads nothing, and what a file may hold beyond it.
LARGE = 6 << 20
FILE = 1.1 * (1 << 20)
WAIT = 5.0

STREAMS = {
    "/events": {"Content-Type": "text/event-stream"},
    "/charset": {"Content-Type": "text/event-stream; charset=utf-8"},
    "/lines": {"Content-Type": "application/x-ndjson"},
    "/told": {"Content-Type": "text/plain", "X-Accel-Buffering": "no"},
}

# Asks by HTTP/2 and prints each part when it comes.
CLIENT = """\
const http2 = require("http2"), fs = require("fs");
const [url, name, ca, path] = process.argv.slice(1);
const session = http2.connect(url, { servername: name, ca: fs.readFileSync(ca) });
const stream = session.request({ ":authority": name, ":path": path });
stream.on("data", (part) => process.stdout.write(part));
stream.on("end", () => session.close());
"""


class Application(http.server.BaseHTTPRequestHandler):
    """Sends an event only when the one before has arrived, and a large response at once."""

    protocol_version = "HTTP/1.1"
    arrived: threading.Semaphore
    sent = threading.Event()

    def do_GET(self) -> None:
        arrived = Application.arrived = threading.Semaphore(0)
        self.send_response(200)
        if self.path.startswith("/large"):
            self.send_header(
                "Content-Type", "text/event-stream" if "stream" in self.path else "application/octet-stream"
            )
            self.send_header("Content-Length", str(LARGE))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(b"x" * LARGE)
                self.sent.set()
            return
        for name, value in STREAMS.get(self.path, {"Content-Type": "application/json"}).items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(EVENTS):
            if number and not arrived.acquire(timeout=2 * WAIT):
                self.close_connection = True
                return
            event = f"data: {number}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, nginx: str, certificate: Path) -> Iterator[Live]:
    """The edge, internal calls and the front of an API, as on a single host."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    prefix = Prefix(tmp_path_factory.mktemp("streams"), nginx=nginx)
    prefix.render(inputs(f"127.0.0.1:{prefix.port(PORT)}", {"mode": "files", "certificate": "x", "key": "y"}))
    slots = dict.fromkeys(("blue", "green"), server.server_address[1])
    prefix.write({f"fivepointers/front-{NAME}.conf": front_text(make_spec(name=NAME, port=PORT, slots=slots))})
    put_certificate(prefix.path, certificate)
    yield from start(prefix, certificate)
    server.shutdown()


def opened(platform: Live, path: str, internal: bool = False) -> tuple[socket.socket, http.client.HTTPResponse]:
    """Ask for a path by HTTP/1.1, and return the connection and the beginning of the response."""
    connection = platform.connect(API, platform.ports[INTERNAL if internal else 443], not internal)
    connection.settimeout(WAIT)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
    response = http.client.HTTPResponse(connection)
    response.begin()
    return connection, response


def read_events(lines: Any) -> list[str]:
    """Read event by event; the application sends the next one only then."""
    events = []
    for _ in range(EVENTS):
        events.append(lines.readline().decode())
        Application.arrived.release()
    return events


SENT = [f"data: {number}\n" for number in range(EVENTS)]


@pytest.mark.parametrize("internal", [False, True], ids=["edge", "internal"])
@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_passes_event_by_event(platform: Live, path: str, internal: bool) -> None:
    connection, response = opened(platform, path, internal)
    with connection:
        assert read_events(response) == SENT
        assert response.getheader("X-Accel-Buffering") is None


def test_a_stream_passes_event_by_event_over_http2(platform: Live) -> None:
    url = f"https://127.0.0.1:{platform.ports[443]}"
    command = [NODE, "-e", CLIENT, url, API, str(platform.ca_file), "/events"]
    with subprocess.Popen(command, stdout=-1) as client:
        assert client.stdout
        assert read_events(client.stdout) == SENT
        assert client.wait(WAIT) == 0
    assert platform.log('"protocol":"HTTP/2.0"')["path"] == "/events"


@pytest.mark.parametrize("internal", [False, True], ids=["edge", "internal"])
def test_a_response_for_a_slow_client_is_kept_once_and_a_stream_is_not(platform: Live, internal: bool) -> None:
    """The service is done with it, and the front has no second copy."""
    kept = {}
    for path in ("/large-stream", "/large"):
        Application.sent.clear()
        connection, _response = opened(platform, path, internal)
        with connection:
            # The service is done with the one, and waits with the other. nginx writes what it has read a moment later.
            assert Application.sent.wait(WAIT if path == "/large" else 0.5) or path == "/large-stream"
            deadline = time.monotonic() + (WAIT if path == "/large" else 0.1)
            while not (size := on_disk(platform.prefix.path, "proxy")) and time.monotonic() < deadline:
                time.sleep(0.02)
            kept[path] = size
    assert kept["/large-stream"] == 0 < kept["/large"] <= FILE
