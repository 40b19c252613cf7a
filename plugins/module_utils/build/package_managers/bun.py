# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Bun, as a package manager. What it installs and builds runs on Node.js."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.base import (
    HINTS,
    REGISTRY_VARIABLES,
    PackageManager,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.npm import fetch, headers

#: What the registry calls this machine.
MACHINES = {"x86_64": "x64", "aarch64": "aarch64"}


class Bun(PackageManager):
    """Bun."""

    name = "bun"
    lock_files = ("bun.lockb", "bun.lock")
    settings = (".npmrc", "bunfig.toml")
    passed_on = REGISTRY_VARIABLES + "|BUN_CONFIG_REGISTRY"
    default = "1.4.5"
    lock_command = "bun install --lockfile-only"
    hints = (
        (
            r"lockfile had changes, but lockfile is frozen",
            "run `bun install` in {source} and commit the lock file",
        ),
        (
            r"[Ii]ntegrity check failed",
            "a package does not match the lock file: check the registry, then update the lock file",
        ),
        *HINTS,
        (r"Script not found", "package.json has no such script: set build.command, or '' to run none"),
    )

    def programs(self, node: Path, cache: Path) -> dict[str, Path]:
        """Bun's program for this machine, from the registry."""
        machine = MACHINES.get(platform.machine())
        if machine is None:
            raise BuildError(f"Bun has no program for {platform.machine()}. Build on x86_64 or aarch64.")
        if self.digest:
            # What the project states is of the package that only names the others.
            fetch(node, cache, self.name, self.version, self.digest)
        program = fetch(node, cache, f"@oven/bun-linux-{machine}", self.version) / "bin" / "bun"
        runner = program.with_name("bunx")
        if not runner.is_symlink():
            runner.symlink_to(program.name)
        return {"bun": program, "bunx": runner}

    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """A cache."""
        return {"BUN_INSTALL_CACHE_DIR": str(cache), **headers(node)}

    def install(self, locked: bool, scripts: bool, app: str) -> list[str]:
        """Copies, so that no build changes what is in the cache."""
        words = ["bun", "install", *(["--frozen-lockfile"] if locked else []), "--backend=copyfile", "--no-progress"]
        return words if scripts else [*words, "--ignore-scripts"]

    def pinned(self, lock: Path) -> bool:
        """Return whether each package has its checksum. Only packages that the project names run scripts."""
        if lock.suffix == ".lockb":
            return False
        found = re.findall(r'^ {4}"[^"]+": \["(.*)\],$', lock.read_text(errors="replace"), re.MULTILINE)
        return all('"sha512-' in about or "@workspace:" in about for about in found)

    @classmethod
    def holds_token(cls, settings: str) -> bool:
        """Look at its own settings, which are TOML, as well."""
        literal = r"""\b(?:token|password)\s*=\s*["'](?!\$)[^"']"""
        return bool(re.search(literal, settings)) or super().holds_token(settings)
