# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The Node.js that a project's files ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.declared import accepts, contradiction

from .conftest import write


@pytest.mark.parametrize(
    ("wanted", "version", "answer"),
    [
        ("22", "22.13.0", True), ("v22.13.0", "22.13.0", True), ("22.12", "22.13.0", False), ("20", "22.13.0", False),
        (">=22.13", "22.13.0", True), (">= 22.14", "22.13.0", False), ("22.x", "22.13.0", True), ("*", "24.1.0", True),
        ("^20.19.0 || ^22.12.0 || >=24", "22.13.0", True), ("^20.19.0 || ^22.12.0 || >=24", "23.1.0", False),
        (">=18 <23", "22.13.0", True), (">=18 <22", "22.13.0", False), ("18 - 22", "22.13.0", True),
        ("18 - 20", "22.13.0", False), ("~22.13", "22.13.9", True), ("~22.12.1", "22.13.0", False),
        ("<=22", "22.13.0", True), (">22", "22.13.0", False), ("lts/*", "22.13.0", None), ("node", "22.13.0", None),
        ("", "22.13.0", True),
    ],
)  # fmt: skip
def test_ranges_are_read_as_npm_reads_them(wanted: str, version: str, answer: bool | None) -> None:
    assert accepts(wanted, version) is answer


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({".nvmrc": "v22\n"}, ".nvmrc asks for Node.js v22,"),
        ({".node-version": "20.1.0"}, ".node-version asks for Node.js 20.1.0,"),
        ({"package.json": {"engines": {"node": "^22"}}}, "engines in package.json asks for Node.js ^22,"),
        ({"package.json": {"volta": {"node": "22.1.0"}}}, "volta in package.json asks for Node.js 22.1.0,"),
        ({"../package.json": {"engines": {"node": "22"}}}, "engines in package.json asks for Node.js 22,"),
        ({".nvmrc": "lts/jod", "package.json": {"engines": {"node": ">=20"}}}, ""),
        ({"package.json": {"engines": "22"}}, ""),
        ({}, ""),
    ],
)
def test_a_contradiction_is_one_sentence(tmp_path: Path, files: dict[str, object], place: str) -> None:
    app = tmp_path / "app"
    app.mkdir()
    write(app, files)
    found = contradiction([app, tmp_path], "24.1.0")
    assert found.startswith(place) and bool(found) == bool(place)
    assert not found or found.endswith(
        f"and the catalogue has 24.1.0: change `node` of the service, or {place.split(' asks')[0]}."
    )
