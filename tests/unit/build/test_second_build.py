# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A second build does what the first one did, whatever an installation changed outside of node_modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.builder import Builder

from .conftest import spec, write, write_lock

Make = Callable[..., Builder]

COPY = "mkdir -p dist && cp src/*.js generated/*.js dist/"
#: Generates a file, empties another, removes a third, and puts a link in place of a folder.
GENERATE = """
const fs = require("fs");
fs.mkdirSync("generated", { recursive: true });
fs.writeFileSync("generated/client.js", process.env.TARGET + fs.readFileSync("src/main.js", "utf8"));
fs.writeFileSync("stub.js", "");
fs.rmSync("rest.js", { force: true });
fs.rmSync("docs", { recursive: true });
fs.symlinkSync("generated", "docs");
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A program of one package, without the bit that makes it executable, builds another one."""
    root = tmp_path / "mono"
    write(
        root,
        {
            "package.json": {"name": "mono", "private": True, "workspaces": ["packages/*"]},
            "packages/tools/package.json": {"name": "tools", "version": "1.0.0", "bin": {"acme-build": "cli.js"}},
            "packages/tools/cli.js": '#!/usr/bin/env node\nrequire("fs").cpSync("src", "dist", {recursive: true});\n',
            "packages/api/package.json": {
                "name": "api",
                "version": "1.0.0",
                "scripts": {"build": "acme-build"},
                "devDependencies": {"tools": "1.0.0"},
            },
            "packages/api/src/main.js": "1;\n",
        },
    )
    (root / "packages/tools/cli.js").chmod(0o644)
    write_lock(root, {}, ("packages/tools", "packages/api"))
    return root


def test_the_program_of_a_workspace_stays_executable(workspace: Path, builder: Make) -> None:
    of = spec(workspace / "packages/api", root=workspace, command=None)
    for number in range(3):
        write(workspace, {"packages/api/src/main.js": f"{number};\n"})
        make = builder(of)
        make.build()
        assert ("npm ci" in make.log.read_text()) == (number == 0)
    assert (make.app / "dist/main.js").read_text() == "2;\n"
    write(workspace, {"packages/tools/cli.js": "#!/bin/sh\nmkdir dist; echo new > dist/main.js\n"})
    make.build()
    assert (make.app / "dist/main.js").read_text() == "new\n"


def generating(project: Path) -> None:
    """A project whose own script generates at each installation."""
    write(
        project,
        {
            "package.json": {"name": "project", "version": "1.0.0", "scripts": {"postinstall": "node generate.js"}},
            "generate.js": GENERATE,
            "stub.js": "stub\n",
            "rest.js": "rest\n",
            "docs/a.md": "a\n",
        },
    )
    write_lock(project, {})


def test_another_environment_gets_what_postinstall_makes_for_it(project: Path, builder: Make) -> None:
    generating(project)
    for target in ("staging", "production", "production"):
        make = builder(spec(project, command=COPY, environment={"TARGET": target}))
        make.build()
        assert (make.tree / "dist/client.js").read_text().startswith(target)
    # What is not read by an installation is.
    make = builder(spec(project, command=f"{COPY}; touch dist/b", environment={"TARGET": "production"}))
    make.build()
    assert "npm ci" not in make.log.read_text()
    left = sorted(path.name for path in make.tree.iterdir() if path.name != "node_modules")
    assert left == ["dist", "docs", "generate.js", "generated", "package-lock.json", "package.json", "src", "stub.js"]
    assert (make.tree / "stub.js").read_text() == ""
    assert (make.tree / "docs").is_symlink()


def test_what_the_script_of_a_package_makes_beside_it_stays(project: Path, builder: Make, npm: Any) -> None:
    about = {"name": "project", "version": "1.0.0", "dependencies": {"beside": "1.0.0"}}
    write(project, {"package.json": about})
    write_lock(project, {"node_modules/beside": "1.0.0"})
    for number in range(2):
        write(project, {"src/main.js": f"{number};\n"})
        make = builder(spec(project, command=COPY))
        make.build()
        assert ("npm ci" in make.log.read_text()) == (number == 0)
        assert (make.tree / "dist/made.js").read_text() == "42;\n"
    # The team takes over what was generated, and its own file is what counts from then on.
    write(project, {"generated/made.js": "43;\n"})
    make.build()
    assert (make.tree / "generated/made.js").read_text() == "42;\n", "the installation writes it again"
    assert "npm ci" in make.log.read_text()


def test_a_build_that_changes_what_was_generated_is_not_kept(project: Path, builder: Make) -> None:
    generating(project)
    of = {"environment": {"TARGET": "a"}}
    builder(spec(project, command=f"{COPY}; echo hostile > generated/client.js", **of)).build()
    make = builder(spec(project, command=COPY, **of))
    make.build()
    assert "npm ci" in make.log.read_text()
    assert "hostile" not in (make.tree / "dist/client.js").read_text()
