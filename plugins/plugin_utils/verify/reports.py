# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What browsers report that a policy would block. Anybody can send reports: nothing in them is trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.fivepointers.platform.plugins.module_utils.common.processes import readable
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.page import line, source_of

#: What a report says in place of an address, and the source that would allow it.
WORDS = {"inline": "'unsafe-inline'", "eval": "'unsafe-eval'", "wasm-eval": "'wasm-unsafe-eval'", "self": "'self'"}
#: Browsers tell elements and attributes apart, and policies mostly do not.
PARTS = re.compile(r"-(?:elem|attr)$")
DIRECTIVE = re.compile(r"[a-z][a-z-]{1,40}")
#: What extensions of a browser load is nothing that the page needs.
EXTENSION = re.compile(r"(?:[a-z]+-)*extension(?:$|:)")
SHOWN, LONGEST = 50, 200


def summary(lines: Iterable[str]) -> list[str]:
    """Return a sentence for each source that pages of a service tried to use, the most frequent first.

    lines: of the edge's log, each a JSON object with C(time), C(service) and C(report), the body as it was sent.
    """
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for text in lines:
        entry = _mapping(text)
        report = _mapping(entry.get("report")).get("csp-report")
        if not isinstance(report, Mapping):
            continue
        words = str(report.get("effective-directive") or report.get("violated-directive") or "").split()
        directive = PARTS.sub("", words[0] if words else "")
        source = _source(str(report.get("blocked-uri") or ""))
        if source and DIRECTIVE.fullmatch(directive):
            seen = str(entry.get("time") or ""), _place(str(report.get("document-uri") or ""))
            found.setdefault((str(entry.get("service") or ""), directive, source), []).append(seen)
    counted = sorted(found.items(), key=lambda item: -len(item[1]))
    sentences = [
        "%s: %s blocks %s (%d times, the last time at %s on %s): if the page is to use it: %s"
        % (service, directive, source, len(seen), *max(seen), line([(directive, source, "")]))
        for (service, directive, source), seen in counted[:SHOWN]
    ]
    more = len(counted) - SHOWN
    return sentences + ([f"and {more} more"] if more > 0 else [])


def _mapping(text: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(text if isinstance(text, str) else "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _source(blocked: str) -> str:
    if blocked in WORDS:
        return WORDS[blocked]
    if EXTENSION.search(blocked):
        return ""
    try:
        source = source_of(blocked if ":" in blocked else blocked + ":")
    except ValueError:
        return ""
    return source if re.fullmatch(r"[a-z][a-z0-9+.-]*:(?://[A-Za-z0-9.:\[\]-]+)?", source[:LONGEST]) else ""


def _place(address: str) -> str:
    """Return a page's address without its query, where tokens may be."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "?"
    return readable(f"{parts.scheme}://{parts.netloc}{parts.path}")[:LONGEST]
