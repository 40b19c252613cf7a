# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Runs the commands of a build, so that they end when they should, and says why they failed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

TAIL = 30
LOCK_SECONDS = 1800

#: What the output of a failed command gives away, and what to do about it.
HINTS = (
    (r"can only install packages when your package\.json", "run `npm install` in {source} and commit the lock file"),
    (r"JavaScript heap out of memory|Allocation failed", "{memory}"),
    (r"ENOSPC|No space left on device", "free disk space on the machine that builds"),
    (r"EINTEGRITY", "the package differs from the lock file: check the registry, then renew the lock file"),
    (r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ECONNRESET", "no way to the registry: check proxy and .npmrc"),
    (r"\bE40[13]\b", "the registry wants a login: set NPM_TOKEN, and use it in the project's .npmrc"),
    (r"\bE404\b", "the registry has no such package: check its name, its version and the registry in .npmrc"),
    (r"gyp ERR!", "a native module is compiled: install python3, make and g++ on the machine that builds"),
    (r"EBADENGINE|Unsupported engine", "the project wants another Node.js: set `node` of the service"),
    (r"Missing script", "package.json has no such script: set build.command, or '' for none"),
    (r": not found|command not found", "the program is not installed: add it to the project's devDependencies"),
    (r"Cannot find module|ERR_MODULE_NOT_FOUND|TS2307|Could not resolve", "{isolated}"),
)


class BuildError(Exception):
    """A build cannot be done; the text says what, where, and the fix."""


@contextlib.contextmanager
def locked(path: Path, what: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold a lock that ends with the process; wait for another holder, within bounds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise BuildError(
                        f"{what}: another process (pid {holder}) has held {path} for {seconds:.0f} s. Wait for it, or "
                        "end it."
                    ) from error
                if abandoned():
                    raise BuildError(f"{what}: given up, since nobody waits for it any more.") from error
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def abandoned() -> bool:
    """Whether nobody reads what this process says any more: Ansible was interrupted."""
    poll = select.poll()
    try:
        poll.register(1, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _descriptor, event in poll.poll(0))
    except OSError:
        return False


def run(words: list[str], folder: Path, environment: Mapping[str, str], log: Path, timeout: float) -> tuple[int, str]:
    """Run a command to its end with its output in a log; returns its status and the end of the output.

    The command and all that it started end with this process: at a timeout, a signal, or when Ansible is gone.
    """
    with log.open("ab") as output:
        output.write(f"\n$ {' '.join(words)}    (in {folder})\n".encode())
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
                        f"'{' '.join(words)}' in {folder} is not done after {timeout:.0f} s. It may wait for input, "
                        f"or need a longer timeout. Its output: {log}"
                    )
                if abandoned():
                    raise BuildError("given up, since nobody waits for it any more")
        finally:
            end(process)
    with log.open("rb") as output:
        output.seek(position)
        text = output.read().decode("utf-8", "replace")
    return process.returncode, text


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started, what it left in the background included."""
    for sign, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


#: What npm says besides: its own usage, and options that it has forgotten.
NOISE = re.compile(r"npm error Usage:$.*?^npm error Run \"npm help.*?$|^npm warn Unknown \w+ config .*?$", re.M | re.S)


def tail(text: str, lines: int = TAIL) -> str:
    """The last lines of an output, without colours and without npm's usage."""
    clean = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    kept = [line.rstrip() for line in NOISE.sub("", clean).splitlines() if line.strip() not in ("", "npm error")]
    return "\n".join(kept[-lines:])


def memory_advice() -> str:
    """What to do about a build that needs more memory than there is."""
    figures = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _colon, value = line.partition(":")
            figures[name] = int(value.split()[0]) // 1024 if value.split() else 0
    have = f" (it has {figures['MemTotal']} MB, {figures.get('MemAvailable', 0)} MB free)" if figures else ""
    return (
        f"the build outgrew its memory: build on a machine with more{have}, build fewer things at once, or set "
        "NODE_OPTIONS: --max-old-space-size=<MB> in build.environment"
    )


def explain(status: int, text: str, source: Path, monorepo: bool) -> str:
    """The likely fix for a command that failed; empty where the output says enough."""
    isolated = "the project lacks a dependency, or reads files outside of its folder"
    if monorepo:
        isolated += "; of a monorepo a build sees the root and the packages that package.json names as dependencies"
    killed = status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if killed or re.search(r"^Killed$|SIGKILL", text, re.MULTILINE):
        return f"it was killed, as the kernel does when memory runs out: {memory_advice()}"
    for pattern, fix in HINTS:
        if re.search(pattern, text):
            return fix.format(source=source, memory=memory_advice(), isolated=isolated)
    return f"it was ended by signal {-status}" if status < 0 else ""
