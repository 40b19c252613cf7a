# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Whether an artifact has the files that a service's commands name; without them, they would fail on the host."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, read_object
from ansible_collections.fivepointers.platform.plugins.module_utils.build.installed import parents
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers import LOADERS, on_host

if TYPE_CHECKING:
    from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import Spec

#: Options of Node.js that take the next word as their value, and those that need no script.
WITH_VALUE = frozenset(
    {"-C", "--conditions", "--env-file", "--experimental-loader", "--import", "--loader", "-r", "--require", "--title"}
)
WITHOUT_SCRIPT = frozenset({"-e", "--eval", "-p", "--print", "-v", "--version"})
#: What tools for migrations read without being told, by the program's name.
READS = {
    "db-migrate": ("database.json",),
    "drizzle-kit": ("drizzle.config.*",),
    "knex": ("knexfile.*",),
    "migrate-mongo": ("migrate-mongo-config.*",),
    "prisma": ("prisma.config.*", "prisma/schema.prisma", "schema.prisma", "prisma/migrations/*/migration.sql"),
    "sequelize": (".sequelizerc", "config/config.js*", "migrations/*"),
    "sequelize-cli": (".sequelizerc", "config/config.js*", "migrations/*"),
}
#: How Node.js completes the name of a script.
ENDINGS = ("", ".js", ".cjs", ".mjs", ".json", "/index.js")


def check_commands(spec: Spec, packed: Collection[str], left_out: Sequence[str], folders: Iterable[Path]) -> None:
    """Raise BuildError if a command of the service names a file that is not in its artifact.

    :param packed: paths of the artifact's files and links.
    :param left_out: paths that git does not track, and that were left out.
    :param folders: where the source is; what a command names and one of them has is a file that it needs.
    """
    for key, stated in (("start", spec.start), ("migrate", spec.migrate), ("migrations", spec.migrations)):
        command = f"{key} of {spec.name} is '{' '.join(stated)}'"
        try:
            words = on_host(stated)
        except BuildError as error:
            raise BuildError(f"{command}, but {error}") from None
        loader = next((name for name in _arguments(words) if name in LOADERS), None)
        if loader:
            raise BuildError(
                f"{command}, but artifacts hold their packages in node_modules, where Node.js finds them without "
                f"{loader}. Leave it out of {key}."
            )
        program = _program(words)
        linked = any(folder in packed for folder in parents(program))
        if program and not linked and not any(program + ending in packed for ending in ENDINGS):
            raise BuildError(f"{command}, but {_missing(program, packed, left_out, key)}")
        for name in _arguments(words):
            if name != program and name not in packed and any((folder / name).is_file() for folder in folders):
                raise BuildError(
                    f"{command}, but the artifact does not have {name}. Name it, or the folder that it is in, in "
                    "build.include."
                )
        name = next((name for folder in folders for name in _reads(program, folder) if name not in packed), "")
        if name:
            inside = {part for place in packed for part in (place, *parents(place))} - {program}
            if inside.isdisjoint(os.path.normpath(word.rpartition("=")[2]) for word in words):
                raise BuildError(
                    f"{command}, which reads {name}, but the artifact does not have it. Name it, or the folder that it "
                    "is in, in build.include; or have the command name the file to read."
                )


def _reads(program: str, folder: Path) -> Iterator[str]:
    """Yield the files of a source that a tool for migrations reads by itself."""
    parts = program.split("/")
    tool = parts[parts.index("node_modules") + 1 :][:2] if "node_modules" in parts else []
    name = tool[-1] if tool[:1] == [".bin"] else "".join(tool[:1])
    for pattern in READS.get(name, ()):
        yield from sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))[:1]
    # Where a schema is, a project may say.
    about = read_object(folder / "package.json").get(name) if (folder / "package.json").is_file() else None
    stated = about.get("schema") if isinstance(about, dict) and name in READS else None
    if isinstance(stated, str) and (folder / stated).is_file():
        yield os.path.normpath(stated)


def _program(words: Sequence[str]) -> str:
    """Return the file that a command starts, relative to the artifact; empty if that is unknown."""
    if not words:
        return ""
    script, rest = words[0], iter(words[1:])
    if script == "node":
        script = ""
        for word in rest:
            if word in WITHOUT_SCRIPT:
                return ""
            if word in WITH_VALUE:
                next(rest, None)
            elif not word.startswith("-"):
                script = word
                break
    elif "/" not in script:
        return ""
    return "" if not script or "$" in script or script.startswith("/") else os.path.normpath(script)


def _arguments(words: Sequence[str]) -> Iterator[str]:
    """Yield what looks like the name of a file among a command's arguments."""
    for word in words[1:]:
        name = os.path.normpath(word.rpartition("=")[2] if word.startswith("-") else word)
        if ("/" in name or "." in name) and not name.startswith(("/", "..")):
            yield name


def _missing(name: str, packed: Collection[str], left_out: Sequence[str], key: str) -> str:
    """Return why a file is not in an artifact, and what to do."""
    untracked = next((path for path in left_out if name == path or name.startswith(f"{path}/")), None)
    if untracked:
        return (
            f"git does not track {untracked}, and of a whole source only what git tracks is packed. Commit it, or, if "
            "the build makes it, name it in build.include."
        )
    if name.startswith("node_modules/"):
        return (
            f"the artifact does not have {name}: it holds the packages that package.json lists as dependencies, and "
            "those that they need. Move the package there from devDependencies, and update the lock file."
        )
    same = [file for file in packed if file.endswith(f"/{Path(name).name}") and "node_modules" not in file]
    there = sorted(same)[:3] or sorted(file for file in packed if "/" not in file)[:8]
    return (
        f"the build did not create {name}. It created: {', '.join(there) or 'nothing'}. Correct {key}, or the build's "
        "output, or name the file in build.include."
    )
