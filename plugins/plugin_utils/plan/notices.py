# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What an operator should know of a plan that is valid all the same. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model


def notices(model: Model) -> list[str]:
    """Return one line for each thing to know; none contains a secret."""
    return [*_rotated(model), *_unverified(model), *_addresses(model)]


def _addresses(model: Model) -> Iterator[str]:
    """Of several public addresses, others are told one."""
    for name, service in model.services.items():
        if len(service["public"]) > 1:
            yield (
                f"services.{name}.public: {service['url']} is the first of {len(service['public'])} addresses, "
                f"so it is PUBLIC_URL and ${{{name}.url}}."
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
