# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a build asks a package manager."""

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

    lock_files: their names, the preferred one first; a project with one of them is this manager's.
    settings: files of a project that configure the manager. They may hold credentials and never leave the machine.
    passed_on: regular expression for the environment variables that the manager needs from the controller.
    install_scripts: scripts of a package.json that run while packages are installed.
    hints: regular expressions for the output of failed commands, and what to do about each.
    noise: what the output says that helps nobody.
    """

    name: ClassVar[str]
    lock_files: ClassVar[tuple[str, ...]]
    settings: ClassVar[tuple[str, ...]]
    passed_on: ClassVar[str]
    install_scripts: ClassVar[tuple[str, ...]]
    hints: ClassVar[tuple[tuple[str, str], ...]]
    noise: ClassVar[re.Pattern[str]]
    #: Command that writes a lock file and installs nothing.
    lock_command: ClassVar[str]

    def lock_file(self, folder: Path) -> Path | None:
        """The manager's lock file in a folder."""
        return next((folder / name for name in self.lock_files if (folder / name).is_file()), None)

    @abstractmethod
    def programs(self, node: Path) -> dict[str, Path]:
        """The manager's programs by name, as scripts for this Node.js. Raises BuildError if it has none."""

    @abstractmethod
    def environment(self, node: Path) -> dict[str, str]:
        """Environment variables with which it runs unattended."""

    @abstractmethod
    def install(self, locked: bool, scripts: bool) -> list[str]:
        """The command that installs packages: exactly those of the lock file, with or without their scripts."""

    @abstractmethod
    def run_script(self, script: str) -> str:
        """The shell command that runs a script of package.json."""

    @abstractmethod
    def locked_packages(self, lock: Path) -> Packages:
        """The packages that a lock file names. Raises BuildError if it cannot be read."""

    @abstractmethod
    def installed_packages(self, root: Path) -> Packages | None:
        """The packages that are installed below an install root; None if it never installed any there."""
