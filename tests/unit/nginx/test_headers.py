# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The headers that protect users are there for each kind of service, whoever answers and with whatever status."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nginx.conftest import inputs
from tests.unit.nginx.live import DOMAIN, SOCKET, Answer, Client, Prefix, put_certificate, render, start

HOSTS = {"frontend": DOMAIN, "sites": f"tenant.{DOMAIN}", "api": f"api.{DOMAIN}", "collab": f"ws.{DOMAIN}"}
PAGES = ("frontend", "sites")
STATUSES = (200, 304, 400, 401, 403, 404, 413, 429, 500, 502, 503, 504)
ALWAYS = {
    "Strict-Transport-Security": "max-age=63072000",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Cross-Origin-Resource-Policy": "same-site",
    "Vary": "Origin",
}
OF_PAGES = {
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin-allow-popups",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def check(answer: Answer, status: int) -> None:
    """What holds for every answer; `one` refuses a header that came twice."""
    assert answer.status == status
    assert {name: answer.one(name) for name in ALWAYS} == ALWAYS
    assert re.fullmatch(r"[0-9a-f]{8}-\d+-\d+\.\d{3}-\d+-\d+", answer.one("X-Request-ID") or "")


def test_ids_of_requests_do_not_come_twice(edge: Any) -> None:
    """On one connection within a millisecond, and over several connections."""
    ids = [edge.ask(HOSTS["api"], "/").one("X-Request-ID") for _number in range(30)]
    again = Client(edge.address, edge.ca_file, edge.ports)
    ids += [again.ask(HOSTS["api"], "/").one("X-Request-ID") for _number in range(30)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("service", HOSTS)
def test_answers_of_applications_carry_all_headers(edge: Any, service: str, status: int) -> None:
    answer = edge.ask(HOSTS[service], f"/status/{status}")
    check(answer, status)
    assert answer.one("Cache-Control") == (None if service in PAGES else "no-store")
    policy = None if service in PAGES and status == 304 else "frame-ancestors 'none'"
    assert answer.one("Content-Security-Policy") == policy


@pytest.mark.parametrize("status", [status for status in STATUSES if status != 304])
@pytest.mark.parametrize("service", PAGES)
def test_pages_carry_their_policy_whatever_their_status(edge: Any, service: str, status: int) -> None:
    answer = edge.ask(HOSTS[service], f"/page/status/{status}")
    check(answer, status)
    assert {name: answer.one(name) for name in OF_PAGES} == OF_PAGES
    assert (answer.one("Content-Security-Policy") or "").startswith("default-src 'self'; ")


@pytest.mark.parametrize("service", PAGES)
def test_what_did_not_change_keeps_the_policy_that_it_came_with(edge: Any, service: str) -> None:
    """A cache puts the headers of a 304 in the place of those that it keeps, and so another policy."""
    answer = edge.ask(HOSTS[service], "/page/status/304")
    check(answer, 304)
    for name in ("Content-Security-Policy", "Content-Security-Policy-Report-Only", *OF_PAGES):
        assert answer.all(name) == []


@pytest.fixture(scope="module", params=[502, 504])
def broken(request: Any, tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Any:
    """The same edge where no service answers: none listens, or each takes the request and says nothing."""
    prefix = Prefix(tmp_path_factory.mktemp("broken"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        upstream = f"127.0.0.1:{silent.getsockname()[1] if request.param == 504 else 9}"
        files = render(inputs(upstream, {"mode": "files", "certificate": "x", "key": "y"}))
        files = {path: re.sub(r"proxy_read_timeout \S+;", "", text) for path, text in files.items()}
        files["nginx.conf"] = files["nginx.conf"].replace("http {", "http {\n    proxy_read_timeout 200ms;", 1)
        prefix.write(files)
        put_certificate(prefix.path, certificate)
        for live in start(prefix, certificate):
            live.status = request.param
            yield live


def check_own(answer: Answer, service: str, status: int) -> None:
    """What holds for every answer of the edge itself."""
    check(answer, status)
    assert answer.one("Cache-Control") == "no-store"
    policy = (answer.one("Content-Security-Policy") or "").split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy)
    kind = "text/html; charset=utf-8" if service in PAGES else "application/json"
    assert answer.one("Content-Type") == kind


@pytest.mark.parametrize("service", HOSTS)
def test_the_edge_carries_all_headers_where_nobody_answers(broken: Any, service: str) -> None:
    check_own(broken.ask(HOSTS[service], "/x"), service, broken.status)


@pytest.mark.parametrize("service", HOSTS)
def test_the_edges_own_refusals_carry_all_headers(edge: Any, service: str) -> None:
    check_own(edge.ask(HOSTS[service], "/x", "POST", body=b"x" * (1024 * 1024 + 1)), service, 413)
    check_own(edge.ask(HOSTS[service], "/x", headers={**SOCKET, "Origin": "https://evil.net"}), service, 403)


@pytest.mark.parametrize("path", ["/%", "/\\..\\..", "/a/../../b", "/x HTTP/1.1\r\nBad header: x"])
@pytest.mark.parametrize("service", HOSTS)
def test_what_is_no_request_is_answered_with_the_way_to_https(edge: Any, service: str, path: str) -> None:
    edge.sockets.clear()
    answer = edge.ask(HOSTS[service], path)
    assert answer.one("Strict-Transport-Security") == ALWAYS["Strict-Transport-Security"]
    edge.sockets.clear()


STATED = {
    "Cross-Origin-Opener-Policy": "unsafe-none",
    "Cross-Origin-Embedder-Policy": "credentialless",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Permissions-Policy": 'microphone=(self), geolocation=(self "https://maps.example.com")',
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "",
}


@pytest.fixture(scope="module")
def stated(tmp_path_factory: pytest.TempPathFactory, certificate: Path, upstream: str) -> Any:
    """The same edge where one service with pages states its headers."""
    prefix = Prefix(tmp_path_factory.mktemp("stated"))
    plan = inputs(upstream, {"mode": "files", "certificate": "x", "key": "y"})
    for host in plan["nginx_proxy_edge"]["virtual_hosts"]:
        for place in host["locations"]:
            place["headers"] = STATED if place["service"] == "frontend" else {}
    prefix.render(plan)
    put_certificate(prefix.path, certificate)
    yield from start(prefix, certificate)


def test_a_service_states_headers_of_its_own(stated: Any) -> None:
    features = 'camera=(), geolocation=(self "https://maps.example.com"), microphone=(self), payment=(), usb=()'
    page = stated.ask(DOMAIN, "/page")
    sent = {**STATED, "Permissions-Policy": features, "Referrer-Policy": None}
    assert {name: page.one(name) for name in STATED} == sent
    # What belongs to pages is not sent with files, and the rest is, with hashed files too.
    everywhere = ("Cross-Origin-Embedder-Policy", "Cross-Origin-Resource-Policy")
    for path in ("/icon.png", "/assets/a.js"):
        file = stated.ask(DOMAIN, path)
        assert {name: file.one(name) for name in STATED if file.all(name)} == {
            name: STATED[name] for name in everywhere
        }


@pytest.mark.parametrize("service", ["sites", "api"])
def test_what_one_service_states_is_nothing_to_the_others(stated: Any, service: str) -> None:
    answer = stated.ask(HOSTS[service], "/page")
    assert {name: answer.one(name) for name in ALWAYS} == ALWAYS
    assert answer.all("Cross-Origin-Embedder-Policy") == []
    assert {name: answer.one(name) for name in OF_PAGES if answer.all(name)} == (OF_PAGES if service == "sites" else {})


def test_what_an_application_sends_wins_over_what_is_stated(stated: Any) -> None:
    assert stated.ask(DOMAIN, "/page/own").one("X-Frame-Options") == "SAMEORIGIN"
    assert stated.ask(DOMAIN, "/page/own").one("Referrer-Policy") == "no-referrer"
