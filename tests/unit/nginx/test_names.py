# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""From the catalogue to a live nginx: the names that lead to others."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge.configuration import certificate_names
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import broken_rules

from tests.unit.nginx.live import DOMAIN, Prefix, put_certificate, start
from tests.unit.plan.conftest import Stack

WWW = f"www.{DOMAIN}"
TLS: dict[str, dict[str, Any]] = {
    "files": {"mode": "files", "certificate": "x", "key": "y"},
    "load_balancer": {"mode": "load_balancer", "trusted": ["127.0.0.0/8"]},
}


@pytest.fixture(scope="module")
def plan() -> Any:
    """The plan of the usual services with two names that lead to others."""
    stack = Stack().set("e.domain", DOMAIN)
    stack.set("c.services.frontend.public", [{"host": "@"}, {"host": "www", "redirect": "@"}])
    stack.set("c.services.collab.public", [{"host": "ws"}, {"host": "*.old.@", "redirect": "api"}])
    return loading.plan(loading.load(stack.catalogue, stack.environment, stack.hosts))


@pytest.fixture(scope="module", params=list(TLS))
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nginx: str, certificate: Any,
    upstream: str, plan: Any,
) -> Any:  # fmt: skip
    """The edge of that plan, live."""
    prefix = Prefix(tmp_path_factory.mktemp("named"), nginx=nginx)
    edge = {**plan["edge"], "upstreams": {name: [upstream] for name in plan["edge"]["upstreams"]}}
    prefix.render({"nginx_proxy_domain": DOMAIN, "nginx_proxy_tls": TLS[request.param], "nginx_proxy_edge": edge})
    put_certificate(prefix.path, certificate)
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
        f"leads from verify.old.{DOMAIN} to api.{DOMAIN}",
    ]
    (check, other) = checks
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


def test_the_certificate_has_the_name(plan: Any) -> None:
    hosts = [host for host in plan["edge"]["virtual_hosts"] if not host["server_name"].startswith(f"*.{DOMAIN}")]
    assert WWW in certificate_names(hosts)
    assert f"*.old.{DOMAIN}" in certificate_names(hosts)
