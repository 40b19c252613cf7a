# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A long build shows what it does."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from ansible_collections.fivepointers.platform.plugins.action.build import last_line, tell


@pytest.mark.parametrize(
    "text, expected",
    [
        ("one\ntwo\n\n", "two"),
        ("one\r10 %\r\x1b[32m20 %\x1b[0m\r", "20 %"),
        ("fetching https://x:s3cret@r/\n", "fetching https://x:********@r/"),
        ("s3cret" * 2000 + "\n", ""),
        ("x" * 5000 + "\nlast\n", "last"),
        ("", ""),
    ],
)
def test_the_last_line_of_a_log(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "log").write_text(text)
    assert last_line(str(tmp_path / "log"), ["s3cret"]) == expected
    assert last_line(str(tmp_path / "none"), []) == ""


def test_it_is_told_when_it_is_another_one(tmp_path: Path) -> None:
    said: list[str] = []
    log, ended = tmp_path / "log", threading.Event()
    log.write_text("of the build before\n")
    teller = threading.Thread(target=tell, args=(str(log), [], said.append, ended, 0.01))
    teller.start()
    for line in ("installing", "building"):
        log.write_text(f"{line}\n")
        while said[-1:] != [line]:
            time.sleep(0.01)
    time.sleep(0.05)
    ended.set()
    teller.join()
    assert said == ["installing", "building"]
