# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Every key of the catalogue and of an environment: its check, its default, and whether it is required."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Check,
    Key,
    Report,
    any_mapping,
    anything,
    boolean,
    choice,
    integer,
    items,
    keys,
    listed,
    optional,
    table,
    text,
    unless_off,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import headers, values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import (
    DEFAULT,
    ENGINES,
    SERVERS,
    STORES,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.kind import TIMEOUT

# Keys of a service that an environment may override.
OVERRIDABLE = (
    "pool", "node", "memory", "timeout", "drain", "hold", "keep", "body_limit", "rate_limits", "sockets_per_client",
    "environment", "health", "public", "csp", "csp_report_only", "headers",
)  # fmt: skip

HEALTH_KEYS: dict[str, Key] = {
    "path": Key(text(r"/[^\s\"'{};$\\]*", "a path such as /health")),
    "tcp": Key(boolean),
    "running": Key(integer(1, 600)),
    "file": Key(integer(1, 3600)),
    "command": Key(values.command),
    "status": Key(values.status, [200]),
    "interval": Key(integer(1, 60), 1),
    "timeout": Key(integer(1, 60), 2),
    "start_period": Key(integer(1, 3600), 60),
}


# The key of a health check says of which type it is.
HEALTH_TYPES = {"path": "http", "tcp": "tcp", "running": "running", "file": "file", "command": "command"}
# How a check of each type is written.
HEALTH_EXAMPLES = {
    "http": "a path such as /health",
    "tcp": "{tcp: true}",
    "running": "{running: 5}",
    "file": "{file: 30}",
    "command": "{command: node dist/health.js}",
}
PORTLESS_HEALTH = f"{HEALTH_EXAMPLES['running']}, {HEALTH_EXAMPLES['file']} or {HEALTH_EXAMPLES['command']}"
# What every check has, and a kind that is not checked before it runs.
HEALTH_TIMES = ("interval", "timeout", "start_period")
NO_HEALTH = {"type": "none", "status": [], **{key: HEALTH_KEYS[key].default for key in HEALTH_TIMES}}


def health(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """A health check: a path, or a mapping with one of HEALTH_TYPES."""
    if isinstance(value, str):
        value = {"path": value}
    before = len(report.problems)
    wanted = "a path such as /health, {path: /health, status: [200]} or {tcp: true}"
    checked = keys(HEALTH_KEYS, wanted)(report, path, value)
    if checked is None or len(report.problems) > before:
        return None
    chosen = [key for key in HEALTH_TYPES if checked[key]]
    if len(chosen) != 1:
        problem = f"a health check has one of {listed(HEALTH_TYPES)}"
        report.add(
            path,
            value,
            problem,
            f"Write {{path: /health}} or {{tcp: true}}, not both; or, without a port, {PORTLESS_HEALTH}.",
        )
        return None
    key = chosen[0]
    if key != "path" and "status" in value:
        problem = "a check without a request has no status"
        report.add(f"{path}.status", value["status"], problem, "Remove it, or check a path instead.")
        return None
    if key == "running" and checked[key] >= checked["start_period"]:
        problem = f"it cannot run for {checked[key]} s within a start_period of {checked['start_period']} s"
        report.add(f"{path}.{key}", checked[key], problem, "Write fewer seconds, or a longer start_period.")
        return None
    settings = {name: checked[name] for name in HEALTH_TIMES}
    target = {} if key == "tcp" else {key: checked[key]}
    status = checked["status"] if key == "path" else []
    return {"type": HEALTH_TYPES[key], **target, "status": status, **settings}


BUILD_KEYS: dict[str, Key] = {
    "source": Key(values.folder, required=True, hint="Add the source folder, relative to the catalogue file."),
    "workspace": Key(values.folder),
    "command": Key(values.shell),
    "output": Key(values.path_below),
    "lockfile": Key(choice(("required", "optional"), "a valid lock file rule"), "required"),
    "install_scripts": Key(boolean, True),
    "environment": Key(table(values.variable, values.template, "a mapping of variables"), {}),
    "secrets": Key(table(values.variable, values.secret, "a mapping of variables to references"), {}),
    "standalone": Key(boolean),
    "include": Key(items(values.path_below, "a list of paths in the source")),
    "exclude": Key(items(values.path_below, "a list of paths in the artifact")),
}

PUBLIC_KEYS: dict[str, Key] = {
    "host": Key(values.host, required=True, hint='Add host: a label such as api, "@" for the domain, or "*".'),
    "path": Key(values.prefix, "/"),
    "redirect": Key(values.host),
    "label": Key(text(values.LABEL.pattern, "one label, such as acme")),
}

RATE_LIMIT_KEYS: dict[str, Key] = {
    "request": Key(values.limited_request, required=True, hint="Add method and path, such as POST /api/auth/login."),
    "rate": Key(values.rate, required=True, hint="Add the requests per second or minute, such as 30/m."),
    "burst": Key(integer(0, 10000), 20),
}

KEEP_KEYS: dict[str, Key] = {
    "releases": Key(integer(2, 100), 5),
    "size": Key(values.memory, "2G"),
}

CSP_DIRECTIVES = (
    "base-uri", "child-src", "connect-src", "default-src", "font-src", "form-action", "frame-ancestors", "frame-src",
    "img-src", "manifest-src", "media-src", "object-src", "report-to", "report-uri", "script-src", "style-src",
    "worker-src",
)  # fmt: skip

SERVICE_KEYS: dict[str, Key] = {
    "kind": Key(choice(sorted(KINDS), "a known kind"), required=True, hint=f"Write one of: {listed(sorted(KINDS))}."),
    "port": Key(integer(1, 65535)),
    "node": Key(values.node, "24"),
    "health": Key(health),
    "public": Key(items(keys(PUBLIC_KEYS, "a mapping such as {host: api}"), "a list such as [{host: api}]"), []),
    "needs": Key(items(text(None, "the name of a service or database"), "a list such as [database]"), []),
    "writes": Key(text(None, "the name of a database")),
    "pool": Key(integer(1, 10000), 10),
    "build": Key(keys(BUILD_KEYS, "a mapping such as {source: ../api}")),
    "start": Key(values.command),
    "migrate": Key(values.command),
    "migrations": Key(values.command),
    "schema_at_start": Key(choice(("refuse", "report", "ignore"), "a valid schema_at_start setting"), "refuse"),
    "state": Key(boolean, False),
    "write": Key(items(values.folder_of_code, "a list of folders of the code, such as [uploads]"), []),
    "environment": Key(table(values.variable, values.template, "a mapping of variables"), {}),
    "secrets": Key(table(values.variable, values.secret_name, "a mapping of variables to secret names"), {}),
    "cors": Key(choice(("edge", "application"), "a valid cors setting"), "edge"),
    "csp": Key(
        table(
            choice(CSP_DIRECTIVES, "a known directive of a content security policy"),
            values.csp_sources,
            "a mapping such as {img-src: https://cdn.example.com}",
        ),
        {},
    ),
    "csp_report_only": Key(boolean, False),
    "headers": Key(headers.check, {}),
    "spa": Key(boolean, True),
    "timeout": Key(integer(1, 86400), TIMEOUT),
    "drain": Key(integer(0, 3600), 10),
    "hold": Key(integer(0, 86400)),
    "schedule": Key(values.schedule),
    "overdue": Key(integer(0, 168)),
    "handover": Key(choice(("stop-first", "overlap"), "a valid handover setting")),
    "hand_off": Key(choice(("bridge", "application"), "a valid hand_off setting")),
    "keep": Key(keys(KEEP_KEYS, "a mapping such as {releases: 5, size: 2G}")),
    "body_limit": Key(values.body_limit, "1m"),
    "rate_limits": Key(
        items(
            keys(RATE_LIMIT_KEYS, "a mapping such as {request: POST /api/auth/login, rate: 30/m}"),
            "a list such as [{request: POST /api/auth/login, rate: 30/m}]",
        ),
        [],
    ),
    "sockets_per_client": Key(integer(1, 100000)),
    "live_signal": Key(boolean, False),
    "sticky": Key(choice(("cookie", "address"), "a valid sticky setting")),
    "memory": Key(values.memory, "1G"),
    "statsd": Key(boolean, False),
    "aws": Key(boolean, False),
}


OTHER_ENGINE = (
    "Or leave it out: a service gets the address of any other server as a secret, and needs nothing "
    "('Another engine' in docs/catalogue.md)."
)


def engine(known: Mapping[str, Any]) -> Check:
    """One of several engines; one that belongs into the other section is told so."""

    def check(report: Report, path: str, value: Any) -> str | None:
        if isinstance(value, str) and value in SERVERS and value not in known:
            section, name = SERVERS[value].section, path.split(".")[-2]
            problem = f"{SERVERS[value].title} belongs into the section '{section}'"
            fix = f"Write it there, in the catalogue ({section}: {{{name}: {{engine: {value}}}}}) and the environment."
            report.add(path, value, problem, fix)
            return None
        if not isinstance(value, str) or value not in known:
            fix = f"Write one of: {listed(known)}.{report.suggest(value, known)} {OTHER_ENGINE}"
            report.add(path, value, "this is not a known engine", fix)
            return None
        return value

    return check


DATABASE_KEYS: dict[str, Key] = {
    "engine": Key(engine(ENGINES), DEFAULT),
    "port": Key(integer(1, 65535)),
    "driver": Key(text(None, "the name of a driver")),
}

STORE_KEYS: dict[str, Key] = {
    "engine": Key(engine(STORES), next(iter(STORES))),
    "port": Key(integer(1, 65535)),
}

REQUEST = text(r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /\S*", "a method and a path, such as GET /api/health")

STREAM_KEYS: dict[str, Key] = {
    "request": Key(REQUEST, required=True, hint="Add method and path, such as GET /api/events."),
    "events": Key(integer(1, 1000), 1),
    "within": Key(integer(1, 300), 5),
}

STEP_KEYS: dict[str, Key] = {
    "name": Key(values.line, required=True, hint="Add name: what the user does."),
    "service": Key(text(None, "the name of a service"), required=True, hint="Add service: a name from the catalogue."),
    "host": Key(text(r"[^\s/]+", "one label, for a service with a wildcard address")),
    "request": Key(REQUEST),
    "stream": Key(keys(STREAM_KEYS, "a mapping such as {request: GET /api/events, events: 3, within: 2}")),
    "json": Key(anything),
    "headers": Key(table(text(r"[A-Za-z0-9-]+", "the name of a header"), values.template, "a mapping of headers"), {}),
    "status": Key(values.status),
    "contains": Key(values.texts),
    "save": Key(
        table(
            text(r"[a-z_][a-z0-9_]*", "the name of a variable in lower case"),
            text(r"\S+", "a dotted path into the JSON response"),
            "a mapping of variables to paths in the JSON response",
        ),
        {},
    ),
    "websocket": Key(choice(("yjs", "open", "echo", "broadcast"), "a known websocket check")),
    "room": Key(text(r"\S+", "the name of a document")),
    "clients": Key(integer(2, 50)),
}

JOURNEY_KEYS: dict[str, Key] = {
    "name": Key(values.line, required=True, hint="Add name: what the user does."),
    "steps": Key(
        items(keys(STEP_KEYS, "a mapping"), "a list of steps"), [], required=True, hint="Add steps: a list of steps."
    ),
}

CATALOGUE_KEYS: dict[str, Key] = {
    "services": Key(any_mapping, {}, required=True, hint="Add services: a mapping of names to services."),
    "databases": Key(any_mapping, {}),
    "stores": Key(any_mapping, {}),
    "journeys": Key(items(keys(JOURNEY_KEYS, "a mapping with name and steps"), "a list of journeys"), []),
}

TLS_KEYS: dict[str, Key] = {
    "mode": Key(
        choice(("files", "acme", "load_balancer"), "a known TLS mode"),
        required=True,
        hint="Write files (your own certificate), acme (the edge gets and renews one) or load_balancer.",
    ),
    "certificate": Key(values.pem),
    "key": Key(values.pem),
    "directory": Key(values.acme_directory),
    "email": Key(values.email),
    "ca": Key(values.pem_file),
    "trusted": Key(items(values.network, "a list of networks such as [10.0.0.0/20]"), []),
    "client_header": Key(
        text(
            r"(?!(?i:forwarded|via)$)[A-Za-z][A-Za-z0-9-]*", "a header with the address alone, such as CF-Connecting-IP"
        )
    ),
}

ACCESS_KEYS: dict[str, Key] = {
    "host": Key(values.server, required=True, hint="Add the database's address."),
    "port": Key(integer(1, 65535)),
    "name": Key(text(r"[^\s`'\"/]+", "the name of a schema"), required=True, hint="Add the name of the schema."),
    "user": Key(text(r"[^\s`'\"]+", "the name of a user"), required=True, hint="Add the user that services log in as."),
    "password": Key(
        values.secret,
        required=True,
        hint="Add a reference, such as {secretsmanager: fivepointers/production/database}.",
    ),
    "max_connections": Key(integer(1, 1000000), required=True),
    "reader": Key(optional(values.server)),
    "tls": Key(optional(boolean)),
}

STORE_ACCESS_KEYS: dict[str, Key] = {
    "host": Key(values.server, required=True, hint="Add the store's address."),
    "port": Key(integer(1, 65535)),
    "user": Key(optional(text(r"[^\s`'\"]+", "the name of a user"))),
    "password": Key(optional(values.secret)),
    "tls": Key(boolean, True),
}


def access_keys(engine: str) -> dict[str, Key]:
    """Return the keys of a database's address, whose hints are those of its engine."""
    query = ENGINES.get(engine, ENGINES[DEFAULT]).max_connections_query
    hint = f"Run {query} on the database, and add the number."
    return {**ACCESS_KEYS, "max_connections": ACCESS_KEYS["max_connections"]._replace(hint=hint)}


DOMAIN_KEYS: dict[str, Key] = {
    "certificate": Key(values.pem),
    "key": Key(values.pem),
    "zone": Key(values.zone),
}


def domains(report: Report, path: str, value: Any) -> dict[str, dict[str, Any]] | None:
    """Further domains: a mapping of each to its settings, or a list of those that need none."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = dict.fromkeys(value)
    settings = keys(DOMAIN_KEYS, "a mapping such as {zone: Z0123456789ABCDEFGHIJ}")

    def entry(report: Report, path: str, value: Any) -> Any:
        return settings(report, path, {} if value is None else value)

    wanted = "a list such as [other-brand.com], or a mapping such as {other-brand.com: {zone: Z0123456789ABCDEFGHIJ}}"
    checked: dict[str, dict[str, Any]] | None = table(values.domain, entry, wanted)(report, path, value)
    return checked


CORS_KEYS: dict[str, Key] = {
    "extra_origins": Key(items(values.origin, "a list of origins"), []),
    "http_origins": Key(boolean, False),
    "wildcard_credentials": Key(boolean, False),
}

MOST = integer(0, 10**9)

# Limits for the measurements of a deployment: beyond them it is reverted.
BUDGET_KEYS: dict[str, Key] = {
    "failed": Key(MOST),
    "longest_stall_ms": Key(MOST),
    "latency_p99_ms": Key(MOST),
    "edit_delay_ms": Key(MOST),
    "sockets_out_ms": Key(MOST),
}

DEPLOYMENT_KEYS: dict[str, Key] = {
    "watch": Key(integer(0, 3600), 2),
    "rate": Key(integer(0, 200), 20),
    "budget": Key(keys(BUDGET_KEYS, "a mapping such as {failed: 0}"), {}),
}

SENTRY_KEYS: dict[str, Key] = {
    "dsn": Key(
        values.secret, required=True, hint="Add a reference, such as {secretsmanager: fivepointers/production/sentry}."
    ),
}

SIGNING_KEYS: dict[str, Key] = {
    "keys": Key(
        values.public_keys,
        required=True,
        hint="Add the public key, in a list.",
    ),
    "private_key": Key(
        values.secret,
        required=True,
        hint="Add a reference, such as {secretsmanager: fivepointers-build/production/key}.",
    ),
}

SYNTHETIC_KEYS: dict[str, Key] = {
    "enabled": Key(boolean, True),
    "interval": Key(integer(60, 86400), 900),
}

ENVIRONMENT_KEYS: dict[str, Key] = {
    "name": Key(
        text(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?", "a name of lowercase letters, digits and hyphens"),
        required=True,
        hint="Write sandbox, development, staging or production.",
    ),
    "domain": Key(values.domain, required=True, hint="Add the domain under which users reach the services."),
    "domains": Key(domains, {}),
    "region": Key(
        text(r"[a-z]{2}(?:-[a-z]+)+-\d", "an AWS region such as ap-northeast-2"),
        required=True,
        hint="Add the AWS region, such as ap-northeast-2.",
    ),
    "tls": Key(
        keys(TLS_KEYS, "a mapping with mode"),
        required=True,
        hint="Add {mode: files, certificate: …, key: …}, {mode: acme, email: …} or {mode: load_balancer}.",
    ),
    "cors": Key(keys(CORS_KEYS, "a mapping such as {extra_origins: []}")),
    "databases": Key(any_mapping, {}),
    "stores": Key(any_mapping, {}),
    "database_ca": Key(optional(values.pem_file)),
    "secrets": Key(table(values.secret_name, values.secret, "a mapping of names to references"), {}),
    "services": Key(any_mapping, {}),
    "front_door": Key(optional(values.address)),
    "brand": Key(optional(values.line)),
    "error_page": Key(optional(values.html_file)),
    "artifacts": Key(
        optional(text(r"s3://[a-z0-9][a-z0-9.-]+(?:/[A-Za-z0-9._/-]*)?", "an S3 location such as s3://bucket/prefix"))
    ),
    "artifact_signing": Key(
        unless_off(keys(SIGNING_KEYS, "off, or a mapping such as {keys: [MCow…], private_key: {secretsmanager: …}}"))
    ),
    "deployment": Key(keys(DEPLOYMENT_KEYS, "a mapping such as {watch: 10, budget: {failed: 0}}")),
    "nodejs": Key(any_mapping, {}),
    "sentry": Key(
        optional(keys(SENTRY_KEYS, "a mapping such as {dsn: {secretsmanager: fivepointers/production/sentry}}"))
    ),
    "synthetic": Key(keys(SYNTHETIC_KEYS, "a mapping such as {interval: 900}")),
    # Its content is checked by the layers of plugin_utils.provision.
    "aws": Key(optional(any_mapping)),
}
