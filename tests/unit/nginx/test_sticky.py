# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A client of a service with sticky stays with one host, and others go to the others."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nginx.conftest import inputs
from tests.unit.nginx.live import DOMAIN, NGINX, Live, Prefix, start

NAME = f"api.{DOMAIN}"


class Named(http.server.BaseHTTPRequestHandler):
    """Answers with its own port."""

    def do_GET(self) -> None:
        """Answer."""
        body = str(self.server.server_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(params=["cookie", "address", None])
def sticky(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str | None, Live]]:
    """An edge in front of three hosts of a service."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Named) for _ in range(3)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    prefix = Prefix(tmp_path, nginx=NGINX)
    plan = inputs("127.0.0.1:9", {"mode": "load_balancer", "trusted": ["127.0.0.0/8"]})
    plan["nginx_proxy_edge"]["upstreams"]["api"] = [f"127.0.0.1:{server.server_address[1]}" for server in servers]
    for host in plan["nginx_proxy_edge"]["virtual_hosts"]:
        for location in host["locations"]:
            location["sticky"] = request.param if location["service"] == "api" else None
    prefix.render(plan)
    for live in start(prefix, None):
        yield request.param, live
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(live: Live, client: str, cookie: str = "") -> Any:
    headers = {"X-Forwarded-For": client, "X-Forwarded-Proto": "https"} | ({"Cookie": cookie} if cookie else {})
    return live.ask(NAME, headers=headers, tls=False)


def test_a_client_stays_with_one_host(sticky: tuple[str | None, Live]) -> None:
    how, live = sticky
    reached = set()
    for number in range(20):
        client = f"203.0.113.{number}"
        first = ask(live, client)
        stated = first.one("Set-Cookie")
        assert (stated is not None) is (how == "cookie")
        cookie = stated.split(";")[0] if stated else ""
        if stated:
            assert stated.endswith("; Path=/; HttpOnly; Secure; SameSite=None")
        again = [ask(live, client, cookie) for _ in range(4)]
        assert not [answer for answer in again if how and answer.body != first.body]
        assert not [answer for answer in again if answer.all("Set-Cookie")]
        reached |= {answer.body for answer in (first, *again)}
    assert len(reached) == 3


def test_a_cookie_that_is_not_ours_is_replaced(sticky: tuple[str | None, Live]) -> None:
    how, live = sticky
    answer = ask(live, "203.0.113.7", "fp_host=/../x")
    assert (answer.one("Set-Cookie") is not None) is (how == "cookie")
