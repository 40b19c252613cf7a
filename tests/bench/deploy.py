# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What deployments and rollbacks take: .venv/bin/python tests/bench/deploy.py [--name NAME]

Runs against the sandbox that `make up` made (NAME, "sandbox" unless given), from a checkout in which it was made, and
leaves it as it was. Exits with 1 if a figure misses its bar. About 15 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.integration.harness import Run, Sandbox  # noqa: E402
from tests.integration.test_25_deployments import PROCESSES, WHOLE_STACK, Stack  # noqa: E402

ARTIFACTS = ROOT / ".artifacts/frontend"
#: Seconds.
REDEPLOY, STOPPED = 6.0, 15.0


class Bench:
    """The figures so far, and the sandbox that they come from."""

    def __init__(self, stack: Stack, rounds: int) -> None:
        self.stack = stack
        self.sandbox = stack.sandbox
        self.rounds = rounds
        self.missed: list[str] = []

    def print(self, name: str, values: list[float], bar: float | None = None) -> float:
        """Print a row, with its bar if it has one; return the median."""
        median = statistics.median(values)
        met = "" if bar is None else f"bar {bar:.1f}: {'met' if median < bar else 'MISSED'}"
        if met.endswith("MISSED"):
            self.missed.append(name)
        print(f"{name:52} median {median:6.2f}   {' '.join(f'{value:.2f}' for value in values)}   {met}", flush=True)
        return median

    def sizes(self) -> Iterator[str]:
        """Amounts of memory that no earlier release has: the same code, another unit, so another release."""
        first = 700_000 + int(time.time()) % 100_000
        return (f"{size}K" for size in range(first, first + 100))


@contextlib.contextmanager
def variants(stack: Stack, count: int) -> Iterator[list[tuple[str, Path]]]:
    """Build artifacts of the frontend that no host has; yield of each the identifier and its files."""
    latest = (ARTIFACTS / "latest.json").read_bytes()
    before = set(ARTIFACTS.iterdir())
    source = stack.folder / "frontend"
    shutil.copytree(ROOT / "examples/frontend", source, ignore=shutil.ignore_patterns("node_modules", "dist"))
    found = []
    try:
        for _ in range(count):
            page = (ROOT / "examples/frontend/src/main.tsx").read_text()
            (source / "src/main.tsx").write_text(f"{page}document.body.dataset.built = '{time.time()}';\n")
            catalogue = stack.catalogue(frontend={"build": {"source": str(source)}})
            stack.sandbox.playbook("playbooks/build.yml", "-e", catalogue, "-e", "service=frontend").succeeded()
            identifier = json.loads((ARTIFACTS / "latest.json").read_text())["id"]
            files = stack.folder / "files" / identifier
            with tarfile.open(ARTIFACTS / f"{identifier}.tar.gz") as archive:
                archive.extractall(files, filter="data")
            found.append((identifier, files))
        (ARTIFACTS / "latest.json").write_bytes(latest)
        yield found
    finally:
        (ARTIFACTS / "latest.json").write_bytes(latest)
        for path in set(ARTIFACTS.iterdir()) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def side_by_side(bench: Bench) -> None:
    """A changed frontend, with its transaction, probe and verification; and the same files by Ansistrano's tasks."""
    sandbox = bench.sandbox
    home = "/var/tmp/ansistrano"
    hosts = sandbox.hosts_of("frontend")
    for host in hosts:
        sandbox.ssh(host, "command -v rsync || { sudo apt-get update && sudo apt-get install -y rsync; } >/dev/null")
    hook = bench.stack.folder / "hook.yml"
    hook.write_text("---\n")

    def ours(identifier: str, files: Path) -> Run:
        return sandbox.playbook("playbooks/deploy.yml", "-e", "service=frontend", "-e", f"artifact={identifier}")

    def theirs(identifier: str, files: Path) -> Run:
        # An inventory name is the host's name and its instance's.
        values = {
            "target": ":".join(f"{host}_*" for host in hosts),
            "files": f"{files}/",
            "home": home,
            "hook": str(hook),
        }
        return sandbox.playbook("tests/bench/ansistrano.yml", "-e", json.dumps(values))

    ways: dict[str, Callable[[str, Path], Run]] = {"deploy.yml -e service=frontend": ours, "Ansistrano's tasks": theirs}
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    try:
        with variants(bench.stack, bench.rounds + 1) as artifacts:
            for number, (identifier, files) in enumerate(artifacts):
                for name, deploy in list(ways.items())[:: 1 if number % 2 else -1]:
                    run = deploy(identifier, files).succeeded()
                    assert run.changed, f"{name} changed nothing"
                    # The first round warms connections and caches up.
                    if number:
                        runs[name].append(run)
            sandbox.playbook("playbooks/deploy.yml", "-e", "service=frontend").succeeded()
    finally:
        for host in hosts:
            sandbox.ssh(host, f"rm -rf {home}")
    print(f"a changed frontend of {sum(path.is_file() for path in files.rglob('*'))} files to {', '.join(hosts)}")
    medians = []
    for name, done in runs.items():
        medians.append(bench.print(f"{name}, {len(done[0].tasks)} tasks", [run.seconds for run in done]))
        bench.print("  of it processor time of the controller", [run.processor_seconds for run in done])
    ratio = medians[0] / medians[1]
    print(f"{'ratio, ours to theirs':52} {ratio:13.2f}   bar 1.0: {'met' if ratio <= 1 else 'MISSED'}", flush=True)
    if ratio > 1:
        bench.missed.append("side by side")


def redeploy(bench: Bench) -> None:
    """What runs already, the whole stack."""
    runs = [bench.sandbox.playbook("playbooks/deploy.yml").unchanged() for _ in range(bench.rounds)]
    bench.print("deploying what runs (changed=0)", [run.seconds for run in runs], REDEPLOY)


def stack_and_back(bench: Bench) -> None:
    """The three processes as one release, and back while the old ones run."""
    stack = bench.stack
    deploys, flags, totals, probes = [], [], [], []
    sizes = bench.sizes()
    for _ in range(max(2, bench.rounds // 2)):
        size = next(sizes)
        deploys.append(stack.deploy(**{name: {"memory": size} for name in PROCESSES}).succeeded().seconds)
        report = stack.report()
        assert report["outcome"] == "committed" and set(report["services"]) == set(PROCESSES), report
        probes.append(report["probe"])
        now = stack.live()
        totals.append(bench.sandbox.playbook("playbooks/rollback.yml").succeeded().seconds)
        assert all(now[name] != release for name, release in stack.live().items() if name in PROCESSES)
        at = [stack.state(name)["live"]["at"] for name in PROCESSES]
        flags.append(max(at) - min(at))
    bench.print("deploying the stack: three processes", deploys)
    requests, failed = (sum(probe[key] for probe in probes) for key in ("requests", "failed"))
    stall = max(probe["longest_stall_ms"] for probe in probes)
    print(
        f"  measured through the front door meanwhile: {requests} requests, {failed} failed, longest stall {stall} ms"
    )
    if failed:
        bench.missed.append("requests failed")
    name = f"rollback of the stack on {len(bench.sandbox.endpoints['hosts'])} hosts"
    bench.print(f"{name}: first flag to last", flags, WHOLE_STACK)
    bench.print(f"{name}: the whole run", totals)


def after_the_hold(bench: Bench) -> None:
    """Back to releases whose processes were stopped."""
    stack = bench.stack
    totals = []
    sizes = bench.sizes()
    for _ in range(max(2, bench.rounds // 2)):
        size = next(sizes)
        stack.deploy(**{name: {"memory": size, "hold": 0} for name in PROCESSES}).succeeded()
        deadline = time.monotonic() + 120
        while any(len(stack.running(name)) > 1 for name in PROCESSES):
            assert time.monotonic() < deadline, "the old releases go on running"
            time.sleep(1)
        now = stack.live()
        totals.append(bench.sandbox.playbook("playbooks/rollback.yml").succeeded().seconds)
        assert all(now[name] != release for name, release in stack.live().items() if name in PROCESSES)
    bench.print("rollback of the stack, old releases stopped", totals, STOPPED)


PARTS = (side_by_side, redeploy, stack_and_back, after_the_hold)
NAMES = [part.__name__ for part in PARTS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="sandbox", help="the sandbox's name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES)
    options = parser.parse_args()
    sandbox = Sandbox(options.name)
    if not (sandbox.state / "endpoints.json").exists():
        print("bench: no sandbox is up; run `make up` first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Stack(sandbox, Path(folder)), options.rounds)
        print(f"{len(sandbox.endpoints['hosts'])} hosts, seconds", flush=True)
        sandbox.playbook("playbooks/deploy.yml").succeeded()
        for part in PARTS:
            if part.__name__ in options.only:
                part(bench)
        sandbox.playbook("playbooks/deploy.yml").succeeded()
    for name in bench.missed:
        print(f"missed: {name}")
    return int(bool(bench.missed))


if __name__ == "__main__":
    sys.exit(main())
