# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Find Node.js on the controller, or download it and verify its checksum; versions are kept side by side."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.urls import ConnectionError as UrlError
from ansible.module_utils.urls import open_url
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, locked, wheel
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import file_sha256
from ansible_collections.fivepointers.platform.plugins.module_utils.common import platforms, runtime_table
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError, extract


@dataclass(frozen=True)
class Runtime:
    """A Node.js to build with: its exact version, and the program, or the archive that has it: {url, sha256, strip}."""

    version: str
    program: Path | None
    archive: Mapping[str, Any] = field(default_factory=dict)


def version_key(version: str) -> tuple[int, ...]:
    """Return a key to compare versions by."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def find_runtime(wanted: str, cache: Path, archives: Mapping[str, Mapping[str, Any]]) -> Runtime:
    """Return a service's Node.js: the version that its hosts get, the newest in the cache, or the one on PATH."""
    lacking = ""
    stated = runtime_table.find(archives, wanted)
    if stated:
        version = runtime_table.version_of(stated)
        program = cache / "node" / version / "bin" / "node"
        if program.exists():
            return Runtime(version, program)
        known = runtime_table.platforms_of(stated)
        try:
            which = f"platform_environment.nodejs['{wanted}']"
            return Runtime(version, None, runtime_table.pick(known, platforms.here(), which))
        except ArchiveError as error:
            # The hosts are other machines. Whoever builds may have installed that version.
            lacking, wanted = f"{error}; or install Node.js {version}.", version
    here = [
        path.name
        for path in (cache / "node").glob("*")
        if (path.name == wanted or path.name.startswith(f"{wanted}.")) and (path / "bin" / "node").exists()
    ]
    if here:
        version = max(here, key=version_key)
        return Runtime(version, cache / "node" / version / "bin" / "node")
    found = []
    for path in (shutil.which("node"), wheel("bin", "node")):
        if path and Path(path).is_file():
            # What is on PATH may be a script that starts Node.js.
            version, _space, real = told(path, "-p", "process.versions.node + ' ' + process.execPath").partition(" ")
            found.append(f"{path} is {version}")
            if version == wanted or version.startswith(f"{wanted}."):
                return Runtime(version, Path(real))
    raise BuildError(
        lacking
        or f"No Node.js {wanted} to build with: none in {cache / 'node'}, and "
        f"{', '.join(found) or 'none on PATH'}. Define it in platform_environment.nodejs['{wanted}'] "
        "(version, url, sha256), or install it."
    )


def node_version(program: Path) -> str:
    """Return the version that a Node.js reports, without the v."""
    return told(str(program), "--version").removeprefix("v")


def told(*words: str) -> str:
    """Return what a command prints."""
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def fetch_runtime(version: str, archive: Mapping[str, Any], cache: Path) -> Path:
    """Put a runtime into the cache: download, verify the checksum, unpack, and only then rename it into place."""
    folder = cache / "node"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / version / "bin" / "node"
    with locked(folder / ".lock", f"downloading Node.js {version}"):
        if program.exists():
            return program
        packed = folder / f"node-{version}.tar.gz"
        url, wanted = str(archive.get("url") or ""), str(archive.get("sha256") or "")
        if not packed.exists() or (wanted and file_sha256(packed) != wanted):
            download(url, wanted, packed, version)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as temporary:
            unpack(packed, Path(temporary), int(archive.get("strip", 1)))
            unpacked = Path(temporary) / "bin" / "node"
            if not unpacked.exists():
                raise BuildError(
                    f"{url or packed} contains no bin/node with strip: {archive.get('strip', 1)}. Correct strip."
                )
            try:
                said = node_version(unpacked)
            except OSError as error:
                raise BuildError(
                    f"Node.js of {url or packed} does not run on this machine: {error.strerror}. Write its archive for "
                    f"{platforms.here()} in platform_environment.nodejs: {{version: {version}, {platforms.here()}: "
                    "{url: …, sha256: …}}."
                ) from error
            if said != version:
                raise BuildError(
                    f"{url or packed} contains Node.js {said} instead of {version}. Correct version or url."
                )
            target = folder / version
            shutil.rmtree(target, ignore_errors=True)
            os.rename(temporary, target)
            target.chmod(0o755)
            os.mkdir(temporary)  # the context manager removes it
    return program


def download(url: str, wanted: str, target: Path, version: str) -> None:
    """Download a file and verify its checksum."""
    if not url or not wanted:
        raise BuildError(
            f"Node.js {version} is not in the cache, and platform_environment.nodejs has no url or no sha256 for it."
        )
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".download-")
    try:
        try:
            with os.fdopen(handle, "wb") as file, open_url(url, timeout=60) as answer:
                shutil.copyfileobj(answer, file)
        except (OSError, ValueError, UrlError) as error:
            raise BuildError(f"Node.js {version} cannot be downloaded from {url}: {error}.") from error
        came = file_sha256(Path(temporary))
        if came != wanted:
            raise BuildError(
                f"{url} has the checksum {came}, but nodejs says {wanted}. Correct url or sha256 in nodejs."
            )
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def unpack(archive: Path, target: Path, strip: int) -> None:
    """Unpack a tar archive, stripping the first `strip` folders."""
    try:
        extract(str(archive), str(target), strip)
    except (ArchiveError, OSError) as error:
        raise BuildError(f"{archive} cannot be unpacked: {error}.") from error
