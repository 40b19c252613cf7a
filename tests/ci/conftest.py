# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A repository with a history, on which the tools run as they do in a workflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
#: What a checkout has beside the applications and the inventories.
PLATFORM = ("ansible.cfg", "collections", "galaxy.yml", "LICENSE", "meta", "playbooks", "plugins", "README.md", "tools")
AUTHOR = {f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
SERVICE = {"kind": "yjs_websocket", "port": 3101, "health": "/health", "public": [{"host": "@"}]}


def load(tool: str) -> ModuleType:
    """A tool as a module."""
    path = ROOT / "tools/ci" / tool
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))
        loader = SourceFileLoader(tool, str(path))
        module = module_from_spec(spec_from_loader(tool, loader))  # type: ignore[arg-type]
        loader.exec_module(module)
    return module


CHANGED = load("changed_services")


class Checkout:
    """A checkout of a team's repository."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "GIT_"))},
            **AUTHOR,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(path.parent),
            "ANSIBLE_FORCE_COLOR": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def write(self, files: Mapping[str, Any]) -> None:
        """Write files: text as it is, mappings as YAML or JSON; None removes one."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(content, str):
                content = yaml.safe_dump(content) if name.endswith(".yml") else json.dumps(content)
            path.write_text(content)

    def commit(self, files: Mapping[str, Any]) -> str:
        """Write and commit files; return the commit."""
        self.write(files)
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "change")
        return self.run("git", "rev-parse", "HEAD").stdout.strip()

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done

    def changed(self, base: str, head: str = "HEAD") -> list[str]:
        """What changed_services finds; in this process, which saves the start of another."""
        found: list[str] = CHANGED.changed_services(self.path / "inventories/services.yml", base, head)
        return found


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository with this platform and no application yet."""
    path = tmp_path / "checkout"
    path.mkdir()
    for name in PLATFORM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, path / name)
    found = Checkout(path)
    found.run("git", "init", "--quiet")
    found.write({".gitignore": "node_modules/\ndist/\n.artifacts/\n.cache/\nnewest/\n__pycache__/\n"})
    return found


def catalogue(**builds: Any) -> dict[str, Any]:
    """A catalogue of one service for each build."""
    services = {
        name: {**SERVICE, "port": 3101 + number, "public": [{"host": name}], "start": "node server.js", "build": build}
        for number, (name, build) in enumerate(builds.items())
    }
    return {"services": services, "journeys": []}
