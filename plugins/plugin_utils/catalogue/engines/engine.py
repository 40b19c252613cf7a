# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a database engine says of itself. Everything else asks an engine; only its own file names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Engine:
    """How databases of one engine are addressed, made on RDS, checked, and reached by a person.

    name: what the catalogue and RDS call it.
    title: what people call it.
    port: where the catalogue states none.
    scheme: of the address that applications get, such as scheme://user:password@host:port/name.
    version: of instances that are made, where the environment states none; `family_parts` of its numbers name RDS'
    family of parameter groups.
    master: the administrator of instances that are made.
    logs: what RDS sends to CloudWatch.
    parameters: of every parameter group that is made.
    tls_parameter: the parameter that refuses connections without TLS; true where it is in `tls_values`.
    max_connections_query: the statement that says how many connections the server allows.
    bytes_per_connection: RDS allows one connection for so many bytes of the instance class' memory.
    client: the command with which a person connects to 127.0.0.1, line by line. {port}, {user} and {schema} are put
    in, quoted for a shell.
    """

    name: str
    title: str
    port: int
    scheme: str
    version: str
    family_parts: int
    master: str
    logs: tuple[str, ...]
    parameters: Mapping[str, str]
    tls_parameter: str
    tls_values: tuple[str, ...]
    max_connections_query: str
    bytes_per_connection: int
    client: tuple[str, ...]

    def family(self, version: str) -> str:
        """Return RDS' family of parameter groups for a version such as 8.4.3."""
        return self.name + ".".join(version.split(".")[: self.family_parts])
