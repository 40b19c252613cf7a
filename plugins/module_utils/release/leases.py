# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The lock of an environment: a lease in a file of one of its hosts, held by one deployment at a time.

A lease is {id, number, by, since, expires}: who holds it, since and until when (seconds since 1970, by the clock of
that host). It is renewed as long as the deployment lives, and ends by itself when it does not. Its number is higher
than that of every lease before, also of one on another host: each host refuses what comes with a lower number than it
has seen. Pure; standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

#: Seconds for which a lease holds without being renewed, and between renewals.
LEASE, RENEWAL = 60, 15


class LeaseError(Exception):
    """The lock is somebody else's. The text is for the operator."""


def acquired(lease: Mapping[str, Any], holder: str, by: str, now: float) -> dict[str, Any]:
    """Return the lease of a new holder; raise LeaseError while another one holds it."""
    if lease and lease.get("id") != holder and lease.get("expires", 0) > now:
        raise LeaseError(
            "Another deployment works on this environment: %s, by %s, since %s. Nothing was changed. Wait for it to "
            "end. If it has died, its lock ends by itself in %d s, and the next deployment takes over from there."
            % (lease.get("id"), lease.get("by"), clock(lease.get("since", 0)), lease["expires"] - now + 1)
        )
    # Milliseconds, so that numbers rise even where another host keeps the lease from now on.
    number = max(int(now * 1000), int(lease.get("number", 0)) + 1)
    return {"id": holder, "number": number, "by": by, "since": now, "expires": now + LEASE}


def renewed(lease: Mapping[str, Any], holder: str, now: float) -> dict[str, Any]:
    """Return the lease, prolonged; raise LeaseError if it is somebody else's by now."""
    _own(lease, holder)
    return {**lease, "expires": now + LEASE}


def released(lease: Mapping[str, Any], holder: str, now: float) -> dict[str, Any]:
    """Return the lease, ended; raise LeaseError if it is somebody else's by now."""
    _own(lease, holder)
    return {**lease, "expires": now}


def _own(lease: Mapping[str, Any], holder: str) -> None:
    if lease.get("id") != holder:
        raise LeaseError(
            "This deployment's lock ended, and %s has it now, by %s, since %s."
            % (lease.get("id") or "nobody", lease.get("by") or "nobody", clock(lease.get("since", 0)))
        )


def clock(seconds: float) -> str:
    """Return a time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
