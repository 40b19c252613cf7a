# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The supported package managers. Each has its own file; all other code uses their interface."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, read_object
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.base import PackageManager
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.bun import Bun
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.npm import Npm
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.pnpm import Pnpm
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers.yarn import Yarn

#: The first one is used for projects without a lock file.
MANAGERS: tuple[type[PackageManager], ...] = (Npm, Pnpm, Yarn, Bun)
#: Programs of package managers.
PROGRAMS = frozenset({"npm", "npx", "pnpm", "pnpx", "yarn", "yarnpkg", "bun", "bunx"})
LOCK_FILES = tuple(dict.fromkeys(name for manager in MANAGERS for name in manager.lock_files))
SETTINGS = tuple(dict.fromkeys(name for manager in MANAGERS for name in manager.settings))
LOADERS = frozenset(name for manager in MANAGERS for name in manager.loaders)
#: Of these, what a runtime's archive brings along to a host.
ON_HOSTS = frozenset({"npm", "npx"})
STATED = re.compile(r"([a-z]+)@(\d+\.\d+\.\d+[^+\s]*)(?:\+(sha\d+\.[0-9a-f]+))?")


def manager_of(root: Path) -> PackageManager:
    """Return the package manager of a project, by its lock file and by `packageManager` in its package.json."""
    name, version, digest = stated(root)
    there = [manager for manager in MANAGERS if manager.lock_file(root)]
    locks = " and ".join(lock.name for manager in there if (lock := manager.lock_file(root)))
    chosen = [manager for manager in there or MANAGERS if manager.name == name] if name else there or [MANAGERS[0]]
    if name and not chosen:
        raise BuildError(
            f"{root} has {locks}, but packageManager in its package.json is {name}@{version}. Commit the lock file of "
            "the package manager that the team uses, and state that one."
        )
    if len(chosen) > 1:
        raise BuildError(
            f"{root} has {locks}, of different package managers. Remove all but the one that the team uses, "
            "or state packageManager in package.json."
        )
    return chosen[0].of(root, version, digest)


def stated(root: Path) -> tuple[str, str, str]:
    """Return the package manager that a project states: name, version and digest; empty if it states none."""
    path = root / "package.json"
    about: dict[str, Any] = read_object(path) if path.is_file() else {}
    words = about.get("packageManager")
    if words is None:
        return "", "", ""
    found = STATED.fullmatch(str(words))
    if not found or found[1] not in {manager.name for manager in MANAGERS}:
        known = ", ".join(dict.fromkeys(manager.name for manager in MANAGERS))
        raise BuildError(
            f"packageManager in {path} is {words!r:.80}. State one of {known} with its exact version, such as "
            f"{MANAGERS[-1].name}@{MANAGERS[-1].default}."
        )
    return found[1], found[2], found[3] or ""


def on_host(words: Sequence[str]) -> list[str]:
    """Return what a command runs on a host: of `npx prisma`, node_modules/.bin/prisma. Raises BuildError.

    A host has the runtime, and no package manager that does not come with it.
    """
    program = words[0] if words else ""
    if program in PROGRAMS - ON_HOSTS:
        raise BuildError(f"hosts have no {program}. Write what it starts: node with a file, or node_modules/.bin/NAME.")
    if program == "npx" and not {"-c", "--call"} & set(words):
        named = next((number for number, word in enumerate(words) if number and not word.startswith("-")), 0)
        name = words[named].partition("@")[0]
        return [f"node_modules/.bin/{name}", *words[named + 1 :]] if named and name else list(words)
    return list(words)


def lock_file(folder: Path) -> Path | None:
    """Return a lock file of a folder, of whatever package manager."""
    return next((lock for manager in MANAGERS if (lock := manager.lock_file(folder))), None)


def holds_token(name: str, settings: str) -> bool:
    """Return whether the text of a file with settings, of this name, holds a credential."""
    return any(manager.holds_token(settings) for manager in MANAGERS if name in manager.settings)
