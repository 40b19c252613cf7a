# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Every phase on a disk without a byte, without an inode, and read-only: the way back works as long as one can write.

The disk is a real one (ext4), and holds all that a host keeps; what is played is systemd and the application.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive, config_tree, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import files, phases, releases

from tests.unit.disk import Disk

from .test_phases import Played, back_to, job, played, prepared, release

__all__ = ["job", "played"]

Job = Callable[..., phases.Job]
FSYNC = os.fsync
BOOT = {name: getattr(systemd, name) for name in ("enable", "disable", "is_enabled")}
# Each alone is noticed; the way back needs neither.
KINDS = ["bytes", "inodes"]


@pytest.fixture
def host(host: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose directories are on the small disk."""
    for name in ("HOME", "SETTINGS", "STATE", "CACHE", "NGINX"):
        monkeypatch.setattr(releases, name, str(disk.path / name.lower()))
        (disk.path / name.lower()).mkdir()
    for name in ("UNITS", "WANTS", "PARKED"):
        monkeypatch.setattr(systemd, name, str(disk.path / "units" / name.replace("UNITS", "").lower()).rstrip("/"))
    monkeypatch.setattr(archive, "RESERVE", 2 << 20)
    monkeypatch.setattr(archive, "RESERVED_INODES", 50)
    monkeypatch.setattr(os, "fsync", FSYNC)
    return disk.path


@pytest.fixture
def small(played: Played, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Played:
    """The played host, with the real links and the real files of nginx."""
    for name, real in BOOT.items():
        monkeypatch.setattr(systemd, name, real)

    def apply_tree(spec: dict[str, Any], check: bool = False) -> dict[str, Any]:
        quiet = {"validate": [], "reload": [], "prove": {}, "state_dir": str(disk.path / "state/trees")}
        return config_tree.apply_tree({**spec, **quiet}, check=check)

    monkeypatch.setattr(phases, "apply_tree", apply_tree)
    return played


def seen(small: Played) -> dict[str, Any]:
    """What users and the next boot get."""
    state = releases.read_state("orders")
    return {
        "serving": small.serving(),
        "front": small.front(),
        "boot": sorted(os.listdir(systemd.WANTS)),
        "live": (state["live"]["release"], state["live"]["slot"]),
        "pending": "pending" in state,
    }


def switched(job: phases.Job) -> phases.Job:
    phases.switch(prepared(job))
    job.refresh()
    return job


@pytest.mark.parametrize("what", KINDS)
def test_a_deployment_does_not_begin_on_a_full_disk(small: Played, job: Job, disk: Disk, what: str) -> None:
    release(job("old"))
    before, new = seen(small), job("new", environment={"PORT": "${self.port}", "A": "2"}, secrets=[])
    disk.fill(what)
    with pytest.raises(releases.ReleaseError, match=r"(the disk is full|are free|inodes left)"):
        phases.prepare(new)
    assert seen(small) == before
    disk.empty()
    assert release(new) == small.serving()


@pytest.mark.parametrize("what", KINDS)
def test_a_candidate_that_fills_the_disk_is_stopped(
    small: Played, job: Job, disk: Disk, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(job("old"))
    before, running = seen(small), set(small.running)
    health = small.health

    def fills(wanted: releases.Wanted, port: int) -> str:
        disk.fill(what)
        return "503" if port != wanted.port else health(wanted, port)

    new = job("new", health={**job("old").wanted[0].health, "start_period": 60})
    monkeypatch.setattr(phases, "health_problem", fills)
    with pytest.raises(releases.ReleaseError, match=r"Came: the disk is full: .* left, and .* have to stay free"):
        phases.prepare(new)
    assert (seen(small), small.running) == (before, running)


@pytest.mark.parametrize("what", KINDS)
def test_nothing_is_switched_on_a_full_disk(small: Played, job: Job, disk: Disk, what: str) -> None:
    release(job("old"))
    before, new = seen(small), prepared(job("new"))
    disk.fill(what)
    with pytest.raises(releases.ReleaseError, match="the disk is full"):
        phases.switch(new)
    assert seen(small) == before
    phases.take_back(new)
    assert seen(small) == before and len(small.running) == 1


@pytest.mark.parametrize("changes", [{}, {"body_limit": "9m"}], ids=["same front", "other front"])
@pytest.mark.parametrize("live", releases.SLOTS)
def test_a_switch_is_taken_back_on_a_full_disk(
    small: Played, job: Job, disk: Disk, live: str, changes: dict[str, Any]
) -> None:
    for version in ("older", "old")[: 1 + (live == "green")]:
        release(job(version))
    before = seen(small)
    assert before["live"][1] == live
    new = switched(job("new", **changes))
    assert small.serving() == new.wanted[0].release
    disk.fill()
    assert phases.take_back(new)
    assert seen(small) == before and not new.warnings, "another front was written with the spare space"
    assert len(small.running) == 1


def test_what_a_full_disk_prevents_is_told_and_done_by_the_next_run(small: Played, job: Job, disk: Disk) -> None:
    release(job("old"))
    before = seen(small)
    new = switched(job("new", body_limit="9m"))
    disk.fill()
    # What is spare went to the service as well.
    assert files.use_spare()
    disk.fill()
    phases.take_back(new)
    assert seen(small) == {**before, "front": new.wanted[0].front, "pending": True}
    assert "the old release has the requests again, but this is not done: The front of orders" in new.warnings[0]
    assert "The next run does it." in new.warnings[0]
    disk.empty()
    new.refresh()
    phases.take_back(new)
    assert seen(small) == before


def test_a_switch_is_committed_on_a_full_disk(small: Played, job: Job, disk: Disk) -> None:
    for version in ("one", "two", "three", "four"):
        keep = {"releases": 2, "bytes": 1 << 30}
        new = switched(job(version, keep=keep))
        disk.fill()
        phases.commit(new)
        disk.empty()
        assert seen(small)["live"][0] == new.wanted[0].release == small.serving()
        assert seen(small)["boot"] == list(small.running) and not seen(small)["pending"]
    assert len(os.listdir(releases.release_path("orders"))) == 2


@pytest.mark.parametrize("changes", [{}, {"body_limit": "9m"}], ids=["same front", "other front"])
@pytest.mark.parametrize("live", releases.SLOTS)
def test_a_release_that_is_held_is_rolled_back_to_on_a_full_disk(
    small: Played, job: Job, disk: Disk, live: str, changes: dict[str, Any]
) -> None:
    for version in ("older", "old")[: 1 + (live == "green")]:
        old = release(job(version, hold=300))
    front = small.front()
    release(job("new", hold=300, **changes))
    disk.fill()
    back = back_to(old)
    back.rollback = True
    assert not phases.prepare(back)
    phases.switch(back)
    assert small.serving() == old
    back.refresh()
    phases.commit(back)
    assert seen(small) == {
        "serving": old,
        "front": front,
        "boot": [releases.unit_name("orders", live)],
        "live": (old, live),
        "pending": False,
    }
    assert not back.warnings


def test_a_rollback_goes_on_without_its_front_and_says_so(small: Played, job: Job, disk: Disk) -> None:
    old = release(job("old", hold=300))
    release(job("new", hold=300, body_limit="9m"))
    disk.fill()
    assert files.use_spare()
    disk.fill()
    back = back_to(old)
    back.rollback = True
    phases.switch(back)
    assert small.serving() == old and "this is not done: The front of orders" in back.warnings[0]
    back.refresh()
    assert "restore its front, which was changed manually" in back.plans["orders"].repairs


@pytest.mark.parametrize("phase", ["prepare", "switch", "commit", "take_back", "rollback"])
def test_on_a_read_only_disk_nothing_changes_and_a_sentence_says_why(
    small: Played, job: Job, disk: Disk, phase: str
) -> None:
    old = release(job("old", hold=300))
    new = job("new", hold=300)
    if phase != "prepare":
        prepared(new)
    if phase in ("commit", "take_back", "rollback"):
        switched(new)
    if phase == "rollback":
        phases.commit(new)
        new = back_to(old)
        new.rollback = True
    before = seen(small)
    disk.read_only()
    with pytest.raises(phases.ERRORS) as error:
        getattr(phases, phase.replace("rollback", "switch"))(new)
    assert phases.explain(error.value).startswith("The file system is read-only: ")
    assert "what is live stays live" in phases.explain(error.value)
    assert seen(small) == before


ROOT = Path(__file__).parents[3]
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - fivepointers.platform.release: {phase: look, services: [{name: absent}]}
"""
#: A Python as on a host where nothing can be created in the directories for temporary files. The virtual environment's
#: may be below one of them.
PYTHON = f"""#!/bin/sh
exec unshare --mount sh -c 'mount -t tmpfs -o nr_inodes=1 full /tmp && mount --bind /tmp /var/tmp &&
    cd /tmp && exec {sys._base_executable} "$@"' sh "$@"
"""


@pytest.mark.slow
def test_ansible_unpacks_the_module_where_a_full_disk_does_not_stop_it() -> None:
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    # Visible there, as /tmp is not.
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        play, python = Path(folder) / "play.yml", Path(folder) / "python"
        play.write_text(PLAY)
        python.write_text(PYTHON)
        python.chmod(0o755)
        done = subprocess.run(
            ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={python}", play],
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_REMOTE_TEMP": folder},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
