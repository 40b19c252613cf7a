# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The whole verification against a front door on the loopback: as it should be, and with each fault."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import http_client
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import (
    explanations,
    journey_checks,
    journey_step,
    table,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.run import Walker

from .conftest import DOMAIN, TOKEN, Authority, FrontDoor, catalogue, checks_of, failed, plan_of

Walking = Callable[..., list[dict[str, Any]]]


def test_everything_passes_in_time(walk: Walking, door: FrontDoor) -> None:
    start = time.monotonic()
    results = walk()
    assert failed(results) == []
    assert {item["level"] for item in results} == {"ok"}
    assert time.monotonic() - start < 4
    assert len(results) > 30
    asked = "\n".join(door.asked)
    for url in (
        f"GET https://api.{DOMAIN}/api/health",
        f"POST https://api.{DOMAIN}/api/auth/signup",
        f"GET https://verify.{DOMAIN}/healthz",
        f"GET http://{DOMAIN}/verify?redirect=1",
        f"OPTIONS https://api.{DOMAIN}/api/health",
    ):
        assert url in asked
    (edit,) = [item for item in results if item["check"] == "co-edit a text"]
    assert "3 clients agree: edits after" in edit["came"]
    assert "late joiner after" in edit["came"]
    assert "reconnect after" in edit["came"]


A = f"https://{DOMAIN}"
CASES = {
    "slot down": [
        "api: answers its health check",
        "api: sends security headers",
        "api: sign up",
        f"api: allows {A}",
        f"api: allows https://verify.{DOMAIN}",
        "api: rejects https://foreign.invalid",
        f"api: rejects https://not-{DOMAIN}",
    ],
    "no redirect": [f"{name}: redirects http to https" for name in ("api", "frontend", "sites", "collab")],
    "no security headers": [f"{name}: sends security headers" for name in ("api", "frontend", "sites")],
    "tells its version": [f"{name}: sends security headers" for name in ("api", "frontend", "sites")],
    "serves unknown hosts": [f"edge: rejects an unknown host over {scheme}" for scheme in ("https", "http")],
    "no CORS": [
        f"api: allows {A}",
        f"api: allows https://verify.{DOMAIN}",
        "api: answers the preflight of an authenticated call",
    ],
    "no vary": [f"api: allows {A}", f"api: allows https://verify.{DOMAIN}"],
    "every subdomain has credentials": [f"api: allows https://verify.{DOMAIN}"],
    "no preflight": ["api: answers the preflight of an authenticated call"],
    "foreign origins are let in": ["api: rejects https://foreign.invalid", f"api: rejects https://not-{DOMAIN}"],
    "lookalike origins are let in": [f"api: rejects https://not-{DOMAIN}"],
    "no deep links": ["frontend: answers a deep link with the page"],
    "missing asset is the page": ["frontend: answers 404, uncached, for a missing asset"],
    "missing asset is cached": ["frontend: answers 404, uncached, for a missing asset"],
    "mixed content": ["frontend: serves the runtime configuration"],
    "foreign sockets are taken": ["collab: rejects a socket from https://foreign.invalid"],
    "own sockets are refused": [
        f"collab: accepts a socket from {A}",
        f"collab: accepts a socket from https://verify.{DOMAIN}",
        "collab: co-edit a text",
    ],
    "relay forgets": ["collab: co-edit a text"],
    "relay keeps edits to itself": ["collab: co-edit a text"],
    "relay closes sockets": ["collab: co-edit a text"],
    "relay speaks another protocol": ["collab: co-edit a text"],
    # Whom it lets in is the relay's business; that a stranger's page is refused first is the edge's.
    "relay wants a login at the handshake": ["collab: co-edit a text"],
    "login fails": ["api: log in"],
    "anyone may call": ["api: be refused without a token"],
    "pages are stale": ["sites: read the page on its subdomain"],
}


@pytest.mark.parametrize(
    "fault", [name if name == "slot down" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_each_fault_is_found(fault: str, walk: Walking, door: FrontDoor) -> None:
    door.faults.add(fault)
    assert sorted(failed(walk(timeout=1.0))) == sorted(CASES[fault])


def test_a_page_of_which_the_scripts_cannot_run_is_a_warning(walk: Walking, door: FrontDoor) -> None:
    door.faults.add("a page of the build")
    (item,) = [item for item in walk() if item["level"] == "warning"]
    assert (item["service"], item["check"]) == ("frontend", "sends security headers")
    assert item["came"] == (
        f"https://{DOMAIN}/ has 1 inline scripts without the nonce of its policy, which browsers block"
    )
    assert "rendered during the build" in item["likely"] and "script-src" in item["likely"]


@pytest.mark.slow
@pytest.mark.parametrize(("strict", "level"), [(False, "warning"), (True, "failed")])
def test_what_the_policy_of_a_page_blocks_is_named(
    door: FrontDoor, authority: Authority, strict: bool, level: str
) -> None:
    """In its HTML and its style sheets, with the line that allows it."""
    door.faults.add("a page with things of others")
    checks = [check for check in checks_of() if check["service"] == "frontend" and check.get("scripts")]
    (found,) = Walker(door.address, str(authority.file), strict=strict).walk(checks)
    assert found["level"] == level
    assert found["came"] == (
        f"https://{DOMAIN}/: script-src blocks https://js.test/v3; font-src blocks https://f.example.net/a.woff2"
    )
    assert found["likely"].endswith('csp: {script-src: "https://js.test", font-src: "https://f.example.net"}')


def test_an_application_that_fails_for_origins_that_it_does_not_know(walk: Walking, door: FrontDoor) -> None:
    """The usual callback for CORS throws; the message names the key that ends it, and is not given for other faults."""
    door.faults.add("fails for an origin that it does not know")
    (found,) = [item for item in walk() if item["check"] == f"allows https://verify.{DOMAIN}"]
    assert found["came"].startswith("500") and "Not allowed by CORS" in found["came"]
    assert "set cors: application" in found["likely"] and "ALLOWED_ORIGINS" in found["likely"]
    door.faults.add("slot down")
    (found,) = [item for item in walk() if item["check"] == f"allows https://{DOMAIN}"]
    assert "cors: application" not in found["likely"]


def test_what_follows_a_failed_step_is_not_tried(walk: Walking, door: FrontDoor) -> None:
    door.faults.add("login fails")
    steps = [item for item in walk() if item.get("journey")]
    assert [item["level"] for item in steps] == ["ok", "failed", *["skipped"] * 5]
    assert steps[2]["came"] == "not run: 'log in' failed"
    assert not any("/api/auth/me" in line for line in door.asked)


def test_a_failure_says_what_and_where(walk: Walking, door: FrontDoor) -> None:
    door.faults.add("slot down")
    results = walk()
    text = explanations(results)[0]
    assert text.splitlines() == [
        "api: answers its health check",
        f"  request   GET https://api.{DOMAIN}/api/health, at {door.address}",
        "  expected  status 200",
        "  received  502 Bad Gateway: <h1>502 Bad Gateway</h1> (unexpected status)",
        "  likely    nginx is up, but its upstream is not: the process is down, still starting, or on another port",
        "  look      on api-1_i-0: journalctl -t api -n 50; systemctl status 'fivepointers-api@*'; "
        "curl -i http://10.0.0.11:3001/api/health",
    ]
    assert "FAILED" in table(results, 1.0)


@pytest.mark.slow
def test_secrets_are_shown_nowhere(walk: Walking, door: FrontDoor) -> None:
    door.faults.update({"login fails", "anyone may call"})
    results = walk()
    (login,) = [item for item in results if item["check"] == "log in"]
    assert login["came"].startswith('500 Internal Server Error: {"error": "*** is wrong", "accessToken": "***"')
    door.faults = {"cookies are needed", "pages are stale"}
    results += walk()
    shown = json.dumps(results) + table(results, 1.0) + "\n".join(explanations(results))
    for secret in [TOKEN, *door.users.values(), "cookie-canary"]:
        assert secret not in shown


@pytest.mark.slow
def test_cookies_are_kept_as_a_browser_does(walk: Walking, door: FrontDoor) -> None:
    door.faults.add("cookies are needed")
    assert failed(walk()) == []


# --- the connection and the certificate ------------------------------------------------


@pytest.mark.parametrize(
    "names, days, level, words",
    [
        ((DOMAIN, f"*.{DOMAIN}"), 22, "ok", "22 days"),
        ((DOMAIN, f"*.{DOMAIN}"), 20, "warning", "20 days"),
        ((DOMAIN, f"*.{DOMAIN}"), 8, "warning", "8 days"),
        ((DOMAIN, f"*.{DOMAIN}"), 6, "failed", "6 days"),
        ((DOMAIN, f"*.{DOMAIN}"), -2, "failed", "expired"),
        (("other.test",), 90, "failed", "Hostname mismatch"),
    ],
)
def test_certificates(
    walk: Walking,
    door: FrontDoor,
    authority: Authority,
    names: tuple[str, ...],
    days: float,
    level: str,
    words: str,
) -> None:
    door.use(authority.context(names, days + 0.2))
    found = [item for item in walk() if item["check"].startswith("has a certificate")]
    assert {item["level"] for item in found} == {level}
    assert all(words in item["came"] for item in found), found
    ending = days < 21 and "other.test" not in names
    assert all(item["likely"] for item in found if level == "failed")
    assert all(("platform_environment.tls" in item["likely"]) is ending for item in found)


def test_a_certificate_of_another_authority(door: FrontDoor, tmp_path: Any) -> None:
    other = Authority(tmp_path)
    results = Walker(door.address, str(other.file)).walk(checks_of())
    found = [item for item in results if item["check"].startswith("has a certificate")]
    assert found
    assert all("issuer is not trusted" in item["likely"] for item in found)


def test_without_a_front_door_each_check_says_so(authority: Authority) -> None:
    results = Walker("127.0.0.1:1", str(authority.file), 1).walk(checks_of())
    assert {item["level"] for item in results} == {"failed", "skipped"}
    for item in results:
        if item["level"] == "failed":
            assert "connection to 127.0.0.1:1 refused" in item["came"]
            assert item["likely"].startswith("nothing is listening on 127.0.0.1:1")
            assert item["look"]


# --- other applications -----------------------------------------------------------------


@pytest.mark.slow
def test_an_application_without_journeys(walk: Walking, door: FrontDoor) -> None:
    content = {**catalogue(), "journeys": []}
    results = walk(checks_of(content))
    assert failed(results) == []
    assert not any(item.get("journey") for item in results)
    door.faults.add("slot down")
    assert "api: answers its health check" in failed(walk(checks_of(content)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode, room, fault",
    [
        ("open", "plain", "relay closes sockets"),
        ("echo", "echo-1", "no echo"),
        ("broadcast", "broadcast-1", "no broadcast"),
        ("yjs", "plain", "relay forgets"),
    ],
)
def test_modes_of_a_socket(walk: Walking, door: FrontDoor, mode: str, room: str, fault: str) -> None:
    step = {"name": "talk", "service": "collab", "websocket": mode, "room": room, "clients": 4}
    check = journey_step(plan_of(catalogue()), step)
    assert failed(walk([check])) == []
    door.faults.add(fault)
    assert failed(walk([check], timeout=0.5)) == ["collab: talk"]


@pytest.mark.slow
def test_a_socket_that_must_be_refused(walk: Walking, door: FrontDoor) -> None:
    step = {"name": "be refused", "service": "collab", "websocket": "open", "room": "a", "status": 401}
    check = journey_step(plan_of(catalogue()), step)
    door.faults.add("relay wants a login at the handshake")
    assert failed(walk([check])) == []
    door.faults.clear()
    assert failed(walk([check])) == ["collab: be refused"]


JOURNEY_FAULTS = [
    ({"save": {"token": "accessTokn"}}, "the response has no 'accessTokn' ('accessTokn' is not in: accessToken, user)"),
    ({"save": {"mail": "user.mail"}}, "('mail' is not in: email)"),
    ({"contains": "absent"}, "the body does not contain 'absent'"),
    ({"status": [201, 204]}, "unexpected status"),
    ({"headers": {"X-Who": "${nobody}"}}, "no step has saved 'nobody' (known: unique)"),
]


@pytest.mark.parametrize("change, words", JOURNEY_FAULTS)
def test_steps_that_do_not_fit(walk: Walking, change: dict[str, Any], words: str) -> None:
    login = {
        "name": "log in",
        "service": "api",
        "request": "POST /api/auth/login",
        "json": {"email": "a", "password": "p${unique}"},
        "status": 200,
        **change,
    }
    (result,) = walk(journey_checks(plan_of(catalogue()), [{"name": "j", "steps": [login]}]))
    assert result["level"] == "failed"
    assert words in result["came"]


# --- streams, and limits ------------------------------------------------------------------


def step_of(**what: Any) -> list[dict[str, Any]]:
    """The checks of a journey of one step."""
    step = {"name": "step", "service": "api", **what}
    return journey_checks(plan_of(catalogue()), [{"name": "j", "steps": [step]}])


@pytest.mark.parametrize("fault", ["", "events do not end"])
@pytest.mark.parametrize("path", ["/api/events", "/api/events/lines", "/api/events/burst"])
def test_a_stream_is_read_event_by_event(walk: Walking, door: FrontDoor, path: str, fault: str) -> None:
    door.faults.add(fault)
    (result,) = walk(step_of(stream={"request": f"GET {path}", "events": 3, "within": 1}))
    assert (result["level"], result["expected"]) == ("ok", "status 200; 3 events within 1 s, each as it happens")
    assert result["came"].startswith("3 of 3 events in 0.")


@pytest.mark.parametrize(
    ("events", "more", "fault", "words"),
    [
        (3, {}, "events are collected", "3 of 3 events came at once, with the end of the response"),
        (4, {}, "", "3 of 4 events before the response ended"),
        (4, {}, "events do not end", "3 of 4 events within 1 s"),
        (1, {"contains": "absent"}, "", "1 of 1 events, without 'absent'"),
        (1, {}, "slot down", "502 Bad Gateway"),
    ],
)
def test_a_stream_that_does_not_come_event_by_event_fails(
    walk: Walking, door: FrontDoor, events: int, more: dict[str, Any], fault: str, words: str
) -> None:
    door.faults.add(fault)
    (result,) = walk(step_of(stream={"request": "GET /api/events", "events": events, "within": 1}, **more))
    assert result["level"] == "failed" and words in result["came"], result


def test_who_asks_too_often_waits_as_long_as_the_response_says(walk: Walking, door: FrontDoor) -> None:
    (result,) = walk(step_of(request="GET /api/limited/1/1"))
    assert (result["level"], result["came"]) == ("ok", "200 OK, after waiting 1 s as 429 asked")
    assert 1 <= result["seconds"] < 3


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        # No time is said, or one that is too long, or the limit is what the step expects.
        ("/api/limited/1/", 200, "failed"),
        ("/api/limited/1/3600", 200, "failed"),
        ("/api/limited/1/soon", 200, "failed"),
        ("/api/limited/1/60", 429, "ok"),
    ],
)
def test_a_limit_is_not_waited_for_without_end(walk: Walking, path: str, status: int, level: str) -> None:
    (result,) = walk(step_of(request=f"GET {path}", status=status))
    assert (result["level"], result["seconds"] < 1) == (level, True), result


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("Thu, 01 Jan 1970 00:01:40 GMT", 90), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("", None), ("-1", None)],
)
def test_a_time_to_wait_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert http_client.Answer(429, [("retry-after", text)], b"", 0).retry_after(now=10) == seconds
