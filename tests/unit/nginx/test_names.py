# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""From the catalogue to a live nginx: names that lead to others, and names of several domains."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge.configuration import (
    certificates as certificates_of,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import broken_rules

from sandbox import certificates
from tests.unit.nginx.live import DOMAIN, Prefix, start
from tests.unit.plan.conftest import Stack

WWW = f"www.{DOMAIN}"
# One that brings its certificate, and one whose names are in the environment's.
OTHER, THIRD = "other-brand.test", "third.test"
TLS: dict[str, dict[str, Any]] = {
    "files": {"mode": "files", "certificate": "x", "key": "y"},
    "load_balancer": {"mode": "load_balancer", "trusted": ["127.0.0.0/8"]},
}


@pytest.fixture(scope="module")
def plan() -> Any:
    """The plan of the usual services with names that lead to others, and with further domains."""
    stack = Stack().set("e.domain", DOMAIN)
    stack.set("e.domains", {OTHER: {"certificate": "x", "key": "y"}, THIRD: {}})
    third = [{"host": THIRD}, {"host": f"www.{THIRD}", "redirect": THIRD}]
    stack.set("c.services.frontend.public", [{"host": "@"}, {"host": "www", "redirect": "@"}, *third])
    stack.set("c.services.sites.public", [{"host": "*"}, {"host": f"*.{OTHER}"}, {"host": OTHER, "path": "/shop"}])
    stack.set("c.services.collab.public", [{"host": "ws"}, {"host": "*.old.@", "redirect": "api"}])
    return loading.plan(loading.load(stack.catalogue, stack.environment, stack.hosts))


@pytest.fixture(scope="module", params=list(TLS))
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nginx: str, certificate: Any,
    upstream: str, plan: Any,
) -> Any:  # fmt: skip
    """The edge of that plan, live."""
    prefix = Prefix(tmp_path_factory.mktemp("named"), nginx=nginx)
    names = [DOMAIN, f"*.{DOMAIN}", THIRD, f"www.{THIRD}"]
    for name, folder in (("edge", names), (OTHER, [OTHER, f"*.{OTHER}"])):
        paths = [prefix.path / "fivepointers/tls" / f"{name}.{ending}" for ending in ("crt", "key")]
        certificates.ensure(certificate / "ca.crt", *paths, folder, "Test authority")
    edge = {**plan["edge"], "upstreams": {name: [upstream] for name in plan["edge"]["upstreams"]}}
    prefix.render({"nginx_proxy_domain": DOMAIN, "nginx_proxy_tls": TLS[request.param], "nginx_proxy_edge": edge})
    yield from start(prefix, certificate if request.param == "files" else None)


def ask(live: Any, host: str, path: str, method: str = "GET", **headers: str) -> Any:
    """Ask by https, or as a load balancer does."""
    tls = live.ca_file is not None
    return live.ask(host, path, method, headers if tls else {**headers, "X-Forwarded-Proto": "https"}, tls=tls)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_keeps_method_path_and_query(named: Any, method: str) -> None:
    answer = ask(named, WWW, "/a%20b/%2e?c=d&e=/", method)
    assert (answer.status, answer.one("Location")) == (308, f"https://{DOMAIN}/a%20b/%2e?c=d&e=/")
    assert answer.one("Strict-Transport-Security") == "max-age=63072000"
    assert ask(named, DOMAIN, "/").status == 200, "where it leads is served"


@pytest.mark.parametrize("path", ["//evil.net/login", "/\\evil.net"])
def test_a_redirect_leads_nowhere_else(named: Any, path: str) -> None:
    assert (ask(named, WWW, path).one("Location") or f"https://{DOMAIN}/").startswith(f"https://{DOMAIN}/")


def test_a_redirect_serves_no_socket_and_is_no_origin(named: Any) -> None:
    answer = ask(named, WWW, "/room", Upgrade="websocket", Origin=f"https://{DOMAIN}")
    assert answer.status == 308
    answer = ask(named, f"api.{DOMAIN}", "/", Origin=f"https://{WWW}")
    assert answer.all("Access-Control-Allow-Credentials") == []


def test_what_verification_expects_is_what_nginx_answers(named: Any, plan: Any) -> None:
    checks = [check for check in plan["checks"] if check["name"].startswith("leads from")]
    assert [check["name"] for check in checks] == [
        f"leads from {WWW} to {DOMAIN}",
        f"leads from www.{THIRD} to {THIRD}",
        f"leads from verify.old.{DOMAIN} to api.{DOMAIN}",
    ]
    (check, _third, other) = checks
    host, _slash, path = check["url"].removeprefix("https://").partition("/")
    answer = ask(named, host, f"/{path}")
    assert answer.status in check["status"]
    assert broken_rules(answer.headers, check["headers"]) == []
    assert broken_rules(answer.headers, other["headers"]) != [], "it could fail"
    if named.ca_file is None:  # the test's certificate has no name below old
        host, _slash, path = other["url"].removeprefix("https://").partition("/")
        answer = ask(named, host, f"/{path}")
        assert broken_rules(answer.headers, other["headers"]) == []
    certified = [item["name"] for item in plan["checks"] if item["do"] == "certificate"]
    assert f"has a certificate for {WWW}" in certified


def test_names_are_in_the_certificate_of_their_domain(plan: Any) -> None:
    found = {item["name"]: item["names"] for item in certificates_of(plan["edge"]["virtual_hosts"])}
    assert found == {
        "edge": [f"*.{DOMAIN}", f"*.old.{DOMAIN}", DOMAIN, THIRD, f"www.{THIRD}"],
        OTHER: [f"*.{OTHER}", OTHER],
    }


@pytest.mark.parametrize(
    ("host", "path", "tenant"),
    [(THIRD, "/", []), (OTHER, "/shop", []), (f"a.{OTHER}", "/", ["a"]), (f"a.{DOMAIN}", "/", ["a"])],
)
def test_a_further_domain_is_served_as_the_first_is(named: Any, host: str, path: str, tenant: list[str]) -> None:
    """With a certificate that is good for the name: the client checks it."""
    answer = ask(named, host, path)
    assert (answer.status, answer.seen("X-Tenant-ID")) == (200, tenant)
    assert answer.seen("Host") == answer.seen("X-Forwarded-Host") == [host]


def test_a_redirect_stays_in_its_domain(named: Any) -> None:
    answer = ask(named, f"www.{THIRD}", "/a?b")
    assert (answer.status, answer.one("Location")) == (308, f"https://{THIRD}/a?b")


def test_a_name_of_no_domain_is_refused_and_one_below_a_name_too(named: Any) -> None:
    for host in ("fourth.test", f"x.{THIRD}", f"a.b.{OTHER}", f"a.not{OTHER}"):
        if named.ca_file is None:
            assert ask(named, host, "/").status == 421
        else:
            with pytest.raises(ssl.SSLError):
                ask(named, host, "/")
            assert named.ask(host, tls=False).status == 421


@pytest.mark.parametrize("host", [THIRD, OTHER, f"a.{OTHER}", f"www.{THIRD}"])
def test_http_of_every_domain_leads_to_https(named: Any, host: str) -> None:
    answer = named.ask(host, "/a?b", headers={"X-Forwarded-Proto": "http"}, tls=False)
    assert (answer.status, answer.one("Location")) == (308, f"https://{host}/a?b")


def test_pages_of_every_domain_may_call_the_services(named: Any) -> None:
    for origin, allowed in ((f"https://{THIRD}", True), (f"https://a.{OTHER}", True), (f"https://a.{THIRD}", False)):
        answer = ask(named, f"api.{DOMAIN}", "/", Origin=origin)
        assert answer.all("Access-Control-Allow-Origin") == ([origin] if allowed else [])
