# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Files that are read leniently and written whole, and locks on them.

Standard library only, Python 3.9 or later: this runs on hosts as well as on the controller.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

POLL = 0.1


class LockedError(Exception):
    """Another process holds a lock. holder: its PID, where it wrote one."""

    def __init__(self, path: str, seconds: float, holder: str) -> None:
        super().__init__("%s has been held for %.0f s by process %s" % (path, seconds, holder or "unknown"))
        self.holder = holder


def read(path: str) -> str | None:
    """Return the text of a file; None if it does not exist."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_json(path: str) -> Any:
    """Return the value in a JSON file. Raises OSError or ValueError."""
    with open(path, encoding="utf-8") as handle:
        return json.load(handle)


def read_record(path: str) -> dict[str, Any]:
    """Return the object in a JSON file; empty if the file is missing or damaged."""
    try:
        found = read_json(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class DamagedError(Exception):
    """A record that holds something else than it should. The text names the file, the key and the value."""


#: Type of a value; or a list with the shape of its items, or a dictionary with the shapes of its values.
Shape = Any
NUMBER = (int, float)


def read_checked(path: str, shape: Mapping[str, Shape]) -> dict[str, Any]:
    """Return the object in a JSON file, with values of these shapes; empty if the file is missing or no JSON.

    Keys may be missing. Raises DamagedError.
    """
    found = read_record(path)
    check_shape(path, found, shape)
    return found


def check_shape(path: str, found: Any, shape: Mapping[str, Shape]) -> None:
    """Raise DamagedError unless what a file holds is an object with values of these shapes."""
    problem = _misshapen(found, shape, "")
    if problem:
        raise DamagedError("%s is damaged: %s." % (path, problem))


def _misshapen(value: Any, shape: Shape, place: str) -> str:
    """Return what is wrong with a value; empty if nothing is."""
    inner: list[tuple[Any, Shape, str]] = []
    if isinstance(shape, dict):
        right = isinstance(value, dict)
        keys = [key for key in shape if right and key in value]
        inner = [(value[key], shape[key], ("%s.%s" % (place, key)).lstrip(".")) for key in keys]
    elif isinstance(shape, list):
        right = isinstance(value, list)
        inner = [(item, shape[0], "%s[%d]" % (place, index)) for index, item in enumerate(value)] if right else []
    else:
        right = isinstance(value, shape) and not isinstance(value, bool)
    if not right:
        return "%s is %.60r" % (place, value)
    return next(filter(None, (_misshapen(*item) for item in inner)), "")


def listed(directory: str) -> list[str]:
    """Return the sorted names in a directory; none if it does not exist."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def sync_directory(directory: str) -> None:
    """Flush the entries of a directory to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: str, content: str | bytes, mode: int) -> None:
    """Replace a file atomically: write a temporary file beside it, sync it, rename it."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    temporary = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as handle:
        os.fchmod(descriptor, mode)
        handle.write(content.encode("utf-8") if isinstance(content, str) else content)
        handle.flush()
        os.fsync(descriptor)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def write_link(path: str, target: str) -> None:
    """Replace a symbolic link atomically, and sync its directory."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    temporary = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


@contextlib.contextmanager
def locked(
    path: str,
    timeout: float | None = None,
    waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold a lock file until the block or the process ends.

    timeout: seconds to wait for another holder, without end if None; then LockedError is raised.
    waiting: called between attempts; it may raise to give up.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # Never truncated, so that who holds it can be written on a full disk.
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), encoding="ascii", errors="replace") as handle:
        begun = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                passed = time.monotonic() - begun
                if timeout is not None and passed > timeout:
                    handle.seek(0)
                    raise LockedError(path, passed, handle.read().strip()) from None
                if waiting:
                    waiting()
                time.sleep(POLL)
        with contextlib.suppress(OSError):
            os.pwrite(handle.fileno(), b"%-10d\n" % os.getpid(), 0)
        yield
