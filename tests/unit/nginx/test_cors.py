# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The policy for CORS, as a browser sees it: a table of origins, asked in every way, on a live nginx."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.unit.nginx.live import NODE, ROOT, edge_plan

DOMAIN = "example.test"
API = f"api.{DOMAIN}"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization, content-type"}
SOCKET = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}

# What is asked, and the status that must come.
REQUESTS = {
    "a page reads": ((API, "/data", "GET"), 200),
    "a page asks without a body": ((API, "/data", "HEAD"), 200),
    "a page writes": ((API, "/data", "POST"), 200),
    "it is not signed in": ((API, "/status/401", "GET"), 401),
    "it is not there": ((API, "/status/404", "GET"), 404),
    "the application fails": ((API, "/status/500", "GET"), 500),
    "the application is down": ((f"dead.{DOMAIN}", "/", "GET"), 502),
    "no host carries it": ((f"gone.{DOMAIN}", "/", "GET"), 502),
    "the application answers CORS too": ((API, "/own", "GET"), 200),
    "a tenant's page": ((f"tenant.{DOMAIN}", "/", "GET"), 200),
    "a path below another service": ((DOMAIN, "/docs/x", "GET"), 200),
}


def shared(answer: Any, origin: str) -> bool:
    """Whether a browser gives the answer to a page of the origin that asked with credentials (Fetch, CORS check)."""
    allowed = answer.all("Access-Control-Allow-Origin")
    return allowed == [origin] and answer.all("Access-Control-Allow-Credentials") == ["true"]


def varies(answer: Any) -> bool:
    """Whether a cache keeps the answers for different origins apart."""
    return any("origin" in value.lower().replace(" ", "").split(",") for value in answer.all("Vary"))


def test_table_is_as_large_as_it_claims(origins: list[dict[str, Any]]) -> None:
    assert len({entry["origin"] for entry in origins}) == len(origins) >= 60
    assert {entry["allowed"] for entry in origins} == {True, False}


@pytest.mark.parametrize("case", REQUESTS)
def test_answers_are_shared_with_allowed_origins_only(edge: Any, origins: list[dict[str, Any]], case: str) -> None:
    (host, path, method), status = REQUESTS[case]
    for entry in origins:
        answer = edge.ask(host, path, method, {"Origin": entry["origin"]}, body=b"{}" if method == "POST" else b"")
        assert answer.status == status, entry
        assert shared(answer, entry["origin"]) is entry["allowed"], (entry, answer.headers)
        if not entry["allowed"]:
            assert not any(name.lower().startswith("access-control-") for name, _value in answer.headers), entry
        assert varies(answer), entry
        assert "*" not in answer.all("Access-Control-Allow-Origin")


def test_preflights_are_answered_without_the_application(edge: Any, origins: list[dict[str, Any]]) -> None:
    for entry in origins:
        for host in (API, f"dead.{DOMAIN}"):
            answer = edge.ask(host, "/any", "OPTIONS", {"Origin": entry["origin"], **PREFLIGHT})
            assert varies(answer), entry
            assert shared(answer, entry["origin"]) is entry["allowed"], entry
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


def test_a_program_opens_a_socket_without_an_origin(edge: Any) -> None:
    assert edge.ask(f"ws.{DOMAIN}", "/room", headers=SOCKET).status == 101


def test_only_websocket_may_be_upgraded_to(edge: Any) -> None:
    answer = edge.ask(API, "/", headers={"Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"})
    assert answer.status == 200
    assert answer.seen("Upgrade") == answer.seen("Connection") == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Access-Control-Request-Method": "PUT"},
        {"Origin": "https://app.example.test"},
        {"Origin": "https://evil.net"},
    ],
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
