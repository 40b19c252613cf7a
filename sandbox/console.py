"""What the user sees while things happen, and how commands are run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.paths import CACHE, REPO, repository_path

LOGS = CACHE / "logs"
HEARTBEAT = 10.0
# How long an interrupted command may take to end by itself.
PATIENCE = 5.0


class Steps:
    """Names each step as it begins, and keeps how long each took."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print `name`, run the block, print how long it took."""
        say(f"- {name}")
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        self.times.append((name, seconds))
        if seconds >= 1:
            say(f"  done in {seconds:.1f} s")

    def table(self) -> str:
        """The times of all steps, one a line."""
        rows = [*self.times, ("total", sum(seconds for _, seconds in self.times))]
        return "\n".join(f"  {seconds:7.1f} s  {name}" for name, seconds in rows)


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def run(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    text: str | None = None,
    failure: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a short command and capture its output.

    It runs in a session of its own, so that Ctrl-C lets it end what it began.

    :param text: standard input.
    :param failure: sentence for the user when the command fails; its last lines follow.
    """
    process = subprocess.Popen(
        [str(argument) for argument in arguments],
        cwd=REPO,
        env=None if env is None else {**os.environ, **env},
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(text)
    except KeyboardInterrupt:
        process.communicate()
        raise
    if check and process.returncode:
        raise SandboxError(
            f"{failure or 'A command failed.'}\n  command: {' '.join(map(str, arguments))}\n"
            f"  exit status {process.returncode}: {last_lines(stderr or stdout)}"
        )
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def run_logged(
    arguments: Sequence[str | Path],
    log: str,
    *,
    failure: str,
    env: Mapping[str, str] | None = None,
    explain: Callable[[str], str | None] = lambda output: None,
) -> None:
    """Run a long command with its output in a log file, and show that it lives.

    :param log: name of the file in .cache/logs.
    :param failure: sentence for the user when it fails and `explain` finds no better one.
    :param explain: finds, from the output, what is wrong and the cure.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{log}.log"
    with path.open("w") as output:
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=REPO,
            env=None if env is None else {**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        ended = threading.Event()
        watcher = threading.Thread(target=_heartbeat, args=(path, ended), daemon=True)
        watcher.start()
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        finally:
            ended.set()
            watcher.join()
    if status:
        text = path.read_text(errors="replace")
        raise SandboxError(
            f"{explain(text) or failure}\n  log: {repository_path(path)}\n  last lines: {last_lines(text)}"
        )


def _heartbeat(log: Path, ended: threading.Event) -> None:
    began = time.monotonic()
    while not ended.wait(HEARTBEAT):
        lines = log.read_text(errors="replace").strip().splitlines()
        say(f"  {time.monotonic() - began:4.0f} s  {lines[-1].strip()[:100] if lines else ''}")


def last_lines(text: str, count: int = 5) -> str:
    """The last lines of a command's output, indented."""
    lines = [line for line in text.strip().splitlines() if line.strip()][-count:]
    return "\n    ".join(lines) if lines else "(no output)"


def warn(text: str) -> None:
    """Print to standard error at once."""
    print(text, file=sys.stderr, flush=True)
