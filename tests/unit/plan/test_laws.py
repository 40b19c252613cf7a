# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Laws that hold for every catalogue."""

from __future__ import annotations

import copy
import json
from collections import Counter
from itertools import pairwise
from typing import Any

from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogues
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import order
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets import ec2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .conftest import CATALOGUE, ENVIRONMENT, HOSTS

KINDS = ["nestjs_api", "static_frontend", "nextjs", "yjs_websocket"]
# Few ports, some of them in each other's slots, so that collisions are common.
PORTS = [80, 3001, 3002, 3003, 8080, 13001, 23002, 33003]


@st.composite
def stacks(draw: Any, sound: bool = False) -> tuple[Any, Any, Any]:
    """A few services that need each other at random, on a few hosts. Sound ones have no mistake."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 6)))]
    services: dict[str, Any] = {}
    for number, name in enumerate(names):
        kind = draw(st.sampled_from(KINDS))
        candidates = names[:number] if sound else names
        service: dict[str, Any] = {
            "kind": kind,
            "port": 3000 + number if sound else draw(st.sampled_from(PORTS)),
            "health": {"tcp": True},
            "needs": draw(st.lists(st.sampled_from(candidates), max_size=2)) if candidates else [],
        }
        if kind != "static_frontend" and draw(st.booleans()):
            service["needs"].append("database")
            service["pool"] = draw(st.integers(1, 2 if sound else 30))
        if draw(st.booleans()):
            path = f"/{number}" if sound else draw(st.sampled_from(["/", "/x"]))
            service["public"] = [{"host": draw(st.sampled_from(["@", "*", "a"])), "path": path}]
        services[name] = service
    hosts: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 4))):
        carried = draw(st.lists(st.sampled_from([*names, "edge"]), unique=True))
        hosts[f"h{number}"] = {"address": f"10.0.0.{number}", "services": carried}
    if sound:
        missing = {"edge", *names} - {name for host in hosts.values() for name in host["services"]}
        hosts["h0"]["services"] += sorted(missing)
    return {"services": services, "databases": {"database": {}}}, ENVIRONMENT, hosts


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefghz"), max_size=3)))
def test_order_respects_needs_and_loses_nothing(needs: dict[str, list[str]]) -> None:
    batches, cycles = order.batches_and_cycles(needs)
    place = {name: number for number, batch in enumerate(batches) for name in batch}
    assert sum(map(len, batches)) == len(place), "nothing is deployed twice"
    for name, number in place.items():
        assert all(place[other] < number for other in needs[name] if other in needs)
    assert bool(cycles) == (set(place) != set(needs)), "what is left out is left out because of a cycle"
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert all(after in needs[before] for before, after in pairwise(cycle))


@given(stacks())
def test_nothing_listens_twice_on_a_port_of_a_host(stack: tuple[Any, Any, Any]) -> None:
    model, problems = catalogues.read(*stack)
    assume(all(service["port"] for service in model.services.values()))
    collisions = False
    for host in ec2.host_plans(model).values():
        ports = [22, 80, 443] if host["edge"] else [22]
        for name in host["services"]:
            service = model.services[name]
            ports.append(service["port"])
            if service["kind"] != "static_frontend":
                ports += [10000 + service["port"], 20000 + service["port"]]
        ports += [entry["port"] for entry in host["internal"]]
        collisions = collisions or max(Counter(ports).values()) > 1
    assert collisions == any(item.problem.startswith("on host") for item in problems)


@given(stacks())
def test_the_budget_is_the_sum_of_the_pools(stack: tuple[Any, Any, Any]) -> None:
    model, problems = catalogues.read(*stack)
    budget = plans.connection_budget(model)["database"]
    running = sum(
        2 * stack[0]["services"][name]["pool"]
        for host in stack[2].values()
        for name in host["services"]
        if "database" in stack[0]["services"].get(name, {}).get("needs", [])
    )
    assert budget["needed"] == running == sum(line["connections"] for line in budget["lines"])
    assert (running > 120) == any("connections to 'database'" in item.problem for item in problems)


@given(stacks(sound=True))
def test_an_accepted_plan_is_consistent(stack: tuple[Any, Any, Any]) -> None:
    model, problems = catalogues.read(*stack)
    assert problems == []
    plan = plans.plan(model)
    services, hosts = plan["services"], plan["hosts"]
    assert sorted(name for batch in plan["batches"] for name in batch) == sorted(services)
    for spec in services.values():
        assert spec["addresses"] == [hosts[host]["address"] for host in spec["hosts"]] != []
    for host in hosts.values():
        for entry in host["internal"]:
            spec = services[entry["service"]]
            assert entry["servers"] == [f"{address}:{spec['port']}" for address in spec["addresses"]]
    located = [
        (host["server_name"], location["path"])
        for host in plan["edge"]["virtual_hosts"]
        for location in host["locations"]
    ]
    assert len(located) == len(set(located))
    assert set(plan["edge"]["upstreams"]) == {name for name, spec in services.items() if spec["public"]}


JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["api", "database", "${api.url}", "${", "*", "@", "/", "a.b", "\ud800"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in nested data."""
    found = [path]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        found += places(item, (*path, key))
    return found


WHOLE = {"catalogue": CATALOGUE, "environment": ENVIRONMENT, "hosts": HOSTS}
PLACES = [path for path in places(WHOLE) if path]


@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK, st.booleans()), min_size=1, max_size=3))
@settings(max_examples=150)
def test_whatever_stands_in_the_input_is_accepted_or_refused(changes: list[tuple[Any, Any, bool]]) -> None:
    """Random damage never raises anything but the proper error, and what is accepted can be planned."""
    whole: Any = copy.deepcopy(WHOLE)
    for path, value, remove in changes:
        target = whole
        for key in path[:-1]:
            try:
                target = target[key]
            except (KeyError, IndexError, TypeError):
                break
        if isinstance(target, dict):
            target[path[-1]] = value
            if remove and len(path) > 1:
                del target[path[-1]]
        elif isinstance(target, list) and isinstance(path[-1], int) and path[-1] < len(target):
            target[path[-1]] = value
    model, problems = catalogues.read(whole["catalogue"], whole["environment"], whole["hosts"])
    for item in problems:
        assert all(isinstance(part, str) for part in item)
        assert item.problem
        assert item.fix
        assert len(item.value) <= 100
    assert catalogues.describe(problems)
    if not problems:
        json.dumps(plans.plan(model))


def test_a_number_too_long_to_print_is_refused() -> None:
    whole: Any = copy.deepcopy(WHOLE)
    whole["catalogue"]["services"]["api"]["port"] = 10**5000
    whole["catalogue"]["services"]["api"]["environment"] = {"A": 10**5000}
    problems = catalogues.read(whole["catalogue"], whole["environment"], whole["hosts"])[1]
    assert [item.path for item in problems] == ["services.api.port", "services.api.environment.A"]


def test_data_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert catalogues.read({"services": loop}, ENVIRONMENT, HOSTS)[1]
    assert catalogues.read({**CATALOGUE, "journeys": loop}, ENVIRONMENT, HOSTS)[1]
