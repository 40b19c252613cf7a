# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Which texts must not appear in output, so that environment variables stay secret.

A value that came from a secret is masked if it has six characters or more. A shorter one is guessed in no time, and
masking it would turn every "true" or "3000" in a message into asterisks, which tells more than it hides. Any other
value is masked only if it looks like a secret: ports, addresses and names of hosts are what messages are about.

Standard library only, Python 3.9 or later: this runs on hosts.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote

from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    Placeholder,
    PlaceholderError,
    parse,
)

SHORTEST = 6
NAMES = re.compile(r"(?i)pass|secret|token|credential|private|dsn$|(?:^|_)(?:auth|key|pwd|salt|pepper)(?:_|$)|apikey")
#: The password in an address. It may hold an @, where nobody encoded it.
PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s]+)@")
#: Keys and tokens: long, of one word, and of digits and both kinds of letters, or hexadecimal.
RANDOM = re.compile(r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9+=_-][A-Za-z0-9+/=_-]{19,}|[0-9a-fA-F]{32,}")
#: JSON Web Tokens, and keys in PEM.
TOKENS = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*|-----BEGIN [A-Z ]*PRIVATE KEY")
#: Lines of text formats, the same in every secret of that format.
FRAME = re.compile(r"-----(?:BEGIN|END) [A-Z0-9 ]+-----")


def masks(variables: Mapping[str, str], templates: Mapping[str, str]) -> set[str]:
    """Return the texts to mask for the variables of an environment, in all forms.

    templates: those of the plan with ${secret.…}, by variable, as far as they are known.
    """
    found: set[str] = set()
    for name, value in variables.items():
        for secret in secrets_in(name, value, templates.get(name, "")):
            found.update(forms(secret))
    return found


def secrets_in(name: str, value: str, template: str = "") -> set[str]:
    """Return what is secret in the value of a variable: the whole, and the secrets that were filled in."""
    found = filled_in(template, value)
    found.update(PASSWORD.findall(value))
    if found or NAMES.search(name) or RANDOM.fullmatch(value) or TOKENS.search(value):
        found.add(value)
    return {*found, *map(unquote, found)}


def filled_in(template: str, value: str) -> set[str]:
    """Return what the secrets of a template are in the value that was made from it."""
    try:
        parts = parse(template)
    except PlaceholderError:
        return set()
    if not any(isinstance(part, Placeholder) and part.name.startswith("secret.") for part in parts):
        return set()
    # Environment files of releases still hold ${self.port}, those of slots do not: only secrets are of interest.
    pattern = "".join("(.*)" if isinstance(part, Placeholder) else re.escape(part) for part in parts)
    match = re.fullmatch(pattern, value, re.DOTALL)
    secret = [part.name.startswith("secret.") for part in parts if isinstance(part, Placeholder)]
    return {value} | {text for text, yes in zip(match.groups(), secret) if yes} if match else {value}


def forms(value: str) -> Iterator[str]:
    """Yield the forms in which a text may appear in output: as it is, line by line, and as programs encode it."""
    lines = [line for line in value.splitlines() if not FRAME.fullmatch(line.strip())]
    for text in {value, value.strip(), *lines, *(line.strip() for line in lines)}:
        if len(text) >= SHORTEST:
            yield from _encodings(text)


def _encodings(text: str) -> Iterator[str]:
    raw = text.encode("utf-8", "surrogateescape")
    escaped = json.dumps(text)[1:-1]
    # Go and Python's json with their defaults, JavaScript's, JSON in JSON, and what Python and Node.js show of a value.
    readable = json.dumps(text, ensure_ascii=False)[1:-1]
    yield from (text, escaped, readable, json.dumps(escaped)[1:-1], repr(text)[1:-1], text.replace("'", "\\'"))
    yield from (quote(raw, safe=""), quote(raw), quote_plus(raw), re.sub("%..", _lower, quote(raw, safe="")))
    yield from (raw.hex(), raw.hex().upper())
    for offset in range(3):
        # In a longer text, such as user:password, base64 depends on the place. Only what no neighbour changes counts.
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        certain = encoded[(0, 2, 3)[offset] : (offset + len(raw)) * 8 // 6]
        if len(certain) >= SHORTEST:
            yield from (certain, certain.translate(str.maketrans("+/", "-_")))


def _lower(match: re.Match[str]) -> str:
    return match.group().lower()


def longest_first(texts: Iterable[str]) -> list[str]:
    """Return texts in the order in which they have to be replaced, so that none leaves the rest of another."""
    return sorted(set(texts), key=lambda text: (-len(text), text))
