# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a page loads, and what its policy blocks of that."""

from __future__ import annotations

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.page import (
    blocked,
    digest,
    line,
    matches,
    page_needs,
    style_needs,
)

URL = "https://example.test/"
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: https://api.example.test; "
    "font-src 'self' data:; object-src 'none'"
)
OWN = """<!doctype html><base href="/"><link rel="icon" href="data:,"><link rel="stylesheet" href="/assets/a.css">
<script type="module" src="assets/a.js"></script><script type="application/ld+json">{"a": 1}</script>
<img src="https://api.example.test/a.png" srcset="/a.png 1x, /b.png 2x"><iframe src="/inner"></iframe>"""


def sources(page: str, policy: str = POLICY) -> list[tuple[str, str]]:
    return [(directive, source) for directive, source, _what in blocked(policy, page_needs(page, URL), URL)]


def test_a_page_that_uses_its_own_things_is_let_alone() -> None:
    assert sources(OWN) == []
    assert sources("<script>a</script><p style='x'>", "") == []


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<script src="https://js.stripe.com/v3/"></script>', ("script-src", "https://js.stripe.com")),
        ('<link rel="stylesheet" href="//fonts.example.net/css?a">', ("style-src", "https://fonts.example.net")),
        ('<iframe src="https://www.youtube.com/embed/x"></iframe>', ("frame-src", "https://www.youtube.com")),
        ('<img src="https://cdn.example.net:8443/a.png">', ("img-src", "https://cdn.example.net:8443")),
        ('<img srcset="/a.png 1x, https://cdn.example.net/b.png 2x">', ("img-src", "https://cdn.example.net")),
        ('<video><source src="blob:x"></video>', ("media-src", "blob:")),
        ('<object data="/a.pdf"></object>', ("object-src", "https://example.test")),
        ("<SCRIPT>let a = 1 < 2</SCRIPT>", ("script-src", digest("let a = 1 < 2"))),
        ("<style>a {}</style>", ("style-src", digest("a {}"))),
        ('<p style="color: red">', ("style-src", "'unsafe-inline'")),
        ('<a onclick="x()">', ("script-src", "'unsafe-inline'")),
        ('<style nonce="n">@font-face { src: url(https://f.example.net/a.woff2) }</style>', None),
    ],
)
def test_what_a_policy_blocks_is_named_with_what_allows_it(html: str, found: tuple[str, str] | None) -> None:
    if found is None:
        assert ("font-src", "https://f.example.net") in sources(html)
        return
    assert sources(html) == [found]
    directive, source = found
    allowed = POLICY.replace("object-src 'none'", "object-src") + f"; x {source}"
    known = directive in POLICY
    allowed = (
        allowed.replace(f"{directive} ", f"{directive} {source} ", 1) if known else f"{allowed}; {directive} {source}"
    )
    assert sources(html, allowed.replace("object-src;", f"object-src {source};")) == []


def test_scripts_with_the_nonce_run_and_the_others_are_told_elsewhere() -> None:
    policy = POLICY.replace("script-src 'self'", "script-src 'self' 'nonce-abc'")
    assert (
        sources('<script nonce="abc">a</script><script nonce="abc" src="https://x.test/a.js"></script>', policy) == []
    )
    assert sources("<script>a</script>", policy) == []


def test_fonts_images_and_sheets_of_a_style_sheet() -> None:
    sheet = """@import url("https://fonts.example.net/a.css"); @import 'b.css';
    @font-face { font-family: a; src: url(https://f.example.net/a.woff2) format("woff2"), url(a.woff) }
    body { background: url( "../a.png" ) } i { background: url(data:image/png;base64,AA==) }"""
    assert {(need.directive, need.url) for need in style_needs(sheet, f"{URL}assets/a.css")} == {
        ("style-src", "https://fonts.example.net/a.css"),
        ("style-src", f"{URL}assets/b.css"),
        ("font-src", "https://f.example.net/a.woff2"),
        ("font-src", f"{URL}assets/a.woff"),
        ("img-src", f"{URL}a.png"),
        ("img-src", "data:image/png;base64,AA=="),
    }


@pytest.mark.parametrize(
    ("source", "url", "allowed"),
    [
        ("https://*.x.test", "https://a.x.test/b", True),
        ("https://*.x.test", "https://x.test/b", False),
        ("https://*.x.test", "https://ax.test/b", False),
        ("x.test", "https://x.test/b", True),
        ("http://x.test", "https://x.test/b", True),
        ("https://x.test", "http://x.test/b", False),
        ("https://x.test:8443", "https://x.test/", False),
        ("https://x.test:*", "https://x.test:8443/", True),
        ("https://x.test/a/", "https://x.test/a/b", True),
        ("https://x.test/a", "https://x.test/a/b", False),
        ("https:", "https://x.test/", True),
        ("*", "data:,", False),
        ("'none'", "https://x.test/", False),
        ("'self'", "https://example.test:8443/", False),
    ],
)
def test_sources(source: str, url: str, allowed: bool) -> None:
    assert matches(source, url, URL) is allowed


def test_the_line_is_ready_for_the_catalogue() -> None:
    found = blocked(
        POLICY, page_needs('<script src="https://a.test/x"></script><style>a</style><p style="b">', URL), URL
    )
    assert line(found) == 'csp: {script-src: "https://a.test", style-src: "\'unsafe-inline\'"}'
