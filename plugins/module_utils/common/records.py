# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Records that can be rewritten on a full disk: JSON files that are allocated once and changed in place.

A file holds two copies, and a rewrite replaces the older one: whatever interrupts it, the other one is complete. The
file is JSON at any moment between writes, a list of two: ``{"number", "sha256", "record"}``, of which the higher number
is valid, padded with spaces.

A rewrite needs no byte and no inode on file systems that overwrite in place (ext4, xfs, tmpfs). Those that copy on
write (btrfs, zfs) need bytes for it even so. None can be written where the file system is read-only.

Standard library only, Python 3.9 or later: this runs on hosts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import (
    DamagedError,
    Shape,
    check_shape,
    write_file,
)

#: Bytes for each copy: whole blocks, so that writing one cannot tear the other. Larger records get larger files.
ROOM = 16 << 10


def read(path: str, shape: Mapping[str, Shape]) -> dict[str, Any]:
    """Return a record, with values of these shapes; empty if there is none. Raises DamagedError.

    Also reads plain JSON objects, as earlier versions wrote them.
    """
    content = _content(path)
    if not content.startswith(b"["):
        found = _plain(content)
    else:
        copies = _copies(content)
        if not copies:
            raise DamagedError("%s is damaged: neither copy of its record is complete." % path)
        found = copies[max(copies)]
    check_shape(path, found, shape)
    return found


def write(path: str, record: Mapping[str, Any], mode: int = 0o644) -> None:
    """Write a record, on disk when this returns. Only the first time, and when it outgrows its file, space is needed.

    Only one process may write at a time; any may read. `mode` is that of a new file.
    """
    content = _content(path)
    copies = _copies(content)
    number = max(copies, default=0) + 1
    entry = {"number": number, "sha256": _digest(number, record), "record": record}
    text = json.dumps(entry).encode("ascii")
    room = len(content) // 2
    if not copies or len(text) + 4 > room:
        room = ROOM
        while len(text) + 4 > room:
            room *= 2
        halves = [_half(text if place == number % 2 else b"null", place, room) for place in (0, 1)]
        write_file(path, b"".join(halves), mode)
        return
    with open(path, "r+b") as handle:
        handle.seek(room * (number % 2))
        handle.write(_half(text, number % 2, room))
        handle.flush()
        os.fsync(handle.fileno())


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""


def _plain(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _half(text: bytes, place: int, room: int) -> bytes:
    """Return one half of a file: its copy, padded, with the brackets that make both a list."""
    return b",%s\n]\n" % text.ljust(room - 4) if place else b"[%s\n" % text.ljust(room - 2)


def _copies(content: bytes) -> dict[int, Any]:
    """Return the complete records in a file, by number."""
    room = len(content) // 2
    return {**_copy(content[:room]), **_copy(content[room:])}


def _copy(half: bytes) -> dict[int, Any]:
    try:
        entry = json.loads(half.strip(b"[], \n"))
        whole = entry["sha256"] == _digest(entry["number"], entry["record"])
        return {int(entry["number"]): entry["record"]} if whole else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def _digest(number: int, record: Any) -> str:
    return hashlib.sha256(json.dumps([number, record]).encode("ascii")).hexdigest()
