# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Commands that end in time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common.processes import run


def test_a_command_gives_its_status_and_all_of_its_output() -> None:
    assert run(["sh", "-c", "echo out; echo $NAME >&2; exit 3"], 10, {"NAME": "err"}) == (3, "out\nerr")


@pytest.mark.parametrize(
    ("name", "status", "says"), [("missing", 127, "is not installed"), ("data", 126, "cannot be executed: ")]
)
def test_a_command_that_cannot_run_fails_as_in_a_shell(tmp_path: Path, name: str, status: int, says: str) -> None:
    (tmp_path / "data").write_text("no program\n")
    (tmp_path / "data").chmod(0o755)
    found, output = run([str(tmp_path / name)], 10)
    assert found == status and says in output


def test_a_command_that_times_out_ends_with_what_it_started(tmp_path: Path) -> None:
    begun = time.monotonic()
    script = f"(sleep 1; touch {tmp_path}/left) & echo begun; sleep 60"
    status, output = run(["sh", "-c", script], 0.3)
    assert status == 124 and output.startswith("begun") and "timed out after 0.3 s" in output
    assert time.monotonic() - begun < 10
    time.sleep(1)
    assert not (tmp_path / "left").exists()
