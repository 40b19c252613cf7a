# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What browsers report is told once, with the line that allows it, and nothing in it is trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify import reports


def entry(
    blocked: str, directive: str = "script-src-elem", page: str = "https://a.test/pay?token=x", **more: Any
) -> str:
    report = {"document-uri": page, "effective-directive": directive, "blocked-uri": blocked, **more}
    body = json.dumps({"csp-report": report})
    return json.dumps({"time": "2026-11-30T12:00:00+00:00", "service": "frontend", "report": body})


def test_sources_are_counted_and_told_with_the_line_that_allows_them() -> None:
    lines = [entry("https://js.stripe.com/v3/")] * 3 + [entry("inline", "style-src-attr"), entry("eval", "script-src")]
    lines += [entry("data", "img-src"), entry("https://js.stripe.com/other", "script-src")]
    first, *others = reports.summary(lines)
    assert first == (
        "frontend: script-src blocks https://js.stripe.com (4 times, the last time at 2026-11-30T12:00:00+00:00 on "
        'https://a.test/pay): if the page is to use it: csp: {script-src: "https://js.stripe.com"}'
    )
    assert {text.split(" (")[0] for text in others} == {
        "frontend: style-src blocks 'unsafe-inline'",
        "frontend: script-src blocks 'unsafe-eval'",
        "frontend: img-src blocks data:",
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no json",
        "[]",
        json.dumps({"report": "{"}),
        json.dumps({"report": "[1]"}),
        json.dumps({"report": json.dumps({"csp-report": []})}),
        entry("chrome-extension"),
        entry("moz-extension://abc/x.js"),
        entry(""),
        entry("https://[bad"),
        entry('https://x"}\n- hosts: all'),
        entry("https://a.test/x.js", "script-src; default-src *"),
        entry("https://{{ lookup }}/"),
    ],
)
def test_what_is_no_report_is_left_out(line: str) -> None:
    assert reports.summary([line]) == []


def test_many_are_cut_and_counted() -> None:
    lines = [entry(f"https://cdn-{number}.test/x.js") for number in range(60)]
    found = reports.summary(lines)
    assert len(found) == 51 and found[-1] == "and 10 more"
    (long,) = reports.summary([entry("https://x.test/", page="https://a.test/\x1b[31m" + "y" * 9999)])
    assert len(long) < 500 and "\x1b" not in long
