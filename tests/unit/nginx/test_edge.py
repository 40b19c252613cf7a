# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a user of the edge sees, on a live nginx."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from typing import Any

import pytest

from tests.unit.nginx.live import DOMAIN, SOCKET

API, WS, APEX, TENANT = f"api.{DOMAIN}", f"ws.{DOMAIN}", DOMAIN, f"tenant.{DOMAIN}"
HSTS = "max-age=63072000"


# --- names, http and https ---


@pytest.mark.parametrize("host", [API, APEX, TENANT, WS])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_http_leads_to_https(edge: Any, host: str, method: str) -> None:
    answer = edge.ask(host, "/a%20b?c=d", method, tls=False)
    assert answer.status == 308
    assert answer.one("Location") == f"https://{host}/a%20b?c=d"


@pytest.mark.parametrize("host", ["evil.net", "a.b.example.test", "127.0.0.1", "exampleXtest", "_", "-a.example.test"])
def test_a_name_that_is_not_ours_is_refused(edge: Any, host: str) -> None:
    answer = edge.ask(host, tls=False)
    assert answer.status == 421
    assert answer.all("Location") == []


def test_a_health_check_by_address_is_answered(edge: Any) -> None:
    answer = edge.ask("10.0.0.7", "/edge-health", tls=False)
    assert (answer.status, answer.body) == (200, b"ok\n")


@pytest.mark.parametrize("name", ["evil.net", "a.b.example.test", "example.org", None])
def test_no_certificate_is_shown_for_other_names(edge: Any, name: str | None) -> None:
    context = ssl._create_unverified_context()
    address = ("127.0.0.1", edge.prefix.ports[443])
    with socket.create_connection(address) as plain, pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        context.wrap_socket(plain, server_hostname=name)


@pytest.mark.parametrize(
    ("version", "accepted"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_old_versions_of_tls_are_refused(edge: Any, version: ssl.TLSVersion, accepted: bool) -> None:
    context = ssl.create_default_context(cafile=str(edge.ca_file))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", edge.prefix.ports[443])) as plain:
        if accepted:
            assert context.wrap_socket(plain, server_hostname=API).version() == f"TLSv1.{version.name[-1]}"
        else:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname=API)


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"])
def test_weak_ciphers_are_refused(edge: Any, cipher: str) -> None:
    context = ssl.create_default_context(cafile=str(edge.ca_file))
    context.set_ciphers(cipher)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", edge.prefix.ports[443])) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=API)


def test_http2_is_spoken(edge: Any) -> None:
    context = ssl.create_default_context(cafile=str(edge.ca_file))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", edge.prefix.ports[443])) as plain:
        assert context.wrap_socket(plain, server_hostname=API).selected_alpn_protocol() == "h2"


def test_a_name_of_ours_in_the_handshake_does_not_open_another(edge: Any) -> None:
    request = b"GET / HTTP/1.1\r\nHost: evil.net\r\n\r\n"
    assert edge.raw(request, name=API).status == 421


# --- where requests go ---


@pytest.mark.parametrize(
    ("host", "path", "service"),
    [
        (API, "/", "api"),
        (APEX, "/", "frontend"),
        (APEX, "/docs", "manual"),
        (APEX, "/docs/", "manual"),
        (APEX, "/docs/a/b", "manual"),
        (APEX, "/docsx", "frontend"),
        (APEX, "/a/docs/", "frontend"),
        (APEX, "/a/../docs/x", "manual"),
        (TENANT, "/", "sites"),
        (f"xn--80ak6aa92e.{DOMAIN}", "/", "sites"),
        (TENANT.upper(), "/", "sites"),
        (TENANT + ".", "/", "sites"),
    ],
)
def test_the_longest_path_of_a_name_wins(edge: Any, host: str, path: str, service: str) -> None:
    marker = f"{service}-{abs(hash((host, path)))}"
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {marker}\r\n\r\n".encode()
    assert edge.raw(request, name=APEX).status == 200
    assert edge.log(marker)["service"] == service


def test_the_path_arrives_as_it_was_sent(edge: Any) -> None:
    assert edge.ask(API, "/a%2Fb//c/%E2%82%AC?x=%20&y=/../z").json["path"] == "/a%2Fb//c/%E2%82%AC?x=%20&y=/../z"


# --- what the application is told ---

FORGED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil.net",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Scheme": "http",
    "X-Forwarded-Server": "evil",
    "X-Forwarded-Ssl": "off",
    "X-Forwarded": "for=6.6.6.6",
    "X-Real-IP": "6.6.6.6",
    "X-Client-IP": "6.6.6.6",
    "X-Cluster-Client-IP": "6.6.6.6",
    "True-Client-IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;host=evil.net",
    "X-Original-URL": "/admin",
    "X-Rewrite-URL": "/admin",
    "X-Original-Host": "evil.net",
    "X-Host": "evil.net",
    "X-HTTP-Host-Override": "evil.net",
    "X-Middleware-Subrequest": "middleware:middleware",
    "X-Tenant-ID": "evil",
    "X_Tenant_ID": "evil",
    "Proxy": "http://evil.net",
    "X_Forwarded_For": "6.6.6.6",
    "X_Real_IP": "6.6.6.6",
    "X-Forwarded.For": "6.6.6.6",
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("host", [API, TENANT, WS])
def test_what_a_client_claims_of_itself_does_not_arrive(edge: Any, name: str, host: str) -> None:
    for written in (name, name.lower(), name.upper()):
        answer = edge.ask(host, "/", headers={written: FORGED[name]})
        assert answer.status == 200
        assert FORGED[name] not in [value for _name, value in answer.json["headers"]]


def test_the_application_knows_client_name_and_scheme(edge: Any) -> None:
    answer = edge.ask(API, "/")
    expected = {
        "Host": API,
        "X-Forwarded-Host": API,
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "443",
    }
    assert {name: answer.seen(name) for name in expected} == {name: [value] for name, value in expected.items()}


@pytest.mark.parametrize(
    "request_",
    [
        b"GET http://evil.net/ HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.example.test\r\nHost: evil.net\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.example.test@evil.net\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.net/api.example.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.example.test, evil.net\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.net#api.example.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : api.example.test\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: api.example.test\r\n"
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: api.example.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: evil.net\n\n",
    ],
)
def test_requests_that_two_servers_could_read_differently_are_refused(edge: Any, request_: bytes) -> None:
    edge.sockets.clear()
    answer = edge.raw(request_)
    edge.sockets.clear()
    assert answer.status in (400, 405, 421, 501)


def test_an_absolute_address_decides_over_the_host_header(edge: Any) -> None:
    request = f"GET https://{API}/ HTTP/1.1\r\nHost: evil.net\r\n\r\n".encode()
    answer = edge.raw(request)
    assert answer.status == 200
    assert answer.seen("Host") == answer.seen("X-Forwarded-Host") == [API]


# --- request ids and the log ---


def test_a_request_has_one_id_everywhere(edge: Any) -> None:
    answer = edge.ask(API, "/own/one-id?token=hidden")
    (seen,) = answer.seen("X-Request-ID")
    assert answer.one("X-Request-ID") == seen
    line = edge.log("/own/one-id")
    assert line["request_id"] == seen
    assert "hidden" not in str(line)
    assert line["status"] == 200 and isinstance(line["seconds"], float)
    assert line["upstream_status"] == "200" and float(line["upstream_seconds"]) >= 0
    assert line["client"] == "127.0.0.1" and line["tls"] == "TLSv1.3" and line["host"] == API


def test_an_id_of_our_own_hosts_is_kept_and_a_bad_one_is_not(edge: Any) -> None:
    good = "0123456789abcdef"
    assert edge.ask(API, "/", headers={"X-Request-ID": good}).seen("X-Request-ID") == [good]
    for bad in ("short", "x" * 200, 'a"b"c"d"e"f', "<script>alert</script>"):
        assert edge.ask(API, "/", headers={"X-Request-ID": bad}).seen("X-Request-ID") != [bad]


def test_a_log_line_is_json_whatever_the_client_sends(edge: Any) -> None:
    edge.ask(API, "/log-%22%0a%5c", headers={"User-Agent": 'x"\\\x01{}', "Origin": '"}'})
    assert edge.log("/log-")["user_agent"] == 'x"\\\x01{}'


CUT = "é" * 128 + "…"


@pytest.mark.parametrize(
    ("path", "agent", "logged"),
    [
        ("/%ED%95%9C%EA%B5%AD-%F0%9F%98%80", "Caf\u00e9 \u20ac".encode(), ("/한국-😀", "Café €")),
        # Cut between two characters, never in one.
        ("/long", "é".encode() * 7000, ("/long", CUT)),
        ("/long", b"a" + "é".encode() * 7000, ("/long", "a" + CUT[1:])),
        ("/" + "p" * 9000, b"a" * 9000, ("/" + "p" * 511 + "…", "a" * 256 + "…")),
        ("/" + "%01" * 3000, b"a", ("/" + "\x01" * 511 + "…", "a")),
        # From the first byte that is no character.
        ("/%ff", b"a", ("/…", "a")),
        ("/a%80/b", b"\xff\xfe", ("/a…", "…")),
        ("/a", b"b\xed\xa0\x80", ("/a", "b…")),
        ("/a", b"\xc0\xaf", ("/a", "…")),
        ("/a", b"\x80" * 9000, ("/a", "…")),
        # Halves of one character in two values.
        ("/%E2%82", b"\xac", ("/…", "…")),
    ],
)
def test_a_log_line_is_short_and_utf8_whatever_the_client_sends(
    edge: Any, path: str, agent: bytes, logged: tuple[str, str]
) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {API}\r\nUser-Agent: ".encode() + agent + b"\r\n\r\n"
    line = edge.log(str(edge.raw(request).one("X-Request-ID")))
    assert (line["path"], line["user_agent"], line["status"]) == (*logged, 200)


def test_a_method_of_any_length_is_short_in_the_log(edge: Any) -> None:
    request = b"A" * 4000 + f" /method HTTP/1.1\r\nHost: {API}\r\nX-Request-ID: x\r\n\r\n".encode()
    edge.raw(request)
    assert edge.log('"path":"/method"')["method"] == "A" * 16 + "…"


# --- headers for each kind of response ---


def test_a_page_may_do_what_it_needs_and_nothing_else(edge: Any) -> None:
    answer = edge.ask(APEX, "/page")
    assert answer.one("Content-Security-Policy") == (
        "default-src 'self'; script-src 'self'; style-src 'self'; "
        f"img-src 'self' data: blob: https://{API} https://own.{DOMAIN} https://dead.{DOMAIN}; font-src 'self' data:; "
        f"connect-src 'self' https://{API} https://own.{DOMAIN} https://dead.{DOMAIN} wss://{WS}; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; "
        "upgrade-insecure-requests"
    )
    assert answer.one("X-Frame-Options") == "DENY"
    assert answer.one("X-Content-Type-Options") == "nosniff"
    assert answer.one("Referrer-Policy") == "strict-origin-when-cross-origin"
    assert answer.one("Strict-Transport-Security") == HSTS
    assert answer.one("Cross-Origin-Opener-Policy") == "same-origin-allow-popups"
    assert answer.one("Cross-Origin-Resource-Policy") == "same-site"
    assert "camera=()" in (answer.one("Permissions-Policy") or "")
    assert answer.all("X-Powered-By") == []
    assert answer.one("Server") == "nginx"


def test_scripts_of_a_framework_run_with_the_nonce_that_the_application_is_told(edge: Any) -> None:
    """Next.js reads it from the policy of the request; others may from X-Nonce."""
    seen = set()
    for path in ("/a", "/b"):
        told = edge.ask(TENANT, path, headers={"X-Nonce": "evil", "Content-Security-Policy": "script-src 'nonce-evil'"})
        (nonce,) = told.seen("X-Nonce")
        assert re.fullmatch("[0-9a-f]{32}", nonce)
        assert told.seen("Content-Security-Policy") == [f"script-src 'self' 'nonce-{nonce}'"]
        seen.add(nonce)
    assert len(seen) == 2
    policy = edge.ask(TENANT, "/page").one("Content-Security-Policy") or ""
    (scripts,) = (part for part in policy.split("; ") if part.startswith("script-src"))
    assert re.fullmatch("script-src 'self' 'nonce-[0-9a-f]{32}'", scripts)


@pytest.mark.parametrize("host", [API, APEX])
def test_a_client_hands_no_nonce_to_an_application(edge: Any, host: str) -> None:
    names = ("X-Nonce", "Content-Security-Policy", "Content-Security-Policy-Report-Only")
    answer = edge.ask(host, "/", headers=dict.fromkeys(names, "script-src 'nonce-evil'"))
    assert [answer.seen(name) for name in names] == [[], [], []]


def test_an_asset_carries_no_headers_for_pages(edge: Any) -> None:
    answer = edge.ask(APEX, "/asset")
    for name in ("X-Frame-Options", "Permissions-Policy", "Cross-Origin-Opener-Policy"):
        assert answer.all(name) == []
    assert answer.one("Content-Security-Policy") == "frame-ancestors 'none'"
    assert answer.one("X-Content-Type-Options") == "nosniff"
    assert answer.one("Strict-Transport-Security") == HSTS
    assert answer.all("Cache-Control") == []


@pytest.mark.parametrize("path", ["/assets/index-0a1b.js", "/_next/static/chunks/1.css"])
def test_a_hashed_asset_carries_what_holds_for_everything(edge: Any, path: str) -> None:
    answer = edge.ask(APEX, path)
    assert answer.status == 200
    assert answer.one("Strict-Transport-Security") == HSTS
    assert (answer.one("X-Content-Type-Options"), answer.one("Vary")) == ("nosniff", "Origin")
    assert answer.one("Cross-Origin-Resource-Policy") == "same-site"
    assert answer.all("Content-Security-Policy") == answer.all("X-Powered-By") == []
    asked = {"Origin": f"https://{DOMAIN}", "Access-Control-Request-Method": "GET"}
    assert edge.ask(APEX, path, "OPTIONS", headers=asked).status == 204
    assert edge.ask(APEX, path, headers={**SOCKET, "Origin": "https://evil.net"}).status == 403


@pytest.mark.parametrize("host", [API, WS])
def test_data_is_nobodys_to_keep_or_to_frame(edge: Any, host: str) -> None:
    answer = edge.ask(host, "/data")
    assert answer.one("Cache-Control") == "no-store"
    assert answer.one("Content-Security-Policy") == "frame-ancestors 'none'"
    assert answer.one("X-Content-Type-Options") == "nosniff"
    assert answer.one("Strict-Transport-Security") == HSTS


@pytest.mark.parametrize(("host", "path"), [(API, "/own"), (APEX, "/page/own"), (TENANT, "/page/own")])
def test_what_an_application_says_itself_wins_and_comes_once(edge: Any, host: str, path: str) -> None:
    answer = edge.ask(host, path)
    assert answer.one("Content-Security-Policy") == "default-src 'none'"
    assert answer.one("X-Frame-Options") == "SAMEORIGIN"
    assert answer.one("Referrer-Policy") == "no-referrer"
    assert answer.one("Cache-Control") == "public, max-age=60"
    assert answer.one("Strict-Transport-Security") == HSTS
    assert answer.one("X-Content-Type-Options") == "nosniff"
    assert answer.one("X-Request-ID") != "from-the-application"
    assert answer.all("Access-Control-Allow-Origin") == []
    assert sorted(answer.all("Vary")) == ["Accept-Language", "Origin"]


@pytest.mark.parametrize(("host", "port", "tls"), [(API, 443, True), ("127.0.0.1", 33001, False)])
def test_what_an_application_answers_does_not_steer_nginx(edge: Any, host: str, port: int, tls: bool) -> None:
    """At the edge, and where one service calls another."""
    answer = edge.ask(host, "/steer", tls=tls, port=port)
    assert (answer.status, answer.json["path"]) == (200, "/steer")
    assert "utf-7" not in answer.one("Content-Type")
    assert not [name for name, _value in answer.headers if name.lower().startswith("x-accel")]


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 500, 502, 503, 504])
def test_errors_of_an_application_are_passed_on_with_all_headers(edge: Any, status: int) -> None:
    answer = edge.ask(API, f"/status/{status}")
    assert answer.status == status
    assert answer.json["path"] == f"/status/{status}"
    assert answer.one("Strict-Transport-Security") == HSTS
    assert answer.one("X-Content-Type-Options") == "nosniff"


# --- what is said where nobody answers ---


def test_an_api_that_is_down_answers_with_data(edge: Any) -> None:
    answer = edge.ask(f"dead.{DOMAIN}", "/x")
    assert answer.status == 502
    assert answer.one("Content-Type") == "application/json"
    assert answer.json == {
        "statusCode": 502,
        "message": "The service does not answer",
        "requestId": answer.one("X-Request-ID"),
    }
    assert answer.one("Strict-Transport-Security") == HSTS and answer.one("Cache-Control") == "no-store"


def test_a_page_that_is_down_answers_with_a_page(edge: Any) -> None:
    answer = edge.ask(f"gone.{DOMAIN}", "/x")
    assert answer.status == 502
    assert (answer.one("Content-Type") or "").startswith("text/html")
    assert b"<h1>The service does not answer</h1>" in answer.body
    assert (answer.one("Content-Security-Policy") or "").startswith("default-src 'none'; ")


def test_a_body_may_be_as_large_as_the_catalogue_says(edge: Any) -> None:
    assert edge.ask(API, "/", "POST", body=b"x" * 1024 * 1024).status == 200
    assert edge.ask(API, "/", "POST", body=b"x" * (1024 * 1024 + 1)).status == 413


# --- on the host itself ---


def test_services_call_each_other_on_the_loopback(edge: Any) -> None:
    answer = edge.ask("127.0.0.1", "/data", headers={"X-Request-ID": "0123456789"}, tls=False, port=33001)
    assert answer.status == 200
    assert answer.seen("X-Request-ID") == ["0123456789"]
    assert edge.log("internal:api")["service"] == "internal:api"


def test_figures_and_health_are_for_the_host_alone(edge: Any) -> None:
    assert edge.ask("localhost", "/health", tls=False, port=8099).status == 200
    assert b"Active connections" in edge.ask("localhost", "/nginx-status", tls=False, port=8099).body
    assert edge.ask("localhost", "/other", tls=False, port=8099).status == 404
    text = (edge.prefix.path / "fivepointers" / "00-platform.conf").read_text()
    assert f"listen 127.0.0.1:{edge.prefix.ports[8099]};" in text


# --- behind a load balancer ---


def forwarded(proto: str = "https", client: str = "203.0.113.7") -> dict[str, str]:
    return {"X-Forwarded-Proto": proto, "X-Forwarded-For": client}


def test_the_load_balancer_says_who_the_client_is(balanced: Any) -> None:
    answer = balanced.ask(API, "/", headers=forwarded(), tls=False)
    assert answer.status == 200
    assert answer.seen("X-Forwarded-For") == answer.seen("X-Real-IP") == ["203.0.113.7"]
    assert answer.seen("X-Forwarded-Proto") == ["https"] and answer.seen("X-Forwarded-Port") == ["443"]
    assert answer.one("Strict-Transport-Security") == HSTS


def test_only_what_the_load_balancer_added_counts(balanced: Any) -> None:
    answer = balanced.ask(API, "/", headers=forwarded(client="6.6.6.6, 203.0.113.7"), tls=False)
    assert answer.seen("X-Forwarded-For") == ["203.0.113.7"]


def test_http_at_the_load_balancer_leads_to_https(balanced: Any) -> None:
    answer = balanced.ask(API, "/x?y", headers=forwarded("http"), tls=False)
    assert (answer.status, answer.one("Location")) == (308, f"https://{API}/x?y")
    assert answer.all("Strict-Transport-Security") == []


def test_the_load_balancer_may_ask_for_health_and_for_nothing_else_by_address(balanced: Any) -> None:
    assert balanced.ask("10.0.0.7", "/edge-health", tls=False).status == 200
    assert balanced.ask("10.0.0.7", "/", tls=False).status == 421


def test_who_comes_past_the_load_balancer_is_not_believed(bypassed: Any) -> None:
    answer = bypassed.ask(API, "/", headers=forwarded(), tls=False)
    assert answer.status == 308


def test_cors_is_the_same_behind_a_load_balancer(balanced: Any) -> None:
    for origin, allowed in ((f"https://app.{DOMAIN}", True), ("https://evil.net", False)):
        answer = balanced.ask(API, "/", headers={**forwarded(), "Origin": origin}, tls=False)
        assert answer.all("Access-Control-Allow-Origin") == ([origin] if allowed else [])


def test_a_closed_connection_is_not_an_answer(edge: Any) -> None:
    """The helper of these tests tells a refusal from an answer."""
    with socket.create_connection(("127.0.0.1", edge.prefix.ports[80])) as plain:
        plain.sendall(b"nonsense\r\n\r\n")
        response = http.client.HTTPResponse(plain)
        response.begin()
        assert response.status == 400
