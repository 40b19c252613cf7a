"""Which subnet and which addresses a sandbox gets."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import network
from sandbox.errors import SandboxError

SUBNET = IPv4Network("10.80.7.0/24")


def test_the_default_sandbox_has_a_network_that_can_be_written_down() -> None:
    assert network.choose("sandbox", None, {}) == IPv4Network("10.80.0.0/24")


def test_a_name_leads_to_the_same_network_each_time() -> None:
    assert network.choose("mine", None, {}) == network.choose("mine", None, {}) != network.choose("yours", None, {})


def test_the_next_free_network_is_taken_where_the_first_is_in_use() -> None:
    taken = {IPv4Network("10.80.0.0/23"): "eth1"}
    assert network.choose("sandbox", None, taken) == IPv4Network("10.80.2.0/24")


def test_the_search_goes_round_at_the_end_of_the_pool() -> None:
    taken = {net: "x" for net in network.POOL.subnets(new_prefix=24) if net != IPv4Network("10.80.0.0/24")}
    assert network.choose("mine", None, taken) == IPv4Network("10.80.0.0/24")


def test_a_full_pool_is_told() -> None:
    with pytest.raises(SandboxError, match=r"No free network is left in 10\.80\.0\.0/16"):
        network.choose("mine", None, {IPv4Network("10.0.0.0/8"): "vpn0"})


def test_a_wanted_network_is_taken_or_refused_and_never_replaced() -> None:
    wanted = IPv4Network("10.90.0.0/24")
    assert network.choose("mine", wanted, {}) == wanted
    with pytest.raises(SandboxError, match=r"10\.90\.0\.0/24 is in use: vpn0 has 10\.0\.0\.0/8"):
        network.choose("mine", wanted, {IPv4Network("10.0.0.0/8"): "vpn0"})


names = st.lists(st.text("abc-", min_size=1, max_size=4), unique=True, max_size=20)


@given(names, names)
def test_hosts_keep_their_addresses_and_never_share_one(before: list[str], after: list[str]) -> None:
    first = network.allocate(SUBNET, before, {})
    second = network.allocate(SUBNET, after, first)
    assert list(second) == after
    assert len(set(second.values())) == len(after)
    assert all(second[name] == first[name] for name in set(before) & set(after))


def test_hosts_start_above_what_the_sandbox_needs_itself() -> None:
    assert network.allocate(SUBNET, ["a", "b"], {}) == {"a": "10.80.7.11", "b": "10.80.7.12"}
    assert network.address(SUBNET, network.DATABASE) == "10.80.7.3"


def test_a_freed_address_is_given_again_and_those_in_use_are_not() -> None:
    previous = {"a": "10.80.7.11", "b": "10.80.7.12"}
    assert network.allocate(SUBNET, ["c", "b"], previous) == {"c": "10.80.7.11", "b": "10.80.7.12"}


def test_routes_tell_what_is_in_use() -> None:
    routes = [
        {"dst": "default", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"dst": "10.80.0.0/24", "dev": "podman1"},
        {"dst": "10.80.3.0/24", "dev": "podman2"},
        {"dst": "127.0.0.0/8", "dev": "lo"},
        {"dst": "224.0.0.0/4", "dev": "eth0"},
        {"dst": "10.66.0.1", "dev": "wg0"},
        {"type": "unreachable", "dst": "10.77.0.0/16"},
    ]
    assert network.taken_networks(routes, "podman1") == {
        IPv4Network("192.0.2.0/24"): "eth0",
        IPv4Network("10.80.3.0/24"): "podman2",
        IPv4Network("10.66.0.1/32"): "wg0",
        IPv4Network("10.77.0.0/16"): "another route",
    }
