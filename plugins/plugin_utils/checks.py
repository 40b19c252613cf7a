# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Checks across the whole model, for problems that no single value shows. Each reports every problem it finds."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.http_client import below
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    Placeholder,
    PlaceholderError,
    placeholders,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.runtime_table import version_of
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    HIDDEN,
    Report,
    listed,
    relocate,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import order, variables
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets import ec2
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets.ec2 import (
    EDGE_PORTS,
    GREEN,
    HIGHEST,
    INTERNAL,
    OWN_PORTS,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.variables import UnknownFactError

# What comes from the user's own machine crosses no network. Browsers ask no resolver for names below localhost.
LOCAL_ORIGIN = re.compile(r"http://(?:(?:[a-z0-9-]+\.)*localhost|127\.0\.0\.1)(?::\d+)?")
# Let's Encrypt's limit for one set of names, in seven days.
MOST_ACME_EDGES = 5
# More public addresses than this are no load balancer's: a /8 of IPv4, and a /24 of IPv6.
MOST_TRUSTED = {4: 1 << 24, 6: 1 << 104}
SECRET_VARIABLE = re.compile(r"(?i)(?:^|_)(?:password|passwd|secret|secret_key|private_key|access_key)$")
CA_FIX = (
    "the path of a PEM file on the controller, for RDS that of "
    "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem."
)
PUBLIC_VARIABLE = re.compile(r"(?:NEXT_PUBLIC|VITE|PUBLIC)_")


def run(report: Report, model: Model) -> None:
    """Run every check."""
    for check in CHECKS:
        check(report, model)


def place(service: Mapping[str, Any], key: str) -> str:
    """Return where the value of a service's key is set: in the catalogue, or in the environment's overrides."""
    return relocate(f"{service['path']}.{key}", service["path"], service["moved"])


def noun_of(model: Model, server: str) -> str:
    """Return what a database or a store is called."""
    return "database" if server in model.databases else "store"


def tags(model: Model, service: str = "") -> str:
    """Return the tags that the inventory looks for."""
    found = f"Platform=fivepointers, Environment={model.environment['name'] or '<name>'}"
    return f"{found}, Services=…{service}…" if service else found


# --- the environment --------------------------------------------------------------


def check_tls(report: Report, model: Model) -> None:
    """TLS from files needs the files, an edge its trusted proxies; Let's Encrypt limits certificates per name."""
    tls = model.environment["tls"]
    stated = model.environment["stated"].get("tls")
    edges = [name for name, host in (model.hosts or {}).items() if "edge" in host["services"]]
    if tls["mode"] == "acme" and len(edges) > MOST_ACME_EDGES:
        report.add(
            "platform_environment.tls.mode",
            "acme",
            f"each of the {len(edges)} edges would request its own certificate for the same names, and Let's Encrypt "
            f"issues {MOST_ACME_EDGES} a week",
            "Use mode: load_balancer, or mode: files with one certificate for all edges.",
        )
    if tls["mode"] == "load_balancer" and edges and not tls["trusted"] and stated.get("trusted", []) == []:
        report.add(
            "platform_environment.tls.trusted",
            None,
            f"the edge (on {listed(edges, 5)}) has no trusted proxies",
            "Add the networks of the load balancer, such as [10.0.0.0/20].",
        )
    if tls.get("client_header") and not stated.get("trusted"):
        report.add(
            "platform_environment.tls.client_header",
            tls["client_header"],
            "anybody can send this header, and no trusted proxy is listed from which it would count",
            "Add trusted: the networks of the CDN that sends it; with mode load_balancer, beside the load balancer's.",
        )
    _check_trusted(report, tls.get("trusted") or [])
    if tls["mode"] != "files":
        return
    for key in ("certificate", "key"):
        if key not in stated:
            report.add(
                f"platform_environment.tls.{key}",
                None,
                f"tls.mode is files, but '{key}' is missing",
                "Add the path of the PEM file on the controller, or a reference such as {secretsmanager: name}; "
                "or use mode: acme or load_balancer.",
            )


def _check_trusted(report: Report, trusted: list[str]) -> None:
    """Trusted proxies are a load balancer's networks, and not the internet in parts."""
    networks = [ipaddress.ip_network(item) for item in trusted]
    for version, most in MOST_TRUSTED.items():
        public = [item for item in networks if item.version == version and not item.is_private]
        found = sum(item.num_addresses for item in ipaddress.collapse_addresses(public))  # type: ignore[type-var,misc]
        if found > most:
            report.add(
                "platform_environment.tls.trusted",
                listed([str(item) for item in public], 5),
                f"together these have {found} public addresses, and whoever has one of them could pose as any client",
                "List the networks of the load balancer or the CDN only.",
            )


def check_domains(report: Report, model: Model) -> None:
    """Further domains are not the environment's own, and bring certificates only where they are files."""
    mode = model.environment["tls"]["mode"]
    for domain, settings in model.environment["domains"].items():
        path = f"platform_environment.domains.{domain}"
        if domain == model.environment["domain"]:
            report.add(path, domain, "this is the environment's own domain", "Remove it: list the other ones only.")
        stated = [key for key in ("certificate", "key") if settings[key]]
        if stated and mode in ("acme", "load_balancer"):
            fix = "Remove it, or write tls.mode: files."
            report.add(f"{path}.{stated[0]}", HIDDEN, f"with tls.mode {mode}, no certificate is given", fix)
        elif len(stated) == 1:
            (lacking,) = {"certificate", "key"} - set(stated)
            fix = "Add both, or neither if the environment's certificate has the names of this domain too."
            report.add(f"{path}.{lacking}", None, f"'{lacking}' is missing beside '{stated[0]}'", fix)


def check_artifacts(report: Report, model: Model) -> None:
    """Artifacts from a store are signed: what is in one runs on every host."""
    store = model.environment["artifacts"]
    if store and "artifact_signing" not in model.environment["stated"]:
        report.add(
            "platform_environment.artifact_signing",
            None,
            f"who may write to {store} could run any code on the hosts, since artifacts are not signed",
            "Create a key (docs/ci.md, Signed artifacts) and write {keys: [MCow…], private_key: {secretsmanager: …}}. "
            "Write `artifact_signing: off` to trust everybody who may write there.",
        )


def check_origins(report: Report, model: Model) -> None:
    """Origins without TLS are local, or the environment allows them."""
    cors = model.environment["cors"]
    for origin in cors["extra_origins"]:
        if origin.startswith("http://") and not LOCAL_ORIGIN.fullmatch(origin) and not cors["http_origins"]:
            report.add(
                "platform_environment.cors.extra_origins",
                origin,
                "whoever is between this page and its user can change it, since it has no TLS",
                "Use https:// or http://localhost, or allow such origins here with http_origins: true.",
            )


def check_servers(report: Report, model: Model) -> None:
    """The environment has settings for every database and store of the catalogue, and for no other."""
    needed = "{host, name, user, password, max_connections}"
    for section, noun, wanted in (("databases", "database", needed), ("stores", "store", "{host, password}")):
        root = f"platform_environment.{section}"
        known, stated = getattr(model, section), model.environment[section]
        for name, server in known.items():
            if name in model.services:
                report.add(f"{section}.{name}", name, "a service has the same name", "Rename one of them.")
            if section == "stores" and name in model.databases:
                report.add(f"{section}.{name}", name, "a database has the same name", "Rename one of them.")
            # One whose engine is wrong may have to move to the other section first.
            if name not in stated and server["engine"]:
                problem = f"the environment has no settings for the {noun} '{name}'"
                report.add(f"{root}.{name}", None, problem, f"Add {wanted}.")
        for name in stated:
            if name not in known:
                fix = f"Add it under {section}, or correct the name.{report.suggest(name, known)}"
                report.add(f"{root}.{name}", name, f"the catalogue has no {noun} '{name}'", fix)
    for name, access in model.environment["databases"].items():
        if access["tls"] and not model.environment["database_ca"]:
            problem = "nothing says which authorities sign the certificates of databases"
            path = f"platform_environment.databases.{name}.tls"
            report.add(path, True, problem, f"Set platform_environment.database_ca: {CA_FIX}")


def check_node(report: Report, model: Model) -> None:
    """If the environment lists Node.js archives, services may only use those."""
    archives = model.environment["nodejs"]
    known = {name for name in (*archives, *map(version_of, archives.values())) if name}
    for service in model.services.values():
        if known and service["node"] and service["node"] not in known:
            fix = f"Use one of: {listed(sorted(known))}; or add it to platform_environment.nodejs."
            problem = f"the environment has no Node.js {service['node']}"
            report.add(place(service, "node"), service["node"], problem, fix)


# --- between services ---------------------------------------------------------------


def check_needs(report: Report, model: Model) -> None:
    """Every need exists, and needs form no cycle."""
    options = [*model.services, *model.servers]
    for name, service in model.services.items():
        path = place(service, "needs")
        files_only = service["kind"] is not None and not model.is_process(name)
        for other in service["needs"]:
            if other == name:
                report.add(path, other, f"'{name}' needs itself", f"Remove '{name}' from its needs.")
            elif other not in model.services and other not in model.servers:
                problem = f"'{name}' needs '{other}', which is neither a service, a database nor a store"
                fix = f"Add '{other}' to the catalogue, or correct the name.{report.suggest(other, options)}"
                report.add(path, other, problem, fix)
            elif other in model.servers and files_only:
                fix = f"Remove it, and let '{name}' need the service that serves the data."
                report.add(path, other, f"code in a browser cannot reach a {noun_of(model, other)}", fix)
            elif other in model.services and not model.listens(other):
                fix = f"Remove it: '{name}' and '{other}' can only meet in a database or a queue."
                report.add(path, other, f"'{other}' listens on nothing, so nothing can call it", fix)
    others = {name: [need for need in service["needs"] if need != name] for name, service in model.services.items()}
    for cycle in order.batches_and_cycles(others)[1]:
        report.add(
            place(model.services[cycle[0]], "needs"),
            cycle[1],
            f"the needs form a cycle: {' → '.join(cycle)}",
            "Remove one of these needs. A service that only links to another can build the link from BASE_DOMAIN.",
        )


def check_writers(report: Report, model: Model) -> None:
    """A database has at most one writer, which needs it."""
    writers: dict[str, str] = {}
    for name, service in model.services.items():
        database = service["writes"]
        if database is None:
            continue
        path = place(service, "writes")
        if database not in model.databases:
            fix = f"Add it under databases, or correct the name.{report.suggest(database, model.databases)}"
            report.add(path, database, f"the catalogue has no database '{database}'", fix)
            continue
        if database not in service["needs"] and "needs" not in service["broken"]:
            problem = f"'{name}' writes to '{database}' but does not need it"
            report.add(path, database, problem, f"Add '{database}' to the needs of '{name}'.")
        first = writers.setdefault(database, name)
        if first != name:
            problem = f"'{first}' already writes to '{database}', and a database can have only one writer"
            report.add(path, database, problem, "Remove 'writes' from one of them, and let it call the other.")


def check_public(report: Report, model: Model) -> None:
    """Each public address belongs to one service."""
    owners: dict[str, str] = {}
    for name, service in model.services.items():
        for address in service["public"]:
            where = address["fqdn"] + address["path"]
            if where in owners:
                problem = f"'{owners[where]}' already has the public address {where}"
                report.add(place(service, "public"), where, problem, f"Give '{name}' another host or path.")
            owners.setdefault(where, name)
    _check_redirects(report, model)


def _check_redirects(report: Report, model: Model) -> None:
    """A redirect leads to a name that a service serves, and its own name has no other use."""
    served = {item["fqdn"]: name for name, service in model.services.items() for item in service["public"]}
    seen: dict[str, str] = {}
    redirects = [(service, item) for service in model.services.values() for item in service["redirects"]]
    for service, item in redirects:
        path, name, to = place(service, "public"), item["fqdn"], item["to"]
        if name in served or name in seen:
            problem = f"'{served[name]}' serves {name}" if name in served else f"{name} leads to {seen[name]} already"
            report.add(path, name, f"{problem}, so it cannot lead to {to}", "Remove one of them.")
        seen.setdefault(name, to)
    for service, item in redirects:
        path, to = place(service, "public"), item["to"]
        if to in seen:
            fix = f"Write the name at the end of the way as the redirect of {item['fqdn']}."
            report.add(path, to, f"{item['fqdn']} would lead to {to}, which leads to {seen[to]}", fix)
        elif to.startswith("*.") or served.keys().isdisjoint((to, f"*.{to.partition('.')[2]}")):
            known = listed(sorted(name for name in served if not name.startswith("*.")))
            fix = f"Redirect to one of: {known}." if known else f"Add {to} to public of the service that serves it."
            report.add(path, to, f"{item['fqdn']} would lead to {to}, which no service has as a public name", fix)


def check_rate_limits(report: Report, model: Model) -> None:
    """Users can send each limited request to a public service, and no request is limited twice."""
    for name, service in model.services.items():
        path = place(service, "rate_limits")
        seen = set()
        for index, limit in enumerate(service["rate_limits"] or []):
            where, request = f"{path}[{index}].request", limit["request"]
            if request is None or not service["public"] or "public" in service["broken"]:
                continue
            if not any(below(address["path"], request.partition(" ")[2].rstrip("/")) for address in service["public"]):
                fix = "Write a path below one of its public addresses, or remove the limit."
                report.add(where, request, f"users cannot send this request to '{name}'", fix)
            key = request.rstrip("/").lower()
            if key in seen:
                report.add(where, request, "this request already has a limit", "Remove one of the limits.")
            seen.add(key)


# --- environment variables ------------------------------------------------------------


def check_secrets(report: Report, model: Model) -> None:
    """Every secret that a service names has a reference, and the catalogue contains no secrets."""
    known = model.environment["secrets"]
    for service in model.services.values():
        for variable, secret in service["secrets"].items():
            path = place(service, f"secrets.{variable}")
            if secret not in known:
                fix = f"Add it to platform_environment.secrets, or use one of: {listed(known) or '(none yet)'}."
                problem = f"the environment has no secret '{secret}'"
                report.add(path, secret, problem, fix + report.suggest(secret, known))
            if variable in service["environment"]:
                report.add(path, variable, f"'{variable}' is also set in environment", "Keep one of them.")
        for variable in service["build"]["secrets"].keys() & service["build"]["environment"].keys():
            path = place(service, f"build.secrets.{variable}")
            report.add(path, variable, f"'{variable}' is also set in build.environment", "Keep one of them.")
        for variable, value in service["environment"].items():
            if (
                value
                and SECRET_VARIABLE.search(variable)
                and not PUBLIC_VARIABLE.match(variable)
                and not placeholders(value)
            ):
                report.add(
                    place(service, f"environment.{variable}"),
                    HIDDEN,
                    "this looks like a secret in plain text",
                    "Store it in Secrets Manager, and reference it: secrets: {%s: name}." % variable,
                )


def check_placeholders(report: Report, model: Model) -> None:
    """Every placeholder is known, and allowed where it is used."""
    for name, service in model.services.items():
        if service["kind"] is None:
            continue
        process = model.is_process(name)
        for variable, value in service["environment"].items():
            for item in placeholders(value):
                _check_placeholder(report, model, name, f"environment.{variable}", item, public=not process)
        for variable, value in service["build"]["environment"].items():
            for item in placeholders(value):
                _check_placeholder(report, model, name, f"build.environment.{variable}", item, public=True)


def _check_placeholder(report: Report, model: Model, name: str, key: str, item: Placeholder, public: bool) -> None:
    service = model.services[name]
    try:
        if public:
            variables.public_value(model, name, item)
        else:
            variables.template_of(model, name, item)
    except UnknownFactError as error:
        head = item.name.partition(".")[0]
        options = [*service["needs"], "self", "environment", "origins", "secret"]
        hint = "" if head in options else report.suggest(head, options)
        report.add(place(service, key), str(item), error.problem, error.fix + hint)


def check_derived_variables(report: Report, model: Model) -> None:
    """No two needs of a service give it the same environment variable, nor one that it has anyway."""
    # Variables can only be derived where everything else is right.
    for name, service in model.services.items() if not report.problems else ():
        owners = dict.fromkeys(variables.own_environment(model, name), "")
        for other in service["needs"]:
            for variable in variables.needs_environment(model, name, other):
                first = owners.setdefault(variable, other)
                if first != other:
                    whose = f"'{first}'" if first else "the platform"
                    report.add(
                        place(service, "needs"),
                        other,
                        f"'{name}' would get the environment variable {variable} from '{other}' and from {whose}",
                        f"Rename '{other}'{f' or {whose}' if first else ''}.",
                    )
                    break


# --- hosts -----------------------------------------------------------------------------


def check_hosts(report: Report, model: Model) -> None:
    """Hosts run exactly the services of the catalogue, and an edge if any of them is public."""
    if model.hosts is None:
        return
    if not model.hosts:
        report.add("hosts", None, "the inventory has no hosts", f"Start or tag instances with {tags(model)}.")
        return
    unknown: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    edge = False
    for host, entry in model.hosts.items():
        address = entry["address"]
        if address is not None and owners.setdefault(address, host) != host:
            problem = f"the host '{owners[address]}' has the same address"
            report.add(f"hosts.{host}.address", address, problem, "Give each host its own address.")
        for name in entry["services"]:
            if name == "edge":
                edge = True
            elif name not in model.services:
                unknown.setdefault(name, []).append(host)
    for name, hosts in unknown.items():
        problem = f"the tag Services of {listed(hosts, 5)} names '{name}', which is not in the catalogue"
        fix = f"Correct the tag, or add the service.{report.suggest(name, [*model.services, 'edge'])}"
        report.add(f"hosts.{hosts[0]}.services", name, problem, fix)
    for name, service in model.services.items():
        if name not in model.placement:
            problem = f"no host runs '{name}'; looked for {tags(model, name)}"
            fix = f"Add '{name}' to the tag Services of an instance, or remove the service."
            report.add(service["path"], name, problem, fix)
    public = [name for name, service in model.services.items() if service["public"]]
    if public and not edge:
        report.add(
            "hosts",
            listed(public, 5),
            f"these services are public, but no host is an edge; looked for {tags(model, 'edge')}",
            "Add 'edge' to the tag Services of an instance. A load balancer needs it too.",
        )


def check_ports(report: Report, model: Model) -> None:
    """No two listeners share a port of a host. Linear in hosts and their services."""
    called = set(ec2.called_services(model, model.services))
    usable = {name: None for name, service in model.services.items() if service["port"]}
    for name in list(usable):
        port = model.services[name]["port"]
        if model.is_process(name) and GREEN + port > HIGHEST:
            del usable[name]
            problem = f"the slots use ports 10000 and 20000 higher, and {GREEN + port} is above {HIGHEST}"
            fix = f"Use a port up to {HIGHEST - GREEN}."
            report.add(place(model.services[name], "port"), port, problem, fix)
        elif name in called and INTERNAL + port > HIGHEST:
            del usable[name]
            problem = f"others call '{name}' through port {INTERNAL + port} of their own host, which is above {HIGHEST}"
            fix = f"Use a port up to {HIGHEST - INTERNAL}."
            report.add(place(model.services[name], "port"), port, problem, fix)
    for host, entry in (model.hosts or {}).items():
        taken = dict(OWN_PORTS)
        if "edge" in entry["services"]:
            taken.update(dict.fromkeys(EDGE_PORTS, "the edge"))
        names = [name for name in entry["services"] if name in usable]
        for name, port, what in ec2.listeners(model, names):
            if name not in usable:
                continue
            first = taken.setdefault(port, what)
            if first is not what:
                report.add(
                    place(model.services[name], "port"),
                    model.services[name]["port"],
                    f"on host '{host}', port {port} is used by {first} and {what}",
                    f"Give '{name}' another port (its slots are 10000 and 20000 higher, its internal address 30000).",
                )


def check_budget(report: Report, model: Model) -> None:
    """The connection pools of all services fit within the database's limit."""
    for database, budget in plans.connection_budget(model).items():
        if not budget["max_connections"] or budget["needed"] <= budget["allowed"]:
            continue
        sums = [
            f"{line['service']}: {line['processes']} processes × pool {line['pool']} = {line['connections']}"
            for line in budget["lines"]
        ]
        largest = model.services[max(budget["lines"], key=lambda line: int(line["connections"]))["service"]]
        report.add(
            place(largest, "pool"),
            largest["pool"],
            f"the pools may open {budget['needed']} connections to '{database}', which allows {budget['allowed']} "
            f"(80% of {budget['max_connections']}): {listed(sums)} (each host counts twice, for its two slots)",
            "Reduce the pools, or raise max_connections of the database.",
        )


# --- journeys ----------------------------------------------------------------------------


def check_journeys(report: Report, model: Model) -> None:
    """Steps of journeys call public services, and use only what earlier steps saved."""
    for number, journey in enumerate(model.journeys):
        known = {"unique"}
        for index, step in enumerate(journey["steps"] or []):
            path = f"journeys[{number}].steps[{index}]"
            _check_step(report, model, path, step)
            for key in ("host", "request", "stream", "json", "headers", "contains", "room"):
                for where, value in _strings(f"{path}.{key}", step[key]):
                    _check_step_text(report, where, value, known)
            known.update(step["save"] or {})


def _check_step(report: Report, model: Model, path: str, step: Mapping[str, Any]) -> None:
    name = step["service"]
    service = model.services.get(name)
    if service is None and name is not None:
        fix = f"Correct the name.{report.suggest(name, model.services)}"
        report.add(f"{path}.service", name, f"the catalogue has no service '{name}'", fix)
    elif service is not None and not service["public"]:
        report.add(
            f"{path}.service", name, f"'{name}' has no public address", "Users cannot reach it; remove the step."
        )
    elif service is not None and service["public"][0]["wildcard"] and not step["host"]:
        problem = f"'{name}' answers on every subdomain"
        report.add(f"{path}.host", None, problem, "Choose one with host: a label, or ${variable}.")
    elif service is not None and (request := (step["stream"] or step)["request"]):
        asked = request.partition(" ")[2]
        if not any(below(address["path"], asked) for address in service["public"]):
            where = f"{path}.stream.request" if step["stream"] else f"{path}.request"
            fix = f"Write the full path, such as {service['public'][0]['path']}{asked}."
            report.add(where, request, f"users cannot send this request to '{name}'", fix)
    if sum(bool(step[key]) for key in ("request", "stream", "websocket")) != 1:
        fix = "Write request: GET /path, stream: {request: GET /path}, or websocket: yjs with a room."
        report.add(path, step["name"], "a step is either a request, a stream or a websocket", fix)
    elif step["stream"] and step["save"]:
        problem = "what a stream sends cannot be saved"
        report.add(f"{path}.save", listed(step["save"]), problem, "Save it from a request.")
    elif step["websocket"] == "yjs" and not step["room"]:
        report.add(f"{path}.room", None, "'room' is missing", "Add the name of the document to edit.")


def _check_step_text(report: Report, where: str, value: str, known: Iterable[str]) -> None:
    try:
        names = [item.name for item in placeholders(value)]
    except PlaceholderError as error:
        report.add(where, value, str(error), "Write ${name}, or $$ for a dollar sign.")
        return
    for name in names:
        if name not in known:
            fix = f"Save it in an earlier step, or use one of: {listed(sorted(known))}.{report.suggest(name, known)}"
            report.add(where, "${%s}" % name, f"no earlier step saves '{name}'", fix)


def _strings(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every string in nested data with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(f"{path}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(f"{path}[{index}]", item)


CHECKS: tuple[Callable[[Report, Model], None], ...] = (
    check_tls,
    check_domains,
    check_artifacts,
    check_origins,
    check_servers,
    check_node,
    check_needs,
    check_writers,
    check_public,
    check_rate_limits,
    check_secrets,
    check_placeholders,
    check_hosts,
    check_ports,
    check_budget,
    check_journeys,
    check_derived_variables,
)
