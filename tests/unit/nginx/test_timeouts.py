# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""How long a request may take at the edge, in internal calls and at the front, on a live nginx."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text

from tests.unit.nginx.conftest import inputs
from tests.unit.nginx.live import DOMAIN, Live, Prefix, put_certificate, start
from tests.unit.release.conftest import make_spec

API = f"api.{DOMAIN}"
TIMEOUT = 1
# The front of a service on this very host, and where processes call a service.
FRONT, INTERNAL = 3001, 33001
CALLERS = ["edge", "internal"]


class Slow(http.server.BaseHTTPRequestHandler):
    """Answers after as many seconds as the path says, and counts."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []

    def answer(self) -> None:
        self.asked.append(self.path)
        time.sleep(float(self.path.rpartition("/")[2]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def slow() -> Iterator[int]:
    """The port of a slow service."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """The address of a host that lets no connection be made, as one without power: its queue is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield f"127.0.0.2:{full.getsockname()[1]}"
        for one in waiting:
            one.close()


def platform(path: Path, nginx: str, certificate: Path, servers: list[str], slot: int) -> Iterator[Live]:
    """The edge and internal calls of a service on two hosts, and the front of one on this host."""
    prefix = Prefix(path, nginx=nginx)
    plan = inputs(servers[0], {"mode": "files", "certificate": "x", "key": "y"})
    (host,) = [host for host in plan["nginx_proxy_edge"]["virtual_hosts"] if host["server_name"] == API]
    host["locations"][0]["timeout"] = plan["nginx_internal"][0]["timeout"] = TIMEOUT
    plan["nginx_proxy_edge"]["upstreams"]["api"] = plan["nginx_internal"][0]["servers"] = servers
    prefix.render(plan)
    spec = make_spec(name="orders", port=FRONT, timeout=TIMEOUT, slots=dict.fromkeys(("blue", "green"), slot))
    prefix.write({"fivepointers/front-orders.conf": front_text(spec)})
    put_certificate(prefix.path, certificate)
    yield from start(prefix, certificate)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, nginx: str, certificate: Path, slow: int) -> Iterator[Live]:
    """A service on two hosts."""
    yield from platform(tmp_path_factory.mktemp("twice"), nginx, certificate, 2 * [f"127.0.0.1:{slow}"], slow)


@pytest.fixture
def half(tmp_path: Path, nginx: str, certificate: Path, slow: int, silent: str) -> Iterator[Live]:
    """A service on two hosts, of which one has lost power."""
    yield from platform(tmp_path, nginx, certificate, [silent, f"127.0.0.1:{slow}"], slow)


def ask(live: Live, caller: str, path: str, method: str = "GET") -> tuple[int, float]:
    """Return the status and the seconds that it took."""
    begun = time.monotonic()
    port = {"edge": 443, "internal": INTERNAL, "front": FRONT}[caller]
    answer = live.ask(API, path, method, tls=caller == "edge", port=port)
    return answer.status, time.monotonic() - begun


@pytest.mark.parametrize("caller", [*CALLERS, "front"])
def test_a_request_may_take_as_long_as_the_catalogue_says_and_is_sent_once(twice: Live, caller: str) -> None:
    Slow.asked.clear()
    status, seconds = ask(twice, caller, f"/{caller}/3")
    assert (status, Slow.asked) == (504, [f"/{caller}/3"])
    assert TIMEOUT <= seconds < 2 * TIMEOUT
    assert ask(twice, caller, f"/{caller}/0.5")[0] == 200


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_host_to_which_no_connection_is_made_is_passed_over(half: Live, caller: str, method: str) -> None:
    """Nothing of the request was sent."""
    for number in range(2):
        assert ask(half, caller, f"/{method}/{number}/0", method)[0] == 200
    passed = [half.log(f"/{method}/{number}/0")["upstream_status"] for number in range(2)]
    assert sorted(passed) == ["200", "504, 200"]
