# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Read catalogue, environment and hosts into a model.

Nothing here raises for invalid input: every problem is collected, so that an operator sees all of them at once. Paths
in problems start with `services`, `databases` or `journeys` (the catalogue), `platform_environment` or `hosts`."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Check,
    Key,
    Redirect,
    Report,
    keys,
    listed,
    optional,
    plain,
    refuse_type,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import DEFAULT, SERVERS, Server
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.keys import (
    ACCESS_KEYS,
    BUILD_KEYS,
    CATALOGUE_KEYS,
    CORS_KEYS,
    DATABASE_KEYS,
    DEPLOYMENT_KEYS,
    ENVIRONMENT_KEYS,
    HEALTH_EXAMPLES,
    KEEP_KEYS,
    NO_HEALTH,
    OVERRIDABLE,
    SERVICE_KEYS,
    STORE_ACCESS_KEYS,
    STORE_KEYS,
    SYNTHETIC_KEYS,
    access_keys,
    health,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS, Kind
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model

# Seconds, as for the drain that such a request needs.
LONGEST_REQUEST = 3600


def read(report: Report, catalogue: Any, environment: Any, hosts: Any, aws: Check) -> Model:
    """Read everything into a model. What depends on several parts is filled in later.

    aws: checks C(platform_environment.aws).
    """
    entries = keys(CATALOGUE_KEYS, "a mapping with services")(report, "", plain(catalogue)) or {}
    databases, stores = (entries.get(section) or {} for section in ("databases", "stores"))
    settings = _read_environment(report, plain(environment), databases, stores, aws)
    return Model(
        environment=settings,
        services=_read_services(report, entries.get("services"), settings),
        databases=_read_servers(report, "databases", databases, DATABASE_KEYS),
        stores=_read_servers(report, "stores", stores, STORE_KEYS),
        journeys=entries.get("journeys") or [],
        hosts=None if hosts is None else _read_hosts(report, plain(hosts)),
    )


def _read_environment(
    report: Report, environment: Any, databases: Mapping[str, Any], stores: Mapping[str, Any], aws: Check
) -> dict[str, Any]:
    root = "platform_environment"
    wanted = "a mapping with name, domain, region and tls"
    fields = {**ENVIRONMENT_KEYS, "aws": Key(optional(aws))}
    settings: dict[str, Any] = keys(fields, wanted)(report, root, environment) or {
        key: field.default for key, field in fields.items()
    }
    settings["stated"] = environment if isinstance(environment, dict) else {}
    settings["tls"] = settings["tls"] or {"mode": None}
    settings["cors"] = {key: (settings["cors"] or {}).get(key) or field.default for key, field in CORS_KEYS.items()}
    for key in ("databases", "domains", "stores", "secrets", "services", "nodejs"):
        settings[key] = settings[key] or {}
    settings["deployment"] = settings["deployment"] or {key: field.default for key, field in DEPLOYMENT_KEYS.items()}
    settings["synthetic"] = settings["synthetic"] or {key: field.default for key, field in SYNTHETIC_KEYS.items()}
    secrets = settings["stated"].get("secrets")
    for name in secrets if isinstance(secrets, dict) else ():
        settings["secrets"].setdefault(name, {})  # one with a broken reference is not reported as missing too
    wanted = "a mapping with host, name, user, password and max_connections"
    accesses = {}
    for name, access in settings["databases"].items():
        target = report if name in databases else Report()  # an unknown one is reported as unknown only
        entry = databases.get(name)
        fields = access_keys(str(entry.get("engine")) if isinstance(entry, dict) else DEFAULT)
        checked = keys(fields, wanted)(target, f"{root}.databases.{name}", access)
        accesses[name] = checked or dict.fromkeys(ACCESS_KEYS)
    settings["databases"] = accesses
    for name, access in settings["stores"].items():
        target = report if name in stores else Report()
        checked = keys(STORE_ACCESS_KEYS, "a mapping with host")(target, f"{root}.stores.{name}", access)
        settings["stores"][name] = checked or dict.fromkeys(STORE_ACCESS_KEYS)
    return settings


def _read_servers(
    report: Report, section: str, raw: Mapping[str, Any], fields: Mapping[str, Key]
) -> dict[str, dict[str, Any]]:
    """Return the databases or the stores."""
    servers = {}
    for name, entry in raw.items():
        path = f"{section}.{name}"
        values.name(report, path, name)
        check = keys(fields, f"a mapping such as {{engine: {fields['engine'].default}}}")
        server = {"driver": None, **(check(report, path, {} if entry is None else entry) or dict.fromkeys(fields))}
        if server["engine"]:
            _apply_engine(report, path, server, SERVERS[server["engine"]])
        servers[name] = server
    return servers


def _apply_engine(report: Report, path: str, database: dict[str, Any], engine: Server) -> None:
    """Apply the engine's defaults, and require that it has the driver."""
    database["port"] = database["port"] or engine.port
    database["driver"] = driver = database["driver"] or next(iter(engine.drivers))
    if driver not in engine.drivers:
        fix = f"Write one of: {listed(engine.drivers)}. For another one, use ${{….ca_file}} in its own configuration."
        report.add(f"{path}.driver", driver, f"{engine.title} has no driver of this name", fix)
        database["driver"] = None


def _read_hosts(report: Report, hosts: Any) -> dict[str, dict[str, Any]]:
    checked: dict[str, dict[str, Any]] = {}
    if not isinstance(hosts, dict):
        refuse_type(report, "hosts", hosts, "a mapping", "a mapping of inventory names to {address, services}")
        return checked
    for name, entry in hosts.items():
        path = f"hosts.{name}"
        if not isinstance(entry, dict):
            refuse_type(report, path, entry, "a mapping", "a mapping with address and services")
            entry = {"address": "0.0.0.0", "services": []}  # noqa: S104 (a dummy, never used)
        services = entry.get("services")
        if not isinstance(services, list) or not all(isinstance(item, str) for item in services):
            refuse_type(
                report,
                f"{path}.services",
                services,
                "a list of strings",
                "platform_services, a list of names, or put the host into groups service_<name> (tag Services in AWS)",
            )
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
        report.add("services", None, "the catalogue has no services", "Add at least one.")
    raw = raw or {}
    for name in settings["services"]:
        if name not in raw:
            fix = f"Remove the override, or correct the name.{report.suggest(name, raw)}"
            report.add(f"{root}.{name}", name, f"the catalogue has no service '{name}'", fix)
    for name, entry in raw.items():
        path = f"services.{name}"
        values.name(report, path, name)
        if not isinstance(entry, dict):
            refuse_type(report, path, entry, "a mapping", "a mapping with kind, port and so on")
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
    """Return the entry with the environment's overrides; record in `moved` where each value comes from."""
    if not isinstance(override, dict):
        refuse_type(report, path, override, "a mapping", "a mapping of keys to override")
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
    """Return one service with every key, where its values come from (`path`, `moved`), and which keys are `broken`."""
    path = f"services.{name}"
    if moved:
        report = Redirect(report, path, moved)
    service: dict[str, Any] = keys(SERVICE_KEYS, "a mapping")(report, path, entry) or {}
    broken = {key for key in SERVICE_KEYS if key in entry and service[key] is None} if entry else set(SERVICE_KEYS)
    service.update(path=path, moved=moved, broken=broken)
    kind = KINDS.get(service["kind"])
    if service["build"] is None:
        service["build"] = {key: field.default for key, field in BUILD_KEYS.items()}
    for key in ("environment", "secrets"):
        service["build"][key] = service["build"][key] or {}
        service[key] = service[key] or {}
    service["needs"] = list(dict.fromkeys(service["needs"] or []))
    if kind:
        _refuse_unsupported(report, path, entry, kind)
        _apply_kind(report, path, entry, service, kind)
    if "timeout" in entry and service["timeout"] and service["port"] and service["drain"] is not None:
        _drain_requests(report, path, entry, service)
    for key in ("start", "migrate", "migrations"):
        service[key] = service[key] or []
    if service["migrations"] and not service["migrate"] and "migrate" not in service["broken"]:
        problem = "'migrations' is set without 'migrate', the command that runs them"
        report.add(f"{path}.migrations", shlex.join(service["migrations"]), problem, "Add migrate with that command.")
    _check_write(report, path, service)
    service["keep"] = service["keep"] or {key: field.default for key, field in KEEP_KEYS.items()}
    domains = [settings["domain"] or "domain.invalid", *settings["domains"]]
    _expand_public(report, path, service, domains, kind.scheme if kind else "https")
    if kind and kind.process and kind.health and "path" in kind.health and "health" not in entry and service["public"]:
        # A process sees the whole path, and may have nothing outside of its prefix.
        service["health"]["path"] = service["public"][0]["path"]
    _check_workspace(report, path, service["build"])
    return service


def _check_write(report: Report, path: str, service: dict[str, Any]) -> None:
    """A folder that is written to hides what the code has there: no program, and no other such folder."""
    service["write"] = service["write"] or []
    programs = [posixpath.normpath(word) for key in ("start", "migrate", "migrations") for word in service[key]]
    for index, folder in enumerate(service["write"]):
        inside = [item for item in [*programs, *service["write"]] if f"{item}/".startswith(f"{folder}/")]
        inside.remove(folder)
        if inside or folder.split("/")[0] == "node_modules":
            hidden = inside[0] if inside else "the packages"
            problem = f"it would hide {hidden}: in its place is a folder that outlives releases"
            fix = "Name the folder with the files that the application writes, and only it."
            report.add(f"{path}.write[{index}]", folder, problem, fix)


def _refuse_unsupported(report: Report, path: str, entry: Mapping[str, Any], kind: Kind) -> None:
    """Reject keys that this kind does not support."""
    build = entry.get("build")
    stated = list(entry) + ([f"build.{key}" for key in build] if isinstance(build, dict) else [])
    for key in stated:
        if key in kind.rejected:
            report.add(f"{path}.{key}", key, f"'{key}' is not supported for {kind.name}", "Remove it.")


def _apply_kind(report: Report, path: str, entry: Mapping[str, Any], service: dict[str, Any], kind: Kind) -> None:
    """Apply the kind's defaults, and report what the kind requires."""
    if "port" not in entry:
        service["port"] = kind.port
        if kind.port is None and kind.listens != "nothing":
            without = " or ".join(sorted(other.name for other in KINDS.values() if other.listens == "nothing"))
            fix = f"Add port: a free port on its hosts. What listens on nothing is a {without}."
            report.add(f"{path}.port", None, f"{kind.name} has no default port", fix)
    if "health" not in entry:
        service["health"] = health(report, f"{path}.health", kind.health) if kind.health else None
        if kind.health is not None and not kind.health:
            service["health"] = dict(NO_HEALTH)
        if kind.health is None:
            fix = "Add a path that returns 200 when the service is healthy, or {tcp: true} if it has none."
            report.add(f"{path}.health", None, f"{kind.name} has no default health check", fix)
    elif service["health"]:
        _check_health_type(report, f"{path}.health", entry["health"], service["health"]["type"], kind)
    for key in ("drain", "timeout"):
        if key not in entry:
            service[key] = getattr(kind, key)
    if kind.scheduled and "schedule" not in entry:
        fix = 'Add schedule: when it runs, such as "*-*-* 03:00:00 Asia/Seoul".'
        report.add(f"{path}.schedule", None, f"{kind.name} has no default schedule", fix)
    if kind.scheduled and service["overdue"] is None and service["schedule"]:
        between = values.hours_between(service["schedule"])
        service["overdue"] = min(168, between + 1 + (service["timeout"] or kind.timeout) // 3600) if between else 0
    if not kind.scheduled and (service["timeout"] or 0) > LONGEST_REQUEST:
        fix = f"Write at most {LONGEST_REQUEST}; what takes longer is work for a service without a port."
        report.add(f"{path}.timeout", service["timeout"], "no request may take that long", fix)
    for key in ("hold", "hand_off", "handover", "sockets_per_client"):
        if service[key] is None:
            service[key] = getattr(kind, key)
    build = service["build"]
    build["output"] = build["output"] or kind.output
    if kind.standalone and build["standalone"] is None:
        build["standalone"] = True
    if "start" not in entry and kind.process:
        packed = kind.standalone and not build["standalone"]
        service["start"] = shlex.split(kind.start_with_packages if packed else kind.start)


def _check_health_type(report: Report, path: str, value: Any, of: str, kind: Kind) -> None:
    """A check at a port needs one, and the others are for what has none."""
    if of not in kind.health_types:
        problem = "is checked at its port"
        if kind.listens == "nothing":
            problem = "has no process that stays" if kind.scheduled else "has no port"
        fix = " or ".join(HEALTH_EXAMPLES[item] for item in kind.health_types)
        report.add(path, value, f"{kind.name} {problem}", f"Write {fix}.")


def _drain_requests(report: Report, path: str, entry: Mapping[str, Any], service: dict[str, Any]) -> None:
    """Give the old release as long as a request may take, if the catalogue says how long that is."""
    if "drain" not in entry:
        service["drain"] = max(service["drain"], service["timeout"])
    elif service["drain"] < service["timeout"]:
        problem = f"a request may take {service['timeout']} s, and a deployment would end it after {service['drain']} s"
        fix = f"Write {service['timeout']} or more, remove 'drain' (it is then as long as 'timeout'), or shorten that."
        report.add(f"{path}.drain", service["drain"], problem, fix)


def _expand_public(report: Report, path: str, service: dict[str, Any], domains: list[str], scheme: str) -> None:
    """Append the domain to the public hosts. A broken host gets a unique name, so that it is reported once.

    Names that only lead to another one are `redirects`: nothing is served there, so they are no public addresses.
    """
    expanded, redirects = [], []
    stated = [{"host": None, "path": None, "label": None}] if "public" in service["broken"] else service["public"]
    for index, address in enumerate(stated):
        where = f"{path}.public[{index}]"
        fqdn = _public_name(report, f"{where}.host", address["host"], domains) or f"broken-{index}.{path}"
        if address.get("redirect"):
            target = _public_name(report, f"{where}.redirect", address["redirect"], domains)
            redirects.append({"fqdn": fqdn, "wildcard": fqdn.startswith("*."), "to": target})
            if address["path"] not in ("/", None):
                fix = "Remove it: the whole name leads to the other one, and each request keeps its path."
                report.add(f"{where}.path", address["path"], "a redirect has no path", fix)
            continue
        if address["label"] and not fqdn.startswith("*."):
            fix = "Remove it: it says under which name a wildcard is tried."
            report.add(f"{where}.label", address["label"], f"'{address['host']}' is no wildcard", fix)
        prefix = address["path"] or "/"
        url = f"{scheme}://{fqdn}{'' if prefix == '/' else prefix}"
        wildcard = {"wildcard": fqdn.startswith("*."), "label": address["label"] or ""}
        expanded.append({"fqdn": fqdn, "path": prefix, "url": url, **wildcard})
    service["redirects"] = redirects
    service["public"] = expanded
    service["url"] = expanded[0]["url"] if expanded else None


def _public_name(report: Report, path: str, host: str | None, domains: list[str]) -> str | None:
    """Return a host's full name: `@` is the domain, one label is below it, and more are a full name already.

    domains: the environment's, and the others that full names may be below.
    """
    if host is None:
        return None
    domain = domains[0]
    name = host.removesuffix("@") + domain if host.endswith("@") else host if "." in host else f"{host}.{domain}"
    within = domain_of(name, domains)
    if within == domain and not host.endswith("@") and "." in host:
        problem = f"hosts are relative to the domain '{domain}'"
        report.add(path, host, problem, f"Write '{_relative_name(host, domain)}'.")
    elif not within:
        fix = f"Add its domain to platform_environment.domains, or write '{host}.@' if you mean {host}.{domain}."
        report.add(path, host, f"'{host}' is not below {' or '.join(domains)}", fix)
    elif len(name) > 253:
        report.add(path, host, "the full host name is longer than 253 characters", "Shorten it.")
    return name


def domain_of(name: str, domains: Iterable[str]) -> str:
    """Return the longest of the domains that a name is or is below; empty if there is none."""
    return max((domain for domain in domains if f".{name}".endswith(f".{domain}")), key=len, default="")


def _relative_name(name: str, domain: str) -> str:
    """Return how the host with this full name is written."""
    label = name.removesuffix(domain).removesuffix(".")
    return f"{label}.@" if "." in label else label or "@"


def _check_workspace(report: Report, path: str, build: Mapping[str, Any]) -> None:
    """The source must be inside its workspace, given relative to the source or, like the source, to the catalogue."""
    source, workspace = build["source"], build["workspace"]
    if not source or not workspace:
        return
    catalogue = "/" + "x/" * 64
    inner = posixpath.normpath(posixpath.join(catalogue, source))
    roots = [posixpath.normpath(posixpath.join(base, workspace)) for base in (inner, catalogue)]
    if not any(f"{inner}/".startswith(f"{root.rstrip('/')}/") for root in roots):
        problem = f"the source '{source}' is not inside the workspace"
        fix = "Write the folder that contains the lock file, relative to the source, such as ../.."
        report.add(f"{path}.build.workspace", workspace, problem, fix)
