# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The catalogue is read once in a run, whichever playbook starts it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
LOOKUP = re.compile(r"lookup\(.?'fivepointers\.platform\.catalogue")
INCLUDED = re.compile(r"(?:import_playbook|import_tasks|include_tasks|file): *\"?([\w/.]+\.yml)")


def reached(path: Path, folder: Path = PLAYBOOKS) -> set[Path]:
    """Return a playbook with all playbooks and task files that it includes."""
    found, waiting = set(), [path]
    while waiting:
        item = waiting.pop().resolve()
        if item in found:
            continue
        found.add(item)
        for name in INCLUDED.findall(item.read_text()):
            # Task files include each other by their own folder.
            waiting += [base / name for base in (item.parent, folder) if (base / name).exists()][:1]
    return found


def reads(path: Path, folder: Path = PLAYBOOKS) -> int:
    """Return in how many places a run of a playbook reads the catalogue."""
    return sum(len(LOOKUP.findall(item.read_text())) for item in reached(path, folder))


@pytest.mark.parametrize("path", sorted(PLAYBOOKS.glob("*.yml")), ids=lambda path: path.stem)
def test_a_run_reads_the_catalogue_once(path: Path) -> None:
    """And at one time: variables of a play are evaluated at each use."""
    assert reads(path) == (path.stem != "unused_resources")
    assert [play["name"] for play in yaml.safe_load(path.read_text()) if LOOKUP.search(str(play.get("vars")))] == []


def test_a_second_reading_would_be_noticed(tmp_path: Path) -> None:
    lookup = "\"{{ lookup('fivepointers.platform.catalogue', file) }}\""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/more.yml").write_text(f"- debug: {{msg: {lookup}}}\n")
    (tmp_path / "plan.yml").write_text(f"- set_fact: {{plan: {lookup}}}\n")
    (tmp_path / "run.yml").write_text("- import_playbook: plan.yml\n- include_tasks: tasks/more.yml\n")
    assert reads(tmp_path / "run.yml", tmp_path) == 2
