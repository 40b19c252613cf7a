# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The plan: everything derived from a checked catalogue, environment and set of hosts. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    parse,
    secret_names,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import ALONE
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import ENGINES
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS, Kind
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.read import domain_of
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import (
    aws_name,
    log_group,
    log_groups,
    process_pattern,
    variable_name,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.notices import notices
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.order import deploy_order
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets.ec2 import (
    addresses,
    beside_edge,
    host_plans,
    intended,
    slots,
    upstreams,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.variables import (
    STATSD_ADDRESS,
    known_secrets,
    located,
    public_value,
    secret_references,
    service_environment,
)

LABEL = "(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"

BUDGET_SHARE = 0.8


def allowed_origins(services: Mapping[str, Mapping[str, Any]], extra: Sequence[str]) -> dict[str, list[str]]:
    """Return the origins whose pages may call the services: exact ones, wildcards, and these as patterns.

    A wildcard matches one label. The patterns are anchored and have no capture groups. They are sorted: services get
    them, and are not to be released anew because the catalogue has another order.
    """
    found = set(extra)
    for service in services.values():
        if service["kind"] in KINDS and KINDS[service["kind"]].pages:
            found |= {"https://" + address["fqdn"] for address in service["public"]}
    exact, wildcards = (sorted(item for item in found if ("*" in item) is wild) for wild in (False, True))
    return {"exact": exact, "wildcards": wildcards, "regex": [origin_regex(item) for item in wildcards]}


def origin_regex(wildcard: str) -> str:
    """Return the pattern of one wildcard origin."""
    before, _star, after = wildcard.partition("*")
    return f"^{_quote(before)}{LABEL}{_quote(after)}$"


def _quote(text: str) -> str:
    """Escape what is special in a pattern and nothing else, since nginx reads it."""
    return re.sub(r"([.+?()\[\]{}|^$\\])", r"\\\1", text)


def connection_budget(model: Model) -> dict[str, dict[str, Any]]:
    """Return, for each database, the connections that services may open at once, and those it allows.

    Each host of a service counts twice if both slots run during a deployment. The remaining fifth of
    max_connections is for migrations, administration and monitoring.
    """
    budget: dict[str, dict[str, Any]] = {}
    for database in model.databases:
        most = (model.environment["databases"].get(database) or {}).get("max_connections") or 0
        budget[database] = {"needed": 0, "allowed": int(most * BUDGET_SHARE), "max_connections": most, "lines": []}
    for name, service in model.services.items():
        if not service["pool"] or not model.is_process(name):
            continue
        processes = processes_at_once(model, name)
        for database in service["needs"]:
            if database in budget:
                line = {
                    "service": name,
                    "processes": processes,
                    "pool": service["pool"],
                    "connections": processes * service["pool"],
                }
                budget[database]["lines"].append(line)
                budget[database]["needed"] += line["connections"]
    return budget


def processes_at_once(model: Model, name: str) -> int:
    """Return how many processes of a service may run at the same time."""
    if model.is_scheduled(name):
        return min(1, len(model.placement.get(name, [])))
    return (1 if model.services[name]["handover"] == ALONE else 2) * len(model.placement.get(name, []))


def kind_facts(kind: Kind) -> dict[str, Any]:
    """Return the attributes of a kind that are needed to run and check its services."""
    return {
        "kind": kind.name,
        "listens": kind.listens,
        "handover": kind.handover,
        "pages": kind.pages,
        "streams": kind.streams,
        "writable": kind.writable,
        "hashed": [asdict(hashed) for hashed in kind.hashed],
        "node_options": kind.node_options,
        "checks": list(kind.checks),
    }


def service_spec(model: Model, name: str) -> dict[str, Any]:
    """Return what a role needs to know about one service."""
    service = model.services[name]
    kind = KINDS[service["kind"]]
    environment = service_environment(model, name)
    build = dict(service["build"])
    build["environment"] = {
        key: "".join(part if isinstance(part, str) else public_value(model, name, part) for part in parse(value))
        for key, value in build["environment"].items()
    }
    secrets = {secret: None for value in environment.values() for secret in secret_names(value)}
    return {
        "name": name,
        **kind_facts(kind),
        "handover": service["handover"],
        "port": service["port"],
        "slots": slots(service["port"]) if model.is_process(name) else {},
        "node": service["node"],
        "health": dict(service["health"]),
        "public": [dict(address) for address in service["public"]],
        "redirects": [dict(item) for item in service["redirects"]],
        "url": service["url"],
        "internal_url": service["internal_url"],
        "hosts": list(model.placement.get(name, [])),
        "addresses": addresses(model, name),
        "needs": list(service["needs"]),
        "writes": service["writes"],
        "pool": service["pool"],
        "build": build,
        "start": list(service["start"]),
        "migrate": list(service["migrate"]),
        "migrations": list(service["migrations"]),
        "schemas": schemas(model, name),
        "schema_at_start": service["schema_at_start"],
        "write": list(service["write"]),
        "environment": environment,
        "secrets": sorted(secrets),
        "cors": service["cors"],
        "yjs": name in {step["service"] for step in journey_steps(model) if step["websocket"] == "yjs"},
        "spa": service["spa"],
        "timeout": service["timeout"],
        "schedule": service["schedule"] or "",
        "drain": service["drain"],
        "hold": service["hold"] or 0,
        "statsd": "%s:%d" % STATSD_ADDRESS if service["statsd"] else "",
        # Whether it gets the credentials of its host: only where the environment says what they allow.
        "aws": service["aws"] and name in ((model.environment["aws"] or {}).get("permissions") or {}),
        "process_pattern": process_pattern(model, name),
        "hand_off": service["hand_off"] or "",
        "keep": {"releases": service["keep"]["releases"], "bytes": values.size_in_bytes(service["keep"]["size"])},
        "body_limit": service["body_limit"],
        "live_signal": service["live_signal"],
        "memory": service["memory"],
        "log_group": log_group(model, name),
        "user": "fp-" + name,
    }


def schemas(model: Model, name: str) -> list[dict[str, str]]:
    """Return the databases whose schemas are compared before and after a candidate of a service starts.

    Each has its name, the prefix of its variables, its engine, and the query that describes its schema.
    """
    service = model.services[name]
    if not KINDS[service["kind"]].process or service["schema_at_start"] == "ignore":
        return []
    engines = {
        other: ENGINES[model.databases[other]["engine"]] for other in service["needs"] if other in model.databases
    }
    return [
        {"name": other, "prefix": variable_name(other), "engine": engine.name, "query": engine.schema_query}
        for other, engine in engines.items()
        if engine.schema_query
    ]


def journey_steps(model: Model) -> list[dict[str, Any]]:
    """Return the steps of all journeys."""
    return [step for journey in model.journeys for step in journey["steps"]]


def artifact_store(address: str | None) -> dict[str, str]:
    """Return the bucket and prefix of s3://bucket/prefix; empty if artifacts stay on the controller."""
    if not address:
        return {}
    bucket, _slash, prefix = address[len("s3://") :].partition("/")
    return {"bucket": bucket, "prefix": prefix.rstrip("/") + "/" if prefix else ""}


def synthetic(model: Model) -> dict[str, Any]:
    """Return the scheduled verification through the front door: host, interval in seconds, log file and log group.

    One host runs it: the first edge, or the first host if there is no edge. The host is empty if there are no hosts or
    journeys, or if the verification is disabled.
    """
    settings = model.environment["synthetic"]
    hosts = sorted(model.hosts or {})
    edges = [host for host in hosts if "edge" in (model.hosts or {})[host]["services"]]
    host = next(iter(edges + hosts), "") if settings["enabled"] and model.journeys else ""
    return {
        "host": host,
        "interval": settings["interval"],
        "log": "/var/log/fivepointers-verify.log",
        "log_group": log_group(model, "verify"),
    }


def virtual_hosts(model: Model) -> list[dict[str, Any]]:
    """Return the edge's virtual hosts: exact names first, longest path first."""
    found: dict[str, dict[str, Any]] = {}
    for name, service in model.services.items():
        kind = KINDS[service["kind"]]
        for address in service["public"]:
            host = found.setdefault(
                address["fqdn"],
                {"server_name": address["fqdn"], "wildcard": address["wildcard"], "locations": []},
            )
            host["locations"].append(
                {
                    "path": address["path"],
                    "service": name,
                    "kind": kind.name,
                    "cors": service["cors"],
                    "body_limit": service["body_limit"],
                    "timeout": service["timeout"],
                    "rate_limits": [dict(limit) for limit in service["rate_limits"] or []],
                    "sockets_per_client": service["sockets_per_client"],
                    "sticky": service["sticky"],
                    "websocket": kind.websocket,
                    "csp": dict(service["csp"] or {}),
                    "csp_report_only": service["csp_report_only"],
                    "headers": {key: value for key, value in service["headers"].items() if value is not None},
                }
            )
        for item in service["redirects"]:
            found[item["fqdn"]] = {
                "server_name": item["fqdn"],
                "wildcard": item["wildcard"],
                "locations": [],
                "redirect": item["to"],
            }
    for host in found.values():
        host["locations"].sort(key=lambda location: (-len(location["path"]), location["path"]))
        host["certificate"] = certificate_of(model, host["server_name"])
    return sorted(found.values(), key=lambda host: (host["wildcard"], host["server_name"]))


def certificate_of(model: Model, name: str) -> str:
    """Return which certificate a public name has at the edge: C(edge), or that of one of the further domains.

    The edge requests one for each domain. From files, a domain has the environment's unless it brings its own.
    """
    domain = domain_of(name, [model.environment["domain"], *model.environment["domains"]])
    settings = model.environment["domains"].get(domain)
    requested = model.environment["tls"]["mode"] == "acme"
    return domain if settings is not None and (requested or settings["certificate"]) else "edge"


def tls_settings(model: Model) -> dict[str, Any]:
    """Return the environment's TLS settings; references to secrets include their region.

    C(domains) has the certificates of the further domains that bring their own.
    """
    settings = _pem(model, model.environment["tls"])
    own = {domain: _pem(model, item) for domain, item in model.environment["domains"].items() if item["certificate"]}
    return {**settings, **({"domains": own} if own else {})}


def _pem(model: Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: located(model, value) if key in ("certificate", "key") and isinstance(value, dict) else value
        for key, value in settings.items()
        if value and key != "zone"
    }


def plan(model: Model) -> dict[str, Any]:
    """Return the plan of a model without problems. It contains no secrets."""
    environment = model.environment
    specs = {name: service_spec(model, name) for name in model.services}
    return {
        "environment": {
            "name": environment["name"],
            "domain": environment["domain"],
            "region": environment["region"],
            "tls_mode": environment["tls"]["mode"],
            "front_door": environment["front_door"],
            "brand": environment["brand"] or environment["domain"],
            "deployment": environment["deployment"],
            # The CloudWatch dashboard that marks deployments; empty if provision.yml creates none.
            "dashboard": aws_name(model, "platform") if environment["aws"] is not None else "",
            # How many hosts the environment is to have; 0 if that is not described.
            "intended": intended(model),
            "artifacts": artifact_store(environment["artifacts"]),
            # The public keys, one of which has to have signed an artifact; empty if none has to.
            "artifact_keys": (environment["artifact_signing"] or {}).get("keys", []),
        },
        "batches": deploy_order(model),
        "services": specs,
        "hosts": host_plans(model),
        "edge": {
            "virtual_hosts": virtual_hosts(model),
            "upstreams": upstreams(model),
            "beside": beside_edge(model),
            "origins": {
                **{key: list(value) for key, value in model.origins.items()},
                "wildcard_credentials": environment["cors"]["wildcard_credentials"],
            },
        },
        "tls": tls_settings(model),
        "budget": connection_budget(model),
        "log_groups": log_groups(model),
        "synthetic": synthetic(model),
        "secrets": secret_references(model, specs),
        "known_secrets": known_secrets(model),
        "notices": notices(model),
    }


# Roles that can run alone and do not touch services.
ROLES_WITHOUT_SERVICES = frozenset({"nginx_proxy", "cloudwatch_agent", "synthetic"})


def select_services(plan: Mapping[str, Any], tags: Sequence[str]) -> list[str]:
    """Return the services that a run's tags select, in deploy order.

    Names of kinds and services select those services. Without any, the tags select every service, unless they
    name only roles that touch none.
    """
    names = [name for batch in plan["batches"] for name in batch]
    wanted = set(tags)
    if "all" in wanted:
        return names
    if wanted & (set(KINDS) | set(names)):
        return [name for name in names if name in wanted or plan["services"][name]["kind"] in wanted]
    return [] if wanted and wanted <= ROLES_WITHOUT_SERVICES else names
