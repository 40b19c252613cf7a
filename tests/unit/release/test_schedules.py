# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What runs by a schedule: one timer on one host, which a release changes only if the times or the host change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import (
    phases,
    releases,
    retirement,
    schedules,
)

from . import test_phases
from .conftest import make_request, make_spec
from .test_phases import Played, release

played, job = test_phases.played, test_phases.job

Make = Callable[..., phases.Job]
JOB: dict[str, Any] = {
    "kind": "node_job",
    "handover": "schedule",
    "schedule": "*-*-* 03:00:00",
    "port": None,
    "slots": {"blue": 0, "green": 0},
    "health": {"type": "none", "status": [], "interval": 1, "timeout": 2, "start_period": 60},
    "timeout": 900,
    "drain": 0,
}
TIMER, LAUNCHER = "fivepointers-orders_run.timer", "fivepointers-orders_run.service"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, host: Path) -> None:
    """Every schedule is one that systemd knows: no systemd runs here."""
    monkeypatch.setattr(schedules, "problem", lambda schedule: "")
    monkeypatch.setattr(schedules, "STAMPS", str(host))


def elsewhere(made: phases.Job) -> phases.Job:
    """Return the job of a host that is no longer the first of its service."""
    return dataclasses.replace(made, wanted=[dataclasses.replace(item, here=False) for item in made.wanted])


def settled(made: phases.Job) -> bool:
    return not releases.plan(made.wanted[0], releases.observe(made.wanted)["orders"]).changed


def schedule(played: Played) -> str:
    path = played.root / "units" / TIMER
    return path.read_text() if path.exists() else ""


def test_a_release_starts_the_timer_and_nothing_else(played: Played, job: Make) -> None:
    first = job("one", **JOB)
    phases.prepare(first)
    first.refresh()
    phases.switch(first)
    assert played.running == set() and not schedule(played)
    assert release(first) and settled(first)
    assert (played.running, played.enabled) == ({TIMER}, {TIMER})
    assert "OnCalendar=*-*-* 03:00:00\n" in schedule(played)
    second = job("two", **JOB)
    played.steps.clear()
    release(second)
    assert settled(second) and played.running == {TIMER}
    assert not [step for step in played.steps if TIMER in str(step)], "what did not change was not touched"


def test_other_times_stop_the_timer_before_the_switch_and_start_it_after_the_commit(played: Played, job: Make) -> None:
    release(job("one", **JOB))
    later = job("one", **{**JOB, "schedule": "*-*-* 04:00:00"})
    phases.prepare(later)
    assert played.running == {TIMER}
    later.refresh()
    phases.switch(later)
    assert (played.running, played.enabled) == (set(), set()) and "03:00" in schedule(played)
    later.refresh()
    phases.take_back(later)
    assert (played.running, played.enabled) == ({TIMER}, {TIMER}) and "03:00" in schedule(played)
    later.refresh()
    release(later)
    assert (played.running, played.enabled) == ({TIMER}, {TIMER}) and "04:00" in schedule(played)
    assert settled(later)


def test_a_host_that_is_no_longer_the_first_gives_its_timer_up_before_another_starts_one(
    played: Played, job: Make
) -> None:
    first = job("one", **JOB)
    release(first)
    gone = elsewhere(first)
    gone.refresh()
    assert gone.plans["orders"].repairs == ("remove its timer: it runs on another host",)
    phases.prepare(gone)
    gone.refresh()
    assert phases.switch(gone) and played.running == set()
    gone.refresh()
    phases.commit(gone)
    assert not schedule(played) and not (played.root / "units" / LAUNCHER).exists() and settled(gone)
    # It is staged here, so that it can come back.
    first.refresh()
    assert not first.candidates()
    phases.commit(first)
    assert played.running == {TIMER} and settled(first)


def test_a_run_that_is_going_on_is_neither_ended_nor_joined(played: Played, job: Make) -> None:
    release(job("one", **JOB))
    release(job("two", **JOB))
    going = "fivepointers-orders@blue.service"
    played.running.add(going)
    with pytest.raises(releases.ReleaseError, match=f"a run is still going on.*sudo systemctl stop {going}"):
        phases.prepare(job("three", **JOB))
    assert played.running == {TIMER, going}
    played.running.discard(going)
    release(job("three", **JOB))


@pytest.mark.parametrize("reboot", [False, True])
def test_a_kill_at_any_step_leaves_one_timer_or_none_and_the_next_run_heals(
    played: Played, job: Make, reboot: bool
) -> None:
    release(job("start", **JOB))
    kill = killed = 0
    while True:
        new = job(f"v{kill}", **{**JOB, "schedule": f"*-*-* 03:{kill % 60:02d}:00"})
        killed += played.killed_at(kill, lambda new=new: release(new))
        complete = len(played.steps) < kill
        if reboot:
            played.running = set(played.enabled)
        assert played.running <= {TIMER}, f"after a kill at step {kill}"
        if kill % 2 and not complete:
            new.refresh()
            phases.take_back(new)
        release(new)
        assert played.running == played.enabled == {TIMER} and settled(new)
        assert f"03:{kill % 60:02d}:00" in schedule(played)
        if complete:
            break
        kill += 1
    assert killed >= 10, played.steps


def test_what_runs_all_the_time_does_not_become_what_runs_by_a_schedule(played: Played, job: Make) -> None:
    release(job("one", **JOB))
    with pytest.raises(releases.ReleaseError, match=r"it runs by a schedule, and cannot become .* -e retire=orders"):
        phases.prepare(job("two"))


def test_a_schedule_that_systemd_rejects_changes_nothing(
    played: Played, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "problem", lambda schedule: "Failed to parse calendar specification")
    with pytest.raises(releases.ReleaseError, match="'25:00', which systemd rejects: Failed to parse"):
        phases.prepare(job("one", **{**JOB, "schedule": "25:00"}))
    assert not (played.root / "units").exists()


def test_a_command_checks_a_release_before_it_is_scheduled(
    played: Played, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "journal", lambda *_arguments: [])
    ended = phases._Ended("its process exited with status 1", ["no module"])
    monkeypatch.setattr(phases, "_run_once", lambda wanted, slot, what, text: ended)
    check = {**JOB["health"], "type": "command", "command": ["node", "dist/check.js"]}
    with pytest.raises(releases.ReleaseError, match=r"node dist/check\.js"):
        release(job("one", **{**JOB, "health": check}))
    assert not played.running and not schedule(played)


def test_the_unit_of_a_run(host: Path) -> None:
    request = make_request(make_spec(**JOB))
    text = systemd.parse_unit(request["unit"])
    assert (text["Service"]["Type"], text["Service"]["TimeoutStartSec"]) == (["oneshot"], ["900s"])
    assert "Restart" not in text["Service"] and "Install" not in text
    assert request["here"] and not make_request(make_spec(**JOB), host="api-2")["here"]
    other = make_request(make_spec(**{**JOB, "schedule": "hourly"}))
    assert request["release"] != other["release"], (
        "other times are another release, so that a rollback brings them back"
    )


def test_what_is_retired_comes_back_with_its_timer(played: Played, job: Make, host: Path) -> None:
    first = release(job("one", **JOB))
    retirement.retire("api-1", {"orders": ["unit", "timer"]}, {"deployment": "d7", "by": "someone@somewhere"})
    assert not played.running and not schedule(played) and releases.had_timer("orders")
    wanted = dataclasses.replace(releases.load_wanted("orders", first), here=releases.had_timer("orders"))
    assert release(phases.Job("api-1", [wanted], {}, {}, {}, {}, described=[])) == first
    assert played.running == played.enabled == {TIMER} and not releases.had_timer("orders")
