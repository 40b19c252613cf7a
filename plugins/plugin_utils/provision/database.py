# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The layer `database`: an RDS instance for each database of the catalogue, created or adopted. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    Report,
    anything,
    boolean,
    choice,
    integer,
    keys,
    listed,
    optional,
    table,
    text,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import is_production
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import ENGINES, Engine
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import names
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    security_groups as aws_security_groups,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import foreign

IDENTIFIER = text(
    r"[a-z](?!.*--)[a-z0-9-]{0,61}[a-z0-9]", "the identifier of an RDS instance: lower-case letters, digits and hyphens"
)
KEYS: dict[str, Key] = {
    "adopt": Key(
        table(text(None, "the name of a database"), IDENTIFIER, "a mapping such as {database: identifier}"), {}
    ),
    "class": Key(text(r"db\.[a-z0-9-]+\.[a-z0-9]+", "an instance class such as db.t4g.small"), "db.t4g.small"),
    "version": Key(optional(text(r"\d+(?:\.\d+){0,2}", 'a version of the engine such as "8.4", in quotes'))),
    "storage": Key(integer(20, 65536), 20),
    "storage_type": Key(choice(("gp3", "gp2"), "a type of storage"), "gp3"),
    "storage_limit": Key(integer(22, 65536), 100),
    "backups": Key(integer(1, 35), 7),
    "multi_az": Key(optional(boolean)),
    "deletion_protection": Key(optional(boolean)),
    "apply_immediately": Key(boolean, False),
    "parameters": Key(
        table(
            text(
                rf"(?!(?:{'|'.join(engine.tls_parameter for engine in ENGINES.values())}|max_connections)$)"
                r"[a-z][a-z0-9_.]*",
                "a parameter of the engine; TLS is always required, and max_connections is set in databases",
            ),
            anything,
            "a mapping of the engine's parameters",
        ),
        {},
    ),
}
# What one database has in place of the settings for all.
EACH_KEYS = {key: field._replace(default=None) for key, field in KEYS.items() if key != "adopt"}
KEYS["each"] = Key(
    table(
        text(None, "the name of a database"),
        keys(EACH_KEYS, "a mapping such as {class: db.t4g.large}"),
        "a mapping such as {reports: {class: db.t4g.large}}",
    ),
    {},
)
CHECK = keys(KEYS, "a mapping such as {class: db.t4g.small}")


def problems(report: Report, model: Model) -> None:
    """Require that databases with settings of their own are in the catalogue, and that a version is for one engine."""
    settings, root = model.environment["aws"]["database"], "platform_environment.aws.database"
    for key in ("adopt", "each"):
        for name in settings[key] or {}:
            if name not in model.databases:
                fix = f"Use one of: {listed(model.databases)}.{report.suggest(name, model.databases)}"
                report.add(f"{root}.{key}.{name}", name, f"unknown database '{name}'", fix)
    engines = dict.fromkeys(database["engine"] for database in model.databases.values())
    if settings["version"] and len(engines) > 1:
        problem = f"this version would be that of different engines: {listed(engines)}"
        report.add(f"{root}.version", settings["version"], problem, f"Write {root}.each.<database>.version.")


def settings_of(model: Model, name: str) -> dict[str, Any]:
    """Return the settings of one database: those for all, but what is stated for it."""
    settings = model.environment["aws"]["database"]
    own = (settings["each"] or {}).get(name) or {}
    return {**settings, **{key: value for key, value in own.items() if value is not None}}


def derive(model: Model) -> dict[str, Any]:
    """Return C(group) (of subnets), and C(instances): for each database what to create, or what to C(adopt)."""
    settings = model.environment["aws"]["database"]
    instances = []
    for name in model.databases:
        access, engine = model.environment["databases"][name], ENGINES[model.databases[name]["engine"]]
        adopted = settings["adopt"].get(name)
        instance = {
            "database": name,
            "engine": engine.name,
            "rds": engine.rds,
            "bytes_per_connection": engine.bytes_per_connection,
            "identifier": adopted or names.aws_name(model, name),
            "adopt": adopted is not None,
            "host": access["host"],
            "max_connections": access["max_connections"],
        }
        instances.append(instance if adopted else {**instance, **_made(model, name, settings_of(model, name), engine)})
    return {
        "instances": instances,
        "subnet_group": names.aws_name(model, "database"),
        "tags": names.aws_tags(model, "database"),
        "any_made": not all(instance["adopt"] for instance in instances),
    }


def _made(model: Model, name: str, settings: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
    production = is_production(model.environment["name"])
    access = model.environment["databases"][name]
    version = settings["version"] or engine.version
    stated = {key: _parameter(value) for key, value in settings["parameters"].items()}
    return {
        "class": settings["class"],
        "version": version,
        "family": engine.family(version),
        "storage": settings["storage"],
        "storage_type": settings["storage_type"],
        "storage_limit": max(settings["storage_limit"], settings["storage"] * 11 // 10 + 1),
        "backups": settings["backups"],
        "multi_az": production if settings["multi_az"] is None else settings["multi_az"],
        "deletion_protection": production
        if settings["deletion_protection"] is None
        else settings["deletion_protection"],
        "apply_immediately": settings["apply_immediately"],
        "port": access["port"],
        "schema": access["name"],
        "security_group": aws_security_groups.group_name(model, name),
        "master": engine.master,
        "logs": list(engine.logs),
        "parameter_group": names.aws_name(model, name),
        # The configured number is applied, since the connection budget is calculated with it.
        "parameters": {**engine.parameters, **stated, "max_connections": str(access["max_connections"])},
        "tags": names.aws_tags(model, name),
    }


def _parameter(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def max_connections(parameter: str, memory_mib: int) -> int | None:
    """Return a parameter's number, or its share of the class's memory; otherwise None.

    RDS subtracts its own memory first, so a share is an upper bound.
    """
    if re.fullmatch(r"\d+", parameter):
        return int(parameter)
    share = re.fullmatch(r"(?:LEAST\()?\{DBInstanceClassMemory/(\d+)\}(?:,(\d+)\))?", parameter)
    if not share or not memory_mib or not int(share[1]):
        return None
    most = memory_mib * 1024 * 1024 // int(share[1])
    return min(most, int(share[2])) if share[2] else most


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return C(refusals), why an instance must not or cannot be used, and C(notices), shortcomings of an adopted one.

    there: the name of the C(database), C(instances) of its identifier as returned by rds_instance_info; for an
    adopted one also its C(parameters) and the C(memory_mib) of its class.
    """
    wanted = next(item for item in derived["instances"] if item["database"] == there["database"])
    found: Found = there["instances"]
    if wanted["adopt"]:
        facts = (wanted, found, there["parameters"], there["memory_mib"])
        refusals = errors(*facts)
        return {"refusals": refusals, "notices": [] if refusals else findings(*facts)}
    reason = foreign(found[0].get("tags") or {}, wanted["tags"]) if found else ""
    fix = (
        f"To use it unchanged: platform_environment.aws.database.adopt: "
        f"{{{wanted['database']}: {wanted['identifier']}}}."
    )
    return {
        "refusals": [f"The RDS instance {wanted['identifier']} {reason}. {fix}"] if reason else [],
        "notices": [],
    }


Found = Sequence[Mapping[str, Any]]


def errors(wanted: Mapping[str, Any], found: Found, parameters: Mapping[str, str], memory_mib: int) -> list[str]:
    """Return why an adopted instance cannot be used: it does not exist, or allows fewer connections than configured.

    wanted: an entry of C(instances). found: what rds_instance_info returned. parameters: those of its group.
    """
    if not found:
        path = f"platform_environment.aws.database.adopt.{wanted['database']}"
        return [f"{path}: RDS instance '{wanted['identifier']}' not found. Correct the identifier."]
    if found[0].get("engine") != wanted["rds"]:
        return [f"{wanted['identifier']} runs {found[0].get('engine')}, but the catalogue says {wanted['engine']}."]
    real = max_connections(parameters.get("max_connections", ""), memory_mib)
    if real is not None and wanted["max_connections"] > real:
        path = f"platform_environment.databases.{wanted['database']}.max_connections"
        return [f"{path} is {wanted['max_connections']}, but {wanted['identifier']} allows {real} at most. Write that."]
    return []


def findings(wanted: Mapping[str, Any], found: Found, parameters: Mapping[str, str], memory_mib: int) -> list[str]:
    """Return the shortcomings of a usable adopted instance, each with the fix."""
    name, instance, engine = wanted["identifier"], found[0], ENGINES[wanted["engine"]]
    stated = parameters.get("max_connections", "")
    real = max_connections(stated, memory_mib)
    lacks = {
        "has a public address: modify it to be private": instance.get("publicly_accessible"),
        "is not encrypted, which cannot be changed: restore an encrypted copy of a snapshot, and adopt that": not (
            instance.get("storage_encrypted")
        ),
        "has no backups: set a retention period of at least one day": not instance.get("backup_retention_period"),
        "has no deletion protection: turn it on": not instance.get("deletion_protection"),
        f"accepts connections without TLS: set {engine.tls_parameter} to 1 in its parameter group": (
            parameters.get(engine.tls_parameter, "0").upper() not in engine.tls_values
        ),
        f"has max_connections {stated}, which is {real} at most: ask the server ({engine.max_connections_query})": (
            not stated.isdigit()
        ),
    }
    return [f"{name} {text_of}" for text_of, true in lacks.items() if true]
