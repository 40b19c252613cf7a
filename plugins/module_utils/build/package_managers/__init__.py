# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The package managers that builds know. Each has a file of its own; everything else asks them."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.base import PackageManager
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.npm import Npm

#: A project without a lock file gets the first one.
MANAGERS: tuple[PackageManager, ...] = (Npm(),)
#: Lock files of managers that builds do not know.
UNSUPPORTED = {"yarn.lock": "Yarn", "pnpm-lock.yaml": "pnpm", "bun.lock": "Bun", "bun.lockb": "Bun"}
#: Programs of package managers, known here or not.
PROGRAMS = frozenset({"npm", "npx", "yarn", "pnpm"})
LOCK_FILES = tuple(name for manager in MANAGERS for name in manager.lock_files)
SETTINGS = tuple(name for manager in MANAGERS for name in manager.settings)


def manager_of(root: Path) -> PackageManager:
    """The package manager of a project: the one whose lock file it has."""
    return next((manager for manager in MANAGERS if manager.lock_file(root)), MANAGERS[0])


def lock_file(folder: Path) -> Path | None:
    """The lock file of a folder."""
    return manager_of(folder).lock_file(folder)
