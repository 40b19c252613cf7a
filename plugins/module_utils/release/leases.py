# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Who may change an environment, and who may change a host.

The lock of an environment is a lease in a file of one of its hosts, held by one deployment at a time:
{id, number, by, since, expires}, in seconds since 1970 by the clock of that host. A deployment renews it while it
lives; otherwise it expires. Its fencing number is higher than that of any earlier lease, even of one on another host:
hosts refuse numbers lower than one they have seen. Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import (
    NUMBER,
    DamagedError,
    LockedError,
    locked,
    read_checked,
    write_file,
)

#: Where a host keeps what outlives a release.
STATE = "/var/lib/fivepointers"
#: Seconds to wait for another process that works on the host.
LOCK_TIMEOUT = 60

#: Seconds until a lease expires, and between renewals.
LEASE, RENEWAL = 60, 15


class LeaseError(Exception):
    """Another deployment has the environment's lock. The text is for the operator."""


class HostError(Exception):
    """Another process or a later deployment is working on the host. The text is for the operator."""


# --- the lease (pure) ---------------------------------------------------------


def acquired(lease: Mapping[str, Any], holder: str, by: str, now: float) -> dict[str, Any]:
    """Return the lease of a new holder; raise LeaseError while another one holds it."""
    if lease and lease.get("id") != holder and lease.get("expires", 0) > now:
        raise LeaseError(
            "Another deployment is working on this environment: %s, by %s, since %s. Nothing was changed. Wait until "
            "it has ended. If it has died, its lock expires in %d s, and the next deployment takes over from there."
            % (lease.get("id"), lease.get("by"), clock(lease.get("since", 0)), lease["expires"] - now + 1)
        )
    # Milliseconds, so that numbers rise even if another host keeps the lease from now on.
    number = max(int(now * 1000), int(lease.get("number", 0)) + 1)
    return {"id": holder, "number": number, "by": by, "since": now, "expires": now + LEASE}


def renewed(lease: Mapping[str, Any], holder: str, now: float) -> dict[str, Any]:
    """Return the lease, renewed; raise LeaseError if another deployment has it by now."""
    _own(lease, holder)
    return {**lease, "expires": now + LEASE}


def released(lease: Mapping[str, Any], holder: str, now: float) -> dict[str, Any]:
    """Return the lease, expired; raise LeaseError if another deployment has it by now."""
    _own(lease, holder)
    return {**lease, "expires": now}


def _own(lease: Mapping[str, Any], holder: str) -> None:
    if lease.get("id") != holder:
        raise LeaseError(
            "The lock of this deployment has expired, and %s has it now, by %s, since %s."
            % (lease.get("id") or "nobody", lease.get("by") or "nobody", clock(lease.get("since", 0)))
        )


def clock(seconds: float) -> str:
    """Return a time as text."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def read_lease(path: str) -> dict[str, Any]:
    """Return the lease in a file; empty if there is none. Raises HostError."""
    return _read(path, {"id": str, "number": int, "by": str, "since": NUMBER, "expires": NUMBER})


def _read(path: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return read_checked(path, shape)
    except DamagedError as error:
        raise HostError(
            "%s Nothing was changed. Make sure that no deployment is running, then move the file away on this host: "
            "sudo mv %s %s.damaged" % (error, path, path)
        ) from error


# --- the host -----------------------------------------------------------------


@contextlib.contextmanager
def host_locked(state: str = STATE) -> Iterator[None]:
    """Hold the host's lock: one process at a time changes what is in `state`. Raises HostError."""
    os.makedirs(state, 0o755, exist_ok=True)
    # nginx looks for the flag files as its own user.
    os.chmod(state, 0o755)  # noqa: S103
    path = os.path.join(state, ".lock")
    try:
        with locked(path, LOCK_TIMEOUT):
            yield
    except LockedError as error:
        raise HostError(
            "Another release has been running on this host for %d s. Wait for it to end, then run this again. It is "
            "process %s, which holds %s." % (LOCK_TIMEOUT, error.holder or "unknown", path)
        ) from None


def check_fence(number: int, state: str = STATE) -> None:
    """Raise HostError if a later deployment has been on this host. Call it with the host's lock held."""
    path = os.path.join(state, "fence.json")
    highest = _read(path, {"number": int}).get("number") or 0
    if number < highest:
        raise HostError(
            "This deployment lost its lock, and another one has worked on this host since. This step changed nothing. "
            "Run the playbook releases.yml to see what is live, and deploy again when the other deployment has ended."
        )
    if number > highest:
        write_file(path, json.dumps({"number": number}) + "\n", 0o644)
