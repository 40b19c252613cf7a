# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Quoting for systemd, and reading what it says."""

from __future__ import annotations

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "argument, quoted",
    [
        ("dist/main.js", "dist/main.js"),
        ("--name=a b", '"--name=a b"'),
        ("50%", "50%%"),
        ("$HOME", "$$HOME"),
        ("${A}", "$${A}"),
        ('say "hi"', '"say \\"hi\\""'),
        ("it's", '"it\'s"'),
        ("a\\b", '"a\\\\b"'),
        ("a;b", '"a;b"'),
        ("", '""'),
        ("two\nlines", '"two\\nlines"'),
    ],
)
def test_words_of_a_command_stand_for_themselves(argument: str, quoted: str) -> None:
    assert systemd.quote_argument(argument) == quoted


def read_environment_file(text: str) -> dict[str, str]:
    """Read an EnvironmentFile= as systemd does with double quotes (load_env_file in env-file.c)."""
    found, position = {}, 0
    while position < len(text):
        name, _equals, _rest = text[position:].partition("=")
        position += len(name) + 1
        assert text[position] == '"'
        position += 1
        value = ""
        while text[position] != '"':
            if text[position] == "\\":
                position += 1
                if text[position] not in '"\\`$':
                    value += "\\"
            value += text[position]
            position += 1
        found[name] = value
        position += 2
    return found


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    )
)
def test_any_value_survives_the_environment_file(variables: dict[str, str]) -> None:
    assert read_environment_file(systemd.environment_file(variables)) == variables


def test_the_environment_file_is_sorted_so_that_equal_ones_are_equal() -> None:
    assert systemd.environment_file({"B": "2", "A": "1"}) == 'A="1"\nB="2"\n'


UNIT = """# comment
[Unit]
Description=a service
[Service]
ExecStart=/bin/one \\
    two
RestartSteps=5
RestartMaxDelaySec=15s
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
Environment=A=1
Environment=
Environment=B=2
"""


def test_a_unit_is_read_as_systemd_reads_it() -> None:
    unit = systemd.parse_unit(UNIT)
    assert unit["Unit"] == {"Description": ["a service"]}
    assert unit["Service"]["ExecStart"] == ["/bin/one  two"]
    assert unit["Service"]["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert unit["Service"]["Environment"] == ["B=2"]


@pytest.mark.parametrize("text", ["Key=before any section", "[Unit]\nno equals sign", "[Unit]\nA B=1"])
def test_a_malformed_unit_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(systemd.SystemdError, match=r"line \d"):
        systemd.parse_unit(text)


def test_older_systemd_gets_no_setting_that_it_does_not_know() -> None:
    assert "RestartSteps" not in systemd.for_version(UNIT, 252)
    assert "RestartMaxDelaySec" not in systemd.for_version(UNIT, 252)
    assert systemd.for_version(UNIT, 254) == UNIT
    assert systemd.parse_unit(systemd.for_version(UNIT, 252))["Service"]["ExecStart"]


def test_states_are_those_of_the_units_that_were_asked_for() -> None:
    output = (
        "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nMainPID=0\nNRestarts=4\n"
        "Result=exit-code\nExecMainCode=1\nExecMainStatus=3\nInvocationID=abc\n"
        "ExecMainStartTimestampMonotonic=2500000\n\n"
        "LoadState=not-found\nActiveState=inactive\nSubState=dead\n"
    )
    states = systemd.parse_states(["a.service", "b.service", "c.service"], output)
    assert (states["a.service"].restarts, states["a.service"].exit()) == (4, "its process exited with status 3")
    assert states["a.service"].started == 2.5
    assert not states["a.service"].running and not states["a.service"].stopped
    assert states["b.service"].stopped and states["c.service"].stopped
    assert systemd.UnitState("x", code=2, status=9).exit() == "its process was killed by signal 9"
    assert systemd.UnitState("x", result="resources").exit() == "systemd reports resources"
    assert systemd.UnitState("x").exit() == ""


def test_lines_that_differ_in_numbers_only_are_shown_once_the_first_of_them() -> None:
    check = (
        '{"time":"2026-11-26T12:52:%02d.700Z","status":503,"ms":%s,"requestId":"1af65904-f9b5-42e8-837d-ed91f83f69b%d"}'
    )
    lines = [
        check % (9, "1.5", 1),
        check % (8, "12", 2),
        '{"time":"2026-11-26T12:51:35.6Z","reason":"denied"}',
        check % (1, "0", 3),
    ]
    assert systemd.different(lines) == [lines[0], lines[2]]
    assert systemd.different([]) == []
