# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Everything that is derived from a checked catalogue, environment and set of hosts. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    Placeholder,
    encode,
    escape,
    parse,
    secret_names,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS

# Added to a service's port: its slots on the loopback, and its internal address on hosts that call it.
BLUE, GREEN, INTERNAL = 10000, 20000, 30000
HIGHEST = 65535
EDGE_PORTS = (80, 443)
LABEL = "(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
# Longer than the 60 s that load balancers and nginx keep an idle connection.
KEEP_ALIVE_MS = "75000"
BUDGET_SHARE = 0.8
# What the secret is called that says where errors are sent. Names of the environment's own have no dot.
SENTRY_SECRET = "sentry.dsn"  # noqa: S105
# Where the CloudWatch agent of each host takes metrics from services.
STATSD_ADDRESS = ("127.0.0.1", 8125)


@dataclass
class Model:
    """What was read and normalised. `hosts` is None where no inventory was given."""

    environment: dict[str, Any]
    services: dict[str, dict[str, Any]]
    databases: dict[str, dict[str, Any]]
    journeys: list[dict[str, Any]]
    hosts: dict[str, dict[str, Any]] | None
    origins: dict[str, list[str]] = field(default_factory=dict)
    placement: dict[str, list[str]] = field(default_factory=dict)

    def is_process(self, name: str) -> bool:
        """Whether the service runs under Node.js."""
        kind = self.services[name]["kind"]
        return kind in KINDS and KINDS[kind].process


class UnknownFactError(Exception):
    """A placeholder that stands for nothing; carries what to do instead."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


# --- AWS ----------------------------------------------------------------------

# The tag ManagedBy of what the collection made: only that is ever changed or deleted without being asked by name.
MANAGED_BY = "fivepointers.platform"


def aws_tags(model: Model, service: str = "") -> dict[str, str]:
    """Return the tags of a resource; Service names what it serves, where that is one thing."""
    found = {"Platform": "fivepointers", "Environment": str(model.environment["name"]), "ManagedBy": MANAGED_BY}
    return {**found, "Service": service} if service else found


def tagged_services(tags: Mapping[str, str] | None) -> list[str]:
    """Return what runs on an instance, as its tag Services says: names of services, and edge."""
    return [name for part in (tags or {}).get("Services", "").split(",") if (name := part.strip())]


def aws_name(model: Model, thing: str) -> str:
    """Return the name of a resource."""
    return f"{model.environment['name']}-{thing}"


# --- order ------------------------------------------------------------------


def batches_and_cycles(needs: Mapping[str, Sequence[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Put services into batches, each after what it needs; also return the cycles that prevent it.

    Linear in the number of services and needs. Names in `needs` that are no services are ignored.
    """
    waiting = {name: {other for other in wanted if other in needs} for name, wanted in needs.items()}
    dependents: dict[str, list[str]] = {name: [] for name in needs}
    for name, wanted in waiting.items():
        for other in wanted:
            dependents[other].append(name)
    position = {name: index for index, name in enumerate(needs)}
    batches: list[list[str]] = []
    ready = [name for name, wanted in waiting.items() if not wanted]
    while ready:
        batches.append(ready)
        following = []
        for name in ready:
            del waiting[name]
            for other in dependents[name]:
                waiting[other].discard(name)
                if not waiting[other]:
                    following.append(other)
        ready = sorted(following, key=position.__getitem__)
    return batches, _cycles(waiting)


def _cycles(waiting: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return disjoint cycles among services that wait for each other, each as [a, b, …, a]."""
    cycles: list[list[str]] = []
    done = set()
    for start in waiting:
        path: list[str] = []
        index: dict[str, int] = {}
        name: str | None = start
        while name is not None and name not in done and name not in index:
            index[name] = len(path)
            path.append(name)
            name = next((other for other in sorted(waiting[name]) if other not in done), None)
        if name is not None and name in index:
            cycles.append([*path[index[name] :], name])
        done.update(path)
    return cycles


def deploy_order(model: Model) -> list[list[str]]:
    """Return the batches of services that may be deployed together, in order."""
    return batches_and_cycles({name: service["needs"] for name, service in model.services.items()})[0]


# --- addresses --------------------------------------------------------------


def slots(port: int) -> dict[str, int]:
    """Return the loopback ports of a service's two slots."""
    return {"blue": BLUE + port, "green": GREEN + port}


def addresses(model: Model, name: str) -> list[str]:
    """Return the private addresses of a service's hosts."""
    hosts = model.hosts or {}
    return [hosts[host]["address"] for host in model.placement.get(name, []) if hosts[host]["address"]]


def servers(model: Model, name: str) -> list[str]:
    """Return a service's fronts as address:port."""
    port = model.services[name]["port"]
    return [f"{address}:{port}" for address in addresses(model, name)]


def called_services(model: Model, host_services: Iterable[str]) -> list[str]:
    """Return the services that processes on a host call, each once."""
    called: dict[str, None] = {}
    for name in host_services:
        if model.is_process(name):
            for other in model.services[name]["needs"]:
                if other in model.services:
                    called[other] = None
    return list(called)


def allowed_origins(services: Mapping[str, Mapping[str, Any]], extra: Sequence[str]) -> dict[str, list[str]]:
    """Return the origins whose pages may call the services: exact ones, wildcards, and these as patterns.

    A wildcard stands for one label. The patterns are anchored and capture nothing.
    """
    exact: dict[str, None] = {}
    wildcards: dict[str, None] = {}
    for service in services.values():
        if service["kind"] in KINDS and KINDS[service["kind"]].browser:
            for address in service["public"]:
                (wildcards if address["wildcard"] else exact)["https://" + address["fqdn"]] = None
    for origin in extra:
        (wildcards if "*" in origin else exact)[origin] = None
    return {"exact": list(exact), "wildcards": list(wildcards), "regex": [origin_regex(item) for item in wildcards]}


def origin_regex(wildcard: str) -> str:
    """Return the pattern of one wildcard origin."""
    before, _star, after = wildcard.partition("*")
    return f"^{_quote(before)}{LABEL}{_quote(after)}$"


def _quote(text: str) -> str:
    """Quote what is special in a pattern, and nothing else: nginx gets to see it."""
    return re.sub(r"([.+?()\[\]{}|^$\\])", r"\\\1", text)


# --- facts: what placeholders stand for --------------------------------------

SERVICE_FACTS = ("url", "host", "internal_url")
DATABASE_FACTS = ("host", "port", "name", "user", "password", "url")
ENVIRONMENT_FACTS = ("name", "domain", "region")
SELF_FACTS = ("port", "url")


def template_of(model: Model, service: str, item: Placeholder) -> str:
    """Return the template that a placeholder of a service becomes in the plan.

    Known values come back escaped; secrets and the slot's port stay placeholders, in the names that
    `placeholders.render` knows. Raises UnknownFactError where the placeholder means nothing.
    """
    head, _dot, tail = item.name.partition(".")
    if head == "secret":
        return _environment_secret(model, item, tail)
    if item.name == "self.port":
        return str(item)
    if head in model.databases and tail in ("password", "url"):
        _require_need(model, service, head)
        return _database_secret(model, head, item, tail)
    value = _known_value(model, service, item)
    return escape(encode(value) if item.encoded else value)


def public_value(model: Model, service: str, item: Placeholder) -> str:
    """Return the value of a placeholder in what browsers or builds get: public facts only.

    Raises UnknownFactError for everything else.
    """
    head, _dot, tail = item.name.partition(".")
    if head == "secret" or head in model.databases or item.name == "self.port" or tail == "internal_url":
        raise UnknownFactError(
            f"'{item}' cannot be in what browsers or builds get",
            "Use public facts: ${self.url}, ${<service>.url}, ${<service>.host}, ${environment.…}.",
        )
    value = _known_value(model, service, item)
    return encode(value) if item.encoded else value


def _environment_secret(model: Model, item: Placeholder, name: str) -> str:
    known = model.environment["secrets"]
    if name not in known:
        names = ", ".join(known) or "(none yet)"
        fix = f"Add it to platform_environment.secrets, or use one of: {names}."
        raise UnknownFactError(f"the environment has no secret '{name}'", fix)
    return str(item)


def _database_secret(model: Model, name: str, item: Placeholder, tail: str) -> str:
    secret = f"secret.{name}.password"
    if tail == "password":
        return str(Placeholder(secret, item.encoded))
    if item.encoded:
        raise UnknownFactError("a whole address cannot be percent-encoded", "Write ${%s.url}." % name)
    access = {key: value or "" for key, value in model.environment["databases"].get(name, {}).items()}
    user, schema = (escape(encode(access.get(key, ""))) for key in ("user", "name"))
    password = Placeholder(secret, encoded=True)
    return f"mysql://{user}:{password}@{access.get('host')}:{access.get('port')}/{schema}"


def _require_need(model: Model, service: str, other: str) -> None:
    if other not in model.services[service]["needs"] and "needs" not in model.services[service]["broken"]:
        fix = f"Add '{other}' to the needs of '{service}', or remove the placeholder."
        raise UnknownFactError(f"'{service}' does not need '{other}'", fix)


def _known_value(model: Model, service: str, item: Placeholder) -> str:
    """Return what a placeholder stands for where that is neither secret nor of one slot."""
    head, _dot, tail = item.name.partition(".")
    if item.name == "origins":
        return ",".join(model.origins["exact"] + model.origins["wildcards"])
    if head == "environment" and tail in ENVIRONMENT_FACTS:
        return model.environment[tail] or ""
    if item.name == "self.url":
        return _service_value(model, service, tail)
    if head in model.services and tail in SERVICE_FACTS:
        if head != service:
            _require_need(model, service, head)
        return _service_value(model, head, tail)
    if head in model.databases and tail in DATABASE_FACTS:
        _require_need(model, service, head)
        return str(model.environment["databases"].get(head, {}).get(tail) or "")
    raise _nonsense(model, item, head)


def _nonsense(model: Model, item: Placeholder, head: str) -> UnknownFactError:
    known = {"self": SELF_FACTS, "environment": ENVIRONMENT_FACTS}
    known.update(dict.fromkeys(model.services, SERVICE_FACTS))
    known.update(dict.fromkeys(model.databases, DATABASE_FACTS))
    if head in known:
        words = ", ".join("${%s.%s}" % (head, word) for word in known[head])
        return UnknownFactError(f"there is no '{item}'", f"Use one of: {words}.")
    return UnknownFactError(
        f"'{item}' stands for nothing",
        "Use ${self.…}, ${environment.…}, ${origins}, ${secret.…}, or a service or database of the catalogue; "
        "write $$ for a dollar sign.",
    )


def _service_value(model: Model, name: str, fact: str) -> str:
    service = model.services[name]
    if fact == "internal_url":
        return str(service["internal_url"])
    if not service["public"]:
        fix = "Give it one with public: [{host: …}], or use ${%s.internal_url}." % name
        raise UnknownFactError(f"'{name}' has no public address", fix)
    return str(service["public"][0]["url" if fact == "url" else "fqdn"])


def resolve(model: Model, service: str, template: str) -> str:
    """Return a template of the catalogue with everything put in that is known here."""
    return "".join(
        escape(part) if isinstance(part, str) else template_of(model, service, part) for part in parse(template)
    )


# --- environment variables ----------------------------------------------------


def variable_name(name: str) -> str:
    """Return a service's or database's name as the beginning of environment variables."""
    return name.upper().replace("-", "_")


def derived_environment(model: Model, name: str) -> dict[str, str]:
    """Return the environment variables that a service gets without asking, as templates of the plan."""
    service = model.services[name]
    kind = KINDS[service["kind"]]
    variables = {
        "SERVICE_NAME": name,
        "ENVIRONMENT": model.environment["name"],
        "BASE_DOMAIN": model.environment["domain"],
    }
    if service["public"]:
        variables["PUBLIC_URL"] = service["url"]
    for other in service["needs"]:
        prefix = variable_name(other)
        if other in model.services:
            if model.services[other]["public"]:
                variables[prefix + "_URL"] = model.services[other]["url"]
            if kind.process:
                variables[prefix + "_INTERNAL_URL"] = model.services[other]["internal_url"]
    variables = {key: escape(value) for key, value in variables.items()}
    if not kind.process:
        return variables
    variables.update(
        {
            "NODE_ENV": "production",
            "PORT": "${self.port}",
            "HOST": "127.0.0.1",
            "KEEP_ALIVE_TIMEOUT": KEEP_ALIVE_MS,
            "LOG_FORMAT": "json",
            "ALLOWED_ORIGINS": resolve(model, name, "${origins}"),
        }
    )
    if model.environment["sentry"]:
        variables["SENTRY_DSN"] = f"${{secret.{SENTRY_SECRET}}}"
        variables["SENTRY_ENVIRONMENT"] = escape(model.environment["name"])
    if service["statsd"]:
        variables.update({"STATSD_HOST": STATSD_ADDRESS[0], "STATSD_PORT": str(STATSD_ADDRESS[1])})
    if kind.websocket:
        # nginx does not see messages: the application has to know the limit.
        variables["MAX_MESSAGE_BYTES"] = str(size_in_bytes(service["body_limit"]))
    variables.update(kind.environment)
    for other in service["needs"]:
        if other in model.databases:
            prefix = variable_name(other)
            for fact in ("host", "port", "name", "user", "password"):
                variables[f"{prefix}_{fact.upper()}"] = resolve(model, name, f"${{{other}.{fact}}}")
            variables[prefix + "_POOL_SIZE"] = str(service["pool"])
    return variables


def service_environment(model: Model, name: str) -> dict[str, str]:
    """Return all environment variables of a service as templates of the plan, sorted by name.

    The catalogue's own entries win over derived ones.
    """
    service = model.services[name]
    variables = derived_environment(model, name)
    variables.update({key: resolve(model, name, value) for key, value in service["environment"].items()})
    variables.update({key: f"${{secret.{secret}}}" for key, secret in service["secrets"].items()})
    return dict(sorted(variables.items()))


# --- connection budget --------------------------------------------------------


def connection_budget(model: Model) -> dict[str, dict[str, Any]]:
    """Return, for each database, what the services may open at once and what it allows.

    Each host of a service counts twice, since both slots run during a deploy. The fifth that is
    left of max_connections is for migrations, administration and monitoring.
    """
    budget: dict[str, dict[str, Any]] = {}
    for database in model.databases:
        most = (model.environment["databases"].get(database) or {}).get("max_connections") or 0
        budget[database] = {"needed": 0, "allowed": int(most * BUDGET_SHARE), "max_connections": most, "lines": []}
    for name, service in model.services.items():
        if not service["pool"] or not model.is_process(name):
            continue
        processes = 2 * len(model.placement.get(name, []))
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


# --- the plan -----------------------------------------------------------------


def service_spec(model: Model, name: str) -> dict[str, Any]:
    """Return what a role needs to know of one service."""
    service = model.services[name]
    environment = service_environment(model, name)
    build = dict(service["build"])
    build["environment"] = {
        key: "".join(part if isinstance(part, str) else public_value(model, name, part) for part in parse(value))
        for key, value in build["environment"].items()
    }
    secrets = {secret: None for value in environment.values() for secret in secret_names(value)}
    return {
        "name": name,
        "kind": service["kind"],
        "port": service["port"],
        "slots": slots(service["port"]) if model.is_process(name) else {},
        "node": service["node"],
        "health": dict(service["health"]),
        "public": [dict(address) for address in service["public"]],
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
        "environment": environment,
        "secrets": sorted(secrets),
        "cors": service["cors"],
        "yjs": name in {step["service"] for step in journey_steps(model) if step["websocket"] == "yjs"},
        "spa": service["spa"],
        "drain": service["drain"],
        "hold": service["hold"] or 0,
        "statsd": "%s:%d" % STATSD_ADDRESS if service["statsd"] else "",
        "process_pattern": process_pattern(model, name),
        "hand_off": service["hand_off"] or "",
        "keep": {"releases": service["keep"]["releases"], "bytes": size_in_bytes(service["keep"]["size"])},
        "body_limit": service["body_limit"],
        "memory": service["memory"],
        "log_group": log_group(model, name),
        "user": "fp-" + name,
    }


def size_in_bytes(size: str) -> int:
    """Return the bytes of a size such as 512M, by powers of 1024 as systemd and nginx count."""
    number = size.rstrip("KMGTkmg")
    return int(number) << (10 * (1 + "KMGT".index(size[-1].upper())) if number != size else 0)


def journey_steps(model: Model) -> list[dict[str, Any]]:
    """Return the steps of all journeys."""
    return [step for journey in model.journeys for step in journey["steps"]]


def artifact_store(address: str | None) -> dict[str, str]:
    """Return the bucket and prefix of s3://bucket/prefix; empty where artifacts stay on the controller."""
    if not address:
        return {}
    bucket, _slash, prefix = address[len("s3://") :].partition("/")
    return {"bucket": bucket, "prefix": prefix.rstrip("/") + "/" if prefix else ""}


def process_title(name: str) -> str:
    """Return the first word of a service's command line: it tells what a process belongs to, whatever it runs."""
    return "fivepointers-" + name


def process_pattern(model: Model, name: str) -> str:
    """Return the regular expression that matches the command lines of a service's processes; empty where none does.

    None does for files, and for a program that is looked for in PATH: its first word is its own.
    """
    start = model.services[name]["start"]
    if not model.is_process(name) or not start or not (start[0] == "node" or "/" in start[0]):
        return ""
    title = process_title(name)
    if start[0] == "node" or start[0].startswith("/"):
        return f"^{title}( |$)"
    # A script's first word is its interpreter, and its second the script.
    return f"^({title}|\\S+ /opt/fivepointers/{name}/releases/\\S+)( |$)"


def synthetic(model: Model) -> dict[str, Any]:
    """Return the scheduled check through the front door: the host, every how many seconds, its file and log group.

    One host does it, the first edge or else the first host. Without one (switched off, no hosts, no journeys) the
    host is empty.
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


def log_group(model: Model, name: str) -> str:
    """Return the name of a service's log group; C(nginx) and C(verify) are what services cannot be called."""
    return f"/fivepointers/{model.environment['name']}/{name}"


def log_groups(model: Model) -> dict[str, str]:
    """Return each service's log group."""
    return {name: log_group(model, name) for name in model.services}


def health_checks(model: Model) -> dict[str, dict[str, Any]]:
    """Return each service's one health check."""
    return {name: dict(service["health"]) for name, service in model.services.items()}


def upstreams(model: Model) -> dict[str, list[str]]:
    """Return, for each public service, its fronts as private address and port."""
    return {name: servers(model, name) for name, service in model.services.items() if service["public"]}


def beside_edge(model: Model) -> list[str]:
    """Return the services with a front on a host of the edge: one nginx, which a renewed certificate reloads."""
    edges = {host for host, entry in (model.hosts or {}).items() if "edge" in entry["services"]}
    return [name for name in model.services if edges & set(model.placement.get(name, []))]


def virtual_hosts(model: Model) -> list[dict[str, Any]]:
    """Return the edge's virtual hosts: exact names first, longest path first."""
    found: dict[str, dict[str, Any]] = {}
    for name, service in model.services.items():
        for address in service["public"]:
            host = found.setdefault(
                address["fqdn"],
                {"server_name": address["fqdn"], "wildcard": address["wildcard"], "locations": []},
            )
            host["locations"].append(
                {
                    "path": address["path"],
                    "service": name,
                    "kind": service["kind"],
                    "cors": service["cors"],
                    "body_limit": service["body_limit"],
                    "rate_limits": [dict(limit) for limit in service["rate_limits"] or []],
                    "sockets_per_client": service["sockets_per_client"],
                    "websocket": KINDS[service["kind"]].websocket,
                    "csp": dict(service["csp"] or {}),
                    "csp_report_only": service["csp_report_only"],
                }
            )
    for host in found.values():
        host["locations"].sort(key=lambda location: (-len(location["path"]), location["path"]))
    return sorted(found.values(), key=lambda host: (host["wildcard"], host["server_name"]))


def host_plans(model: Model) -> dict[str, dict[str, Any]]:
    """Return what each host carries."""
    plans: dict[str, dict[str, Any]] = {}
    fronts = {name: servers(model, name) for name in model.services}
    reloaded = beside_edge(model)
    for host, entry in (model.hosts or {}).items():
        names = [name for name in entry["services"] if name in model.services]
        plans[host] = {
            "address": entry["address"],
            "services": names,
            "kinds": sorted({model.services[name]["kind"] for name in names}),
            "edge": "edge" in entry["services"],
            "node_versions": sorted({model.services[name]["node"] for name in names if model.is_process(name)}),
            "internal": [
                {
                    "service": other,
                    "port": INTERNAL + model.services[other]["port"],
                    "servers": fronts[other],
                    "keepalive": other not in reloaded,
                }
                for other in called_services(model, names)
            ],
        }
    return plans


def secret_references(model: Model, specs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the references of the secrets that these services use.

    Each has its name, where it is (secretsmanager and perhaps key, ssm, or variable), and the region for AWS.
    """
    names = sorted({secret for spec in specs.values() for secret in spec["secrets"]})
    known = dict(model.environment["secrets"])
    for database, access in model.environment["databases"].items():
        known[f"{database}.password"] = access["password"]
    if model.environment["sentry"]:
        known[SENTRY_SECRET] = model.environment["sentry"]["dsn"]
    return [{"name": name, **located(model, known[name])} for name in names]


def located(model: Model, reference: Mapping[str, str]) -> dict[str, str]:
    """Return a reference to a secret with its region, where AWS has it."""
    return {**reference, **({} if "variable" in reference else {"region": model.environment["region"]})}


def tls_settings(model: Model) -> dict[str, Any]:
    """Return the environment's TLS settings; references to secrets have their region."""
    settings = {key: value for key, value in model.environment["tls"].items() if value}
    for key in ("certificate", "key"):
        if isinstance(settings.get(key), dict):
            settings[key] = located(model, settings[key])
    return settings


def plan(model: Model) -> dict[str, Any]:
    """Return the whole plan of a model without problems. It holds no secret."""
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
            # Of CloudWatch, for the marks of deployments; empty where provision.yml makes none.
            "dashboard": aws_name(model, "platform") if environment["aws"] is not None else "",
            "artifacts": artifact_store(environment["artifacts"]),
        },
        "batches": deploy_order(model),
        "services": specs,
        "hosts": host_plans(model),
        "edge": {
            "virtual_hosts": virtual_hosts(model),
            "upstreams": upstreams(model),
            "beside": beside_edge(model),
            "origins": {key: list(value) for key, value in model.origins.items()},
        },
        "tls": tls_settings(model),
        "budget": connection_budget(model),
        "log_groups": log_groups(model),
        "synthetic": synthetic(model),
        "secrets": secret_references(model, specs),
    }


# Roles that run on their own and touch no service.
ROLES_WITHOUT_SERVICES = frozenset({"nginx_proxy", "cloudwatch_agent", "synthetic"})


def select_services(plan: Mapping[str, Any], tags: Sequence[str]) -> list[str]:
    """Return the services that a run's tags select, in deploy order.

    Names of kinds and of services select these. Without any of them the tags select every service,
    unless they only name roles that touch none.
    """
    names = [name for batch in plan["batches"] for name in batch]
    wanted = set(tags)
    if "all" in wanted:
        return names
    if wanted & (set(KINDS) | set(names)):
        return [name for name in names if name in wanted or plan["services"][name]["kind"] in wanted]
    return [] if wanted and wanted <= ROLES_WITHOUT_SERVICES else names
