# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The platform in a real browser: what users do works without a complaint, and a foreign page can do none of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from sandbox import certificates
from tests.integration.browser import Watch, chromium, foreign_site
from tests.integration.harness import Sandbox

FOREIGN = "foreign.invalid"

# Each says in one word how it ended.
FETCH = "([url, options]) => fetch(url, options).then(answer => answer.type, error => error.name)"
SOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url);
    socket.onopen = () => { done('open'); socket.close(); };
    socket.onerror = () => done('refused');
})"""
FRAME = """url => new Promise(done => {
    const frame = document.createElement('iframe');
    frame.onload = () => done(frame);
    frame.src = url;
    document.body.append(frame);
}).then(() => undefined)"""
# A page that lets others embed its files would let its script run here.
SCRIPT = """url => new Promise(done => {
    const script = document.createElement('script');
    script.onload = () => done('ran');
    script.onerror = () => done('refused');
    script.src = url;
    document.body.append(script);
})"""


@dataclass
class Place:
    """A browser, and the names that it knows."""

    browser: Browser
    domain: str

    def url(self, label: str = "", path: str = "/", scheme: str = "https") -> str:
        return f"{scheme}://{label and label + '.'}{self.domain}{path}"

    def page(self, watch: Watch) -> Page:
        """A page of somebody else than all before."""
        return watch.see(self.browser.new_context().new_page())


@pytest.fixture(scope="module")
def place(platform: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The browser before the sandbox's front door. The foreign site has a certificate that it trusts as well."""
    folder, told = tmp_path_factory.mktemp("browser"), platform.endpoints
    authority, names = Path(told["ca_file"]), [FOREIGN]
    certificates.ensure(authority, folder / "foreign.pem", folder / "foreign-key.pem", names, "unused")
    with foreign_site(platform.gateway, folder / "foreign.pem", folder / "foreign-key.pem") as foreign:
        names_at = {told["domain"]: told["edge"], f"*.{told['domain']}": told["edge"], FOREIGN: foreign}
        with chromium(folder / "home", authority, names_at, platform.within("database")) as browser:
            yield Place(browser, told["domain"])


@pytest.fixture(scope="module")
def account(place: Place) -> dict[str, str]:
    return {"Email": f"{uuid.uuid4().hex[:12]}@example.com", "Password": uuid.uuid4().hex}


def fill(page: Page, fields: dict[str, str]) -> None:
    for label, text in fields.items():
        page.get_by_label(label, exact=True).fill(text)


def log_in(page: Page, place: Place, account: dict[str, str]) -> None:
    """Through the form, as people do."""
    page.goto(place.url(path="/login"))
    fill(page, account)
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="My pages")).to_be_visible()


def test_people_sign_up_log_in_write_together_and_publish_without_a_complaint(
    place: Place, account: dict[str, str]
) -> None:
    watch, slug = Watch(), f"page-{uuid.uuid4().hex[:12]}"
    one = place.page(watch)
    one.goto(place.url())
    one.get_by_role("link", name="Sign up").click()
    fill(one, account)
    one.get_by_role("main").get_by_role("button", name="Sign up").click()
    expect(one.get_by_text(account["Email"])).to_be_visible()
    one.get_by_role("button", name="Log out").click()
    log_in(one, place, account)

    # Two people in one text. The deep link is opened as one that was sent by mail.
    two = place.page(watch)
    log_in(two, place, account)
    for page in (one, two):
        page.goto(place.url(path=f"/pages/{slug}/edit"))
        expect(page.get_by_label("Co-editing")).to_contain_text("Connected")
    expect(one.get_by_label("Co-editing")).to_contain_text("2 people here")
    one.get_by_label("Body").press_sequentially("from one")
    expect(two.get_by_label("Body")).to_have_value("from one")
    two.get_by_label("Body").press("End")
    two.get_by_label("Body").press_sequentially(", from two")
    expect(one.get_by_label("Body")).to_have_value("from one, from two")
    fill(one, {"Title": f"Title of {slug}"})
    one.get_by_role("button", name="Publish").click()
    expect(one.get_by_text("Published.")).to_be_visible()

    one.get_by_role("link", name="View published page").click()
    expect(one.get_by_role("heading", name=f"Title of {slug}")).to_be_visible()
    expect(one.get_by_text("from one, from two")).to_be_visible()
    assert one.url == place.url(slug)

    one.wait_for_load_state("networkidle")
    assert watch.problems == []
    assert {place.url("ws", f"/{slug}", "wss")} <= {url.split("?")[0] for url in watch.requests}
    assert watch.schemes <= {"https", "wss", "data", "blob"}


def test_the_frontend_calls_the_api_with_credentials(place: Place) -> None:
    watch = Watch()
    page = place.page(watch)
    page.goto(place.url())
    assert page.evaluate(FETCH, [place.url("api", "/api/health"), {"credentials": "include"}]) == "cors"
    assert page.evaluate(SOCKET, place.url("ws", "/room", "wss")) == "open"
    assert watch.problems == []


def test_no_page_lets_injected_scripts_run(place: Place) -> None:
    """Neither the frontend's nor those that Next.js renders; the test above sees that their own scripts run."""
    page = place.page(Watch())
    for label in ("", "recipes"):
        answer = page.goto(place.url(label))
        assert answer
        policy = answer.headers["content-security-policy"].split("; ")
        (scripts,) = (part for part in policy if part.startswith("script-src "))
        assert "unsafe-inline" not in scripts


def test_what_a_policy_forbids_is_noticed(place: Place) -> None:
    """The tests above can fail: each kind of complaint is made once."""
    watch = Watch()
    page = place.page(watch)
    page.goto(place.url())
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    assert page.evaluate("window.ran") is None
    assert page.evaluate(FETCH, ["https://elsewhere.invalid/", {}]) == "TypeError"
    assert page.evaluate(SCRIPT, f"https://{FOREIGN}/x.js") == "refused"
    said = " ".join(watch.problems)
    for word in ("script-src", "connect-src", "issue: ContentSecurityPolicyIssue"):
        assert word in said, watch.problems


CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "reads with credentials": ("api", "/api/health", {"credentials": "include"}),
    "reads": ("api", "/api/health", {}),
    "reads what it may not even show": ("api", "/api/health", {"mode": "no-cors", "credentials": "include"}),
    "writes as a form does": ("api", "/api/auth/login", {"method": "POST", "body": "a=b", "credentials": "include"}),
    "asks first": ("api", "/api/pages/x", {"method": "PUT", "headers": {"Authorization": "Bearer x"}, "body": "{}"}),
    "reads the frontend": ("", "/", {"credentials": "include"}),
    "reads the frontend's addresses": ("", "/runtime-config.js", {"mode": "no-cors"}),
    "reads a tenant's page": ("any", "/", {"credentials": "include"}),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_foreign_page_cannot_call(place: Place, what: str) -> None:
    label, path, options = CALLS[what]
    watch = Watch()
    page = place.page(watch)
    page.goto(f"https://{FOREIGN}/")
    assert page.evaluate(FETCH, [f"https://{FOREIGN}/", {"credentials": "include"}]) == "basic"
    assert watch.problems == []
    assert page.evaluate(FETCH, [place.url(label, path), options]) == "TypeError"
    assert watch.problems


def test_a_foreign_page_cannot_open_a_socket_embed_a_script_frame_a_page_or_hold_a_window(place: Place) -> None:
    watch = Watch()
    page = place.page(watch)
    page.goto(f"https://{FOREIGN}/")
    assert page.evaluate(SOCKET, place.url("ws", "/room", "wss")) == "refused"
    assert page.evaluate(SCRIPT, place.url(path="/runtime-config.js")) == "refused"
    page.evaluate(FRAME, f"https://{FOREIGN}/")
    assert page.frames[-1].title() == "foreign", "what it may frame, it can"
    for label, path in (("", "/login"), ("any", "/"), ("api", "/api/health")):
        page.evaluate(FRAME, place.url(label, path))
        assert page.frames[-1].url == "chrome-error://chromewebdata/", (label, path)
    with page.expect_popup() as opened:
        page.evaluate("url => { window.held = window.open(url) }", place.url(path="/login"))
    opened.value.wait_for_load_state()
    assert opened.value.title()
    assert page.evaluate("window.held.closed"), "the window is out of its reach"
    assert opened.value.evaluate("window.opener") is None
