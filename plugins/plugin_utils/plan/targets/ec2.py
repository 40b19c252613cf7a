# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Services on EC2 hosts: ports, addresses, and what each host runs. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model

# Added to a service's port: its slots on the loopback, and its internal address on hosts that call it.
BLUE, GREEN, INTERNAL = 10000, 20000, 30000

HIGHEST = 65535

EDGE_PORTS = (80, 443)
#: What every host has, beside its services; the second one by default of the role nginx.
OWN_PORTS = {22: "SSH", 8099: "nginx's status page"}
#: From these ports Linux gives outgoing connections theirs, unless some are reserved.
EPHEMERAL = range(32768, 61000)


def slots(port: int | None) -> dict[str, int]:
    """Return the loopback ports of a service's two slots; 0 if it listens on nothing."""
    return {"blue": BLUE + port, "green": GREEN + port} if port else {"blue": 0, "green": 0}


def addresses(model: Model, name: str) -> list[str]:
    """Return the private addresses of a service's hosts."""
    hosts = model.hosts or {}
    return [hosts[host]["address"] for host in model.placement.get(name, []) if hosts[host]["address"]]


def servers(model: Model, name: str) -> list[str]:
    """Return a service's fronts as address:port."""
    port = model.services[name]["port"]
    return [f"{address}:{port}" for address in addresses(model, name)] if port else []


def called_services(model: Model, host_services: Iterable[str]) -> list[str]:
    """Return the services that processes on a host call, each once."""
    called: dict[str, None] = {}
    for name in host_services:
        if model.is_process(name):
            for other in model.services[name]["needs"]:
                if other in model.services:
                    called[other] = None
    return list(called)


def upstreams(model: Model) -> dict[str, list[str]]:
    """Return, for each public service, its fronts as private address and port."""
    return {name: servers(model, name) for name, service in model.services.items() if service["public"]}


def beside_edge(model: Model) -> list[str]:
    """Return the services whose front shares an nginx with the edge, which a renewed certificate reloads."""
    edges = {host for host, entry in (model.hosts or {}).items() if "edge" in entry["services"]}
    return [name for name in model.services if edges & set(model.placement.get(name, []))]


def listeners(model: Model, names: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """Yield service, port and purpose of each listener that a host has for these services of its own."""
    names = list(names)
    for name in names:
        port = model.services[name]["port"]
        if not port:
            continue
        yield name, port, f"the front of '{name}'"
        if model.is_process(name):
            for slot, slot_port in slots(port).items():
                yield name, slot_port, f"the {slot} slot of '{name}'"
    for name in called_services(model, names):
        if model.services[name]["port"]:
            yield name, INTERNAL + model.services[name]["port"], f"the internal address of '{name}'"


def count(group: Mapping[str, Any]) -> int:
    """Return how many hosts of a group to create: one by default, none if it has adopted hosts."""
    stated: int | None = group["count"]
    return stated if stated is not None else 0 if group["adopt"] else 1


def size(group: Mapping[str, Any]) -> int:
    """Return how many hosts a group has in the end."""
    return count(group) + len(group["adopt"] or [])


def intended(model: Model) -> int:
    """Return how many hosts this environment is described to have; 0 if its hosts are created elsewhere."""
    groups = (model.environment["aws"] or {}).get("hosts") or {}
    return sum(size(group) for group in groups.values())


def host_plans(model: Model) -> dict[str, dict[str, Any]]:
    """Return what each host runs."""
    plans: dict[str, dict[str, Any]] = {}
    fronts = {name: servers(model, name) for name in model.services}
    reloaded = beside_edge(model)
    for host, entry in (model.hosts or {}).items():
        names = [name for name in entry["services"] if name in model.services]
        plans[host] = {
            "address": entry["address"],
            "services": names,
            # Everything else is reported.
            "described": [*names, *(["edge"] if "edge" in entry["services"] else [])],
            "edge": "edge" in entry["services"],
            # An outgoing connection that had one of these ports would keep its listener from starting.
            "reserved_ports": sorted({port for _name, port, _what in listeners(model, names) if port in EPHEMERAL}),
            "node_versions": sorted({model.services[name]["node"] for name in names if model.is_process(name)}),
            "internal": [
                {
                    "service": other,
                    "port": INTERNAL + model.services[other]["port"],
                    "servers": fronts[other],
                    "timeout": model.services[other]["timeout"],
                    "keepalive": other not in reloaded,
                }
                for other in called_services(model, names)
            ],
        }
    return plans


def internal_url(port: int | None, prefix: str = "") -> str:
    """Return the address at which processes on the same host call a service; empty if its port is unknown."""
    return f"http://127.0.0.1:{INTERNAL + port}{prefix}" if port else ""
