# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What must be true at the front door, derived from plan and catalogue; and how results are shown."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import (
    JourneyError,
    blocked_scripts,
    broken_rules,
    explanations,
    fits,
    masked,
    renewal,
    secret_values,
    some,
    statuses,
    summary,
    table,
    verification,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.run import packages_needed

from .conftest import DOMAIN, catalogue, checks_of, plan_of


def names(checks: list[dict[str, Any]], service: str) -> list[str]:
    return [check["name"] for check in checks if check["service"] == service]


def one(checks: list[dict[str, Any]], service: str, name: str) -> dict[str, Any]:
    (found,) = [check for check in checks if check["service"] == service and check["name"] == name]
    return found


def with_service(name: str, **changes: Any) -> dict[str, Any]:
    """The repository's catalogue without journeys, with one service changed."""
    content = catalogue()
    content["journeys"] = []
    content["services"][name].update(changes)
    return content


def test_of_the_repository_itself() -> None:
    checks = checks_of()
    health = one(checks, "api", "answers its health check")
    assert health["url"] == f"https://api.{DOMAIN}/api/health"
    assert health["status"] == [200]
    assert one(checks, "sites", "answers its health check")["url"] == f"https://verify.{DOMAIN}/healthz"
    assert one(checks, "collab", "answers its health check")["url"] == f"https://ws.{DOMAIN}/health"
    assert one(checks, "frontend", f"has a certificate for {DOMAIN}")["days"] == [7, 21]
    refused = one(checks, "collab", "rejects a socket from https://foreign.invalid")
    assert refused["url"] == f"wss://ws.{DOMAIN}/verify"
    assert not [name for name in names(checks, "frontend") if name.startswith("allows")]
    assert packages_needed(checks) == ["websockets", "pycrdt"]
    json.dumps(checks)


def test_health_by_any_status_and_path() -> None:
    content = with_service("api", health={"path": "/", "status": [200, 404]})
    check = one(checks_of(content), "api", "answers its health check")
    assert (check["url"], check["status"]) == (f"https://api.{DOMAIN}/", [200, 404])


def test_health_that_is_an_open_port_or_not_public() -> None:
    """Then the front door can only be asked whether it answers at all."""
    for health, public in (({"tcp": True}, "/"), ({"path": "/healthz"}, "/v1")):
        content = with_service("api", health=health, public=[{"host": "api", "path": public}], rate_limits=[])
        check = one(checks_of(content), "api", "answers through the front door")
        assert check["url"] == f"https://api.{DOMAIN}{public.rstrip('/')}/"
        assert fits(404, check["status"])
        assert not fits(502, check["status"])
    relay = checks_of(with_service("collab", health={"tcp": True}))
    assert not [name for name in names(relay, "collab") if name.startswith("answers")]
    assert "accepts a socket from https://sandbox.test" in names(relay, "collab")


def test_an_application_that_answers_cors_itself() -> None:
    checks = checks_of(with_service("api", cors="application"))
    assert not [name for name in names(checks, "api") if name.startswith("rejects")]
    allowed = one(checks, "api", f"allows https://{DOMAIN}")
    assert broken_rules([("access-control-allow-origin", "*")], allowed["headers"]) == []
    assert broken_rules([("access-control-allow-origin", "https://other.test")], allowed["headers"])


def test_origins_are_those_of_pages_that_call() -> None:
    """The first page of the catalogue does not call the API; the second does."""
    content = catalogue()
    content["journeys"] = []
    admin = {"kind": "static_frontend", "port": 8081, "public": [{"host": "admin"}], "build": {"source": "x"}}
    content["services"] = {"admin": admin, **content["services"]}
    assert f"allows https://{DOMAIN}" in names(checks_of(content), "api")
    for name, origins in (("application", []), ("edge", [f"allows https://admin.{DOMAIN}"])):
        content["services"]["api"]["cors"] = name
        content["services"]["frontend"]["needs"] = ["collab"]
        content["services"]["sites"]["needs"] = []
        content["services"]["collab"]["needs"] = []
        found = [check for check in names(checks_of(content), "api") if check.startswith("allows https://a")]
        assert found == origins
    content["services"]["api"]["cors"] = "application"
    assert not [check for check in names(checks_of(content), "api") if "preflight" in check]


def test_a_wildcard_is_tried_at_the_label_that_it_names() -> None:
    checks = checks_of(with_service("sites", public=[{"host": "*", "label": "acme"}]))
    assert one(checks, "sites", "answers its health check")["url"] == f"https://acme.{DOMAIN}/healthz"
    assert one(checks, "sites", f"has a certificate for acme.{DOMAIN}")
    assert not [check for check in checks if check["service"] == "sites" and "//verify." in check.get("url", "")]


def test_a_site_without_client_routes() -> None:
    checks = checks_of(with_service("frontend", spa=False))
    assert one(checks, "frontend", "answers 404 for a missing page")["status"] == [404]
    assert "answers a deep link with the page" not in names(checks, "frontend")


def test_services_that_are_not_public_are_not_asked() -> None:
    content = with_service("collab", public=[])
    content["services"]["frontend"]["needs"] = ["api"]
    assert names(checks_of(content), "collab") == []


def test_two_services_on_one_name_have_one_certificate() -> None:
    content = with_service("api", public=[{"host": "@", "path": "/api"}])
    checks = checks_of(content)
    assert len([check for check in checks if check["name"] == f"has a certificate for {DOMAIN}"]) == 1
    assert one(checks, "api", "answers its health check")["url"] == f"https://{DOMAIN}/api/health"


def test_where_to_look_without_an_edge_of_our_own() -> None:
    plan = plan_of(catalogue())
    for host in plan["hosts"].values():
        host["edge"] = False
    checks = verification(plan, [])
    assert one(checks, "api", "redirects http to https")["where"].startswith("the load balancer's listeners and target")
    assert one(checks, "edge", "rejects an unknown host over http")["where"].startswith("the load balancer's")


def test_a_load_balancer_sends_every_name_to_https_and_names_the_port() -> None:
    plan = plan_of(catalogue())
    assert len(names(verification(plan, []), "edge")) == 2
    plan["environment"]["tls_mode"] = "load_balancer"
    checks = verification(plan, [])
    assert names(checks, "edge") == ["rejects an unknown host over https"]
    (rule,) = one(checks, "api", "redirects http to https")["headers"]
    for place, is_good in (("", True), (":443", True), (":8443", False), (".evil.test", False)):
        location = f"https://api.{DOMAIN}{place}/verify?redirect=1"
        assert bool(re.search(rule["matches"], location)) is is_good, location


def test_some() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcde")) == "a, b, c (and 2 more)"


STEP = {"name": "ask", "service": "sites", "request": "GET /"}


@pytest.mark.parametrize(
    "step, words",
    [
        ({**STEP, "service": "site"}, "unknown service 'site'; use one of api, frontend, sites, collab"),
        ({**STEP}, "'sites' answers on every subdomain of sandbox.test; choose one with host"),
    ],
)
def test_journeys_that_cannot_be_walked(step: dict[str, Any], words: str) -> None:
    plan = plan_of(catalogue())
    with pytest.raises(JourneyError, match=f"journey 'j', step 'ask': {words}"):
        verification(plan, [{"name": "j", "steps": [step]}])


def test_steps_of_a_journey() -> None:
    plan = plan_of(catalogue())
    steps = [
        {**STEP, "host": "${unique}", "contains": "a"},
        {"name": "edit", "service": "collab", "websocket": "yjs", "room": "r/${unique}", "clients": 4},
    ]
    (journey,) = verification(plan, [{"name": "j", "steps": steps}])[-1:]
    page, edit = journey["steps"]
    assert page["url"] == "https://${unique}.sandbox.test/"
    assert page["contains"] == ["a"]
    assert "Origin" not in page["send"], "a page that is opened has no Origin"
    assert edit["url"] == "wss://ws.sandbox.test/r/${unique}"
    assert edit["send"] == {"Origin": "https://sandbox.test"}
    assert edit["clients"] == 4


def test_a_step_names_the_whole_path_below_a_prefix() -> None:
    """As health checks and limits do, and as the application sees it; a room belongs to the address."""
    content = with_service("api", public=[{"host": "@", "path": "/api"}, {"host": "api"}])
    content["services"]["collab"]["public"] = [{"host": "@", "path": "/relay"}]
    plan = plan_of(content)
    steps = [
        {**STEP, "service": "api", "request": "GET /api/health?a=/"},
        {**STEP, "service": "api", "request": "GET /other"},
        {"name": "edit", "service": "collab", "websocket": "open", "room": "r"},
    ]
    (journey,) = verification(plan, [{"name": "j", "steps": steps}])[-1:]
    assert [step["url"] for step in journey["steps"]] == [
        f"https://{DOMAIN}/api/health?a=/",
        f"https://api.{DOMAIN}/other",
        f"wss://{DOMAIN}/relay/r",
    ]
    assert plan["services"]["api"]["internal_url"] == "http://127.0.0.1:33001/api"
    assert plan["services"]["frontend"]["environment"]["API_URL"] == f"https://{DOMAIN}/api"
    assert f"services.api.public: https://{DOMAIN}/api is the first of 2 addresses" in plan["notices"][0]


# --- judging ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers, rule, broken",
    [
        ([("a", "1")], {"header": "a", "matches": "^1$"}, ""),
        ([("A", "1")], {"header": "a", "matches": "^1$"}, ""),
        ([], {"header": "a", "matches": "."}, "a is missing"),
        ([("a", "2")], {"header": "a", "matches": "^1$"}, "a is '2'"),
        ([("a", "1"), ("a", "1")], {"header": "a", "matches": "^1$"}, "a is '1, 1'"),
        ([("b", "x")], {"header": "a|b", "matches": "x"}, ""),
        ([("b", "y")], {"header": "a|b", "matches": "x"}, "a or b is 'y'"),
        ([], {"header": "a", "absent": True}, ""),
        ([("a", "1")], {"header": "a", "absent": True}, "a is '1', but should be absent"),
        ([], {"header": "a", "lacks": "x"}, ""),
        ([("a", "xy")], {"header": "a", "lacks": "x"}, "a is 'xy'"),
    ],
)
def test_rules_for_headers(headers: list[tuple[str, str]], rule: dict[str, Any], broken: str) -> None:
    assert broken_rules(headers, [rule]) == ([broken] if broken else [])


def test_statuses() -> None:
    assert statuses([200, 404]) == "200 or 404"
    assert statuses("200-499") == "200 to 499"
    assert fits(200, [200])
    assert not fits(201, [200])
    assert fits(499, "200-499")
    assert not fits(500, "200-499")


# --- secrets -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "canary"}',
        '{"newPassword":"ca\\"nary"}',
        '{"user": {"accessToken" : "canary"}}',
        '{"apiKey": "canary and it was cut',
        "Authorization: Bearer canary-token",
        "eyJhbGciOi.eyJzdWIi.canary",
        "known canary",
    ],
)
def test_what_is_masked(text: str) -> None:
    assert "canary" not in masked(text, ["canary"] if text.startswith("known") else [])


def test_what_is_not_masked() -> None:
    text = '502 Bad Gateway: {"email": "a@example.com", "status": "ok"}'
    assert masked(text, ["ok", ""]) == text


def test_what_counts_as_secret() -> None:
    found = secret_values({"email": "e", "password": "p", "nested": {"api_key": "k"}, "tokens": ["t", 1, None]})
    assert found == ["p", "k", "t", "1"]


# --- showing -------------------------------------------------------------------------------


def result(level: str, **other: Any) -> dict[str, Any]:
    return {
        "check": "answers",
        "service": "api",
        "asked": "GET /",
        "expected": "status 200",
        "came": "200 OK",
        "level": level,
        "seconds": 0.0123,
        "likely": "",
        "look": "",
        **other,
    }


def test_the_table_is_aligned_and_short() -> None:
    results = [
        result("ok"),
        result("warning", service="frontend", came="20 days"),
        result("failed", check="c" * 100, came="a\nb " * 40, seconds=12.5),
        result("skipped"),
    ]
    lines = table(results, 1.23).splitlines()
    assert lines[0].split() == ["result", "service", "check", "received", "ms"]
    column = lines[0].index("check")
    assert [line[column:][:3] for line in lines[1:5]] == ["ans", "ans", "ccc", "ans"]
    assert max(map(len, lines)) <= 150
    assert lines[1].endswith("12")
    assert lines[3].endswith("12500")
    assert lines[-1] == "4 checks: 1 ok, 1 with a warning, 1 failed, 1 skipped, in 1.2 s"
    assert summary(results[:1], 0.5) == "1 checks: 1 ok, in 0.5 s"


def test_only_failures_are_explained() -> None:
    assert explanations([result("ok"), result("warning"), result("skipped")]) == []
    (text,) = explanations([result("failed", likely="a", look="b")])
    assert [line.split()[0] for line in text.splitlines()] == [
        "api:",
        "request",
        "expected",
        "received",
        "likely",
        "look",
    ]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("files", ("platform_environment.tls", "--tags nginx_proxy")),
        ("acme", ("on edge-1", "journalctl -u certbot")),
        ("load_balancer", ("ACM",)),
    ],
)
def test_what_to_do_about_a_certificate_depends_on_where_it_comes_from(mode: str, words: tuple[str, ...]) -> None:
    plan = plan_of(catalogue())
    plan["environment"]["tls_mode"] = mode
    found = renewal(plan)
    assert all(word in found for word in words), found


NONCE = "default-src 'self'; script-src 'self' 'nonce-abc'"


@pytest.mark.parametrize(
    ("policy", "page", "count"),
    [
        (NONCE, "<script>a</script><SCRIPT >b</SCRIPT>", 2),
        (NONCE, '<script nonce="abc">a</script>', 0),
        (NONCE, '<script nonce="abd">a</script>', 1),
        (NONCE, '<script src="/_next/static/a.js" async=""></script><script type="application/ld+json">{}</script>', 0),
        (NONCE + " 'sha256-AAAA'", "<script>a</script>", 0),
        ("script-src 'self' 'unsafe-inline'", "<script>a</script>", 0),
        ("", "<script>a</script>", 0),
    ],
)
def test_scripts_that_browsers_block_are_counted(policy: str, page: str, count: int) -> None:
    assert blocked_scripts([("Content-Security-Policy", policy)] if policy else [], page) == count
