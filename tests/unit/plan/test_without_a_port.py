# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A service without a port, planned: no front, no slots to connect to, and a database that fewer connect to."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values

from .conftest import Stack


def planned(**changes: Any) -> dict[str, Any]:
    entry = {"kind": "node_worker", "needs": ["database", "api"], **changes}
    stack = Stack().set("c.services.mails", entry).set("h.api-1.services", ["api", "mails"])
    return dict(stack.plan())


def test_it_is_planned_from_its_kind_alone() -> None:
    mails = planned()["services"]["mails"]
    assert (mails["port"], mails["slots"], mails["url"]) == (None, {"blue": 0, "green": 0}, None)
    assert mails["start"] == ["node", "dist/main.js"]
    assert (mails["handover"], mails["drain"], mails["hold"]) == ("stop-first", 30, 0)
    assert mails["health"]["type"] == "running"
    assert {"PORT", "HOST", "KEEP_ALIVE_TIMEOUT"}.isdisjoint(mails["environment"])
    assert mails["environment"]["API_INTERNAL_URL"] == "http://127.0.0.1:33001"


@pytest.mark.parametrize("handover, processes", [("stop-first", 1), ("overlap", 2)])
def test_the_budget_counts_the_processes_that_run_at_once(handover: str, processes: int) -> None:
    lines = planned(handover=handover)["budget"]["database"]["lines"]
    assert {line["service"]: line["processes"] for line in lines} == {"api": 4, "mails": processes}


def test_what_runs_by_a_schedule_is_planned_from_its_times_alone() -> None:
    nightly = planned(kind="node_job", schedule="*-*-* 03:00 Asia/Seoul")
    mails = nightly["services"]["mails"]
    assert (mails["schedule"], mails["handover"], mails["timeout"]) == ("*-*-* 03:00 Asia/Seoul", "schedule", 3600)
    assert mails["health"]["type"] == "none" and mails["process_pattern"] == ""
    lines = nightly["budget"]["database"]["lines"]
    assert {line["service"]: line["processes"] for line in lines} == {"api": 4, "mails": 1}


def test_of_several_hosts_one_has_the_timer() -> None:
    entry = {"kind": "node_job", "schedule": "hourly"}
    stack = Stack().set("c.services.mails", entry)
    for host in ("api-1", "api-2"):
        stack.set(f"h.{host}.services", ["api", "mails"])
    (notice,) = [text for text in stack.plan()["notices"] if text.startswith("services.mails")]
    assert "it runs on api-1 only" in notice and "moves the timer to api-2" in notice


@pytest.mark.parametrize(
    "schedule, hours",
    [
        ("hourly", 1), ("daily", 24), ("*:0/15", 1), ("*-*-* 03:00:00", 24), ("03:00 Asia/Seoul", 24),
        ("*-*-* 0/6:00", 6), ("*-*-* 08,20:30", 24), ("weekly", 0), ("Mon..Fri 08:30", 0), ("*-*-01 00:00", 0),
    ],
)  # fmt: skip
def test_how_often_it_runs_where_that_is_plain(schedule: str, hours: int) -> None:
    assert values.hours_between(schedule) == hours


@pytest.mark.parametrize(
    "stated, checked",
    [
        ({"running": 9}, {"type": "running", "running": 9}),
        ({"file": 30}, {"type": "file", "file": 30}),
        ({"command": "node dist/health.js -q"}, {"type": "command", "command": ["node", "dist/health.js", "-q"]}),
    ],
)
def test_it_is_checked_without_a_port(stated: dict[str, Any], checked: dict[str, Any]) -> None:
    settings = {"status": [], "interval": 1, "timeout": 2, "start_period": 60}
    assert planned(health=stated)["services"]["mails"]["health"] == {**checked, **settings}
