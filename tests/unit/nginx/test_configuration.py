# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the edge's templates are told, and which mistakes are refused."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge import configuration as derivation
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters.edge import edge_configuration
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.nginx.live import DOMAIN, edge_plan, location, virtual_host

CURVES = "X25519:prime256v1:secp384r1"
FILES = {"mode": "files", "certificate": "x", "key": "y"}


def test_exact_origins_come_before_wildcards_and_all_are_anchored() -> None:
    origins = edge_configuration(edge_plan(), FILES)["origins"]
    assert origins[:2] == ["^https://example\\.test$", "^http://localhost:5173$"]
    assert len(origins) == 3
    assert all(pattern.startswith("^http") and pattern.endswith("$") for pattern in origins)


@given(st.from_regex(r"https?://[a-z0-9.-]{1,30}(:[0-9]{1,5})?", fullmatch=True))
def test_the_pattern_of_an_exact_origin_matches_it_and_nothing_else(origin: str) -> None:
    (pattern,) = derivation.origin_patterns({"exact": [origin]})
    assert re.search(pattern, origin)
    for other in (origin + "x", "x" + origin, origin[:-1], origin.replace(".", "x", 1), origin.upper()):
        assert other == origin or not re.search(pattern, other)


def test_the_plans_own_patterns_are_accepted() -> None:
    assert derivation.origin_patterns({"regex": [plans.origin_regex("https://*.example.com:8443")]})


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.example.test", "api.example.test"),
        ("*.example.test", f'"~^(?<edge_tenant>{derivation.LABEL})\\.example\\.test$"'),
    ],
)
def test_names_are_exact_or_stand_for_one_label(host: str, name: str) -> None:
    assert derivation.server_name(virtual_host(host)) == name


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        (["a.test", "api.a.test"], ["a.test", "api.a.test"]),
        # Let's Encrypt refuses api beside the wildcard.
        (["a.test", "api.a.test", "*.a.test"], ["*.a.test", "a.test"]),
        (["x.api.a.test", "api.a.test", "*.a.test"], ["*.a.test", "x.api.a.test"]),
        (["*.a.test", "b.test", "*.b.test"], ["*.a.test", "*.b.test", "b.test"]),
        ([], []),
    ],
)
def test_a_certificate_has_the_names_that_no_wildcard_covers(hosts: list[str], names: list[str]) -> None:
    assert derivation.certificate_names([virtual_host(host) for host in hosts]) == names


def test_each_domain_has_a_certificate_of_its_own_names() -> None:
    """A wildcard does not cover a name that is in another certificate."""
    hosts = [virtual_host(f"*.{DOMAIN}"), virtual_host(f"api.{DOMAIN}"), virtual_host(DOMAIN)]
    hosts += [{**virtual_host(name), "certificate": f"eu.{DOMAIN}"} for name in (f"eu.{DOMAIN}", f"*.eu.{DOMAIN}")]
    assert derivation.certificates(hosts) == [
        {"name": "edge", "names": [f"*.{DOMAIN}", DOMAIN]},
        {"name": f"eu.{DOMAIN}", "names": [f"*.eu.{DOMAIN}", f"eu.{DOMAIN}"]},
    ]


def test_certificates_come_from_files_and_secrets() -> None:
    secret = {"secretsmanager": "other", "key": "pem"}
    tls = {**FILES, "domains": {"other-brand.com": {"certificate": "y.pem", "key": secret}}}
    assert derivation.certificate_files(tls) == [
        {"path": "fivepointers/tls/edge.crt", "source": "x"},
        {"path": "fivepointers/tls/edge.key", "source": "y", "sensitive": True},
        {"path": "fivepointers/tls/other-brand.com.crt", "source": "y.pem"},
        {"path": "fivepointers/tls/other-brand.com.key", "secret": secret, "sensitive": True},
    ]
    assert derivation.certificate_files({"mode": "acme"}) == []


@pytest.mark.parametrize(
    ("path", "match"), [("/", "/"), ("/docs", '~ "^/docs(?:/|$)"'), ("/a.b/", '~ "^/a\\.b(?:/|$)"')]
)
def test_a_path_is_itself_and_what_lies_below(path: str, match: str) -> None:
    assert derivation.location_match(path) == match


def test_a_relay_of_several_hosts_is_chosen_by_path_and_an_api_is_not() -> None:
    chosen = {item["name"]: item["key"] for item in edge_configuration(edge_plan(), FILES)["upstreams"]}
    assert chosen["edge_collab"] and not chosen["edge_api"]


def test_assets_are_those_of_the_page_unless_another_service_has_their_path() -> None:
    plan = edge_plan()
    plan["virtual_hosts"][1]["locations"].append(location("manual", "static_frontend", "/assets"))
    *_others, assets, _page = edge_configuration(plan, FILES)["servers"][1]["locations"]
    matches = [item["match"] for item in edge_configuration(plan, FILES)["servers"][1]["locations"]]
    assert (assets["service"], assets["headers"], assets["flags"]) == ("frontend", "edge-headers", [])
    # The first pattern that matches wins.
    assert matches.index('~ "^/assets(?:/|$)"') < matches.index(assets["match"])
    (data,) = edge_configuration(plan, FILES)["servers"][0]["locations"]
    assert data["flags"] == ["edge", "api"]


@pytest.mark.parametrize(
    ("kind", "path", "asset"),
    [
        ("static_frontend", "/", "/assets/a-1b.js"),
        ("static_frontend", "/admin", "/admin/assets/a-1b.js"),
        ("nextjs", "/", "/_next/static/chunks/a.js"),
        ("nextjs", "/portal", "/portal/_next/static/chunks/a.js"),
        # By its basePath, or its assetPrefix.
        ("nextjs", "/", "/docs/v2/_next/static/chunks/a.js"),
    ],
)
def test_assets_are_below_the_path_of_their_page(kind: str, path: str, asset: str) -> None:
    pattern = derivation.match_assets(KINDS[kind], path).removeprefix('~ "').removesuffix('"')
    assert re.search(pattern, asset)
    assert not re.search(pattern, f"/other{asset}" if path != "/" else "/other/a-1b.js")


def test_adding_a_service_makes_it_served_and_allowed_by_every_page() -> None:
    plan = edge_plan()
    plan["virtual_hosts"].append(virtual_host(f"search.{DOMAIN}", location("search", "nestjs_api")))
    plan["upstreams"]["search"] = ["10.0.0.9:3010"]
    result = edge_configuration(plan, FILES)
    pages = [
        item
        for server in result["servers"]
        for item in server["locations"]
        if item["answers"] == "page" and item["flags"]
    ]
    assert pages and all(f" https://search.{DOMAIN} " in page["policy"] for page in pages)
    assert f"search.{DOMAIN}" in [server["name"] for server in result["servers"]]


@pytest.mark.parametrize(
    ("added", "directive", "sources"),
    [
        (
            {"connect-src": "https://o1.sentry.io"},
            "connect-src",
            "'self' https://a.test wss://b.test https://o1.sentry.io",
        ),
        ({"style-src": "'unsafe-inline'"}, "style-src", "'self' 'unsafe-inline'"),
        ({"script-src": "'self' https://js.test"}, "script-src", "'self' https://js.test"),
        ({"frame-src": "https://js.test"}, "frame-src", "'self' https://js.test"),
        ({"frame-ancestors": "https://partner.test"}, "frame-ancestors", "https://partner.test"),
        ({"font-src": "'none'"}, "font-src", "'none'"),
        ({"report-uri": "https://reports.test/x"}, "report-uri", "https://reports.test/x"),
        ({}, "upgrade-insecure-requests", ""),
    ],
)
def test_a_service_adds_to_its_policy(added: dict[str, str], directive: str, sources: str) -> None:
    plain = derivation.page_policy(KINDS["static_frontend"], ["https://a.test"], ["wss://b.test"]).split("; ")
    policy = derivation.page_policy(KINDS["static_frontend"], ["https://a.test"], ["wss://b.test"], added).split("; ")
    assert f"{directive} {sources}".strip() in policy
    assert [item for item in policy if item.split()[0] != directive] == [
        item for item in plain if item.split()[0] != directive
    ]


def test_unsafe_inline_takes_the_place_of_the_nonce() -> None:
    """Browsers ignore it beside a nonce."""
    plan = edge_plan()
    page = plan["virtual_hosts"][-1]["locations"][0]
    for added, scripts, nonce in (
        ({}, "'self' 'nonce-$request_id'", True),
        ({"script-src": "https://js.test"}, "'self' 'nonce-$request_id' https://js.test", True),
        ({"script-src": "'unsafe-inline'"}, "'self' 'unsafe-inline'", False),
    ):
        page["csp"] = added
        server = edge_configuration(plan, FILES)["servers"][-1]
        assets, location_ = server["locations"]
        assert f"; script-src {scripts}; " in location_["policy"]
        assert (location_["nonce"], assets["nonce"], assets["policy"]) == (nonce, False, "")


@pytest.mark.parametrize(
    ("limit", "most"),
    [("1m", 100), ("512k", 100), ("11m", 93), ("100M", 10), ("600m", 1), ("1g", 1), ("5g", 1), ("0", 1), ("1", 100)],
)
def test_large_bodies_of_one_client_fill_a_gigabyte_at_most_or_are_one(limit: str, most: int) -> None:
    assert derivation.uploads(limit) == most


def test_a_policy_that_is_tried_blocks_nothing() -> None:
    plan = edge_plan()
    plan["virtual_hosts"][1]["locations"][1] |= {"csp": {"img-src": "https://cdn.test"}, "csp_report_only": True}
    _of_manual, manual, _assets, frontend = edge_configuration(plan, FILES)["servers"][1]["locations"]
    assert frontend["policy"] == "" and " https://cdn.test; " in frontend["policy_report"]
    assert manual["policy"] and manual["policy_report"] == "" and "cdn" not in manual["policy"]


@pytest.mark.parametrize(
    ("version", "directive", "curves"),
    [
        ("", False, CURVES),
        (
            "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.14 (running with OpenSSL 3.0.19)",
            False,
            None,
        ),
        ("nginx version: nginx/1.25.0", False, None),
        ("nginx version: nginx/1.25.1", True, None),
        (
            "nginx version: nginx/1.26.3\nbuilt with OpenSSL 3.5.1 1 Jul 2025",
            True,
            "X25519MLKEM768:" + CURVES,
        ),
        ("nginx version: nginx/1.30.4\nbuilt with OpenSSL 3.5.1 (running with OpenSSL 3.0.9)", True, None),
        ("nginx version: nginx/2.0\nbuilt with OpenSSL 10.0.0", True, "X25519MLKEM768:" + CURVES),
    ],
)
def test_nginx_is_written_to_as_its_version_wants(version: str, directive: bool, curves: str | None) -> None:
    result = derivation.nginx_features(version)
    assert result["http2_directive"] is directive
    assert result["curves"] == (curves or CURVES)


@pytest.mark.parametrize(
    ("request_", "methods", "pattern"),
    [
        ("POST /login", ["POST"], "^/login/?(?:;.*)?$"),
        ("GET /", ["GET", "HEAD"], "^/?(?:;.*)?$"),
        ("PUT /a/b", ["PUT"], "^/a(?:;[^/]*)?/b/?(?:;.*)?$"),
        ("PUT /a.b/", ["PUT"], "^/a\\.b/?(?:;.*)?$"),
    ],
)
def test_a_limited_request_is_itself_with_or_without_a_final_slash(
    request_: str, methods: list[str], pattern: str
) -> None:
    assert derivation.limited_request(request_) == (methods, pattern)


def test_each_service_has_its_own_limits_under_all_its_names() -> None:
    limit = {"request": "POST /x", "rate": "30/m", "burst": 5}
    first = location("my-api", "nestjs_api", rate_limits=[limit, {**limit, "request": "GET /y", "rate": "7/s"}])
    other = location("my", "nestjs_api", rate_limits=[{**limit, "rate": "7/m"}], sockets_per_client=9)
    found = derivation.limits_of(
        [virtual_host("a.test", first), virtual_host("b.test", {**first, "path": "/b"}, other)]
    )
    assert [item["zone"] for item in found["my-api"]["requests"]] == [
        "edge_requests_my_api_1",
        "edge_requests_my_api_2",
    ]
    assert [item["rate"] for item in found["my-api"]["requests"]] == ["30r/m", "7r/s"]
    assert [found[name]["wait"] for name in ("my-api", "my")] == [2, 9]
    assert found["my-api"]["sockets"] is None
    assert found["my"]["sockets"] == {"zone": "edge_sockets_my", "most": 9}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    """Return the plan with one value exchanged."""
    plan = copy.deepcopy(edge_plan())
    place: Any = plan
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return plan


def limited(**changes: Any) -> dict[str, Any]:
    """Return the plan with one limit."""
    limit = {"request": "POST /login", "rate": "30/m", "burst": 20, **changes}
    return changed("virtual_hosts", 0, "locations", 0, "rate_limits", to=[limit])


WRONG: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    (edge_plan(), {"mode": "own"}, {}, "nginx_proxy_tls.mode is 'own'; use one of: files, acme, load_balancer"),
    (
        edge_plan(),
        {"mode": "files", "key": "y"},
        {},
        "nginx_proxy_tls.certificate is missing, but mode files requires it",
    ),
    (edge_plan(), {"mode": "files", "certificate": "x"}, {}, "nginx_proxy_tls.key is missing"),
    (edge_plan(), {"mode": "load_balancer"}, {}, "nginx_proxy_tls.trusted is missing"),
    (edge_plan(), {"mode": "load_balancer", "trusted": []}, {}, "add the networks of the load balancer"),
    (edge_plan(), FILES, {"csp": {"frontnd": "x"}}, "nginx_proxy_csp has 'frontnd', which is not a public service"),
    (edge_plan(), FILES, {"csp": {"frontend": 'a"; return 200'}}, "nginx_proxy_csp.frontend is"),
    (edge_plan(), FILES, {"csp": {"frontend": "a $host"}}, "no double quotes, $"),
    (changed("origins", "exact", to=["https://A.test"]), FILES, {}, "origins.exact has 'https://A.test'"),
    (changed("origins", "exact", to=["https://a.test/"]), FILES, {}, "write origins as https://app.example.com"),
    (changed("origins", "exact", to=["*"]), FILES, {}, "origins.exact has '*'"),
    (changed("origins", "exact", to=["null"]), FILES, {}, "origins.exact has 'null'"),
    (changed("origins", "regex", to=["https://.*"]), FILES, {}, "not anchored at both ends"),
    (changed("origins", "regex", to=["^.*$"]), FILES, {}, "not anchored at both ends or has no scheme"),
    (changed("origins", "regex", to=['^https://a" evil;$']), FILES, {}, "write origins as"),
    (changed("origins", "regex", to=["^https://(a|b)$"]), FILES, {}, "which has a capture group; use (?:...)"),
    (changed("virtual_hosts", 0, "server_name", to="A.test"), FILES, {}, "has the name 'A.test'"),
    (changed("virtual_hosts", 0, "server_name", to="a b"), FILES, {}, "use lowercase host names"),
    (changed("virtual_hosts", 0, "server_name", to="*.a.test"), FILES, {}, "has the name '*.a.test'"),
    (changed("virtual_hosts", 0, "locations", 0, "path", to="x"), FILES, {}, "has the path 'x'"),
    (changed("virtual_hosts", 0, "locations", 0, "path", to='/"'), FILES, {}, "use letters, digits"),
    (changed("upstreams", to={}), FILES, {}, "nginx_proxy_edge.upstreams has no 'api', which api.example.test serves"),
    ({"virtual_hosts": []}, FILES, {}, "nginx_proxy_edge has no key"),
    (limited(request="POST"), FILES, {}, "limits 'POST'; write a method and a path: POST /login"),
    (limited(request="POST login"), FILES, {}, "limits 'POST login'"),
    (limited(request='POST /a" evil;'), FILES, {}, "write a method and a path"),
    (limited(rate="30r/m"), FILES, {}, "has the rate '30r/m'; write 5/s or 30/m"),
    (limited(rate="0/m"), FILES, {}, "has the rate '0/m'"),
]


@pytest.mark.parametrize(("plan", "tls", "more", "said"), WRONG)
def test_mistakes_are_named_with_variable_value_and_fix(
    plan: dict[str, Any], tls: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        edge_configuration(plan, tls, **more)
    assert said in str(caught.value)
