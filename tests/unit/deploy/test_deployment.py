# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What became of a deployment, and the processes that live as long as a run does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import companion as companions
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import steps as deploy_steps


def step(name: str, host: str, failed: bool = False, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "host": host,
        "services": ["api"],
        "start": 10.0,
        "end": 11.0,
        "failed": failed,
        "message": "it did not work" if failed else "",
        "releases": {"api": {"from": "old", "to": "new"}},
        **changes,
    }


ROOT = Path(__file__).parents[3]


def test_a_step_records_which_release_was_restored_with_other_secrets(tmp_path: Path) -> None:
    services = {"api": {"serving": "new", "release": "made", "of": "old"}, "web": {"serving": "w2", "release": "w1"}}
    args = {"deployment": {"journal": str(tmp_path / "journal")}, "phase": "prepare"}
    deploy_steps.record_step(args, "a", [{"name": "api"}, {"name": "web"}], 1.0, {"services": services})
    (line,) = (tmp_path / "journal").read_text().splitlines()
    assert deploy_steps.released([json.loads(line)]) == {
        "api": {"from": "new", "to": "made", "of": "old", "hosts": ["a"]},
        "web": {"from": "w2", "to": "w1", "hosts": ["a"]},
    }


BACK = [step("take back", "a"), step("take back", "b")]


# --- what became of it -------------------------------------------------------------


@pytest.mark.parametrize(
    "steps, failures, outcome",
    [
        ([step("prepare", "a"), step("switch", "a"), step("commit", "a")], [], "committed"),
        ([], [], "committed"),
        ([step("prepare", "a", failed=True), step("take back", "a")], [], "taken back"),
        ([step("switch", "a"), step("switch", "b", failed=True), *BACK], [], "taken back"),
        ([step("switch", "a"), step("take back", "a")], ["the front door"], "taken back"),
        ([step("switch", "a"), step("switch", "b", failed=True), step("take back", "a")], [], "failed"),
        ([step("switch", "a"), step("take back", "a", failed=True)], ["x"], "failed"),
        ([step("switch", "a"), step("take back", "a")], [], "taken back"),
    ],
)
def test_what_became_of_it(steps: list[dict[str, Any]], failures: list[str], outcome: str) -> None:
    assert deploy_steps.outcome_of(steps, failures) == outcome
    message = deploy_steps.message_of(outcome, steps, failures)
    assert (message == "") == (outcome == "committed")
    for failure in failures:
        assert failure in message
    for item in steps:
        if item["failed"]:
            assert f"{item['host']}: it did not work" in message


def test_a_commit_that_is_not_complete_is_told_as_such() -> None:
    steps = [step("switch", "a"), step("switch", "b"), step("commit", "a"), step("commit", "b", failed=True)]
    assert deploy_steps.outcome_of(steps, []) == "failed"
    message = deploy_steps.message_of("failed", steps, [])
    assert (
        "b: it did not work" in message and "The new releases are live" in message and "run deploy.yml again" in message
    )


def test_services_and_times_of_the_report() -> None:
    steps = [
        step("prepare", "a", start=1.0, end=2.0),
        step("prepare", "b", start=1.0, end=2.5),
        step("switch", "a", start=3.0, end=3.5),
        step("commit", "a", start=6.0, end=7.0, releases={"api": {"from": "new", "to": "new"}}),
    ]
    assert deploy_steps.released(steps) == {"api": {"from": "old", "to": "new", "hosts": ["a", "b"]}}
    drawn = deploy_steps.timeline(steps, 1.0)
    assert {"name": "verify", "services": [], "host": "", "start": 2.5, "end": 5.0} in drawn
    assert [item["start"] for item in drawn] == sorted(item["start"] for item in drawn)


def test_what_is_asked_during_a_deployment() -> None:
    def service(name: str, url: str | None, yjs: bool = False, **health: Any) -> dict[str, Any]:
        return {"name": name, "url": url, "public": [url] if url else [], "yjs": yjs, "health": health}

    asked = deploy_steps.targets(
        [
            service("api", "https://api.example.com", path="/api/health"),
            service("sites", "https://*.example.com", path="/healthz"),
            service("board", "https://example.com/board", path="/board/"),
            service("collab", "wss://ws.example.com", yjs=True),
            service("relay", "wss://relay.example.com"),
            service("inner", None),
        ]
    )
    assert [(item["service"], item["kind"]) for item in asked] == [
        ("api", "http"),
        ("sites", "http"),
        ("board", "http"),
        ("collab", "websocket"),
    ]
    assert asked[0]["url"] == "https://api.example.com/api/health"
    assert asked[1]["url"] == "https://deployment-probe.example.com/healthz"
    assert asked[3]["url"] == "wss://ws.example.com/deployment-probe"
    assert 502 not in asked[0]["status"] and 404 in asked[0]["status"]


# --- the process beside the playbook -------------------------------------------------

COMPANION = """
import sys
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import companion

companion.RENEWAL = 0.2

class Probe:
    number = 0
    def start(self): pass
    def result(self): self.number += 1; return {"asked": self.number}
    def stop(self): return {"asked": "the end"}

def change(state, number=0):
    open(sys.argv[2], "a").write(f"{state}-{number} ")
    return {"held": True, "lost": False, "silent": None}[sys.argv[3]]

print("ready", flush=True)
if sys.argv[3] == "measure":
    companion.measure(int(sys.argv[1]), Probe(), sys.argv[2] + ".json")
else:
    companion.keep(int(sys.argv[1]), change, sys.argv[2] + ".lock")
"""


@pytest.fixture
def companion(tmp_path: Path) -> Any:
    """Start a playbook that sleeps, and a process beside it."""
    started = []

    def start(how: str) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes], Path]:
        playbook = subprocess.Popen(["sleep", "60"])
        path = tmp_path / "said"
        process = subprocess.Popen(
            [sys.executable, "-c", COMPANION, str(playbook.pid), str(path), how],
            env={**os.environ, "PYTHONPATH": str(ROOT / "collections")},
            stdout=subprocess.PIPE,
        )
        started.extend([playbook, process])
        assert process.stdout and process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        return playbook, process, path

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(what: Any) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def renewals(path: Path) -> int:
    return path.read_text().count("renewed") if path.exists() else 0


@pytest.mark.slow
def test_it_says_what_it_measured_until_it_is_told_to_end(companion: Any) -> None:
    _playbook, process, path = companion("measure")
    answer = str(path) + ".json"
    for number in (1, 2, 3):
        assert companions.ask(process.pid, signal.SIGUSR1, answer, 5) == {"asked": number}
    assert companions.ask(process.pid, signal.SIGTERM, answer, 5) == {"asked": "the end"}
    assert process.wait(5) == 0


@pytest.mark.slow
def test_it_renews_a_claim_and_gives_it_back_at_the_end(companion: Any) -> None:
    _playbook, process, path = companion("held")
    agreed = Path(str(path) + ".lock")
    agreed.write_text('{"number": 7}')
    until(lambda: renewals(path) >= 3)
    assert companions.end([process.pid], 5), "it has not ended"
    assert path.read_text().split()[-1] == "released-7" and not agreed.exists()
    assert companions.end([process.pid], 5), "one that has ended has ended"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["held", "measure"])
def test_it_ends_when_the_playbook_is_killed(companion: Any, how: str) -> None:
    playbook, process, path = companion(how)
    # Nobody waits for it: what is left of it is no playbook.
    playbook.kill()
    assert process.wait(5) == 0
    assert how == "measure" or path.read_text().split()[-1] == "released-0"


@pytest.mark.slow
def test_it_ends_when_the_lock_is_somebody_else_s(companion: Any) -> None:
    assert companion("lost")[1].wait(5) == 0


@pytest.mark.slow
def test_a_renewal_that_does_not_get_through_is_made_up_for(companion: Any) -> None:
    _playbook, process, path = companion("silent")
    until(lambda: renewals(path) >= 3)
    assert process.poll() is None


def test_one_that_is_gone_measures_nothing(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert companions.ask(gone.pid, signal.SIGTERM, str(tmp_path / "x"), 0.2) is None
