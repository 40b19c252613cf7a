"""Addresses: which subnet a sandbox gets, and which host which address."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import subprocess
from collections.abc import Iterable, Mapping

from sandbox.errors import SandboxError
from sandbox.paths import DEFAULT_NAME

POOL = ipaddress.IPv4Network("10.80.0.0/16")
PREFIX = 24

# Offsets in the subnet. .1 is the bridge on the machine.
AWS = 2
# The databases and stores follow.
DATABASE = 3
FIRST_HOST = 11

Network = ipaddress.IPv4Network


def preferred(name: str) -> Network:
    """The subnet that `name` gets when nothing is in the way: the same on every machine."""
    subnets = list(POOL.subnets(new_prefix=PREFIX))
    if name == DEFAULT_NAME:
        return subnets[0]
    return subnets[1 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % (len(subnets) - 1)]


def choose(name: str, wanted: Network | None, taken: Mapping[Network, str]) -> Network:
    """The subnet for a new sandbox.

    :param wanted: what the topology asks for; it is taken or refused.
    :param taken: networks in use on this machine, each with what uses it.
    :raises SandboxError: when the wanted subnet, or the whole pool, is in use.
    """
    if wanted is not None:
        refuse_overlap(wanted, taken)
        return wanted
    first = preferred(name)
    subnets = list(POOL.subnets(new_prefix=PREFIX))
    start = subnets.index(first)
    for subnet in subnets[start:] + subnets[:start]:
        if not any(subnet.overlaps(network) for network in taken):
            return subnet
    raise SandboxError(f"No free network is left in {POOL}. Remove sandboxes, or set `subnet` in the topology file.")


def refuse_overlap(subnet: Network, taken: Mapping[Network, str]) -> None:
    """Raise a SandboxError when `subnet` overlaps something that is in use."""
    for network, user in taken.items():
        if subnet.overlaps(network):
            raise SandboxError(
                f"The sandbox's network {subnet} is in use: {user} has {network}. "
                "Free it, or set `subnet` in the topology file to a network that is not used here."
            )


def allocate(subnet: Network, names: Iterable[str], previous: Mapping[str, str]) -> dict[str, str]:
    """An address for each host. A host keeps the one it had."""
    names = list(names)
    kept = {name: previous[name] for name in names if name in previous}
    free = (str(address) for address in list(subnet.hosts())[FIRST_HOST - 1 :] if str(address) not in kept.values())
    return {name: kept[name] if name in kept else next(free) for name in names}


def address(subnet: Network, offset: int) -> str:
    """The address at `offset` in the subnet."""
    return str(subnet.network_address + offset)


def taken_networks(routes: Iterable[Mapping[str, str]], own_bridge: str | None) -> dict[Network, str]:
    """What `ip -json route show table all` says is in use, without the sandbox's own bridge."""
    taken: dict[Network, str] = {}
    for route in routes:
        destination, device = route.get("dst", "default"), route.get("dev", "another route")
        if destination == "default" or device in (own_bridge, "lo"):
            continue
        try:
            network = Network(destination, strict=False)
        except ValueError:
            continue
        if network.prefixlen and not network.is_multicast:
            taken[network] = device
    return taken


def read_routes() -> list[dict[str, str]]:
    """The machine's IPv4 routes, as `ip` prints them."""
    result = subprocess.run(
        ["ip", "-4", "-json", "route", "show", "table", "all"], check=True, capture_output=True, text=True
    )
    routes: list[dict[str, str]] = json.loads(result.stdout or "[]")
    return routes
