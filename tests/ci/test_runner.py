"""The runner of the tests: what fails is counted as failed, and what is left behind is found."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from .conftest import ROOT

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner import machine, main, sanity, stage
from runner.stage import Outcome, Stage


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stage, "LOGS", tmp_path / "logs")
    return tmp_path / "logs"


def counts(outcome: Outcome) -> tuple[int, int, int]:
    return outcome.passed, outcome.failed, outcome.skipped


def test_the_exit_status_decides() -> None:
    assert counts(Stage("good", ["true"]).run()) == (1, 0, 0)
    assert counts(Stage("bad", ["false"]).run()) == (0, 1, 0)


def test_an_objection_to_the_output_is_a_failure() -> None:
    outcome = Stage("quiet", ["echo", "nothing to do"], objection=main.lint_objection).run()
    assert counts(outcome) == (0, 1, 0)
    assert "profile production" in outcome.output


def test_copies_share_texts_and_nothing_else(tmp_path: Path) -> None:
    script = """
import copy
from ansible.module_utils._internal._datatag._tags import Deprecated
from runner.lint import share
share()
text = Deprecated(msg="x").tag("text")
before = {"a": [text], "b": Deprecated(msg="x").tag([1])}
after = copy.deepcopy(before)
assert after == before and after["a"][0] is text
assert after["a"] is not before["a"] and after["b"] is not before["b"] and type(after["b"]) is type(before["b"])
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_stage_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    child = "import subprocess, time; subprocess.Popen(['sleep', '987']); time.sleep(987)"
    started = time.monotonic()
    outcome = Stage("slow", [sys.executable, "-c", child], timeout=1, on_timeout=["echo", "cleaned up"]).run()
    assert time.monotonic() - started < 30
    assert counts(outcome) == (0, 1, 0)
    assert "Not done after 1 s." in outcome.output
    assert "cleaned up" in outcome.output
    # A process that was killed is there for a moment yet.
    while left := machine._processes():
        assert time.monotonic() - started < 30, left
        time.sleep(0.05)


def write_tests(path: Path, body: str) -> list[str]:
    (path / "test_it.py").write_text(body)
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(path), str(path)]


def test_tests_of_pytest_are_counted_one_by_one(tmp_path: Path) -> None:
    body = "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip('no')\n"
    outcome = Stage("some", write_tests(tmp_path, body), directory=tmp_path, junit=True).run()
    assert counts(outcome) == (1, 1, 1)


def test_tests_of_a_command_that_starts_pytest_are_counted(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@"', "sh", *write_tests(tmp_path, "def test_a(): pass\ndef test_b(): pass\n")]
    outcome = Stage("some", command, directory=tmp_path, junit=True, indirect=True).run()
    assert counts(outcome) == (2, 0, 0)


def test_the_slowest_stages_and_tests_are_named_first(tmp_path: Path) -> None:
    body = "import pytest, time\ndef test_a(): 0\n@pytest.mark.parametrize('x', [1])\ndef test_b(x): time.sleep(.2)\n"
    outcome = Stage("some", write_tests(tmp_path, body), directory=tmp_path, junit=True).run()
    outcome.seconds = 3.0
    lines = main.times([Outcome("quick", 1, 0, seconds=1.0), outcome, Outcome("not run", 0, 0)]).splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["some", "quick"]
    assert lines[4] == "Tests, the slowest 2 of 2:"
    assert lines[5].endswith("s  some: test_it::test_b[1]") and float(lines[5].split()[0]) >= 0.2
    assert lines[6].endswith("s  some: test_it::test_a")


def test_what_failed_and_why_stands_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = """
        import pytest
        @pytest.fixture
        def broken(): raise OSError("no room")
        def test_a(): assert 1 == 2, "one is not two"
        def test_b(broken): 0
        def test_c(): 0
    """
    outcome = Stage("some", write_tests(tmp_path, textwrap.dedent(body)), directory=tmp_path, junit=True).run()
    assert main.report([Outcome("quick", 1, 0), outcome]) == 1
    *_times, summary, first, second, counts = capsys.readouterr().out.splitlines()
    assert summary.startswith("Failed: some. ")
    assert first.startswith("  some: test_it::test_a: AssertionError: one is not two assert 1 == 2")
    assert second == '  some: test_it::test_b: failed on setup with "OSError: no room"'
    assert counts == "2 passed, 2 failed"


def test_a_stage_that_tests_nothing_is_a_failure(tmp_path: Path) -> None:
    outcome = Stage("none", write_tests(tmp_path, ""), directory=tmp_path, junit=True).run()
    assert not outcome.ok


def test_one_failure_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.report([Outcome("a", 3, 0), Outcome("b", 1, 2)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "4 passed, 2 failed"
    assert main.report([Outcome("a", 3, 0)]) == 0
    assert main.report([]) == 1


def test_stages_run_side_by_side_in_their_order_as_far_as_there_are_lanes(tmp_path: Path) -> None:
    # Each writes when it began and when it ended.
    script = f'echo "$0 begins" >> {tmp_path}/log; sleep 0.3; echo "$0 ends" >> {tmp_path}/log'
    lanes = {"a": 1, "wide": 2, "b": 1, "c": 1, "d": 1, "too wide": 9}
    stages = [Stage(name, ["sh", "-c", script, name], lanes=taken) for name, taken in lanes.items()]
    outcomes = main.run_all([(stages, 3)], time.monotonic())
    assert sorted(it.name for it in outcomes) == sorted(lanes) and all(it.ok for it in outcomes)
    running: list[str] = []
    began: list[str] = []
    for line in (tmp_path / "log").read_text().splitlines():
        name, _, what = line.rpartition(" ")
        if what == "begins":
            running.append(name)
            began.append(name)
            assert sum(min(lanes[it], 3) for it in running) <= 3, running
        else:
            running.remove(name)
    assert {*began[:2]} == {"a", "wide"} and began[-1] == "too wide"
    # Three narrow ones fit in, unlike one after the other.
    assert {*began[2:5]} == {"b", "c", "d"}


def test_what_a_stage_leaves_running_is_found_and_ended() -> None:
    before = machine.Machine.now()
    command = ["sh", "-c", "setsid sleep 986 >/dev/null 2>&1 &"]
    assert Stage("leaves", command).run().ok
    left = [line for line in machine.leftovers(before, ()) if "sleep 986" in line]
    assert len(left) == 1
    time.sleep(0.2)
    assert [line for line in machine.leftovers(before, ()) if "sleep 986" in line] == []


def test_new_containers_and_mounts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.Machine(frozenset({"a"}), frozenset({"/"}))
    monkeypatch.setattr(machine, "_containers", lambda: ["a", "molecule-x.api-1", "other.api-1"])
    monkeypatch.setattr(machine, "_mounts", lambda: ["/", "/run/x"])
    assert machine.leftovers(before, ("molecule-x.",)) == ["container molecule-x.api-1", "mount /run/x"]


def test_sanity_gets_what_the_collection_ships(tmp_path: Path) -> None:
    copy = sanity.copy(tmp_path)
    assert copy == tmp_path / "ansible_collections/fivepointers/platform"
    for name in ("galaxy.yml", "plugins/modules", "roles", "playbooks/site.yml", "tests/sanity"):
        assert (copy / name).exists(), name
    assert not (copy / "tests/unit").exists()
    assert not subprocess.run(["find", str(copy), "-type", "l"], capture_output=True, check=True).stdout


def test_every_scenario_and_the_integration_tests_are_stages() -> None:
    scenarios = {f"molecule-{path.parent.name}" for path in ROOT.glob("molecule/*/molecule.yml")}
    assert {it.name for it in [*main.molecule_stages(), *main.molecule_stages(repeated=True)]} == scenarios
    assert [it.name for it in main.host_stages()] == [
        "sanity",
        "collection",
        "next-nginx",
        "ci",
        "faults",
        "sandbox",
        "awkward",
        "jobs",
        "provision",
        "zones",
        "integration",
    ]


def test_what_soak_tries_is_left_out_of_the_other_runs(tmp_path: Path) -> None:
    marks = "pytest.param(2, marks=pytest.mark.soak)"
    body = f"import pytest\n@pytest.mark.parametrize('x', [1, {marks}])\ndef test_a(x): 0\n"
    (tmp_path / "test_it.py").write_text(body)
    for options, expected in (([], 1), (["-m", "not slow and not soak"], 1), (["-m", ""], 2)):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
        outcome = Stage("some", [*command, *options, str(tmp_path)], directory=tmp_path, junit=True).run()
        assert counts(outcome) == (expected, 0, 0)


def test_soak_is_every_stage_once() -> None:
    names = [it.name for it in main.soak_stages()]
    assert sorted(set(names)) == sorted(names)
    assert main.run_groups([(main.soak_stages(), 1)], ["nothing"]) == 2
