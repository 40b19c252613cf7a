# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The interface between builds and package managers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

#: Installed packages by folder below the install root, as node_modules.py describes them.
Packages = Mapping[str, Mapping[str, Any]]


class PackageManager(ABC):
    """One package manager of Node.js projects.

    lock_files: their names, the preferred one first; a project with one of them uses this manager.
    settings: files of a project that configure the manager. They may hold credentials and never leave the machine.
    passed_on: regular expression for the environment variables that the manager needs from the controller; none of
        them holds a credential.
    certificates: those of them that are paths of certificates.
    install_scripts: scripts of a package.json that run while packages are installed.
    hints: regular expressions for the output of failed commands, and the fix for each.
    noise: output that does not help anyone.
    """

    name: ClassVar[str]
    lock_files: ClassVar[tuple[str, ...]]
    settings: ClassVar[tuple[str, ...]]
    passed_on: ClassVar[str]
    certificates: ClassVar[tuple[str, ...]]
    install_scripts: ClassVar[tuple[str, ...]]
    hints: ClassVar[tuple[tuple[str, str], ...]]
    noise: ClassVar[re.Pattern[str]]
    #: Command that writes a lock file without installing anything.
    lock_command: ClassVar[str]

    def lock_file(self, folder: Path) -> Path | None:
        """Return the manager's lock file in a folder."""
        return next((folder / name for name in self.lock_files if (folder / name).is_file()), None)

    @abstractmethod
    def programs(self, node: Path) -> dict[str, Path]:
        """Return the manager's programs by name, as scripts for this Node.js. Raises BuildError if there are none."""

    @abstractmethod
    def environment(self, node: Path, cache: Path) -> dict[str, str]:
        """Return environment variables for running it unattended, with its cache of packages in this folder."""

    @abstractmethod
    def install(self, locked: bool, scripts: bool) -> list[str]:
        """Return the command that installs exactly the packages of the lock file, with or without their scripts."""

    @abstractmethod
    def run_script(self, script: str) -> str:
        """Return the shell command that runs a script of package.json."""

    @abstractmethod
    def locked_packages(self, lock: Path) -> Packages:
        """Return the packages that a lock file lists. Raises BuildError if it cannot be read."""

    @abstractmethod
    def holds_token(self, settings: str) -> bool:
        """Return whether the text of a file with settings holds a credential, and not just the name of a variable."""

    @abstractmethod
    def pinned(self, lock: Path) -> bool:
        """Return whether a lock file has a checksum of everything that is installed. Raises BuildError."""

    @abstractmethod
    def installed_packages(self, root: Path) -> Packages | None:
        """Return the packages installed below an install root; None if this manager never installed any there."""
