# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Who the client is behind a CDN, for services, the log and limits, on a live nginx."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nginx.conftest import inputs
from tests.unit.nginx.live import DOMAIN, Live, Prefix, put_certificate, start

API = f"api.{DOMAIN}"
HERE, ELSEWHERE = "127.0.0.0/8", "198.51.100.0/24"
FILES = {"mode": "files", "certificate": "x", "key": "y"}
BALANCER = {"mode": "load_balancer"}
VIEWER = "203.0.113.7"
LIMIT = {"request": "POST /login", "rate": "1/m", "burst": 2}

Edge = Callable[..., Live]


@pytest.fixture(scope="module")
def edge_of(tmp_path_factory: pytest.TempPathFactory, nginx: str, certificate: Path, upstream: str) -> Iterator[Edge]:
    """Start an edge with these TLS settings, or return the one that has them."""
    running: dict[str, tuple[Any, Live]] = {}

    def edge(tls: dict[str, Any], header: str = "", trusted: tuple[str, ...] = (HERE,)) -> Live:
        settings = {**tls, "trusted": list(trusted), **({"client_header": header} if header else {})}
        if str(settings) not in running:
            prefix = Prefix(tmp_path_factory.mktemp("proxies"), nginx=nginx)
            plan = inputs(upstream, settings)
            plan["nginx_proxy_edge"]["virtual_hosts"][0]["locations"][0]["rate_limits"] = [LIMIT]
            prefix.render(plan)
            put_certificate(prefix.path, certificate)
            process = start(prefix, certificate)
            running[str(settings)] = (process, next(process))
        return running[str(settings)][1]

    yield edge
    for process, _live in running.values():
        process.close()


def client_of(edge: Live, tls: dict[str, Any], headers: dict[str, str]) -> str:
    """Return the client that the service was told of, which is the one in the log."""
    secure = tls is FILES
    answer = edge.ask(API, "/", headers={"X-Forwarded-Proto": "https", **headers}, tls=secure)
    (told,) = answer.seen("X-Real-IP")
    assert answer.seen("X-Forwarded-For") == [told]
    assert edge.log(str(answer.one("X-Request-ID")))["client"] == told
    return told


@pytest.mark.parametrize(
    ("header", "value", "client"),
    [
        ("", "", "127.0.0.1"),
        ("", VIEWER, VIEWER),
        ("CF-Connecting-IP", VIEWER, VIEWER),
        ("CF-Connecting-IP", "2001:db8::7", "2001:db8::7"),
        ("True-Client-IP", VIEWER, VIEWER),
        ("CloudFront-Viewer-Address", f"{VIEWER}:46532", VIEWER),
        ("CloudFront-Viewer-Address", "2001:db8:1:2:3:4:5:6:4653", "2001:db8:1:2:3:4:5:6"),
        ("CloudFront-Viewer-Address", "[2001:db8::7]:46532", "2001:db8::7"),
        ("CF-Connecting-IP", "nobody", "127.0.0.1"),
        ("CF-Connecting-IP", f"{VIEWER}, 203.0.113.8", "127.0.0.1"),
        ("CF-Connecting-IP", "", "127.0.0.1"),
    ],
)
def test_a_proxy_in_front_says_who_the_client_is(edge_of: Edge, header: str, value: str, client: str) -> None:
    edge = edge_of(FILES, header)
    assert client_of(edge, FILES, {header or "X-Forwarded-For": value} if value else {}) == client


@pytest.mark.parametrize("header", ["", "CF-Connecting-IP"])
def test_who_is_no_trusted_proxy_is_not_believed(edge_of: Edge, header: str) -> None:
    edge = edge_of(FILES, header, (ELSEWHERE,))
    forged = dict.fromkeys(("CF-Connecting-IP", "True-Client-IP", "X-Forwarded-For"), VIEWER)
    assert client_of(edge, FILES, forged) == "127.0.0.1"
    answer = edge.ask(API, "/", headers=forged)
    assert answer.seen("CF-Connecting-IP") == answer.seen("True-Client-IP") == []


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [(f"{VIEWER}, 198.51.100.9", "203.0.113.8"), ("203.0.113.66", "203.0.113.66"), (VIEWER, VIEWER)],
)
def test_a_load_balancer_passes_on_what_only_the_cdn_may_say(edge_of: Edge, forwarded: str, client: str) -> None:
    """Whoever asks the load balancer past the CDN is in the end of X-Forwarded-For."""
    edge = edge_of(BALANCER, "CF-Connecting-IP", (HERE, ELSEWHERE))
    headers = {"X-Forwarded-For": forwarded, "CF-Connecting-IP": "203.0.113.8"}
    assert client_of(edge, BALANCER, headers) == client


@pytest.mark.parametrize("header", ["", "CF-Connecting-IP"])
def test_five_users_behind_one_proxy_are_five_clients(edge_of: Edge, header: str) -> None:
    """Each may log in three times, and not once more."""
    edge = edge_of(FILES, header)
    name = header or "X-Forwarded-For"
    statuses = [
        edge.ask(API, "/login", "POST", headers={name: f"203.0.113.{100 + user}"}).status
        for _attempt in range(4)
        for user in range(5)
    ]
    assert statuses == [200] * 15 + [429] * 5
