# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What must be true at the front door, derived from the plan and the catalogue's journeys. Pure functions.

A check is a dict: `name`, `service`, `do` (http, stream, certificate, refused, websocket, journey), what to request,
what to expect, and `where` to look when it fails. `run` runs the checks; this module formats their results.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.http_client import below

#: The label that stands for "any" where a service answers on every subdomain.
LABEL = "verify"
UNKNOWN_HOST = "unknown-host.invalid"
FOREIGN_ORIGIN = "https://foreign.invalid"
BELOW_500 = "200-499"
# Renewal starts 30 days before expiry: at 21 days it has been failing for days, at 7 somebody must act.
DAYS_MINIMUM = 7
DAYS_WARNING = 21

Check = dict[str, Any]

HEADERS_OF_ALL = [
    {
        "header": "strict-transport-security",
        "matches": r"max-age=[1-9]\d{6,}",
        "words": "strict-transport-security for months",
    },
    {"header": "x-content-type-options", "matches": "^nosniff$", "words": "x-content-type-options nosniff"},
    {"header": "server", "lacks": r"/\d", "words": "no version in server"},
]
UNCACHED = [{"header": "cache-control", "matches": "no-store|no-cache", "words": "cache-control no-store"}]
HEADERS_OF_PAGES = [
    {"header": "referrer-policy", "matches": ".", "words": "referrer-policy"},
    {
        "header": "x-frame-options|content-security-policy",
        "matches": "(?i)^(DENY|SAMEORIGIN)|frame-ancestors",
        "words": "x-frame-options or frame-ancestors",
    },
]


class JourneyError(ValueError):
    """The journeys of the catalogue cannot be run; the text gives each reason."""


def verification(plan: Mapping[str, Any], journeys: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Every check of an environment: those that follow from the plan, then the journeys.

    `plan` is what the plan filter returns; `journeys` come from the catalogue. Raises JourneyError.
    """
    checks: list[Check] = []
    seen: set[str] = set()
    for service in plan["services"].values():
        for address in service["public"]:
            fqdn = tried_name(address)
            checks += service_checks(plan, service, address)
            if fqdn not in seen:
                seen.add(fqdn)
                checks += name_checks(plan, service, fqdn)
        for item in service["redirects"]:
            checks += redirect_checks(plan, service, item["fqdn"].replace("*", LABEL), item["to"])
    if seen:
        checks += unknown_host_checks(plan, sorted(seen)[0])
    return checks + journey_checks(plan, journeys)


def tried_name(address: Mapping[str, Any], label: str = "") -> str:
    """The name that an address is tried at: ``label``, or the address's own, in place of a wildcard."""
    return str(address["fqdn"]).replace("*", label or address.get("label") or LABEL)


def base_url(address: Mapping[str, Any], label: str = "") -> str:
    """The public address without a trailing slash; ``label`` replaces the wildcard."""
    scheme = address["url"].partition("://")[0]
    return f"{scheme}://{tried_name(address, label)}{address['path'].rstrip('/')}"


def http_url(url: str) -> str:
    """The same address for an HTTP request, if it is one for WebSockets."""
    return re.sub(r"^ws(s?)://", r"http\1://", url)


def sample_origins(plan: Mapping[str, Any], service: Mapping[str, Any]) -> list[str]:
    """Allowed origins to test a service with: one exact and one wildcard origin, preferably of pages that need it.

    An application that answers CORS itself is tested only with the pages that need it: it may not know any others.
    """
    callers = [
        "https://" + address["fqdn"]
        for other in plan["services"].values()
        if other["pages"] and service["name"] in other["needs"]
        for address in other["public"]
    ]
    if service["cors"] != "application":
        callers += plan["edge"]["origins"]["exact"] + plan["edge"]["origins"]["wildcards"]
    exact = [origin for origin in callers if "*" not in origin]
    wildcards = [origin.replace("*", LABEL) for origin in callers if "*" in origin]
    return exact[:1] + wildcards[:1]


def foreign_origins(plan: Mapping[str, Any]) -> list[str]:
    """Origins that must be rejected: a foreign one, and one that only looks like the domain."""
    return [FOREIGN_ORIGIN, f"https://not-{plan['environment']['domain']}"]


def service_checks(plan: Mapping[str, Any], service: Mapping[str, Any], address: Mapping[str, Any]) -> list[Check]:
    """What must hold for one service at one of its public addresses."""
    base = http_url(base_url(address))
    health = service["health"]
    app, edge = look_at_service(service), look_at_edge(plan, service)
    checks: list[Check] = []

    def add(name: str, where: str, **what: Any) -> None:
        checks.append({"name": name, "service": service["name"], "do": "http", "where": where, **what})

    probe = f"{base}/"
    status: Any = BELOW_500
    path = health.get("path") or ""
    if health["type"] == "http" and below(address["path"], path):
        probe = f"https://{tried_name(address)}{path}"
        status = list(health["status"])
        add("answers its health check", app, url=probe, status=status)
    elif service["listens"] != "websocket":
        add("answers through the front door", app, url=probe, status=status)

    if service["listens"] != "websocket":
        # A health check may answer JSON, which needs fewer headers than a page.
        page: Check = {"url": f"{base}/", "status": BELOW_500, "headers": HEADERS_OF_ALL + HEADERS_OF_PAGES}
        page["scripts"] = True
        other: Check = {"url": probe, "status": status, "headers": HEADERS_OF_ALL}
        add("sends security headers", edge, **(page if service["pages"] else other))
    for name in service["checks"]:
        if name == "websocket":
            checks += websocket_checks(plan, service, address)
        elif name == "cors":
            checks += cors_checks(plan, service, probe, edge)
        elif name == "deep_link":
            deep = f"{base}/{LABEL}/a/deep/link"
            if service["spa"]:
                html = [{"header": "content-type", "matches": "^text/html", "words": "a page"}]
                add("answers a deep link with the page", app, url=deep, status=[200], headers=html)
            else:
                add("answers 404 for a missing page", app, url=deep, status=[404])
        elif name == "missing_asset":
            missing = f"{base}/{service['hashed'][0]['target']}/{LABEL}-missing.js"
            add("answers 404, uncached, for a missing asset", app, url=missing, status=[404], headers=UNCACHED)
        elif name == "runtime_config" and service["environment"]:
            add(
                "serves the runtime configuration",
                app,
                url=f"{base}/runtime-config.js",
                status=[200],
                contains=["window.__CONFIG__"],
                lacks=[r"\bhttp://", r"\bws://"],
                headers=UNCACHED,
            )
    return checks


def cors_checks(plan: Mapping[str, Any], service: Mapping[str, Any], url: str, where: str) -> list[Check]:
    """Allowed origins are accepted, in requests and in preflights; others are rejected.

    An application that answers CORS itself (``cors: application``) decides which origins it rejects, and what the
    others may do.
    """
    checks: list[Check] = []
    own = service["cors"] == "application"
    allowed = sample_origins(plan, service)
    for origin in allowed:
        echo = {
            "header": "access-control-allow-origin",
            "matches": f"^{re.escape(origin)}$" + (r"|^\*$" if own else ""),
        }
        vary = {"header": "vary", "matches": r"(?i)(^|[\s,])origin($|[\s,])"}
        origins = plan["edge"]["origins"]
        trusted = origin in origins["exact"] or origins["wildcard_credentials"]
        cookies = {
            "header": "access-control-allow-credentials",
            **({"matches": "^true$"} if trusted else {"absent": True}),
        }
        checks.append(
            {
                "name": f"allows {origin}",
                "url": url,
                "send": {"Origin": origin},
                "headers": [echo] if own else [echo, vary, cookies],
            }
        )
    checks += [
        {
            "name": "answers the preflight of an authenticated call",
            "url": url,
            "method": "OPTIONS",
            "send": {
                "Origin": origin,
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
            "status": "200-299",
            "headers": [
                {
                    "header": "access-control-allow-origin",
                    "matches": f"^{re.escape(origin)}$",
                    "words": f"access-control-allow-origin {origin}",
                },
                {
                    "header": "access-control-allow-methods",
                    "matches": r"(?i)\bPUT\b|\*",
                    "words": "access-control-allow-methods with PUT",
                },
                {
                    "header": "access-control-allow-headers",
                    "matches": r"(?i)\bauthorization\b",
                    "words": "access-control-allow-headers with authorization",
                },
            ],
        }
        for origin in ([] if own else allowed[:1])
    ]
    if not own:
        checks += [
            {
                "name": f"rejects {origin}",
                "url": url,
                "send": {"Origin": origin},
                "headers": [{"header": "access-control-allow-origin", "absent": True}],
            }
            for origin in foreign_origins(plan)
        ]
    return [
        {"service": service["name"], "do": "http", "where": where, "status": BELOW_500, **check} for check in checks
    ]


def websocket_checks(plan: Mapping[str, Any], service: Mapping[str, Any], address: Mapping[str, Any]) -> list[Check]:
    """Sockets from allowed pages are accepted, those from foreign pages rejected (cross-site WebSocket hijacking)."""
    url = f"{base_url(address)}/{LABEL}"
    common = {"service": service["name"], "do": "websocket", "mode": "admit", "url": url}
    edge = look_at_edge(plan, service)
    checks: list[Check] = [
        {
            **common,
            "name": f"rejects a socket from {origin}",
            "send": {"Origin": origin},
            "status": [403],
            "where": edge,
        }
        for origin in foreign_origins(plan)[:1]
    ]
    checks += [
        {
            **common,
            "name": f"accepts a socket from {origin}",
            "send": {"Origin": origin},
            "where": look_at_service(service),
        }
        for origin in sample_origins(plan, service)
    ]
    return checks


def name_checks(plan: Mapping[str, Any], service: Mapping[str, Any], fqdn: str) -> list[Check]:
    """What must hold for a public name, whatever serves it."""
    where = look_at_edge(plan, service)
    path = f"/{LABEL}?redirect=1"
    return [
        {
            "name": "redirects http to https",
            "service": service["name"],
            "do": "http",
            "url": f"http://{fqdn}{path}",
            "status": [301, 302, 307, 308],
            "headers": [
                # Load balancers include the port, which is the default of https.
                {
                    "header": "location",
                    "matches": f"^https://{re.escape(fqdn)}(:443)?{re.escape(path)}$",
                    "words": "the same address",
                }
            ],
            "where": where,
        },
        {
            "name": f"has a certificate for {fqdn}",
            "service": service["name"],
            "do": "certificate",
            "url": f"https://{fqdn}/",
            "days": [DAYS_MINIMUM, DAYS_WARNING],
            "renewal": renewal(plan),
            "where": where,
        },
    ]


def redirect_checks(plan: Mapping[str, Any], service: Mapping[str, Any], fqdn: str, to: str) -> list[Check]:
    """What must hold for a name that only leads to another one."""
    checks = name_checks(plan, service, fqdn)
    (plain,) = (check for check in checks if check["do"] == "http")
    path = plain["url"].removeprefix(f"http://{fqdn}")
    location = {
        "header": "location",
        "matches": f"^https://{re.escape(to)}{re.escape(path)}$",
        "words": f"the same path at {to}",
    }
    return [
        *checks,
        {
            **plain,
            "name": f"leads from {fqdn} to {to}",
            "url": f"https://{fqdn}{path}",
            "status": [308],
            "headers": [location],
        },
    ]


def unknown_host_checks(plan: Mapping[str, Any], fqdn: str) -> list[Check]:
    """An unknown name must not reach a service; ``fqdn`` locates the front door if no address is given.

    A load balancer redirects every http request to https, where unknown names are rejected.
    """
    balanced = plan["environment"]["tls_mode"] == "load_balancer"
    return [
        {
            "name": f"rejects an unknown host over {scheme}",
            "service": "edge",
            "do": "refused",
            "url": f"{scheme}://{UNKNOWN_HOST}/",
            "address_of": fqdn,
            "where": look_at_edge(plan),
        }
        for scheme in ("https",) + (() if balanced else ("http",))
    ]


# --- journeys -----------------------------------------------------------------


def journey_checks(plan: Mapping[str, Any], journeys: Sequence[Mapping[str, Any]]) -> list[Check]:
    """The catalogue's journeys with the address of each step filled in. Placeholders are filled while running."""
    checks: list[Check] = []
    problems: list[str] = []
    for journey in journeys:
        steps = []
        for step in journey["steps"]:
            try:
                steps.append(journey_step(plan, step))
            except JourneyError as error:
                problems.append(f"journey '{journey['name']}', step '{step.get('name')}': {error}")
        services = list(dict.fromkeys(step["service"] for step in steps))
        checks.append({"name": journey["name"], "service": ", ".join(services), "do": "journey", "steps": steps})
    if problems:
        raise JourneyError("; ".join(problems))
    return checks


def journey_step(plan: Mapping[str, Any], step: Mapping[str, Any]) -> Check:
    """One step of a journey as a check."""
    service = plan["services"].get(step.get("service"))
    if not service:
        raise JourneyError(f"unknown service '{step.get('service')}'; use one of {', '.join(plan['services'])}")
    if not service["public"]:
        raise JourneyError(f"'{service['name']}' has no public address; add one with public: [{{host: ...}}]")
    stream = step.get("stream") or {}
    method, _space, path = ((stream or step).get("request") or "").partition(" ")
    address = next((item for item in service["public"] if below(item["path"], path)), service["public"][0])
    if address["wildcard"] and not step.get("host"):
        raise JourneyError(
            f"'{service['name']}' answers on every subdomain of {address['fqdn'][2:]}; choose one with host: ..."
        )
    base = base_url(address, step.get("host") or "")
    origins = sample_origins(plan, service)
    check: Check = {
        "name": step["name"],
        "service": service["name"],
        "where": look_at_service(service),
        "send": {
            **({"Origin": origins[0]} if origins and not service["pages"] else {}),
            **(step.get("headers") or {}),
        },
    }
    if step.get("websocket"):
        check.update(
            do="websocket",
            mode=step["websocket"],
            url=base + (f"/{step['room']}" if step.get("room") else ""),
            clients=step.get("clients") or 2,
        )
        if step.get("status"):
            check["status"] = listed(step["status"])
        return check
    root = base.removesuffix(address["path"].rstrip("/"))
    if stream:
        check.update(events=stream["events"], within=stream["within"])
        check["send"] = {"Accept": "text/event-stream", **check["send"]}
    check.update(
        do="stream" if stream else "http",
        method=method,
        url=http_url(root) + path,
        status=listed(step.get("status") or 200),
        contains=listed(step.get("contains") or []),
        save=dict(step.get("save") or {}),
    )
    if step.get("json") is not None:
        check["json"] = step["json"]
    return check


def listed(value: Any) -> list[Any]:
    """The value as a list; a single value becomes a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


# --- where to look --------------------------------------------------------------


def look_at_service(service: Mapping[str, Any]) -> str:
    """Where to look for the cause when a service fails."""
    name = service["name"]
    hosts = some(service["hosts"]) or "its hosts"
    if not service["slots"]:
        return f"on {hosts}: ls -l /opt/fivepointers/{name}/slots/; tail -n 50 /var/log/nginx/error.log"
    asked = ""
    if service["health"]["type"] == "http" and service.get("addresses"):
        asked = f"; curl -i http://{service['addresses'][0]}:{service['port']}{service['health']['path']}"
    return f"on {hosts}: journalctl -t {name} -n 50; systemctl status 'fivepointers-{name}@*'{asked}"


def look_at_edge(plan: Mapping[str, Any], service: Mapping[str, Any] | None = None) -> str:
    """Where to look for the cause when the edge or load balancer in front of a service fails."""
    edges = [name for name, host in plan["hosts"].items() if host["edge"]]
    if edges:
        return f"on {some(edges)}: nginx -t; tail -n 50 /var/log/nginx/error.log; /etc/nginx/fivepointers/edge.conf"
    if service and service["hosts"]:
        return f"the load balancer's listeners and target groups, and on {some(service['hosts'])}: nginx -t"
    return "the load balancer's listeners and its certificate"


def renewal(plan: Mapping[str, Any]) -> str:
    """What to do if a certificate expires soon, or has expired."""
    mode = plan["environment"]["tls_mode"]
    if mode == "acme":
        edges = some([name for name, host in plan["hosts"].items() if host["edge"]])
        return (
            f"certbot's timer did not renew it: on {edges}: journalctl -u certbot -n 50; certbot renew; "
            "nginx -t && systemctl reload nginx"
        )
    if mode == "load_balancer":
        return (
            "the load balancer uses it: ACM renews it while its validation record is in DNS and the certificate is in "
            "use; an imported one must be imported again"
        )
    return (
        "it was not renewed: replace the certificate and key that platform_environment.tls names, then run site.yml "
        "with --tags nginx_proxy"
    )


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first few of many names."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" (and {rest} more)" if rest > 0 else "")


# --- judging --------------------------------------------------------------------


def broken_rules(headers: Iterable[tuple[str, str]], rules: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rules that the headers of a response break.

    A rule names a header (or several, of which one must fit: ``a|b``) and says ``matches`` (a pattern), ``lacks``
    (a pattern) or ``absent``. A CORS header that appears twice is an error in every browser.
    """
    received: dict[str, list[str]] = {}
    for name, value in headers:
        received.setdefault(name.lower(), []).append(value)
    found = []
    for rule in rules:
        names = rule["header"].split("|")
        values = [", ".join(received[name]) for name in names if name in received]
        shown = " or ".join(names)
        came = f"{shown} is {' / '.join(values)!r}" if values else f"{shown} is missing"
        if rule.get("absent"):
            if values:
                found.append(f"{came}, but should be absent")
        elif "lacks" in rule:
            if any(re.search(rule["lacks"], value) for value in values):
                found.append(came)
        elif not any(re.search(rule["matches"], value) for value in values):
            found.append(came)
    return found


def blocked_scripts(headers: Iterable[tuple[str, str]], page: str) -> int:
    """How many inline scripts of a page lack the nonce that its policy asks for, so that browsers do not run them.

    A policy with hashes may allow them by these.
    """
    policy = " ".join(value for name, value in headers if name.lower() == "content-security-policy")
    nonces = set(re.findall(r"'nonce-([^']+)'", policy))
    if not nonces or "'sha" in policy:
        return 0
    scripts = re.findall(r"(?i)<script\b([^>]*)>", page)
    # What is no JavaScript is data, and what has an address is allowed by that.
    inline = [script for script in scripts if not re.search(r"(?i)\bsrc\s*=|type\s*=\s*[\"'][^\"']*json", script)]
    return sum(not any(f'nonce="{nonce}"' in script for nonce in nonces) for script in inline)


def expected_text(check: Mapping[str, Any]) -> str:
    """What a check expects, as text."""
    if check["do"] == "certificate":
        return f"a trusted certificate for the name, valid for {check['days'][0]} days or more"
    if check["do"] == "refused":
        return "no response, or a 4xx status"
    if check["do"] == "websocket":
        if check.get("status"):
            return f"status {statuses(check['status'])}"
        return {
            "admit": "101",
            "open": "101, and the socket stays open",
            "echo": "an echo of the text",
            "broadcast": "what one client sends reaches the other",
        }.get(check["mode"], f"{check.get('clients')} clients see each other's edits")
    words = [f"status {statuses(check['status'])}"]
    if check["do"] == "stream":
        words.append(f"{check['events']} events within {check['within']} s, each as it happens")
    words += [f"body with {text!r}" for text in check.get("contains", [])]
    words += [f"body without {text.replace(chr(92) + 'b', '')!r}" for text in check.get("lacks", [])]
    for rule in check.get("headers", []):
        name = rule["header"].replace("|", " or ")
        words.append(rule.get("words") or (f"no {name}" if rule.get("absent") else f"{name} like {rule['matches']}"))
    return "; ".join(words)


def fits(status: int, wanted: str | Sequence[int]) -> bool:
    """Whether a status is expected: one of a list, or within "low-high"."""
    if isinstance(wanted, str):
        low, high = wanted.split("-")
        return int(low) <= status <= int(high)
    return status in wanted


def statuses(wanted: str | Sequence[int]) -> str:
    """The expected statuses as text."""
    if isinstance(wanted, str):
        return wanted.replace("-", " to ")
    return " or ".join(str(status) for status in wanted)


# --- secrets --------------------------------------------------------------------

SECRET_KEY = re.compile(r"(?i)pass|secret|token|authorization|cookie|session|api[-_]?key|credential")
TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*|(?i:\bbearer\s+)[\w.~+/=-]+")
JSON_SECRET = re.compile(
    r'("[^"]*(?:pass|secret|token|authorization|session|api[-_]?key|credential)[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*"?',
    re.IGNORECASE,
)


def secret_values(value: Any, key: str = "") -> list[str]:
    """Every text under a key that sounds secret."""
    if isinstance(value, Mapping):
        return [text for name, item in value.items() for text in secret_values(item, f"{key}.{name}")]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in secret_values(item, key)]
    secret = SECRET_KEY.search(key) and not isinstance(value, bool) and value not in (None, "")
    return [str(value)] if secret else []


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text without secrets: known values, tokens, and values under a key that sounds secret."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    text = JSON_SECRET.sub(r'\1"***"', text)
    return TOKEN.sub("***", text)


# --- showing --------------------------------------------------------------------

MARKS = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "skipped": "skipped"}


def summary(results: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """One line: how many checks there were and how they went."""
    counts = {level: sum(1 for item in results if item["level"] == level) for level in MARKS}
    parts = [f"{counts['ok']} ok"] + [
        f"{counts[level]} {word}"
        for level, word in (("warning", "with a warning"), ("failed", "failed"), ("skipped", "skipped"))
        if counts[level]
    ]
    return f"{len(results)} checks: {', '.join(parts)}, in {seconds:.1f} s"


def table(results: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """The results as aligned text, one line each, and the summary."""
    rows = [("result", "service", "check", "received", "ms")]
    for item in results:
        came = " ".join(item["came"].split())
        rows.append(
            (
                MARKS[item["level"]],
                item["service"],
                item["check"] if len(item["check"]) <= 64 else item["check"][:61] + "...",
                came if len(came) <= 52 else came[:49] + "...",
                f"{item['seconds'] * 1000:.0f}" if item["level"] != "skipped" else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(row[column].ljust(widths[column]) for column in range(4)), row[4].rjust(5)]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", summary(results, seconds)])


def explanations(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each failure: the request, what was expected, what was received, and where to look."""
    texts = []
    for item in results:
        if item["level"] != "failed":
            continue
        lines = [f"{item['service']}: {item['check']}"]
        titles = {"asked": "request", "expected": "expected", "came": "received", "likely": "likely", "look": "look"}
        lines += [f"  {title:<9} {item[key]}" for key, title in titles.items() if item.get(key)]
        texts.append("\n".join(lines))
    return texts
