# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The grammar of ${…} in values of the catalogue.

In a template, ``${name}`` is replaced by a value, ``${name|url}`` by the same value percent-encoded
for use in a URL, and ``$$`` by a dollar sign. Any other ``$`` is literal.

The plan resolves what is known on the controller. It leaves ``${self.port}`` and ``${secret.<name>}``
to the host, where the name is a key of the environment's secrets or ``<database>.password``;
`render` fills them in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Union
from urllib.parse import quote

TOKEN = re.compile(r"\$\$|\$\{([^{}$]*)(\}?)")
NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")


class PlaceholderError(ValueError):
    """A template that cannot be read or rendered."""


class Placeholder(NamedTuple):
    """A ``${name}``; `encoded` when it is written ``${name|url}``."""

    name: str
    encoded: bool = False

    def __str__(self) -> str:
        return "${%s%s}" % (self.name, "|url" if self.encoded else "")


Part = Union[str, Placeholder]


def parse(template: str) -> list[Part]:
    """Split a template into text and placeholders; raise PlaceholderError if it is malformed."""
    if "$" not in template:
        return [template] if template else []
    parts: list[Part] = []
    text = ""
    position = 0
    for token in TOKEN.finditer(template):
        text += template[position : token.start()]
        position = token.end()
        if token.group(0) == "$$":
            text += "$"
            continue
        if not token.group(2):
            raise PlaceholderError(f"'{token.group(0)}' has no closing brace")
        name, _bar, encoding = token.group(1).partition("|")
        if not NAME.match(name) or (_bar and encoding != "url"):
            raise PlaceholderError(f"'{token.group(0)}' is not a placeholder")
        if text:
            parts.append(text)
            text = ""
        parts.append(Placeholder(name, bool(_bar)))
    text += template[position:]
    if text:
        parts.append(text)
    return parts


def escape(text: str) -> str:
    """Return the template that renders to exactly this text."""
    return text.replace("$", "$$")


def unparse(parts: list[Part]) -> str:
    """Return the template of these parts; the inverse of `parse`."""
    return "".join(escape(part) if isinstance(part, str) else str(part) for part in parts)


def encode(value: str) -> str:
    """Percent-encode a value for any place in a URL."""
    return quote(value, safe="")


def placeholders(template: str) -> list[Placeholder]:
    """Return the placeholders of a template, in order."""
    return [part for part in parse(template) if isinstance(part, Placeholder)]


def secret_names(template: str) -> list[str]:
    """Return the names of the secrets that a template of the plan refers to."""
    return [item.name[len("secret.") :] for item in placeholders(template) if item.name.startswith("secret.")]


def render(template: str, port: int | str, secrets: Mapping[str, str]) -> tuple[str, bool]:
    """Fill the slot's port and the secrets into a template of the plan.

    Returns the text and whether it contains a secret. Raises PlaceholderError for a secret that is
    not in `secrets`, or a placeholder that the plan should have resolved; the message contains no value.
    """
    text, secret = [], False
    for part in parse(template):
        if isinstance(part, str):
            text.append(part)
            continue
        if part.name == "self.port":
            value = str(port)
        elif part.name.startswith("secret."):
            name = part.name[len("secret.") :]
            if name not in secrets:
                raise PlaceholderError(f"the secret '{name}' was not passed")
            value, secret = secrets[name], True
        else:
            raise PlaceholderError(f"'{part}' is not known on a host")
        text.append(encode(value) if part.encoded else value)
    return "".join(text), secret
