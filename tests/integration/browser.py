# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A real Chromium that trusts an authority, knows where names lead, and notes whatever it complains about."""

from __future__ import annotations

import contextlib
import http.server
import os
import shlex
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

PROGRAM = "chromium-headless-shell"


@contextlib.contextmanager
def chromium(home: Path, authority: Path, names: Mapping[str, str], network: Sequence[str]) -> Iterator[Browser]:
    """Run the browser with a home of its own.

    In the machine's network it would end its connections whenever another sandbox adds an address or takes one away
    (ERR_NETWORK_CHANGED).

    :param network: how a command is run in the network that the browser is to have.
    :param authority: certificate (PEM) that it trusts, beside those that every browser trusts.
    :param names: host name or pattern -> address or address:port; no other name is found.
    """
    program = shutil.which(PROGRAM)
    assert program, f"{PROGRAM} is missing: run `make setup`"
    database = home / ".local/share/pki/nssdb"
    database.mkdir(parents=True)
    for options in (["-N", "--empty-password"], ["-A", "-n", "authority", "-t", "C,,", "-i", str(authority)]):
        subprocess.run(["certutil", "-d", f"sql:{database}", *options], check=True, capture_output=True)
    start = home / "start"
    start.write_text(f'#!/bin/sh\nexec {shlex.join([*network, program])} "$@"\n')
    start.chmod(0o755)
    rules = ", ".join([*(f"MAP {name} {place}" for name, place in names.items()), "MAP * ~NOTFOUND"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=start,
            args=[f"--host-resolver-rules={rules}", "--no-proxy-server"],
            env={**os.environ, "HOME": str(home)},
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What the browser has against a page: errors, violations of policies, mixed content, what did not load."""

    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def see(self, page: Page) -> Page:
        """Watch a page, and return it."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", self._failed)
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        # What DevTools shows as issues, warnings included: mixed content, policies, cookies, CORS.
        session = page.context.new_cdp_session(page)
        session.on("Audits.issueAdded", lambda event: self.problems.append(f"issue: {event['issue']['code']}"))
        session.send("Audits.enable")
        return page

    @property
    def schemes(self) -> set[str]:
        """The schemes of everything that was asked for."""
        return {urlsplit(url).scheme for url in self.requests}

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def _failed(self, request: Request) -> None:
        # Who leaves a page while something loads did nothing wrong.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"{request.failure}: {request.url}")


@contextlib.contextmanager
def foreign_site(address: str, certificate: Path, key: Path) -> Iterator[str]:
    """Serve an empty page over TLS at a port of the address; yields address:port."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>foreign</title><link rel=icon href='data:,'>")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer((address, 0), Empty)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
