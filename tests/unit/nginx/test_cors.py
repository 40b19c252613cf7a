# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The policy for CORS, as a browser sees it: a table of origins, asked in every way, on a live nginx."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nginx.live import (
    DOMAIN,
    NODE,
    ROOT,
    SOCKET,
    Prefix,
    edge_plan,
    location,
    put_certificate,
    start,
    virtual_host,
)

API = f"api.{DOMAIN}"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization, content-type"}

# What is asked, and the status that must come.
REQUESTS = {
    "a page reads": ((API, "/data", "GET"), 200),
    "a page asks without a body": ((API, "/data", "HEAD"), 200),
    "a page writes": ((API, "/data", "POST"), 200),
    "a page replaces": ((API, "/data", "PUT"), 200),
    "a page changes": ((API, "/data", "PATCH"), 200),
    "a page removes": ((API, "/data", "DELETE"), 200),
    "it is not signed in": ((API, "/status/401", "GET"), 401),
    "it is not there": ((API, "/status/404", "GET"), 404),
    "it is not allowed": ((API, "/status/403", "DELETE"), 403),
    "it is too much": ((API, "/status/413", "POST"), 413),
    "it is too often": ((API, "/status/429", "POST"), 429),
    "the application fails": ((API, "/status/500", "GET"), 500),
    "what the application calls fails": ((API, "/status/502", "GET"), 502),
    "what the application calls is slow": ((API, "/status/504", "PUT"), 504),
    "the application is down": ((f"dead.{DOMAIN}", "/", "GET"), 502),
    "no host carries it": ((f"gone.{DOMAIN}", "/", "GET"), 502),
    "the application answers CORS too": ((API, "/own", "GET"), 200),
    "a tenant's page": ((f"tenant.{DOMAIN}", "/", "GET"), 200),
    "a path below another service": ((DOMAIN, "/docs/x", "GET"), 200),
}
# The same of an edge whose services are at their limits.
STRAINED = {
    "the edge finds the body too large": ((f"small.{DOMAIN}", "/", "POST"), 413),
    "the edge finds a page's form too large": ((f"small.{DOMAIN}", "/form/", "PUT"), 413),
    "the edge waits too long": ((f"slow.{DOMAIN}", "/", "GET"), 504),
    "the edge waits too long for a page": ((f"slow.{DOMAIN}", "/page/", "POST"), 504),
    "the edge cannot connect": ((f"dead.{DOMAIN}", "/", "DELETE"), 502),
}


@pytest.fixture(scope="session")
def strained(tmp_path_factory: pytest.TempPathFactory, nginx: str, certificate: Path) -> Any:
    """An edge with a service that never answers, one that takes little, and one that is down."""
    hosts = [
        virtual_host(
            f"small.{DOMAIN}",
            location("small", "nestjs_api", body_limit="1"),
            location("form", "nextjs", "/form/", body_limit="1"),
        ),
        virtual_host(f"slow.{DOMAIN}", location("slow", "nestjs_api"), location("page", "nextjs", "/page/")),
        virtual_host(f"dead.{DOMAIN}", location("dead", "nestjs_api")),
    ]
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as silent:
        waits = [f"127.0.0.1:{silent.getsockname()[1]}"]
        upstreams = {"small": waits, "form": waits, "slow": waits, "page": waits, "dead": ["127.0.0.1:9"]}
        prefix = Prefix(tmp_path_factory.mktemp("strained"), nginx=nginx)
        prefix.render(
            {
                "nginx_proxy_domain": DOMAIN,
                "nginx_proxy_tls": {"mode": "files", "certificate": "x", "key": "y"},
                "nginx_proxy_edge": {**edge_plan(), "virtual_hosts": hosts, "upstreams": upstreams},
            }
        )
        # Nobody wants to wait a minute for each origin.
        for path in prefix.path.rglob("*.conf"):
            path.write_text(re.sub(r"proxy_read_timeout \d+s;", "proxy_read_timeout 20ms;", path.read_text()))
        put_certificate(prefix.path, certificate)
        yield from start(prefix, certificate)


def shared(answer: Any, origin: str, trusted: bool = False) -> bool:
    """Whether a browser gives the answer to a page of the origin (Fetch, CORS check).

    With credentials to one that is named, or trusted for another reason; to the others, without.
    """
    trusted = trusted or origin in edge_plan()["origins"]["exact"]
    credentials = answer.all("Access-Control-Allow-Credentials")
    return answer.all("Access-Control-Allow-Origin") == [origin] and credentials == (["true"] if trusted else [])


def varies(answer: Any) -> bool:
    """Whether a cache keeps the answers for different origins apart."""
    return any("origin" in value.lower().replace(" ", "").split(",") for value in answer.all("Vary"))


def test_table_is_as_large_as_it_claims(origins: list[dict[str, Any]]) -> None:
    assert len({entry["origin"] for entry in origins}) == len(origins) >= 60
    assert {entry["allowed"] for entry in origins} == {True, False}
    cases = [*REQUESTS.values(), *STRAINED.values()]
    assert len(origins) * len(cases) >= 120
    assert {status for _request, status in cases} >= {200, 401, 403, 404, 413, 429, 500, 502, 504}
    assert {method for (_host, _path, method), _status in cases} == {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


@pytest.mark.parametrize("case", [*REQUESTS, *STRAINED])
def test_answers_are_shared_with_allowed_origins_only(
    request: pytest.FixtureRequest, nginx: str, origins: list[dict[str, Any]], case: str
) -> None:
    (host, path, method), status = {**REQUESTS, **STRAINED}[case]
    edge = request.getfixturevalue("edge" if case in REQUESTS else "strained")
    body = b"" if method in ("GET", "HEAD") else b"{}"
    for entry in origins:
        answer = edge.ask(host, path, method, {"Origin": entry["origin"]}, body=body)
        # The edge itself refuses the others, if it takes the request at all: the application never sees them.
        assert answer.status == status if entry["allowed"] else answer.status in (403, 413), entry
        assert shared(answer, entry["origin"], entry["origin"] == f"https://{host}") is entry["allowed"], (
            entry,
            answer.headers,
        )
        if not entry["allowed"]:
            assert not any(name.lower().startswith("access-control-") for name, _value in answer.headers), entry
        assert varies(answer), entry
        assert "*" not in answer.all("Access-Control-Allow-Origin")


def test_preflights_are_answered_without_the_application(edge: Any, origins: list[dict[str, Any]]) -> None:
    for entry in origins:
        for host in (API, f"dead.{DOMAIN}"):
            answer = edge.ask(host, "/any", "OPTIONS", {"Origin": entry["origin"], **PREFLIGHT})
            assert varies(answer), entry
            assert shared(answer, entry["origin"], entry["origin"] == f"https://{host}") is entry["allowed"], entry
            if entry["allowed"]:
                assert answer.status == 204 and not answer.body
                assert "PUT" in (answer.one("Access-Control-Allow-Methods") or "").split(", ")
                assert answer.one("Access-Control-Allow-Headers") == "authorization, content-type"
                assert answer.one("Access-Control-Max-Age") == "7200"
            else:
                assert answer.status == 403, entry
                assert answer.all("Access-Control-Allow-Methods") == []


def test_sockets_open_for_allowed_origins_only(edge: Any, origins: list[dict[str, Any]]) -> None:
    for entry in origins:
        for host in (f"ws.{DOMAIN}", API, f"own.{DOMAIN}", f"tenant.{DOMAIN}"):
            answer = edge.ask(host, "/room", headers={**SOCKET, "Origin": entry["origin"]})
            assert answer.status == (101 if entry["allowed"] else 403), (host, entry)
            if not entry["allowed"] and host == f"ws.{DOMAIN}":
                assert answer.json["message"] == "The origin is not allowed"


def edge_of(origins: dict[str, Any], path: Path, nginx: str, upstream: str, certificate: Path) -> Any:
    """The usual edge, but for its origins."""
    plan = edge_plan(**{name: [upstream] for name in ("api", "collab", "own", "sites")})
    plan["origins"] = origins
    prefix, tls = Prefix(path, nginx=nginx), {"mode": "files", "certificate": "x", "key": "y"}
    prefix.render({"nginx_proxy_domain": DOMAIN, "nginx_proxy_tls": tls, "nginx_proxy_edge": plan})
    put_certificate(prefix.path, certificate)
    return start(prefix, certificate)


APPS = ["capacitor://localhost", "ionic://localhost", "https://localhost", "http://localhost:5173"]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory, nginx: str, upstream: str, certificate: Path) -> Any:
    """An edge that lists one page, and some apps."""
    origins = {"exact": [f"https://{DOMAIN}", *APPS], "regex": []}
    yield from edge_of(origins, tmp_path_factory.mktemp("listed"), nginx, upstream, certificate)


@pytest.mark.parametrize("label", ["api", "own", "ws", "tenant"])
def test_an_origin_that_is_the_name_itself_is_no_foreign_page(listed: Any, label: str) -> None:
    """Apps under React Native send it with sockets, and so do pages that an API serves, such as a playground."""
    host = f"{label}.{DOMAIN}"
    headers = {"Origin": f"https://{host}", "Cookie": "session=own"}
    answer = listed.ask(host, "/room", headers={**SOCKET, **headers})
    assert (answer.status, answer.one("X-Cookie")) == (101, "session=own")
    answer = listed.ask(host, "/x", "POST", headers, body=b"{}")
    assert (answer.status, answer.seen("Origin")) == (200, [f"https://{host}"])
    if label != "own":
        assert shared(answer, f"https://{host}", trusted=True)
        assert listed.ask(host, "/x", "OPTIONS", {**headers, **PREFLIGHT}).status == 204


@pytest.mark.parametrize(
    "origin",
    [
        *("https://ws.{0}", "http://api.{0}", "https://api.{0}:8443", "https://API.{0}", "https://api.{0}.", "api.{0}"),
        *("https://api.{0}.evil.net", "https://api.{0}/", "https://x.api.{0}", "https://api.{0},https://api.{0}"),
        *("capacitor://api.{0}", "capacitor://localhost.evil.net", "capacitor://evil", "https://localhost:1", "null"),
    ],
)
def test_no_other_origin_is_the_name_itself(listed: Any, origin: str) -> None:
    host, foreign = f"api.{DOMAIN}", origin.format(DOMAIN)
    for more in ({}, SOCKET):
        answer = listed.ask(host, "/x", headers={**more, "Origin": foreign})
        assert (answer.status, answer.all("Access-Control-Allow-Origin")) == (403, [])
    # Nor is it what somebody calls the name in a header.
    names = {"X-Forwarded-Host": f"ws.{DOMAIN}", "Forwarded": f"host=ws.{DOMAIN}"}
    assert listed.ask(host, "/x", headers={**names, "Origin": f"https://ws.{DOMAIN}"}).status == 403


@pytest.mark.parametrize("origin", APPS)
def test_an_app_that_is_listed_calls_as_a_page_does(listed: Any, origin: str) -> None:
    headers = {"Origin": origin, "Cookie": "session=own"}
    assert shared(listed.ask(API, "/x", headers=headers), origin, trusted=True)
    assert listed.ask(API, "/x", "OPTIONS", {"Origin": origin, **PREFLIGHT}).status == 204
    assert listed.ask(f"ws.{DOMAIN}", "/x", headers={**SOCKET, **headers}).one("X-Cookie") == "session=own"


def test_calls_of_other_pages_do_not_reach_an_application(listed: Any) -> None:
    """Many fail with 500 when they see an origin that they do not know."""
    for mode in ({}, {"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Mode": "no-cors"}):
        answer = listed.ask(API, "/seen-by-nobody", "POST", {"Origin": "https://evil.net", **mode})
        assert (answer.status, answer.json["message"]) == (403, "The origin is not allowed")
        assert "Origin" in answer.all("Vary")
    line = listed.log("/seen-by-nobody")
    assert (line["status"], line["upstream"]) == (403, "")


def test_a_form_from_another_site_is_no_call(listed: Any) -> None:
    """Sign-in by SAML, and by Apple, ends with one."""
    for origin in ("https://appleid.apple.com", "null"):
        headers = {"Origin": origin, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        answer = listed.ask(API, "/callback", "POST", headers, body=b"code=1")
        assert (answer.status, answer.seen("Origin")) == (200, [origin])
        assert answer.all("Access-Control-Allow-Origin") == []
        assert listed.ask(API, "/x", headers={**SOCKET, **headers}).status == 403


@pytest.mark.parametrize(("origin", "kept"), [(f"https://{DOMAIN}", True), (f"https://tenant.{DOMAIN}", False)])
def test_a_socket_of_any_subdomain_has_no_cookies(edge: Any, origin: str, kept: bool) -> None:
    """The page of one tenant could read what the user's session may."""
    headers = {**SOCKET, "Origin": origin, "Cookie": "session=secret"}
    assert edge.ask(f"ws.{DOMAIN}", "/seen", headers=headers).all("X-Cookie") == (["session=secret"] if kept else [])
    assert edge.ask(API, "/x", headers={"Origin": origin, "Cookie": "a=1"}).seen("Cookie") == ["a=1"]


def test_a_key_gives_every_subdomain_credentials(tmp_path: Path, nginx: str, upstream: str, certificate: Path) -> None:
    origins = {**edge_plan()["origins"], "wildcard_credentials": True}
    with contextlib.closing(edge_of(origins, tmp_path, nginx, upstream, certificate)) as lives:
        edge = next(lives)
        origin = f"https://tenant.{DOMAIN}"
        assert shared(edge.ask(API, "/x", headers={"Origin": origin}), origin, trusted=True)
        headers = {**SOCKET, "Origin": origin, "Cookie": "session=secret"}
        assert edge.ask(f"ws.{DOMAIN}", "/seen", headers=headers).one("X-Cookie") == "session=secret"


def test_a_program_opens_a_socket_without_an_origin(edge: Any) -> None:
    assert edge.ask(f"ws.{DOMAIN}", "/room", headers=SOCKET).status == 101


def test_only_websocket_may_be_upgraded_to(edge: Any) -> None:
    answer = edge.ask(API, "/", headers={"Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"})
    assert answer.status == 200
    assert answer.seen("Upgrade") == answer.seen("Connection") == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"Access-Control-Request-Method": "PUT"}, {"Origin": "https://app.example.test"}],
)
def test_an_options_request_that_is_no_preflight_reaches_the_application(edge: Any, headers: dict[str, str]) -> None:
    answer = edge.ask(API, "/x", "OPTIONS", headers)
    assert answer.status == 200
    assert answer.json["method"] == "OPTIONS"


def test_a_request_without_origin_gets_no_cors_headers_and_still_varies(edge: Any) -> None:
    answer = edge.ask(API, "/data")
    assert varies(answer)
    assert not any(name.lower().startswith("access-control-") for name, _value in answer.headers)


def test_headers_asked_for_are_not_echoed_where_they_are_no_names(edge: Any) -> None:
    answer = edge.ask(
        API,
        "/x",
        "OPTIONS",
        {"Origin": f"https://{DOMAIN}", **PREFLIGHT, "Access-Control-Request-Headers": "a: b; <script>"},
    )
    assert answer.status == 204
    assert answer.all("Access-Control-Allow-Headers") == []


def test_the_example_relay_lets_the_same_origins_in(origins: list[dict[str, Any]]) -> None:
    """It is told the edge's list as a variable, and checks for itself."""
    allowed = edge_plan()["origins"]
    script = (
        f"import {{ originAllowed }} from '{ROOT}/examples/collab/lib/handshake.js';"
        "const { origins, allowed } = JSON.parse((await import('node:fs')).readFileSync(0));"
        "console.log(JSON.stringify(origins.map((origin) => originAllowed(origin, allowed))));"
    )
    given = {"origins": [entry["origin"] for entry in origins], "allowed": allowed["exact"] + allowed["wildcards"]}
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", script], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [entry["allowed"] for entry in origins]


def test_private_network_is_never_allowed(edge: Any) -> None:
    answer = edge.ask(
        API,
        "/x",
        "OPTIONS",
        {"Origin": f"https://{DOMAIN}", **PREFLIGHT, "Access-Control-Request-Private-Network": "true"},
    )
    assert answer.all("Access-Control-Allow-Private-Network") == []


def test_two_origin_headers_are_not_a_way_in(edge: Any) -> None:
    pair = [("Origin", "https://evil.net"), ("Origin", f"https://{DOMAIN}")]
    answer = edge.ask(API, "/x", headers=pair)
    assert answer.all("Access-Control-Allow-Origin") == []


def test_an_application_that_answers_cors_itself_is_left_to_it(edge: Any) -> None:
    host = f"own.{DOMAIN}"
    answer = edge.ask(host, "/own", headers={"Origin": "https://evil.net"})
    assert answer.one("Access-Control-Allow-Origin") == "*"
    answer = edge.ask(host, "/own", "OPTIONS", {"Origin": "https://evil.net", **PREFLIGHT})
    assert answer.status == 200
    assert answer.json["method"] == "OPTIONS"


def test_too_large_a_body_is_told_to_the_page(edge: Any) -> None:
    origin = f"https://app.{DOMAIN}"
    answer = edge.ask(API, "/x", "POST", {"Origin": origin}, body=b"x" * (1024 * 1024 + 1))
    assert answer.status == 413
    assert shared(answer, origin)
    assert answer.json["message"] == "The request is too large"
