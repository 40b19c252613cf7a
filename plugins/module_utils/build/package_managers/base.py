# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The interface between builds and package managers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import read_object
from ansible_collections.fivepointers.platform.plugins.module_utils.build.node_modules import NEEDED_TO_BUILD

#: Settings of the package registry that all managers but one read, without credentials and folders: those come from
#: the catalogue, by build.secrets, and from the build.
REGISTRY_VARIABLES = (
    r"(?i:npm_config_(?!.*(?:auth|password|otp|key|cert$|certfile|userconfig|globalconfig|prefix|cache|tmp"
    r"|(?:store|state)[-_]dir)).*)"
)
REGISTRY_SETTINGS = ".npmrc"
#: The name of a variable, where a file with settings could hold a credential.
VARIABLE = r"\$\{\w+(?:\?|:?-)?\}"
HINTS = (
    (
        r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ECONNRESET",
        "the registry cannot be reached: check the proxy and the project's settings of the registry",
    ),
    (
        r"\bE?40[13]\b|Unauthorized|Invalid authentication",
        "the registry requires a login: name its token in build.secrets, and use it in the project's settings as "
        "${{NPM_TOKEN}}",
    ),
    (
        r"\bE404\b|_404\b|404 Not Found",
        "package not found in the registry: check its name, its version and the registry",
    ),
    (r"gyp ERR!", "a native module failed to compile: install python3, make and g++ on the build machine"),
    (r"EBADENGINE|[Uu]nsupported engine|is incompatible with this", "the project requires another Node.js: set `node`"),
)


class PackageManager(ABC):
    """One package manager of Node.js projects, in one version.

    lock_files: their names, the preferred one first; a project with one of them uses this manager.
    settings: files of a project that configure the manager. They may hold credentials and never leave the machine.
    configuration: other files of a project that decide what is installed.
    passed_on: regular expression for the environment variables that the manager needs from the controller; none of
        them holds a credential.
    certificates: those of them that are paths of certificates.
    install_scripts: scripts of a package.json that run while packages are installed.
    default: the version for projects that state none; empty for the one that the runtime has.
    hints: regular expressions for the output of failed commands, and the fix for each.
    noise: output that does not help anyone.
    lock_command: writes a lock file without installing anything.
    workspace_file: lists the packages of a monorepo.
    loaders: files that the manager writes for Node.js to find packages without node_modules, which artifacts have.
    """

    name: ClassVar[str]
    lock_files: ClassVar[tuple[str, ...]]
    settings: ClassVar[tuple[str, ...]] = (REGISTRY_SETTINGS,)
    configuration: ClassVar[tuple[str, ...]] = ()
    passed_on: ClassVar[str] = REGISTRY_VARIABLES
    certificates: ClassVar[tuple[str, ...]] = ("npm_config_cafile",)
    install_scripts: ClassVar[tuple[str, ...]] = ("preinstall", "install", "postinstall", "prepare")
    default: ClassVar[str] = ""
    hints: ClassVar[tuple[tuple[str, str], ...]] = HINTS
    noise: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    lock_command: ClassVar[str]
    workspace_file: ClassVar[str] = "package.json"
    loaders: ClassVar[tuple[str, ...]] = ()

    def __init__(self, version: str = "", digest: str = "") -> None:
        """Choose a version.

        :param version: the exact version; the default without one.
        :param digest: what its archive must have, as the project states it: ``sha512.<hexadecimal digits>``.
        """
        self.version = version or self.default
        self.digest = digest

    @classmethod
    def of(cls, root: Path, version: str, digest: str) -> PackageManager:
        """Return the manager of a project that states this version, or none. Raises BuildError."""
        return cls(version, digest)

    @classmethod
    def lock_file(cls, folder: Path) -> Path | None:
        """Return the manager's lock file in a folder."""
        return next((folder / name for name in cls.lock_files if (folder / name).is_file()), None)

    @property
    def major(self) -> int:
        """The version's first number; 0 for the one of the runtime."""
        return int(self.version.partition(".")[0] or 0)

    @abstractmethod
    def programs(self, node: Path, cache: Path) -> dict[str, Path]:
        """Return the manager's programs by name, as scripts for this Node.js or as executables.

        :param cache: where fetched managers are kept.
        :raise BuildError: there are none.
        """

    @abstractmethod
    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """Return environment variables for running it unattended, with its cache of packages in this folder."""

    @abstractmethod
    def install(self, locked: bool, scripts: bool, app: str) -> list[str]:
        """Return the command that installs exactly the packages of the lock file, with or without their scripts.

        :param app: the application's folder in the monorepo; empty without one. It suffices to install for that.
        """

    def check(self, root: Path, manifests: Mapping[str, Mapping[str, Any]]) -> None:  # noqa: B027 - most notice
        """Raise BuildError if the lock file does not fit, where the manager itself would not notice.

        :param manifests: each package.json of the source by its path.
        """

    def run_script(self, script: str) -> str:
        """Return the shell command that runs a script of package.json."""
        return f"{self.name} run {script}"

    def workspaces(self, root: Path) -> list[str]:
        """Return the patterns of the folders of a monorepo's packages; a leading ! excludes some."""
        stated: Any = (
            read_object(root / "package.json").get("workspaces") if (root / "package.json").is_file() else None
        )
        if isinstance(stated, Mapping):
            stated = stated.get("packages")
        return [str(pattern) for pattern in stated] if isinstance(stated, list) else []

    def copies(self, root: Path, manifests: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether packages of the project itself are installed as copies, and not as links."""
        for about in manifests:
            values = [value for kind in NEEDED_TO_BUILD for value in (about.get(kind) or {}).values()]
            meta = (about.get("dependenciesMeta") or {}).values()
            if any(str(value).startswith("file:") for value in values) or any(item.get("injected") for item in meta):
                return True
        return False

    @classmethod
    def holds_token(cls, settings: str) -> bool:
        """Return whether the text of a file with settings holds a credential, and not just the name of a variable."""
        key = r"""^\s*["']?(?:[^#;=\n]*:)?(?:_authToken|_auth|_?password|otp|key)["']?\s*"""
        literal = rf"""=(?!\s*["']?{VARIABLE}["']?\s*$)\s*\S"""
        return bool(re.search(rf"(?m){key}{literal}|://[^/\s@:]*:(?!{VARIABLE}@)[^/\s@]+@", settings))

    @abstractmethod
    def pinned(self, lock: Path) -> bool:
        """Return whether the manager verifies all that it installs by checksums of the lock file, cached or not.

        Otherwise its cache does not outlive what was installed from it.
        """
