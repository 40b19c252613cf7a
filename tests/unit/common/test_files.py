# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Files that are replaced atomically, and locks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import files


@pytest.mark.parametrize(
    ("content", "found"), [('{"a": 1}', {"a": 1}), ("[1]", {}), ("{", {}), ("", {}), (None, {})], ids=str
)
def test_a_record_is_an_object_or_empty(tmp_path: Path, content: str | None, found: dict[str, int]) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content)
    assert files.read_record(str(path)) == found
    assert files.read_record(str(path / "below-a-file")) == {}


def test_a_strict_reader_tells_missing_from_damaged(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with pytest.raises(FileNotFoundError):
        files.read_json(str(path))
    path.write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        files.read_json(str(path))


def test_a_file_is_replaced_and_its_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    before = os.umask(0o077)
    try:
        files.write_file(str(path), "text — one\n", 0o644)
        files.write_file(str(path), b"\xff", 0o600)
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"\xff", 0o600)
    assert os.listdir(path.parent) == ["file"]


def test_who_waits_for_a_lock_learns_who_holds_it(tmp_path: Path) -> None:
    path = str(tmp_path / "locks" / "lock")
    waited: list[int] = []
    with (
        files.locked(path),
        pytest.raises(files.LockedError, match=f"by process {os.getpid()}") as error,
        files.locked(path, 0.15, lambda: waited.append(1)),
    ):
        pass
    assert error.value.holder == str(os.getpid()) and waited
    with files.locked(path, 0):
        pass


def test_who_waits_for_a_lock_may_give_up(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")

    def abandon() -> None:
        raise KeyError("abandoned")

    with files.locked(path), pytest.raises(KeyError), files.locked(path, None, abandon):
        pass
