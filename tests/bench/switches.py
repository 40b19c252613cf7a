# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Measure what users notice of switches: .venv/bin/python tests/bench/switches.py

800 requests/s over 50 keep-alive connections, 30 % of them POST with a body, one in a hundred of half a second, go
through a real front to real Node.js processes while these are replaced in several ways. Nothing is retried.
Latencies are milliseconds beyond the service time that a request asks for. About five minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "collections")]

from tests.faults.front import Front  # noqa: E402
from tests.faults.load import Process, Switch, first_answer, late_answers  # noqa: E402

LOAD = {"rate": 800, "connections": 50, "post": 0.3, "service_ms": 4, "slow": 0.01, "slow_ms": 500, "seconds": 600}
EVERY = 2.6


class Case(NamedTuple):
    """A way of replacing a process: `act` gets the front and the name of the next release."""

    name: str
    switches: int
    act: Callable[[Front, str], Switch | None]
    edge: bool = False


CASES = (
    Case("nothing", 10, lambda front, new: None),
    Case("flag, 1 s drain", 50, lambda front, new: front.replace(new, front.flag, 1)),
    Case("flag, 1 s drain, old dies abruptly", 20, lambda front, new: front.replace(new, front.flag, 1, abrupt=True)),
    Case("flag, 1 s drain, through edge and TLS", 20, lambda front, new: front.replace(new, front.flag, 1), edge=True),
    Case("restart in place", 5, lambda front, new: front.restart(new)),
    Case("reload, old stopped at once", 5, lambda front, new: front.replace(new, front.reload, 0)),
    Case("reload, 1 s drain", 5, lambda front, new: front.replace(new, front.reload, 1)),
)
COLUMNS = {
    "switches": "switches",
    "requests": "requests",
    "failed": "failed",
    "late": "late old",
    "first": "first new",
    "p50_ms": "p50",
    "p99_ms": "p99",
    "worst_ms": "worst",
    "longest_stall_ms": "stall",
    "generator_behind_worst_ms": "behind",
}


def measure(case: Case, path: Path) -> dict[str, Any]:
    """Return the figures of one way."""
    switches: list[Switch] = []
    with Front(path, edge=case.edge) as front:
        front.start("blue", "release-0")
        with Process(path / "load.json", **front.target, **LOAD) as load:
            began = time.monotonic()
            for number in range(1, case.switches + 1):
                if switch := case.act(front, f"release-{number}"):
                    switches.append(switch)
                time.sleep(max(0.0, began + number * EVERY - time.monotonic()))
            figures, samples = load.finish()
    firsts = [first_answer(samples, switch) * 1000 for switch in switches]
    return {
        **figures,
        "switches": len(switches),
        "late": late_answers(samples, switches),
        "first": f"{min(firsts):.0f}-{max(firsts):.0f}" if firsts else "",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1, help="0.1 makes a tenth of the switches")
    parser.add_argument("--only", default="", metavar="TEXT", help="the ways whose names hold this")
    options = parser.parse_args()
    print(f"{'':38}" + "".join(f"{title:>10}" for title in COLUMNS.values()))
    lost = []
    for case in (case for case in CASES if options.only in case.name):
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(case._replace(switches=max(2, round(case.switches * options.scale))), Path(folder))
        print(f"{case.name:38}" + "".join(f"{figures[key]:>10}" for key in COLUMNS), flush=True)
        kinds = ", ".join(f"{count} {kind}" for kind, count in figures["failures"].items())
        lost += [f"{case.name}: {kinds}"] if kinds else []
        if not figures["kept_up"]:
            lost.append(f"{case.name}: the generator fell behind, so its latencies mean nothing")
    print("\nFailures by kind:", *lost, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
