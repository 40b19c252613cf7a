# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A static frontend behind the edge, in a real browser: what a page is made of runs without a complaint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify import reports
from playwright.sync_api import Browser, expect

from tests.integration.browser import Watch, chromium
from tests.unit.nginx.live import DOMAIN, Prefix, edge_plan, put_certificate, render, start
from tests.unit.release.conftest import make_spec

PAGE = """<!doctype html><title>page</title><link rel="icon" href="data:,">
<link rel="manifest" href="/app.webmanifest"><link rel="stylesheet" href="/assets/style.css">
<script type="module" src="/assets/app.mjs"></script>"""
FILES: dict[str, str | bytes] = {
    "index.html": PAGE,
    "app.webmanifest": '{"name": "app", "start_url": "/"}',
    "assets/style.css": "title { display: none }",
    "assets/app.mjs": """import { word } from './word.mjs'
const wasm = await WebAssembly.instantiateStreaming(fetch('/assets/code.wasm'))
document.title = [word, Object.keys(wasm), document.styleSheets[0].cssRules.length]
""",
    "assets/word.mjs": "export const word = 'ran'",
    # The smallest program there is: its magic number and its version.
    "assets/code.wasm": b"\0asm\1\0\0\0",
}


OPEN = {"Cross-Origin-Opener-Policy": "unsafe-none", "Permissions-Policy": "microphone=(self), geolocation=(self)"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, certificate: Path, upstream: str) -> Any:
    """The edge, and behind it a release of a frontend, under two names, and an API."""
    path = tmp_path_factory.mktemp("browsed")
    path.chmod(0o755)
    for name, content in FILES.items():
        file = path / "orders/slots/blue/app" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    prefix = Prefix(path / "nginx")
    with mock.patch.multiple(releases, HOME=str(path), STATE=str(path)):
        front = front_text(make_spec("static_frontend"))
    pages = [f"127.0.0.1:{prefix.port(8080)}"]
    plan = edge_plan(frontend=pages, gone=pages, api=[upstream])
    for host in plan["virtual_hosts"]:
        for place in host["locations"]:
            place["csp"] = {"script-src": "'wasm-unsafe-eval'"}
            place["headers"] = OPEN if place["service"] == "gone" else {}
            place["csp_report_only"] = place["service"] == "gone"
    tls = {"mode": "files", "certificate": "x", "key": "y"}
    edge = render({"nginx_proxy_domain": DOMAIN, "nginx_proxy_tls": tls, "nginx_proxy_edge": plan})
    prefix.write({"fivepointers/front-orders.conf": front, **edge})
    put_certificate(prefix.path, certificate)
    yield from start(prefix, certificate)


@pytest.fixture(scope="module")
def browser(live: Any, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser, to which the names of the tests lead to this edge."""
    place = f"127.0.0.1:{live.prefix.ports[443]}"
    names = {DOMAIN: place, f"*.{DOMAIN}": place}
    with chromium(tmp_path_factory.mktemp("home"), certificate / "ca.crt", names, []) as found:
        yield found


def test_modules_programs_and_manifests_are_what_they_say(browser: Browser) -> None:
    watch = Watch()
    page = watch.see(browser.new_page())
    page.goto(f"https://{DOMAIN}/")
    expect(page).to_have_title("ran,module,instance,1")
    session = page.context.new_cdp_session(page)
    manifest = session.send("Page.getAppManifest")
    assert (manifest["errors"], manifest["url"]) == ([], f"https://{DOMAIN}/app.webmanifest")
    assert watch.problems == []


@pytest.mark.parametrize(("host", "returns"), [(DOMAIN, False), (f"gone.{DOMAIN}", True)])
def test_a_popup_for_a_sign_in_answers_the_page(browser: Browser, host: str, returns: bool) -> None:
    """By default while it shows the provider's page; with unsafe-none also once it is back at a page of this origin."""
    page = browser.new_page()
    page.goto(f"https://{host}/")
    page.evaluate("() => { window.onmessage = message => { document.title = message.data } }")
    with page.expect_popup() as opened:
        page.evaluate("url => { window.held = window.open(url) }", f"https://api.{DOMAIN}/page")
    popup = opened.value
    popup.wait_for_url("**/page")
    popup.evaluate("opener.postMessage('signed in', '*')")
    expect(page).to_have_title("signed in")
    popup.goto(f"https://{host}/callback")
    assert popup.evaluate("opener !== null") is returns


@pytest.mark.parametrize(("host", "allowed"), [(DOMAIN, False), (f"gone.{DOMAIN}", True)])
def test_a_page_may_use_the_features_that_its_service_states(browser: Browser, host: str, allowed: bool) -> None:
    page = browser.new_page()
    page.goto(f"https://{host}/")
    features = page.evaluate("document.featurePolicy.allowedFeatures()")
    assert {"microphone", "geolocation", "camera"} & set(features) == (
        {"microphone", "geolocation"} if allowed else set()
    )


def test_what_a_policy_would_block_is_reported_to_the_edge(browser: Browser, live: Any) -> None:
    page = browser.new_page()
    page.goto(f"https://gone.{DOMAIN}/?token=secret")
    page.evaluate("""() => {
        document.body.append(Object.assign(document.createElement('script'), {src: 'https://js.pay.test/v3'}))
        document.body.append(Object.assign(document.createElement('img'), {src: 'https://cdn.test/logo.png'}))
    }""")
    log = live.prefix.path / "csp-reports.log"
    deadline = time.monotonic() + 10
    while not {"script-src", "img-src"} <= {text.split()[1] for text in reports.summary(log.read_text().splitlines())}:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    told = "\n".join(reports.summary(log.read_text().splitlines()))
    assert "gone: script-src blocks https://js.pay.test (1 times, the last time at 20" in told
    assert f'on https://gone.{DOMAIN}/): if the page is to use it: csp: {{script-src: "https://js.pay.test"}}' in told
    assert 'csp: {img-src: "https://cdn.test"}' in told and "secret" not in told


def test_reports_are_small_and_few_and_only_taken_where_a_policy_is_tried(live: Any) -> None:
    place, log = "/.well-known/csp-reports", live.prefix.path / "csp-reports.log"
    answers = [live.ask(f"gone.{DOMAIN}", place, "POST", body=b"x" * size).status for size in (10, 20_000)]
    assert answers == [200, 413]
    assert live.ask(DOMAIN, place, "POST", body=b"to the frontend").status == 404
    before = log.read_text().count("\n")
    statuses = {live.ask(f"gone.{DOMAIN}", place, "POST", body=b"again").status for _number in range(40)}
    assert statuses == {200, 429} and log.read_text().count("\n") - before <= 40
    assert "to the frontend" not in log.read_text()
