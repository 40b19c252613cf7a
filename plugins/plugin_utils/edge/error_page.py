# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The page for errors and maintenance, as nginx configuration. Pure.

nginx returns the page itself (`return`), so that status, method and path of the request stay unchanged; a file would
answer a POST with 405.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import PlaceholderError, parse

# What the page may show, and the nginx variable that holds it. Clients cannot choose any of these.
VARIABLES = {"status": "status", "message": "platform_error", "request_id": "platform_request_id"}
# nginx reads words of up to 4096 bytes; a character may take four of them, or two with its backslash.
PIECE = 1000
# The words that list the pieces and the styles cannot be split.
MOST = 4000


class ErrorPageError(ValueError):
    """The page cannot be used. The text names the variable, the value and the fix."""


def error_page(page: str, brand: str = "") -> dict[str, Any]:
    """Return the page as C(texts) (pieces, quoted for nginx), C(body) (their order) and C(policy) (its CSP).

    Piece number 1 is the variable C($platform_page_1), and so on. Raises ErrorPageError.
    """
    try:
        page.encode()
    except UnicodeEncodeError:
        raise ErrorPageError("nginx_error_page is not UTF-8; save the file as UTF-8") from None
    # As browsers normalise it before they compute the digest of a style.
    page = re.sub(r"\r\n?", "\n", page)
    if not re.search(r"<html\b", page, re.IGNORECASE):
        raise ErrorPageError("nginx_error_page is not an HTML document; set the path of a file with <html>")
    try:
        parts = parse(page)
    except PlaceholderError as error:
        raise ErrorPageError(f"nginx_error_page: {error}; write $$ for a dollar sign") from None
    texts: list[str] = []
    body = ""
    for part in parts:
        if not isinstance(part, str) and not part.encoded and part.name in VARIABLES:
            body += "${%s}" % VARIABLES[part.name]
            continue
        if isinstance(part, str):
            text = part
        elif str(part) == "${brand}":
            text = html.escape(brand)
        else:
            known = ", ".join("${%s}" % name for name in ("brand", *VARIABLES))
            raise ErrorPageError(f"nginx_error_page has the unknown placeholder {part}; use {known}")
        for start in range(0, len(text), PIECE):
            texts.append(text[start : start + PIECE].replace("\\", "\\\\").replace("'", "\\'"))
            body += "${platform_page_%d}" % len(texts)
    policy = _policy(page)
    if max(len(body), len(policy)) > MOST:
        raise ErrorPageError(
            f"nginx_error_page has {len(page)} characters, which is more than nginx accepts; keep it below "
            "200,000 by shrinking embedded images, and put all styles into one <style>"
        )
    return {"texts": texts, "body": body, "policy": policy}


def _policy(page: str) -> str:
    """Return a policy that allows the page's own styles and embedded pictures, and nothing else."""
    styles = re.findall(r"<style\b[^>]*>(.*?)</style\s*>", page, re.IGNORECASE | re.DOTALL)
    if any("$" in style for style in styles):
        raise ErrorPageError("nginx_error_page has a dollar sign in <style>, which its policy cannot cover; remove it")
    hashes = ["'sha256-%s'" % base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles]
    directives = ["default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'"]
    directives += ["style-src " + " ".join(hashes)] if hashes else []
    return "; ".join([*directives, "frame-ancestors 'none'"])
