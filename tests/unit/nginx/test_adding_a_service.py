# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""An entry in the catalogue is all that a new service needs: through the real filters, on a live nginx."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import verification

from tests.unit.nginx.live import DOMAIN, SOCKET, Live, Prefix, put_certificate, start
from tests.unit.plan.conftest import Stack

# What somebody writes for it; the host's tag says where it runs.
ENTRIES: dict[str, dict[str, Any]] = {
    "nestjs_api": {"kind": "nestjs_api", "port": 3010, "health": "/health", "public": [{"host": "extra"}]},
    "nextjs": {"kind": "nextjs", "port": 3010, "health": "/health", "public": [{"host": "extra"}]},
    "static_frontend": {"kind": "static_frontend", "port": 3010, "public": [{"host": "extra"}]},
    "yjs_websocket": {"kind": "yjs_websocket", "port": 3010, "public": [{"host": "extra"}]},
}
EXTRA = f"extra.{DOMAIN}"


def plan(entry: dict[str, Any] | None) -> dict[str, Any]:
    """The plan of a small stack, with one more service if an entry is given."""
    stack = Stack().set("e.domain", DOMAIN)
    if entry:
        stack.set("c.services.extra", entry).set("h.web-1.services", ["frontend", "extra"])
    return dict(stack.plan())


@contextmanager
def edge(folder: Path, nginx: str, certificate: Path, upstream: str, plan: dict[str, Any]) -> Iterator[Live]:
    """The edge of a plan, live. Nothing but the addresses of the services is exchanged for the test's own."""
    prefix = Prefix(folder, nginx=nginx)
    upstreams = {name: [upstream] for name in plan["edge"]["upstreams"]}
    prefix.render(
        {
            "nginx_proxy_domain": plan["environment"]["domain"],
            "nginx_proxy_tls": {"mode": "files", "certificate": "x", "key": "y"},
            "nginx_proxy_edge": {**plan["edge"], "upstreams": upstreams},
        }
    )
    put_certificate(folder, certificate)
    yield from start(prefix, certificate)


def allowed(edge: Live, host: str, origin: str) -> bool:
    """Whether pages of an origin may call a host, and may ask so beforehand."""
    preflight = {"Access-Control-Request-Method": "PUT"}
    answers = [
        edge.ask(host, "/x", headers={"Origin": origin}),
        edge.ask(host, "/x", "OPTIONS", {"Origin": origin, **preflight}),
    ]
    said = {tuple(answer.all("Access-Control-Allow-Origin")) for answer in answers}
    assert said in ({()}, {(origin,)}), said
    return said == {(origin,)}


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_entry_in_the_catalogue_is_all_that_a_service_needs(
    tmp_path: Path, nginx: str, certificate: Path, upstream: str, kind: str
) -> None:
    before, after = plan(None), plan(ENTRIES[kind])
    page, foreign = f"https://{EXTRA}", "https://evil.net"
    with edge(tmp_path / "before", nginx, certificate, upstream, before) as old:
        # The stack has a wildcard: until there is such a service, the name is a tenant's.
        old.ask(EXTRA, "/before")
        assert old.log("/before")["service"] == "sites"
        assert page not in str(old.ask(DOMAIN, "/page").all("Content-Security-Policy"))
    with edge(tmp_path / "after", nginx, certificate, upstream, after) as new:
        # Served.
        assert new.ask(EXTRA, "/after").status == 200
        assert new.log("/after")["service"] == "extra"
        assert new.ask(EXTRA, "/after", tls=False).one("Location") == f"{page}/after"
        # Allowed by CORS: the pages of the stack may call it, and its own pages the API.
        assert allowed(new, EXTRA, f"https://{DOMAIN}") and not allowed(new, EXTRA, foreign)
        assert allowed(new, f"api.{DOMAIN}", page) and not allowed(new, f"api.{DOMAIN}", foreign)
        if kind == "yjs_websocket":
            assert new.ask(EXTRA, "/room", headers={**SOCKET, "Origin": f"https://{DOMAIN}"}).status == 101
            assert new.ask(EXTRA, "/room", headers={**SOCKET, "Origin": foreign}).status == 403
        # Allowed by the policies of pages, where pages call it.
        wanted = {"nestjs_api": page, "yjs_websocket": f"wss://{EXTRA}"}.get(kind)
        for host in (DOMAIN, f"tenant.{DOMAIN}"):
            policy = new.ask(host, "/page").one("Content-Security-Policy") or ""
            (connect,) = [part for part in policy.split("; ") if part.startswith("connect-src ")]
            assert wanted is None or wanted in connect.split()
    # Verified.
    checks = [item for item in verification(after, []) if item["service"] == "extra"]
    assert not [item for item in verification(before, []) if item["service"] == "extra"]
    assert {item["do"] for item in checks} >= {"certificate", "websocket" if kind == "yjs_websocket" else "http"}
    assert {urlsplit(item["url"]).hostname for item in checks} == {EXTRA}
