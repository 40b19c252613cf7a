"""What operators see of a process without a port: one at a time, whatever is deployed, killed or rebooted."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SHARED = PROJECT / "molecule/shared"
DATA = "/var/lib/fivepointers-mails"

testinfra_hosts = ["ansible://jobs-1"]


def deploy(version: str) -> tuple[int, str]:
    """Build the application as a version, and release it; give the status and all that was said, on one line."""
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(SHARED / "build.yml")]
    command += [str(SHARED / "service.yml"), "-e", json.dumps({"version": version})]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def log(host: Host) -> Callable[[], list[str]]:
    """What the processes of the test did, in order."""
    with host.sudo():
        before = len(host.file(f"{DATA}/log").content_string.splitlines())

    def log() -> list[str]:
        with host.sudo():
            lines: list[str] = host.file(f"{DATA}/log").content_string.splitlines()[before:]
        return lines

    return log


def running(host: Host) -> list[str]:
    return [slot for slot in ("blue", "green") if host.run(f"systemctl is-active -q fivepointers-mails@{slot}").rc == 0]


def test_it_runs_without_a_front(host: Host) -> None:
    assert running(host) == ["blue"]
    assert not host.file("/etc/nginx/fivepointers/front-mails.conf").exists


def test_the_old_process_finishes_its_job_before_the_new_one_starts(host: Host, log: Callable[[], list[str]]) -> None:
    for version in ("slow", "good"):
        status, said = deploy(version)
        assert status == 0, said
    assert log() == [
        "good finishes its job",
        "good ended",
        "slow started",
        "slow finishes its job",
        "slow ended",
        "good started",
    ]
    assert len(running(host)) == 1


def test_one_that_does_not_touch_its_file_gives_way_to_the_old_one(host: Host, log: Callable[[], list[str]]) -> None:
    status, said = deploy("sick")
    assert status, said
    for part in ("step switch", "was started again", "HEALTH_FILE within the last 5 s", "it has not touched it yet"):
        assert part in said
    assert [line for line in log() if "started" in line] == ["sick started", "good started"]
    assert not [line for line in log() if "beside" in line]
    assert len(running(host)) == 1


def test_only_the_live_slot_can_be_started(host: Host, log: Callable[[], list[str]]) -> None:
    """Not by hand, and so not at boot either."""
    (live,) = running(host)
    idle = "green" if live == "blue" else "blue"
    with host.sudo():
        host.run(f"systemctl start fivepointers-mails@{idle}")
        assert running(host) == [live] and not log()
        # After a crash the same one starts again.
        host.run(f"systemctl kill --signal=KILL fivepointers-mails@{live}")
    deadline = time.monotonic() + 20
    while not any("started" in line for line in log()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running(host) == [live]


def test_its_time_to_end_is_the_catalogues(host: Host) -> None:
    said: Any = host.check_output("systemctl show -P TimeoutStopUSec fivepointers-mails@blue")
    assert said == "20s"
