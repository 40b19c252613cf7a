"""The commands of `tests/run`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from runner.machine import Machine, leftovers
from runner.stage import LOGS, ROOT, Outcome, Stage, stage_environment

PYTHON = str(ROOT / ".venv/bin/python")
UNIT = (PYTHON, "-m", "pytest", "-q")
# So many of the slowest tests are named at the end of a run.
SLOWEST = 25
# So much of why a test failed, in characters.
REASON = 600
#: What hosts run, checked for Python 3.9.
HOST_CODE = ("plugins/module_utils", "plugins/modules")


def check_stages(*, slow: bool = True) -> list[Stage]:
    """Lint, types, unit tests and templates; the long ones first.

    :param slow: everything. Else fewer tests, fewer examples in them, and no lint of molecule's playbooks.
    """
    chosen = ["-k", "not next-nginx", *([] if slow else ["-m", "not slow and not soak"])]
    linted = [] if slow else ["playbooks", "roles"]
    # Each process imports and collects all tests, for four seconds; and half of the tests' time is waiting.
    processes = ["-n", "3", "--dist", "worksteal"]
    return [
        Stage(
            "unit",
            [*UNIT, *processes, *chosen, "tests/unit"],
            timeout=1500,
            environment={} if slow else {"EXAMPLES": "quick"},
            junit=True,
        ),
        Stage("ansible-lint", [PYTHON, "tests/runner/lint.py", "--nocolor", *linted], objection=lint_objection),
        Stage("mypy", ["mypy"]),
        Stage("yamllint", ["yamllint", "--strict", *listed("*.yml", "*.yaml", ".yamllint", ".ansible-lint")]),
        Stage("ruff", ["ruff", "check", "."]),
        Stage("format", ["ruff", "format", "--check", "."]),
        Stage("python-3.9", ["vermin", "-t=3.9-", "--no-tips", "--violations", *HOST_CODE]),
        Stage("changelog", ["antsibull-changelog", "lint"]),
    ]


def listed(*patterns: str) -> list[str]:
    """Files of the repository, committed or about to be. Walking through .venv and .cache takes ten times as long."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def lint_objection(output: str) -> str:
    """ansible-lint is content where it finds nothing to look at."""
    return (
        "" if "Profile 'production' was required, and it passed." in output else "The profile production was not met."
    )


# Scenarios of which another stage does all that they do: seven hosts are configured from nothing and verified by zones,
# with TLS at the balancer, and one with TLS at the edge by development.
REPEATED = ("platform",)


def molecule_stages(*, repeated: bool = False) -> list[Stage]:
    """A stage for each scenario."""
    return [
        Stage(
            f"molecule-{path.parent.name}",
            ["molecule", "test", "--scenario-name", path.parent.name],
            timeout=1500,
            junit=True,
            indirect=True,
            on_timeout=["molecule", "destroy", "--scenario-name", path.parent.name],
            sandboxes=f"molecule-{path.parent.name.replace('_', '-')}.",
        )
        for path in sorted(ROOT.glob("molecule/*/molecule.yml"))
        if (path.parent.name in REPEATED) is repeated
    ]


def host_stages() -> list[Stage]:
    """What needs hosts, and takes its time, beside the molecule scenarios."""
    stages = [
        Stage("sanity", [PYTHON, "tests/runner/sanity.py"], timeout=1500, junit=True),
        Stage("collection", [PYTHON, "tests/runner/collection.py"]),
        # The same once more, on the nginx of Debian's next release.
        Stage("next-nginx", [*UNIT, "-k", "next-nginx", "tests/unit/nginx"], junit=True),
    ]
    for name, timeout, sandboxes in (
        ("ci", 600, ""),
        ("faults", 600, ""),
        ("sandbox", 900, "hardy"),
        ("awkward", 1500, "test-awkward."),
        ("jobs", 900, "test-jobs."),
        ("provision", 2400, ""),
        ("zones", 2400, "test-zones."),
        ("integration", 3600, "test."),
    ):
        lanes = 2 if name == "zones" else 1
        command = [*UNIT, f"tests/{name}"]
        stages.append(Stage(name, command, timeout=timeout, lanes=lanes, junit=True, sandboxes=sandboxes))
    return stages


def soak_stages() -> list[Stage]:
    """Kills and losses at every step, host and moment, where `make test` tries one of each; measured in rows."""
    everything = ["-m", "", "-s"]
    kills = "python3 -m sandbox stack --name soak && python tests/bench/kills.py --name soak"
    return [
        Stage("switches", [PYTHON, "tests/bench/switches.py"], timeout=1800),
        Stage("sockets", [PYTHON, "tests/bench/sockets.py"], timeout=1800),
        Stage("kills", ["sh", "-c", f"trap 'python3 -m sandbox down --name soak' EXIT; {kills}"], timeout=5400),
        *(
            Stage(
                name,
                [*UNIT, "-s", f"tests/{path}"],
                timeout=timeout,
                environment=environment,
                junit=True,
                sandboxes=sandboxes,
            )
            for name, path, timeout, environment, sandboxes in (
                ("zones", "zones", 3600, {"EVERY_HOST": "1"}, "test-zones."),
                ("streams", "faults/test_streams.py", 1200, {"STREAM_SECONDS": "600"}, ""),
                ("jobs", "jobs", 2400, {"ROUNDS": "200"}, "test-jobs."),
            )
        ),
        *(
            Stage(name, [*UNIT, *everything, f"tests/{path}"], timeout=2400, junit=True, sandboxes=sandboxes)
            for name, path, sandboxes in (
                ("bare", "integration/test_00_bare.py", "test."),
                ("deployments", "integration/test_25_deployments.py", "test."),
                ("refusals", "integration/test_50_refusals.py", "test."),
                ("provision", "provision", ""),
                ("sandbox", "sandbox", "hardy"),
                ("one-client", "faults/test_one_client.py", ""),
                ("nonces", "faults/test_nonces.py", ""),
            )
        ),
        *molecule_stages(repeated=True),
    ]


def main(argv: Sequence[str], usage: str) -> int:
    """Act on the command line."""
    if not Path(PYTHON).exists():
        print("There is no virtual environment. Run `make setup`.", file=sys.stderr)
        return 1
    command, *names = argv or [""]
    if command == "check" and not names:
        return report(run_all([(check_stages(slow=False), 2)], time.monotonic()))
    if command == "test":
        return test(names)
    if command == "soak":
        # What measures runs alone.
        return run_groups([([stage], 1) for stage in soak_stages()], names)
    if command == "list" and not names:
        print("\n".join(stage.name for stage in [*check_stages(), *molecule_stages(), *host_stages()]))
        return 0
    if command == "bench":
        return subprocess.run(["tests/bench/run", *names], cwd=ROOT, env=stage_environment(), check=False).returncode
    if command == "lock" and not names:
        return lock()
    print(usage.strip(), file=sys.stderr)
    return 2


def test(names: Sequence[str]) -> int:
    """All stages, or those that are named."""
    *quick, faults, sandbox, awkward, jobs, provision, zones, integration = host_stages()
    # What measures runs alone, and zones beside the integration tests only. Other stages are independent of each other,
    # and wait half of their time: three lanes keep two processors busy. The longest goes first and takes one lane for
    # most of the time. What tells most about a mistake comes next, then the other long ones, so that none is left alone
    # at the end.
    stages = [integration, zones, *check_stages(), provision, awkward, *quick, *molecule_stages(), jobs, sandbox]
    return run_groups([([faults], 1), (stages, 3)], names)


def run_groups(groups: Sequence[tuple[Sequence[Stage], int]], names: Sequence[str]) -> int:
    """Run the stages of groups, or those that are named; then see that nothing is left behind."""
    started = time.monotonic()
    before = Machine.now()
    if names:
        known = {stage.name for group, _lanes in groups for stage in group}
        unknown = [name for name in names if name not in known]
        if unknown:
            print(f"There is no stage {', '.join(unknown)}. `tests/run list` names them.", file=sys.stderr)
            return 2
        groups = [([stage for stage in group if stage.name in names], lanes) for group, lanes in groups]
    outcomes = run_all(groups, started)
    made = tuple(stage.sandboxes for group, _lanes in groups for stage in group if stage.sandboxes)
    left = leftovers(before, made)
    outcome = Outcome("leftovers", int(not left), len(left), output="\n".join(left))
    tell(outcome)
    return report([*outcomes, outcome])


def run_all(groups: Sequence[tuple[Sequence[Stage], int]], started: float) -> list[Outcome]:
    """Run the groups one after the other, each in so many lanes. A stage starts when its lanes are free, in order."""
    outcomes: list[Outcome] = []
    for group, lanes in groups:
        running: dict[Future[Outcome], int] = {}
        with ThreadPoolExecutor(lanes) as pool:
            for stage in group:
                taken = min(stage.lanes, lanes)
                while sum(running.values()) + taken > lanes:
                    outcomes += finish_some(running)
                running[pool.submit(stage.run)] = taken
            while running:
                outcomes += finish_some(running)
    print(f"\n{time.monotonic() - started:.0f} s", flush=True)
    return outcomes


def finish_some(running: dict[Future[Outcome], int]) -> list[Outcome]:
    """Wait for the next stages to end, tell of them, and remove them from those that are running."""
    outcomes = []
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        del running[future]
        outcomes.append(future.result())
        tell(outcomes[-1])
    return outcomes


def tell(outcome: Outcome) -> None:
    """Print a line on a stage, and where it failed the end of what it wrote."""
    counts = f"{outcome.passed} passed, {outcome.failed} failed"
    counts += f", {outcome.skipped} skipped" if outcome.skipped else ""
    print(f"{'ok  ' if outcome.ok else 'FAIL'} {outcome.name:32} {outcome.seconds:7.1f} s   {counts}", flush=True)
    if not outcome.ok:
        lines = outcome.output.strip().splitlines()
        print("\n".join(f"     | {line}" for line in lines[-80:]), flush=True)


def report(outcomes: Sequence[Outcome]) -> int:
    """Say where the time went, what failed, and the sums. Returns the exit status.

    What failed stands last and short: of a long output, a CI system may show the end alone.
    """
    print(times(outcomes))
    failed = [outcome.name for outcome in outcomes if not outcome.ok]
    if failed:
        print(f"Failed: {', '.join(failed)}. Their output: {LOGS.relative_to(ROOT)}/")
    for failure in (failure for outcome in outcomes for failure in outcome.failures):
        print(f"  {failure.stage}: {failure.test}: {failure.reason[:REASON]}")
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"{passed} passed, {sum(outcome.failed for outcome in outcomes)} failed")
    return 1 if failed or not passed else 0


def times(outcomes: Sequence[Outcome]) -> str:
    """Stages and tests, slowest first. Stages run side by side, so their sum is more than the run took."""
    stages = sorted((outcome for outcome in outcomes if outcome.seconds), key=lambda it: -it.seconds)
    tests = sorted((timing for outcome in outcomes for timing in outcome.timings), key=lambda it: -it.seconds)
    lines = ["Stages, slowest first:", *(f"{it.seconds:9.1f} s  {it.name}" for it in stages)]
    if tests:
        lines += ["", f"Tests, the slowest {min(SLOWEST, len(tests))} of {len(tests)}:"]
        lines += [f"{it.seconds:9.1f} s  {it.stage}: {it.test}" for it in tests[:SLOWEST]]
    return "\n".join([*lines, ""])


def lock() -> int:
    """Write the locks of Python packages anew, with hashes and without the address of any index."""
    options = "--quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links"
    command = ["pip-compile", *options.split(), "--no-emit-trusted-host", "--no-emit-options"]
    command += os.environ.get("LOCK_OPTIONS", "").split()
    environment = {**stage_environment(), "CUSTOM_COMPILE_COMMAND": "tests/run lock"}
    wanted = (
        "requirements.in",
        "requirements.deploy.in",
        "roles/synthetic/files/requirements.in",
        "tests/tools/sslyze/requirements.in",
    )
    return max(subprocess.run([*command, name], cwd=ROOT, env=environment).returncode for name in wanted)
