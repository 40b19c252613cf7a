# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A live edge for the tests, and the table of origins."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import certificates
from tests.unit.nginx.live import (
    DOMAIN,
    NEXT_NGINX,
    NGINX,
    Echo,
    Prefix,
    edge_plan,
    put_certificate,
    render,
    start,
    version,
)

# What one client address may do, by service.
LIMITS: dict[str, dict[str, Any]] = {
    "api": {
        "rate_limits": [
            {"request": "POST /api/auth/login", "rate": "6/m", "burst": 2},
            {"request": "POST /api/auth/signup", "rate": "20/m", "burst": 0},
        ]
    },
    "sites": {"rate_limits": [{"request": "GET /search", "rate": "1/m", "burst": 0}]},
    "collab": {"sockets_per_client": 2},
}
# A page of one's own: larger than a word of nginx, and with all that is special to it.
BRAND = "Café & \\'Söhne\\'"
FILLER = 'it\'s \\n "quoted"; {braces} äöü€😀 '
PAGE = (
    "<!doctype html><html><style>b { color: red }</style><b>${brand}</b> $$HOME <h1>${status}: ${message}</h1>"
    f"<p>{FILLER * 400}</p>${{request_id}}</html>\n"
)


@pytest.fixture(scope="session", params=[NGINX, NEXT_NGINX], ids=["nginx", "next-nginx"])
def nginx(request: pytest.FixtureRequest) -> str:
    """Each nginx that the live tests ask; says what is missing, rather than to skip it."""
    if not Path(request.param).exists():
        pytest.fail(f"{request.param} is missing: run `make setup`", pytrace=False)
    return str(request.param)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the domain and its wildcard and the authority that signed it, in one directory."""
    folder = tmp_path_factory.mktemp("tls")
    names = [DOMAIN, f"*.{DOMAIN}"]
    certificates.ensure(folder / "ca.crt", folder / "edge.crt", folder / "edge.key", names, "Test authority")
    return folder


@pytest.fixture(scope="session")
def upstream() -> Any:
    """The address of an upstream that tells what reached it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def inputs(upstream: str, tls: dict[str, Any]) -> dict[str, Any]:
    """Return what the roles are given: the usual services, all of them the one upstream, but one that is down."""
    names = ("api", "frontend", "manual", "own", "collab", "sites")
    return {
        "nginx_internal": [{"service": "api", "port": 33001, "servers": [upstream]}],
        "nginx_proxy_domain": DOMAIN,
        "nginx_proxy_tls": tls,
        "nginx_proxy_edge": edge_plan(gone=[], **{name: [upstream] for name in names}),
    }


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory, nginx: str, certificate: Path, upstream: str) -> Any:
    """The edge of the usual services, live, with TLS of its own."""
    prefix = Prefix(tmp_path_factory.mktemp("edge"), nginx=nginx)
    plan = inputs(upstream, {"mode": "files", "certificate": "x", "key": "y"})
    (own,) = [host for host in plan["nginx_proxy_edge"]["virtual_hosts"] if host["server_name"] == f"own.{DOMAIN}"]
    own["locations"][0]["rate_limits"] = [{"request": "GET /limited", "rate": "1/m", "burst": 0}]
    prefix.render(plan)
    put_certificate(prefix.path, certificate)
    yield from start(prefix, certificate)


@pytest.fixture(scope="session")
def balanced(tmp_path_factory: pytest.TempPathFactory, nginx: str, upstream: str) -> Any:
    """The same behind a load balancer, for which this test stands in: it calls from a trusted address."""
    prefix = Prefix(tmp_path_factory.mktemp("balanced"), nginx=nginx)
    prefix.render(inputs(upstream, {"mode": "load_balancer", "trusted": ["127.0.0.0/8"]}))
    yield from start(prefix, None)


@pytest.fixture(scope="session")
def limited(tmp_path_factory: pytest.TempPathFactory, nginx: str, upstream: str) -> Any:
    """The same with limits for each client address, which each test chooses; and with quick time-outs."""
    prefix = Prefix(tmp_path_factory.mktemp("limited"), nginx=nginx)
    plan = inputs(upstream, {"mode": "load_balancer", "trusted": ["127.0.0.0/8"]})
    for host in plan["nginx_proxy_edge"]["virtual_hosts"]:
        for location in host["locations"]:
            location |= LIMITS.get(location["service"], {})
    page = tmp_path_factory.mktemp("page") / "error.html"
    page.write_text(PAGE)
    files = render({**plan, "nginx_error_page": page, "nginx_brand": BRAND}, version(nginx))
    for setting in ("client_header_timeout 10s;", "client_body_timeout 30s;"):
        assert setting in files["nginx.conf"]
        files["nginx.conf"] = files["nginx.conf"].replace(setting, setting.split()[0] + " 1s;")
    prefix.write(files)
    yield from start(prefix, None)


@pytest.fixture(scope="session")
def bypassed(tmp_path_factory: pytest.TempPathFactory, nginx: str, upstream: str) -> Any:
    """The same behind a load balancer elsewhere: who calls now came past it."""
    prefix = Prefix(tmp_path_factory.mktemp("bypassed"), nginx=nginx)
    prefix.render(inputs(upstream, {"mode": "load_balancer", "trusted": ["10.9.0.0/16"]}))
    yield from start(prefix, None)


@pytest.fixture(scope="session")
def origins() -> list[dict[str, Any]]:
    """The table of origins."""
    return list(yaml.safe_load((Path(__file__).parent / "origins.yml").read_text()))
