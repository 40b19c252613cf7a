# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Processes that run on the controller beside a playbook: they renew the lock of a host, or measure."""

from __future__ import annotations

import contextlib
import getpass
import json
import multiprocessing
import os
import signal
import socket
import time
import typing as t
from collections.abc import Sequence

from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import read_record, write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.common.register import RENEWAL
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.probe import Probe

LOST = """
This run was silent for so long that another one has taken over the lock of the environment. It ends here; run it again
when the other one has ended.
"""


def birth(pid: int) -> str:
    """Return what distinguishes a process from a later one with the same PID; empty if it is gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as handle:
            fields = handle.read().rpartition(")")[2].split()
        # One that nobody has waited for yet has ended all the same.
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        return "?"


def who() -> str:
    """Return who runs the playbook: a person at a machine, or who started a workflow."""
    actor = os.environ.get("GITHUB_ACTOR")
    if actor:
        return "%s (workflow run %s)" % (actor, os.environ.get("GITHUB_RUN_ID", "?"))
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return "%s@%s" % (user, socket.gethostname())


def beside(work: t.Callable[[int], None]) -> int:
    """Run `work`, given the PID of the playbook, in a process that outlives this task; return its PID."""
    # Not os.getppid(): once the playbook is dead, that is another process.
    playbook = multiprocessing.parent_process()
    parent = (playbook.pid if playbook else None) or os.getppid()
    child = os.fork()
    if child:
        return child
    try:
        # Of a session of its own: a Ctrl-C in the terminal ends the playbook, and that ends this.
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        work(parent)
    finally:
        os._exit(0)


def _until_the_end(parent: int, tick: t.Callable[[list[int]], bool]) -> None:
    """Call `tick` with the signals that arrived, ten times per second, until SIGTERM, its wish, or the parent's end."""
    arrived: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: arrived.append(number))
    born = birth(parent)
    while born and signal.SIGTERM not in arrived and birth(parent) == born and tick(arrived):
        time.sleep(0.1)


def keep(parent: int, change: t.Callable[..., bool | None], agreed: str) -> None:
    """Renew a claim of the lock until SIGTERM or the end of the playbook, then give it back.

    change: renews or releases it, and returns whether it was ours; None if the host did not answer. The next renewal
    makes up for one that failed. agreed: file that appears when all claims were counted: what each change tells the
    host from then on.
    """
    due = time.monotonic() + RENEWAL
    news: dict[str, t.Any] = {}

    def tick(_arrived: list[int]) -> bool:
        nonlocal due
        # The first of these processes to end removes it.
        if not news and os.path.exists(agreed):
            news.update(read_record(agreed))
        if time.monotonic() < due:
            return True
        ours = change("renewed", **news)
        due = time.monotonic() + RENEWAL
        if ours is False:
            interrupt(parent)
        return ours is not False

    _until_the_end(parent, tick)
    change("released", **news)
    with contextlib.suppress(OSError):
        os.unlink(agreed)


def interrupt(playbook: int) -> None:
    """Interrupt a playbook that has lost the lock, and tell why."""
    with contextlib.suppress(OSError), open("/proc/%d/fd/2" % playbook, "w", encoding="utf-8") as terminal:
        terminal.write(LOST)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(playbook, signal.SIGINT)


def end(pids: Sequence[int], patience: float) -> bool:
    """End processes that run beside a playbook; return whether all have ended in time."""
    born, deadline = {pid: birth(pid) for pid in pids}, time.monotonic() + patience
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    while any(birth(pid) == start for pid, start in born.items() if start):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def measure(parent: int, probe: Probe, path: str) -> None:
    """Measure until SIGTERM or the end of the playbook, and write the measurement to a file; so far, at SIGUSR1."""
    probe.start()

    def tick(arrived: list[int]) -> bool:
        if signal.SIGUSR1 in arrived:
            arrived.remove(signal.SIGUSR1)
            write_file(path, json.dumps(probe.result()), 0o644)
        return True

    _until_the_end(parent, tick)
    write_file(path, json.dumps(probe.stop()), 0o644)


def ask(pid: int, number: int, path: str, patience: float) -> dict[str, t.Any] | None:
    """Request the measurement from the process; None if it does not answer."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return None
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as handle:
            found: dict[str, t.Any] = json.load(handle)
            return found
        time.sleep(0.05)
    return None
