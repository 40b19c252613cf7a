# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Who may change an environment, and who may change a host.

The lock of an environment stands in a register on each of its hosts, and who has a majority of them has the lock. A
host knows the age of the last beat by its own monotonic clock. Hosts refuse fencing numbers lower than one they have
seen at work. Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import records, register
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import (
    NUMBER,
    DamagedError,
    LockedError,
    locked,
    read,
)

#: Where a host keeps what outlives a release.
STATE = "/var/lib/fivepointers"
#: Seconds to wait for another process that works on the host.
LOCK_TIMEOUT = 60
BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: EC2 puts an instance's id into the first. An image made of an instance keeps the second.
IDENTITIES = ("/sys/class/dmi/id/board_asset_tag", "/etc/machine-id")

LEASE_SHAPE = {
    "id": str,
    "number": int,
    "by": str,
    "since": (str, *NUMBER),
    "beat": int,
    "members": dict,
    "boot": str,
    "at": NUMBER,
}


class HostError(Exception):
    """Another process or a later deployment is working on the host. The text is for the operator."""


# --- the register ---------------------------------------------------------------


def member() -> str:
    """Return what distinguishes this host from all others, whatever an inventory calls it."""
    return "/".join((read(path) or "").strip() for path in IDENTITIES)


class HostStore(register.Store):
    """The register in a file of this host."""

    def __init__(self, state: str = STATE) -> None:
        self.state = state
        self.path = os.path.join(state, "lease.json")

    def update(self, change: Callable[[register.Record, float], dict[str, Any]]) -> dict[str, Any]:
        """Replace the record, under a lock of its own: a release may work on the host meanwhile. Raises HostError."""
        with host_locked(self.state, ".lease.lock"):
            record = read_lease(self.path)
            new = change(record, age(record))
            boot = (read(BOOT_ID) or "").strip()
            records.write(self.path, {**new, "boot": boot, "at": monotonic()})
            return new


def monotonic() -> float:
    """Return seconds since the boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def age(lease: Mapping[str, Any]) -> float:
    """Return seconds since a lease's last beat, by this host's monotonic clock. A boot since then starts them anew."""
    if lease.get("boot") != (read(BOOT_ID) or "").strip():
        return monotonic()
    return max(0.0, monotonic() - float(lease.get("at", 0)))


def read_lease(path: str) -> dict[str, Any]:
    """Return the lease in a file; empty if there is none. Raises HostError."""
    return _read(path, LEASE_SHAPE)


def _read(path: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return records.read(path, shape)
    except DamagedError as error:
        raise HostError(
            "%s Nothing was changed. Make sure that no deployment is running, then move the file away on this host: "
            "sudo mv %s %s.damaged" % (error, path, path)
        ) from error


# --- the host -----------------------------------------------------------------


@contextlib.contextmanager
def host_locked(state: str = STATE, name: str = ".lock") -> Iterator[None]:
    """Hold a lock of the host: one process at a time changes what is in `state`. Raises HostError."""
    os.makedirs(state, 0o755, exist_ok=True)
    # nginx looks for the flag files as its own user.
    os.chmod(state, 0o755)  # noqa: S103
    path = os.path.join(state, name)
    try:
        with locked(path, LOCK_TIMEOUT):
            yield
    except LockedError as error:
        raise HostError(
            "Another release has been running on this host for %d s. Wait for it to end, then run this again. It is "
            "process %s, which holds %s." % (LOCK_TIMEOUT, error.holder or "unknown", path)
        ) from None


def read_fence(state: str = STATE) -> int:
    """Return the highest fencing number that was at work on this host. Raises HostError."""
    return int(_read(os.path.join(state, "fence.json"), {"number": int}).get("number") or 0)


def check_fence(number: int, state: str = STATE, holder: str = "") -> None:
    """Raise HostError if a later run has been on this host, or if another one than `holder` has its register.

    Call it with the host's lock held.
    """
    highest, lease = read_fence(state), read_lease(os.path.join(state, "lease.json"))
    if holder and (lease.get("id") != holder or lease.get("released")) and number >= highest:
        raise HostError(
            "This run does not have the lock of this host: it did not answer when the lock was taken, or %s took it "
            "over. This step changed nothing. Run it again." % (lease.get("id") or "nobody")
        )
    if number < highest:
        raise HostError(
            "This deployment lost its lock, and another one has worked on this host since. This step changed nothing. "
            "Run the playbook releases.yml to see what is live, and deploy again when the other deployment has ended."
        )
    if number > highest:
        records.write(os.path.join(state, "fence.json"), {"number": number})
