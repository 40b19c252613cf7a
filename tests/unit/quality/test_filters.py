# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Filters are public interface: few, each documented with an example, each used, and none slow to load."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.filter import platform

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "plugins/filter"
PACKAGE = "ansible_collections.fivepointers.platform.plugins"
MOST = 35


FILTERS: dict[str, Callable[..., Any]] = {
    name: getattr(importlib.import_module(f"{platform.PACKAGE}.{module}"), name)
    for module, names in platform.FILTERS.items()
    for name in names
}


def documentation(name: str) -> dict[str, Any]:
    """Return the documentation of a filter."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    return found


def users() -> Iterator[str]:
    """Return the text of what calls filters: playbooks and roles, and documents, which name those that users call."""
    for folder, pattern in (("playbooks", "*.yml"), ("roles", "*.yml"), ("roles", "*.j2"), ("docs", "*.md")):
        for path in sorted((ROOT / folder).rglob(pattern)):
            yield path.read_text()


def test_there_are_few() -> None:
    assert sorted(platform.FilterModule().filters()) == sorted(FILTERS)
    assert len(FILTERS) <= MOST
    assert sorted(path.stem for path in FOLDER.glob("*.yml")) == sorted(FILTERS), "one page for each filter"


@pytest.mark.parametrize("name", FILTERS)
def test_each_is_documented_with_the_arguments_that_it_takes(name: str) -> None:
    document = documentation(name)["DOCUMENTATION"]
    assert document["name"] == name
    parameters = list(inspect.signature(FILTERS[name]).parameters.values())
    assert next(iter(document["options"])) == "_input"
    if parameters[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        assert list(document["options"]) == ["_input", *(item.name for item in parameters[1:])]
        assert document["positional"] == ", ".join(document["options"])
        required = [key for key, option in document["options"].items() if option.get("required")]
        assert required == ["_input", *(item.name for item in parameters[1:] if item.default is item.empty)]
    for option in document["options"].values():
        assert option["type"] and option["description"]


@pytest.mark.parametrize("name", FILTERS)
def test_each_has_an_example_that_uses_it(name: str) -> None:
    document = documentation(name)
    tasks = yaml.safe_load(document["EXAMPLES"])
    assert all(task["name"] for task in tasks), "tasks, as in a playbook"
    assert f"| fivepointers.platform.{name}" in str(tasks)
    assert document["RETURN"]["_value"]["description"] and document["RETURN"]["_value"]["type"]


def test_each_is_used() -> None:
    text = "\n".join(users())
    used = set(re.findall(r"fivepointers\.platform\.(\w+)", text))
    assert sorted(set(FILTERS) - used) == []


def test_loading_them_imports_nothing_else() -> None:
    """Ansible loads them anew in nearly every process, and compiles what they import: that took 0.25 s each time."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'collections')!r})\n"
        f"import {PACKAGE}.filter.platform\n"
        f"print(*(name for name in sys.modules if name.startswith({PACKAGE + '.'!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"{PACKAGE}.filter", f"{PACKAGE}.filter.platform"]
    assert [path.name for path in FOLDER.glob("*.py")] == ["platform.py"]
