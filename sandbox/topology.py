"""Which hosts a sandbox has, and which services each carries."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.engines import ENGINES
from sandbox.errors import SandboxError
from sandbox.image import NEXT_SUITE, SUITE
from sandbox.paths import TOPOLOGIES
from sandbox.plan import CATALOGUE

KEYS = ("environment", "domain", "subnet", "catalogue", "suite", "hosts")
SUITES = (SUITE, NEXT_SUITE)
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
# Names that the sandbox's own containers have on the network.
RESERVED = ("aws", "database", "localhost", *ENGINES)


@dataclass(frozen=True)
class Host:
    """One host: `name` is its host name and Name tag, `services` its Services tag."""

    name: str
    services: tuple[str, ...] = ()


@dataclass(frozen=True)
class Topology:
    """A checked topology file.

    catalogue: whose databases and stores run beside the hosts. suite: the Debian release of the hosts.
    """

    environment: str
    domain: str
    hosts: tuple[Host, ...]
    subnet: ipaddress.IPv4Network | None = None
    catalogue: Path = CATALOGUE
    suite: str = SUITE


def parse(data: Any, origin: str, name: str, directory: Path = TOPOLOGIES) -> Topology:
    """Check the content of a topology file.

    :param data: what the YAML file holds.
    :param origin: the file's name, for messages.
    :param name: the sandbox's name; environment and domain default to it.
    :param directory: where the file is, to which the path of its catalogue is relative.
    :raises SandboxError: with every mistake, one a line.
    """
    if not isinstance(data, Mapping):
        raise SandboxError(f"{origin}: the topology must be a mapping with the key hosts, not {data!r}.")
    mistakes = [f"{key}: unknown key; a topology has {', '.join(KEYS)}." for key in data if key not in KEYS]
    environment = _label(data.get("environment", name), "environment", mistakes)
    domain = _domain(data.get("domain", f"{environment}.test"), mistakes)
    subnet = _subnet(data.get("subnet"), mistakes)
    hosts = _hosts(data.get("hosts"), mistakes)
    catalogue = _catalogue(data.get("catalogue"), directory, mistakes)
    suite = data.get("suite", SUITE)
    if suite not in SUITES:
        mistakes.append(f"suite: {suite!r} is not a release of Debian that hosts can have; use {' or '.join(SUITES)}.")
    if subnet and len(hosts) > subnet.num_addresses - 16:
        mistakes.append(f"subnet: {subnet} has no room for {len(hosts)} hosts; use a larger one.")
    if mistakes:
        raise SandboxError("\n".join(f"{origin}: {mistake}" for mistake in mistakes))
    return Topology(environment, domain, hosts, subnet, catalogue, suite)


def _label(value: Any, key: str, mistakes: list[str]) -> str:
    if isinstance(value, str) and LABEL.match(value):
        return value
    mistakes.append(f"{key}: {value!r} is not a name; use lower-case letters, digits and hyphens.")
    return ""


def _domain(value: Any, mistakes: list[str]) -> str:
    if isinstance(value, str) and "." in value and all(LABEL.match(label) for label in value.split(".")):
        return value
    mistakes.append(f"domain: {value!r} is not a domain; use a name such as sandbox.test.")
    return ""


def _subnet(value: Any, mistakes: list[str]) -> ipaddress.IPv4Network | None:
    if value is None:
        return None
    try:
        subnet = ipaddress.IPv4Network(value)
    except ValueError as error:
        mistakes.append(f"subnet: {error}; use a network such as 10.80.0.0/24.")
        return None
    if not subnet.is_private or not 16 <= subnet.prefixlen <= 27:
        mistakes.append(f"subnet: {subnet} is not usable; use a private network between /16 and /27.")
        return None
    return subnet


def _catalogue(value: Any, directory: Path, mistakes: list[str]) -> Path:
    if value is None:
        return CATALOGUE
    if isinstance(value, str) and (directory / value).is_file():
        return directory / value
    mistakes.append(f"catalogue: {value!r} is not a file; use its path, relative to {directory}.")
    return CATALOGUE


def _hosts(value: Any, mistakes: list[str]) -> tuple[Host, ...]:
    if not isinstance(value, Mapping) or not value:
        mistakes.append(f"hosts: {value!r} must map host names to lists of services, such as api-1: [api].")
        return ()
    hosts = []
    for name, services in value.items():
        if not isinstance(name, str) or not LABEL.match(name):
            mistakes.append(f"hosts: {name!r} is not a host name; use lower-case letters, digits and hyphens.")
            continue
        if name in RESERVED:
            mistakes.append(f"hosts.{name}: the sandbox uses this name itself; choose another.")
            continue
        services = [] if services is None else services
        if not isinstance(services, list) or not all(isinstance(item, str) and item for item in services):
            mistakes.append(f"hosts.{name}: {services!r} is not a list of services, such as [api, edge].")
            continue
        wrong = [item for item in services if "," in item]
        repeated = sorted({item for item in services if services.count(item) > 1})
        if wrong or repeated:
            mistakes.append(
                f"hosts.{name}: {(wrong or repeated)[0]!r} is listed twice or contains a comma; name each once."
            )
            continue
        hosts.append(Host(name, tuple(services)))
    return tuple(hosts)
