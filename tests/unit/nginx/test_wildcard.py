# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Whoever has a tenant's name, or claims one, cannot reach, cache or spoof another service with it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.nginx.live import DOMAIN

TENANT, API = f"tenant.{DOMAIN}", f"api.{DOMAIN}"
SMUGGLED = f"GET /smuggled HTTP/1.1\r\nHost: {API}\r\n\r\n"
# Headers by which frameworks let somebody else say what the host, the path or the scheme is.
OVERRIDES = [
    "X-Forwarded-Host",
    "X-Forwarded-Server",
    "X-Forwarded-Scheme",
    "X-HTTP-Host-Override",
    "X-Host",
    "X-Original-Host",
    "X-Original-URL",
    "X-Rewrite-URL",
    "Forwarded",
    "X_Forwarded_Host",
    "X_Host",
]


def get(*headers: str, path: str = "/{mark}", host: str = TENANT) -> str:
    """A request for a name, with more headers."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""])


def post(*headers: str, body: str) -> str:
    """A request with a body, whose length the headers say."""
    return "\r\n".join(["POST /{mark} HTTP/1.1", f"Host: {TENANT}", *headers, "", body])


# What is sent in a connection that was opened for the tenant's name. It reaches the service of that name and no other.
ANSWERED: dict[str, tuple[str, str]] = {
    # A service's own name is never the tenants', however it is written.
    "a service's name": (get(host=API), "api"),
    "its name in upper case": (get(host=API.upper()), "api"),
    "its name with a final dot": (get(host=f"{API}."), "api"),
    "its name with a port": (get(host=f"{API}:443"), "api"),
    "its name with its own port": (get(host=f"{API}:3001"), "api"),
    "a tenant with a service's port": (get(host=f"{TENANT}:3001"), "sites"),
    "an address of a service, the tenant as host": (get(path=f"https://{API}/{{mark}}"), "api"),
    "an address of a tenant, a service as host": (get(path=f"https://{TENANT}/{{mark}}", host=API), "sites"),
    "a way up": (get(path="/a/../{mark}"), "sites"),
    **{f"{name} says a service": (get(f"{name}: {API}"), "sites") for name in OVERRIDES},
    "it says so twice": (get(f"X-Forwarded-Host: {API}", f"X-Forwarded-Host: {API}"), "sites"),
    "it says so next to the truth": (get(f"X-Forwarded-Host: {TENANT}, {API}"), "sites"),
    "headers are declared to be of this hop": (get("Connection: Host, X-Forwarded-Host, X-Real-IP"), "sites"),
    "another protocol is asked for": (get("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"), "sites"),
    "a request in the body of a GET": (get(f"Content-Length: {len(SMUGGLED)}") + SMUGGLED, "sites"),
    "a request in the body": (post(f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED), "sites"),
    "a request in a chunk": (
        post("Transfer-Encoding: chunked", body=f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        "sites",
    ),
    "a host in the trailer": (post("Transfer-Encoding: chunked", body=f"0\r\nHost: {API}\r\n\r\n"), "sites"),
}
# What two servers could read differently, or what no name of ours is.
REFUSED: dict[str, str] = {
    "a service below the tenant": get(host=f"api.{TENANT}"),
    "a tenant below the service": get(host=f"tenant.{API}"),
    "the wildcard itself": get(host=f"*.{DOMAIN}"),
    "an empty label": get(host=f".{DOMAIN}"),
    "an underscore": get(host=f"api_.{DOMAIN}"),
    "a label that is too long": get(host=f"{'a' * 64}.{DOMAIN}"),
    "an encoded dot": get(host=f"api%2e{DOMAIN}"),
    "an encoded null": get(host=f"api%00.{DOMAIN}"),
    "a null": get(host=f"api\0.{DOMAIN}"),
    "the tenant as a user name": get(host=f"{TENANT}@{API}"),
    "a fragment": get(host=f"{API}#.{DOMAIN}"),
    "a path": get(host=f"{TENANT}/{API}"),
    "two names": get(host=f"{TENANT}, {API}"),
    "two names with a space": get(host=f"{TENANT} {API}"),
    "two hosts": get(f"Host: {API}"),
    "two hosts, the same twice": get(f"Host: {TENANT}"),
    "two hosts, in other case": get(f"hOST: {API}"),
    "a space after the name": get(f"Host : {API}"),
    "a host that goes on in the next line": get(f" {API}"),
    "no host": "GET /{mark} HTTP/1.1\r\n\r\n",
    "no host, as of old": "GET /{mark} HTTP/1.0\r\n\r\n",
    "an address elsewhere": get(path="https://evil.net/{mark}"),
    "an address with the tenant as user name": get(path=f"https://{TENANT}@{API}/{{mark}}"),
    "a service's name as the path": get(path=f"//{API}/{{mark}}"),
    "a way up and out": get(path="/a/../../{mark}"),
    "a path without a slash": get(path=f"@{API}/{{mark}}"),
    "a tunnel": get(path=f"{API}:443").replace("GET", "CONNECT"),
    "an echo": get().replace("GET", "TRACE"),
    "two ends, chunks and length": post("Transfer-Encoding: chunked", "Content-Length: 4", body=f"0\r\n\r\n{SMUGGLED}"),
    "two ends, length and chunks": post("Content-Length: 4", "Transfer-Encoding: chunked", body=f"0\r\n\r\n{SMUGGLED}"),
    "two lengths": post("Content-Length: 0", f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED),
    "a list of lengths": post("Content-Length: 0, 4", body="abcd"),
    "a length with a sign": post("Content-Length: +4", body="abcd"),
    "chunks under a half name": post("Transfer-Encoding: xchunked", body=f"0\r\n\r\n{SMUGGLED}"),
    "chunks twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=f"0\r\n\r\n{SMUGGLED}"),
    "chunks and more": post("Transfer-Encoding: chunked, identity", body=f"0\r\n\r\n{SMUGGLED}"),
    "chunks with a space before the colon": post("Transfer-Encoding : chunked", body=f"0\r\n\r\n{SMUGGLED}"),
    "a chunk without a size": post("Transfer-Encoding: chunked", body=f"x\r\n{SMUGGLED}\r\n0\r\n\r\n"),
}
# Statuses that no cache keeps unless it is told to (RFC 9110), so that no error stands in for a page. The others of
# these are kept for GET alone, which is not answered with them.
UNCACHED, OTHER_METHODS = {400, 421}, {405, 501}


def send(edge: Any, request: str) -> tuple[Any, str]:
    """Send a request in a new connection for the tenant; returns the answer and the mark that its path bears."""
    edge.sockets.clear()
    mark = f"mark-{abs(hash(request))}"
    return edge.raw(request.replace("{mark}", mark).encode(), name=TENANT), mark


def nothing_is_left(edge: Any) -> None:
    """The next request of the connection, and of any connection to the services, gets its own answer."""
    for host in (TENANT, API):
        answer = edge.ask(host, "/next")
        assert (answer.status, answer.json["path"], answer.seen("Host")) == (200, "/next", [host])


def test_the_table_is_as_large_as_it_claims() -> None:
    assert len(ANSWERED) + len(REFUSED) >= 60


@pytest.mark.parametrize("what", ANSWERED)
def test_a_request_reaches_the_service_of_its_name_and_no_other(edge: Any, what: str) -> None:
    request, service = ANSWERED[what]
    answer, mark = send(edge, request)
    name = {"api": API, "sites": TENANT}[service]
    assert answer.status == 200
    assert edge.log(mark)["service"] == service
    assert answer.json["path"].endswith(mark)
    assert answer.seen("Host") == answer.seen("X-Forwarded-Host") == [name]
    assert answer.seen("X-Forwarded-Proto") == ["https"] and answer.seen("X-Real-IP") == ["127.0.0.1"]
    told = [value for key, value in answer.json["headers"] if key not in ("Host", "X-Forwarded-Host")]
    assert not any(API in value for value in told), told
    nothing_is_left(edge)


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_could_be_read_in_two_ways_is_refused(edge: Any, what: str) -> None:
    answer, _mark = send(edge, REFUSED[what])
    assert answer.status in (UNCACHED if REFUSED[what].startswith("GET") else UNCACHED | OTHER_METHODS)
    assert not answer.body.startswith(b"{"), "a service answered"
    nothing_is_left(edge)


@pytest.mark.parametrize("what", ANSWERED)
def test_the_way_to_https_leads_to_the_name_that_was_asked_for(edge: Any, what: str) -> None:
    """A redirect may be kept by caches: it must not lead elsewhere."""
    request, service = ANSWERED[what]
    edge.sockets.clear()
    answer = edge.raw(request.replace("{mark}", "x").encode(), tls=False)
    assert answer.status == 308
    assert (answer.one("Location") or "").startswith(f"https://{ {'api': API, 'sites': TENANT}[service] }/")


def test_what_a_service_answers_is_kept_apart_by_origin_and_data_is_not_kept(edge: Any) -> None:
    for host in (TENANT, API):
        for origin in ({}, {"Origin": f"https://{TENANT}"}, {"Origin": "https://evil.net"}):
            assert "Origin" in edge.ask(host, "/", headers=origin).all("Vary")
    assert edge.ask(API, "/").one("Cache-Control") == "no-store"
