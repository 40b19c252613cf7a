# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Measure validation and planning of a large platform: python3 tests/bench/plan.py

Prints milliseconds for reading and checking, and for the plan, best of five; processor time is what a machine without
other work needs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "collections"))

from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogues
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans

SERVICES, HOSTS = 500, 1000
KINDS = ("nestjs_api", "nextjs", "yjs_websocket", "static_frontend")


def large(services: int = SERVICES, hosts: int = HOSTS) -> tuple[Any, Any, Any]:
    """Return catalogue, environment and hosts of a platform without mistakes."""
    entries: dict[str, Any] = {}
    for number in range(services):
        kind = KINDS[number % len(KINDS)]
        calls = [f"s{other}" for other in range(max(0, number - 3), number)]
        entry: dict[str, Any] = {
            "kind": kind,
            "port": 3000 + number,
            "health": "/health",
            "public": [{"host": f"s{number}"}],
            "needs": calls,
            "build": {"source": f"../s{number}", "environment": {"A": "${self.url}"}},
        }
        if kind != "static_frontend":
            entry["needs"] = [*calls, "database"]
            entry["pool"] = 1
            entry["environment"] = {
                "URL": "${database.url}",
                **{f"V{index}": f"${{{name}.url}}" for index, name in enumerate(calls)},
            }
        entries[f"s{number}"] = entry
    environment = {
        "name": "production",
        "domain": "example.com",
        "region": "ap-northeast-2",
        "tls": {"mode": "load_balancer", "trusted": ["10.0.0.0/8"]},
        "databases": {
            "database": {
                "host": "db.internal",
                "name": "app",
                "user": "app",
                "password": {"ssm": "/database"},
                "max_connections": 100000,
            }
        },
    }
    machines = {
        f"host-{number}": {
            "address": f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}",
            "services": [f"s{(number + 250 * shift) % services}" for shift in range(2)]
            + (["edge"] if number < 3 else []),
        }
        for number in range(hosts)
    }
    return {"services": entries, "databases": {"database": {}}}, environment, machines


def measure(rounds: int = 5, clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """Return the seconds of checking and of planning, the best of several rounds."""
    stack = large()
    checking, planning = [], []
    for _round in range(rounds):
        start = clock()
        model = catalogues.load(*stack)
        middle = clock()
        plans.plan(model)
        checking.append(middle - start)
        planning.append(clock() - middle)
    return min(checking), min(planning)


if __name__ == "__main__":
    check, plan = measure()
    processor = sum(measure(clock=time.process_time))
    print(
        f"{SERVICES} services over {HOSTS} hosts: check {check * 1000:.0f} ms, plan {plan * 1000:.0f} ms, "
        f"together {(check + plan) * 1000:.0f} ms ({processor * 1000:.0f} ms of processor time)"
    )
