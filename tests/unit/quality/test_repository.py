"""What holds for the repository as a whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

FARM = Path("collections/ansible_collections/fivepointers/platform")
LINKED = {"LICENSE", "README.md", "galaxy.yml", "meta", "playbooks", "plugins", "roles"}
HEADER = [
    "# Copyright (c) Five Pointers",
    "# MIT License (see LICENSE or https://opensource.org/license/mit)",
    "# SPDX-License-Identifier: MIT",
]
# Paths that exist on one machine only. `/root/` and `/home/` stand in documentation of hosts as well.
MACHINE = re.compile(r"/(?:home|Users)/[a-z][\w-]*/|/work/|/opt/(?:pypi|wheels)|/tmp/tmp\w{6}")
SECRET = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b")
PUBLIC_REGISTRIES = {"registry.npmjs.org", "pypi.org", "files.pythonhosted.org"}


def text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_the_link_farm_has_one_link_for_each_entry(root: Path) -> None:
    entries = {path.name: path for path in (root / FARM).iterdir()}
    assert set(entries) == LINKED
    for name, path in entries.items():
        assert path.is_symlink(), f"{name} is a copy, which cannot be installed"
        assert path.readlink() == Path("../../../..") / name
        assert path.resolve() == root / name
        assert path.exists()


@pytest.mark.slow
def test_playbooks_can_be_parsed(root: Path) -> None:
    playbooks = sorted(str(path.relative_to(root)) for path in (root / "playbooks").glob("*.yml"))
    assert "playbooks/site.yml" in playbooks
    done = subprocess.run(
        ["ansible-playbook", "--syntax-check", "-i", "localhost,", *playbooks],
        cwd=root,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_plugin_says_its_licence(root: Path) -> None:
    wrong = []
    for path in sorted((root / "plugins").rglob("*.py")):
        lines = path.read_text().splitlines()
        lines = lines[1:] if lines and lines[0].startswith("#!") else lines
        if lines and lines[:3] != HEADER:
            wrong.append(str(path.relative_to(root)))
    assert wrong == []


def test_sanity_ignores_nothing_but_the_licence(root: Path) -> None:
    """The collection is MIT; ansible-test wants GPL for what is loaded by its documentation."""
    kinds = ("callback", "inventory", "lookup", "modules")
    plugins = [path for kind in kinds for path in (root / "plugins" / kind).glob("*.py")]
    wanted = sorted(f"{path.relative_to(root)} validate-modules:missing-gplv3-license" for path in plugins)
    for path in (root / "tests/sanity").iterdir():
        lines = path.read_text().splitlines()
        assert [line.split(" #")[0].strip() for line in lines] == wanted, f"{path.name}: must be exactly these lines"
    assert (root / "tests/sanity/ignore-2.19.txt").exists()


def test_nothing_names_a_machine_or_holds_a_key(root: Path, files: list[Path]) -> None:
    found = []
    for path in files:
        if path == Path(__file__).relative_to(root):
            continue
        found += [f"{path}: {match[0]}" for match in MACHINE.finditer(text(root / path))]
        found += [f"{path}: {match[0]}" for match in SECRET.finditer(text(root / path))]
    assert found == []


@pytest.mark.parametrize(
    ("line", "pattern"),
    [("see /home/someone/x", MACHINE), ("/work/main", MACHINE), ("-----BEGIN OPENSSH PRIVATE KEY-----", SECRET)],
)
def test_a_machine_or_a_key_would_be_noticed(line: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(line)


def test_npm_lock_files_name_the_public_registry_only(root: Path, files: list[Path]) -> None:
    for path in files:
        if path.name == "package-lock.json":
            resolved = re.findall(r'"resolved": "([^"]+)"', text(root / path))
            hosts = {urlsplit(address).hostname for address in resolved if "://" in address}
            assert hosts <= PUBLIC_REGISTRIES, f"{path}: {hosts - PUBLIC_REGISTRIES}"


@pytest.mark.parametrize("path", ["requirements", "requirements.deploy", "tests/tools/sslyze/requirements"])
def test_requirements_are_locked_by_hash_and_name_no_index(root: Path, path: str) -> None:
    wanted = re.findall(r"^(\w[\w.-]*)", (root / f"{path}.in").read_text(), re.MULTILINE)
    lock = (root / f"{path}.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE))
    assert [name for name in wanted if name.lower() not in pinned] == [], "run tests/run lock"
    code = [line for line in lock.splitlines() if line.strip() and not line.lstrip().startswith(("#", "--hash="))]
    assert [line for line in code if not re.fullmatch(r"[\w.-]+==\S+ \\", line)] == []
    assert "://" not in lock


def test_actions_are_pinned_and_run_what_a_developer_runs(root: Path) -> None:
    uses, runs = [], []
    for path in (root / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            uses += [step["uses"] for step in job["steps"] if "uses" in step]
            runs += [step["run"] for step in job["steps"] if "run" in step]
    assert [action for action in uses if not re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", action)] == []
    assert any(".ci/run" in line for line in runs)
    assert "make test" in (root / ".ci/run").read_text()


def test_links_in_documents_lead_somewhere(root: Path, files: list[Path]) -> None:
    link = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
    links = [
        (path, target)
        for path in files
        if path.suffix == ".md" and path.parts[0] not in ("collections", "examples")
        for target in link.findall((root / path).read_text())
    ]
    assert [f"{path}: {target}" for path, target in links if not (root / path.parent / target).exists()] == []
