# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Which processes have TCP sockets of this host, as /proc shows them.

Standard library only, Python 3.9 or later: this runs on hosts.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import listed, read

# States of a TCP socket, as the kernel writes them.
ESTABLISHED, LISTENING = "01", "0A"


def tcp_sockets(state: str) -> Iterator[tuple[str, str, socket.AddressFamily]]:
    """Yield local address and port (as the kernel writes them), inode and family of the TCP sockets in a state."""
    for path, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        for line in (read(path) or "").splitlines()[1:]:
            fields = line.split()
            if fields[3] == state:
                yield fields[1], fields[9], family


def listeners(port: int) -> list[tuple[str, str]]:
    """Return who listens on a TCP port: (address, inode of the socket)."""
    found = []
    for local, inode, family in tcp_sockets(LISTENING):
        address, _colon, number = local.partition(":")
        if int(number, 16) == port:
            words = [address[index : index + 8] for index in range(0, len(address), 8)]
            packed = b"".join(int(word, 16).to_bytes(4, "little") for word in words)
            found.append((socket.inet_ntop(family, packed), inode))
    return found


def processes_of(inodes: Sequence[str]) -> list[int]:
    """Return the processes that have one of these sockets open."""
    sockets = {"socket:[%s]" % inode for inode in inodes}
    found = []
    for pid in listed("/proc"):
        if not pid.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in os.listdir("/proc/%s/fd" % pid):
                # It may be closed by now.
                with contextlib.suppress(OSError):
                    if os.readlink("/proc/%s/fd/%s" % (pid, descriptor)) in sockets:
                        found.append(int(pid))
                        break
    return sorted(found)


def holder(inode: str) -> str:
    """Return the process that has a socket open, in words."""
    for pid in processes_of([inode]):
        return "%s (process %d)" % (program_of(pid), pid)
    return "a process that cannot be seen from here"


def program_of(pid: int) -> str:
    """Return the name of a process's program, which is not its title: Node.js calls its processes MainThread."""
    try:
        return os.path.basename(os.readlink("/proc/%d/exe" % pid)).replace(" (deleted)", "")
    except OSError:
        # A process that is ending has only this left, and then nothing.
        with contextlib.suppress(OSError):
            return (read("/proc/%d/comm" % pid) or "").strip()
        return ""


def programs_at(port: int) -> set[str]:
    """Return the names of the programs that listen on a port, without processes that have just ended."""
    found = {program_of(pid) for pid in processes_of([inode for _address, inode in listeners(port)])}
    return found - {""}


def is_free(port: int) -> bool:
    """Whether nginx could listen on a port: tried the way nginx does it. Costs the same on a busy host."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104
        except OSError:
            return False
    return True
