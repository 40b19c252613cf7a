# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The process that runs alongside a deployment: it renews the lock and measures."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import typing as t

from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.release.leases import LEASE, RENEWAL
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.probe import Probe


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
            return handle.read().rpartition(")")[2].split()[19]
    except OSError:
        return "?"


def accompany(parent: int, lease: t.Callable[[str], bool | None], probe: Probe, path: str) -> None:
    """Renew the lease and measure until SIGTERM. Writes the measurement to a file.

    lease: changes it, and returns whether it is ours; None if the host did not answer. The next renewal makes up for
    one that failed.

    SIGUSR1 requests the measurement so far. When the playbook is gone, killed or interrupted, the lease is released, so
    that the next deployment need not wait for it to expire: what still runs of this one has a lower number.
    """
    wanted: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: wanted.append(number))
    born = birth(parent)
    probe.start()
    renewed = time.monotonic()
    due = renewed + RENEWAL
    while signal.SIGTERM not in wanted:
        time.sleep(0.1)
        if birth(parent) != born:
            lease("ended")
            break
        if signal.SIGUSR1 in wanted:
            wanted.remove(signal.SIGUSR1)
            write_file(path, json.dumps(probe.result()), 0o644)
        if time.monotonic() > due:
            due = time.monotonic() + RENEWAL
            ours = lease("renewed")
            if ours:
                renewed = time.monotonic()
            elif ours is False or time.monotonic() > renewed + LEASE:
                break
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
