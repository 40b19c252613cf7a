# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Code that changes the schema by itself is found in what a build made."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.findings import schema_changes
from ansible_collections.fivepointers.platform.plugins.module_utils.build.layouts import Layout


@pytest.mark.parametrize(
    ("place", "content", "found"),
    [
        ("dist/app.module.js", "a\nb({\n  synchronize: true,\n", "dist/app.module.js:3: synchronize: true"),
        ("dist/main.js", "x({type:t,synchronize:!0})", "dist/main.js:1: synchronize:!0"),
        ("dist/main.js", "migrationsRun: true", "dist/main.js:1: migrationsRun: true"),
        ("dist/main.js", "await sequelize.sync()", "dist/main.js:1: sequelize.sync("),
        ("server.mjs", "await db.sync({ alter: true })", "server.mjs:1: .sync({ alter: true"),
        ("start.sh", "#!/bin/sh\nnpx prisma db push --skip-generate\n", "start.sh:2: prisma db push"),
        ("dist/main.js", "spawn('prisma', ['db', 'push'])", "dist/main.js:1: prisma', ['db', 'push"),
        ("dist/main.js", "execa('prisma', 'db', 'push')", "dist/main.js:1: prisma', 'db', 'push"),
        (
            "package.json",
            '{"scripts": {"start": "prisma db push && node dist/main.js"}}',
            'package.json:1: "start": "prisma db push',
        ),
        ("package.json", '{"scripts": {"db:push": "prisma db push"}}', ""),
        ("dist/main.js", "synchronize: false, migrationsRun: !1", ""),
        ("dist/main.js", "fs.sync({ deep: true }); store.sync(); synchronize: trueish", ""),
        ("dist/main.d.ts", "synchronize: true", ""),
        ("node_modules/typeorm/a.js", "synchronize: true", ""),
    ],
)
def test_what_changes_the_schema_is_named_with_its_line(tmp_path: Path, place: str, content: str, found: str) -> None:
    layout = Layout(tmp_path)
    layout.files = {place: content.encode(), "dist/other.js": b"listen()"}
    assert schema_changes(layout) == ([found] if found else [])
