# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The values of placeholders, and the environment variables of a service. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    Placeholder,
    encode,
    escape,
    parse,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import data_path
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import SERVERS, Driver, Engine
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import variable_name

# Longer than the 60 s for which load balancers and nginx keep an idle connection.
KEEP_ALIVE_MS = "75000"

# The name of the secret with the Sentry DSN. Names of the environment's own secrets have no dot.
SENTRY_SECRET = "sentry.dsn"  # noqa: S105

# Where the CloudWatch agent of each host receives metrics from services.
STATSD_ADDRESS = ("127.0.0.1", 8125)

SERVICE_FACTS = ("url", "host", "internal_url")

# Of these, what holds the password.
ADDRESSES = {"url": "host", "reader_url": "reader"}
# Where each host has the authorities that sign the certificates of databases.
DATABASE_CA_FILE = "/etc/fivepointers-database-ca.pem"

ENVIRONMENT_FACTS = ("name", "domain", "region")

SELF_FACTS = ("slot_port", "url", "state")
# The port of a slot, and its name before 0.2.0. Hosts, and releases that they keep, know the older one.
SLOT_PORT = ("self.slot_port", "self.port")


class UnknownFactError(Exception):
    """A placeholder that is unknown, or not allowed here. Carries the fix."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


def template_of(model: Model, service: str, item: Placeholder) -> str:
    """Return the template that a placeholder of a service becomes in the plan.

    Known values are returned escaped. Secrets and the slot's port stay placeholders, under the names that
    `placeholders.render` knows. Raises UnknownFactError for any other placeholder.
    """
    head, _dot, tail = item.name.partition(".")
    if head == "secret":
        return _environment_secret(model, item, tail)
    if item.name in SLOT_PORT:
        return str(Placeholder("self.port", item.encoded))
    if head in model.servers and tail in ("password", *ADDRESSES) and tail in _facts(model, head):
        _require_need(model, service, head)
        return _database_secret(model, head, item, tail)
    value = _known_value(model, service, item)
    return escape(encode(value) if item.encoded else value)


def public_value(model: Model, service: str, item: Placeholder) -> str:
    """Return the value of a placeholder in what browsers or builds receive: public facts only.

    Raises UnknownFactError for everything else.
    """
    head, _dot, tail = item.name.partition(".")
    if head == "secret" or head in model.servers or item.name in (*SLOT_PORT, "self.state") or tail == "internal_url":
        raise UnknownFactError(
            f"'{item}' must not reach browsers or builds",
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
    access = {key: value or "" for key, value in model.access.get(name, {}).items()}
    secret = f"secret.{name}.password"
    if tail == "password":
        return str(Placeholder(secret, item.encoded)) if access.get("password") else ""
    if item.encoded:
        raise UnknownFactError("a complete URL cannot be percent-encoded", "Write ${%s.%s}." % (name, tail))
    user, schema = (escape(encode(access.get(key, ""))) for key in ("user", "name"))
    login = f"{user}:{Placeholder(secret, encoded=True)}" if access.get("password") else user
    place = (str(access.get(ADDRESSES[tail])), str(access.get("port")), schema, bool(access.get("tls")))
    server = SERVERS.get(model.servers[name]["engine"])
    driver = _verifies(model, name)
    options = "?" + driver.options.format(ca=DATABASE_CA_FILE) if driver and driver.options else ""
    return f"{server.url(login, *place)}{options}" if server else ""


def _facts(model: Model, name: str) -> tuple[str, ...]:
    """Return the facts of a database or a store."""
    engine = model.servers[name]["engine"]
    return SERVERS[engine].facts if engine else Engine.facts


def _verifies(model: Model, name: str) -> Driver | None:
    """Return the driver of a server whose certificate the file with the authorities is for; otherwise None."""
    server, access = model.servers[name], model.access.get(name) or {}
    if server["driver"] and access.get("tls") and model.environment["database_ca"]:
        return SERVERS[server["engine"]].drivers[server["driver"]]
    return None


def _require_need(model: Model, service: str, other: str) -> None:
    if other not in model.services[service]["needs"] and "needs" not in model.services[service]["broken"]:
        fix = f"Add '{other}' to the needs of '{service}', or remove the placeholder."
        raise UnknownFactError(f"'{service}' does not need '{other}'", fix)


def _known_value(model: Model, service: str, item: Placeholder) -> str:
    """Return the value of a placeholder that is neither a secret nor specific to a slot."""
    head, _dot, tail = item.name.partition(".")
    if item.name == "origins":
        # What the edge lets through to this service: the pages, and its own addresses.
        own = [f"https://{address['fqdn']}" for address in model.services[service]["public"]]
        known = "|".join(model.origins["regex"])
        unknown = [origin for origin in own if not known or not re.search(known, origin)]
        return ",".join(dict.fromkeys([*model.origins["exact"], *model.origins["wildcards"], *unknown]))
    if head == "environment" and tail in ENVIRONMENT_FACTS:
        return model.environment[tail] or ""
    if item.name == "self.state":
        if not keeps_state(model, service):
            raise UnknownFactError(f"'{service}' keeps no state", f"Add state: true to '{service}'.")
        return data_path(service)
    if item.name == "self.url":
        return _service_value(model, service, tail)
    if head in model.services and tail in SERVICE_FACTS:
        if head != service:
            _require_need(model, service, head)
        return _service_value(model, head, tail)
    if head in model.servers and tail in _facts(model, head):
        _require_need(model, service, head)
        if tail == "ca_file":
            return _ca_file(model)
        tail = "reader" if tail == "reader_host" else tail
        return str(model.access.get(head, {}).get(tail) or "")
    raise _nonsense(model, item, head)


def _ca_file(model: Model) -> str:
    if not model.environment["database_ca"]:
        fix = "Add platform_environment.database_ca, the path of a PEM file on the controller."
        raise UnknownFactError("the environment has no file with the authorities of its databases", fix)
    return DATABASE_CA_FILE


def keeps_state(model: Model, name: str) -> bool:
    """Return whether a service has files that outlive its releases."""
    return bool(model.services[name]["state"] or model.services[name]["write"])


def _nonsense(model: Model, item: Placeholder, head: str) -> UnknownFactError:
    known: dict[str, tuple[str, ...]] = {"self": SELF_FACTS, "environment": ENVIRONMENT_FACTS}
    known.update(dict.fromkeys(model.services, SERVICE_FACTS))
    known.update({name: _facts(model, name) for name in model.servers})
    if head in known:
        words = ", ".join("${%s.%s}" % (head, word) for word in known[head])
        return UnknownFactError(f"unknown placeholder '{item}'", f"Use one of: {words}.")
    return UnknownFactError(
        f"unknown placeholder '{item}'",
        "Use ${self.…}, ${environment.…}, ${origins}, ${secret.…}, or a service, database or store of the catalogue; "
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
    """Return a template of the catalogue with all known values filled in.

    Options that follow an address, as in ${database.url}?schema=public, are added to those that it has.
    """
    found = ""
    for part in parse(template):
        if not isinstance(part, str):
            found += template_of(model, service, part)
        elif part.startswith("?") and "?" in found:
            found += escape("&" + part[1:])
        else:
            found += escape(part)
    return found


def own_environment(model: Model, name: str) -> dict[str, str]:
    """Return the environment variables that a service gets whatever it needs, as templates of the plan."""
    service = model.services[name]
    kind = KINDS[service["kind"]]
    variables = {
        "SERVICE_NAME": name,
        "ENVIRONMENT": model.environment["name"],
        "BASE_DOMAIN": model.environment["domain"],
    }
    if service["public"]:
        variables["PUBLIC_URL"] = service["url"]
    variables = {key: escape(value) for key, value in variables.items()}
    if not kind.process:
        return variables
    variables.update(
        {
            "NODE_ENV": "production",
            "LOG_FORMAT": "json",
            # Some frameworks colour their logs without a terminal too.
            "NO_COLOR": "1",
            "ALLOWED_ORIGINS": resolve(model, name, "${origins}"),
        }
    )
    if kind.listens != "nothing":
        variables.update({"PORT": "${self.port}", "HOST": "127.0.0.1", "KEEP_ALIVE_TIMEOUT": KEEP_ALIVE_MS})
    if keeps_state(model, name):
        # systemd would name all directories of the unit.
        variables["STATE_DIRECTORY"] = data_path(name)
    if model.environment["sentry"]:
        variables["SENTRY_DSN"] = f"${{secret.{SENTRY_SECRET}}}"
        variables["SENTRY_ENVIRONMENT"] = escape(model.environment["name"])
    if any(
        driver and driver.node
        for driver in (_verifies(model, need) for need in service["needs"] if need in model.servers)
    ):
        variables["NODE_EXTRA_CA_CERTS"] = DATABASE_CA_FILE
    if service["statsd"]:
        variables.update({"STATSD_HOST": STATSD_ADDRESS[0], "STATSD_PORT": str(STATSD_ADDRESS[1])})
    if kind.websocket:
        # nginx does not see messages, so the application must enforce the limit.
        variables["MAX_MESSAGE_BYTES"] = str(values.size_in_bytes(service["body_limit"]))
    variables.update(kind.environment)
    return variables


def needs_environment(model: Model, name: str, other: str) -> dict[str, str]:
    """Return the environment variables that a service gets because it needs another service, or a database."""
    process, prefix = KINDS[model.services[name]["kind"]].process, variable_name(other)
    variables = {}
    if other in model.services:
        needed = model.services[other]
        if needed["public"]:
            variables[prefix + "_URL"] = escape(needed["url"])
        if process:
            variables[prefix + "_INTERNAL_URL"] = escape(needed["internal_url"])
    elif other in model.servers and process:
        access = model.access.get(other) or {}
        facts = ["host", "port", "name", "user", "password"] if other in model.databases else ["host", "port"]
        if other in model.stores:
            facts += [*(fact for fact in ("user", "password") if access.get(fact)), "url"]
        else:
            variables[prefix + "_POOL_SIZE"] = str(model.services[name]["pool"])
        for fact in facts:
            variables[f"{prefix}_{fact.upper()}"] = resolve(model, name, f"${{{other}.{fact}}}")
        if _verifies(model, other):
            variables[prefix + "_CA_FILE"] = DATABASE_CA_FILE
        if access.get("reader") != access.get("host") and access.get("reader"):
            variables[prefix + "_READER_HOST"] = escape(access["reader"])
    return variables


def derived_environment(model: Model, name: str) -> dict[str, str]:
    """Return the environment variables that a service gets automatically, as templates of the plan."""
    variables = own_environment(model, name)
    for other in model.services[name]["needs"]:
        variables.update(needs_environment(model, name, other))
    return variables


def service_environment(model: Model, name: str) -> dict[str, str]:
    """Return all environment variables of a service as templates of the plan, sorted by name.

    Entries of the catalogue override derived ones.
    """
    service = model.services[name]
    variables = derived_environment(model, name)
    variables.update({key: resolve(model, name, value) for key, value in service["environment"].items()})
    variables.update({key: f"${{secret.{secret}}}" for key, secret in service["secrets"].items()})
    return dict(sorted(variables.items()))


def secret_references(model: Model, specs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the references of the secrets that these services use.

    Each has its name, its source (secretsmanager with an optional key, ssm, or variable), and the region for AWS.
    """
    names = {secret for spec in specs.values() for secret in spec["secrets"]}
    return [reference for reference in known_secrets(model) if reference["name"] in names]


def known_secrets(model: Model) -> list[dict[str, Any]]:
    """Return the references of all secrets of the environment: an older release may use others than the services."""
    known = dict(model.environment["secrets"])
    for server, access in model.access.items():
        if access["password"]:
            known[f"{server}.password"] = access["password"]
    if model.environment["sentry"]:
        known[SENTRY_SECRET] = model.environment["sentry"]["dsn"]
    return [{"name": name, **located(model, known[name])} for name in sorted(known)]


def located(model: Model, reference: Mapping[str, str]) -> dict[str, str]:
    """Return a reference to a secret, with its region if AWS stores the secret."""
    return {**reference, **({} if "variable" in reference else {"region": model.environment["region"]})}
