# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Yarn 1, and Yarn from 2 on, which is another program."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError
from ansible_collections.fivepointers.platform.plugins.module_utils.build.node_modules import is_workspace
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.base import (
    HINTS,
    REGISTRY_VARIABLES,
    VARIABLE,
    PackageManager,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.npm import fetch, headers

#: The version that a project keeps a copy of, as was usual before packageManager.
PATH = re.compile(r"(?m)^yarnPath:.*/yarn-(\d+\.\d+\.\d+)\.c?js")
FORMAT = re.compile(r"(?m)^__metadata:\n\s+version: (\d+)")
#: The last version that keeps an older format of lock files.
OF_FORMAT = {"5": "3.1.1", "6": "3.8.7", "8": "4.13.0", "9": "4.14.1"}


class Yarn(PackageManager):
    """What all versions have in common. A project gets one of those below."""

    name = "yarn"
    lock_files = ("yarn.lock",)
    settings = (".npmrc", ".yarnrc", ".yarnrc.yml")
    passed_on = REGISTRY_VARIABLES + r"|(?i:yarn_(?!.*(?:auth|password|identity|token|folder|path|cache)).*)"
    default = "1.22.22"
    loaders = (".pnp.cjs", ".pnp.js", ".pnp.loader.mjs")
    lock_command = "yarn install --mode=update-lockfile"
    hints = (
        (
            r"frozen-lockfile|YN0028|lockfile would have been modified|YN0087",
            "run `yarn install` in {source} and commit the lock file",
        ),
        (
            r"YN0018|Integrity check failed",
            "a package does not match the lock file: check the registry, then update the lock file",
        ),
        (r"YN0041", "the registry requires a login: name its token in build.secrets, and use it in the settings"),
        *HINTS,
        (r"Couldn't find a script|Command \".*\" not found", "package.json has no such script: set build.command"),
    )

    @classmethod
    def of(cls, root: Path, version: str, digest: str) -> PackageManager:
        """Return the one that a project states, or else one that keeps its lock file. Raises BuildError."""
        lock = cls.lock_file(root)
        text = lock.read_text(errors="replace") if lock else ""
        newer = lock and "__metadata:" in text
        if newer and not version:
            settings = root / ".yarnrc.yml"
            path = PATH.search(settings.read_text(errors="replace")) if settings.is_file() else None
            kept = FORMAT.search(text)
            version = path[1] if path else OF_FORMAT.get(kept[1] if kept else "", "")
        stated = int(version.partition(".")[0] or 0)
        if lock and stated and newer != (stated > 1):
            raise BuildError(
                f"{lock} is of Yarn {'2 or newer' if newer else '1'}, but packageManager in package.json is "
                f"yarn@{version}. Run `yarn install` with that version and commit the lock file."
            )
        return (YarnModern if newer or stated > 1 else YarnClassic)(version, digest)

    def programs(self, node: Path, cache: Path) -> dict[str, Path]:
        """Yarn of this version, from the registry, whatever file the project has for it."""
        package = "yarn" if self.major == 1 else "@yarnpkg/cli-dist"
        script = fetch(node, cache, package, self.version, self.digest, "bin/yarn.js") / "bin" / "yarn.js"
        return {"yarn": script, "yarnpkg": script}

    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """Both read the registry's variables."""
        return {"YARN_IGNORE_PATH": "1", **headers(node)}

    @classmethod
    def holds_token(cls, settings: str) -> bool:
        """Look at its own settings, which are YAML, as well."""
        keys = r"npmAuthToken|npmAuthIdent|npmRegistryServerPassword"
        literal = rf"""^\s*["']?(?:{keys})["']?\s*:(?!\s*["']?{VARIABLE}["']?\s*$)\s*\S"""
        return bool(re.search(literal, settings, re.MULTILINE)) or super().holds_token(settings)

    def pinned(self, lock: Path) -> bool:
        """Return that its cache is unpacked, and not verified."""
        return False


class YarnClassic(Yarn):
    """Yarn 1."""

    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """A cache, and no look for a newer version."""
        return {
            **super().environment(node, cache),
            "YARN_CACHE_FOLDER": str(cache),
            "YARN_DISABLE_SELF_UPDATE_CHECK": "1",
        }

    def check(self, root: Path, manifests: Mapping[str, Mapping[str, Any]]) -> None:
        """Look for what the lock file lacks. With --frozen-lockfile, Yarn 1 does so for the root only."""
        lock = self.lock_file(root)
        if lock is None:
            return
        lines = re.findall(r"^([^#\s].*):$", lock.read_text(errors="replace"), re.MULTILINE)
        locked = {entry.strip('"') for line in lines for entry in line.split(", ")}
        patterns = self.workspaces(root)
        own = {os.path.dirname(path): about for path, about in manifests.items()}
        own = {folder: about for folder, about in own.items() if not folder or is_workspace(folder, patterns)}
        known = {about.get("name") for about in own.values()}
        replaced = {key.rpartition("/")[2] for key in manifests.get("package.json", {}).get("resolutions") or {}}
        for folder, about in own.items():
            for kind in ("dependencies", "devDependencies", "optionalDependencies"):
                for name, value in (about.get(kind) or {}).items():
                    if name in known or name.rpartition("/")[2] in replaced or str(value).startswith("link:"):
                        continue
                    if f"{name}@{value}" not in locked:
                        raise BuildError(
                            f"{lock.name} has no {name}@{value}, which {os.path.join(folder, 'package.json')} needs. "
                            f"Run `yarn install` in {root} and commit the lock file."
                        )

    def install(self, locked: bool, scripts: bool, app: str) -> list[str]:
        """Development dependencies included, since building needs them."""
        words = ["yarn", "install", "--frozen-lockfile" if locked else "--no-lockfile"]
        words += ["--non-interactive", "--no-progress", "--production=false"]
        return words if scripts else [*words, "--ignore-scripts"]


class YarnModern(Yarn):
    """Yarn from 2 on. Projects with Plug'n'Play get node_modules from the same lock file, as hosts run plain node."""

    default = "4.18.1"

    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """A cache, folders of packages with nothing shared between projects, and readable output."""
        return {
            **super().environment(node, cache),
            "YARN_GLOBAL_FOLDER": str(cache),
            "YARN_NODE_LINKER": "node-modules",
            "YARN_NM_MODE": "classic",
            "YARN_ENABLE_TELEMETRY": "0",
            "YARN_ENABLE_PROGRESS_BARS": "0",
            "YARN_ENABLE_COLORS": "0",
        }

    def install(self, locked: bool, scripts: bool, app: str) -> list[str]:
        """Development dependencies included, since building needs them."""
        words = ["yarn", "install", "--immutable" if locked else "--no-immutable"]
        return words if scripts else [*words, "--mode=skip-build"]

    def pinned(self, lock: Path) -> bool:
        """Return whether each package of a registry has the checksum of its archive, which Yarn verifies."""
        blocks = lock.read_text(errors="replace").split("\n\n")
        fetched = [block for block in blocks if "resolution:" in block and "@workspace:" not in block]
        return all(re.search(r"^ {2}checksum: ", block, re.MULTILINE) for block in fetched)
