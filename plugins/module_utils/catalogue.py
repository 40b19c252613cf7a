# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The catalogue's schema: reads catalogue, environment and hosts into a model, and finds every mistake.

`read` never raises for anything that stands in its input; all mistakes are collected. Paths in
problems begin with `services`, `databases` or `journeys` (the catalogue), `platform_environment`,
or `hosts`.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils import planning
from ansible_collections.fivepointers.platform.plugins.module_utils.kinds import KINDS, NEXTJS_SERVER_START, Kind
from ansible_collections.fivepointers.platform.plugins.module_utils.placeholders import (
    PlaceholderError,
    parse,
    placeholders,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.planning import Model, UnknownFact
from ansible_collections.fivepointers.platform.plugins.module_utils.schema import (
    HIDDEN,
    Key,
    Problem,
    Report,
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

RESERVED_NAMES = ("edge", "platform", "self", "environment", "secret", "origins")
ENVIRONMENTS_WITH_HTTP_ORIGINS = ("sandbox", "development")
OVERRIDABLE = ("pool", "node", "memory", "drain", "body_limit", "environment", "health", "public")
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
SSH_PORT = 22


class CatalogueError(Exception):
    """Raised with every problem of a catalogue and its environment."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(describe(problems))
        self.problems = problems


def describe(problems: list[Problem]) -> str:
    """Return the problems as text for an operator, one paragraph each."""
    count = len(problems)
    paragraphs = ["The platform cannot be planned: %d problem%s." % (count, "" if count == 1 else "s")]
    for item in problems:
        paragraphs.append("%s: %s\n  Problem: %s.\n  Fix: %s" % (item.path, item.value, item.problem, item.fix))
    return "\n\n".join(paragraphs)


# --- values -------------------------------------------------------------------


def name_check(report: Report, path: str, value: Any) -> str | None:
    """The name of a service or a database."""
    wanted = "1 to 29 lower-case letters, digits and hyphens, beginning with a letter"
    if not isinstance(value, str) or not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,27}[a-z0-9])?", value):
        report.add(path, value, "this is not a name", "Use %s." % wanted)
        return None
    if value in RESERVED_NAMES:
        report.add(path, value, "'%s' is a reserved word" % value, "Choose another name.")
        return None
    return value


def node_check(report: Report, path: str, value: Any) -> str | None:
    """A Node.js version: a major number, or an exact version."""
    wanted = 'a major version such as "24", or an exact one such as "24.21.0", in quotes'
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        refuse_type(report, path, value, wanted)
        return None
    if not re.fullmatch(r"[1-9]\d?(?:\.\d+\.\d+)?", value):
        report.add(path, value, "this is not a Node.js version", "Write %s." % wanted)
        return None
    return value


def status_check(report: Report, path: str, value: Any) -> list[int] | None:
    """One HTTP status, or a list of them."""
    values = value if isinstance(value, list) else [value]
    checked = [integer(100, 599)(report, path, item) for item in values]
    if not values:
        report.add(path, value, "no status would count as healthy", "Write at least one, such as [200].")
    return [item for item in checked if item is not None]


def template_check(report: Report, path: str, value: Any) -> str | None:
    """The value of an environment variable, which may hold placeholders."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, (int, float)):
        value = str(value)
    if not isinstance(value, str):
        refuse_type(report, path, value, "a string")
        return None
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        report.add(path, HIDDEN, "the value has more than one line, or control characters", "Write it on one line.")
        return None
    try:
        parse(value)
    except PlaceholderError as error:
        report.add(path, value, str(error), "Write ${name}, ${name|url}, or $$ for a dollar sign.")
        return None
    return value


def argv_check(report: Report, path: str, value: Any) -> list[str] | None:
    """A command that is started without a shell."""
    wanted = "one command without a shell, such as 'node dist/main.js'"
    if not isinstance(value, str):
        refuse_type(report, path, value, wanted)
        return None
    try:
        words = shlex.split(value)
    except ValueError as error:
        report.add(path, value, "the command cannot be split into words (%s)" % error, "Write %s." % wanted)
        return None
    if not words or "\n" in value:
        report.add(path, value, "this is not a command", "Write %s." % wanted)
        return None
    if any(word in ("&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1") for word in words):
        report.add(path, value, "there is no shell here", "Write %s; put the rest into a script." % wanted)
        return None
    if words[0] in ("npm", "npx", "yarn", "pnpm", "pm2", "nohup", "nodemon"):
        report.add(
            path,
            value,
            "'%s' would stand between systemd and the process, and keep signals from it" % words[0],
            "Start the program itself: %s." % wanted,
        )
        return None
    try:
        unknown = [item for word in words for item in placeholders(word) if item.name != "self.port"]
    except PlaceholderError as error:
        report.add(path, value, str(error), "Only ${self.port} may stand in a command.")
        return None
    if unknown:
        report.add(
            path,
            value,
            "'%s' cannot stand in a command" % unknown[0],
            "Put it into the environment; only ${self.port} may stand in a command.",
        )
        return None
    return words


def shell_check(report: Report, path: str, value: Any) -> str | None:
    """A build command, run by a shell. Empty for none."""
    return text(r"[^\x00-\x08\x0a-\x1f\x7f]*", "one line for the shell, or an empty string for no command")(
        report, path, value
    )


def path_below(report: Report, path: str, value: Any) -> str | None:
    """A folder below the source."""
    wanted = "a path below the source folder, such as dist"
    checked = text(r"[^\x00-\x1f\x7f]+", wanted)(report, path, value)
    if checked is None:
        return None
    if checked.startswith(("/", "~")) or ".." in checked.split("/"):
        report.add(path, value, "this leads out of the source folder", "Write %s." % wanted)
        return None
    return checked.rstrip("/")


def domain_check(report: Report, path: str, value: Any) -> str | None:
    """A domain of at least two labels."""
    wanted = "a domain in lower case, such as example.com, without scheme, port or final dot"
    if not isinstance(value, str):
        refuse_type(report, path, value, wanted)
        return None
    labels = value.split(".")
    if len(value) > 253 or len(labels) < 2 or not all(map(LABEL.fullmatch, labels)) or labels[-1].isdigit():
        report.add(path, value, "this is not a domain", "Write %s." % wanted)
        return None
    return value


def host_check(report: Report, path: str, value: Any) -> str | None:
    """A public host, relative to the environment's domain."""
    wanted = 'labels in lower case such as api, "@" for the domain itself, or "*" for any one label'
    if not isinstance(value, str):
        refuse_type(report, path, value, wanted)
        return None
    if value in ("@", "*") or all(map(LABEL.fullmatch, value.split("."))):
        return value
    report.add(path, value, "this is not a host below the domain", "Write %s." % wanted)
    return None


def prefix_check(report: Report, path: str, value: Any) -> str | None:
    """A public path prefix; a final slash is dropped."""
    wanted = "a path such as / or /docs"
    checked = text(r"/[A-Za-z0-9._~/-]*", wanted)(report, path, value)
    if checked is None:
        return None
    if "//" in checked or ".." in checked.split("/"):
        report.add(path, value, "this path cannot be used here", "Write %s." % wanted)
        return None
    return checked.rstrip("/") or "/"


def address_check(report: Report, path: str, value: Any) -> str | None:
    """An IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(value if isinstance(value, str) else ""))
    except ValueError:
        report.add(path, value, "this is not an IPv4 address", "Write an address such as 10.0.1.5.")
        return None


def network_check(report: Report, path: str, value: Any) -> str | None:
    """A network in CIDR notation."""
    try:
        if not isinstance(value, str):
            raise ValueError("not a string")
        return str(ipaddress.ip_network(value))
    except ValueError:
        report.add(path, value, "this is not a network", "Write CIDR notation, such as 10.0.0.0/16.")
        return None


def secret_check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """A reference to a secret. Its value is never shown: it may be the secret itself."""
    wanted = "{secretsmanager: name}, {secretsmanager: name, key: key of its JSON}, {ssm: /name} or {variable: name}"
    sources = {
        "secretsmanager": r"[A-Za-z0-9/_+=.@:-]+",
        "ssm": r"[A-Za-z0-9/_.:-]+",
        "variable": r"[A-Za-z_][A-Za-z0-9_]*",
    }
    if not isinstance(value, dict):
        report.add(path, HIDDEN, "this is not a reference to a secret", "Write %s." % wanted)
        return None
    found = [source for source in sources if source in value]
    allowed = set(found) | ({"key"} if found == ["secretsmanager"] else set())
    if len(found) != 1 or set(value) - allowed:
        report.add(path, listed(value), "these keys are not a reference to a secret", "Write %s." % wanted)
        return None
    source = found[0]
    name, key = value[source], value.get("key")
    if not isinstance(name, str) or not re.fullmatch(sources[source], name):
        report.add("%s.%s" % (path, source), HIDDEN, "this is not the name of a secret", "Write %s." % wanted)
        return None
    if key is not None and (not isinstance(key, str) or not key):
        report.add("%s.key" % path, HIDDEN, "this is not a key of a JSON secret", "Write %s." % wanted)
        return None
    return {source: name, "key": key} if key else {source: name}


def origin_check(report: Report, path: str, value: Any) -> str | None:
    """An origin, exact or with one label as wildcard. Whether http is allowed is checked later."""
    wanted = "an origin such as https://app.example.com or https://*.example.com, without path or final slash"
    if not isinstance(value, str):
        refuse_type(report, path, value, wanted)
        return None
    match = re.fullmatch(r"(https?)://(\*\.)?([a-z0-9.-]+)(?::(\d{1,5}))?", value)
    if not match or not all(map(LABEL.fullmatch, match.group(3).split("."))):
        report.add(path, value, "this is not an origin", "Write %s." % wanted)
        return None
    if match.group(2) and "." not in match.group(3):
        report.add(path, value, "this wildcard covers a whole top-level domain", "Write %s." % wanted)
        return None
    if match.group(4) and not 1 <= int(match.group(4)) <= 65535:
        report.add(path, value, "the port is out of range", "Write %s." % wanted)
        return None
    return value


VARIABLE = text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable: letters, digits and underscores")
MEMORY = text(r"[1-9]\d*[KMGT]", "a size such as 512M or 1G")
BODY_LIMIT = text(r"\d+[kmg]?", "a size for nginx such as 512k, 1m or 1g")
SECRET_NAME = r"[A-Za-z0-9_-]+"


def secret_name_check(report: Report, path: str, value: Any) -> str | None:
    """The name of one of the environment's secrets; not shown when it may be a value."""
    if isinstance(value, str) and re.fullmatch(SECRET_NAME, value) and len(value) <= 64:
        return value
    report.add(path, HIDDEN, "this is not the name of a secret", "Write a key of platform_environment.secrets.")
    return None


# --- tables of keys -----------------------------------------------------------

HEALTH_KEYS: dict[str, Key] = {
    "path": Key(text(r"/[^\s\"'{};$\\]*", "a path such as /health")),
    "tcp": Key(boolean),
    "status": Key(status_check, [200]),
    "interval": Key(integer(1, 60), 1),
    "timeout": Key(integer(1, 60), 2),
    "start_period": Key(integer(1, 3600), 60),
}

BUILD_KEYS: dict[str, Key] = {
    "source": Key(text(r"[^\x00-\x1f\x7f]+", "the folder of the source, relative to the catalogue")),
    "workspace": Key(text(r"[^\x00-\x1f\x7f]+", "the folder that holds the lock file, relative to the source")),
    "command": Key(shell_check),
    "output": Key(path_below),
    "lockfile": Key(choice(("required", "optional"), "a rule for the lock file"), "required"),
    "install_scripts": Key(boolean, True),
    "environment": Key(table(VARIABLE, template_check, "a mapping of variables"), {}),
    "standalone": Key(boolean),
}

PUBLIC_KEYS: dict[str, Key] = {
    "host": Key(host_check, required=True, hint='Add host: a label such as api, "@" for the domain, or "*".'),
    "path": Key(prefix_check, "/"),
}


def health_check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """A health check: a path, or a mapping with path or tcp."""
    if isinstance(value, str):
        value = {"path": value}
    elif not isinstance(value, dict):
        refuse_type(report, path, value, "a path such as /health, {path: /health, status: [200]} or {tcp: true}")
        return None
    before = len(report.problems)
    checked = keys(HEALTH_KEYS, "a mapping")(report, path, value)
    if checked is None or len(report.problems) > before:
        return None
    if bool(checked["path"]) == bool(checked["tcp"]):
        report.add(
            path,
            value,
            "a health check is either a path or an open port",
            "Write {path: /health} or {tcp: true}, and not both.",
        )
        return None
    if checked["tcp"] and "status" in value:
        report.add(path + ".status", value["status"], "an open port answers no status", "Remove it, or write a path.")
        return None
    checked["type"] = "tcp" if checked.pop("tcp") else "http"
    if checked["type"] == "tcp":
        checked["status"] = []
    return checked


HEALTH_ADVICE = (
    "Add a path that answers 200 when the service can work, such as health: /health, "
    "or health: {tcp: true} where there is none."
)

SERVICE_KEYS: dict[str, Key] = {
    "kind": Key(choice(sorted(KINDS), "a kind"), required=True, hint="Write one of: %s." % listed(sorted(KINDS))),
    "port": Key(integer(1, 65535)),
    "node": Key(node_check, "24"),
    "health": Key(health_check),
    "public": Key(items(keys(PUBLIC_KEYS, "a mapping such as {host: api}"), "a list such as [{host: api}]"), []),
    "needs": Key(items(text(None, "the name of a service or database"), "a list such as [database]"), []),
    "writes": Key(text(None, "the name of a database")),
    "pool": Key(integer(1, 10000), 10),
    "build": Key(keys(BUILD_KEYS, "a mapping such as {source: ../api}"), None),
    "start": Key(argv_check),
    "migrate": Key(argv_check),
    "environment": Key(table(VARIABLE, template_check, "a mapping of variables"), {}),
    "secrets": Key(table(VARIABLE, secret_name_check, "a mapping of variables to names of secrets"), {}),
    "cors": Key(choice(("edge", "application"), "a place that answers CORS"), "edge"),
    "spa": Key(boolean, True),
    "drain": Key(integer(0, 3600), 10),
    "body_limit": Key(BODY_LIMIT, "1m"),
    "memory": Key(MEMORY, "1G"),
}

DATABASE_KEYS: dict[str, Key] = {
    "engine": Key(choice(("mysql",), "an engine"), "mysql"),
    "port": Key(integer(1, 65535), 3306),
}

STEP_KEYS: dict[str, Key] = {
    "name": Key(text(r".+", "what the user does"), required=True, hint="Add name: what the user does."),
    "service": Key(text(None, "the name of a service"), required=True, hint="Add service: a name of the catalogue."),
    "host": Key(text(r"[^\s/]+", "one label, for a service with a wildcard address")),
    "request": Key(
        text(r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /\S*", "a method and a path, such as GET /api/health")
    ),
    "json": Key(lambda _report, _path, value: value),
    "headers": Key(table(text(r"[A-Za-z0-9-]+", "the name of a header"), template_check, "a mapping of headers"), {}),
    "status": Key(status_check, [200]),
    "contains": Key(text(None, "a text that the answer holds")),
    "save": Key(
        table(
            text(r"[a-z_][a-z0-9_]*", "the name of a variable in lower case"),
            text(r"[^\s]+", "a dotted path into the JSON answer"),
            "a mapping of variables to paths in the JSON answer",
        ),
        {},
    ),
    "websocket": Key(choice(("yjs",), "a protocol")),
    "room": Key(text(r"\S+", "the name of a document")),
    "clients": Key(integer(2, 50), 2),
}

JOURNEY_KEYS: dict[str, Key] = {
    "name": Key(text(r".+", "what the user does"), required=True, hint="Add name: what the user does."),
    "steps": Key(
        items(keys(STEP_KEYS, "a mapping"), "a list of steps"), [], required=True, hint="Add steps: a list of steps."
    ),
}


def any_mapping(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """A mapping whose entries are checked elsewhere."""
    if isinstance(value, dict):
        return value
    refuse_type(report, path, value, "a mapping")
    return None


CATALOGUE_KEYS: dict[str, Key] = {
    "services": Key(any_mapping, {}, required=True, hint="Add services: a mapping of names to services."),
    "databases": Key(any_mapping, {}),
    "journeys": Key(items(keys(JOURNEY_KEYS, "a mapping"), "a list of journeys"), []),
}

TLS_KEYS: dict[str, Key] = {
    "mode": Key(
        choice(("files", "load_balancer"), "a TLS mode"),
        required=True,
        hint="Write files (certificate and key on the edge) or load_balancer.",
    ),
    "certificate": Key(text(r".+", "the path of a PEM file on the controller")),
    "key": Key(text(r".+", "the path of a PEM file on the controller")),
    "ca": Key(text(r".+", "the path of a PEM file on the controller")),
    "trusted": Key(items(network_check, "a list of networks such as [10.0.0.0/16]"), []),
}

ACCESS_KEYS: dict[str, Key] = {
    "host": Key(text(r"[A-Za-z0-9.-]+", "a host name or address"), required=True, hint="Add the address that it has."),
    "port": Key(integer(1, 65535)),
    "name": Key(text(r"[^\s`'\"/]+", "the name of a schema"), required=True, hint="Add the name of the schema."),
    "user": Key(text(r"[^\s`'\"]+", "the name of a user"), required=True, hint="Add the user that services log in as."),
    "password": Key(
        secret_check, required=True, hint="Add a reference, such as {secretsmanager: fivepointers/production/database}."
    ),
    "max_connections": Key(
        integer(1, 1000000), required=True, hint="Ask the database: SELECT @@max_connections, and write the number."
    ),
}

ENVIRONMENT_KEYS: dict[str, Key] = {
    "name": Key(
        text(r"[a-z](?:[a-z0-9-]*[a-z0-9])?", "lower-case letters, digits and hyphens"),
        required=True,
        hint="Write sandbox, development, staging or production.",
    ),
    "domain": Key(domain_check, required=True, hint="Add the domain under which users reach the services."),
    "region": Key(
        text(r"[a-z]{2}(?:-[a-z]+)+-\d", "an AWS region such as ap-northeast-2"),
        required=True,
        hint="Add the AWS region, such as ap-northeast-2.",
    ),
    "tls": Key(
        keys(TLS_KEYS, "a mapping with mode"),
        required=True,
        hint="Add {mode: files, certificate: …, key: …} or {mode: load_balancer}.",
    ),
    "cors": Key(
        keys(
            {"extra_origins": Key(items(origin_check, "a list of origins"), [])},
            "a mapping such as {extra_origins: []}",
        ),
        None,
    ),
    "databases": Key(any_mapping, {}),
    "secrets": Key(any_mapping, {}),
    "services": Key(any_mapping, {}),
    "front_door": Key(optional(address_check)),
    "nodejs": Key(any_mapping),
}


# --- reading ------------------------------------------------------------------


def read(catalogue: Any, environment: Any, hosts: Any = None) -> tuple[Model, list[Problem]]:
    """Read everything into a model; return it with all problems, in the order of the input.

    hosts: {inventory name: {address, services}}, or None where there is no inventory. Then nothing
    that depends on hosts is checked.
    The model is whole only when there are no problems.
    """
    report = Report()
    catalogue, environment, hosts = plain(catalogue), plain(environment), plain(hosts)
    settings = _read_environment(report, environment)
    entries = keys(CATALOGUE_KEYS, "a mapping with services")(report, "", catalogue) or {}
    databases = table(name_check, keys(DATABASE_KEYS, "a mapping such as {engine: mysql}"), "a mapping")(
        report, "databases", entries.get("databases") or {}
    )
    services = _read_services(report, entries.get("services"), settings)
    model = Model(
        environment=settings,
        services=services,
        databases=databases or {},
        journeys=entries.get("journeys") or [],
        hosts=_read_hosts(report, hosts, settings) if hosts is not None else None,
    )
    for service in services.values():
        if not any(name in model.databases for name in service["needs"]):
            service["pool"] = None
    for host, entry in (model.hosts or {}).items():
        for name in entry["services"]:
            if name in services:
                model.placement.setdefault(name, []).append(host)
    model.origins = planning.allowed_origins(services, settings["extra_origins"])
    for check in CHECKS:
        check(report, model)
    return model, report.problems


def load(catalogue: Any, environment: Any, hosts: Any = None) -> Model:
    """Read everything into a model, or raise CatalogueError with all problems."""
    model, problems = read(catalogue, environment, hosts)
    if problems:
        raise CatalogueError(problems)
    return model


def _read_environment(report: Report, environment: Any) -> dict[str, Any]:
    root = "platform_environment"
    checked = keys(ENVIRONMENT_KEYS, "a mapping with name, domain, region and tls")(report, root, environment)
    settings = checked or {key: field.default for key, field in ENVIRONMENT_KEYS.items()}
    tls = settings["tls"] = settings["tls"] or {"mode": None}
    if tls["mode"] == "files":
        for key in ("certificate", "key"):
            stated = isinstance(environment.get("tls"), dict) and key in environment["tls"]
            if not tls[key] and not stated:
                report.add(
                    "%s.tls.%s" % (root, key),
                    None,
                    "tls.mode is files, and '%s' is missing" % key,
                    "Add the path of the PEM file on the controller, or use mode: load_balancer.",
                )
    extra = []
    for index, origin in enumerate((settings["cors"] or {}).get("extra_origins") or []):
        if origin.startswith("http://") and settings["name"] not in ENVIRONMENTS_WITH_HTTP_ORIGINS:
            report.add(
                "%s.cors.extra_origins[%d]" % (root, index),
                origin,
                "an origin without TLS is allowed in %s only" % " and ".join(ENVIRONMENTS_WITH_HTTP_ORIGINS),
                "Write https://, or remove it.",
            )
        extra.append(origin)
    settings["extra_origins"] = extra
    settings["secrets"] = (
        table(secret_name_check, secret_check, "a mapping of names to references")(
            report, root + ".secrets", settings["secrets"] or {}
        )
        or {}
    )
    accesses = {}
    for name, access in (settings["databases"] or {}).items():
        accesses[name] = keys(ACCESS_KEYS, "a mapping with host, name, user, password and max_connections")(
            report, "%s.databases.%s" % (root, name), access
        )
    settings["databases"] = {name: access for name, access in accesses.items() if access is not None}
    settings["stated_databases"] = list(accesses)
    settings["services"] = settings["services"] or {}
    return settings


def _read_hosts(report: Report, hosts: Any, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    if not isinstance(hosts, dict):
        refuse_type(report, "hosts", hosts, "a mapping of inventory names to {address, services}")
        return {}
    if not hosts:
        report.add("hosts", None, "the inventory has no host", "Start or tag instances with %s." % _tags(settings))
    checked = {}
    owners: dict[str, str] = {}
    for name, entry in hosts.items():
        path = "hosts.%s" % name
        if not isinstance(entry, dict):
            refuse_type(report, path, entry, "a mapping with address and services")
            continue
        address = address_check(report, path + ".address", entry.get("address"))
        services = entry.get("services")
        if not isinstance(services, list) or not all(isinstance(item, str) for item in services):
            refuse_type(report, path + ".services", services, "a list of names (tag Services)")
            services = []
        if address is not None and owners.setdefault(address, name) != name:
            report.add(
                path + ".address",
                address,
                "the host '%s' has the same address" % owners[address],
                "Give each host an address of its own.",
            )
        checked[name] = {"address": address, "services": list(dict.fromkeys(services))}
    return checked


def _tags(settings: Mapping[str, Any], service: str = "") -> str:
    tags = "Platform=fivepointers, Environment=%s" % (settings.get("name") or "<name>")
    return tags + (", Services=…%s…" % service if service else "")


def _read_services(report: Report, raw: Any, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = {}
    raw = raw if isinstance(raw, dict) else {}
    if not raw and not any(item.path == "services" for item in report.problems):
        report.add("services", None, "the catalogue has no service", "Describe at least one.")
    root = "platform_environment.services"
    for name in settings["services"]:
        if name not in raw:
            report.add(
                "%s.%s" % (root, name),
                name,
                "the catalogue has no service '%s'" % name,
                "Remove the override, or correct the name.%s" % report.suggest(name, [str(key) for key in raw]),
            )
    for name, entry in raw.items():
        path = "services.%s" % name
        name_check(report, path, name)
        if not isinstance(entry, dict):
            refuse_type(report, path, entry, "a mapping with kind, port and so on")
            continue
        origin: dict[str, str] = {}
        if name in settings["services"]:
            entry = _overridden(report, entry, settings["services"][name], "%s.%s" % (root, name), origin)
        services[name] = _read_service(report, str(name), entry, settings, origin)
    return services


def _overridden(
    report: Report, entry: dict[str, Any], override: Any, path: str, origin: dict[str, str]
) -> dict[str, Any]:
    """Return the entry with the environment's overrides; note in `origin` where each value stands."""
    if not isinstance(override, dict):
        refuse_type(report, path, override, "a mapping of keys to override")
        return entry
    merged = dict(entry)
    for key, value in override.items():
        where = "%s.%s" % (path, key)
        if key not in OVERRIDABLE:
            report.add(
                where,
                key,
                "an environment cannot override '%s'" % key,
                "Change the catalogue, or override one of: %s.%s"
                % (listed(OVERRIDABLE), report.suggest(key, OVERRIDABLE)),
            )
            continue
        if key == "environment" and isinstance(value, dict) and isinstance(entry.get(key), dict):
            merged[key] = dict(entry[key], **value)
            origin.update({"environment.%s" % variable: "%s.%s" % (where, variable) for variable in value})
        else:
            merged[key] = value
            origin[key] = where
    return merged


class _Redirect(Report):
    """Reports problems of overridden values where the override stands."""

    def __init__(self, report: Report, path: str, origin: Mapping[str, str]) -> None:
        super().__init__()
        self.target = report
        self.path = path
        self.origin = origin

    def add(self, path: str, value: Any, problem: str, fix: str) -> None:
        self.target.add(self.where(path), value, problem, fix)
        self.problems = self.target.problems

    def where(self, path: str) -> str:
        """Return the path at which the value of a service's key really stands."""
        inner = path[len(self.path) + 1 :]
        for key, place in self.origin.items():
            if inner == key or inner.startswith((key + ".", key + "[")):
                return place + inner[len(key) :]
        return path

    def suggest(self, word: Any, options: Iterable[str]) -> str:
        return self.target.suggest(word, options)


def _read_service(
    report: Report, name: str, entry: dict[str, Any], settings: Mapping[str, Any], origin: Mapping[str, str]
) -> dict[str, Any]:
    path = "services.%s" % name
    if origin:
        report = _Redirect(report, path, origin)
    service = keys(SERVICE_KEYS, "a mapping")(report, path, entry) or {}
    service["path"], service["origin"] = path, dict(origin)
    kind = KINDS.get(service["kind"]) if service["kind"] else None
    for key in ("public", "needs", "environment", "secrets"):
        service[key] = service[key] or [] if key in ("public", "needs") else service[key] or {}
    if service["build"] is None:
        service["build"] = {key: field.default for key, field in BUILD_KEYS.items()}
    service["build"]["environment"] = service["build"]["environment"] or {}
    if kind:
        _refuse_foreign(report, path, entry, kind)
        _apply_kind(report, path, entry, service, kind)
    service["migrate"] = service["migrate"] or []
    service["start"] = service["start"] or []
    _expand_public(report, path, service, settings)
    port = service["port"]
    service["internal_url"] = "http://127.0.0.1:%d" % (planning.INTERNAL + port) if port else None
    return service


def _refuse_foreign(report: Report, path: str, entry: Mapping[str, Any], kind: Kind) -> None:
    """Refuse keys that mean nothing to this kind."""
    build = entry.get("build")
    stated = list(entry) + (["build.%s" % key for key in build] if isinstance(build, dict) else [])
    for key in stated:
        if key in kind.foreign:
            report.add("%s.%s" % (path, key), key, "'%s' means nothing to a %s" % (key, kind.name), "Remove it.")


def _apply_kind(report: Report, path: str, entry: Mapping[str, Any], service: dict[str, Any], kind: Kind) -> None:
    """Put in the kind's defaults and check what depends on it."""
    if "port" not in entry:
        service["port"] = kind.port
        if kind.port is None:
            report.add(path + ".port", None, "a %s has no usual port" % kind.name, "Add port: a free port of its host.")
    elif kind.process and service["port"] and service["port"] > 65535 - planning.GREEN:
        report.add(
            path + ".port",
            service["port"],
            "the slots' ports are 10000 and 20000 higher, and %d does not exist" % (service["port"] + planning.GREEN),
            "Use a port up to %d." % (65535 - planning.GREEN),
        )
        service["port"] = None
    if "health" not in entry:
        if kind.health is None:
            report.add(path + ".health", None, "a %s has no usual health check" % kind.name, HEALTH_ADVICE)
        else:
            service["health"] = health_check(report, path + ".health", kind.health)
    build = service["build"]
    if build["command"] is None:
        build["command"] = kind.command
    build["output"] = build["output"] or kind.output
    if kind.name == "nextjs":
        build["standalone"] = True if build["standalone"] is None else build["standalone"]
    if "start" not in entry and kind.start:
        server = kind.name == "nextjs" and not build["standalone"]
        service["start"] = shlex.split(NEXTJS_SERVER_START if server else kind.start)


def _expand_public(report: Report, path: str, service: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Put the domain to the public hosts."""
    domain = settings["domain"]
    kind = KINDS.get(service["kind"]) if service["kind"] else None
    expanded = []
    for index, address in enumerate(service["public"]):
        host, prefix = address["host"], address["path"]
        if host is None or prefix is None or domain is None:
            continue
        if host == domain or host.endswith("." + domain):
            report.add(
                "%s.public[%d].host" % (path, index),
                host,
                "a host is relative to the domain '%s'" % domain,
                "Write '%s'." % (host[: -len(domain) - 1] or "@"),
            )
            continue
        fqdn = domain if host == "@" else "%s.%s" % (host, domain)
        if len(fqdn) > 253:
            report.add(
                "%s.public[%d].host" % (path, index), host, "the name is longer than 253 characters", "Shorten it."
            )
            continue
        url = "%s://%s%s" % (kind.scheme if kind else "https", fqdn, "" if prefix == "/" else prefix)
        expanded.append({"fqdn": fqdn, "path": prefix, "url": url, "wildcard": host == "*"})
    service["public"] = expanded
    service["url"] = expanded[0]["url"] if expanded else None


# --- checks over the whole ------------------------------------------------------


def place(service: Mapping[str, Any], key: str) -> str:
    """Return the path of a service's key, in the catalogue or in the environment's overrides."""
    path = "%s.%s" % (service["path"], key)
    if service["origin"]:
        return _Redirect(Report(), service["path"], service["origin"]).where(path)
    return path


def _check_names(report: Report, model: Model) -> None:
    for name in model.databases:
        if name in model.services:
            report.add("databases.%s" % name, name, "a service has the same name", "Rename one of them.")


def _check_needs(report: Report, model: Model) -> None:
    options = list(model.services) + list(model.databases)
    for name, service in model.services.items():
        path = place(service, "needs")
        process = model.is_process(name)
        for other in service["needs"]:
            if other == name:
                report.add(path, other, "'%s' needs itself" % name, "Remove '%s' from its needs." % name)
            elif other not in model.services and other not in model.databases:
                report.add(
                    path,
                    other,
                    "'%s' needs '%s', which is neither a service nor a database" % (name, other),
                    "Describe '%s', or correct the name.%s" % (other, report.suggest(other, options)),
                )
            elif other in model.databases and not process and service["kind"]:
                report.add(
                    path,
                    other,
                    "files in a browser cannot reach a database",
                    "Remove it; let '%s' need the service that answers for the data." % name,
                )
    needs = {name: [other for other in service["needs"] if other != name] for name, service in model.services.items()}
    for cycle in planning.batches_and_cycles(needs)[1]:
        chain = " → ".join(cycle)
        report.add(
            place(model.services[cycle[0]], "needs"),
            cycle[1],
            "the needs go round in a cycle: %s" % chain,
            "Remove one of these needs; a service that only has to know an address can be given it by environment.",
        )


def _check_writers(report: Report, model: Model) -> None:
    writers: dict[str, str] = {}
    for name, service in model.services.items():
        database = service["writes"]
        if database is None:
            continue
        path = place(service, "writes")
        if database not in model.databases:
            report.add(
                path,
                database,
                "there is no database '%s'" % database,
                "Describe it under databases, or correct the name.%s" % report.suggest(database, model.databases),
            )
            continue
        if database not in service["needs"]:
            report.add(
                path,
                database,
                "'%s' writes to '%s' without needing it" % (name, database),
                "Add '%s' to needs." % database,
            )
        first = writers.setdefault(database, name)
        if first != name:
            report.add(
                path,
                database,
                "'%s' writes to '%s' already, and a database has one writer" % (first, database),
                "Remove 'writes' from one of them, and let it ask the other.",
            )


def _check_public(report: Report, model: Model) -> None:
    owners: dict[tuple[str, str], str] = {}
    for name, service in model.services.items():
        for address in service["public"]:
            where = (address["fqdn"], address["path"])
            first = owners.setdefault(where, name)
            if first is not name or sum(1 for item in service["public"] if item is address) > 1:
                report.add(
                    place(service, "public"),
                    "%s%s" % where,
                    "'%s' has the public address %s%s already" % ((first,) + where),
                    "Give '%s' another host or another path." % name,
                )


def _check_access(report: Report, model: Model) -> None:
    root = "platform_environment.databases"
    stated = model.environment["stated_databases"]
    for name in model.databases:
        if name not in stated:
            report.add(
                "%s.%s" % (root, name),
                None,
                "the environment does not say where the database '%s' is" % name,
                "Add {host, name, user, password, max_connections}.",
            )
    for name in stated:
        if name not in model.databases:
            report.add(
                "%s.%s" % (root, name),
                name,
                "the catalogue has no database '%s'" % name,
                "Describe it under databases, or correct the name.%s" % report.suggest(name, model.databases),
            )
    for name, access in model.environment["databases"].items():
        if access["port"] is None and name in model.databases:
            access["port"] = model.databases[name]["port"]


def _check_secrets(report: Report, model: Model) -> None:
    known = model.environment["secrets"]
    for service in model.services.values():
        for variable, secret in service["secrets"].items():
            path = place(service, "secrets.%s" % variable)
            if secret not in known:
                report.add(
                    path,
                    secret,
                    "the environment has no secret '%s'" % secret,
                    "Add it to platform_environment.secrets, or use one of: %s.%s"
                    % (listed(known) or "(none yet)", report.suggest(secret, known)),
                )
            if variable in service["environment"]:
                report.add(
                    path,
                    variable,
                    "'%s' stands in environment as well" % variable,
                    "Keep one of them.",
                )


def _check_placeholders(report: Report, model: Model) -> None:
    for name, service in model.services.items():
        if not service["kind"]:
            continue
        process = model.is_process(name)
        for variable, value in service["environment"].items():
            for item in placeholders(value):
                _check_placeholder(report, model, name, "environment.%s" % variable, item, process)
        for variable, value in service["build"]["environment"].items():
            for item in placeholders(value):
                _check_placeholder(report, model, name, "build.environment.%s" % variable, item, False)


def _check_placeholder(report: Report, model: Model, name: str, key: str, item: Any, process: bool) -> None:
    service = model.services[name]
    head = item.name.partition(".")[0]
    try:
        if process:
            planning.template_of(model, name, item)
        elif head == "secret" or head in model.databases or item.name == "self.port":
            raise UnknownFact(
                "'%s' cannot be in what browsers or builds get" % item,
                "Use public facts: ${self.url}, ${<service>.url}, ${environment.…}.",
            )
        else:
            planning.template_of(model, name, item)
    except UnknownFact as error:
        options = list(service["needs"]) + ["self", "environment", "origins", "secret"]
        hint = "" if head in options else report.suggest(head, options)
        report.add(place(service, key), str(item), error.problem, error.fix + hint)


def _check_node(report: Report, model: Model) -> None:
    archives = model.environment["nodejs"]
    if not archives:
        return
    known = set(archives)
    for entry in archives.values():
        if isinstance(entry, dict) and isinstance(entry.get("version"), str):
            known.add(entry["version"])
    for service in model.services.values():
        if service["node"] and service["node"] not in known:
            report.add(
                place(service, "node"),
                service["node"],
                "the environment has no Node.js %s" % service["node"],
                "Use one of: %s; or add it to platform_environment.nodejs." % listed(sorted(known)),
            )


def _check_hosts(report: Report, model: Model) -> None:
    if model.hosts is None:
        return
    unknown: dict[str, list[str]] = {}
    edge = False
    for host, entry in model.hosts.items():
        for name in entry["services"]:
            if name == "edge":
                edge = True
            elif name not in model.services:
                unknown.setdefault(name, []).append(host)
    for name, hosts in unknown.items():
        report.add(
            "hosts.%s.services" % hosts[0],
            name,
            "the tag Services of %s names '%s', which is not in the catalogue" % (listed(hosts, 5), name),
            "Correct the tag, or describe the service.%s" % report.suggest(name, model.services),
        )
    if not model.hosts:
        return
    for name, service in model.services.items():
        if name not in model.placement:
            report.add(
                service["path"],
                name,
                "no host carries '%s'; looked for %s" % (name, _tags(model.environment, name)),
                "Add '%s' to the tag Services of an instance, or remove the service." % name,
            )
    public = [name for name, service in model.services.items() if service["public"]]
    if public and not edge and model.environment["tls"]["mode"] != "load_balancer":
        report.add(
            "hosts",
            listed(public, 5),
            "these services are public and no host is the edge; looked for %s" % _tags(model.environment, "edge"),
            "Add 'edge' to the tag Services of an instance, or set tls.mode to load_balancer.",
        )


def _check_ports(report: Report, model: Model) -> None:
    """No two things may listen on one port of a host. Linear in hosts and their services."""
    called = {
        other
        for name in model.services
        if model.is_process(name)
        for other in model.services[name]["needs"]
        if other in model.services
    }
    reachable = set()
    for name in model.services:
        port = model.services[name]["port"]
        if name in called and port and planning.INTERNAL + port > 65535:
            report.add(
                place(model.services[name], "port"),
                port,
                "others call '%s' through port %d of their own host, which does not exist"
                % (name, planning.INTERNAL + port),
                "Use a port up to %d." % (65535 - planning.INTERNAL),
            )
        elif port:
            reachable.add(name)
    for host, entry in (model.hosts or {}).items():
        taken: dict[int, str] = {SSH_PORT: "SSH"}
        if "edge" in entry["services"]:
            taken.update(dict.fromkeys(planning.EDGE_PORTS, "the edge"))
        names = [name for name in entry["services"] if name in reachable]
        for name in names:
            _take(report, model, host, taken, name, model.services[name]["port"], "the front of '%s'" % name)
            if model.is_process(name):
                for slot, port in planning.slots(model.services[name]["port"]).items():
                    _take(report, model, host, taken, name, port, "the %s slot of '%s'" % (slot, name))
        for name in planning.called_services(model, names):
            if name in reachable:
                port = planning.INTERNAL + model.services[name]["port"]
                _take(report, model, host, taken, name, port, "the internal address of '%s'" % name)


def _take(report: Report, model: Model, host: str, taken: dict[int, str], name: str, port: int, what: str) -> None:
    first = taken.setdefault(port, what)
    if first is not what:
        report.add(
            place(model.services[name], "port"),
            model.services[name]["port"],
            "on host '%s' port %d is %s and %s" % (host, port, first, what),
            "Give '%s' another port (slots are 10000 and 20000 higher, internal addresses 30000)." % name,
        )


def _check_budget(report: Report, model: Model) -> None:
    if model.hosts is None:
        return
    for database, budget in planning.connection_budget(model).items():
        if not budget["max_connections"] or budget["needed"] <= budget["allowed"]:
            continue
        sums = [
            "%s: %d processes × pool %d = %d"
            % tuple(line[key] for key in ("service", "processes", "pool", "connections"))
            for line in budget["lines"]
        ]
        largest = max(budget["lines"], key=lambda line: line["connections"])["service"]
        report.add(
            place(model.services[largest], "pool"),
            model.services[largest]["pool"],
            "the pools may open %d connections to '%s', which allows %d (80 %% of %d): %s (each host counts twice, "
            "for the two slots of a deploy)"
            % (budget["needed"], database, budget["allowed"], budget["max_connections"], listed(sums)),
            "Make pools smaller, or raise max_connections of the database.",
        )


def _check_journeys(report: Report, model: Model) -> None:
    for number, journey in enumerate(model.journeys):
        known = {"unique"}
        for index, step in enumerate(journey["steps"] or []):
            path = "journeys[%d].steps[%d]" % (number, index)
            _check_step(report, model, path, step)
            _check_step_variables(report, path, step, known)
            known.update(step["save"] or {})


def _check_step(report: Report, model: Model, path: str, step: Mapping[str, Any]) -> None:
    service = step["service"]
    if service is not None and service not in model.services:
        report.add(
            path + ".service",
            service,
            "the catalogue has no service '%s'" % service,
            "Correct the name.%s" % report.suggest(service, model.services),
        )
    elif service is not None and model.environment["domain"] and not model.services[service]["public"]:
        report.add(
            path + ".service",
            service,
            "'%s' has no public address" % service,
            "Users cannot reach it: remove the step.",
        )
    if bool(step["request"]) == bool(step["websocket"]):
        report.add(
            path,
            step["name"],
            "a step is either a request or a websocket",
            "Write request: GET /path, or websocket: yjs with a room.",
        )
    elif step["websocket"] and not step["room"]:
        report.add(path + ".room", None, "'room' is missing", "Add the name of the document to edit.")


def _check_step_variables(report: Report, path: str, step: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in ("host", "request", "json", "headers", "contains", "room"):
        for where, value in _strings("%s.%s" % (path, key), step[key]):
            try:
                names = [item.name for item in placeholders(value)]
            except PlaceholderError as error:
                report.add(where, value, str(error), "Write ${name}, or $$ for a dollar sign.")
                continue
            for name in names:
                if name not in known:
                    report.add(
                        where,
                        "${%s}" % name,
                        "nothing was saved as '%s' before this step" % name,
                        "Save it in an earlier step, or use one of: %s.%s"
                        % (listed(sorted(known)), report.suggest(name, known)),
                    )


def _strings(path: str, value: Any) -> Iterable[tuple[str, str]]:
    """Yield every string in nested data with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings("%s.%s" % (path, key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings("%s[%d]" % (path, index), item)


CHECKS: tuple[Callable[[Report, Model], None], ...] = (
    _check_names,
    _check_access,
    _check_needs,
    _check_writers,
    _check_public,
    _check_secrets,
    _check_placeholders,
    _check_node,
    _check_hosts,
    _check_ports,
    _check_budget,
    _check_journeys,
)
