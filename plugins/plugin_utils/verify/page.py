# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a page loads, and what of that its content security policy blocks. Pure functions."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

# What an element loads: attribute, and the directive that decides.
LOADS = {
    "script": ("src", "script-src"),
    "img": ("src", "img-src"),
    "iframe": ("src", "frame-src"),
    "frame": ("src", "frame-src"),
    "video": ("src", "media-src"),
    "audio": ("src", "media-src"),
    "track": ("src", "media-src"),
    "embed": ("src", "object-src"),
    "object": ("data", "object-src"),
}
LINKS = {"stylesheet": "style-src", "modulepreload": "script-src", "icon": "img-src", "manifest": "manifest-src"}
INLINE = {"script": "script-src", "style": "style-src"}
FONT = re.compile(r"@font-face\s*\{[^}]*\}", re.IGNORECASE)
IMPORT = re.compile(r"@import\s+(?:url\()?\s*[\"']?([^\"')\s;]+)", re.IGNORECASE)
URL = re.compile(r"url\(\s*[\"']?([^\"')]+?)\s*[\"']?\s*\)", re.IGNORECASE)


class Need(NamedTuple):
    """A thing that a page needs: the directive that decides, its address, or the text between its tags."""

    directive: str
    url: str = ""
    text: str = ""
    nonce: str = ""
    attribute: str = ""


class Parser(HTMLParser):
    """Collects the needs of a page."""

    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.base = url
        self.needs: list[Need] = []
        self.inline: tuple[str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads, and what is written into it."""
        given = {name: value or "" for name, value in attrs}
        if tag == "base" and given.get("href"):
            self.base = urljoin(self.base, given["href"])
        attribute, directive = LOADS.get(tag, ("", ""))
        if given.get(attribute):
            self._add(directive, given[attribute], given.get("nonce", ""))
        if tag == "link":
            for word in given.get("rel", "").lower().split():
                if word in LINKS and given.get("href"):
                    self._add(LINKS[word], given["href"], given.get("nonce", ""))
        if tag in ("img", "source") and given.get("srcset"):
            for part in re.split(r",\s+", given["srcset"]):
                self._add("img-src", part.split()[0] if part.split() else "")
        if tag == "source" and given.get("src"):
            self._add("media-src", given["src"])
        # What is no JavaScript is data.
        data = tag == "script" and re.search(
            r"json|template|text/plain|text/html", given.get("type", ""), re.IGNORECASE
        )
        if tag in INLINE and not given.get("src") and not data:
            self.inline = (INLINE[tag], given.get("nonce", ""))
        for name in given:
            if name.startswith("on"):
                self.needs.append(Need("script-src", attribute=name))
        if given.get("style"):
            self.needs.append(Need("style-src", attribute="style"))

    def handle_data(self, data: str) -> None:
        """Note the text of a script or a style."""
        if self.inline and data.strip():
            self.needs.append(Need(self.inline[0], text=data, nonce=self.inline[1]))
            if self.inline[0] == "style-src":
                self.needs += style_needs(data, self.base)

    def handle_endtag(self, tag: str) -> None:
        """Scripts and styles end."""
        self.inline = None

    def _add(self, directive: str, url: str, nonce: str = "") -> None:
        self.needs.append(Need(directive, urljoin(self.base, url.strip()), nonce=nonce))


def page_needs(page: str, url: str) -> list[Need]:
    """Return what a page at an address needs, each thing once."""
    parser = Parser(url)
    parser.feed(page)
    parser.close()
    return list(dict.fromkeys(parser.needs))


def style_needs(style: str, url: str) -> Iterator[Need]:
    """Yield what a style sheet at an address loads: fonts, images, other sheets."""
    imports = IMPORT.findall(style)
    yield from (Need("style-src", urljoin(url, found)) for found in imports)
    fonts = [found for face in FONT.findall(style) for found in URL.findall(face)]
    yield from (Need("font-src", urljoin(url, found)) for found in fonts)
    rest = set(URL.findall(style)) - set(fonts) - set(imports)
    yield from (Need("img-src", urljoin(url, found)) for found in sorted(rest))


def blocked(policy: str, needs: Iterable[Need], url: str) -> list[tuple[str, str, str]]:
    """Return what a policy blocks on a page: directive, the source that would allow it, and what it is.

    In the order in which the page has them. A script without the nonce that a policy asks for is not told: it is the
    application that has to sign it.
    """
    allowed = {name.lower(): sources for name, *sources in (part.split() for part in policy.split(";") if part.split())}
    found: dict[tuple[str, str], str] = {}
    for need in needs:
        sources = allowed.get(need.directive, allowed.get("default-src"))
        if sources is None or (need.nonce and f"'nonce-{need.nonce}'" in sources):
            continue
        signed = any(source.startswith(("'nonce-", "'sha")) for source in sources)
        if need.url:
            if not any(matches(source, need.url, url) for source in sources):
                found.setdefault((need.directive, source_of(need.url)), need.url)
        elif "'unsafe-inline'" in sources and not signed:
            continue
        elif need.attribute:
            found.setdefault((need.directive, "'unsafe-inline'"), f'an attribute {need.attribute}="…"')
        elif not any(source.startswith("'nonce-") for source in sources) and digest(need.text) not in sources:
            found.setdefault((need.directive, digest(need.text)), f"inline: {' '.join(need.text.split())[:40]}")
    return [(directive, source, what) for (directive, source), what in found.items()]


def digest(text: str) -> str:
    """Return the source that allows an inline script or style by its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def source_of(url: str) -> str:
    """Return the source that allows an address: its origin, or its scheme if it has none."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def matches(source: str, url: str, page: str) -> bool:
    """Whether a source of a policy allows an address on a page (CSP 3, 6.7.2)."""
    asked, own = urlsplit(url), urlsplit(page)
    if source == "'self'":
        return (asked.scheme, asked.netloc) == (own.scheme, own.netloc)
    if source == "*":
        return asked.scheme in ("http", "https", "ws", "wss")
    if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*:", source):
        return asked.scheme == source[:-1].lower()
    wanted = urlsplit(source if "://" in source else f"{own.scheme}://{source}")
    if source.startswith("'") or wanted.scheme not in (asked.scheme, {"https": "http", "wss": "ws"}.get(asked.scheme)):
        return False
    host, name = (wanted.hostname or ""), (asked.hostname or "")
    same = name.endswith(host[1:]) and name != host[2:] if host.startswith("*.") else name == host
    ports = {"http": 80, "https": 443, "ws": 80, "wss": 443}
    port = not wanted.netloc.endswith(":*") and (wanted.port or ports[asked.scheme]) != (
        asked.port or ports[asked.scheme]
    )
    path = wanted.path
    below = asked.path.startswith(path) if path.endswith("/") else not path or asked.path == path
    return same and not port and below


def line(found: Iterable[tuple[str, str, str]]) -> str:
    """Return the line for the catalogue that allows what is blocked."""
    wanted: dict[str, list[str]] = {}
    for directive, source, _what in found:
        wanted.setdefault(directive, []).append(source)
    # Browsers ignore 'unsafe-inline' beside a hash.
    texts = {
        key: [item for item in sources if "'unsafe-inline'" not in sources or not item.startswith("'sha")]
        for key, sources in wanted.items()
    }
    return "csp: {%s}" % ", ".join(f'{key}: "{" ".join(sources)}"' for key, sources in texts.items())
