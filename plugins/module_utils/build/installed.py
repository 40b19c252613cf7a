# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What an installation left in a work folder, recorded, so that the next build starts with that, and nothing else.

Builds may write to all of their work folder. What one adds is removed before the next, and where one changed what was
installed, that is installed again. An installation leaves more than packages: a project's own scripts generate files,
and a workspace's program becomes executable.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import sha256_of

#: No project has so many folders in each other, nor so long a path; the system could not open much longer ones.
DEEPEST, LONGEST = 200, 2000


def states(work: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the state of these files below the work folder; files that do not exist are left out."""
    return {name: _state(work / name) for name in names if os.path.lexists(work / name)}


def record(work: Path, tree: str, homes: Iterable[str], source: Mapping[str, str]) -> dict[str, str]:
    """Return the state of what is installed, by its path below the work folder.

    :param tree: the folder with the project, of which all counts that is not as in the source, and the folders that it
        is in.
    :param homes: folders of which everything counts.
    :param source: the states of the source's files before the installation.
    """
    found = {name: state for home in homes for name, state in _below(work, home)}
    folders = {parent for name in source for parent in parents(name)}
    for name, state in _below(work, tree):
        if source.get(name) != state and not (name in folders and state.startswith("d ")):
            found[name] = state
            for folder in parents(name):
                if folder == tree or folder in found:
                    break
                found[folder] = _state(work / folder)
    return found


def added(work: Path, tops: Iterable[str], recorded: Mapping[str, str]) -> list[str] | None:
    """Return what is in these folders besides what was recorded; None if that itself is not as it was."""
    more, seen, folders = [], 0, [top for top in tops if (work / top).is_dir()]
    try:
        while folders:
            folder = folders.pop()
            for name in os.listdir(work / folder):
                path = f"{folder}/{name}"
                if path not in recorded:
                    more.append(str(work / path))
                    continue
                if _state(work / path, recorded[path]) != recorded[path]:
                    return None
                seen += 1
                if recorded[path].startswith("d"):
                    folders.append(path)
    except OSError:
        return None
    return more if seen == len(recorded) else None


def remove(paths: Iterable[str]) -> None:
    """Remove files, links and folders with all that they hold, however deep and whatever their modes."""
    there = [os.fsencode(path) for path in paths if os.path.lexists(path)]
    removing = ["xargs", "-0", "rm", "-rf", "--"]
    done = subprocess.run(removing, input=b"\0".join(there), capture_output=True, check=False)
    if done.returncode:
        folders = [path for path in there if not os.path.islink(path)]
        opening = ["xargs", "-0", "chmod", "-R", "u+rwx", "--"]
        subprocess.run(opening, input=b"\0".join(folders), capture_output=True, check=False)
        done = subprocess.run(removing, input=b"\0".join(there), capture_output=True, check=False)
    if done.returncode:
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["rm failed"])[0]
        raise BuildError(f"What an earlier build left cannot be removed: {said:.200}. Remove it as root.")


def check_depth(top: Path, folder: str) -> None:
    """Raise BuildError for a folder too far below another."""
    if folder.count("/") > DEEPEST or len(folder) > LONGEST:
        raise BuildError(
            f"{top} has folders nested too deep: {folder:.80}…. Find out what makes them, and remove them."
        )


def parents(name: str) -> Iterator[str]:
    """Yield the folders above a path, without the root."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _below(work: Path, top: str) -> Iterator[tuple[str, str]]:
    """Yield all that is below a folder, with its state."""
    folders = [top]
    while folders:
        folder = folders.pop()
        check_depth(work, folder)
        for name in os.listdir(work / folder):
            state = _state(work / folder / name)
            yield f"{folder}/{name}", state
            if state.startswith("d"):
                folders.append(f"{folder}/{name}")


def _state(path: Path, before: str = "") -> str:
    """Return what a path is: its kind and mode, and a digest of what it holds, unless its size says enough already."""
    status = path.lstat()
    mode = f"{stat.S_IMODE(status.st_mode) & 0o777:o}"
    if stat.S_ISDIR(status.st_mode):
        return f"d {mode}"
    if stat.S_ISLNK(status.st_mode):
        return f"l {os.readlink(path)}"
    if not stat.S_ISREG(status.st_mode):
        return f"other {stat.S_IFMT(status.st_mode):o}"
    known = f"f {mode} {status.st_size}"
    return f"{known} {sha256_of(str(path))}" if not before or before.startswith(f"{known} ") else known
