# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Write artifacts, and keep them in a folder for each service."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ansible_collections.fivepointers.platform.plugins.module_utils.build.installed import parents
from ansible_collections.fivepointers.platform.plugins.module_utils.build.layouts import Layout, read
from ansible_collections.fivepointers.platform.plugins.module_utils.build.native import native
from ansible_collections.fivepointers.platform.plugins.module_utils.build.signatures import SIGNATURE, Signer, signed_by
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import sync_directory

#: Earliest and latest modification time of files in an archive, in seconds since 1970: 2001 and 2020.
TIMES = (978_307_200, 1_577_836_800)


def time_of(digest: str) -> int:
    """Return the modification time of a file in an archive, derived from its content.

    One time for all files would be simpler, but nginx derives the ETag from time and size: after a deployment, a page
    that links to other files with names of the same length would appear unchanged.
    """
    return TIMES[0] + int(digest[:12], 16) % (TIMES[1] - TIMES[0])


class _Hashing(io.RawIOBase):
    """Writes to a file and hashes what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self.file.write(data)


def write_archive(layout: Layout, file: BinaryIO) -> dict[str, Any]:
    """Write the layout as tar.gz: the same content gives the same bytes. Returns its part of the manifest."""
    out = _Hashing(file)
    digests: dict[str, str] = {}
    code: dict[tuple[str, ...], dict[str, str]] = {}
    unpacked = 0
    names = set(layout.files) | set(layout.links)
    folders = {parent for name in names for parent in parents(name)}
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name in sorted(names | folders):
            info = tarfile.TarInfo(name)
            if name in layout.links:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, layout.links[name], 0o777
                archive.addfile(info)
                continue
            if name not in layout.files:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
                continue
            source = layout.files[name]
            content = read(source)
            executable = isinstance(source, Path) and source.stat().st_mode & stat.S_IXUSR
            info.mode = 0o755 if executable else 0o644
            info.size = len(content)
            digests[name] = hashlib.sha256(content).hexdigest()
            info.mtime = time_of(digests[name])
            archive.addfile(info, io.BytesIO(content))
            found = native(name, content)
            if found:
                code.setdefault((found["package"], found["platform"], found["libc"]), found)
            unpacked += len(content)
    return {
        "archive_sha256": out.digest.hexdigest(),
        "archive_size": out.size,
        "unpacked_size": unpacked,
        "files_count": len(digests),
        "files": digests,
        "links": dict(sorted(layout.links.items())),
        # For each package and platform the first file, from which a host knows whether it runs there.
        "native": list(code.values()),
    }


class Store:
    """The artifacts of one service: ``<id>.tar.gz``, ``<id>.json``, and ``latest.json``."""

    def __init__(self, folder: Path, signer: Signer | None = None) -> None:
        """Keep artifacts in a folder.

        :param signer: signs manifests. Artifacts that it did not sign do not count then.
        """
        self.folder = folder
        self.signer = signer

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Return a manifest by id, or ``latest``; None if it is missing or unreadable."""
        try:
            content = json.loads((self.folder / f"{name}.json").read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def complete(self, name: str) -> dict[str, Any] | None:
        """Return the manifest of an artifact if it is ours, and its archive exists and is intact."""
        manifest = self.manifest(name)
        if not manifest or manifest.get("id") != name:
            return None
        if self.signer and not signed_by(manifest, [self.signer.public_key]):
            return None
        digest = hashlib.sha256()
        try:
            with (self.folder / f"{name}.tar.gz").open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError:
            return None
        return manifest if digest.hexdigest() == manifest.get("archive_sha256") else None

    def put(self, name: str, about: dict[str, Any], layout: Layout) -> dict[str, Any]:
        """Write the archive, then the manifest. An interrupted write leaves nothing that looks like an artifact."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        with self._writing(f"{name}.tar.gz") as file:
            written = write_archive(layout, file)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return self._sign({**about, "id": name, "created": created, **written})

    def restate(self, manifest: dict[str, Any], commit: dict[str, Any]) -> dict[str, Any]:
        """Say that an artifact belongs to this commit. Returns its manifest."""
        if manifest.get("commit") == commit:
            return manifest
        return self._sign({key: value for key, value in manifest.items() if key != SIGNATURE} | {"commit": commit})

    def _sign(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.signer:
            manifest = self.signer.sign(manifest)
        self._write_json(f"{manifest['id']}.json", manifest)
        return manifest

    def point(self, manifest: dict[str, Any]) -> bool:
        """Make this the latest artifact. Returns whether that changed anything."""
        latest = self.manifest("latest")
        if latest == manifest:
            return False
        self._write_json("latest.json", manifest)
        return True

    def prune(self, keep: int, but: str) -> list[str]:
        """Remove all but the newest artifacts; returns the removed ids."""
        manifests = [path for path in self.folder.glob("*.json") if path.stem not in ("latest", but)]
        manifests.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        old = manifests[max(0, keep - 1) :]
        for path in old:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.stem}.tar.gz").unlink(missing_ok=True)
        return [path.stem for path in old]

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        with self._writing(name) as file:
            file.write(json.dumps(content, indent=1).encode() + b"\n")

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a file that gets its name only once it is complete and on disk."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.folder / name)
            sync_directory(str(self.folder))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
