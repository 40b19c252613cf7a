"""One stage: a command, its log, and how many tests it stands for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / ".cache" / "tests"
# Whatever a stage starts carries this in its environment, however it detaches itself.
MARK = "FIVEPOINTERS_TEST_RUN"
RUN = uuid.uuid4().hex


@dataclass(frozen=True)
class Timing:
    """How long one test took, its fixtures included."""

    stage: str
    test: str
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A test that failed, and the first words of why."""

    stage: str
    test: str
    reason: str


@dataclass
class Outcome:
    """What a stage came to."""

    name: str
    passed: int
    failed: int
    skipped: int = 0
    seconds: float = 0.0
    output: str = ""
    timings: list[Timing] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.failed == 0


@dataclass
class Stage:
    """A command to run. Its exit status decides, and its JUnit file counts, where it writes one."""

    name: str
    command: Sequence[str]
    timeout: float = 600
    # How many lanes of a group it takes: 2 where others beside it would spoil what it measures.
    lanes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = ROOT
    junit: bool = False
    # Where the command starts pytest by itself, and knows no option of it.
    indirect: bool = False
    on_timeout: Sequence[str] = ()
    # The sandboxes that it makes, by how their containers' names begin. None of these may be left.
    sandboxes: str = ""
    # Says what is wrong in an output that came with exit status 0; empty where nothing is.
    objection: Callable[[str], str] = lambda _output: ""

    def run(self) -> Outcome:
        """Run it to its end, at the latest at the timeout."""
        LOGS.mkdir(parents=True, exist_ok=True)
        report = LOGS / f"{self.name}.xml"
        report.unlink(missing_ok=True)
        log = LOGS / f"{self.name}.log"
        option = f"--junit-xml={report}"
        argv = [*self.command, *([option] if self.junit and not self.indirect else [])]
        environment = {"PYTEST_ADDOPTS": option} if self.junit and self.indirect else {}
        started = time.monotonic()
        status = self._execute(argv, log, environment)
        output = log.read_text(errors="replace")
        objection = "" if status else self.objection(output)
        if objection:
            output += f"\n{objection}\n"
            log.write_text(output)
        failed = status != 0 or bool(objection)
        outcome = Outcome(self.name, int(not failed), int(failed), output=output)
        if self.junit and report.exists():
            outcome.passed, outcome.failed, outcome.skipped = junit_counts(report)
            outcome.timings = junit_timings(self.name, report)
            outcome.failures = junit_failures(self.name, report)
            if failed and not outcome.failed:
                outcome.failed = 1
        outcome.seconds = time.monotonic() - started
        return outcome

    def _execute(self, argv: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        environment = {**stage_environment(), **self.environment, **environment}
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                end(process)
                output.write(f"\nNot done after {self.timeout:.0f} s.\n".encode())
                if self.on_timeout:
                    subprocess.run(
                        self.on_timeout, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False
                    )
                return 1
            except BaseException:
                end(process)
                raise


def stage_environment() -> dict[str, str]:
    """The environment of all stages: the virtual environment first, no colours, our mark.

    What Python compiles is kept, apart from the sources: without it, every call of a module compiles boto3 anew.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "PYTHONPYCACHEPREFIX": str(ROOT / ".cache/python"),
        MARK: RUN,
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a stage and all that it started in its session."""
    for number, patience in ((signal.SIGINT, 20), (signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def junit_counts(report: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests in a JUnit file."""
    total = failed = skipped = 0
    for suite in ET.parse(report).getroot().iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return total - failed - skipped, failed, skipped


def _test_name(case: ET.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"


def junit_timings(stage: str, report: Path) -> list[Timing]:
    """How long each test in a JUnit file took."""
    cases = ET.parse(report).getroot().iter("testcase")
    return [Timing(stage, _test_name(case), float(case.get("time", 0))) for case in cases]


def junit_failures(stage: str, report: Path) -> list[Failure]:
    """What failed in a JUnit file."""
    return [
        Failure(stage, _test_name(case), " ".join(element.get("message", "").split()))
        for case in ET.parse(report).getroot().iter("testcase")
        for element in (*case.findall("failure"), *case.findall("error"))
    ]
