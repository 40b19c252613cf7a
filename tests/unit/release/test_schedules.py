# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What runs by a schedule: one timer on one host, which a release changes only if the times or the host change."""

from __future__ import annotations

import dataclasses
import errno
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import register, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import (
    confirm,
    leases,
    phases,
    releases,
    retirement,
    schedules,
)
from ansible_collections.fivepointers.platform.plugins.modules import release as release_module

from . import test_confirm, test_phases
from .conftest import make_request, make_spec
from .test_confirm import AUTHOR
from .test_phases import Played, call, release

played, job, lease = test_phases.played, test_phases.job, test_confirm.lease
PROBLEM, LINKS = schedules.problem, (systemd.enable, systemd.disable, systemd.is_enabled)

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
    monkeypatch.setattr(schedules, "problem", lambda schedule: "which systemd rejects: Failed to parse")
    with pytest.raises(releases.ReleaseError, match="'25:00', which systemd rejects: Failed to parse"):
        phases.prepare(job("one", **{**JOB, "schedule": "25:00"}))
    assert not (played.root / "units").exists()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_what_is_wrong_with_a_schedule() -> None:
    found = {text: PROBLEM(text) for text in ("25:00", "2020-01-01 03:00", "*-02-30", "daily")}
    assert "which systemd rejects: Failed to parse" in found["25:00"]
    assert found["2020-01-01 03:00"] == found["*-02-30"] == "which is never due (again)" and not found["daily"]


def test_a_schedule_that_is_never_due_is_refused_but_comes_back_in_a_rollback(
    played: Played, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "problem", lambda schedule: "which is never due (again)")
    late = job("one", **JOB)
    with pytest.raises(releases.ReleaseError, match=r"'\*-\*-\* 03:00:00', which is never due \(again\)"):
        phases.prepare(late)
    late.rollback = True
    assert release(late)


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


@pytest.mark.parametrize("going", ["", "fivepointers-orders@green.service loaded activating start start orders"])
@pytest.mark.parametrize("green", [False, True])
def test_a_launcher_starts_the_live_slot_unless_a_run_is_going_on(tmp_path: Path, going: str, green: bool) -> None:
    flag = tmp_path / "green"
    if green:
        flag.touch()
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\ntest "$1" = start && echo "$@" || echo -n "{going}"\n')
    systemctl.chmod(0o755)
    service = systemd.parse_unit(schedules.texts("orders", "daily", str(flag))[LAUNCHER])["Service"]

    def run(key: str) -> subprocess.CompletedProcess[str]:
        argv = [word.replace("$$", "$") for word in shlex.split(service[key][0])]
        return subprocess.run(argv, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, text=True, capture_output=True)

    assert run("ExecCondition").returncode == (1 if going else 0)
    assert run("ExecStart").stdout == f"start fivepointers-orders@{'green' if green else 'blue'}\n"


@pytest.mark.parametrize("first", [False, True])
def test_a_check_waits_for_the_migrations_of_another_host(
    played: Played, job: Make, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """On the first deployment, it may need the tables that the first host creates meanwhile."""
    checks: list[str] = []

    def once(wanted: releases.Wanted, slot: str, what: str, text: str) -> phases._Ended | None:
        checks.append(what)
        return phases._Ended("no such table", []) if what == "check" and len(checks) < 3 else None

    monkeypatch.setattr(phases, "_run_once", once)
    health = {**JOB["health"], "type": "command", "command": ["node", "check.js"], "interval": 0.01, "start_period": 9}
    made = job("one", **{**JOB, "health": health, "migrate": ["node", "migrate.js"]})
    if not first:
        made.wanted = [dataclasses.replace(made.wanted[0], migrate=False, here=False)]
        made.refresh()
        assert phases.prepare(made) and checks == ["check"] * 3
        return
    with pytest.raises(releases.ReleaseError, match="no such table"):
        phases.prepare(made)
    assert checks == ["migration", "check"]


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


# --- when hosts change, or something breaks -----------------------------------------


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch, played: Played) -> None:
    """Links of units, as on a host."""
    for function in LINKS:
        stepped = (
            function if function is systemd.is_enabled else test_phases._stepped(played, function.__name__, function)
        )
        monkeypatch.setattr(systemd, function.__name__, stepped)


def moving(make: Make) -> phases.Job:
    """Have a deployment stop the timer of this host, since another one is to have it."""
    first = make("one", **JOB)
    release(first)
    gone = elsewhere(first)
    gone.author = dict(AUTHOR)
    gone.refresh()
    assert release_module.perform(gone, "switch")
    gone.refresh()
    return gone


def test_what_nobody_confirms_leaves_the_timer_where_it_was(
    played: Played, job: Make, lease: leases.HostStore, links: None
) -> None:
    gone = moving(job)
    assert TIMER not in played.running and confirm.UNIT in played.running, "somebody watches over it"
    assert confirm.resume() == [], "its run lives"
    lease.update(lambda record, _age: register.released(record, "run"))
    assert confirm.resume() == ["orders"]
    assert TIMER in played.running and systemd.is_enabled(TIMER) and schedule(played)
    gone.refresh()
    with pytest.raises(releases.ReleaseError, match="the end of its timer is no longer in place"):
        confirm.confirm(gone)
    assert confirm.resume() == []


def test_what_was_confirmed_never_comes_back(played: Played, job: Make, lease: leases.HostStore, links: None) -> None:
    """From then on another host has the timer, even if this one does not hear of the commit."""
    gone = moving(job)
    assert confirm.confirm(gone) and not schedule(played)
    lease.update(lambda record, _age: register.released(record, "run"))
    assert confirm.resume() == []
    for text in ("one", "two"):
        later = elsewhere(job(text, **JOB))
        phases.prepare(later)
        later.refresh()
        phases.switch(later)
        later.refresh()
        phases.take_back(later)
        assert TIMER not in played.running and not schedule(played)


def test_a_full_disk_at_the_commit_leaves_the_old_times(
    played: Played, job: Make, lease: leases.HostStore, links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(job("one", **JOB))
    later = job("one", **{**JOB, "schedule": "hourly"})
    phases.prepare(later)
    later.refresh()
    phases.switch(later)
    later.refresh()

    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(schedules, "write_file", full)
        with pytest.raises(OSError, match="No space"):
            phases.commit(later)
    lease.update(lambda record, _age: register.released(record, "run"))
    assert confirm.resume() == ["orders"] and TIMER in played.running and "03:00" in schedule(played)
    assert release(later) and settled(later) and "OnCalendar=hourly" in schedule(played)


def test_a_kill_at_any_step_of_a_move_leaves_a_timer_that_runs_or_none(
    played: Played, job: Make, lease: leases.HostStore, links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "unlink", test_phases._stepped(played, "unlink", os.unlink))
    lease.update(lambda record, _age: register.released(record, "run"))
    seen = set()
    for kill in range(40):
        first = job("one", **JOB)
        release(first)
        gone = elsewhere(first)
        gone.refresh()

        def move(gone: phases.Job = gone) -> None:
            phases.switch(gone)
            gone.refresh()
            confirm.confirm(gone)

        killed = played.killed_at(kill, move)
        confirm.resume()
        ticks = TIMER in played.running and systemd.is_enabled(TIMER)
        assert ticks == bool(schedule(played)), f"after a kill at step {kill}"
        seen.add(ticks)
        first.refresh()
        phases.take_back(first)
        if not killed:
            break
    assert kill >= 8 and seen == {True, False}


def test_a_retirement_that_broke_off_is_not_undone(
    played: Played, job: Make, lease: leases.HostStore, links: None
) -> None:
    release(job("one", **JOB))
    lease.update(lambda record, _age: register.released(record, "run"))
    for kill in range(20):
        if not played.killed_at(kill, lambda: retirement.retire("api-1", {"orders": ["unit", "timer"]}, AUTHOR)):
            break
        if TIMER not in played.running:
            assert confirm.resume() == []
    assert kill >= 3 and not schedule(played)


def test_a_run_that_does_not_end_keeps_its_host_and_its_timer(played: Played, job: Make) -> None:
    first = job("one", **JOB)
    release(first)
    going = "fivepointers-orders@blue.service"
    played.running |= {going, LAUNCHER}
    gone = elsewhere(first)
    gone.refresh()
    with pytest.raises(releases.ReleaseError, match=f"a run is still going on.*sudo systemctl stop {going}"):
        phases.switch(gone)
    assert played.running == {TIMER, LAUNCHER, going} and TIMER in played.enabled


def test_other_times_on_the_same_host_wait_for_no_run(played: Played, job: Make) -> None:
    release(job("one", **JOB))
    going = {"fivepointers-orders@blue.service", LAUNCHER}
    played.running |= going
    assert release(job("two", **{**JOB, "schedule": "hourly"}))
    assert played.running == {TIMER, *going} and "OnCalendar=hourly" in schedule(played)


def test_a_run_that_begins_while_its_slot_is_filled_goes_on(
    played: Played, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(job("one", **JOB))
    release(job("two", **JOB))
    monkeypatch.setattr(phases, "share", lambda item: played.running.add("fivepointers-orders@blue.service"))
    release(job("three", **JOB))
    assert "fivepointers-orders@blue.service" in played.running


def test_a_lost_flag_is_restored_though_no_run_is_going_on(played: Played, job: Make) -> None:
    release(job("one", **JOB))
    second = job("two", **JOB)
    release(second)
    os.unlink(releases.flag_path("orders", "green"))
    second.refresh()
    assert not second.candidates() and second.plans["orders"].live == "green"
    phases.commit(second)
    assert settled(second) and releases.flagged("orders") == "green"


def test_a_timer_that_was_written_and_not_loaded_is_loaded(played: Played, job: Make) -> None:
    release(job("one", **JOB))
    played.steps.clear()
    schedules.resume("orders")
    assert played.steps.index("systemctl daemon-reload") < played.steps.index(f"systemctl start {TIMER}")


@pytest.mark.parametrize("back", [False, True])
def test_only_what_no_plan_describes_gets_the_timer_that_it_had_back(
    played: Played, job: Make, capsys: pytest.CaptureFixture[str], back: bool
) -> None:
    """What is described again is one of the hosts that the plan names, and another one may be the first."""
    first = release(job("one", **JOB))
    retirement.retire("api-1", {"orders": ["unit", "timer"]}, {})
    result, _written = call(capsys, phase="plan", targets={"orders": first}, **({"described": []} if back else {}))
    assert result["services"]["orders"]["steps"]
    assert bool([step for step in result["services"]["orders"]["steps"] if "start its timer" in step]) == back


def test_a_run_that_was_told_to_end_is_none_that_went_well(host: Path) -> None:
    service = systemd.parse_unit(make_request(make_spec(**JOB))["unit"])["Service"]
    assert "SuccessExitStatus" not in service
    assert service["TimeoutStopSec"] == ["1s"], "0 would be for ever"


def test_where_no_timer_was_stopped_nobody_waits_for_the_lock(host: Path) -> None:
    assert confirm.resume() == [] and not list(Path(releases.STATE).iterdir())


# --- on two hosts ---------------------------------------------------------------------


class Hosts:
    """Two played hosts, of which one is in place. now: which."""

    def __init__(self, played: Played, make: Make) -> None:
        self.played, self.make, self.now, self.number = played, make, "a", 0
        self.running: dict[str, set[str]] = {"b": set()}

    def at(self, host: str) -> None:
        """Put a host in place of the other."""
        if host == self.now:
            return
        for place in ("opt", "etc", "var", "cache", "data", "nginx", "units"):
            here, away = self.played.root / place, self.played.root / "away"
            away.mkdir(exist_ok=True)
            if here.exists():
                here.rename(away / f"{place}-{self.now}")
            if (away / f"{place}-{host}").exists():
                (away / f"{place}-{host}").rename(here)
        Path(releases.STATE).mkdir(exist_ok=True)
        self.running[self.now], self.now = self.played.running, host
        self.played.running = self.running[host]

    def each(self, what: Callable[[], Any]) -> None:
        """Do something on each host. Never do both have a timer that runs."""
        for host in ("a", "b"):
            self.at(host)
            what()
            self.running[host] = self.played.running
            both = [name for name, running in self.running.items() if TIMER in running]
            assert len(both) < 2, f"two timers, after {len(self.played.steps)} steps"

    def deploy(self, version: str, first: str, *names: str) -> None:
        """Run these phases of a deployment whose timer is to be on the first host."""
        self.number += 1
        author = {"deployment": f"d{self.number}", "by": "ann", "number": self.number}

        def phase(run: Callable[[phases.Job], Any]) -> None:
            made = self.make(version, **JOB)
            made.author = author
            made.wanted = [dataclasses.replace(made.wanted[0], here=self.now == first)]
            made.refresh()
            if run is phases.prepare and confirm.inherit(made):
                made.refresh()
            run(made)

        for name in names or ("prepare", "switch", "confirm", "commit"):
            self.each(lambda name=name: phase(getattr(confirm if name == "confirm" else phases, name)))

    def watch(self) -> None:
        """Let each host take back what nobody confirmed, since the run is gone."""
        self.each(lambda: (confirm.take_back(), confirm.resume()))


@pytest.mark.slow
@pytest.mark.parametrize("after, kill", [("watch", 0), ("failure", 2), ("next", 4), ("back", 6)])
def test_a_kill_at_any_step_of_a_deployment_that_moves_the_timer_gives_it_to_no_two_hosts(
    played: Played, job: Make, links: None, after: str, kill: int
) -> None:
    hosts = Hosts(played, job)
    hosts.deploy("v0", "a")
    first = "a"
    while True:
        # The release changes now and then.
        first = "b" if first == "a" else "a"
        killed = played.killed_at(kill, lambda first=first, kill=kill: hosts.deploy(f"v{kill // 14}", first))
        if after == "watch":
            hosts.watch()
        elif after == "failure":
            hosts.deploy(f"v{kill // 14}", first, "prepare", "switch", "take_back")
            hosts.watch()
        elif after == "back":
            hosts.deploy(f"v{kill // 14}", "b" if first == "a" else "a")
        hosts.deploy(f"v{kill // 14}", first)
        hosts.watch()
        assert TIMER in hosts.running[first]
        if not killed:
            break
        # With 1 this takes a minute.
        kill += 7
    assert kill > 20
