# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The phases on a host that is played: what is called in which order, and what a kill at any point leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.fivepointers.platform.plugins.module_utils.common import platforms, register, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import (
    adoption,
    environments,
    files,
    leases,
    phases,
    releases,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release.migrations import Migration
from ansible_collections.fivepointers.platform.plugins.modules import release as release_module
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import DEFAULT

from .conftest import SECRETS, make_archive, make_manifest, make_request, make_spec


class Killed(BaseException):
    """The module's process is gone: nothing that it does any more has an effect."""


class Clock:
    """The time, which a wait only moves: what is waited for is played, and there at once or not at all."""

    def __init__(self) -> None:
        self.waited = 0.0

    def time(self) -> float:
        return time.time() + self.waited

    def monotonic(self) -> float:
        return time.monotonic() + self.waited

    def sleep(self, seconds: float) -> None:
        self.waited += seconds


class Played:
    """systemd, nginx and the application of a host.

    Every action with an effect is a step; the step with the number `kill` is the last that happens not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.running: set[str] = set()
        # When a process was started, if not long ago.
        self.started: dict[str, float] = {}
        self.enabled: set[str] = set()
        self.sick: set[str] = set()
        self.front_works = True
        self.timers: dict[str, str] = {}
        self.due = 0.0
        self.steps: list[str] = []
        self.kill: int | None = None

    def step(self, what: str) -> None:
        if self.kill is not None and len(self.steps) >= self.kill:
            raise Killed
        self.steps.append(what)

    def killed_at(self, kill: int, act: Callable[[], Any]) -> bool:
        """Act, and be killed at a step; return whether that was before its end."""
        self.kill, self.steps[:] = kill, []
        try:
            act()
        except Killed:
            return True
        finally:
            self.kill = None
        return False

    def release_of(self, unit: str) -> str:
        """The release that a unit's process runs, from the text of the unit."""
        text = (self.root / "units" / unit).read_text()
        return text.split("FIVEPOINTERS_RELEASE=")[1].split()[0]

    def serving(self) -> str:
        """The release that users see; empty where nothing answers."""
        if not (self.root / "nginx/fivepointers/front-orders.conf").exists():
            return ""
        slot = "green" if os.path.exists(releases.flag_path("orders")) else "blue"
        unit = releases.unit_name("orders", slot)
        return self.release_of(unit) if unit in self.running else ""

    def front(self) -> str | None:
        path = self.root / "nginx/fivepointers/front-orders.conf"
        return path.read_text() if path.exists() else None

    # --- what stands for the system ---

    def systemctl(self, *arguments: str, timeout: float = 0) -> str:
        self.step("systemctl " + " ".join(arguments))
        units = [argument for argument in arguments[1:] if not argument.startswith("-")]
        if arguments[0] == "start":
            self.started.update(dict.fromkeys(set(units) - self.running, time.monotonic()))
            self.running |= set(units)
        elif arguments[0] == "stop":
            self.running -= set(units)
        return ""

    def run(self, argv: list[str], timeout: float = 0) -> tuple[int, str]:
        if argv[0] == "systemctl":
            self.systemctl(*argv[1:])
            if argv[1] == "stop":
                for unit in argv[2:]:
                    self.timers.pop(unit, None)
        if argv[0] == "systemd-run":
            self.step("systemd-run")
            name = next(word for word in argv if word.startswith("--unit=")).partition("=")[2]
            self.timers[name + ".timer"] = argv[-1]
            self.due = float(next(word for word in argv if word.startswith("--on-calendar=@")).partition("@")[2])
        return 0, ""

    def expire(self) -> None:
        """Let the hold time of all slots pass."""
        for unit in self.timers.values():
            self.running.discard(unit)
        self.timers.clear()

    def states(self, units: list[str]) -> dict[str, systemd.UnitState]:
        return {
            unit: systemd.UnitState(
                unit,
                load="loaded" if (self.root / "units" / unit).exists() else "not-found",
                active="active" if unit in self.running else "inactive",
                pid=7,
                started=self.started.get(unit, 0),
            )
            for unit in units
        }

    def health(self, wanted: releases.Wanted, port: int) -> str:
        if port == wanted.port:
            return "" if self.front_works and self.serving() not in {"", *self.sick} else "502 Bad Gateway"
        slot = next(slot for slot, number in wanted.slots.items() if number == port)
        unit = releases.unit_name(wanted.name, slot)
        return "" if unit in self.running and self.release_of(unit) not in self.sick else "503"

    def apply_tree(self, spec: dict[str, Any], check: bool = False) -> dict[str, Any]:
        if check:
            return {}
        self.step("fronts")
        for entries in spec["trees"].values():
            path = self.root / "nginx/fivepointers/front-orders.conf"
            path.parent.mkdir(parents=True, exist_ok=True)
            if entries:
                path.write_text(entries[0]["content"])
            else:
                path.unlink(missing_ok=True)
        return {}


@pytest.fixture
def played(host: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played(host)
    monkeypatch.setattr(systemd, "systemctl", played.systemctl)
    monkeypatch.setattr(systemd, "run", played.run)
    monkeypatch.setattr(systemd, "states", played.states)
    monkeypatch.setattr(systemd, "journal", lambda unit, since, lines: ["the last words"])
    monkeypatch.setattr(systemd, "is_enabled", lambda unit: unit in played.enabled)
    for name, change in (("enable", played.enabled.add), ("disable", played.enabled.discard)):
        monkeypatch.setattr(systemd, name, _stepped(played, name, change))
    for module in (files, phases):
        for name in ("write_file", "point_slot", "set_flag", "begin_switch", "end_switch", "record_switch", "hold"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, _stepped(played, name, getattr(files, name)))
        for name in ("stage", "share", "prune"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, _stepped(played, name, getattr(files, name)))
    monkeypatch.setattr(phases, "health_problem", played.health)
    monkeypatch.setattr(phases, "apply_tree", played.apply_tree)
    monkeypatch.setattr(phases, "FRONT_TIMEOUT", 0.01)
    monkeypatch.setattr(phases, "time", Clock())
    monkeypatch.setattr(phases, "ensure_account", lambda user: None)
    monkeypatch.setattr(phases, "listeners", lambda port: [])
    monkeypatch.setattr(phases.shutil, "which", lambda name: "/usr/sbin/nginx")
    monkeypatch.setattr(releases.os, "access", lambda path, mode: True)
    return played


def _stepped(played: Played, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    real = getattr(function, "real", function)

    def stepped(*arguments: Any, **options: Any) -> Any:
        played.step(name)
        return real(*arguments, **options)

    stepped.real = real  # type: ignore[attr-defined]
    return stepped


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., phases.Job]:
    """A job for a service that is built as a version."""

    def make(version: str, **changes: Any) -> phases.Job:
        archive = tmp_path / f"{version}.tar.gz"
        sha256 = make_archive(archive, {"dist/main.js": version})
        manifest = make_manifest(id=sha256[:16], archive_sha256=sha256)
        changes = {"drain": 0, "health": {**make_spec()["health"], "start_period": 0.2, "interval": 0.01}, **changes}
        wanted = releases.Wanted(**make_request(make_spec(**changes), manifest))
        made = phases.Job("api-1", [wanted], {}, {}, SECRETS, {"orders": str(archive)})
        made.refresh()
        return made

    return make


def release(job: phases.Job) -> str:
    """Run all phases; give the release."""
    job.refresh()
    phases.prepare(job)
    job.refresh()
    phases.migrate(job)
    phases.switch(job)
    job.refresh()
    phases.commit(job)
    return job.wanted[0].release


def live(played: Played) -> tuple[str, list[str], list[str]]:
    return played.serving(), sorted(played.running), sorted(played.enabled)


def test_releases_alternate_between_the_slots(played: Played, job: Callable[..., phases.Job]) -> None:
    for number in range(5):
        made = release(job(f"v{number}"))
        unit = releases.unit_name("orders", releases.SLOTS[number % 2])
        assert live(played) == (made, [unit], [unit])
    steps = len(played.steps)
    release(job("v4"))
    assert len(played.steps) == steps, "nothing differs, so nothing is done"


def test_the_live_slot_starts_with_the_host_before_requests_go_there(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    release(job("old"))
    played.steps.clear()
    release(job("new"))
    order = [
        step
        for step in played.steps
        if step in ("enable", "begin_switch", "set_flag", "disable") or ("stop" in step and "retire" not in step)
    ]
    stop = "systemctl stop fivepointers-orders@blue.service"
    assert order == ["enable", "begin_switch", "set_flag", "enable", "disable", stop]
    assert "fronts" not in played.steps, "nginx was reloaded for nothing"


def test_a_candidate_that_is_never_healthy_changes_nothing(played: Played, job: Callable[..., phases.Job]) -> None:
    release(job("old"))
    before = live(played)
    bad = job("bad", body_limit="9m")
    played.sick.add(bad.wanted[0].release)
    with pytest.raises(releases.ReleaseError, match="step prepare"):
        release(bad)
    assert live(played) == before
    assert "9m" not in (played.root / "nginx/fivepointers/front-orders.conf").read_text()


@pytest.mark.parametrize("first", [True, False])
def test_a_front_that_does_not_answer_is_taken_back(
    played: Played, job: Callable[..., phases.Job], first: bool
) -> None:
    if not first:
        release(job("old"))
    before = live(played)
    front = played.root / "nginx/fivepointers/front-orders.conf"
    text = front.read_text() if front.exists() else None
    played.front_works = False
    with pytest.raises(releases.ReleaseError, match="step switch") as error:
        release(job("new", body_limit="9m"))
    assert "No release was serving" in str(error.value) or "It was switched back" in str(error.value)
    assert live(played) == before
    assert (front.read_text() if front.exists() else None) == text
    played.front_works = True
    assert played.serving() == before[0]
    assert release(job("new")) == played.serving()


def test_a_prepared_candidate_that_fell_ill_is_started_again(played: Played, job: Callable[..., phases.Job]) -> None:
    made = job("new")
    phases.prepare(made)
    made.refresh()
    played.sick.add(made.wanted[0].release)
    with pytest.raises(releases.ReleaseError, match="no longer healthy"):
        phases.switch(made)
    played.sick.clear()
    played.steps.clear()
    played.running.clear()
    assert release(job("new")) == played.serving()
    assert any(step.startswith("systemctl start") for step in played.steps)


def test_what_is_not_prepared_is_not_switched_to(played: Played, job: Callable[..., phases.Job]) -> None:
    with pytest.raises(releases.ReleaseError, match="is not prepared in slot blue"):
        phases.switch(job("new"))
    assert played.serving() == ""


def test_a_runtime_that_is_missing_is_told(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases.os, "access", lambda path, mode: False)
    with pytest.raises(releases.ReleaseError, match=r"no Node\.js at /opt/fivepointers/node/.*the role nodejs"):
        release(job("new"))


# --- hold, taking back, going back ------------------------------------------------------


def units_of(*slots: str) -> list[str]:
    return sorted(releases.unit_name("orders", slot) for slot in slots)


def prepared(job: phases.Job) -> phases.Job:
    """Have a job's candidate running."""
    phases.prepare(job)
    job.refresh()
    return job


def test_looking_for_lacking_archives_makes_nothing(job: Callable[..., phases.Job], host: Path) -> None:
    made = job("new")
    made.archives.clear()
    before = sorted(host.rglob("*"))
    assert phases.missing_archives(made) == ["orders"]
    assert sorted(host.rglob("*")) == before


def back_to(release: str) -> phases.Job:
    """A job that goes back to a release as it is kept on the host."""
    made = phases.Job("api-1", [releases.load_wanted("orders", release)], {}, {}, {}, {})
    made.refresh()
    return made


def test_a_replaced_release_goes_on_running_for_its_hold_time(played: Played, job: Callable[..., phases.Job]) -> None:
    release(job("old", hold=300))
    new = job("new", hold=300)
    release(new)
    assert sorted(played.running) == units_of("blue", "green")
    assert sorted(played.enabled) == units_of("green"), "after a reboot only the live one starts"
    assert list(played.timers.values()) == units_of("blue")
    assert 298 < played.due - time.time() <= 300
    new.refresh()
    assert not new.plans["orders"].changed, "a second run has nothing to do while the old release is held"
    played.expire()
    new.refresh()
    assert not new.plans["orders"].changed


def test_a_replaced_release_is_held_until_its_requests_are_done(played: Played, job: Callable[..., phases.Job]) -> None:
    release(job("old", hold=300, drain=900))
    release(job("new", hold=300, drain=900))
    assert 898 < played.due - time.time() <= 900


def test_a_held_slot_that_is_live_again_is_not_stopped_by_its_timer(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    first = release(job("old", hold=300))
    release(job("new", hold=300))
    back = back_to(first)
    phases.prepare(back)
    phases.switch(back)
    assert "held" not in releases.read_state("orders")
    played.expire()
    assert played.serving() == first
    back.refresh()
    phases.commit(back)
    played.expire()
    assert played.serving() == first


def test_a_hold_that_nobody_ended_is_repaired(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    release(job("old", hold=300))
    new = job("new", hold=300)
    release(new)
    now = time.time()
    monkeypatch.setattr(releases.time, "time", lambda: now + 300 + releases.TIMER_SLACK + 1)
    new.refresh()
    assert new.plans["orders"].repairs == ("stop slot blue, which an interrupted run left running",)
    phases.commit(new)
    assert sorted(played.running) == units_of("green")


def test_within_the_hold_time_a_rollback_starts_and_reloads_nothing(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    old = release(job("old", hold=300))
    release(job("new", hold=300))
    played.steps.clear()
    back = back_to(old)
    assert back.plans["orders"].ready
    assert not phases.prepare(back)
    phases.switch(back)
    assert played.serving() == old
    assert [step for step in played.steps if "start" in step or step == "fronts"] == []
    back.refresh()
    phases.commit(back)
    assert live(played)[2] == units_of("blue")
    state = releases.read_state("orders")
    assert (state["live"]["release"], files.previous(state)) == (old, "")


def test_a_candidate_for_a_held_slot_is_not_stopped_by_its_timer(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    for version in ("one", "two", "three"):
        made = release(job(version, hold=300))
    assert played.serving() == made
    played.expire()
    assert played.serving() == made


def test_a_rollback_brings_every_part_back(played: Played, job: Callable[..., phases.Job]) -> None:
    def content() -> dict[str, bytes]:
        slot = "green" if os.path.exists(releases.flag_path("orders")) else "blue"
        folders = [played.root / "nginx", Path(releases.slot_path("orders", slot)).resolve()]
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        texts = {str(path): path.read_bytes() for path in paths}
        # Ports differ from slot to slot; nothing else may.
        unit = (played.root / "units" / releases.unit_name("orders", slot)).read_bytes()
        environment = Path(releases.environment_path("orders", slot)).read_bytes()
        return {**texts, "unit": unit, "environment": environment.replace(b"23001", b"13001")}

    old = release(job("old", environment={"PORT": "${self.port}", "A": "1"}, secrets=[]))
    before = content()
    new = job("new", environment={"PORT": "${self.port}", "B": "2"}, secrets=[], memory="3G", body_limit="9m")
    release(new)
    release(job("newer", drain=1))
    for _step in range(2):
        state = releases.read_state("orders")
        target = files.previous(state)
        back = back_to(target)
        release(back)
        assert played.serving() == target
    assert target == old
    assert content() == before


def test_rollbacks_go_further_back_each_time_and_a_deploy_begins_a_new_line(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    made = [release(job(f"v{number}")) for number in range(4)]

    def previous() -> str:
        return files.previous(releases.read_state("orders"))

    assert previous() == made[2]
    release(back_to(previous()))
    assert previous() == made[1]
    release(back_to(previous()))
    assert (played.serving(), previous()) == (made[1], made[0])
    five = release(job("v5"))
    assert (played.serving(), previous()) == (five, made[1])


def test_a_release_that_is_not_kept_is_told(played: Played, job: Callable[..., phases.Job]) -> None:
    kept = release(job("old"))
    with pytest.raises(releases.ReleaseError, match=f"no release 'ffff' on this host. It keeps: {kept}"):
        back_to("ffff")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("until", ["prepare", "switch"])
def test_what_is_not_committed_is_taken_back(
    played: Played, job: Callable[..., phases.Job], until: str, first: bool
) -> None:
    if not first:
        release(job("old", body_limit="1m"))
    before = (*live(played), played.front())
    new = prepared(job("new", body_limit="9m"))
    if until == "switch":
        phases.switch(new)
        assert played.serving() == new.wanted[0].release
    new.refresh()
    assert phases.take_back(new)
    assert (*live(played), played.front()) == before
    assert "pending" not in releases.read_state("orders")
    new.refresh()
    assert not phases.take_back(new), "the second time there is nothing to take back"


def test_what_nobody_verified_is_no_way_back(played: Played, job: Callable[..., phases.Job]) -> None:
    old = release(job("old"))
    broken_off = prepared(job("broken-off", body_limit="9m"))
    phases.switch(broken_off)
    assert played.serving() == broken_off.wanted[0].release
    sick = job("sick")
    played.sick.add(sick.wanted[0].release)
    with pytest.raises(releases.ReleaseError, match="step prepare"):
        phases.prepare(sick)
    assert played.serving() == old
    made = release(job("well"))
    state = releases.read_state("orders")
    assert (played.serving(), files.previous(state)) == (made, old)


def test_a_rollback_ends_a_deployment_that_broke_off(played: Played, job: Callable[..., phases.Job]) -> None:
    old = release(job("old"))
    broken_off = prepared(job("broken-off"))
    phases.switch(broken_off)
    back = back_to(old)
    assert phases.prepare(back)
    assert played.serving() == old
    assert release(back) == old
    assert not phases.take_back(back)


def test_what_is_committed_is_not_taken_back(played: Played, job: Callable[..., phases.Job]) -> None:
    release(job("old", hold=300))
    new = job("new", hold=300)
    release(new)
    before = live(played)
    new.refresh()
    assert not phases.take_back(new)
    assert live(played) == before


@pytest.mark.slow
def test_a_kill_at_any_step_of_taking_back_leads_back_all_the_same(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    kill, complete = 0, False
    old = release(job("start", body_limit="1m"))
    while not complete:
        before = (*live(played), played.front())
        new = prepared(job(f"v{kill}", body_limit="9m"))
        phases.switch(new)
        new.refresh()
        complete = not played.killed_at(kill, lambda new=new: phases.take_back(new))
        assert played.serving() in (old, new.wanted[0].release)
        new.refresh()
        phases.take_back(new)
        assert (*live(played), played.front()) == before
        kill += 1
    assert kill > 6, played.steps


@pytest.mark.slow
@pytest.mark.parametrize("rotated", [False, True])
def test_a_kill_at_any_step_of_a_rollback_leaves_one_or_the_other_serving(
    played: Played, job: Callable[..., phases.Job], rotated: bool
) -> None:
    def back() -> phases.Job:
        return today(old, LATER) if rotated else back_to(old)

    kill, complete = 0, False
    while not complete:
        old = release(job("old", body_limit="1m", hold=300 * (kill % 2)))
        new = release(job("new", body_limit="9m", hold=300 * (kill % 2)))
        complete = not played.killed_at(kill, lambda: release(back()))
        wanted = back().wanted[0].release
        assert played.serving() in (wanted, new) and (wanted == old) != rotated
        assert release(back()) == played.serving() == wanted
        assert not back().plans["orders"].changed
        # Staging takes many steps of one kind.
        kill += 3 if rotated else 1
    assert kill > 8, played.steps


# --- migrations ----------------------------------------------------------------------------


def migrating(
    job: Callable[..., phases.Job], version: str, monkeypatch: pytest.MonkeyPatch, *listing: Migration
) -> phases.Job:
    """A job for a service whose release says that it has these migrations."""
    made = job(version, migrate=["node", "migrate.js"], migrations=["node", "migrate.js", "--list"])
    monkeypatch.setattr(phases, "_listing", lambda item, slot: list(listing))
    return made


def test_the_first_release_is_started_after_its_migrations_and_others_before(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    """It may need them to become healthy, and nobody can miss what they change; others prove first that they run."""
    for number, version in enumerate(("first", "new")):
        played.steps.clear()
        release(job(version, migrate=["node", "migrate.js"]))
        started = [step for step in played.steps if " start " in step and "orders" in step]
        migrated = ["_migration@" in step for step in started]
        assert migrated == [number == 0, number == 1], started


def test_a_release_that_is_not_healthy_says_that_its_migrations_have_not_run(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    told = "Its migrations have not run: they do once it is healthy"
    for version in ("first", "new"):
        sick = job(f"sick {version}", migrate=["node", "migrate.js"])
        played.sick.add(sick.wanted[0].release)
        with pytest.raises(releases.ReleaseError, match="did not become healthy") as error:
            release(sick)
        assert (told in str(error.value)) == (version == "new")
        release(job(version, migrate=["node", "migrate.js"]))


def test_a_migration_that_takes_something_away_waits_until_it_is_allowed(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Migration("one", True, False), Migration("two", False, True)
    release(migrating(job, "first", monkeypatch, one, two))
    assert played.serving(), "nothing served, so nothing could be taken away"
    old = played.serving()
    new = migrating(job, "new", monkeypatch, one, two)
    with pytest.raises(releases.ReleaseError, match="two would remove or narrow what release") as error:
        release(new)
    assert "allow_contract_migrations=true" in str(error.value)
    assert played.serving() == old and units_of("green")[0] not in played.running
    assert not [step for step in played.steps if "migration" in step and "new" in step]
    new.allow_contract = True
    assert release(new) == played.serving()


def test_code_that_the_database_has_moved_past_is_refused_ever_after(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Migration("one", True, False), Migration("two", True, True)
    release(migrating(job, "knows-two", monkeypatch, one, two))
    # Older code cannot say what a migration is that it does not know.
    for version in ("older", "older still"):
        old = migrating(job, version, monkeypatch, one, two._replace(contract=False, known=False))
        with pytest.raises(releases.ReleaseError, match=r"moved past release .*: two removed or narrowed"):
            release(old)
    harmless = Migration("three", True, False)
    release(migrating(job, "knows-three", monkeypatch, one, two, harmless))
    unknown = harmless._replace(known=False)
    made = release(migrating(job, "knows-two-again", monkeypatch, one, two, unknown))
    assert played.serving() == made


SYNCHRONIZED = ("database.notes", "one"), ("database.notes", "two")


def comparing(
    job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch, *printed: str, **changes: Any
) -> phases.Job:
    """A job for a service whose schema is asked for: once before the start of the candidate, and once after it."""
    asked = iter(printed)
    journal = lambda unit, since, lines: [next(asked) if "_fingerprint@" in unit else "the last words"]  # noqa: E731
    monkeypatch.setattr(systemd, "journal", journal)
    database = {"name": "database", "prefix": "DATABASE", "engine": DEFAULT, "query": "select 1"}
    return job(f"of {len(printed)}", schemas=[database], **changes)


def schema(*tables: tuple[str, str]) -> str:
    return json.dumps({"schema": dict(tables)})


def test_a_candidate_that_changes_the_schema_when_it_starts_is_stopped_before_it_serves(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = release(job("old"))
    before, after = SYNCHRONIZED
    new = comparing(job, monkeypatch, schema(before, ("database.gone", "x")), schema(after, ("database.tags", "x")))
    with pytest.raises(releases.ReleaseError, match="changed the schema when it started") as error:
        release(new)
    for words in (
        "new: database.tags; changed: database.notes; gone: database.gone",
        f"Release {old} is still serving",
    ):
        assert words in str(error.value)
    assert "schema_at_start: report" in str(error.value)
    assert played.serving() == old and units_of("green")[0] not in played.running


def test_where_it_may_change_the_schema_or_nothing_serves_that_is_reported(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = SYNCHRONIZED
    release(comparing(job, monkeypatch, schema(), schema(before)))
    new = comparing(job, monkeypatch, schema(before), schema(after), schema(), schema_at_start="report")
    assert release(new) == played.serving()
    assert [warning for warning in new.warnings if "changed: database.notes" in warning] == new.warnings[:1]
    assert releases.load_wanted("orders", played.serving()).fingerprint, "a way back to it asks again"


def test_a_schema_that_cannot_be_asked_for_stops_nobody(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = comparing(job, monkeypatch, '{"problem": "the release has none of the packages"}')
    assert release(new) == played.serving()
    assert "not known: the release has none of the packages" in new.warnings[0]


def test_only_the_first_of_its_hosts_compares_and_all_have_the_same_release() -> None:
    database = {"name": "database", "prefix": "DATABASE", "engine": DEFAULT, "query": "select 1"}
    first, second = (make_request(make_spec(schemas=[database]), host=host) for host in ("api-1", "api-2"))
    assert "fingerprint.cjs" in first["fingerprint"] and second["fingerprint"] == ""
    assert first["release"] == second["release"]
    assert {"fingerprint.cjs", "fingerprint.json", f"engine-{DEFAULT}.cjs"} <= set(first["files"])


def test_writes_of_a_deployment_that_another_one_followed_are_refused(host: Path) -> None:
    leases.check_fence(5, releases.STATE)
    leases.check_fence(5, releases.STATE)
    leases.check_fence(7, releases.STATE)
    with pytest.raises(leases.HostError, match="lost its lock"):
        leases.check_fence(6, releases.STATE)
    leases.check_fence(8, releases.STATE)


def flags() -> list[str]:
    return sorted(name for name in os.listdir(releases.STATE) if name.startswith("orders."))


def test_a_switch_renames_the_one_flag_that_there_is(played: Played, job: Callable[..., phases.Job]) -> None:
    release(job("v0"))
    inode = os.stat(releases.flag_path("orders", "blue")).st_ino
    for slot in ("green", "blue", "green"):
        release(job(f"to {slot}"))
        assert flags() == ["orders." + slot]
        assert os.stat(releases.flag_path("orders", slot)).st_ino == inode


@pytest.mark.parametrize("kind", ["nestjs_api", "static_frontend"])
def test_a_lost_flag_is_known_from_the_state_and_restored(
    played: Played, job: Callable[..., phases.Job], kind: str
) -> None:
    release(job("old", hold=300))
    made = job("new", hold=300)
    new = release(made)
    if kind == "static_frontend":
        made.wanted = [dataclasses.replace(item, kind=kind, slots={}) for item in made.wanted]
    os.unlink(releases.flag_path("orders"))
    made.refresh()
    todo = made.plans["orders"]
    assert (todo.live, todo.serving, todo.candidate) == ("green", new, False)
    assert todo.repairs == ("restore its flag file, which was lost: requests go to slot blue",)
    assert release(made) == new and flags() == ["orders.green"]
    assert played.serving() == new
    assert not releases.plan(made.wanted[0], releases.observe(made.wanted)["orders"]).changed


def test_a_lost_flag_is_restored_before_the_next_release_takes_the_idle_slot(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    release(job("old"))
    new = release(job("new"))
    os.unlink(releases.flag_path("orders"))
    sick = job("sick")
    played.sick.add(sick.wanted[0].release)
    with pytest.raises(releases.ReleaseError, match="step prepare"):
        phases.prepare(sick)
    assert played.serving() == new


def test_a_host_of_an_earlier_version_gets_its_flag_in_the_first_run(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    made = job("v1")
    new = release(made)
    # Earlier versions had no flag while blue was live, and a plain state.json.
    os.unlink(releases.flag_path("orders", "blue"))
    Path(releases.state_path("orders")).write_text(json.dumps(releases.read_state("orders")))
    made.refresh()
    assert made.plans["orders"].repairs == ("create its flag file, so that a switch needs no disk space",)
    assert release(made) == new == played.serving() and flags() == ["orders.blue"]
    assert Path(releases.state_path("orders")).read_text().startswith("[")
    made.refresh()
    assert not made.plans["orders"].changed


def test_without_a_flag_an_uncommitted_switch_to_blue_is_one(played: Played, job: Callable[..., phases.Job]) -> None:
    """An earlier version removed the flag to switch to blue; state.json still says green."""
    release(job("one"))
    two = release(job("two"))
    three = prepared(job("three"))
    phases.switch(three)
    os.unlink(releases.flag_path("orders", "blue"))
    three.refresh()
    assert three.plans["orders"].live == "blue" and played.serving() == three.wanted[0].release
    phases.take_back(three)
    assert played.serving() == two and flags() == ["orders.green"]


@pytest.mark.slow
@pytest.mark.parametrize("reboot", [False, True])
@pytest.mark.parametrize("first", [True, False])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_serving_and_the_next_run_heals(
    played: Played, job: Callable[..., phases.Job], first: bool, reboot: bool
) -> None:
    """Also where the host is rebooted after the kill, so that only what is enabled runs."""
    versions = iter(range(1000))
    old = "" if first else release(job("start"))
    kill, killed = 0, 0
    while True:
        version = f"v{next(versions)}"
        new = job(version, body_limit="9m" if kill % 2 else "1m")
        killed += played.killed_at(kill, lambda new=new: release(new))
        if reboot:
            played.running = set(played.enabled)
        assert played.serving() in {old, new.wanted[0].release}, f"after a kill at step {kill}"
        if old:
            assert played.serving(), f"nothing serves after a kill at step {kill}"
        complete = len(played.steps) < kill
        old = release(new)
        unit = sorted(played.running)
        assert live(played) == (old, unit, unit) and len(unit) == 1
        assert not releases.plan(new.wanted[0], releases.observe(new.wanted)["orders"]).changed
        if complete:
            break
        kill += 1
        if first:
            # Begin with nothing again.
            old = ""
            played.running.clear()
            played.enabled.clear()
            for path in (played.root / "nginx/fivepointers/front-orders.conf", Path(releases.flag_path("orders"))):
                path.unlink(missing_ok=True)
            for slot in releases.SLOTS:
                Path(releases.slot_path("orders", slot)).unlink(missing_ok=True)
    assert killed >= 10, played.steps


# --- secrets of now, in releases of then ----------------------------------------------------

LATER = {**SECRETS, "jwt": "rotated-token"}


def today(release: str, secrets: dict[str, str]) -> phases.Job:
    """A job that goes back to a release with these secrets."""
    wanted = environments.with_secrets_of_now(releases.load_wanted("orders", release), secrets)
    made = phases.Job("api-1", [wanted], {}, {}, secrets, {})
    made.refresh()
    return made


def running_environment() -> str:
    slot = "green" if os.path.exists(releases.flag_path("orders")) else "blue"
    return Path(releases.environment_path("orders", slot)).read_text()


def test_a_rollback_takes_the_secrets_of_now_and_everything_else_of_then(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    first = release(job("first"))
    old = release(job("old", hold=300, memory="1G", body_limit="3m", environment={"T": "x-${secret.jwt}", "A": "then"}))
    release(job("new", hold=300, memory="3G", body_limit="9m", environment={"T": "${secret.jwt}", "A": "now"}))
    played.steps.clear()
    back = today(old, LATER)
    made = back.wanted[0]
    assert made.release != old and not back.plans["orders"].ready, "what still runs has a secret that was revoked"
    assert back.plans["orders"].stage == old, "its code is on the host"
    assert release(back) == played.serving() == made.release
    assert any(step.startswith("systemctl start") for step in played.steps)
    assert running_environment() == 'A="then"\nT="x-rotated-token"\n'
    assert "3m" in (played.front() or "")
    kept, derived = (Path(releases.release_path("orders", name)) for name in (old, made.release))
    for file in ("unit", "front.conf", "app/dist/main.js"):
        assert (kept / file).read_text().replace(old, made.release) == (derived / file).read_text()
    assert sorted(os.listdir(kept)) == sorted(os.listdir(derived))
    state = releases.read_state("orders")
    assert files.previous(state) == first, "the next rollback goes one step further back"
    assert not today(old, LATER).plans["orders"].changed, "the same rollback again does nothing"
    assert not today(made.release, LATER).plans["orders"].changed


def test_a_release_with_secrets_of_now_is_the_one_that_a_deployment_makes(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = release(job("old"))
    release(job("new"))
    back = release(today(old, LATER))
    monkeypatch.setitem(SECRETS, "jwt", LATER["jwt"])
    again = job("old")
    assert again.wanted[0].release == back
    assert not again.plans["orders"].changed


def test_where_no_secret_changed_a_rollback_starts_nothing(played: Played, job: Callable[..., phases.Job]) -> None:
    old = release(job("old", hold=300))
    release(job("new", hold=300))
    played.steps.clear()
    back = today(old, {**SECRETS, "another": "x"})
    assert back.wanted[0].release == old and back.plans["orders"].ready
    assert release(back) == played.serving() == old
    assert [step for step in played.steps if "start" in step or step in ("stage", "fronts")] == []


def test_further_rollbacks_go_further_back_with_secrets_of_now(played: Played, job: Callable[..., phases.Job]) -> None:
    made = [release(job(f"v{number}")) for number in range(4)]
    served = []
    for _step in range(3):
        target = files.previous(releases.read_state("orders"))
        release(today(target, LATER))
        served.append(releases.load_wanted("orders", played.serving()).of)
    assert served == [made[2], made[1], made[0]]
    assert files.previous(releases.read_state("orders")) == ""


def test_a_secret_that_is_gone_is_named_with_the_way_out(played: Played, job: Callable[..., phases.Job]) -> None:
    old = release(job("old"))
    release(job("new"))
    with pytest.raises(releases.ReleaseError, match=r"the secret 'jwt' was not passed.*-e secrets=then") as error:
        today(old, {})
    assert SECRETS["jwt"] not in str(error.value)


def test_a_release_of_an_earlier_version_comes_back_as_it_was(played: Played, job: Callable[..., phases.Job]) -> None:
    old = release(job("old"))
    release(job("new"))
    Path(releases.release_path("orders", old), environments.TEMPLATES).unlink()
    assert release_module.look(["orders"])["orders"]["kept"][-1]["secrets"] is None
    assert release(today(old, {})) == played.serving() == old
    assert SECRETS["jwt"] in running_environment()


def test_a_release_tells_the_names_of_its_secrets_and_hides_what_they_are(
    played: Played, job: Callable[..., phases.Job]
) -> None:
    made = release(job("old", environment={"U": "x://${secret.database.password|url}@h", "T": "${secret.jwt}"}))
    (kept,) = release_module.look(["orders"])["orders"]["kept"]
    assert kept["secrets"] == ["database.password", "jwt"]
    path = Path(releases.release_path("orders", made), environments.TEMPLATES)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SECRETS["jwt"] not in path.read_text()


# --- what the module says -------------------------------------------------------------------


def call(capsys: pytest.CaptureFixture[str], **arguments: Any) -> tuple[dict[str, Any], str]:
    """Run the module as Ansible does; give its result, and all that it wrote."""
    with patch_module_args({"services": [], "host": "api-1", **arguments}), pytest.raises(SystemExit):
        release_module.main()
    written = "".join(capsys.readouterr())
    return json.loads(written), written


@pytest.mark.parametrize("of", ["now", "then"])
def test_a_failed_rollback_shows_no_secret_of_any_release(
    played: Played,
    job: Callable[..., phases.Job],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    of: str,
) -> None:
    """Neither of the release that is gone back to, nor of the live one, nor of one that a relative of it logged."""
    environment = {
        "URL": "mysql://app:${secret.database.password|url}@db-1/o",
        "T": "${secret.jwt}",
        "MODE": "production",
    }
    old = release(job("old", environment=environment))
    monkeypatch.setitem(SECRETS, "jwt", "of the live one")
    release(job("new", environment=environment))
    secrets = {"jwt": "of today: ü/+", "database.password": "today's p@ss"}
    every = ["canary-token", "canary p@ss", "canary%20p%40ss", "of the live one"]
    every += secrets.values() if of == "now" else []
    lines = [form for text in every for form in (f"denied {text}", json.dumps({"v": text}), quote(text, safe=""))]
    lines += [b64encode(f"app:{text}".encode()).decode() for text in every]
    monkeypatch.setattr(systemd, "journal", lambda unit, since, count: [*lines, "M is production on port 3001"])
    monkeypatch.setattr(phases, "health_problem", lambda wanted, port: f"500 with {every[0]} and {every[-1]}")
    taken = {"secrets": secrets, "target_secrets": {"orders": sorted(secrets)}} if of == "now" else {}
    result, written = call(capsys, phase="prepare", targets={"orders": old}, **taken)
    assert "step prepare" in result["msg"] and "M is production on port 3001" in result["msg"]
    for text in every:
        for form in (text, json.dumps(text)[1:-1], quote(text, safe=""), b64encode(text.encode()).decode()[2:-4]):
            assert form not in written


@pytest.mark.parametrize("phase", ["plan", "prepare", "all"])
def test_native_code_for_another_machine_is_refused_before_the_archive_is_sent(
    played: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], phase: str
) -> None:
    monkeypatch.setattr(platforms, "here", lambda: "linux-arm64")
    monkeypatch.setattr(platforms, "libc", lambda: "glibc 2.36")
    code = {"package": "x", "file": "node_modules/x/x.node", "platform": "linux-x64", "libc": "glibc 2.17"}
    request = make_request(manifest=make_manifest(native=[code]))
    result, _written = call(capsys, phase=phase, requests=[request], secrets=SECRETS)
    assert result["failed"] and "needs" not in result and not played.steps
    for words in (
        f"orders: node_modules/x/x.node in artifact {'a' * 16} is for linux-x64 with glibc 2.17, and api-1 is "
        "linux-arm64 with glibc 2.36.",
        "Build on a machine like that",
        "build.exclude: [node_modules/x/x.node]",
    ):
        assert words in result["msg"]
    request = make_request(manifest=make_manifest(native=[code, {**code, "platform": "linux-arm64"}]))
    result, _written = call(capsys, phase="plan", requests=[request], secrets=SECRETS)
    assert result["lacking"] == ["orders"]


def test_what_a_page_offers_for_download_runs_elsewhere() -> None:
    code = {"package": "", "file": "setup.node", "platform": "win32", "libc": ""}
    assert make_request(make_spec("static_frontend"), make_manifest(native=[code]))["native"] == []


def test_a_damaged_record_of_an_adopted_port_is_told(
    played: Played, job: Callable[..., phases.Job], capsys: pytest.CaptureFixture[str]
) -> None:
    old = release(job("old"))
    release(job("new"))
    Path(adoption.record_path("orders")).write_text("[3")
    result, _written = call(capsys, phase="prepare", targets={"orders": old})
    assert "adopted.json is damaged" in result["msg"] and "Restore the file" in result["msg"]


def test_a_deployment_masks_what_an_earlier_version_staged(
    played: Played,
    job: Callable[..., phases.Job],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = release(job("old", environment={"SIGNED_WITH": "${secret.jwt}"}))
    Path(releases.release_path("orders", old), environments.TEMPLATES).unlink()
    monkeypatch.setitem(SECRETS, "jwt", "rotated-token")
    monkeypatch.setattr(phases, "health_problem", lambda wanted, port: "500 with canary-token and rotated-token")
    new = job("new", environment={"SIGNED_WITH": "${secret.jwt}"})
    result, written = call(capsys, phase="prepare", requests=[vars(new.wanted[0])], secrets=SECRETS, sent=new.archives)
    assert "500 with ******** and ********" in result["msg"]
    assert "canary-token" not in written


def test_the_module_gives_no_result_that_masks_its_own_identifiers(
    played: Played, job: Callable[..., phases.Job], capsys: pytest.CaptureFixture[str]
) -> None:
    old = release(job("old", hold=300))
    release(job("new", hold=300))
    result, _written = call(capsys, phase="switch", targets={"orders": old}, secrets=SECRETS)
    assert result["services"]["orders"]["release"] == played.serving() == old
    assert "of" not in result["services"]["orders"]
    taken = {"secrets": LATER, "target_secrets": {"orders": ["jwt"]}}
    result, _written = call(capsys, phase="plan", targets={"orders": old}, **taken)
    assert result["services"]["orders"]["of"] == old != result["services"]["orders"]["release"]


def test_the_number_of_the_deployment_is_recorded(
    played: Played, job: Callable[..., phases.Job], capsys: pytest.CaptureFixture[str]
) -> None:
    old = release(job("old", hold=300))
    release(job("new", hold=300))
    deployment = {"id": "20261201T000000Z-ab12", "by": "someone@somewhere", "number": 7}
    register.claim(leases.HostStore(str(releases.STATE)), deployment["id"], "someone", "now")
    for phase in ("switch", "commit"):
        call(capsys, phase=phase, targets={"orders": old}, secrets=SECRETS, deployment=deployment)
        look = release_module.look(["orders"])["orders"]
        entry = look["pending"] if phase == "switch" else look["live"]
        assert (entry["deployment"], entry["by"], entry["number"]) == (*list(deployment.values())[:2], 7)
    assert look["history"][-1]["number"] == 7


def test_a_secret_that_was_rotated_is_taken_up_in_the_idle_slot(
    played: Played, job: Callable[..., phases.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next deployment sees it, although neither the code nor the catalogue changed."""
    old = release(job("same"))
    monkeypatch.setitem(SECRETS, "jwt", "rotated-by-rds")
    made = job("same")
    todo = made.plans["orders"]
    assert todo.candidate and todo.slot == "green" and todo.stage == old, "nothing is sent"
    assert [reason.partition(" (")[0] for reason in todo.reasons] == ["its environment differs"]
    assert release(made) == played.serving() != old
    assert 'TOKEN="rotated-by-rds"' in running_environment()
    assert not job("same").plans["orders"].changed
