# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The grammar of placeholders, and what a host makes of a template."""

from __future__ import annotations

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    Placeholder,
    PlaceholderError,
    escape,
    parse,
    render,
    secret_names,
    unparse,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "template, parts",
    [
        ("", []),
        ("plain", ["plain"]),
        ("${a.b}", [Placeholder("a.b")]),
        ("x${a}y${b|url}z", ["x", Placeholder("a"), "y", Placeholder("b", True), "z"]),
        ("$$", ["$"]),
        ("$${a}", ["${a}"]),
        ("$$$${a}", ["$${a}"]),
        ("$$${a}", ["$", Placeholder("a")]),
        ("$a $ {b} }", ["$a $ {b} }"]),
        ("${my-api.internal_url}", [Placeholder("my-api.internal_url")]),
    ],
)
def test_parse(template: str, parts: list[object]) -> None:
    assert parse(template) == parts


@pytest.mark.parametrize(
    "template", ["${", "${a", "${}", "${a b}", "${a|b64}", "${.a}", "${a.}", "${a|}", "${${a}}", "${a$}"]
)
def test_a_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(PlaceholderError):
        parse(template)


@pytest.mark.parametrize(
    "template, text, secret",
    [
        ("${self.port}", "13001", False),
        ("--port=${self.port}", "--port=13001", False),
        ("${secret.jwt}", "s3/cr@t$", True),
        ("mysql://u:${secret.database.password|url}@h", "mysql://u:p%26%20%24w@h", True),
        ("costs $$5", "costs $5", False),
        ("${self.port}${secret.jwt}", "13001s3/cr@t$", True),
    ],
)
def test_render(template: str, text: str, secret: bool) -> None:
    secrets = {"jwt": "s3/cr@t$", "database.password": "p& $w"}
    assert render(template, 13001, secrets) == (text, secret)


@pytest.mark.parametrize("template", ["${secret.other}", "${api.url}", "${self.url}"])
def test_a_host_knows_only_its_port_and_its_secrets(template: str) -> None:
    with pytest.raises(PlaceholderError) as caught:
        render(template, 1, {"jwt": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_secret_names() -> None:
    assert secret_names("${secret.a}${self.port}${secret.db.password|url}") == ["a", "db.password"]


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,5}(\.[A-Za-z0-9_-]{1,5}){0,2}", fullmatch=True)
PARTS = st.lists(st.one_of(st.text(min_size=1), st.builds(Placeholder, NAMES, st.booleans())))


@given(PARTS)
def test_parts_survive_being_written_and_read(parts: list[str | Placeholder]) -> None:
    joined: list[str | Placeholder] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    assert parse(unparse(joined)) == joined


@given(st.text())
def test_text_survives_being_escaped_and_rendered(text: str) -> None:
    assert render(escape(text), 1, {}) == (text, False)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parts = parse(text)
    except PlaceholderError:
        return
    assert parse(unparse(parts)) == parts
