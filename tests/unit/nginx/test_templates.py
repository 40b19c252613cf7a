# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Every template, rendered for a table of plans and read by nginx itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import crossplane
import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text

from tests.unit.nginx.live import (
    DOMAIN,
    ROOT,
    Prefix,
    edge_plan,
    location,
    put_certificate,
    render,
    version,
    virtual_host,
)
from tests.unit.release.conftest import make_spec

FILES = {"mode": "files", "certificate": "x", "key": "y"}
BALANCER = {"mode": "load_balancer", "trusted": ["10.0.0.0/20", "10.0.16.0/20"]}


def with_edge(edge: dict[str, Any], tls: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"nginx_proxy_domain": DOMAIN, "nginx_proxy_tls": tls or FILES, "nginx_proxy_edge": edge, **more}


def one_host(*locations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "virtual_hosts": [virtual_host(f"one.{DOMAIN}", *locations)],
        "upstreams": {item["service"]: ["10.0.0.1:3001"] for item in locations},
        "origins": {"exact": [], "wildcards": [], "regex": []},
        **changes,
    }


# Takes as long as all others together, and differs from them in its size only.
LARGE = "300 names"
PLANS: dict[str, dict[str, Any]] = {
    "a host that calls nothing": {"nginx_internal": []},
    "a host that is not told what it calls": {},
    "a host that calls services": {
        "nginx_internal": [
            {"service": "api", "port": 33001, "servers": ["10.0.0.1:3001", "10.0.0.2:3001"]},
            {"service": "not-there-yet", "port": 33002, "servers": []},
        ],
        "nginx_trusted_addresses": ["10.0.0.1", "10.0.0.0/16", "2001:db8::/32"],
    },
    "the usual services": with_edge(edge_plan()),
    "behind a load balancer": with_edge(edge_plan(), BALANCER),
    "no allowed origin": with_edge(one_host(location("api", "nestjs_api"))),
    "no public service": with_edge(
        {"virtual_hosts": [], "upstreams": {}, "origins": {"exact": [], "wildcards": [], "regex": []}}
    ),
    "no host for a service": with_edge(one_host(location("api", "nestjs_api"), upstreams={"api": []})),
    "many hosts for a relay": with_edge(
        one_host(
            location("collab", "yjs_websocket"), upstreams={"collab": [f"10.0.0.{last}:3003" for last in range(1, 9)]}
        )
    ),
    "all kinds under one name": with_edge(
        one_host(
            location("collab", "yjs_websocket", "/socket/v1"),
            location("api", "nestjs_api", "/api", body_limit="0"),
            location("blog", "nextjs", "/blog/", body_limit="100k"),
            location("own", "nestjs_api", "/o.w~n-", cors="application"),
            location("frontend", "static_frontend"),
        ),
        nginx_internal=[{"service": "api", "port": 33001, "servers": ["10.0.0.1:3001"]}],
    ),
    "limits for clients": with_edge(
        one_host(
            location(
                "my-api",
                "nestjs_api",
                "/api",
                rate_limits=[
                    {"request": "POST /api/login", "rate": "30/m", "burst": 20},
                    {"request": "GET /api/a.b~c", "rate": "5/s", "burst": 0},
                ],
                sockets_per_client=10,
            ),
            location("collab", "yjs_websocket", "/socket", sockets_per_client=300),
            location("frontend", "static_frontend"),
        )
    ),
    "a policy replaced, one dropped": with_edge(
        edge_plan(),
        nginx_proxy_csp={"frontend": "default-src 'self'; script-src 'self' 'unsafe-eval'", "sites": ""},
        nginx_proxy_hsts="max-age=63072000; includeSubDomains; preload",
        nginx_proxy_cors_expose=[],
    ),
    "long names": with_edge(
        {
            **edge_plan(),
            "virtual_hosts": [
                virtual_host(".".join(["a" * 63, "b" * 63, "c" * 63, DOMAIN]), location("api", "nestjs_api"))
            ],
            "origins": {"exact": ["https://" + ".".join(["a" * 63, "b" * 63, "c" * 63, DOMAIN])], "regex": []},
        }
    ),
    LARGE: with_edge(
        {
            **edge_plan(),
            "virtual_hosts": [virtual_host(f"h{n}.{DOMAIN}", location("api", "nestjs_api")) for n in range(300)],
            "origins": {"exact": [f"https://h{n}.{DOMAIN}" for n in range(300)], "regex": []},
        }
    ),
}
EACH_PLAN = [name for name in PLANS if name != LARGE]
SCANNED = ["the usual services", "behind a load balancer", "all kinds under one name", "limits for clients"]


@pytest.fixture
def prefix(tmp_path: Path, nginx: str, certificate: Path) -> Prefix:
    it = Prefix(tmp_path, nginx=nginx)
    put_certificate(tmp_path, certificate)
    return it


@pytest.mark.parametrize("name", [*EACH_PLAN, pytest.param(LARGE, marks=pytest.mark.slow)])
def test_nginx_accepts_what_is_rendered(prefix: Prefix, name: str) -> None:
    prefix.render(PLANS[name])
    assert prefix.test() == ""


def test_nginx_accepts_a_page_as_large_as_it_may_be(prefix: Prefix, tmp_path: Path) -> None:
    page = tmp_path / "error.html"
    page.write_text(f"<html>{'é' * 199_900}</html>")
    prefix.render({**PLANS["the usual services"], "nginx_error_page": page})
    assert prefix.test() == ""


def test_nginx_refuses_what_is_broken(prefix: Prefix) -> None:
    """The test above can fail."""
    files = render(PLANS["the usual services"])
    files["fivepointers/edge.conf"] += "nonsense;\n"
    prefix.write(files)
    assert 'unknown directive "nonsense"' in prefix.test()


@pytest.mark.parametrize("name", EACH_PLAN)
def test_no_variable_is_left_empty_or_unrendered(name: str) -> None:
    for path, text in render(PLANS[name]).items():
        assert "{{" not in text and "{%" not in text and "None" not in text.replace("SameSite=None", ""), path
        assert text.startswith("# Managed by Ansible, role fivepointers.platform.nginx"), path
        assert "\n\n\n" not in text, path


@pytest.mark.parametrize("name", EACH_PLAN)
def test_no_map_captures_and_what_a_name_captured_stands_alone(prefix: Prefix, name: str) -> None:
    """nginx before 1.30.4 measures a text and then copies it; a map that captures meanwhile makes it longer.

    The release and what the log shortens may be captured: only the log's line has them, which takes each variable once
    and is not measured.
    """
    prefix.write(render(PLANS[name]))
    parsed = crossplane.parse(str(prefix.path / "nginx.conf"), combine=True)
    maps, release = 0, re.compile(r"\$platform_(release|live|(?:short|cut)_\w+)")
    for item in every(parsed["config"][0]["parsed"]):
        if item["directive"] == "map" and release.fullmatch(item["args"][1]) and item["args"][1] != "$platform_release":
            assert {entry["args"][0] for entry in item["block"]} <= {"", "$1", "$1…", item["args"][0]}
            item["block"].clear()
        elif item["directive"] == "map":
            maps += 1
            assert not any(re.search(r"\((?!\?(?:[:!]|<!))", entry["directive"]) for entry in item["block"]), item[
                "args"
            ]
        for argument in item["args"]:
            assert not re.search(r"\$(?:\d|\{\d)", argument), item
            assert "$edge_tenant" not in argument or argument == "$edge_tenant", item
            logged = item["directive"] == "log_format"
            assert logged or not release.search(argument) or release.fullmatch(argument), item
    assert maps > 5


def every(block: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every directive, also those inside others."""
    for item in block:
        yield item
        yield from every(item.get("block", []))


def gixy(prefix: Prefix, files: dict[str, str]) -> list[tuple[str, str]]:
    """What gixy finds in a configuration: which of its checks, and why."""
    prefix.write(files)
    # It wants open_file_cache, which would remember the flag that says which slot is live.
    options = ["--skips", "try_files_is_evil_too", "-f", "json", "-c", "/dev/null"]
    found = subprocess.run(
        ["gixy", *options, str(prefix.path / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout, found.stderr
    return [(item["plugin"], item["reason"]) for item in json.loads(found.stdout)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCANNED)
def test_gixy_finds_nothing(tmp_path: Path, name: str) -> None:
    # As for an old OpenSSL: gixy cannot know that of newer ones the role asks first.
    files = render(PLANS[name], nginx_version="")
    # On a single host the fronts of all services are in the same nginx as the edge.
    fronts = {
        f"fivepointers/front-{kind}.conf": front_text(make_spec(kind, name=kind, port=3001 + number))
        for number, kind in enumerate(KINDS)
    }
    assert gixy(Prefix(tmp_path), {**files, **fronts}) == []


@pytest.mark.slow
def test_gixy_reads_everything_that_is_rendered(tmp_path: Path) -> None:
    """The test above can fail: a mistake is found in each file that nginx reads by itself."""
    files = render(PLANS["the usual services"])
    mistake = "\nserver { listen 8099; location / { proxy_set_header Host $http_host; proxy_pass $arg_x; } }\n"
    for number, name in enumerate(name for name in files if name.startswith("fivepointers/") and name.count("/") == 1):
        found = gixy(Prefix(tmp_path / str(number)), {**files, name: files[name] + mistake})
        assert {plugin for plugin, _reason in found} >= {"host_spoofing", "ssrf"}, name


def test_a_main_file_of_the_users_own_is_left_alone(prefix: Prefix) -> None:
    files = render({**PLANS["the usual services"], "nginx_manage_main_file": False}, version(prefix.nginx))
    assert "nginx.conf" not in files
    prefix.write(files)
    (prefix.path / "sites-enabled").mkdir()
    shutil.copy("/etc/nginx/nginx.conf", prefix.path / "stock.conf")
    shutil.copy("/etc/nginx/mime.types", prefix.path)
    (prefix.path / "nginx.conf").write_text(
        prefix.moved((prefix.path / "stock.conf").read_text()).replace("/var/log/nginx", str(prefix.path))
    )
    assert prefix.test() == ""


def test_newer_versions_are_written_differently() -> None:
    plan = PLANS["the usual services"]
    old = render(plan, "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.14 (running with OpenSSL 3.0.19)")
    new = render(plan, "nginx version: nginx/1.26.3\nbuilt with OpenSSL 3.5.1 1 Jul 2025")
    assert "ssl http2;" in old["fivepointers/edge.conf"] and "http2 on;" not in old["fivepointers/edge.conf"]
    assert "ssl http2;" not in new["fivepointers/edge.conf"] and "http2 on;" in new["fivepointers/edge.conf"]
    assert "X25519MLKEM768" not in old["fivepointers/snippets/edge-tls.conf"]
    assert "ssl_ecdh_curve X25519MLKEM768:X25519:" in new["fivepointers/snippets/edge-tls.conf"]


def test_brotli_is_left_out_where_its_module_is_not_there(prefix: Prefix) -> None:
    files = render({**PLANS["the usual services"], "__nginx_has_brotli": False}, version(prefix.nginx))
    assert not [path for path, text in files.items() if "brotli_static" in text]
    prefix.write(files)
    assert prefix.test() == ""


MODULE = "/etc/nginx/modules-enabled/50-mod-http-brotli-static.conf"


@pytest.mark.parametrize(
    ("wanted", "installed", "said", "used"),
    [
        (True, False, f"LoadState=loaded\n{MODULE}", True),
        (True, True, "LoadState=not-found", True),
        (True, False, "LoadState=loaded\n/etc/nginx/modules-enabled/50-mod-stream.conf", False),
        (False, False, f"LoadState=loaded\n{MODULE}", False),
        (False, True, "LoadState=not-found", False),
    ],
)
def test_brotli_is_used_where_its_module_is(
    template: Callable[[str, dict[str, Any]], Any], wanted: bool, installed: bool, said: str, used: bool
) -> None:
    tasks = yaml.safe_load((ROOT / "roles/nginx/tasks/main.yml").read_text())
    (decision,) = (task["vars"]["__nginx_has_brotli"] for task in tasks if "vars" in task)
    known = {"nginx_brotli": wanted, "__nginx_install": {"changed": installed}, "__nginx_unit": {"stdout": said}}
    assert template(decision, known) is used


def test_the_unit_heals() -> None:
    unit = render({})["/etc/systemd/system/nginx.service.d/fivepointers.conf"]
    assert "Restart=always" in unit and "StartLimitIntervalSec=0" in unit and "LimitNOFILE=32768" in unit


def test_the_kernel_notices_a_dead_host_before_nginx_gives_up() -> None:
    """nginx waits 60 s for an answer, and then asks nobody else in time."""
    files = render({})
    path = "/etc/sysctl.d/60-fivepointers.conf"
    settings = dict(re.findall(r"^-net\.ipv4\.tcp_(\w+) = (\d+)$", files[path], re.M))
    # As the kernel reckons: 0.2 s at first, and twice as long each time.
    assert 0.2 * (2 ** (int(settings["retries2"]) + 1) - 1) == pytest.approx(12.6)
    silent = int(settings["keepalive_time"]) + int(settings["keepalive_intvl"]) * int(settings["keepalive_probes"])
    assert silent == 19
    assert "proxy_socket_keepalive on;" in files["fivepointers/snippets/forward.conf"]
    unit = files["/etc/systemd/system/nginx.service.d/fivepointers.conf"]
    assert f"ExecStartPre=+-/usr/lib/systemd/systemd-sysctl {path}\n" in unit


@pytest.mark.parametrize("role", ["nginx", "nginx_proxy"])
def test_every_template_is_used(role: str) -> None:
    folder = ROOT / "roles" / role
    listed = (folder / "vars" / "main.yml").read_text()
    for template in (folder / "templates").rglob("*.j2"):
        assert f"src: {template.relative_to(folder / 'templates')}," in listed


def test_with_acme_nginx_reads_what_certbot_writes() -> None:
    plan = edge_plan()
    plan["virtual_hosts"].append({**virtual_host("other-brand.test"), "certificate": "other-brand.test"})
    text = render({"nginx_proxy_domain": DOMAIN, "nginx_proxy_tls": {"mode": "acme"}, "nginx_proxy_edge": plan})
    edge = text["fivepointers/edge.conf"]
    names = set(re.findall(r"/etc/letsencrypt/live/([a-z.-]+)/(?:fullchain|privkey)\.pem", edge))
    defined = yaml.safe_load((ROOT / "roles/nginx_proxy/vars/main.yml").read_text())
    prefix = defined["__nginx_proxy_acme_prefix"]
    assert names == {f"{prefix}edge", f"{prefix}other-brand.test"}
    assert "fivepointers/tls/" not in edge
    hook = (ROOT / "roles/nginx_proxy/files/certificate-renewed").read_text()
    assert f"*/{prefix}*)" in hook
