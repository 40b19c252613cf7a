# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A switch that nobody confirms: the host takes it back by itself, and only then."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import register
from ansible_collections.fivepointers.platform.plugins.module_utils.release import confirm, leases, phases, releases

from . import test_phases
from .test_phases import Played, release

# The same played host.
job, played = test_phases.job, test_phases.played

Make = Callable[..., phases.Job]

AUTHOR = {"deployment": "run", "by": "ann", "number": 5}
PENDING = {"deployment": "run", "number": 5}
LEASE = {"id": "run", "number": 5, "released": False}


@pytest.mark.parametrize(
    "lease, age, gone",
    [
        (LEASE, 10, False),
        (LEASE, register.LEASE, True),
        ({**LEASE, "released": True}, 1, True),
        # Another run has the lock: it inherits the switch, or nobody confirms it any more.
        ({**LEASE, "id": "other"}, 1, True),
        ({}, 0, True),
    ],
)
def test_when_a_switch_is_forsaken(lease: dict[str, Any], age: float, gone: bool) -> None:
    assert confirm.forsaken(PENDING, lease, age) == gone


def switched(make: Make) -> tuple[str, phases.Job]:
    """Have a release live, and another switched to by a deployment; give the first, and the second's job."""
    old = release(make("old"))
    new = make("new")
    new.author = dict(AUTHOR)
    phases.prepare(new)
    new.refresh()
    phases.switch(new)
    new.refresh()
    return old, new


@pytest.fixture
def lease(host: Path, monkeypatch: pytest.MonkeyPatch) -> leases.HostStore:
    """The lock of this host, held by the deployment."""
    store = leases.HostStore(str(releases.STATE))
    register.claim(store, "run", "ann", "now")
    leases.check_fence(5, str(releases.STATE))
    return store


def test_what_nobody_confirms_is_taken_back_and_the_next_run_says_so(
    played: Played,
    job: Make,
    lease: leases.HostStore,
) -> None:
    old, new = switched(job)
    assert confirm.take_back() == [] and played.serving() != old, "its run lives"
    lease.update(lambda record, _age: register.released(record, "run"))
    assert confirm.take_back() == ["orders"]
    assert played.serving() == old and confirm.unconfirmed() == {}
    new.refresh()
    reasons = " ".join(new.plans["orders"].reasons)
    assert "took release %s back by itself: the deployment run, by ann" % new.wanted[0].release in reasons
    with pytest.raises(releases.ReleaseError, match="no longer in place"):
        confirm.confirm(new)
    assert release(new) == played.serving()
    assert not releases.read_state("orders").get("unconfirmed")


def test_the_next_run_inherits_a_switch_to_what_it_wants(played: Played, job: Make, lease: leases.HostStore) -> None:
    old, new = switched(job)
    lease.update(lambda record, _age: register.released(record, "run"))
    register.claim(lease, "next", "bob", "now")
    new.author = {"deployment": "next", "by": "bob", "number": 6}
    new.refresh()
    assert confirm.inherit(new) and not confirm.inherit(new.refresh() or new)
    assert confirm.take_back() == [] and played.serving() == new.wanted[0].release
    lease.update(lambda record, _age: register.released(record, "next"))
    assert confirm.take_back() == ["orders"] and played.serving() == old


def test_what_was_replaced_and_has_ended_is_started_before_it_serves(
    played: Played, job: Make, lease: leases.HostStore
) -> None:
    old, _new = switched(job)
    played.running.discard(releases.unit_name("orders", "blue"))
    lease.update(lambda record, _age: register.released(record, "run"))
    played.steps.clear()
    assert confirm.take_back() == ["orders"] and played.serving() == old
    steps = [step for step in played.steps if "start" in step or step == "set_flag"]
    assert steps[:2] == ["systemctl start fivepointers-orders@blue.service", "set_flag"]


def test_a_damaged_state_leaves_the_others_watched(played: Played, job: Make, lease: leases.HostStore) -> None:
    old, _new = switched(job)
    broken = Path(releases.state_path("broken"))
    broken.parent.mkdir(parents=True)
    broken.write_text('{"live": 3}')
    lease.update(lambda record, _age: register.released(record, "run"))
    assert confirm.take_back() == ["orders"] and played.serving() == old


def test_what_is_confirmed_stays(played: Played, job: Make, lease: leases.HostStore) -> None:
    old, new = switched(job)
    assert confirm.confirm(new)
    lease.update(lambda record, _age: register.released(record, "run"))
    assert confirm.take_back() == [] and played.serving() == new.wanted[0].release != old
    new.refresh()
    assert phases.commit(new)


def test_a_kill_of_the_watch_at_any_point_is_made_up_for(
    played: Played,
    job: Make,
    lease: leases.HostStore,
) -> None:
    kill = 0
    while True:
        old, _new = switched(job)
        lease.update(lambda record, _age: register.released(record, "run"))
        played.steps.clear()
        played.kill = kill
        try:
            confirm.take_back()
            finished = True
        except BaseException as error:
            assert type(error).__name__ == "Killed"
            finished = False
        played.kill = None
        if finished:
            break
        confirm.take_back()
        assert played.serving() == old and confirm.unconfirmed() == {}
        lease.update(lambda record, age: register.claimed(record, age, "run", "ann", "now"))
        kill += 1
    assert kill > 3


def test_older_code_is_not_prepared_by_accident(played: Played, job: Make) -> None:
    new, old = job("new"), job("old")
    for made, seconds in ((new, 2), (old, 1)):
        commit = {"id": str(seconds) * 40, "time": seconds}
        made.wanted = [dataclasses.replace(made.wanted[0], commit=commit)]
    live = release(new)
    old.refresh()
    with pytest.raises(releases.ReleaseError, match=r"older than commit 222222222222.*-e older=true"):
        phases.prepare(old)
    assert played.serving() == live
    old.allow_older = ["orders"]
    assert release(old) == played.serving() != live


def test_the_watch_runs_without_ansible(tmp_path: Path) -> None:
    """As its unit runs it: nothing is switched on this machine, so it ends at once."""
    (tmp_path / "confirm.zip").write_bytes(confirm.program())
    done = subprocess.run(
        [sys.executable, "-S", "-m", confirm.PACKAGE + ".release.confirm"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "confirm.zip")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert confirm.program() == confirm.program()


def test_a_unit_is_written_once(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm.systemd, "enable", played.enabled.add)
    confirm.install()
    steps = len(played.steps)
    assert steps and confirm.UNIT in played.enabled
    confirm.install()
    assert len(played.steps) == steps
    text = (played.root / "units" / confirm.UNIT).read_text()
    assert confirm.program_path() in text and sys.executable in text
