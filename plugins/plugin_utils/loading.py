# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The catalogue's keys, and reading catalogue, environment and hosts into a checked model.

Nothing here raises for what stands in the input: every mistake is collected, so that an operator
sees all of them at once. Paths in problems begin with `services`, `databases` or `journeys` (the
catalogue), with `platform_environment`, or with `hosts`.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    Problem,
    Redirect,
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
    plain,
    refuse_type,
    table,
    text,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils import checks
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import (
    KINDS,
    NEXTJS_SERVER_START,
    Kind,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as planning
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.plan import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import layers as provisioning
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify import derive

# What an environment may state otherwise than the catalogue.
OVERRIDABLE = (
    "pool", "node", "memory", "drain", "hold", "keep", "body_limit", "rate_limits", "sockets_per_client", "environment",
    "health", "public", "csp", "csp_report_only",
)  # fmt: skip


class CatalogueError(Exception):
    """Raised with every problem of a catalogue and its environment."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(describe(problems))
        self.problems = problems


def describe(problems: list[Problem]) -> str:
    """Return the problems as text for an operator, one paragraph each."""
    heading = f"The platform cannot be planned: {len(problems)} problem{'' if len(problems) == 1 else 's'}."
    return "\n\n".join(
        [heading] + [f"{item.path}: {item.value}\n  Problem: {item.problem}.\n  Fix: {item.fix}" for item in problems]
    )


# --- keys -----------------------------------------------------------------------

HEALTH_KEYS: dict[str, Key] = {
    "path": Key(text(r"/[^\s\"'{};$\\]*", "a path such as /health")),
    "tcp": Key(boolean),
    "status": Key(values.status, [200]),
    "interval": Key(integer(1, 60), 1),
    "timeout": Key(integer(1, 60), 2),
    "start_period": Key(integer(1, 3600), 60),
}


def health(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """A health check: a path, or a mapping with path or tcp."""
    if isinstance(value, str):
        value = {"path": value}
    before = len(report.problems)
    wanted = "a path such as /health, {path: /health, status: [200]} or {tcp: true}"
    checked = keys(HEALTH_KEYS, wanted)(report, path, value)
    if checked is None or len(report.problems) > before:
        return None
    if bool(checked["path"]) == bool(checked["tcp"]):
        problem = "a health check is either a path or an open port"
        report.add(path, value, problem, "Write {path: /health} or {tcp: true}, and not both.")
        return None
    if not checked.pop("tcp"):
        return {"type": "http", **checked}
    if "status" in value:
        report.add(f"{path}.status", value["status"], "an open port answers no status", "Remove it, or write a path.")
        return None
    return {"type": "tcp", **checked, "status": []}


BUILD_KEYS: dict[str, Key] = {
    "source": Key(values.folder, required=True, hint="Add the folder of the source, relative to the catalogue's file."),
    "workspace": Key(values.folder),
    "command": Key(values.shell),
    "output": Key(values.path_below),
    "lockfile": Key(choice(("required", "optional"), "a rule for the lock file"), "required"),
    "install_scripts": Key(boolean, True),
    "environment": Key(table(values.variable, values.template, "a mapping of variables"), {}),
    "standalone": Key(boolean),
}

PUBLIC_KEYS: dict[str, Key] = {
    "host": Key(values.host, required=True, hint='Add host: a label such as api, "@" for the domain, or "*".'),
    "path": Key(values.prefix, "/"),
}

RATE_LIMIT_KEYS: dict[str, Key] = {
    "request": Key(values.limited_request, required=True, hint="Add the method and the path: POST /api/auth/login."),
    "rate": Key(values.rate, required=True, hint="Add requests for each second or minute, such as 30/m."),
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
    "kind": Key(choice(sorted(KINDS), "a kind"), required=True, hint=f"Write one of: {listed(sorted(KINDS))}."),
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
    "environment": Key(table(values.variable, values.template, "a mapping of variables"), {}),
    "secrets": Key(table(values.variable, values.secret_name, "a mapping of variables to names of secrets"), {}),
    "cors": Key(choice(("edge", "application"), "a place that answers CORS"), "edge"),
    "csp": Key(
        table(
            choice(CSP_DIRECTIVES, "a directive of a content security policy"),
            values.csp_sources,
            "a mapping such as {img-src: https://cdn.example.com}",
        ),
        {},
    ),
    "csp_report_only": Key(boolean, False),
    "spa": Key(boolean, True),
    "drain": Key(integer(0, 3600), 10),
    "hold": Key(integer(0, 86400)),
    "hand_off": Key(choice(("bridge", "application"), "who hands sockets over")),
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
    "memory": Key(values.memory, "1G"),
    "statsd": Key(boolean, False),
}

DATABASE_KEYS: dict[str, Key] = {
    "engine": Key(choice(("mysql",), "an engine"), "mysql"),
    "port": Key(integer(1, 65535), 3306),
}

STEP_KEYS: dict[str, Key] = {
    "name": Key(values.line, required=True, hint="Add name: what the user does."),
    "service": Key(text(None, "the name of a service"), required=True, hint="Add service: a name of the catalogue."),
    "host": Key(text(r"[^\s/]+", "one label, for a service with a wildcard address")),
    "request": Key(
        text(r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /\S*", "a method and a path, such as GET /api/health")
    ),
    "json": Key(anything),
    "headers": Key(table(text(r"[A-Za-z0-9-]+", "the name of a header"), values.template, "a mapping of headers"), {}),
    "status": Key(values.status),
    "contains": Key(values.texts),
    "save": Key(
        table(
            text(r"[a-z_][a-z0-9_]*", "the name of a variable in lower case"),
            text(r"\S+", "a dotted path into the JSON answer"),
            "a mapping of variables to paths in the JSON answer",
        ),
        {},
    ),
    "websocket": Key(choice(("yjs", "open", "echo", "broadcast"), "a conversation")),
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
    "journeys": Key(items(keys(JOURNEY_KEYS, "a mapping with name and steps"), "a list of journeys"), []),
}

TLS_KEYS: dict[str, Key] = {
    "mode": Key(
        choice(("files", "acme", "load_balancer"), "a TLS mode"),
        required=True,
        hint="Write files (a certificate of your own), acme (one that the edge gets and renews) or load_balancer.",
    ),
    "certificate": Key(values.pem),
    "key": Key(values.pem),
    "directory": Key(values.acme_directory),
    "email": Key(values.email),
    "ca": Key(values.pem_file),
    "trusted": Key(items(values.network, "a list of networks such as [10.0.0.0/16]"), []),
}

ACCESS_KEYS: dict[str, Key] = {
    "host": Key(text(r"[A-Za-z0-9.-]+", "a host name or address"), required=True, hint="Add the database's address."),
    "port": Key(integer(1, 65535)),
    "name": Key(text(r"[^\s`'\"/]+", "the name of a schema"), required=True, hint="Add the name of the schema."),
    "user": Key(text(r"[^\s`'\"]+", "the name of a user"), required=True, hint="Add the user that services log in as."),
    "password": Key(
        values.secret, required=True, hint="Add a reference, such as {secretsmanager: platform/production/database}."
    ),
    "max_connections": Key(
        integer(1, 1000000), required=True, hint="Ask the database: SELECT @@max_connections, and write the number."
    ),
}

CORS_KEYS: dict[str, Key] = {
    "extra_origins": Key(items(values.origin, "a list of origins"), []),
}

MOST = integer(0, 10**9)
# The most that a deployment may measure before it is taken back.
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
        values.secret, required=True, hint="Add a reference, such as {secretsmanager: platform/production/sentry}."
    ),
}

SYNTHETIC_KEYS: dict[str, Key] = {
    "enabled": Key(boolean, True),
    "interval": Key(integer(60, 86400), 900),
}

ENVIRONMENT_KEYS: dict[str, Key] = {
    "name": Key(
        text(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?", "a name of lower-case letters, digits and hyphens"),
        required=True,
        hint="Write sandbox, development, staging or production.",
    ),
    "domain": Key(values.domain, required=True, hint="Add the domain under which users reach the services."),
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
    "secrets": Key(table(values.secret_name, values.secret, "a mapping of names to references"), {}),
    "services": Key(any_mapping, {}),
    "front_door": Key(optional(values.address)),
    "brand": Key(optional(values.line)),
    "error_page": Key(optional(values.html_file)),
    "artifacts": Key(
        optional(text(r"s3://[a-z0-9][a-z0-9.-]+(?:/[A-Za-z0-9._/-]*)?", "a place such as s3://bucket/prefix"))
    ),
    "deployment": Key(keys(DEPLOYMENT_KEYS, "a mapping such as {watch: 10, budget: {failed: 0}}")),
    "nodejs": Key(any_mapping, {}),
    "sentry": Key(optional(keys(SENTRY_KEYS, "a mapping such as {dsn: {secretsmanager: platform/production/sentry}}"))),
    "synthetic": Key(keys(SYNTHETIC_KEYS, "a mapping such as {interval: 900}")),
    "aws": Key(optional(provisioning.check)),
}


# --- reading --------------------------------------------------------------------


def read(catalogue: Any, environment: Any, hosts: Any = None) -> tuple[Model, list[Problem]]:
    """Read everything into a model; return it with all problems.

    hosts: {inventory name: {address, services}}, or None where there is no inventory; then nothing
    that depends on hosts is checked. The model may be used for a plan only when there are no problems.
    """
    report = Report()
    entries = keys(CATALOGUE_KEYS, "a mapping with services")(report, "", plain(catalogue)) or {}
    settings = _read_environment(report, plain(environment), entries.get("databases") or {})
    model = Model(
        environment=settings,
        services=_read_services(report, entries.get("services"), settings),
        databases=_read_databases(report, entries.get("databases") or {}),
        journeys=entries.get("journeys") or [],
        hosts=None if hosts is None else _read_hosts(report, plain(hosts)),
    )
    _complete(model)
    checks.run(report, model)
    provisioning.problems(report, model)
    return model, report.problems


def load(catalogue: Any, environment: Any, hosts: Any = None) -> Model:
    """Read everything into a model, or raise CatalogueError with all problems."""
    model, problems = read(catalogue, environment, hosts)
    if problems:
        raise CatalogueError(problems)
    return model


def plan(model: Model) -> dict[str, Any]:
    """Return the whole plan of a model without problems: with the checks of its verification.

    Raises verify.derive.JourneyError.
    """
    whole = planning.plan(model)
    whole["checks"] = derive.verification(whole, model.journeys)
    aws = model.environment["aws"] is not None
    # The security group whose rules end by themselves, empty where there is none.
    whole["access_group"] = provisioning.layer("database_access").derive(model)["group"] if aws else ""
    return whole


def _complete(model: Model) -> None:
    """Put in what follows from several parts of the input."""
    for name, access in model.environment["databases"].items():
        if access["port"] is None and name in model.databases:
            access["port"] = model.databases[name]["port"]
    for service in model.services.values():
        if not any(name in model.databases for name in service["needs"]):
            service["pool"] = None
    for host, entry in (model.hosts or {}).items():
        for name in entry["services"]:
            if name in model.services:
                model.placement.setdefault(name, []).append(host)
    model.origins = planning.allowed_origins(model.services, model.environment["cors"]["extra_origins"])
    provisioning.complete(model)


def _read_environment(report: Report, environment: Any, databases: Mapping[str, Any]) -> dict[str, Any]:
    root = "platform_environment"
    wanted = "a mapping with name, domain, region and tls"
    settings: dict[str, Any] = keys(ENVIRONMENT_KEYS, wanted)(report, root, environment) or {
        key: field.default for key, field in ENVIRONMENT_KEYS.items()
    }
    settings["stated"] = environment if isinstance(environment, dict) else {}
    settings["tls"] = settings["tls"] or {"mode": None}
    settings["cors"] = {"extra_origins": (settings["cors"] or {}).get("extra_origins") or []}
    for key in ("databases", "secrets", "services", "nodejs"):
        settings[key] = settings[key] or {}
    settings["deployment"] = settings["deployment"] or {key: field.default for key, field in DEPLOYMENT_KEYS.items()}
    settings["synthetic"] = settings["synthetic"] or {key: field.default for key, field in SYNTHETIC_KEYS.items()}
    secrets = settings["stated"].get("secrets")
    for name in secrets if isinstance(secrets, dict) else ():
        settings["secrets"].setdefault(name, {})  # one whose reference is broken is not missing as well
    wanted = "a mapping with host, name, user, password and max_connections"
    accesses = {}
    for name, access in settings["databases"].items():
        target = report if name in databases else Report()  # one that does not exist is reported as such only
        checked = keys(ACCESS_KEYS, wanted)(target, f"{root}.databases.{name}", access)
        accesses[name] = checked or dict.fromkeys(ACCESS_KEYS)
    settings["databases"] = accesses
    return settings


def _read_databases(report: Report, raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    databases = {}
    for name, entry in raw.items():
        path = f"databases.{name}"
        values.name(report, path, name)
        check = keys(DATABASE_KEYS, "a mapping such as {engine: mysql}")
        databases[name] = check(report, path, {} if entry is None else entry) or {"engine": None, "port": None}
    return databases


def _read_hosts(report: Report, hosts: Any) -> dict[str, dict[str, Any]]:
    checked: dict[str, dict[str, Any]] = {}
    if not isinstance(hosts, dict):
        refuse_type(report, "hosts", hosts, "a mapping of inventory names to {address, services}")
        return checked
    for name, entry in hosts.items():
        path = f"hosts.{name}"
        if not isinstance(entry, dict):
            refuse_type(report, path, entry, "a mapping with address and services")
            entry = {"address": "0.0.0.0", "services": []}  # noqa: S104 (a stand-in, never used)
        services = entry.get("services")
        if not isinstance(services, list) or not all(isinstance(item, str) for item in services):
            refuse_type(report, f"{path}.services", services, "platform_services, a list of names (tag Services)")
            services = []
        stripped = [item.strip() for item in services]
        checked[name] = {
            "address": values.address(report, f"{path}.address", entry.get("address")),
            "services": list(dict.fromkeys(item for item in stripped if item)),
        }
    return checked


def _read_services(report: Report, raw: Any, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = {}
    root = "platform_environment.services"
    if raw == {}:
        report.add("services", None, "the catalogue has no service", "Describe at least one.")
    raw = raw or {}
    for name in settings["services"]:
        if name not in raw:
            fix = f"Remove the override, or correct the name.{report.suggest(name, raw)}"
            report.add(f"{root}.{name}", name, f"the catalogue has no service '{name}'", fix)
    for name, entry in raw.items():
        path = f"services.{name}"
        values.name(report, path, name)
        if not isinstance(entry, dict):
            refuse_type(report, path, entry, "a mapping with kind, port and so on")
            services[name] = _read_service(Report(), name, {}, settings, {})
            continue
        moved: dict[str, str] = {}
        if name in settings["services"]:
            entry = _overridden(report, entry, settings["services"][name], f"{root}.{name}", moved)
        services[name] = _read_service(report, name, entry, settings, moved)
    return services


def _overridden(
    report: Report, entry: dict[str, Any], override: Any, path: str, moved: dict[str, str]
) -> dict[str, Any]:
    """Return the entry with the environment's overrides; note in `moved` where each value stands."""
    if not isinstance(override, dict):
        refuse_type(report, path, override, "a mapping of keys to override")
        return entry
    merged = dict(entry)
    for key, value in override.items():
        where = f"{path}.{key}"
        if key not in OVERRIDABLE:
            fix = f"Change the catalogue, or override one of: {listed(OVERRIDABLE)}.{report.suggest(key, OVERRIDABLE)}"
            report.add(where, key, f"an environment cannot override '{key}'", fix)
        elif key == "environment" and isinstance(value, dict) and isinstance(entry.get(key), dict):
            merged[key] = {**entry[key], **value}
            moved.update({f"environment.{variable}": f"{where}.{variable}" for variable in value})
        else:
            merged[key] = value
            moved[key] = where
    return merged


def _read_service(
    report: Report, name: str, entry: dict[str, Any], settings: Mapping[str, Any], moved: Mapping[str, str]
) -> dict[str, Any]:
    """Return one service with every key; also where its values stand (`path`, `moved`), and which are `broken`."""
    path = f"services.{name}"
    if moved:
        report = Redirect(report, path, moved)
    service: dict[str, Any] = keys(SERVICE_KEYS, "a mapping")(report, path, entry) or {}
    broken = {key for key in SERVICE_KEYS if key in entry and service[key] is None} if entry else set(SERVICE_KEYS)
    service.update(path=path, moved=moved, broken=broken)
    kind = KINDS.get(service["kind"])
    if service["build"] is None:
        service["build"] = {key: field.default for key, field in BUILD_KEYS.items()}
    service["build"]["environment"] = service["build"]["environment"] or {}
    for key in ("environment", "secrets"):
        service[key] = service[key] or {}
    service["needs"] = list(dict.fromkeys(service["needs"] or []))
    if kind:
        _refuse_foreign(report, path, entry, kind)
        _apply_kind(report, path, entry, service, kind)
    for key in ("start", "migrate", "migrations"):
        service[key] = service[key] or []
    if service["migrations"] and not service["migrate"] and "migrate" not in service["broken"]:
        problem = "a list of migrations without a command that runs them"
        report.add(f"{path}.migrations", shlex.join(service["migrations"]), problem, "Add migrate: the command.")
    service["keep"] = service["keep"] or {key: field.default for key, field in KEEP_KEYS.items()}
    _expand_public(report, path, service, settings["domain"] or "domain.invalid", kind.scheme if kind else "https")
    port = service["port"]
    service["internal_url"] = f"http://127.0.0.1:{planning.INTERNAL + port}" if port else ""
    _check_workspace(report, path, service["build"])
    return service


def _refuse_foreign(report: Report, path: str, entry: Mapping[str, Any], kind: Kind) -> None:
    """Refuse keys that mean nothing to this kind."""
    build = entry.get("build")
    stated = list(entry) + ([f"build.{key}" for key in build] if isinstance(build, dict) else [])
    for key in stated:
        if key in kind.foreign:
            report.add(f"{path}.{key}", key, f"'{key}' means nothing to a {kind.name}", "Remove it.")


def _apply_kind(report: Report, path: str, entry: Mapping[str, Any], service: dict[str, Any], kind: Kind) -> None:
    """Put in the kind's defaults and check what depends on it."""
    if "port" not in entry:
        service["port"] = kind.port
        if kind.port is None:
            report.add(f"{path}.port", None, f"a {kind.name} has no usual port", "Add port: a free port of its host.")
    elif kind.process and service["port"] and service["port"] > planning.HIGHEST - planning.GREEN:
        report.add(
            f"{path}.port",
            service["port"],
            f"the slots' ports are 10000 and 20000 higher, and {service['port'] + planning.GREEN} does not exist",
            f"Use a port up to {planning.HIGHEST - planning.GREEN}.",
        )
        service["port"] = None
    if "health" not in entry:
        service["health"] = health(report, f"{path}.health", kind.health) if kind.health else None
        if kind.health is None:
            fix = "Add a path that answers 200 when the service can work, or {tcp: true} where there is none."
            report.add(f"{path}.health", None, f"a {kind.name} has no usual health check", fix)
    for key in ("hold", "hand_off", "sockets_per_client"):
        if service[key] is None:
            service[key] = getattr(kind, key)
    build = service["build"]
    if build["command"] is None:
        build["command"] = kind.command
    build["output"] = build["output"] or kind.output
    if kind.name == "nextjs" and build["standalone"] is None:
        build["standalone"] = True
    if "start" not in entry and kind.process:
        server = kind.name == "nextjs" and not build["standalone"]
        service["start"] = shlex.split(NEXTJS_SERVER_START if server else kind.start)


def _expand_public(report: Report, path: str, service: dict[str, Any], domain: str, scheme: str) -> None:
    """Put the domain to the public hosts. What is broken gets a name of its own, so that it is reported once."""
    expanded = []
    stated = [{"host": None, "path": None}] if "public" in service["broken"] else service["public"]
    for index, address in enumerate(stated):
        host, prefix = address["host"] or f"broken-{index}.{path}", address["path"] or "/"
        fqdn = domain if host == "@" else f"{host}.{domain}"
        where = f"{path}.public[{index}].host"
        if host == domain or host.endswith(f".{domain}"):
            fix = f"Write '{host[: -len(domain) - 1] or '@'}'."
            report.add(where, host, f"a host is relative to the domain '{domain}'", fix)
        elif len(fqdn) > 253:
            report.add(where, host, "the whole name is longer than 253 characters", "Shorten it.")
        url = f"{scheme}://{fqdn}{'' if prefix == '/' else prefix}"
        expanded.append({"fqdn": fqdn, "path": prefix, "url": url, "wildcard": host == "*"})
    service["public"] = expanded
    service["url"] = expanded[0]["url"] if expanded else None


def _check_workspace(report: Report, path: str, build: Mapping[str, Any]) -> None:
    """The source lies in its workspace, which is relative to the source or, as the source is, to the catalogue."""
    source, workspace = build["source"], build["workspace"]
    if not source or not workspace:
        return
    catalogue = "/" + "x/" * 64
    inner = posixpath.normpath(posixpath.join(catalogue, source))
    roots = [posixpath.normpath(posixpath.join(base, workspace)) for base in (inner, catalogue)]
    if not any(f"{inner}/".startswith(f"{root.rstrip('/')}/") for root in roots):
        problem = f"the source '{source}' does not lie below the workspace"
        fix = "Write the folder that holds the lock file, relative to the source, such as ../.."
        report.add(f"{path}.build.workspace", workspace, problem, fix)
