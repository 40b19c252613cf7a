# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The supported package managers. Each has its own file; all other code uses their interface."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.base import PackageManager
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.npm import Npm

#: The first one is used for projects without a lock file.
MANAGERS: tuple[PackageManager, ...] = (Npm(),)
#: Lock files of unsupported package managers.
UNSUPPORTED = {"yarn.lock": "Yarn", "pnpm-lock.yaml": "pnpm", "bun.lock": "Bun", "bun.lockb": "Bun"}
#: Programs of package managers, supported or not.
PROGRAMS = frozenset({"npm", "npx", "yarn", "pnpm"})
LOCK_FILES = tuple(name for manager in MANAGERS for name in manager.lock_files)
SETTINGS = tuple(name for manager in MANAGERS for name in manager.settings)


def manager_of(root: Path) -> PackageManager:
    """Return the package manager of a project, by its lock file."""
    return next((manager for manager in MANAGERS if manager.lock_file(root)), MANAGERS[0])


def lock_file(folder: Path) -> Path | None:
    """Return the lock file of a folder."""
    return manager_of(folder).lock_file(folder)
