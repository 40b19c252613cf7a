#!/usr/bin/env python3
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Write the table of options in each role's README from its argument_specs.

``tools/role_readme.py [--check] [ROLE ...]``; without names, all roles. The table stands between two comments,
``<!-- options -->`` and ``<!-- /options -->``; everything else in the README is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parents[1] / "roles"
BEGIN, END = "<!-- options -->", "<!-- /options -->"


def table(specs: dict[str, Any]) -> str:
    """The options of all entry points, as one table each."""
    parts = []
    for entry, spec in specs.items():
        options = spec.get("options") or {}
        if not options:
            continue
        if len(specs) > 1:
            parts.append(f"`tasks_from: {entry}`")
        lines = ["| variable | type | default | |", "| --- | --- | --- | --- |"]
        lines += [_line(name, option) for name, option in options.items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "None."


def _line(name: str, option: dict[str, Any]) -> str:
    kind = option.get("type", "str")
    if "elements" in option:
        kind += f" of {option['elements']}"
    if option.get("required"):
        default = "*required*"
    elif option.get("default") is None:
        default = ""
    else:
        value = option["default"]
        default = f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"
    description = option.get("description", "")
    text = " ".join(description) if isinstance(description, list) else description
    if "choices" in option:
        text += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
    return f"| `{name}` | {kind} | {_cell(default)} | {_cell(_markdown(text))} |"


def _markdown(text: str) -> str:
    """Ansible's markup in descriptions, C(code) and its like, as Markdown."""
    text = re.sub(r"\b[CVOMP]\(([^()]*(?:\([^()]*\)[^()]*)*)\)", r"`\1`", text)
    text = re.sub(r"\bI\(([^)]*)\)", r"*\1*", text)
    return re.sub(r"\bB\(([^)]*)\)", r"**\1**", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def render(role: Path) -> str:
    """The role's README with the table as it has to be. Raises ValueError where it has no place for it."""
    readme = (role / "README.md").read_text()
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"{role.name}/README.md: needs the lines {BEGIN} and {END} where the options go")
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table(specs)}\n{END}{rest.split(END)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say which are not up to date")
    parser.add_argument("roles", nargs="*")
    options = parser.parse_args()
    names = options.roles or sorted(path.parent.parent.name for path in ROLES.glob("*/meta/argument_specs.yml"))
    stale = []
    for name in names:
        readme = ROLES / name / "README.md"
        wanted = render(ROLES / name)
        if readme.read_text() != wanted:
            stale.append(name)
            if not options.check:
                readme.write_text(wanted)
    if options.check and stale:
        print(f"Not up to date: {', '.join(stale)}. Run tools/role_readme.py {' '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
