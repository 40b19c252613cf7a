# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Kill deployments with SIGKILL, all over their course: .venv/bin/python tests/bench/kills.py [--name NAME]

What is killed is the playbook on the controller (its process group; in every second round with all processes that it
has started), or the module's process on one host. Users ask all the while. After each kill the live releases are
compared with whole ones, and the same command is run again: that has to be all the repair there is. Needs the sandbox
that `make up` made. Exits with 1 if anything broke. It begins no new kill after --minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.faults import load  # noqa: E402
from tests.integration.harness import Run, Sandbox  # noqa: E402
from tests.integration.test_25_deployments import PROCESSES, Stack, start  # noqa: E402

REPORTS = ROOT / ".artifacts/deployments"
RATE = 20
#: Kills the first module that runs on the host after a line comes in, so many seconds after its start.
KILLER = """
import os, signal, sys, time
delay = float(sys.argv[1])
def modules():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as handle:
                if handle.read() == b"/usr/bin/python3\\0" and os.stat(f"/proc/{pid}").st_uid == 0:
                    yield int(pid)
        except OSError:
            pass
sys.stdin.readline()
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    for pid in modules():
        time.sleep(delay)
        try:
            os.kill(pid, 9)
            sys.exit("killed")
        except ProcessLookupError:
            sys.exit("it had ended")
    time.sleep(0.002)
sys.exit("none ran")
"""
#: Of each service: slot, release, whether it runs, its unit's memory, and a checksum of all its code.
LOOK = """
for name; do
    slot=blue; [ ! -e /var/lib/fivepointers/$name.green ] || slot=green
    cd -P /opt/fivepointers/$name/slots/$slot
    echo $name $(basename $PWD) $(systemctl is-active fivepointers-$name@$slot) \
        $(grep -h ^MemoryMax= /etc/systemd/system/fivepointers-$name@$slot.service | cut -d= -f2) \
        $(find app -type f -exec sha256sum {} + | sort -k 2 | sha256sum | cut -c -16)
done
"""


class Point(NamedTuple):
    """When to kill: `delay` seconds after the `count`th host has noted a phase, as the journal says.

    `on` is the service on whose host the next module is killed; the controller where it is empty.
    """

    phase: str
    count: int
    delay: float
    on: str = ""

    def __str__(self) -> str:
        what = f"next module of {self.on}'s host" if self.on else "controller"
        return f"{what}, {self.count} x {self.phase} + {self.delay:g} s"


POINTS = (
    Point("started", 1, 2),
    Point("begun", 1, 0),
    Point("begun", 1, 1),
    Point("prepare", 1, 0),
    Point("prepare", 3, 0),
    Point("prepare", 3, 0.5),
    Point("migrate", 1, 0),
    Point("switch", 1, 0),
    Point("switch", 1, 0.5),
    Point("switch", 3, 0),
    Point("switch", 3, 1),
    Point("commit", 1, 0),
    Point("begun", 1, 0.5, "api"),
    Point("prepare", 3, 0.2, "api"),
    Point("migrate", 1, 0.05, "api"),
    Point("switch", 3, 0.1, "collab"),
)


class Live(NamedTuple):
    """What of a service is live."""

    release: str
    active: str
    memory: str
    code: str


def look(sandbox: Sandbox) -> dict[str, Live]:
    found = {}
    for host in {sandbox.hosts_of(name)[0] for name in PROCESSES}:
        names = [name for name in PROCESSES if sandbox.hosts_of(name)[0] == host]
        for line in sandbox.ssh(host, f"sudo sh -eu -s {' '.join(names)}", stdin=LOOK).splitlines():
            name, *rest = line.split()
            found[name] = Live(*rest)
    return found


def reached(before: set[Path], point: Point, process: subprocess.Popen[str]) -> bool:
    """Wait until a point's phase is in the new journal; say whether it came to that."""
    while process.poll() is None:
        if point.phase == "started":
            return True
        for journal in set(REPORTS.glob("*.steps")) - before:
            with contextlib.suppress(OSError, ValueError):
                names = [json.loads(line)["name"] for line in journal.read_text().splitlines()]
                if point.phase == "begun" or names.count(point.phase) >= point.count:
                    return True
        time.sleep(0.01)
    return False


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for known in found:
        found += children.get(known, [])
    return found[1:]


def kill(process: subprocess.Popen[str], everything: bool) -> None:
    started = descendants(process.pid) if everything else []
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def killer(sandbox: Sandbox, point: Point) -> subprocess.Popen[str]:
    """Have a process on the host that kills the next module there when it gets a line."""
    host = sandbox.hosts_of(point.on)[0]
    argv = ["ssh", "-i", sandbox.endpoints["ssh_key"], "-o", f"UserKnownHostsFile={sandbox.state / 'known_hosts'}"]
    argv += ["-o", "LogLevel=ERROR", f"admin@{sandbox.address(host)}"]
    argv += [f"sudo python3 -c '{KILLER}' {point.delay}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, text=True)


class Bench:
    """Deployments of the three processes, each of which is killed."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.sandbox = stack.sandbox
        self.size = 700_000 + int(time.time()) % 100_000
        self.whole = {name: live.code for name, live in look(self.sandbox).items()}
        assert set(self.whole) == set(PROCESSES)

    def users(self, folder: Path) -> list[load.Process]:
        """Start to ask the API and the pages through the front door."""
        ends = self.sandbox.endpoints
        urls = [f"https://api.{ends['domain']}/api/health", f"https://somebody.{ends['domain']}/healthz"]
        options = {"connect_to": ends["edge"], "ca": ends["ca_file"], "rate": RATE, "connections": 4, "seconds": 600}
        return [load.Process(folder / f"load-{index}.json", url=url, **options) for index, url in enumerate(urls)]

    def run(self, point: Point, everything: bool) -> tuple[str, bool]:
        """Kill one deployment at a point and run it again; return what was seen, and whether all was well."""
        self.size += 1
        size = f"{self.size}K"
        argument = self.stack.catalogue(**{name: {"memory": size} for name in PROCESSES})
        before = look(self.sandbox)
        journals = set(REPORTS.glob("*.steps"))
        with tempfile.TemporaryDirectory() as folder:
            users = self.users(Path(folder))
            try:
                seen, half, status = self._killed(point, everything, argument, journals)
                again, seconds = self._again(argument)
                results = [user.finish() for user in users]
            finally:
                for user in users:
                    user.__exit__()
        after = look(self.sandbox)
        problems = []
        if status == 0 and any(half[name].release == before[name].release for name in PROCESSES):
            problems.append("it ended with success, and what was before serves")
        for when, lives in (("after the kill", half), ("in the end", after)):
            for name, live in lives.items():
                if live.code != self.whole[name] or live.active != "active":
                    problems.append(f"{when} {name} was half-made: {live}")
                if live.release not in (before[name].release, after[name].release):
                    problems.append(f"{when} {name} served a release that nobody asked for: {live.release}")
        if again.rc:
            problems.append("the next run failed:\n" + again.output[-3000:])
        for name, live in after.items():
            if live.memory != size or self.stack.state(name).get("pending"):
                problems.append(f"{name} is not what was asked for: {live}")
        requests = sum(result.figures["requests"] for result in results)
        failed = sum(result.figures["failed"] for result in results)
        if failed:
            problems.append(f"failed requests: {[result.figures['failures'] for result in results]}")
        new = [name for name in PROCESSES if half[name].release != before[name].release]
        text = f"{seen:28} new: {','.join(new) or '-':18} whole again {seconds:5.1f} s, {failed} of {requests} failed"
        return "\n    ".join([text, *problems]), not problems

    def _killed(
        self, point: Point, everything: bool, argument: str, journals: set[Path]
    ) -> tuple[str, dict[str, Live], int]:
        with contextlib.ExitStack() as cleanup:
            remote = killer(self.sandbox, point) if point.on else None
            if remote:
                cleanup.callback(remote.kill)
            process = start(self.stack, "-e", argument)
            try:
                came = reached(journals, point, process)
                if not came:
                    seen = f"ended before ({process.wait()})"
                elif remote:
                    _out, said = remote.communicate("now\n", timeout=60)
                    process.communicate(timeout=300)
                    seen = f"{said.strip()}: status {process.returncode}"
                else:
                    time.sleep(point.delay)
                    seen = "killed with its children" if everything else "killed"
            finally:
                kill(process, everything)
                # Not until its output ends: what it has started may live on, and hold it open.
                process.wait()
        return seen, look(self.sandbox), process.returncode

    def _again(self, argument: str) -> tuple[Run, float]:
        began = time.monotonic()
        while True:
            run = self.sandbox.playbook("playbooks/deploy.yml", "-e", argument)
            if "Another deployment is working" not in run.output or time.monotonic() - began > 90:
                return run, time.monotonic() - began
            time.sleep(2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="sandbox", help="the sandbox's name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=23)
    parser.add_argument("--only", default="", metavar="TEXT", help="points whose names hold this")
    options = parser.parse_args()
    sandbox = Sandbox(options.name)
    if not (sandbox.state / "endpoints.json").exists():
        print("bench: no sandbox is up; run `make up` first", file=sys.stderr)
        return 1
    ends = time.monotonic() + options.minutes * 60
    done: list[bool] = []
    points = [(point, number) for number in range(options.rounds) for point in POINTS if options.only in str(point)]
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(sandbox, Path(folder))
        stack.deploy().succeeded()
        bench = Bench(stack)
        for point, number in points:
            if time.monotonic() > ends:
                break
            text, well = bench.run(point, everything=number % 2 == 1)
            done.append(well)
            print(f"{'well' if well else 'BAD ':5} {number + 1} {point!s:52} {text}", flush=True)
        stack.deploy().succeeded()
    print(f"{len(done)} of {len(points)} kills, {len(done) - sum(done)} of them not well")
    return int(not all(done))


if __name__ == "__main__":
    sys.exit(main())
