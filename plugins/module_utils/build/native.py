# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Native code in an artifact, and for which machines it is: by the headers of its files."""

from __future__ import annotations

import re
import struct

#: Processors by e_machine of an ELF file.
PROCESSORS = {3: "ia32", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x64", 183: "arm64", 243: "riscv64", 258: "loong64"}
#: What other systems load begins with one of these.
OTHERS = {
    b"\xcf\xfa\xed\xfe": "darwin",
    b"\xca\xfe\xba\xbe": "darwin",
    b"MZ": "win32",
}
#: Programs and libraries; object files are left over from building them.
RUNS = (2, 3)
PT_DYNAMIC, PT_INTERP, PT_LOAD = 2, 3, 1
DT_NEEDED, DT_STRTAB, DT_STRSZ = 1, 5, 10
#: Where the name of a package begins to say for which machine it is: @img/sharp-linux-x64, @esbuild/darwin-arm64.
PLATFORM = re.compile(r"[-/_.](?:aix|android|darwin|freebsd|linux(?:musl)?|openbsd|sunos|win32|windows)(?:[-_.].*)?$")


def native(name: str, content: bytes) -> dict[str, str] | None:
    """Return for which machines a file of an artifact is: {package, file, platform, libc}; None if it is not native.

    package: whose it is; packages whose names differ only by the platform are one. libc: empty, musl, or glibc with
    the oldest version that has what the file asks for.
    """
    platform, libc = "", ""
    if content.startswith(b"\x7fELF"):
        found = _elf(content)
        if found is None:
            return None
        platform, libc = found
    elif name.endswith(".node"):
        platform = next((system for magic, system in OTHERS.items() if content.startswith(magic)), "")
    return {"package": package_of(name), "file": name, "platform": platform, "libc": libc} if platform else None


def package_of(name: str) -> str:
    """Return the package that a file of an artifact is in, without the platform; empty for the service's own files."""
    _before, inside, path = name.rpartition("node_modules/")
    parts = path.split("/")[: 2 if path.startswith("@") else 1]
    return PLATFORM.sub("", "/".join(parts)) if inside else ""


def _elf(content: bytes) -> tuple[str, str] | None:
    """Return platform and C library of an ELF file; None for an object file, or one that is damaged."""
    try:
        order = "<" if content[5] == 1 else ">"
        kind, processor = struct.unpack_from(f"{order}HH", content, 16)
        if kind not in RUNS:
            return None
        # Files of 32 bits fit no host, whatever their library.
        libc = _libc(content, order) if content[4] == 2 else ""
    except (struct.error, IndexError):
        return None
    return f"linux-{PROCESSORS.get(processor, f'machine{processor}')}", libc


def _libc(content: bytes, order: str) -> str:
    """Return the C library that an ELF file of 64 bits asks for."""
    (headers,) = struct.unpack_from(f"{order}Q", content, 32)
    size, count = struct.unpack_from(f"{order}HH", content, 54)
    segments = [struct.unpack_from(f"{order}IIQQQQ", content, headers + size * number) for number in range(count)]
    loaded = [(address, offset, length) for kind, _f, offset, address, _p, length in segments if kind == PT_LOAD]
    asked: list[bytes] = []
    strings = b""
    for kind, _flags, offset, _address, _physical, length in segments:
        if kind == PT_INTERP:
            asked.append(content[offset : offset + length].rstrip(b"\0").rpartition(b"/")[2])
        elif kind == PT_DYNAMIC:
            entries = list(struct.iter_unpack(f"{order}QQ", content[offset : offset + length // 16 * 16]))
            known = dict(entries)
            aim = known.get(DT_STRTAB, 0)
            for first, at, long in loaded:
                if first <= aim < first + long:
                    strings = content[at + aim - first :][: known.get(DT_STRSZ, 0)]
            asked += [strings[at:].partition(b"\0")[0] for tag, at in entries if tag == DT_NEEDED]
    if any(name.startswith((b"ld-musl", b"libc.musl")) or name == b"libc.so" for name in asked):
        return "musl"
    if any(name.startswith(b"ld-linux") or name == b"libc.so.6" for name in asked):
        versions = re.findall(rb"\0GLIBC_2\.(\d+)(?=[.\0])", strings)
        return f"glibc 2.{max(map(int, versions))}" if versions else "glibc"
    return ""
