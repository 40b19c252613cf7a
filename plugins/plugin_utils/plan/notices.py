# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What an operator should know of a plan that is valid all the same. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.variables import keeps_state


def notices(model: Model) -> list[str]:
    """Return one line for each thing to know; none contains a secret."""
    return [
        *_rotated(model),
        *_unverified(model),
        *_addresses(model),
        *_unshared(model),
        *_one_host(model),
        *_unwatched(model),
    ]


def _one_host(model: Model) -> Iterator[str]:
    """Of several hosts, one has the timer."""
    for name in model.services:
        hosts = model.placement.get(name, [])
        if len(hosts) > 1 and model.is_scheduled(name):
            yield (
                f"services.{name}: it runs on {hosts[0]} only, the first of its hosts, so that no two run at once. "
                f"If that host is lost, the next deployment without it moves the timer to {hosts[1]}."
            )


def _unwatched(model: Model) -> Iterator[str]:
    """No alarm can tell that a run is missing if nobody says how often there has to be one."""
    for name, service in model.services.items():
        if model.environment["aws"] is not None and model.is_scheduled(name) and not service["overdue"]:
            yield (
                f"services.{name}.overdue: no alarm tells when '{service['schedule']}' is missed. Write the hours (at "
                "most 168) within which a run has to end, or 0 to go without."
            )


def _addresses(model: Model) -> Iterator[str]:
    """Of several public addresses, others are told one."""
    for name, service in model.services.items():
        if len(service["public"]) > 1:
            yield (
                f"services.{name}.public: {service['url']} is the first of {len(service['public'])} addresses, "
                f"so it is PUBLIC_URL and ${{{name}.url}}."
            )


def _unshared(model: Model) -> Iterator[str]:
    """Files of a service are on each of its hosts alone."""
    for name, service in model.services.items():
        hosts = model.placement.get(name, [])
        if len(hosts) > 1 and keeps_state(model, name):
            key = "write" if service["write"] else "state"
            yield (
                f"services.{name}.{key}: {', '.join(hosts)} do not share these files, so that a file that one of them "
                "writes is missing on the others. Keep what users upload in S3 (docs/catalogue.md, Files that outlive "
                "releases), or run the service on one host."
            )


def _rotated(model: Model) -> Iterator[str]:
    """Passwords that RDS manages change without a deployment."""
    root = "platform_environment"
    references = {
        **{
            f"{root}.{section}.{name}.password": access["password"]
            for section in ("databases", "stores")
            for name, access in model.environment[section].items()
        },
        **{f"{root}.secrets.{name}": reference for name, reference in model.environment["secrets"].items()},
    }
    for path, reference in references.items():
        if values.is_managed(reference):
            yield (
                f"{path}: RDS rotates {reference['secretsmanager']} every 7 days, and until the next deployment new "
                "connections are refused. Let the services log in as a database user of their own "
                "(docs/aws.md, Secrets that are rotated)."
            )


def _unverified(model: Model) -> Iterator[str]:
    """RDS accepts connections with TLS only, and clients know its authorities from a file."""
    made = [name for name in model.databases if not model.environment["databases"][name]["tls"]]
    if model.environment["aws"] is not None and made:
        yield (
            f"platform_environment.database_ca is not set: {', '.join(made)} accept connections with TLS only, and "
            "the services cannot verify the certificates (docs/aws.md, Databases)."
        )
