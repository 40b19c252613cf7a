# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""pnpm."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, read_object
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.base import (
    HINTS,
    REGISTRY_VARIABLES,
    PackageManager,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.npm import fetch, headers
from ansible_collections.fivepointers.platform.plugins.module_utils.common import platforms

#: From here on, it is a program for each machine.
NATIVE = 12
#: From here on, variables have its own name.
OWN_VARIABLES = 11
#: The last version that keeps an older format of lock files, by the format's first number.
OF_FORMAT = {"5": "7.33.7", "6": "8.15.9"}


class Pnpm(PackageManager):
    """pnpm, which links packages from node_modules/.pnpm."""

    name = "pnpm"
    lock_files = ("pnpm-lock.yaml",)
    configuration = ("pnpm-workspace.yaml", ".pnpmfile.cjs", ".pnpmfile.mjs")
    passed_on = REGISTRY_VARIABLES + "|" + REGISTRY_VARIABLES.replace("npm_config", "pnpm_config")
    certificates = ("npm_config_cafile", "pnpm_config_cafile")
    install_scripts = (*PackageManager.install_scripts, "pnpm:devPreinstall", "postprepare", "preprepare")
    default = "10.34.8"
    lock_command = "pnpm install --lockfile-only"
    workspace_file = "pnpm-workspace.yaml"
    hints = (
        (
            r"ERR_PNPM_OUTDATED_LOCKFILE|ERR_PNPM_LOCKFILE_CONFIG_MISMATCH",
            "run `pnpm install` in {source} and commit the lock file",
        ),
        (
            r"ERR_PNPM_TARBALL_INTEGRITY",
            "a package does not match the lock file: check the registry, then update the lock file",
        ),
        (
            r"ERR_PNPM_IGNORED_BUILDS",
            "packages have install scripts that the project neither allows nor refuses: run `pnpm approve-builds` and "
            "commit pnpm-workspace.yaml",
        ),
        (
            r"ERR_PNPM_LOCKFILE_BREAKING_CHANGE|ERR_PNPM_NO_LOCKFILE|not compatible with (?:the )?current pnpm",
            "the lock file is of another pnpm: state yours as packageManager in package.json",
        ),
        *HINTS,
        (r"ERR_PNPM_NO_SCRIPT|Missing script", "package.json has no such script: set build.command, or '' to run none"),
    )

    @classmethod
    def of(cls, root: Path, version: str, digest: str) -> PackageManager:
        """Return the one that a project states, or else one that reads its lock file."""
        lock = cls.lock_file(root)
        found = re.match(r"lockfileVersion: '?(\d+)", lock.read_text(errors="replace")) if lock else None
        return cls(version or OF_FORMAT.get(found[1] if found else "", ""), digest)

    def programs(self, node: Path, cache: Path) -> dict[str, Path]:
        """pnpm of this version, from the registry."""
        folder = fetch(node, cache, self.name, self.version, self.digest)
        if self.major >= NATIVE:
            self._place_program(node, cache, folder)
        stated: dict[str, str] = read_object(folder / "package.json").get("bin") or {}
        return {name: folder / path for name, path in stated.items()}

    def _place_program(self, node: Path, cache: Path, folder: Path) -> None:
        """Put the machine's program where the package has a placeholder, as the package's install script does."""
        machine = platforms.machine()
        if machine not in ("x64", "arm64"):
            raise BuildError(f"pnpm {self.version} has no program for {machine}. Use pnpm 11, or x64.")
        program = fetch(node, cache, f"@pnpm/exe.linux-{machine}", self.version) / "pnpm"
        for name in ("pnpm", "pn", "pnpx", "pnx"):
            if not (folder / name).exists() or (folder / name).stat().st_size != program.stat().st_size:
                made = folder / f".{name}.{os.getpid()}"
                shutil.copy(program, made)
                made.chmod(0o755)
                os.replace(made, folder / name)

    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """No questions, no other version of itself, no links out of the project, and nothing installed on the side."""
        stated = {
            "store_dir": str(cache / "store"),
            "cache_dir": str(cache / "cache"),
            "state_dir": str(cache / "state"),
            "package_import_method": "copy",
            "enable_global_virtual_store": "false",
            "manage_package_manager_versions": "false",
            "pm_on_fail": "ignore",
            "verify_deps_before_run": "false",
            "confirm_modules_purge": "false",
            "update_notifier": "false",
            "reporter": "append-only",
        }
        kinds = ("npm_config", "pnpm_config") if self.major >= OWN_VARIABLES else ("npm_config",)
        found = {f"{kind}_{name}": value for kind in kinds for name, value in stated.items()}
        return {**found, **headers(node)}

    def install(self, locked: bool, scripts: bool, app: str) -> list[str]:
        """Of a monorepo, the application with the packages that it needs, and the root."""
        words = ["pnpm", "install", "--frozen-lockfile" if locked else "--no-frozen-lockfile", "--prod=false"]
        if app:
            words += ["--filter", f"{{./{app}}}...", "--filter", "{.}..."]
        return words if scripts else [*words, "--ignore-scripts"]

    def workspaces(self, root: Path) -> list[str]:
        """Return the packages of pnpm-workspace.yaml."""
        path = root / "pnpm-workspace.yaml"
        try:
            stated: Any = yaml_load(path.read_bytes()) if path.is_file() else {}
        except Exception as error:
            raise BuildError(f"{path} is not readable YAML: {error}.") from error
        found = stated.get("packages") if isinstance(stated, dict) else None
        return [str(pattern) for pattern in found] if isinstance(found, list) else []

    def copies(self, root: Path, manifests: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether one is copied, which a setting can do for all of them."""
        files = [root / name for name in (*self.settings, "pnpm-workspace.yaml")]
        stated = "\n".join(path.read_text(errors="replace") for path in files if path.is_file())
        injects = re.search(r"(?im)^\s*inject-?workspace-?packages\s*[:=]\s*true", stated)
        return bool(injects) or super().copies(root, manifests)

    def pinned(self, lock: Path) -> bool:
        """Return whether each package has its checksum. Only packages that the project names run scripts."""
        found = re.findall(r"^ {4}resolution: \{(.*)", lock.read_text(errors="replace"), re.MULTILINE)
        return all("integrity:" in about or "type: directory" in about for about in found)
