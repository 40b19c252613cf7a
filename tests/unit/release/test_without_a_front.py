# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Processes without a port: never two of them where one has to end first, whatever is killed; and their health."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import confirm, phases, releases
from ansible_collections.fivepointers.platform.plugins.modules import release as release_module

from . import test_phases
from .conftest import SECRETS, make_request, make_spec
from .test_confirm import AUTHOR
from .test_phases import Played, call, release

played, job = test_phases.played, test_phases.job

Make = Callable[..., phases.Job]
HEALTH = {"type": "running", "running": 0.02, "status": [], "interval": 0.01, "timeout": 1, "start_period": 30}
# For releases that never are.
SICK = {**HEALTH, "start_period": 1}
WORKER: dict[str, Any] = {
    "kind": "node_worker",
    "port": None,
    "slots": {"blue": 0, "green": 0},
    "health": HEALTH,
    "drain": 7,
}


class Workers:
    """What of a worker runs on the played host; refuses a second process where there must not be one."""

    def __init__(self, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
        self.played, self.most = played, 1
        monkeypatch.setattr(systemd, "systemctl", self.systemctl)
        monkeypatch.setattr(played, "systemctl", self.systemctl)
        monkeypatch.setattr(systemd, "states", self.states)
        monkeypatch.setattr(phases, "health_problem", lambda wanted, port: pytest.fail("it has no port"))

    def allowed(self, unit: str) -> bool:
        """Whether systemd starts a unit: its conditions hold."""
        text = (self.played.root / "units" / unit).read_text()
        places = systemd.parse_unit(text)["Unit"].get("ConditionPathExists", [])
        slot = unit.partition("@")[2].partition(".")[0]
        return all(os.path.exists(path.replace("%i", slot)) for path in places)

    def systemctl(self, *arguments: str, timeout: float = 0) -> str:
        if arguments[0] == "start":
            arguments = ("start", *(unit for unit in arguments[1:] if unit.startswith("-") or self.allowed(unit)))
        Played.systemctl(self.played, *arguments)
        assert len(self.played.running) <= self.most, self.played.running
        return ""

    def states(self, units: list[str]) -> dict[str, systemd.UnitState]:
        found = self.played.states(units)
        return {
            unit: dataclasses.replace(state, active="activating")
            if state.running and self.played.release_of(unit) in self.played.sick
            else state
            for unit, state in found.items()
        }

    def reboot(self) -> None:
        self.played.running = {unit for unit in self.played.enabled if self.allowed(unit)}
        assert len(self.played.running) <= self.most, self.played.running

    def crash(self) -> None:
        """Let each process end; systemd starts it again."""
        # Never long ago, however slow this machine is.
        self.played.started = dict.fromkeys(self.played.running, time.monotonic() + 3600)

    def running(self) -> list[str]:
        """The releases that run."""
        return [self.played.release_of(unit) for unit in sorted(self.played.running)]


@pytest.fixture
def workers(played: Played, monkeypatch: pytest.MonkeyPatch) -> Workers:
    return Workers(played, monkeypatch)


def test_the_old_process_ends_before_the_new_one_starts(workers: Workers, job: Make) -> None:
    first = release(job("one", **WORKER))
    assert workers.running() == [first]
    second = job("two", **WORKER)
    phases.prepare(second)
    assert workers.running() == [first]
    assert release(second) == workers.running()[0] and len(workers.running()) == 1
    assert not (workers.played.root / "nginx").exists()
    assert not releases.plan(second.wanted[0], releases.observe(second.wanted)["orders"]).changed
    assert release(test_phases.back_to(first)) == first
    assert workers.running() == [first]


def test_one_that_does_not_stay_up_gives_way_to_the_old_one(workers: Workers, job: Make) -> None:
    first, second = release(job("one", **WORKER)), job("two", **{**WORKER, "health": SICK})
    workers.played.sick.add(second.wanted[0].release)
    with pytest.raises(releases.ReleaseError) as caught:
        release(second)
    assert workers.running() == [first]
    for part in (
        "orders on api-1, step switch",
        f"Release {first} was started again",
        "keeps running for",
        "not running",
    ):
        assert part in str(caught.value)
    seen = releases.observe(second.wanted)["orders"]
    assert (seen.live, seen.pending) == ("blue", {})


def test_a_first_release_that_fails_leaves_nothing(workers: Workers, job: Make) -> None:
    first = job("one", **{**WORKER, "health": SICK})
    workers.played.sick.add(first.wanted[0].release)
    with pytest.raises(releases.ReleaseError, match="No release was live before"):
        release(first)
    assert workers.running() == [] and not workers.played.enabled
    assert releases.observe(first.wanted)["orders"].live is None
    workers.played.sick.clear()
    assert [release(first)] == workers.running()


@pytest.mark.parametrize("reboot", [False, True])
def test_a_kill_at_any_step_never_lets_two_run_and_the_next_run_heals(
    workers: Workers, job: Make, reboot: bool
) -> None:
    played = workers.played
    old, kill, killed = release(job("start", **WORKER)), 0, 0
    while True:
        new = job(f"v{kill}", **WORKER)
        killed += played.killed_at(kill, lambda new=new: release(new))
        complete = len(played.steps) < kill
        if reboot:
            workers.reboot()
            assert workers.running() in ([old], [new.wanted[0].release])
        if kill % 2 and not complete:
            # What the host does by itself, if it was switched and nobody confirms.
            new.refresh()
            phases.take_back(new)
            assert len(workers.running()) == 1, f"after a kill at step {kill}"
        old = release(new)
        assert workers.running() == [old] and len(played.enabled) == 1
        assert not releases.plan(new.wanted[0], releases.observe(new.wanted)["orders"]).changed
        if complete:
            break
        kill += 1
    assert killed >= 10, played.steps


def test_what_overlaps_is_healthy_before_the_old_one_ends(workers: Workers, job: Make) -> None:
    overlap = {**WORKER, "handover": "overlap"}
    workers.most = 2
    first, second = release(job("one", **overlap)), job("two", **{**overlap, "health": SICK})
    workers.played.sick.add(second.wanted[0].release)
    with pytest.raises(releases.ReleaseError, match=f"step prepare.*Release {first} is still serving"):
        phases.prepare(second)
    assert workers.running() == [first]
    workers.played.sick.clear()
    phases.prepare(second)
    assert len(workers.running()) == 2
    assert [release(second)] == workers.running()


def test_one_that_is_started_again_and_again_is_neither_switched_to_nor_confirmed(workers: Workers, job: Make) -> None:
    """It was up for its seconds once, which the next crash makes worthless."""
    workers.most = 2
    first = release(job("one", **WORKER, handover="overlap"))
    second = job("two", **{**WORKER, "handover": "overlap", "health": {**HEALTH, "running": 0.1}})
    second.author = dict(AUTHOR)
    phases.prepare(second)
    workers.crash()
    second.refresh()
    with pytest.raises(releases.ReleaseError, match=r"before the switch: .* no longer healthy(.|\n)*Came: it has been"):
        phases.switch(second)
    assert releases.observe(second.wanted)["orders"].pending == {}
    # The next run starts it, and waits until it is healthy.
    second.refresh()
    phases.prepare(second)
    second.refresh()
    phases.switch(second)
    workers.crash()
    second.refresh()
    with pytest.raises(releases.ReleaseError, match=r"after the switch: .* no longer healthy"):
        confirm.confirm(second)
    second.refresh()
    phases.take_back(second)
    assert workers.running() == [first]


def test_one_that_stays_up_is_confirmed(workers: Workers, job: Make) -> None:
    made = job("one", **WORKER)
    made.author = dict(AUTHOR)
    for phase in (phases.prepare, phases.switch, confirm.confirm):
        made.refresh()
        phase(made)
    assert made.seen["orders"].pending and releases.read_state("orders")["pending"]["confirmed"]


def test_where_one_of_the_two_releases_runs_alone_they_do_not_overlap(workers: Workers, job: Make) -> None:
    overlap = {**WORKER, "handover": "overlap"}
    for number, spec in enumerate((WORKER, overlap, WORKER, overlap, overlap)):
        workers.most = 2 if number == 4 else 1
        made = job(f"v{number}", **spec)
        assert [release(made)] == workers.running()


def test_a_service_that_loses_or_gets_its_port_loses_or_gets_its_front(
    played: Played, monkeypatch: pytest.MonkeyPatch, job: Make
) -> None:
    release(job("api"))
    assert played.front()
    monkeypatch.setattr(played, "health", lambda wanted, port: "")
    worker = release(job("worker", **WORKER))
    assert not played.front() and played.running == {"fivepointers-orders@green.service"}
    api = release(job("api again"))
    assert played.front() and played.serving() == api != worker
    assert played.running == {"fivepointers-orders@blue.service"}


@pytest.fixture
def deploy_both(
    workers: Workers, job: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[dict[str, Any], list[phases.Job]]]:
    """A role used alone: one call with all phases for two workers, and no deployment that takes anything back later."""
    monkeypatch.setattr(workers.played, "health", lambda wanted, port: "")
    workers.most = 9

    def deploy(orders: str, letters: str, **health: Any) -> tuple[dict[str, Any], list[phases.Job]]:
        made = [
            job(orders, **{**WORKER, "handover": "overlap"}),
            job(letters, **{**WORKER, "health": {**HEALTH, **health}, "name": "letters"}),
        ]
        # The archives are sent; the rest of a request is what the action made of a service.
        sent = {item.wanted[0].name: item.archives["orders"] for item in made}
        requests = [dataclasses.asdict(item.wanted[0]) for item in made]
        return call(capsys, phase="all", requests=requests, sent=sent, secrets=SECRETS)[0], made

    return deploy


def test_where_one_of_several_services_fails_no_release_of_the_others_stays(
    workers: Workers, deploy_both: Callable[..., tuple[dict[str, Any], list[phases.Job]]]
) -> None:
    assert deploy_both("one", "other one")[0]["changed"]
    before = workers.running()
    assert len(before) == 2
    answer, new = deploy_both("two", "other two", running=60, start_period=0.1)
    assert "letters on api-1, step switch" in answer["msg"]
    assert "What was switched to before that was taken back: orders." in answer["msg"]
    assert workers.running() == before
    for made in new:
        made.refresh()
        assert [seen.pending for seen in made.seen.values()] == [{}]
    assert deploy_both("two", "other two")[0]["changed"]
    assert not set(workers.running()) & set(before)


def test_what_another_run_switched_is_not_taken_back_where_a_call_fails(
    deploy_both: Callable[..., tuple[dict[str, Any], list[phases.Job]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have confirmed its switches: then other hosts commit the same ones."""
    assert deploy_both("one", "first")[0]["changed"]
    with monkeypatch.context() as ended:
        ended.setitem(release_module.PHASES, "commit", Mock(side_effect=releases.ReleaseError("ended")))
        assert "ended" in deploy_both("two", "first")[0]["msg"]
    answer, (orders, _letters) = deploy_both("two", "second", running=60, start_period=0.1)
    assert "letters on api-1" in answer["msg"] and "taken back: orders" not in answer["msg"]
    orders.refresh()
    assert orders.seen["orders"].pending["release"] == orders.wanted[0].release
    assert deploy_both("two", "first")[0]["changed"]
    orders.refresh()
    assert not orders.seen["orders"].pending


# --- the unit, and health ---------------------------------------------------------------


def unit(**changes: Any) -> dict[str, dict[str, list[str]]]:
    return systemd.parse_unit(make_request(make_spec(**{**WORKER, **changes}))["unit"])


def test_the_unit_of_a_worker(host: Path) -> None:
    alone, overlaps = unit(), unit(handover="overlap")
    assert alone["Unit"]["ConditionPathExists"] == [str(host / "var/orders.%i")]
    assert "ConditionPathExists" not in overlaps["Unit"]
    assert alone["Service"]["TimeoutStopSec"] == ["7s"], "it gets its time to end"
    touches = unit(health={**HEALTH, "type": "file", "file": 30})["Service"]
    assert touches["RuntimeDirectory"] == ["fivepointers-orders-%i"]
    assert "HEALTH_FILE=%t/fivepointers-orders-%i/health" in touches["Environment"]


def test_a_file_that_it_touches(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "RUN", str(host / "run"))
    wanted = releases.Wanted(**make_request(make_spec(**{**WORKER, "health": {**HEALTH, "type": "file", "file": 30}})))
    assert phases.slot_problem(wanted, "blue") == "it has not touched it yet"
    path = Path(releases.health_path("orders", "blue"))
    path.parent.mkdir(parents=True)
    path.touch()
    assert not phases.slot_problem(wanted, "blue")
    os.utime(path, (0, time.time() - 40))
    assert phases.slot_problem(wanted, "blue") == "it touched it 40 s ago"
    assert phases.slot_problem(wanted, "green") == "it has not touched it yet"


def test_a_command_runs_in_the_release_and_within_its_time(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    health = {**HEALTH, "type": "command", "command": ["node", "dist/health.js"], "timeout": 3}
    wanted = releases.Wanted(**make_request(make_spec(**{**WORKER, "health": health})))
    once = systemd.parse_unit(wanted.check)["Service"]
    assert (once["Type"], once["TimeoutStartSec"]) == (["oneshot"], ["3s"])
    assert once["ExecStart"][0].endswith("/bin/node dist/health.js")
    ended = phases._Ended("its process exited with status 1", ["no queue"])
    for came, said in ((None, ""), (ended, "its process exited with status 1: no queue")):
        monkeypatch.setattr(phases, "_run_once", lambda wanted, slot, what, text, came=came: came)
        assert phases.slot_problem(wanted, "blue") == said
    assert phases.health_question(wanted, 0) == "whether `node dist/health.js` succeeds"


# --- what is live, told to processes ------------------------------------------------------


def test_every_process_is_told_which_file_says_that_it_is_live(host: Path) -> None:
    for spec in (make_spec(), make_spec("nextjs"), make_spec(**WORKER)):
        wanted = releases.Wanted(**make_request(spec))
        environment = systemd.parse_unit(wanted.unit)["Service"]["Environment"]
        assert f"SLOT_LIVE={host}/var/orders.%i" in environment
        assert not [item for item in environment if item.startswith("SLOT_LIVE_SIGNAL")]


def test_the_file_exists_in_the_live_slot_only(played: Played, job: Make) -> None:
    first = job("one")
    phases.prepare(first)
    assert release(first)
    told = [os.path.exists(releases.flag_path("orders", slot)) for slot in releases.SLOTS]
    assert told == [True, False]
    second = job("two")
    phases.prepare(second)
    assert told == [os.path.exists(releases.flag_path("orders", slot)) for slot in releases.SLOTS]
    release(second)
    assert told[::-1] == [os.path.exists(releases.flag_path("orders", slot)) for slot in releases.SLOTS]


def test_who_asks_for_it_gets_a_signal_at_the_switch_and_on_the_way_back(played: Played, job: Make) -> None:
    def signals() -> list[str]:
        found = [step.split()[-1] for step in played.steps if "SIGUSR2" in step]
        played.steps.clear()
        return found

    blue, green = (releases.unit_name("orders", slot) for slot in releases.SLOTS)
    release(job("one", hold=600))
    assert signals() == []
    # One that did not ask would be ended by it.
    second = job("two", live_signal=True, hold=600)
    release(second)
    assert signals() == [green]
    third = job("three", live_signal=True, hold=600)
    phases.prepare(third)
    assert signals() == []
    third.refresh()
    phases.switch(third)
    assert sorted(signals()) == [blue, green]
    third.refresh()
    phases.take_back(third)
    assert {blue, green} == set(signals())
