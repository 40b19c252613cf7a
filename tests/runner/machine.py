"""What a run must not leave behind: containers, mounts and processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runner.stage import MARK, ROOT, RUN

sys.path.insert(0, str(ROOT))

from sandbox.paths import RUNTIME

# Where the tests of this clone may mount something. Other mounts are somebody else's.
MOUNTABLE = (str(ROOT), str(RUNTIME), f"{tempfile.gettempdir()}/pytest-")


@dataclass(frozen=True)
class Machine:
    """What is there at a moment."""

    containers: frozenset[str]
    mounts: frozenset[str]

    @classmethod
    def now(cls) -> Machine:
        """Look."""
        return cls(frozenset(_containers()), frozenset(_mounts()))


def _containers() -> list[str]:
    listed = subprocess.run(
        [sys.executable, "-m", "sandbox", "podman", "ps", "--all", "--format", "{{.Names}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return listed.stdout.split() if listed.returncode == 0 else []


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [path for path in (line.split()[4] for line in lines) if path.startswith(MOUNTABLE)]


def _processes() -> list[tuple[int, str]]:
    """Processes that a stage started, by the mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(path.name) != os.getpid() and f"{MARK}={RUN}".encode() in (path / "environ").read_bytes():
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append((int(path.name), command))
    return found


def leftovers(before: Machine, sandboxes: tuple[str, ...]) -> list[str]:
    """Name what the run left behind. Connections that ssh keeps for a while are closed, other processes ended.

    :param sandboxes: how the names of containers begin that the run made; others may come and go beside it.
    """
    found = []
    for pid, command in _processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        if not command.startswith("ssh:"):
            found.append(f"process {pid}: {command[:200]}")
    now = Machine.now()
    new = sorted(now.containers - before.containers)
    found += [f"container {name}" for name in new if name.startswith(sandboxes)]
    found += [f"mount {path}" for path in sorted(now.mounts - before.mounts)]
    return found
