# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What built code does by itself that a deployment has to know."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.fivepointers.platform.plugins.module_utils.build.layouts import Layout, read

CODE = {".cjs", ".js", ".mjs", ".sh"}
#: Changes to a schema outside of migrations: TypeORM, Sequelize, MikroORM, Prisma. Minified code writes true as !0.
CHANGES_SCHEMA = re.compile(
    rb"\b(?:synchronize|migrationsRun)\s*:\s*(?:true\b|!0)"
    rb"|\bsequelize\.sync\("
    rb"|\.sync\(\s*\{\s*(?:alter|force)\s*:\s*(?:true\b|!0)"
    rb"|\.updateSchema\("
    rb"|\bprisma['\",\s\[]+db['\",\s]+push\b"
)
#: The same in a script of package.json that starts the application.
STARTS = re.compile(rb"\"(?:pre|post)?start[^\"]*\"\s*:\s*\"[^\"]*\bprisma\s+db\s+push\b")
#: Larger files are no code that a person wrote.
LARGEST = 8 << 20


def schema_changes(layout: Layout) -> list[str]:
    """Return where the code of an application, without its packages, changes the schema: "dist/app.js:12: synchronize:
    true", the first place of each file."""
    found = []
    for place, source in sorted(layout.files.items()):
        parts = place.split("/")
        pattern = STARTS if parts[-1] == "package.json" else CHANGES_SCHEMA if Path(place).suffix in CODE else None
        if pattern is None or "node_modules" in parts:
            continue
        content = read(source) if isinstance(source, bytes) or source.stat().st_size <= LARGEST else b""
        match = pattern.search(content)
        if match:
            line = content.count(b"\n", 0, match.start()) + 1
            found.append(f"{place}:{line}: {match[0].decode(errors='replace')}")
    return found
