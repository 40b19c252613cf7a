# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The Node.js that a project's own files ask for, compared with the one that it is built and run with."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, read_object

#: One comparison of a range, such as >=22.13 or 24.x.
COMPARISON = re.compile(r"(>=|<=|>|<|=|\^|~>?)?\s*v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(?:[-+][\w.+-]*)?")


def contradiction(folders: list[Path], version: str) -> str:
    """Return one sentence on the first file that asks for another Node.js; empty if none does.

    :param folders: the application's folder first, then its monorepo's.
    :param version: the exact version that is used.
    """
    for place, wanted in stated(folders):
        if accepts(wanted, version) is False:
            return (
                f"{place} asks for Node.js {wanted}, and the catalogue has {version}: change `node` of the service, or "
                f"{place}."
            )
    return ""


def stated(folders: list[Path]) -> Iterator[tuple[str, str]]:
    """Yield where a project says which Node.js it wants, and what it says there."""
    for folder in folders:
        for name in (".nvmrc", ".node-version"):
            with contextlib.suppress(OSError):
                yield name, (folder / name).read_text(errors="replace").strip()
        with contextlib.suppress(BuildError):
            package = read_object(folder / "package.json")
            for key in ("volta", "engines"):
                about = package.get(key)
                if isinstance(about, dict) and isinstance(about.get("node"), str):
                    yield f"{key} in package.json", about["node"]


def accepts(wanted: str, version: str) -> bool | None:
    """Return whether a version or a range of versions includes a version; None if it cannot be read, as `lts/*`."""
    found = tuple(int(part) for part in version.split("-")[0].split("."))
    answers = [_all(part.strip(), found) for part in wanted.split("||")]
    return True if True in answers else None if None in answers else False


def _all(text: str, found: tuple[int, ...]) -> bool | None:
    text = re.sub(r"^(\S+)\s+-\s+(\S+)$", r">=\1 <=\2", text)
    position, answer = 0, True
    while position < len(text):
        match = COMPARISON.match(text, position)
        if not match:
            return None
        answer = answer and _one(match, found)
        position = match.end()
        if position < len(text) and not text[position].isspace():
            return None
        position = len(text) - len(text[position:].lstrip())
    return answer


def _one(match: re.Match[str], found: tuple[int, ...]) -> bool:
    stated = [int(part) for part in match.groups()[1:] if part and part.isdigit()]
    if match[2] in ("x", "X", "*"):
        return True
    lowest = tuple(stated + [0] * (3 - len(stated)))
    # The first version above what is stated, as far as it is stated.
    above = (*stated[:-1], stated[-1] + 1)
    operator = match[1] or "="
    if operator == "^":
        return lowest <= found < ((stated[0] + 1,) if stated[0] else above)
    if operator in ("~", "~>"):
        return lowest <= found < ((stated[0], stated[1] + 1) if len(stated) > 1 else above)
    return {
        "=": lowest <= found < above,
        ">=": found >= lowest,
        ">": found >= above,
        "<": found < lowest,
        "<=": found < above,
    }[operator]
