# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The headers of pages that a service may set, and what is sent where neither it nor its application says anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Key, Report, keys, text

FEATURES = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
_ALLOWED = r"(?:self|src|\*|\"https://[a-z0-9.:*-]+\")"
_FEATURE = rf"[a-z][a-z-]*=(?:\*|self|\((?:{_ALLOWED}(?: {_ALLOWED})*)?\))"


@dataclass(frozen=True)
class Header:
    """A header: its value by default (empty: not sent), the pattern of others, one of them, and where it is sent.

    pages: with pages only, or else with every answer.
    """

    default: str
    pattern: str
    example: str
    pages: bool = False

    def check(self, report: Report, path: str, value: Any) -> str | None:
        """A value of this header, or nothing, which sends none."""
        checked: str | None = text(rf"(?:{self.pattern})?", f"a value such as {self.example}")(report, path, value)
        return checked


HEADERS = {
    # A page keeps the popup that it opens for a sign-in, and no page of others keeps this one.
    "Cross-Origin-Opener-Policy": Header(
        "same-origin-allow-popups",
        "unsafe-none|same-origin|same-origin-allow-popups|noopener-allow-popups",
        "same-origin or unsafe-none",
        pages=True,
    ),
    "Permissions-Policy": Header(
        FEATURES, rf"{_FEATURE}(?:, ?{_FEATURE})*", 'microphone=(self), camera=(self "https://meet.example.com")', True
    ),
    "X-Frame-Options": Header("DENY", "DENY|SAMEORIGIN", "SAMEORIGIN", pages=True),
    "Cross-Origin-Resource-Policy": Header("same-site", "same-site|same-origin|cross-origin", "cross-origin"),
    "Cross-Origin-Embedder-Policy": Header("", "unsafe-none|require-corp|credentialless", "require-corp"),
    "Referrer-Policy": Header(
        "strict-origin-when-cross-origin",
        "(?:strict-)?origin(?:-when-cross-origin)?|no-referrer(?:-when-downgrade)?|same-origin|unsafe-url",
        "no-referrer",
    ),
    "X-Robots-Tag": Header("", r"[a-z0-9_:, -]+", "noindex"),
}

HEADER_KEYS = {name: Key(header.check) for name, header in HEADERS.items()}
#: Headers that have a place of their own, in lower case.
ELSEWHERE = {
    "access-control-allow-origin": "Add the origin to platform_environment.cors.extra_origins.",
    "cache-control": "Remove it: pages are asked for again, and hashed files are kept.",
    "content-security-policy": "Write what pages may use under csp.",
    "strict-transport-security": "Remove it: the edge sends it.",
}


def check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """A mapping of headers; those that have another place are told it."""
    own = value
    if isinstance(value, dict):
        for name in value:
            if str(name).lower() in ELSEWHERE:
                report.add(f"{path}.{name}", name, "this header is not set here", ELSEWHERE[str(name).lower()])
        own = {name: text for name, text in value.items() if str(name).lower() not in ELSEWHERE}
    checked: dict[str, Any] | None = keys(HEADER_KEYS, "a mapping such as {Permissions-Policy: microphone=(self)}")(
        report, path, own
    )
    return checked


def value(name: str, stated: str | None) -> str:
    """Return what is sent: of the features, those that are not stated stay as they are by default."""
    if stated is None or name != "Permissions-Policy" or not stated:
        return HEADERS[name].default if stated is None else stated
    features = dict(part.strip().partition("=")[::2] for part in f"{FEATURES}, {stated}".split(","))
    return ", ".join(f"{feature}={allowed}" for feature, allowed in features.items())
