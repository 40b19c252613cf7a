"""What operators see of processes without a port: one at a time, whatever is deployed, killed or rebooted."""

from __future__ import annotations

import contextlib
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
ROLLBACK = PROJECT / "molecule/background/rollback.yml"
SERVICES = ("mails", "bot", "feed")

testinfra_hosts = ["ansible://jobs-1"]
Logs = Callable[[str], list[str]]
# What each application is built as.
versions = dict.fromkeys(SERVICES, "good")


def play(*playbooks: Path, **variables: Any) -> tuple[int, str]:
    """Run playbooks of the scenario; give the status and all that was said, on one line."""
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], *map(str, playbooks)]
    command += ["-e", json.dumps(variables)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def deploy(**changes: str) -> tuple[int, str]:
    """Build these applications as these versions, and release them."""
    return play(SHARED / "build.yml", SHARED / "service.yml", versions={**versions, **changes})


@pytest.fixture
def logs(host: Host) -> Logs:
    """What the processes of a service did in this test, in order."""

    def lines(service: str) -> list[str]:
        with host.sudo():
            return host.file(f"/var/lib/fivepointers-{service}/log").content_string.splitlines()

    before = {service: len(lines(service)) for service in SERVICES}
    return lambda service: lines(service)[before[service] :]


def processes(host: Host, service: str) -> dict[str, str]:
    """The process of each slot that runs."""
    shown = {
        slot: host.check_output("systemctl show -P MainPID fivepointers-%s@%s", service, slot)
        for slot in ("blue", "green")
    }
    return {slot: pid for slot, pid in shown.items() if pid != "0"}


def release(host: Host, service: str) -> str:
    """The release that is recorded as live."""
    with host.sudo():
        copies = json.loads(host.file(f"/var/lib/fivepointers/{service}/state.json").content_string)
    record = max(filter(None, copies), key=lambda copy: copy["number"])["record"]
    return str(record["live"]["release"])


def eventually(check: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        # Of a host that just starts, testinfra says that ssh fails.
        with contextlib.suppress(RuntimeError):
            if check():
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def overlapped(did: list[str], old: str, new: str) -> None:
    """Both ran side by side, and were told which of them is live, before the old one ended."""
    started, *told, ending, ended = did
    assert started == f"{new} started idle"
    assert sorted(told) == sorted([f"{new} is live", f"{old} is idle"])
    assert (ending, ended) == (f"{old} finishes its job", f"{old} ended")


@pytest.mark.parametrize("service", SERVICES)
def test_it_runs_without_a_front(host: Host, service: str) -> None:
    assert list(processes(host, service)) == ["blue"]
    assert not host.file(f"/etc/nginx/fivepointers/front-{service}.conf").exists


def test_its_time_to_end_is_the_catalogues(host: Host) -> None:
    assert host.check_output("systemctl show -P TimeoutStopUSec fivepointers-mails@blue") == "20s"


def test_the_old_process_finishes_its_job_before_the_new_one_starts(host: Host, logs: Logs) -> None:
    """Unless they may overlap: then both are told which of them is live."""
    untouched = processes(host, "feed")
    status, said = deploy(mails="slow", bot="better")
    assert status == 0, said
    versions.update(mails="slow", bot="better")
    assert logs("mails") == ["good finishes its job", "good ended", "slow started live"]
    overlapped(logs("bot"), "good", "better")
    assert processes(host, "feed") == untouched and not logs("feed")
    assert [list(processes(host, service)) for service in SERVICES] == [["green"], ["green"], ["blue"]]


def test_a_rollback_is_a_switch_like_any_other(host: Host, logs: Logs) -> None:
    with host.sudo():
        kept = {service: host.file(f"/opt/fivepointers/{service}/slots/blue").linked_to for service in ("mails", "bot")}
    targets = {service: Path(path).name for service, path in kept.items()}
    status, said = play(ROLLBACK, targets=targets)
    assert status == 0, said
    versions.update(mails="good", bot="good")
    assert logs("mails") == ["slow finishes its job", "slow ended", "good started live"]
    overlapped(logs("bot"), "better", "good")
    assert {service: release(host, service) for service in targets} == targets


def test_one_that_does_not_keep_running_gives_way_to_the_old_one(host: Host, logs: Logs) -> None:
    status, said = deploy(feed="crashing")
    assert status
    for part in ("feed on jobs-1, step switch", "was started again", "keeps running for 1 s", "Error: no queue"):
        assert part in said, said
    first, second, *crashes, last = logs("feed")
    assert (first, second, last) == ("good finishes its job", "good ended", "good started live")
    assert set(crashes) == {"crashing started live"}
    assert list(processes(host, "feed")) == ["blue"]


def test_one_that_does_not_touch_its_file_gives_way_to_the_old_one(host: Host, logs: Logs) -> None:
    status, said = deploy(mails="sick")
    assert status
    for part in ("step switch", "was started again", "HEALTH_FILE within the last 5 s", "it has not touched it yet"):
        assert part in said, said
    sick = ["sick started live", "sick finishes its job", "sick ended"]
    assert logs("mails") == ["good finishes its job", "good ended", *sick, "good started live"]
    assert list(processes(host, "mails")) == ["blue"]


def test_one_whose_command_fails_leaves_the_one_that_it_would_overlap_alone(host: Host, logs: Logs) -> None:
    before = processes(host, "bot")
    status, said = deploy(bot="sick")
    assert status
    for part in (
        "step prepare",
        "is still serving",
        "whether `node dist/health.js` succeeds",
        "no connection to the queue",
    ):
        assert part in said, said
    assert [line for line in logs("bot") if line.startswith("good")] == []
    assert processes(host, "bot") == before


def test_only_the_live_slot_can_be_started(host: Host, logs: Logs) -> None:
    """Not by hand, and so not at boot either."""
    (live,) = processes(host, "mails")
    idle = "green" if live == "blue" else "blue"
    with host.sudo():
        host.run("systemctl start fivepointers-mails@%s", idle)
        assert list(processes(host, "mails")) == [live] and not logs("mails")
        # After a crash the same one starts again.
        host.check_output("systemctl kill --signal=KILL fivepointers-mails@%s", live)
    eventually(lambda: bool(logs("mails")), 20)
    assert logs("mails") == [f"{versions['mails']} started live"]


def test_a_reboot_starts_the_live_ones_only(host: Host, logs: Logs) -> None:
    before = {service: list(processes(host, service)) for service in SERVICES}
    command = ["python3", "-m", "sandbox", "reboot", "--name", "molecule-background", "jobs-1"]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    eventually(lambda: all(logs(service)[-1].endswith("started live") for service in SERVICES), 20)
    assert {service: list(processes(host, service)) for service in SERVICES} == before
    for service in SERVICES:
        assert logs(service) == ["good finishes its job", "good ended", "good started live"]
