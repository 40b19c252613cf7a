# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Run the commands of a build where they see their project and a read-only system, and nothing of the controller.

Install scripts of packages run with all rights of who builds. bubblewrap gives them namespaces of their own; as root,
it also makes them somebody else. They share only the network, which they need for the registry,
and with it what listens at this machine's own addresses and at abstract sockets.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Who runs the commands when root builds. No system or account uses this number.
USER = 60788
#: What of the system they see, as far as it exists.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
#: Programs, fonts, certificates, names and times; nothing that may hold a password.
ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "gai.conf", "host.conf",
    "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf",
    "pki/ca-trust", "pki/tls/certs", "protocols", "resolv.conf", "services", "ssl/cert.pem", "ssl/certs",
    "ssl/openssl.cnf", "timezone",
)  # fmt: skip
#: Folders for temporary files, which every program expects.
TEMPORARY = ("/dev/shm", "/tmp", "/var/tmp")  # noqa: S108
#: Node.js sizes its heap by the limits of the control group.
LIMITS = "/sys/fs/cgroup"

#: Numbers of system calls by machine: its name for filters, clone and unshare, and the three of the kernel's keyrings.
_CALLS = {"x86_64": (0xC000003E, (56, 272), (248, 249, 250)), "aarch64": (0xC00000B7, (220, 97), (217, 218, 219))}
_CLONE3 = 435


@dataclass(frozen=True)
class Isolation:
    """What the commands of a build see besides the system.

    reads: files and folders that they may read. writes: folders of theirs. accounts: the files that stand in for
    /etc/passwd and /etc/group. filter: the file of write_filter.
    """

    reads: Sequence[Path]
    writes: Sequence[Path]
    accounts: Mapping[str, Path]
    filter: Path

    @property
    def user(self) -> int:
        """Who runs the commands."""
        return os.geteuid() or USER

    def command(self, words: Sequence[str], folder: Path) -> list[str]:
        """Return the command line that runs a command in a folder. All that it starts ends with it."""
        root = os.geteuid() == 0
        argv = ["/bin/sh", "-c", 'exec "$@" 9< "$0"', str(self.filter), _own("bwrap"), "--seccomp", "9"]
        argv += ["--die-with-parent", "--as-pid-1", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        argv += ["--cap-drop", "ALL", *(["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else [])]
        argv += [] if root else ["--unshare-user"]
        argv += ["--proc", "/proc", "--dev", "/dev"]
        for place in TEMPORARY:
            argv += ["--perms", "1777", "--tmpfs", place]
        seen = [f"/etc/{name}" for name in ETC] + [LIMITS]
        binds = [("--ro-bind-try", place, place) for place in (*SYSTEM, *seen)]
        binds += [("--ro-bind", str(source), place) for place, source in self.accounts.items()]
        binds += [("--ro-bind", str(path), str(path)) for path in self.reads]
        binds += [("--bind", str(path), str(path)) for path in self.writes]
        # bubblewrap makes the folders above as well, but nobody else could enter them.
        above = {str(parent) for _how, _source, place in binds for parent in Path(place).parents}
        for name in sorted(above - {"/", *SYSTEM, *TEMPORARY}):
            if not name.startswith("/usr/"):
                argv += ["--perms", "0755", "--dir", name]
        argv += [word for bind in binds for word in bind]
        # The shell is the first process: when it ends, by whatever signal, the kernel ends all others.
        argv += ["--chdir", str(folder), "/bin/sh", "-c", '"$@"; exit $?', "sh"]
        if root:
            argv += [_own("setpriv"), f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
        return [*argv, *words]

    def fault(self) -> str:
        """Return why commands cannot be isolated here, and the fix; empty if they can."""
        if not sys.platform.startswith("linux"):
            return "isolation needs Linux"
        if platform.machine() not in _CALLS:
            return f"isolation knows the system calls of {' and '.join(_CALLS)}, not those of {platform.machine()}"
        if not shutil.which("bwrap") or not shutil.which("setpriv"):
            return "bubblewrap is not installed (apt-get install bubblewrap util-linux)"
        tried = subprocess.run(
            self.command(["true"], Path("/")), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if tried.returncode == 0:
            return ""
        said = (tried.stderr.strip().splitlines() or [f"status {tried.returncode}"])[-1]
        return (
            f"bubblewrap does not work here ({said}; on Ubuntu run tools/ci/isolation once as root, and in a container "
            "build as root with CAP_SYS_ADMIN)"
        )


def _own(program: str) -> str:
    """Return where a program of this machine is. On the build's PATH, a package may have one of the same name."""
    return shutil.which(program) or f"/usr/bin/{program}"


def write_filter(folder: Path) -> Path:
    """Write the program by which the kernel refuses system calls of a build, for bubblewrap; return its file.

    The keyrings of who builds belong to no namespace. With a user namespace, a build would be root in it, and much more
    of the kernel's code would be open to it.
    """
    path = folder / "seccomp"
    machine, forks, keys = _CALLS.get(platform.machine(), (0, (0, 0), ()))
    load, equal, least, bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, unknown, forbidden = 0x7FFF0000, 0x50000 | errno.ENOSYS, 0x50000 | errno.EPERM
    # Operation, jumps if true and if false, operand. First the machine, since numbers of others mean something else.
    program = [(load, 0, 0, 4), (equal, 1, 0, machine), (answer, 0, 0, unknown), (load, 0, 0, 0)]
    program += [(least, 0, 1, 0x40000000), (answer, 0, 0, unknown)]
    # clone3 has its flags where a filter cannot look, and whoever does not have it uses clone.
    for number in (*keys, _CLONE3):
        program += [(equal, 0, 1, number), (answer, 0, 0, unknown)]
    program += [(equal, 1, 0, forks[0]), (equal, 0, 3, forks[1])]
    program += [(load, 0, 0, 16), (bits, 0, 1, 0x10000000), (answer, 0, 0, forbidden), (answer, 0, 0, allow)]
    path.write_bytes(b"".join(struct.pack("=HBBI", *step) for step in program))
    return path


def accounts(folder: Path, home: Path) -> dict[str, Path]:
    """Write the accounts that a build knows, and return the files by the places where it looks for them."""
    user, group = (USER, USER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    known = {
        "passwd": f"root:x:0:0:root:/:/bin/sh\nbuild:x:{user}:{group}:build:{home}:/bin/sh\n",
        "group": f"root:x:0:\nbuild:x:{group}:\n",
    }
    for name, text in known.items():
        (folder / name).write_text(text)
    return {f"/etc/{name}": folder / name for name in known}


def give(paths: Iterable[Path]) -> None:
    """Make who runs the commands the owner of folders and all that is in them, if they are not ours."""
    if os.geteuid() == 0:
        subprocess.run([_own("chown"), "-hR", f"{USER}:{USER}", "--", *map(str, paths)], check=True)
