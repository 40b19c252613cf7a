# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Next.js takes the edge's nonce by itself: the example without its own policy, in a real browser.

`make soak` does this, since it builds the example. That the example's own policy wins, test_80_browser.py shows.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from sandbox import certificates
from tests.faults.front import NODE
from tests.integration.browser import Watch, chromium
from tests.unit.nginx import live

pytestmark = pytest.mark.soak

# A page that reacts once its scripts run.
COUNTER = """'use client';
import { useState } from 'react';
export default function Counter() {
  const [count, setCount] = useState(0);
  return <button onClick={() => setCount(count + 1)}>clicked {count}</button>;
}
"""


class Api(http.server.BaseHTTPRequestHandler):
    """Has every page."""

    def do_GET(self) -> None:
        body = json.dumps({"slug": "x", "title": "Recipes", "body": "text", "updatedAt": "2026-01-01"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The example without its proxy.ts, built and running; yields its port."""
    folder, port = tmp_path_factory.mktemp("sites") / "sites", live.free_port()
    shutil.copytree(live.ROOT / "examples/sites", folder, ignore=shutil.ignore_patterns("node_modules", ".next"))
    (folder / "proxy.ts").unlink()
    (folder / "app/counter").mkdir()
    (folder / "app/counter/page.tsx").write_text(COUNTER)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in (["npm", "ci", "--silent"], ["npm", "run", "--silent", "build"]):
        subprocess.run(command, cwd=folder, env=environment, check=True)
    output = folder / ".next/standalone"
    shutil.copytree(folder / ".next/static", output / ".next/static")
    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    environment |= {"API_INTERNAL_URL": f"http://127.0.0.1:{api.server_address[1]}", "BASE_DOMAIN": live.DOMAIN}
    environment |= {"PORT": str(port), "HOSTNAME": "127.0.0.1", "NODE_ENV": "production"}
    with subprocess.Popen([NODE, "server.js"], cwd=output, env=environment) as process:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None and time.monotonic() < deadline, "the example does not start"
            time.sleep(0.1)
        yield port
        process.terminate()
    api.shutdown()


def test_scripts_of_nextjs_run_without_unsafe_inline(sites: int, tmp_path: Path) -> None:
    names = [live.DOMAIN, f"*.{live.DOMAIN}"]
    certificates.ensure(tmp_path / "ca.crt", tmp_path / "edge.crt", tmp_path / "edge.key", names, "Test authority")
    prefix = live.Prefix(tmp_path / "edge")
    prefix.render(
        {
            "nginx_proxy_domain": live.DOMAIN,
            "nginx_proxy_tls": {"mode": "files", "certificate": "x", "key": "y"},
            "nginx_proxy_edge": live.edge_plan(sites=[f"127.0.0.1:{sites}"]),
        }
    )
    live.put_certificate(prefix.path, tmp_path)
    places = {name: f"127.0.0.1:{prefix.port(443)}" for name in names}
    with (
        contextlib.contextmanager(live.start)(prefix, tmp_path),
        chromium(tmp_path / "home", tmp_path / "ca.crt", places, ["env"]) as browser,
    ):
        watch, nonces = Watch(), set()
        page = watch.see(browser.new_context().new_page())
        for path in ("/pages/recipes", "/counter", "/counter"):
            answer = page.goto(f"https://recipes.{live.DOMAIN}{path}", wait_until="networkidle")
            assert answer
            (scripts,) = (
                part for part in answer.headers["content-security-policy"].split("; ") if part.startswith("script-src ")
            )
            assert "unsafe-inline" not in scripts and "'nonce-" in scripts
            found = page.evaluate("[...document.scripts].filter(script => !script.src).map(script => script.nonce)")
            assert found and set(found) == {scripts.split("'nonce-")[1].split("'")[0]}
            nonces |= set(found)
        assert len(nonces) == 3
        page.get_by_role("button").click()
        expect(page.get_by_role("button")).to_have_text("clicked 1")
        assert watch.problems == []
        # This can fail: a script without the nonce does not run, and is noticed.
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
        assert page.evaluate("window.ran") is None
        assert "script-src" in " ".join(watch.problems)
