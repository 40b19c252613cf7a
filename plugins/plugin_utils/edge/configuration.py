# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The values of the edge's templates, derived from the plan. Pure.

The plan says which service answers under which name. This module turns that into values for nginx: anchored patterns
without captures (a map with captures can overflow nginx's heap before 1.30.4, and a plain key ignores case), server
names, and the content security policy of each page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.headers import HEADERS, value
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS, Kind
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import TIMEOUT

LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"

# The first OpenSSL with the hybrid key exchange; with an older one, nginx rejects its name.
POST_QUANTUM_OPENSSL = (3, 5)
# The first nginx in which http2 is a directive, no longer a parameter of listen.
HTTP2_DIRECTIVE_NGINX = (1, 25, 1)

# nginx's $request_id is 128 random bits, made once for each request.
NONCE = "$request_id"
# What sticks a client to a host.
STICKY = {"cookie": "$edge_sticky", "address": "$remote_addr"}

# What one client may have on the edge's disk: a body that memory does not hold lies in a file until it is complete.
UPLOADED_BYTES = 2**30
UPLOADS = 100

# Where browsers send what a policy that is only tried would block.
REPORTS = "/.well-known/csp-reports"

# Where nginx reads a certificate with its chain, and its key. certbot writes those of mode acme.
CERTIFICATES = {
    "files": ("/etc/nginx/fivepointers/tls/{}.crt", "/etc/nginx/fivepointers/tls/{}.key"),
    "acme": (
        "/etc/letsencrypt/live/fivepointers-{}/fullchain.pem",
        "/etc/letsencrypt/live/fivepointers-{}/privkey.pem",
    ),
    "load_balancer": ("", ""),
}


class EdgeError(ValueError):
    """The edge cannot be configured as requested. The text names the variable, the value and the fix."""


def quote(text: str) -> str:
    """Escape what is special in a pattern and nothing else, since nginx reads it."""
    return re.sub(r"([.+*?()\[\]{}|^$\\])", r"\\\1", text)


def origin_patterns(origins: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one anchored, case-sensitive pattern for each allowed origin: exact ones, then wildcards."""
    for origin in origins.get("exact", []):
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[a-z0-9.-]+(?::\d{1,5})?", origin):
            raise EdgeError(f"nginx_proxy_edge.origins.exact has {origin!r}; write origins as https://app.example.com")
    patterns = [f"^{quote(origin)}$" for origin in origins.get("exact", [])] + list(origins.get("regex", []))
    for pattern in patterns:
        if not re.fullmatch(r"\^[a-z][a-z0-9\\+.-]*://[^\"\s]+\$", pattern):
            raise EdgeError(
                f"nginx_proxy_edge.origins has {pattern!r}, which is not anchored at both ends or has no scheme; "
                "write origins as https://app.example.com or https://*.example.com"
            )
        if re.search(r"\((?!\?:)", pattern):
            raise EdgeError(
                f"nginx_proxy_edge.origins has {pattern!r}, which has a capture group; use (?:...), since captures in "
                "a map can crash nginx"
            )
    return patterns


def server_name(host: Mapping[str, Any]) -> str:
    """Return the server name for nginx: exact, or a pattern that matches exactly one label in place of the wildcard.

    The pattern captures the label as the tenant. It is matched once, before anything reads the variable. Only a map
    with captures could change a value that nginx has already measured, and crash nginx.
    """
    name = str(host["server_name"])
    fixed = name[2:] if host["wildcard"] and name.startswith("*.") else name
    if not re.fullmatch(rf"{LABEL}(?:\.{LABEL})*", fixed):
        raise EdgeError(f"nginx_proxy_edge.virtual_hosts has the name {name!r}; use lowercase host names")
    return f'"~^(?<edge_tenant>{LABEL})\\.{quote(fixed)}$"' if host["wildcard"] else fixed


def location_match(path: str) -> str:
    """Return the argument of nginx's location for a path and everything below it: /docs and /docs/x, not /docsx."""
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", path):
        raise EdgeError(f"nginx_proxy_edge.virtual_hosts has the path {path!r}; use letters, digits and . _ ~ - /")
    return "/" if path == "/" else f'~ "^{quote(path.rstrip("/"))}(?:/|$)"'


def limited_request(request: str) -> tuple[list[str], str]:
    """Return the methods and the pattern of a request such as "POST /login".

    Applications treat a path the same in any case, with a trailing slash, and with parameters after a semicolon: in any
    part of it (matrix parameters), or as the beginning of the query (Fastify). They answer HEAD like GET, at the same
    cost.
    """
    method, _space, path = request.partition(" ")
    if not re.fullmatch(r"[A-Z]+", method) or not re.fullmatch(r"/[A-Za-z0-9._~/-]*", path):
        raise EdgeError(f"nginx_proxy_edge.virtual_hosts limits {request!r}; write a method and a path: POST /login")
    pattern = quote(path.rstrip("/")).replace("/", "(?:;[^/]*)?/")
    return ["GET", "HEAD"] if method == "GET" else [method], f"^{pattern.removeprefix('(?:;[^/]*)?')}/?(?:;.*)?$"


def limits_of(hosts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the limits for one client address, by service.

    Each has C(requests) ([{zone, methods, pattern, rate, burst}]), C(sockets) ({zone, most}, or None) and C(wait), the
    seconds until the slowest of its limits allows another request (10 without limits). Zones are named after the
    service, so that a reload does not mix up the counters of two services.
    """
    limits: dict[str, dict[str, Any]] = {}
    for location in (location for host in hosts for location in host["locations"]):
        if location["service"] in limits:
            continue
        name = location["service"].replace("-", "_")
        requests, waits = [], []
        for number, limit in enumerate(location.get("rate_limits") or [], 1):
            found = re.fullmatch(r"([1-9]\d*)/([sm])", str(limit["rate"]))
            if not found:
                raise EdgeError(f"nginx_proxy_edge.virtual_hosts has the rate {limit['rate']!r}; write 5/s or 30/m")
            waits.append(math.ceil({"s": 1, "m": 60}[found[2]] / int(found[1])))
            methods, pattern = limited_request(limit["request"])
            requests.append(
                {
                    "zone": f"edge_requests_{name}_{number}",
                    "methods": methods,
                    "pattern": pattern,
                    "rate": f"{found[1]}r/{found[2]}",
                    "burst": int(limit["burst"]),
                }
            )
        most = location.get("sockets_per_client")
        sockets = {"zone": f"edge_sockets_{name}", "most": int(most)} if most else None
        limits[location["service"]] = {"requests": requests, "sockets": sockets, "wait": max(waits, default=10)}
    return limits


def uploads(body_limit: str) -> int:
    """Return how many large bodies one client may send at once, so that they fill a gigabyte at most, or are one."""
    number, unit = re.fullmatch(r"(\d+)([kmg]?)", body_limit.lower()).groups()  # type: ignore[union-attr]
    size = int(number) * 1024 ** " kmg".index(unit or " ")
    return max(1, min(UPLOADS, UPLOADED_BYTES // size)) if size else 1


def match_assets(kind: Kind, path: str) -> str:
    """Return what matches the files of a service at a path that are named after their content.

    They belong to pages, but get no policies and no maintenance page.
    """
    targets = "|".join(f"(?:.*/)?{hashed.target}" if hashed.anywhere else hashed.target for hashed in kind.hashed)
    return f'~ "^{quote(path.rstrip("/"))}/(?:{targets})/"'


def page_policy(kind: Kind, apis: Iterable[str], sockets: Iterable[str], more: Mapping[str, str] | None = None) -> str:
    """Return the content security policy for pages of a kind: their own origin, the APIs, the sockets, nothing else.

    more: further sources for each directive. They replace 'none', and 'none' replaces all others.

    Inline scripts of a kind that writes them run with the request's nonce. Browsers ignore 'unsafe-inline' beside a
    nonce, so one replaces the other.
    """
    signed = kind.inline_scripts and "'unsafe-inline'" not in (more or {}).get("script-src", "").split()
    calls = [*apis]
    policy = {
        "default-src": ["'self'"],
        "script-src": ["'self'", *([f"'nonce-{NONCE}'"] if signed else [])],
        "style-src": ["'self'", *(["'unsafe-inline'"] if kind.inline_scripts else [])],
        "img-src": ["'self'", "data:", "blob:", *calls],
        "font-src": ["'self'", "data:"],
        "connect-src": ["'self'", *calls, *sockets],
        "worker-src": ["'self'", "blob:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "upgrade-insecure-requests": [],
    }
    for directive, sources in (more or {}).items():
        # A missing directive falls back to default-src.
        derived = policy.get(directive, ["'self'"] if directive.endswith("-src") else [])
        added = [source for source in [*derived, *sources.split()] if source != "'none'"]
        policy[directive] = ["'none'"] if "'none'" in sources.split() else list(dict.fromkeys(added))
    return "; ".join(" ".join([directive, *sources]) for directive, sources in policy.items())


def header_variable(name: str) -> str:
    """Return the part of a variable's name that stands for a header."""
    return name.lower().replace("-", "_")


def headers_of(hosts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the headers that a service sends, or every one by default: {name, variable, default, pages}."""
    stated = {name for host in hosts for location in host["locations"] for name in location.get("headers") or {}}
    return [
        {"name": name, "variable": header_variable(name), "default": header.default, "pages": header.pages}
        for name, header in HEADERS.items()
        if header.default or name in stated
    ]


def nginx_features(version: str) -> dict[str, Any]:
    """Return what C(nginx -V) supports: http2 as a directive, and the curves. Unknown versions count as the oldest."""
    nginx = _version(r"nginx/(\d+(?:\.\d+)*)", version)
    openssl = _version(r"running with OpenSSL (\d+(?:\.\d+)*)", version) or _version(
        r"built with OpenSSL (\d+(?:\.\d+)*)", version
    )
    curves = ["X25519", "prime256v1", "secp384r1"]
    if openssl >= POST_QUANTUM_OPENSSL:
        curves.insert(0, "X25519MLKEM768")
    return {"http2_directive": nginx >= HTTP2_DIRECTIVE_NGINX, "curves": ":".join(curves)}


def _version(pattern: str, text: str) -> tuple[int, ...]:
    found = re.search(pattern, text)
    return tuple(int(part) for part in found.group(1).split(".")) if found else ()


def check_tls(tls: Mapping[str, Any]) -> None:
    """Raise EdgeError if the TLS settings lack what their mode requires."""
    mode = tls.get("mode")
    needed = {"files": ("certificate", "key"), "acme": (), "load_balancer": ("trusted",)}
    if mode not in needed:
        raise EdgeError(f"nginx_proxy_tls.mode is {mode!r}; use one of: {', '.join(needed)}")
    reasons = {
        "certificate": "the path of the certificate with its chain (PEM) on the controller, or a reference to a secret",
        "key": "the path of its private key (PEM) on the controller, or a reference to a secret",
        "trusted": "the networks of the load balancer as trusted proxies, such as [10.0.0.0/20]",
    }
    for key in needed[mode]:
        if not tls.get(key):
            raise EdgeError(f"nginx_proxy_tls.{key} is missing, but mode {mode} requires it; add {reasons[key]}")


def certificates(hosts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the certificates for these virtual hosts, each with its C(name) on the edge and its C(names)."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for host in hosts:
        found.setdefault(host.get("certificate", "edge"), []).append(host)
    return [{"name": name, "names": certificate_names(found[name])} for name in sorted(found)]


def certificate_files(tls: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the files of certificates and keys below /etc/nginx: from the controller, or from a secret."""
    brought = {"edge": tls, **(tls.get("domains") or {})} if tls["mode"] == "files" else {}
    found = []
    for name, pair in brought.items():
        for key, path in zip(("certificate", "key"), CERTIFICATES["files"], strict=True):
            origin = "secret" if isinstance(pair[key], Mapping) else "source"
            entry = {"path": path.format(name).removeprefix("/etc/nginx/"), origin: pair[key]}
            found.append({**entry, **({"sensitive": True} if key == "key" else {})})
    return found


def certificate_names(hosts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sorted names for a certificate: wildcards, and the names that they do not cover.

    Let's Encrypt rejects a name together with a wildcard that covers it.
    """
    names = {str(host["server_name"]) for host in hosts}
    return sorted(name for name in names if f"*.{name.partition('.')[2]}" not in names or name.startswith("*."))


def _policies(hosts: Sequence[Mapping[str, Any]], overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the policy of each service; overrides take precedence."""
    apis: dict[str, None] = {}
    sockets: dict[str, None] = {}
    shown: dict[str, Mapping[str, Any]] = {}
    for host in hosts:
        for location in host["locations"]:
            shown[location["service"]] = location
            if location["websocket"]:
                sockets["wss://" + host["server_name"]] = None
            elif not KINDS[location["kind"]].pages:
                apis["https://" + host["server_name"]] = None
    for service, policy in overrides.items():
        if service not in shown:
            raise EdgeError(
                f"nginx_proxy_csp has {service!r}, which is not a public service; use one of: {', '.join(shown)}"
            )
        if re.search(r'["$\\\n;{}]', policy.replace("; ", "")):
            raise EdgeError(
                f"nginx_proxy_csp.{service} is {policy!r}; separate directives with '; ', "
                "and use no double quotes, $, backslashes or braces"
            )
    policies = {}
    for service, location in shown.items():
        kind = KINDS[location["kind"]]
        derived = page_policy(kind, apis, sockets, location.get("csp")) if kind.pages else "frame-ancestors 'none'"
        policies[service] = overrides.get(service, derived)
    return policies


def edge_configuration(
    edge: Mapping[str, Any],
    tls: Mapping[str, Any],
    csp: Mapping[str, str] | None = None,
    nginx: str = "",
) -> dict[str, Any]:
    """Return the values that the templates of the role nginx_proxy render.

    Keys: C(origins) (patterns), C(credentialed) (patterns of those that may send cookies), C(upstreams) ({name,
    servers, key, keepalive}), C(limits) (of each service, see limits_of), C(headers) (see headers_of), C(servers)
    ({name, title, wildcard, redirect (the name that it only leads to, or empty), certificate, key (paths on the edge),
    locations: [{match, service, upstream, answers, headers (a snippet), values (the service's own headers, by
    variable), flags (the names whose maintenance mode closes it), cors, body_limit, timeout, limits, websocket,
    streams, uploads (large bodies of one client at once), nonce (whether the application is told one), policy,
    policy_report}], reports (the service whose policy is only tried, or empty)}), C(reports) (the path for what such a
    policy would block; empty if there is none), C(certificates) ([{name, names}]), C(files) (of certificates, for
    config_tree), C(http2_directive) and C(curves). C(nginx) is the output of C(nginx -V). Raises EdgeError.
    """
    check_tls(tls)
    hosts = edge["virtual_hosts"]
    policies = _policies(hosts, csp or {})
    limits = limits_of(hosts)
    servers = []
    # What tells which host of a service gets a request; by default whichever is next.
    keys: dict[str, str] = {}
    for host in hosts:
        locations = []
        # nginx uses the first pattern that matches, and / is not a pattern: longer paths come first.
        for location in sorted(host["locations"], key=lambda location: -len(location["path"])):
            service, kind = location["service"], KINDS[location["kind"]]
            if service not in edge["upstreams"]:
                raise EdgeError(f"nginx_proxy_edge.upstreams has no {service!r}, which {host['server_name']} serves")
            # The path of a socket names a document, and all its sockets must reach the same host.
            key = STICKY.get(location.get("sticky"), "$uri" if location["websocket"] else "")
            if key:
                keys[service] = key
            tried = location.get("csp_report_only", False)
            answers = "page" if kind.pages else "data"
            policy = policies[service]
            own = {
                "match": location_match(location["path"]),
                "service": service,
                "upstream": f"edge_{service}",
                "answers": answers,
                "headers": f"edge-headers-{answers}",
                "values": {
                    header_variable(name): value(name, stated).replace('"', r"\"")
                    for name, stated in (location.get("headers") or {}).items()
                },
                "flags": ["edge", service],
                "cors": location["cors"],
                "body_limit": location["body_limit"],
                "timeout": location.get("timeout", TIMEOUT),
                "limits": limits[service],
                "websocket": location["websocket"],
                "sticky_cookie": location.get("sticky") == "cookie",
                "streams": kind.streams,
                "uploads": uploads(location["body_limit"]),
                "nonce": f"'nonce-{NONCE}'" in policy,
                "policy": "" if tried else policy,
                "policy_report": f"{policy}; report-uri {REPORTS}" if tried else "",
            }
            if kind.pages:
                assets = {"match": match_assets(kind, location["path"]), "headers": "edge-headers", "flags": []}
                bare = {"streams": False, "nonce": False, "policy": "", "policy_report": ""}
                locations.append({**own, **assets, **bare})
            locations.append(own)
        certificate, key = CERTIFICATES[tls["mode"]]
        name = host.get("certificate", "edge")
        servers.append(
            {
                "name": server_name(host),
                "title": host["server_name"],
                "wildcard": host["wildcard"],
                "redirect": server_name({"server_name": host["redirect"], "wildcard": False})
                if host.get("redirect")
                else "",
                "certificate": certificate.format(name),
                "key": key.format(name),
                "locations": locations,
                "reports": next((item["service"] for item in locations if item["policy_report"]), ""),
            }
        )
    origins = edge["origins"]
    return {
        "origins": origin_patterns(origins),
        "credentialed": origin_patterns(
            origins if origins.get("wildcard_credentials") else {"exact": origins.get("exact", [])}
        ),
        "upstreams": [
            {
                "name": f"edge_{service}",
                "servers": list(addresses),
                "key": keys.get(service, ""),
                "keepalive": service not in edge.get("beside", ()),
            }
            for service, addresses in edge["upstreams"].items()
        ],
        "limits": list(limits.values()),
        "headers": headers_of(hosts),
        "servers": servers,
        "reports": REPORTS if any(server["reports"] for server in servers) else "",
        "certificates": certificates(hosts),
        "files": certificate_files(tls),
        **nginx_features(nginx),
    }
