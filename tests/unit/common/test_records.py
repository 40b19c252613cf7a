# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Records that are rewritten in place: on a full disk, and whatever interrupts it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import files, records

from tests.unit.disk import Disk

SHAPE = {"n": int}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record that was written twice: each half holds one."""
    path = tmp_path / "state.json"
    for number in (1, 2):
        records.write(str(path), {"n": number}, 0o640)
    return path


def test_a_record_is_rewritten_in_its_place(path: Path) -> None:
    before = path.stat()
    for number in range(3, 8):
        records.write(str(path), {"n": number})
        assert records.read(str(path), SHAPE) == {"n": number}
    after = path.stat()
    assert (before.st_ino, before.st_size, before.st_mode) == (after.st_ino, after.st_size, after.st_mode)
    assert after.st_mode & 0o777 == 0o640 and after.st_size == 2 * records.ROOM
    assert os.listdir(path.parent) == ["state.json"]
    assert [entry["record"] for entry in json.loads(path.read_text())] == [{"n": 6}, {"n": 7}], "people can read it"


@pytest.mark.parametrize("content", [b"", b"\0", b"x", b"[1,2]", b'{"number": 9, "sha256": "", "record": {}}'], ids=str)
@pytest.mark.parametrize("place", [0, 1])
def test_a_torn_write_leaves_the_earlier_record(path: Path, place: int, content: bytes) -> None:
    whole = path.read_bytes()
    for length in (1, 20, 60, records.ROOM):
        half = whole[place * records.ROOM : (place + 1) * records.ROOM]
        torn = (content * length)[:length].ljust(length) + half[length:]
        path.write_bytes(b"[" + (whole[1 : records.ROOM] + torn if place else torn[1:] + whole[records.ROOM :]))
        assert records.read(str(path), SHAPE) in ({"n": 1}, {"n": 2})
    # The second record is in the first half.
    assert records.read(str(path), SHAPE) == {"n": 1 if place == 0 else 2}
    records.write(str(path), {"n": 3})
    assert records.read(str(path), SHAPE) == {"n": 3}
    assert len(json.loads(path.read_text())) == 2, "the torn copy was replaced, not the good one"


def test_a_record_without_a_complete_copy_is_damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"sha256": "', b'"sha256": "0'))
    with pytest.raises(files.DamagedError, match="neither copy of its record is complete"):
        records.read(str(path), SHAPE)


def test_a_record_of_the_wrong_shape_is_damaged(path: Path) -> None:
    records.write(str(path), {"n": "many"})
    with pytest.raises(files.DamagedError, match="n is 'many'"):
        records.read(str(path), SHAPE)


@pytest.mark.parametrize(("content", "found"), [('{"n": 1}\n', {"n": 1}), ("{", {}), ("", {}), (None, {})], ids=str)
def test_plain_json_of_earlier_versions_is_read_and_replaced(
    tmp_path: Path, content: str | None, found: dict[str, Any]
) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content)
    assert records.read(str(path), SHAPE) == found
    records.write(str(path), {"n": 5})
    assert records.read(str(path), SHAPE) == {"n": 5} and path.stat().st_size == 2 * records.ROOM


def test_a_record_that_outgrows_its_file_gets_a_larger_one(path: Path) -> None:
    long = "x" * records.ROOM
    records.write(str(path), {"n": 3, "long": long})
    assert records.read(str(path), SHAPE) == {"n": 3, "long": long}
    assert path.stat().st_size == 4 * records.ROOM
    records.write(str(path), {"n": 4})
    assert records.read(str(path), SHAPE) == {"n": 4}


def test_a_record_is_written_on_a_full_disk_and_not_on_a_read_only_one(disk: Disk) -> None:
    path = str(disk.path / "state.json")
    records.write(path, {"n": 1})
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        files.write_file(path, "x", 0o644)
    for number in range(2, 6):
        records.write(path, {"n": number})
        disk.again()
        assert records.read(path, SHAPE) == {"n": number}
    disk.read_only()
    with pytest.raises(OSError, match="Read-only file system"):
        records.write(path, {"n": 9})
    assert records.read(path, SHAPE) == {"n": 5}
