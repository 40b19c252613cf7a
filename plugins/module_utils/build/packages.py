# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Which packages are installed, read from the folders that Node.js looks into, whatever package manager made them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import read_object
from ansible_collections.fivepointers.platform.plugins.module_utils.build.installed import check_depth
from ansible_collections.fivepointers.platform.plugins.module_utils.build.node_modules import NEEDED_TO_BUILD

#: What of a package.json says where packages go.
RELEVANT = (*NEEDED_TO_BUILD, "peerDependenciesMeta", "bin", "name", "version")


def installed_packages(tree: Path, app: str) -> dict[str, dict[str, Any]]:
    """Return the packages that the install root and an application have, as node_modules.py describes them.

    A link that leads out of the install root is none of them: the artifact would not have its target.
    """
    root = os.path.realpath(tree)
    found: dict[str, dict[str, Any]] = {}
    folders = ["", app]
    while folders:
        folder = folders.pop()
        if folder in found:
            continue
        check_depth(tree, folder)
        found[folder] = _about(tree / folder)
        for place in _places(tree, f"{folder}/node_modules".lstrip("/")):
            path = tree / place
            if not path.is_symlink():
                folders.append(place)
                continue
            aim = os.path.realpath(path)
            if aim.startswith(f"{root}/") and os.path.isdir(aim):
                target = os.path.relpath(aim, root)
                found[place] = {"resolved": target, "link": True}
                folders.append(target)
    return found


def _about(folder: Path) -> dict[str, Any]:
    """Return what a package says of itself; a folder without a package.json is one that says nothing."""
    path = folder / "package.json"
    about = read_object(path) if path.is_file() else {}
    return {name: about[name] for name in RELEVANT if isinstance(about.get(name), (dict, str))}


def _places(tree: Path, modules: str) -> Iterator[str]:
    """Yield the places of the packages in a node_modules: its own, and those in a hidden folder that it links to."""
    if (tree / modules).is_symlink() or not (tree / modules).is_dir():
        return
    for entry in os.scandir(tree / modules):
        place = f"{modules}/{entry.name}"
        if entry.name.startswith("@") and entry.is_dir(follow_symlinks=False):
            yield from (f"{place}/{inner.name}" for inner in os.scandir(entry.path) if inner.is_dir())
        elif entry.name.startswith("."):
            if entry.is_dir(follow_symlinks=False):
                for inner in os.scandir(entry.path):
                    below = f"{place}/{inner.name}"
                    yield from _places(tree, below if inner.name == "node_modules" else f"{below}/node_modules")
        elif entry.is_dir():
            yield place
