# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What one client cannot do to the others, and what is said during maintenance, on a live nginx."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters.edge import error_page

from tests.unit.nginx.conftest import BRAND, FILLER
from tests.unit.nginx.live import DOMAIN, SOCKET
from tests.unit.nginx.test_cors import PREFLIGHT, shared, varies

API, WS, APEX, TENANT = f"api.{DOMAIN}", f"ws.{DOMAIN}", DOMAIN, f"tenant.{DOMAIN}"
PAGE_OF_OURS = f"https://app.{DOMAIN}"
LOGIN = "/api/auth/login"
ADDRESSES = (f"203.0.113.{last}" for last in itertools.count(1))


@pytest.fixture
def client() -> str:
    """An address that no other test has."""
    return next(ADDRESSES)


def of(client: str, **headers: str) -> dict[str, str]:
    return {"X-Forwarded-Proto": "https", "X-Forwarded-For": client, **headers}


def post(edge: Any, client: str, path: str = LOGIN, host: str = API, method: str = "POST", **headers: str) -> Any:
    return edge.ask(host, path, method, of(client, **headers), body=b"{}" if method == "POST" else b"", tls=False)


def exhaust(edge: Any, client: str) -> None:
    """Use up what a client address may do: one at once, and a burst of two."""
    assert [post(edge, client).status for _ in range(4)] == [200, 200, 200, 429]


# --- requests by client address ---


def test_who_tries_too_often_is_told_so_as_the_page_can_read(limited: Any, client: str) -> None:
    exhaust(limited, client)
    answer = post(limited, client, Origin=PAGE_OF_OURS)
    assert answer.status == 429
    assert answer.one("Content-Type") == "application/json"
    assert answer.json == {
        "statusCode": 429,
        "message": "Too many requests",
        "requestId": answer.one("X-Request-ID"),
    }
    # At six a minute, one more is let in every ten seconds.
    assert answer.one("Retry-After") == "10"
    assert "Retry-After" in (answer.one("Access-Control-Expose-Headers") or "").split(", ")
    assert shared(answer, PAGE_OF_OURS) and varies(answer)
    assert answer.one("Strict-Transport-Security") and answer.one("X-Content-Type-Options") == "nosniff"
    assert answer.one("Cache-Control") == "no-store"
    line = limited.log(str(answer.one("X-Request-ID")))
    assert (line["status"], line["service"], line["client"], line["upstream"]) == (429, "api", client, "")


def test_others_go_on(limited: Any, client: str) -> None:
    exhaust(limited, client)
    assert post(limited, next(ADDRESSES)).status == 200
    assert post(limited, client, "/api/auth/signup").status == 200, "each request has a limit of its own"
    assert {post(limited, client, "/api/pages").status for _ in range(20)} == {200}
    assert {post(limited, client, method="GET").status for _ in range(20)} == {200}
    assert {post(limited, client, host=f"own.{DOMAIN}").status for _ in range(20)} == {200}, "another service"


@pytest.mark.parametrize(
    "path",
    [
        LOGIN + "?x=1",
        LOGIN + "/",
        LOGIN + "//",
        LOGIN.upper(),
        "/api//auth/login",
        "/api/auth/./login",
        "/x/../api/auth/login",
        "/api/auth/%6Cogin",
        "/api/auth%2Flogin",
        f"http://{API}{LOGIN}",
        LOGIN + "#x",
        LOGIN + ";1",
        LOGIN + "/;1",
        LOGIN + ";/y",
        LOGIN + "%3b1",
        LOGIN + ";?x=1",
        "/api;x/auth;y=1;z/login",
    ],
)
def test_another_spelling_is_the_same_request(limited: Any, client: str, path: str) -> None:
    exhaust(limited, client)
    assert post(limited, client, path).status == 429


@pytest.mark.parametrize("path", ["/api/auth\\login", "/api/auth\\login#", LOGIN + "#\\", "/x\\..\\api/auth/login"])
def test_a_backslash_is_no_way_round(limited: Any, client: str, path: str) -> None:
    """To Express, /api/auth\\login# is the login."""
    assert post(limited, client, path).status == 400


@pytest.mark.parametrize("path", ["/../../y", "/%2e./%2E%2e/y", "x/..%2f../y"])
def test_to_go_up_from_behind_a_semicolon_is_no_way_round(limited: Any, client: str, path: str) -> None:
    """To Fastify, /api/auth/login;/../../y is the login; to nginx it is /api/y."""
    assert post(limited, client, f"{LOGIN};{path}").status == 400
    assert post(limited, client, f"/x?a;b{path}").status == 200


@pytest.mark.parametrize("path", ["//x" + LOGIN, "//" + API + LOGIN, f"http://{API}//x{LOGIN}", "//x\\y" + LOGIN])
def test_a_host_in_the_path_is_no_way_round(limited: Any, client: str, path: str) -> None:
    """To applications that resolve it as an address, //x/api/auth/login is the login."""
    assert post(limited, client, path).status == 400


@pytest.mark.parametrize("query", ["_method=POST", "a=1&_method=post", "%5fmethod=POST", "_m%65th%4Fd=POST", "_method"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_method_in_the_query_is_no_way_round(limited: Any, client: str, query: str, method: str) -> None:
    exhaust(limited, client)
    assert post(limited, client, f"{LOGIN}?{query}", method=method).status == 429
    assert post(limited, client, f"{LOGIN};{query}", method=method).status == 429
    assert post(limited, client, f"{LOGIN}?q=method", method=method).status == 200


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_in_a_header_reaches_nobody(limited: Any, client: str, name: str) -> None:
    assert post(limited, client, "/x", method="GET", **{name: "POST"}).seen(name) == []
    inside = limited.ask("127.0.0.1", "/x", headers={name: "POST"}, tls=False, port=33001)
    assert inside.seen(name) == []


def test_a_backslash_in_a_query_is_left_alone(limited: Any, client: str) -> None:
    assert post(limited, client, "/x?a\\b").json["path"] == "/x?a\\b"


def test_head_counts_as_get(limited: Any, client: str) -> None:
    assert post(limited, client, "/search", TENANT, "GET").status == 200
    assert post(limited, client, "/search", TENANT, "HEAD").status == 429


@pytest.mark.parametrize("path", ["/api/auth/logins", "/api/auth/login/x", "/x/api/auth/login", "/api/auth-login"])
def test_another_path_is_not(limited: Any, client: str, path: str) -> None:
    exhaust(limited, client)
    assert post(limited, client, path).status == 200


def test_preflights_do_not_count(limited: Any, client: str) -> None:
    for _ in range(10):
        answer = limited.ask(API, LOGIN, "OPTIONS", of(client, Origin=PAGE_OF_OURS, **PREFLIGHT), tls=False)
        assert answer.status == 204
    exhaust(limited, client)


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:1:2:3", True),
        ("2001:db8:2:2:3:4:5:6", "2001:db8:2:2:3:4:5:7", True),
        ("2001:db8:1::1", "2001:db8:1::ffff:2", True),
        ("2001:db8:7:2::1", "2001:db8:7:3::1", False),
        ("2001:db8:8::1", "2001:db8:9::1", False),
        ("::ffff:198.51.100.1", "::ffff:198.51.100.2", False),
        ("198.51.100.3", "198.51.100.4", False),
    ],
)
def test_of_ipv6_the_network_counts(limited: Any, first: str, second: str, one: bool) -> None:
    exhaust(limited, first)
    assert post(limited, second).status == (429 if one else 200)


def test_what_a_client_says_of_itself_does_not_help(limited: Any, client: str) -> None:
    exhaust(limited, client)
    for claimed in ("192.0.2.1", "127.0.0.1", "10.0.0.1"):
        assert post(limited, f"{claimed}, {client}").status == 429


def test_a_page_says_it_with_a_page(limited: Any, client: str) -> None:
    assert post(limited, client, "/search", TENANT, "GET").status == 200
    answer = post(limited, client, "/search", TENANT, "GET")
    assert (answer.status, answer.one("Retry-After")) == (429, "60")
    assert "<h1>429: Too many requests</h1>" in answer.body.decode()
    assert answer.one("Strict-Transport-Security") and answer.one("X-Content-Type-Options") == "nosniff"


# --- sockets by client address ---


@pytest.fixture
def sockets(limited: Any) -> Iterator[Any]:
    """Open a socket that stays open, or see it refused; return it with the status."""
    with ExitStack() as stack:

        def opened(client: str, host: str = WS) -> tuple[socket.socket, int]:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", limited.ports[80]), timeout=10))
            lines = [f"{name}: {value}" for name, value in of(client, Connection="Upgrade", **SOCKET).items()]
            connection.sendall("\r\n".join(["GET /held HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode())
            return connection, int(connection.recv(4096).split()[1])

        yield opened


def test_a_client_has_so_many_sockets_and_no_more(limited: Any, sockets: Any, client: str) -> None:
    first, _status = sockets(client)
    assert [sockets(client)[1] for _ in range(3)] == [101, 429, 429]
    assert sockets(next(ADDRESSES))[1] == 101, "others do"
    assert [sockets(client, API)[1] for _ in range(5)] == [101] * 5, "a service without a limit"
    assert post(limited, client, "/health", WS, "GET").status == 200, "what is no socket does not count"
    answer = limited.ask(WS, "/held", headers=of(client, Origin=PAGE_OF_OURS, **SOCKET), tls=False)
    assert (answer.status, answer.json["message"], answer.one("Retry-After")) == (429, "Too many requests", "10")
    assert shared(answer, PAGE_OF_OURS)
    first.close()
    deadline = time.monotonic() + 5
    while sockets(client)[1] != 101:
        assert time.monotonic() < deadline, "a closed socket counts for ever"


# --- maintenance ---


@pytest.fixture
def maintain(limited: Any) -> Iterator[Any]:
    """Switch maintenance, and end it after the test."""
    names: set[str] = set()

    def switch(name: str, on: bool = True) -> None:
        names.add(name)
        limited.maintain(name, on)

    yield switch
    for name in names:
        limited.maintain(name, False)


@pytest.mark.slow
def test_maintenance_is_a_file_and_takes_no_reload(limited: Any, maintain: Any, client: str) -> None:
    maintain("api")
    answer = post(limited, client, "/x", Origin=PAGE_OF_OURS)
    assert (answer.status, answer.one("Retry-After")) == (503, "60")
    assert answer.json["message"] == "The service is under maintenance"
    assert shared(answer, PAGE_OF_OURS) and answer.one("Cache-Control") == "no-store"
    assert limited.log(str(answer.one("X-Request-ID")))["upstream"] == "", "the application is not asked"
    asked = limited.ask(API, "/x", "OPTIONS", of(client, Origin=PAGE_OF_OURS, **PREFLIGHT), tls=False)
    assert asked.status == 204, "else the browser would hide the 503"
    assert limited.ask(API, "/x", headers=of(client, **SOCKET), tls=False).status == 503
    assert post(limited, client, "/x", APEX).status == 200, "another service"
    maintain("api", False)
    assert post(limited, client, "/x").status == 200


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_a_page_under_maintenance_answers_any_method(limited: Any, maintain: Any, client: str, method: str) -> None:
    maintain("frontend")
    answer = post(limited, client, "/some/where", APEX, method)
    assert answer.status == 503
    assert (answer.one("Content-Type") or "").startswith("text/html")
    line = limited.log(str(answer.one("X-Request-ID")))
    assert (line["method"], line["path"]) == (method, "/some/where")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/assets/app-1a2b.js", 200),
        ("/_next/static/chunks/1.js", 200),
        ("/", 503),
        ("/assetsx/a.js", 503),
        ("/assets/../x", 503),
        ("/assets/..\\x", 400),
    ],
)
def test_open_pages_keep_their_assets(limited: Any, maintain: Any, client: str, path: str, status: int) -> None:
    maintain("frontend")
    assert post(limited, client, path, APEX, "GET").status == status


@pytest.mark.slow
def test_data_has_no_assets(limited: Any, maintain: Any, client: str) -> None:
    maintain("api")
    assert post(limited, client, "/assets/x").status == 503


@pytest.mark.slow
def test_the_whole_edge_but_its_own_health_can_be_closed(limited: Any, maintain: Any, client: str) -> None:
    maintain("edge")
    for host in (API, APEX, TENANT, WS, f"own.{DOMAIN}", f"gone.{DOMAIN}"):
        assert post(limited, client, "/x", host, "GET").status == 503
    assert limited.ask("10.0.0.7", "/edge-health", tls=False).status == 200


@pytest.mark.slow
def test_limits_and_maintenance_are_told_to_pages_of_allowed_origins_only(
    limited: Any, maintain: Any, client: str, origins: list[dict[str, Any]]
) -> None:
    exhaust(limited, client)
    maintain("sites")
    for entry in origins:
        for host, path, status in ((API, LOGIN, 429), (TENANT, "/", 503)):
            answer = post(limited, client, path, host, Origin=entry["origin"])
            assert answer.status == (status if entry["allowed"] else 403)
            assert shared(answer, entry["origin"], entry["origin"] == f"https://{host}") is entry["allowed"], (
                entry,
                answer.headers,
            )
            assert varies(answer)


# --- the page ---


def test_the_page_is_the_one_that_was_given(limited: Any, client: str) -> None:
    answer = post(limited, client, "/x", f"gone.{DOMAIN}", "GET")
    assert answer.status == 502
    assert answer.body.decode() == (
        f"<!doctype html><html><style>b {{ color: red }}</style><b>{html.escape(BRAND)}</b> $HOME "
        f"<h1>502: The service does not answer</h1><p>{FILLER * 400}</p>{answer.one('X-Request-ID')}</html>\n"
    )
    digest = base64.b64encode(hashlib.sha256(b"b { color: red }").digest()).decode()
    assert f"style-src 'sha256-{digest}'" in (answer.one("Content-Security-Policy") or "")


def test_our_own_page_shows_nothing_that_its_policy_forbids(edge: Any) -> None:
    answer = edge.ask(f"gone.{DOMAIN}", "/x")
    text = answer.body.decode()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in (answer.one("Content-Security-Policy") or "")
    assert not re.search(r"<script|style=|src=|href=|\$\{", text)
    assert f"Request {answer.one('X-Request-ID')}" in text


@pytest.mark.parametrize("style", ["a\r\nb", "a\rb", "a\nb"])
def test_a_style_is_allowed_as_the_browser_reads_it(style: str) -> None:
    digest = base64.b64encode(hashlib.sha256(b"a\nb").digest()).decode()
    assert f"'sha256-{digest}'" in error_page(f"<html><style>{style}</style ></html>")["policy"]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("", "is not an HTML document; set the path of a file with <html>"),
        (b"<html>caf\xe9</html>".decode(errors="surrogateescape"), "is not UTF-8; save the file as UTF-8"),
        ("<html>${name}</html>", "has the unknown placeholder ${name}; use ${brand}, ${status}"),
        ("<html>${message|url}</html>", "has the unknown placeholder ${message|url}"),
        ("<html>${}</html>", "write $$ for a dollar sign"),
        ("<html>${a</html>", "write $$ for a dollar sign"),
        ("<html><style>${brand}</style></html>", "has a dollar sign in <style>"),
        (f"<html>{'x' * 1_000_000}</html>", "has 1000013 characters, which is more than nginx accepts; keep it"),
        ("<html>" + "".join(f"<style>a{n}</style>" for n in range(99)), "put all styles into one <style>"),
    ],
)
def test_a_page_that_cannot_be_used_is_refused(page: str, said: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        error_page(page)
    assert str(caught.value).startswith("nginx_error_page") and said in str(caught.value)


# --- the tenant ---


@pytest.mark.parametrize(
    ("host", "tenant"),
    [
        (TENANT, ["tenant"]),
        (TENANT.upper(), ["tenant"]),
        (TENANT + ".", ["tenant"]),
        (f"xn--80ak6aa92e.{DOMAIN}", ["xn--80ak6aa92e"]),
        (API, []),
        (APEX, []),
        (WS, []),
    ],
)
@pytest.mark.parametrize("claimed", [[], ["evil"], ["evil", "worse"], [""]])
def test_the_edge_says_who_the_tenant_is(edge: Any, host: str, tenant: list[str], claimed: list[str]) -> None:
    lines = "".join(f"X-Tenant-ID: {value}\r\n" for value in claimed)
    answer = edge.raw(f"GET / HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode(), name=APEX)
    assert answer.status == 200
    assert answer.seen("X-Tenant-ID") == tenant


def test_behind_the_edge_the_tenant_is_passed_on(edge: Any) -> None:
    """A front includes the same snippet as the port for internal calls, which is asked here."""
    for claimed, seen in (("a-1", ["a-1"]), ("a.b", []), ("A", []), ("-a", []), ("a,b", []), ("", [])):
        answer = edge.ask("127.0.0.1", "/", headers={"X-Tenant-ID": claimed}, tls=False, port=33001)
        assert answer.seen("X-Tenant-ID") == seen


# --- slow clients ---


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: api",
        b"POST / HTTP/1.1\r\nHost: api.example.test\r\nX-Forwarded-Proto: https\r\nContent-Length: 9\r\n\r\nabc",
    ],
)
def test_a_client_that_sends_nothing_more_is_sent_away(limited: Any, beginning: bytes) -> None:
    """Time-outs are shortened to a second for this; how long they are otherwise, the fixture looks up."""
    with socket.create_connection(("127.0.0.1", limited.ports[80]), timeout=5) as connection:
        connection.sendall(beginning)
        started = time.monotonic()
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass
        assert 0.5 < time.monotonic() - started < 4
