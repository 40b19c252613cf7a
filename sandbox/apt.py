"""What apt's output means."""

from __future__ import annotations

import re

MEANINGS = (
    (
        r"Temporary failure resolving|Could not resolve|Could not connect|Network is unreachable|Cannot initiate",
        "Debian's packages cannot be fetched: no network. Check the machine's connection, name server and proxy.",
    ),
    (r"No space left on device", "The disk is full. Free at least 6 GB on the repository's file system."),
    (
        r"Could not get lock|Unable to lock|Unable to acquire the dpkg",
        "Another apt or dpkg holds the lock. Wait until it has ended, then run this again.",
    ),
    (r"dpkg was interrupted", "An installation was interrupted. Run `dpkg --configure -a`, then this again."),
    (
        r"Hash Sum mismatch|404  Not Found",
        "The package mirror changed while it was read. Run this again in a few minutes.",
    ),
    (
        r"Unable to locate package",
        "A package is unknown to this machine's apt sources. Use Debian 12 with its sources.",
    ),
)


def explain(output: str) -> str | None:
    """A sentence with the cure, when the output is understood."""
    return next((meaning for pattern, meaning in MEANINGS if re.search(pattern, output)), None)
