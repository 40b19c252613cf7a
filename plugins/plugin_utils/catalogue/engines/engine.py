# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What defines a database engine. Other code reads these attributes; only an engine's own file names the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Driver:
    """How an application's driver is told to verify the server's certificate.

    options: the query of the URL; {ca} is the file with the authorities on the host.
    node: the driver cannot be given that file, so Node.js itself has to trust these authorities.
    """

    options: str
    node: bool = False


# For what takes nothing from an address: Node.js has the authorities, and the application only asks for TLS.
BARE = {"node": Driver("", node=True)}


@dataclass(frozen=True)
class Server:
    """What services connect to, of whatever engine.

    name: its name in the catalogue.
    title: its display name.
    port: the default port.
    scheme: the scheme of the URL that applications get.
    drivers: by name; the first is the default.
    """

    section: ClassVar[str]
    facts: ClassVar[tuple[str, ...]]

    name: str
    title: str
    port: int
    scheme: str
    drivers: Mapping[str, Driver]

    def url(self, login: str, host: str, port: str, schema: str, tls: bool) -> str:
        """Return the address without the driver's options; `login` is user:password, percent-encoded, or empty."""
        raise NotImplementedError


@dataclass(frozen=True)
class Store(Server):
    """How stores of one engine, which keep values by key, are addressed and created on ElastiCache.

    version: the default version of created stores; its first number names the family of parameter groups.
    parameters: set in every created parameter group.
    """

    section = "stores"
    facts = ("host", "port", "user", "password", "url", "ca_file")

    version: str
    parameters: Mapping[str, str]

    def url(self, login: str, host: str, port: str, schema: str, tls: bool) -> str:
        """Return scheme://user:password@host:port; `login` may be empty."""
        return f"{self.scheme}{'s' if tls else ''}://{login + '@' if login else ''}{host}:{port}"


@dataclass(frozen=True)
class Engine(Server):
    """How databases of one engine are addressed, created on RDS, checked, and opened by a person.

    rds: its name on RDS, with which the families of parameter groups begin.
    version: the default version of created instances; its first `family_parts` numbers name the family of parameter
    groups on RDS.
    master: the administrator of created instances.
    logs: the logs that RDS exports to CloudWatch.
    parameters: set in every created parameter group.
    tls_parameter: the parameter that rejects connections without TLS, if its value is in `tls_values`.
    max_connections_query: the statement that returns how many connections the server allows.
    schema_query: the statement that describes the schema: one row (t, d) per column, index and constraint, where t is
    the table and d the description, in any order. It is asked by <name>.cjs in this folder, with the application's own
    driver. Empty if schemas of the engine are not compared.
    bytes_per_connection: RDS allows one connection per this many bytes of the instance class's memory.
    client: the command with which a person connects to 127.0.0.1, line by line. {port}, {user} and {schema} are filled
    in, quoted for a shell.
    """

    section = "databases"
    facts = ("host", "port", "name", "user", "password", "url", "reader_host", "reader_url", "ca_file")

    rds: str
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
    schema_query: str = ""

    def url(self, login: str, host: str, port: str, schema: str, tls: bool) -> str:
        """Return scheme://user:password@host:port/name, without the driver's options."""
        return f"{self.scheme}://{login}@{host}:{port}/{schema}"

    def family(self, version: str) -> str:
        """Return the RDS family of parameter groups for a version such as 8.4.3."""
        return self.rds + ".".join(version.split(".")[: self.family_parts])
