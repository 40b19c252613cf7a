# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Unpack tar archives into directories: safely, and atomically.

Standard library only, Python 3.9 or later: this runs on hosts as well as on the controller.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import read_record, sync_directory
from ansible_collections.fivepointers.platform.plugins.module_utils.common.processes import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    TIMED_OUT,
    run,
)

MARKER = ".fivepointers.json"
TEMPORARY = ".incomplete-"
BLOCK = 1 << 20
PROOF_TIMEOUT = 30
# What unpacking leaves free, in bytes and inodes.
RESERVE, RESERVED_INODES = 64 << 20, 1000


class ArchiveError(Exception):
    """An archive that cannot be found, trusted or unpacked. The text is for the operator."""


# --- reading ------------------------------------------------------------------


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file as hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def verify(path: str, sha256: str) -> None:
    """Raise ArchiveError unless the file has this checksum."""
    found = sha256_of(path)
    if found != sha256:
        raise ArchiveError(
            "The archive %s has the checksum %s instead of %s: it is damaged, or the wrong one. "
            "Nothing was unpacked." % (os.path.basename(path), found, sha256)
        )


def listing(directory: str) -> str:
    """Return a digest of a directory: every path with its type, mode, size and time.

    It detects additions, removals and changes without reading the files.
    """
    digest = hashlib.sha256()
    for folder, names, files in os.walk(directory):
        names.sort()
        for name in sorted(files + [name for name in names if os.path.islink(os.path.join(folder, name))]):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, directory)
            if relative == MARKER:
                continue
            info = os.lstat(path)
            target = os.readlink(path) if os.path.islink(path) else "%d %d" % (info.st_size, info.st_mtime_ns)
            digest.update(("%s\0%o\0%s\n" % (relative, info.st_mode, target)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


# --- unpacking ----------------------------------------------------------------


def member_path(name: str, strip: int) -> str:
    """Return the path of a member below the directory; empty if it is stripped.

    Raises ArchiveError for a path outside of the directory.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ArchiveError("The archive contains %r, which is outside of the directory. Nothing was unpacked." % name)
    return "/".join(parts[strip:])


class _Meter:
    """What was unpacked so far. Refuses more than `limit` (bytes and files), and what would fill the disk."""

    def __init__(self, directory: str, limit: tuple[int, int] | None) -> None:
        self.directory, self.limit = directory, limit
        self.size = self.files = self.unseen = 0

    def add(self, size: int, files: int = 0) -> None:
        """Count what is about to be written."""
        self.size += size
        self.files += files
        if self.limit and (self.size > self.limit[0] or self.files > self.limit[1]):
            raise ArchiveError(
                "The archive holds more than its manifest says, which is %d bytes in %d files. It was removed again."
                % self.limit
            )
        # An entry may take up a block, whatever its size.
        self.unseen += size + 4096
        if self.unseen < BLOCK:
            return
        self.unseen = 0
        disk = os.statvfs(self.directory)
        # Filesystems that allocate inodes dynamically report 0.
        if disk.f_bavail * disk.f_frsize < RESERVE or (disk.f_files and disk.f_favail < RESERVED_INODES):
            raise ArchiveError(
                "The archive would fill the disk, of which %d MB and %d inodes have to stay free: it was removed again "
                "after %.1f MB in %d files. Free some space there."
                % (RESERVE >> 20, RESERVED_INODES, self.size / 1e6, self.files)
            )


def extract(archive: str, directory: str, strip: int = 0, limit: tuple[int, int] | None = None) -> None:
    """Unpack a tar archive into an empty directory, as long as it stays within a limit: bytes and files.

    Whatever is said about it, it does not fill the disk. The caller owns the files. Their mode is 0755 if they were
    executable, and 0644 otherwise.
    Links are created last, and only those that stay inside.
    """
    links: list[tuple[str, str]] = []
    root = os.path.realpath(directory)
    meter = _Meter(root, limit)
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                relative = member_path(member.name, strip)
                if relative:
                    _extract_member(tar, member, os.path.join(root, relative), root, strip, links, meter)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ArchiveError("The archive %s cannot be read: %s" % (os.path.basename(archive), error)) from error
    for path, target in links:
        meter.add(0)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if os.path.lexists(path):
            raise ArchiveError("The archive contains %s twice." % os.path.relpath(path, root))
        os.symlink(target, path)
    for path, target in links:
        real = os.path.realpath(path)
        if os.path.isabs(target) or (real != root and not real.startswith(root + "/")):
            raise ArchiveError(
                "The archive contains the link %s to %s, which is outside of the directory."
                % (os.path.relpath(path, root), target)
            )


def _extract_member(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: str,
    root: str,
    strip: int,
    links: list[tuple[str, str]],
    meter: _Meter,
) -> None:
    """Write one member. No link exists yet, so no path leads outside."""
    meter.add(0, 0 if member.isdir() or member.issym() else 1)
    if member.isdir():
        os.makedirs(path, 0o755, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    if member.issym():
        links.append((path, member.linkname))
    elif member.islnk():
        os.link(os.path.join(root, member_path(member.linkname, strip)), path)
    elif member.isfile():
        source = tar.extractfile(member)
        mode = 0o755 if member.mode & 0o100 else 0o644
        with source, os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as handle:  # type: ignore[union-attr]
            for block in iter(lambda: source.read(BLOCK), b""):  # type: ignore[union-attr]
                meter.add(len(block))
                handle.write(block)
            os.fchmod(handle.fileno(), mode)
        os.utime(path, (member.mtime, member.mtime))
    else:
        raise ArchiveError("The archive contains %r, which is not a file, directory or link." % member.name)


def sync_filesystem(directory: str) -> None:
    """Flush the filesystem of a directory to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            os.sync()
    except (OSError, AttributeError):
        os.sync()
    finally:
        os.close(descriptor)


def temporary_directory(beside: str, mode: int = 0o755) -> str:
    """Create an empty directory on the filesystem of the path that it will become."""
    parent = os.path.dirname(beside)
    os.makedirs(parent, 0o755, exist_ok=True)
    path = tempfile.mkdtemp(prefix=TEMPORARY + os.path.basename(beside) + "-", dir=parent)
    os.chmod(path, mode)
    return path


def complete(temporary: str, path: str) -> None:
    """Give a finished directory its name, atomically; what was there is removed."""
    sync_filesystem(temporary)
    parent = os.path.dirname(path)
    if os.path.lexists(path):
        old = tempfile.mkdtemp(prefix=TEMPORARY + os.path.basename(path) + "-", dir=parent)
        os.rename(path, os.path.join(old, "old"))
        os.rename(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(temporary, path)
    sync_directory(parent)


def remove_incomplete(parent: str) -> list[str]:
    """Remove what killed runs left incomplete in a directory; return the names."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(parent)):
            if name.startswith(TEMPORARY):
                shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
                found.append(name)
    return found


# --- a directory that is exactly an archive -----------------------------------


def is_complete(directory: str, sha256: str, strip: int) -> bool:
    """Whether the directory was unpacked from this archive and is unmodified."""
    marker = read_record(os.path.join(directory, MARKER))
    return (
        marker.get("sha256") == sha256 and marker.get("strip") == strip and marker.get("listing") == listing(directory)
    )


def install(archive: str, directory: str, sha256: str, strip: int, proof: Mapping[str, Any] | None = None) -> None:
    """Unpack an archive as a directory: verified, proved, and then atomically.

    `proof` is {command: argv relative to the directory, says: its output}. Raises ArchiveError and
    leaves the directory unchanged.
    """
    verify(archive, sha256)
    temporary = temporary_directory(directory)
    try:
        extract(archive, temporary, strip)
        if not os.listdir(temporary):
            raise ArchiveError("Nothing is left of the archive after stripping %d leading directories." % strip)
        if proof:
            _prove(temporary, proof["command"], str(proof["says"]))
        marker = {"sha256": sha256, "strip": strip, "listing": listing(temporary)}
        with open(os.path.join(temporary, MARKER), "w", encoding="utf-8") as handle:
            json.dump(marker, handle)
        complete(temporary, directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _prove(directory: str, command: Sequence[str], says: str) -> None:
    argv = [os.path.join(directory, command[0]), *command[1:]]
    shown = " ".join(command)
    status, output = run(argv, PROOF_TIMEOUT)
    if status in (TIMED_OUT, NOT_EXECUTABLE, NOT_FOUND):
        raise ArchiveError(
            "The content of the archive does not run here: `%s`: %s. Is it for another architecture?" % (shown, output)
        )
    if status or output != says:
        raise ArchiveError(
            "The content of the archive is not what the table says: `%s` prints %r (status %d) instead of %r."
            % (shown, output[:400], status, says)
        )
