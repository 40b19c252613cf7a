# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Artifacts: what stands in one, how it is written, and the folder in which they are kept."""

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

#: Files that compress well and are asked for by browsers.
COMPRESSIBLE = {
    ".css", ".csv", ".geojson", ".htm", ".html", ".ico", ".js", ".json", ".map", ".md", ".mjs", ".otf", ".svg", ".ttf",
    ".txt", ".wasm", ".webmanifest", ".xml",
}  # fmt: skip
COMPRESS_FROM = 1024
#: Oldest and youngest time of a file in an archive, in seconds since 1970: 2001 and 2020.
TIMES = (978_307_200, 1_577_836_800)


class ArtifactError(Exception):
    """An artifact cannot be made; the text names the file and the fix."""


class Layout:
    """The files and links of an artifact, by their path in it, and where their content comes from."""

    def __init__(self) -> None:
        self.files: dict[str, Path | bytes] = {}
        self.links: dict[str, str] = {}
        self._mapped: list[tuple[Path, str]] = []
        self._pending: list[tuple[str, Path]] = []

    def add_file(self, source: Path, at: str) -> None:
        """One file; a link is followed."""
        if source.is_file():
            self.files[at] = source

    def add_link(self, at: str, target: str) -> None:
        """A relative link; dropped by `settle` when nothing stands there."""
        self.links[at] = target

    def add_tree(self, source: Path, at: str = "", skip: Callable[[str], bool] | None = None) -> None:
        """A folder with all that is in it. ``skip`` is asked for each path below it."""
        self._mapped.append((source.resolve(), at))
        for relative, path in walk(source, skip):
            place = f"{at}/{relative}" if at else relative
            if path.is_symlink():
                self._pending.append((place, path))
            else:
                self.files[place] = path

    def settle(self) -> None:
        """Make each link one within the artifact, or the content that it leads to; drop those that lead nowhere."""
        pending, self._pending = self._pending, []
        for place, path in pending:
            try:
                target = path.resolve(strict=True)
            except (OSError, RuntimeError) as error:
                if "node_modules" in place.split("/"):
                    continue
                raise ArtifactError(f"{path} is a link that leads nowhere: remove it, or make its target") from error
            inside = self._place_of(target)
            if inside is not None:
                self.links[place] = os.path.relpath(inside or ".", os.path.dirname(place) or ".")
            elif target.is_dir():
                for relative, file in walk(target, lambda relative: relative.startswith("node_modules/")):
                    if not file.is_dir():
                        self.files[f"{place}/{relative}"] = file
            else:
                self.files[place] = target
        folders = {parent for name in self.files for parent in parents(name)}
        for place, link in list(self.links.items()):
            aim = os.path.normpath(os.path.join(os.path.dirname(place), link))
            if aim not in self.files and aim not in folders and aim not in self.links:
                del self.links[place]

    def _place_of(self, target: Path) -> str | None:
        """Where a path on disk stands in the artifact; None where it does not."""
        for source, at in sorted(self._mapped, key=lambda pair: -len(str(pair[0]))):
            if target == source or source in target.parents:
                relative = "" if target == source else target.relative_to(source).as_posix()
                place = "/".join(part for part in (at, relative) if part)
                return place if place == "" or self._has(place) else None
        return None

    def _has(self, place: str) -> bool:
        return place in self.files or any(name.startswith(f"{place}/") for name in self.files)

    def compress(self, brotli: Callable[[list[bytes]], list[bytes]], below: str = "") -> None:
        """Put a gzipped file and one of brotli beside each that browsers ask for, where that makes it smaller."""
        plain = {
            name: read(source)
            for name, source in self.files.items()
            if Path(name).suffix.lower() in COMPRESSIBLE and (not below or name.startswith(f"{below}/"))
        }
        plain = {name: content for name, content in plain.items() if len(content) >= COMPRESS_FROM}
        gzipped = [gzip.compress(content, 9, mtime=0) for content in plain.values()]
        for suffix, packed in ((".gz", gzipped), (".br", brotli(list(plain.values())))):
            for (name, content), smaller in zip(plain.items(), packed, strict=True):
                if len(smaller) < len(content) * 0.95:
                    self.files.setdefault(name + suffix, smaller)


def walk(folder: Path, skip: Callable[[str], bool] | None = None) -> Iterator[tuple[str, Path]]:
    """Files and links below a folder with their relative paths, sorted; links are not followed."""
    stack = [""]
    while stack:
        relative = stack.pop()
        for entry in sorted(os.scandir(folder / relative), key=lambda item: item.name):
            path = f"{relative}/{entry.name}" if relative else entry.name
            if skip and skip(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                stack.append(path)
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                yield path, Path(entry.path)


def parents(name: str) -> Iterator[str]:
    """The folders above a path, without the root."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def read(source: Path | bytes) -> bytes:
    """The content of a file of a layout."""
    return source if isinstance(source, bytes) else source.read_bytes()


def time_of(digest: str) -> int:
    """The modification time of a file in an archive: it follows from the content.

    The same for all would be simpler, but nginx makes an ETag of time and size: after a deploy, a page that names
    other files with names of the same length would be taken for unchanged.
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
    """Write the layout as tar.gz: the same content gives the same bytes. Returns what the manifest says about it."""
    out = _Hashing(file)
    digests: dict[str, str] = {}
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
            unpacked += len(content)
    return {
        "archive_sha256": out.digest.hexdigest(),
        "archive_size": out.size,
        "unpacked_size": unpacked,
        "files_count": len(digests),
        "files": digests,
        "links": dict(sorted(layout.links.items())),
    }


class Store:
    """The artifacts of one service: ``<id>.tar.gz``, ``<id>.json``, and ``latest.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def manifest(self, name: str) -> dict[str, Any] | None:
        """A manifest by id, or ``latest``; None where there is none that can be read."""
        try:
            content = json.loads((self.folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def complete(self, name: str) -> dict[str, Any] | None:
        """The manifest of an artifact whose archive is there and undamaged."""
        manifest = self.manifest(name)
        if not manifest or manifest.get("id") != name:
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
        """Write archive, then manifest. What is interrupted leaves nothing that looks like an artifact."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        with self._writing(f"{name}.tar.gz") as file:
            written = write_archive(layout, file)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        manifest = {**about, "id": name, "created": created, **written}
        self._write_json(f"{name}.json", manifest)
        return manifest

    def point(self, manifest: dict[str, Any]) -> bool:
        """Make this one the latest. Returns whether another one was."""
        latest = self.manifest("latest")
        if latest == manifest:
            return False
        self._write_json("latest.json", manifest)
        return True

    def prune(self, keep: int, but: str) -> list[str]:
        """Remove all but the newest artifacts; returns the ids that went."""
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
        """A file that takes its name only when it is complete and on disk."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.folder / name)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
