# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What machines and native code are for: operating system, processor and C library, named as Node.js names them.

Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

#: The processors of hosts, by the name that the kernel has for them.
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def machine() -> str:
    """Return this machine's processor: x64, arm64, or the kernel's name of another one."""
    return MACHINES.get(platform.machine().lower(), platform.machine().lower())


def libc() -> str:
    """Return this machine's C library: "glibc 2.36", or "musl"; empty if it is neither."""
    if sys.platform != "linux":
        return ""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "musl"
    except (ValueError, OSError):
        return "musl"


def here() -> str:
    """Return the platform of this machine's archives of Node.js: linux-x64, linux-arm64, linux-x64-musl, …"""
    return "%s-%s%s" % (sys.platform, machine(), "-musl" if libc() == "musl" else "")


def fits(code: Mapping[str, Any], platform: str, library: str) -> bool:
    """Return whether native code runs on a machine.

    code: {platform, libc}, as a manifest has it; libc is empty if it needs none, or is unknown.
    platform, library: the machine's, such as linux-arm64 and "glibc 2.36".
    """
    if code["platform"] != platform.replace("-musl", ""):
        return False
    needed, _space, version = code["libc"].partition(" ")
    return not needed or (needed == library.partition(" ")[0] and _number(version) <= _number(library))


def unfit(native: Iterable[Mapping[str, Any]], platform: str, library: str) -> Mapping[str, Any] | None:
    """Return native code of a package that has nothing that runs on a machine; None if there is no such package.

    native: [{package, file, platform, libc}]. What one package has for several machines is side by side. Of that, what
    is for the same processor is returned: something else does not fit.
    """
    code = list(native)
    served = {item["package"] for item in code if fits(item, platform, library)}
    other = [item for item in code if item["package"] not in served]
    return min(other, key=lambda item: not platform.startswith(item["platform"]), default=None)


def described(platform: str, library: str) -> str:
    """Return a platform with its C library, for messages: "linux-arm64 with glibc 2.36"."""
    return "%s with %s" % (platform, library) if library else platform


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
