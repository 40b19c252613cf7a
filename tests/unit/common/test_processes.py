# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Commands that end in time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible.plugins.callback import CallbackBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.processes import readable, run


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


SAID = {
    "colours": ("\x1b[32m[Nest] 1  - \x1b[39m\x1b[1;38;5;3mLOG\x1b[0m ready\x1b[K", "[Nest] 1  - LOG ready"),
    "a title and a link": ("\x1b]0;api\x07\x1b]8;;https://x.test\x1b\\docs\x1b]8;;\x1b\\", "docs"),
    "an emoji": ("\U0001f680 started on 3001", "<U+1F680> started on 3001"),
    "what joins an emoji": ("\u2764\ufe0f\u200d\U0001f525", "\u2764\ufe0f\u200d<U+1F525>"),
    "tabs and trailing spaces": ("Error: x  \n\tat main.js:1 \r\n\n", "Error: x\n    at main.js:1\n\n"),
    "progress": ("10 %\r20 %", "10 %\n20 %"),
    "bytes that are no text": ("\x00\x08a\x7f\x85\ufeff\u2028\ufffd", "a<U+0085><U+FEFF><U+2028>\ufffd"),
    "other languages": ("Größe 文字 ログ €", "Größe 文字 ログ €"),
}


@pytest.mark.parametrize("what", SAID)
def test_what_a_program_said_can_be_read_in_a_message(what: str) -> None:
    said, plain = SAID[what]
    assert readable(said) == plain


def dumped(message: str) -> str:
    """Return what ansible-playbook prints of a message."""
    callback = CallbackBase()
    callback._plugin_options = {"result_format": "yaml", "pretty_results": None, "result_indentation": 2}
    return str(callback._dump_results({"msg": message}))


@pytest.mark.parametrize("what", SAID)
def test_ansible_prints_a_message_line_by_line(what: str) -> None:
    """As its callback does: a string that libyaml has to quote becomes one escaped line."""
    message = f"api-1: it did not become healthy:\n  {readable(SAID[what][0])}\nThe deployment was reverted."
    printed = dumped(message)
    assert "msg: |-" in printed, printed
    assert "\\n" not in printed and "\\U" not in printed, printed
    assert "The deployment was reverted." in printed.splitlines()[-1]


def test_ansible_escapes_a_message_with_an_emoji() -> None:
    """What the test above guards against."""
    assert "\\n" in dumped("a\n\U0001f680\nb")
