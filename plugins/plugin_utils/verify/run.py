# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Runs the checks of `verification` through the front door, as a user's browser would."""

from __future__ import annotations

import asyncio
import http.client
import http.cookies
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.fivepointers.platform.plugins.module_utils.common import http_client
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    PlaceholderError,
    encode,
    parse,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.processes import readable
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify import page, yjs_client
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import (
    SECRET_KEY,
    Check,
    blocked_scripts,
    broken_rules,
    expected_text,
    fits,
    masked,
    secret_values,
)

Result = dict[str, Any]

UNSIGNED = (
    "the page was rendered during the build; render it for each request, "
    "or set csp: {script-src: \"'unsafe-inline'\"} for the service"
)
FAILS_FOR_ORIGIN = (
    "the application itself fails for an origin that it does not know, and answers without one: set cors: application "
    "for the service, which leaves CORS to it, or let it allow every origin in ALLOWED_ORIGINS"
)
# What a page would be blocked by counts as well while it is tried.
POLICIES = ("content-security-policy-report-only", "content-security-policy")
MOST_SHEETS = 20
#: The status of a rate limit, and the seconds that a step waits for it in total. Others may have the same address.
TOO_MANY = 429
LONGEST_WAIT = 60
#: Seconds between things that came together.
TOGETHER = 0.05
COLLECTED = (
    "the service sends them later, or something collects what it sends: compression in the application, or nginx, "
    "which is told neither by text/event-stream nor by X-Accel-Buffering: no"
)


class StepError(Exception):
    """A step that cannot be run, or whose response cannot be used; the text says why."""


class Cookies:
    """The cookies that a browser keeps between requests, by domain, as far as a journey needs them."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, bool], dict[str, str]] = {}

    def keep(self, host: str, lines: Sequence[str]) -> None:
        """Store the cookies of the Set-Cookie lines in a response of this host."""
        for line in lines:
            parsed: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
            try:
                parsed.load(line)
            except http.cookies.CookieError:
                continue
            for name, morsel in parsed.items():
                domain = morsel["domain"].lstrip(".").lower()
                if domain and not f".{host}".endswith(f".{domain}"):
                    continue
                jar = self.kept.setdefault((domain or host, bool(domain)), {})
                if morsel["max-age"] == "0" or not morsel.value:
                    jar.pop(name, None)
                else:
                    jar[name] = morsel.coded_value

    def header(self, host: str) -> str:
        """The Cookie header for a request to this host; empty if there is nothing to send."""
        found: dict[str, str] = {}
        for (domain, below), jar in self.kept.items():
            if host == domain or (below and host.endswith(f".{domain}")):
                found.update(jar)
        return "; ".join(f"{name}={value}" for name, value in found.items())


class Walk:
    """The state of one journey: its variables, its cookies, and the secrets that must never be shown."""

    def __init__(self, unique: str = "") -> None:
        self.variables: dict[str, str] = {"unique": unique} if unique else {}
        self.cookies = Cookies()
        self.secrets: set[str] = set()

    def fill(self, value: Any) -> Any:
        """Fill the variables into every text of a value."""
        if isinstance(value, str):
            try:
                return "".join(
                    part if isinstance(part, str) else self._value(part.name, part.encoded) for part in parse(value)
                )
            except PlaceholderError as error:
                raise StepError(str(error)) from error
        if isinstance(value, Mapping):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.fill(item) for item in value]
        return value

    def _value(self, name: str, encoded: bool) -> str:
        if name not in self.variables:
            raise StepError(f"no step has saved '{name}' (known: {', '.join(self.variables)})")
        return encode(self.variables[name]) if encoded else self.variables[name]

    def save(self, wanted: Mapping[str, str], answer: http_client.Answer) -> None:
        """Save parts of a JSON response as variables."""
        if not wanted:
            return
        try:
            content = json.loads(answer.text)
        except ValueError as error:
            raise StepError(f"the response is not JSON, so {', '.join(wanted)} cannot be saved") from error
        for name, path in wanted.items():
            value = content
            for word in path.split("."):
                if isinstance(value, list) and word.isdigit() and int(word) < len(value):
                    value = value[int(word)]
                elif isinstance(value, Mapping) and word in value:
                    value = value[word]
                else:
                    has = ", ".join(value) if isinstance(value, Mapping) else type(value).__name__
                    raise StepError(f"the response has no '{path}' ('{word}' is not in: {has})")
            text = value if isinstance(value, str) else json.dumps(value)
            self.variables[name] = text
            if SECRET_KEY.search(name) or SECRET_KEY.search(path):
                self.secrets.add(text)


class Stream:
    """Reads so many events of a response while they come: of text/event-stream; of anything else, lines."""

    def __init__(self, events: int) -> None:
        self.wanted = events
        #: When each came, in seconds since the response began.
        self.times: list[float] = []
        self.text = ""
        #: Whether several events and the end came together, as what was collected on the way does.
        self.at_once = False

    def read(self, response: http.client.HTTPResponse) -> bytes:
        """Read until there are enough events, or the response ends."""
        begun = time.monotonic()
        named = "text/event-stream" in (response.getheader("content-type") or "")
        data = False
        while line := response.readline(http_client.BODY_LIMIT).decode("utf-8", "replace"):
            self.text += line
            data = data or line.startswith("data") or not named
            if data and bool(line.strip()) != named:
                self.times.append(time.monotonic() - begun)
                data = False
            # Those that came together are the beginning of a stream that stays open, or all of one that was collected.
            if len(self.times) >= self.wanted and (self.wanted == 1 or self.times[-1] - self.times[0] > TOGETHER):
                return self.text.encode()
        self.at_once = len(self.times) > 1 and time.monotonic() - begun - self.times[0] <= TOGETHER
        return self.text.encode()


class Walker:
    """Runs checks through one front door."""

    def __init__(
        self, connect_to: str | None = None, ca_file: str | None = None, timeout: float = 5.0, strict: bool = False
    ) -> None:
        """Connect to an address; strict: what the policy of a page blocks is a failure, not a warning."""
        self.connect_to = connect_to or None
        self.blocked = "failed" if strict else "warning"
        self.timeout = timeout
        self.context = http_client.tls_context(ca_file)
        self.blind = http_client.tls_context(validate=False)

    def walk(self, checks: Sequence[Check], at_once: int = 16) -> list[Result]:
        """Run all checks, independent ones concurrently; the results keep the order of the checks."""
        order = sorted(range(len(checks)), key=lambda index: checks[index]["do"] != "journey")
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            futures = {index: pool.submit(self.carry_out, checks[index]) for index in order}
            return [result for index in range(len(checks)) for result in futures[index].result()]

    def carry_out(self, check: Check) -> list[Result]:
        """Run one check; return one result, or one for each step of a journey."""
        if check["do"] != "journey":
            return [self.step(check, Walk())]
        walk = Walk(f"v{secrets.token_hex(5)}")
        results: list[Result] = []
        broken = ""
        for step in check["steps"]:
            if broken:
                result = make_result(step, "skipped", "", f"not run: '{broken}' failed", 0.0)
            else:
                result = self.step(step, walk)
                if result["level"] == "failed":
                    broken = step["name"]
            results.append({**result, "journey": check["name"]})
        return results

    def step(self, template: Check, walk: Walk) -> Result:
        """Run one step and judge the response."""
        start = time.monotonic()
        check = dict(template)
        asked, likely = "", ""
        try:
            for key in ("url", "send", "json", "contains"):
                if key in check:
                    check[key] = walk.fill(check[key])
            walk.secrets.update(secret_values(check.get("json")))
            walk.secrets.update(secret_values(check.get("send")))
            asked = describe_question(check, self.connect_to)
            level, came, likely = getattr(self, f"_{check['do']}")(check, walk)
        except http_client.ProbeError as error:
            level, came, likely = "failed", str(error), error.likely
            if error.kind == "tls_expired" and "renewal" in check:
                likely = f"{check['renewal']}; or this machine's clock is wrong"
        except (StepError, yjs_client.SocketError) as error:
            level, came = "failed", str(error)
        except Exception as error:  # one check that breaks must not hide the others
            level, came = "failed", f"the check itself failed ({type(error).__name__}: {error})"
        seconds = time.monotonic() - start
        return make_result(
            check, level, masked(asked, walk.secrets), masked(came, walk.secrets), seconds, likely, walk.secrets
        )

    # Each of these returns the level, what was received, and the likely cause, or raises.

    def _ask(self, check: Check, walk: Walk, **how: Any) -> tuple[http_client.Answer, str]:
        """Ask as a browser would; where that is too often, once more after the time that the response says.

        Return the response, and how long that was in words.
        """
        host = urlsplit(check["url"]).hostname or ""
        send = {key: str(value) for key, value in check.get("send", {}).items()}
        body = None
        if "json" in check:
            body = json.dumps(check["json"]).encode()
            send.setdefault("Content-Type", "application/json")
        cookie = walk.cookies.header(host)
        if cookie:
            send.setdefault("Cookie", cookie)
        options = {"method": check.get("method", "GET"), "headers": send, "body": body, "timeout": self.timeout, **how}
        waited = 0.0
        while True:
            answer = http_client.ask(check["url"], connect_to=self.connect_to, context=self.context, **options)
            pause = answer.retry_after() if answer.status == TOO_MANY and not fits(TOO_MANY, check["status"]) else None
            if pause is None or waited + max(pause, 1) > LONGEST_WAIT:
                walk.cookies.keep(host, answer.all("set-cookie"))
                return answer, f", after waiting {waited:.0f} s as {TOO_MANY} asked" if waited else ""
            waited += max(pause, 1)
            time.sleep(max(pause, 1))

    def _http(self, check: Check, walk: Walk) -> tuple[str, str, str]:
        answer, waited = self._ask(check, walk)
        wrong = []
        if not fits(answer.status, check["status"]):
            wrong.append("unexpected status")
        wrong += [
            f"the body does not contain {text!r}" for text in check.get("contains", []) if text not in answer.text
        ]
        wrong += [f"the body contains {text!r}" for text in _found(check.get("lacks", []), answer.text)]
        wrong += broken_rules(answer.headers, check.get("headers", []))
        if wrong:
            reason = http_client.likely(answer.status) if not fits(answer.status, check["status"]) else ""
            # Asked again only where that changes nothing.
            plain = {**check, "send": {key: value for key, value in check.get("send", {}).items() if key != "Origin"}}
            if (
                answer.status >= 500
                and plain["send"] != check.get("send", {})
                and "json" not in check
                and check.get("method", "GET") == "GET"
            ):
                reason = FAILS_FOR_ORIGIN if self._ask(plain, walk)[0].status < 500 else reason
            return "failed", f"{answer.describe()} ({'; '.join(wrong)}){waited}", reason
        walk.save(check.get("save", {}), answer)
        if check.get("scripts") and (blocked := blocked_scripts(answer.headers, answer.text)):
            came = f"{check['url']} has {blocked} inline scripts without the nonce of its policy, which browsers block"
            return self.blocked, came, UNSIGNED
        if check.get("scripts") and (found := self._blocked(check["url"], answer)):
            came = "; ".join(f"{directive} blocks {what}" for directive, _source, what in found)
            return self.blocked, f"{check['url']}: {came}", f"if the page is to use them: {page.line(found)}"
        return "ok", f"{answer.status} {answer.reason}".rstrip() + waited, ""

    def _blocked(self, url: str, answer: http_client.Answer) -> list[tuple[str, str, str]]:
        """What the policy of a page blocks, in its HTML and in the style sheets of its own name."""
        policy = next((answer.header(name) for name in POLICIES if answer.header(name)), "")
        if not policy or not answer.header("content-type").startswith("text/html"):
            return []
        needs = page.page_needs(answer.text, url)
        sheets = [need.url for need in needs if need.directive == "style-src" and page.matches("'self'", need.url, url)]
        for sheet in sheets[:MOST_SHEETS]:
            needs += page.style_needs(self._ask({"url": sheet, "status": [200]}, Walk())[0].text, sheet)
        return page.blocked(policy, needs, url)

    def _stream(self, check: Check, walk: Walk) -> tuple[str, str, str]:
        stream = Stream(check["events"])
        until, waited = f"within {check['within']} s", ""
        try:
            answer, waited = self._ask(check, walk, timeout=check["within"], read=stream.read)
            if not fits(answer.status, check["status"]):
                likely = http_client.likely(answer.status)
                return "failed", f"{answer.describe()} (unexpected status){waited}", likely
            until = "before the response ended"
        except http_client.ProbeError as error:
            # A stream may stay open: what counts is what came.
            if error.kind != "answer_timeout":
                raise
        came = f"{len(stream.times)} of {check['events']} events"
        if len(stream.times) < check["events"]:
            return "failed", f"{came} {until}{waited}", COLLECTED
        if stream.at_once:
            return "failed", f"{came} came at once, with the end of the response{waited}", COLLECTED
        missing = [repr(text) for text in check["contains"] if text not in stream.text]
        if missing:
            return "failed", f"{came}, without {', '.join(missing)}{waited}", ""
        return "ok", f"{came} in {stream.times[-1]:.1f} s{waited}", ""

    def _certificate(self, check: Check, walk: Walk) -> tuple[str, str, str]:
        certificate = http_client.certificate_of(
            check["url"], connect_to=self.connect_to, timeout=self.timeout, context=self.context
        )
        days = http_client.days_left(certificate)
        minimum, warning = check["days"]
        came = f"valid until {http_client.expiry_date(certificate)}, {days:.0f} days"
        if days < minimum:
            return "failed", came, check["renewal"]
        return ("warning", came, check["renewal"]) if days < warning else ("ok", came, "")

    def _refused(self, check: Check, walk: Walk) -> tuple[str, str, str]:
        try:
            answer = http_client.ask(
                check["url"],
                connect_to=self.connect_to or check["address_of"],
                timeout=self.timeout,
                context=self.blind,
            )
        except http_client.ProbeError as error:
            if error.kind in ("tls_refused", "closed"):
                return "ok", str(error), ""
            raise
        if 400 <= answer.status < 500:
            return "ok", f"{answer.status} {answer.reason}".rstrip(), ""
        reason = "a default server or a catch-all rule answers for unknown names"
        return "failed", answer.describe(), reason

    def _websocket(self, check: Check, walk: Walk) -> tuple[str, str, str]:
        send = dict(check.get("send", {}))
        target = yjs_client.Target(
            url=check["url"],
            connect_to=self.connect_to,
            origin=send.pop("Origin", None),
            headers=send,
            context=self.context if check["url"].startswith("wss") else None,
            timeout=self.timeout,
        )
        wanted = check.get("status") or ([401] if check["mode"] == "admit" else [])
        try:
            came = asyncio.run(converse(target, check))
        except http_client.ProbeError as error:
            if isinstance(error.kind, int) and error.kind in wanted:
                return "ok", f"{error.kind}", ""
            raise
        if check.get("status"):
            return "failed", f"the socket was accepted ({came})", "the handshake does not check Origin or login"
        return "ok", came, ""


async def converse(target: yjs_client.Target, check: Check) -> str:
    """Run a WebSocket check by its mode; return what was seen."""
    mode = check["mode"]
    text = f"fivepointers-{secrets.token_hex(4)}"
    if mode == "yjs":
        return await yjs_client.co_edit(target, check["clients"])
    if mode == "echo":
        return await yjs_client.echo(target, text)
    if mode == "broadcast":
        return await yjs_client.broadcast(target, text)
    return await yjs_client.handshake(target, login=mode == "admit")


def describe_question(check: Check, connect_to: str | None) -> str:
    """The request in one line: method, address, the headers that matter; never a body."""
    if check["do"] == "websocket":
        verb = "open" if check["mode"] == "admit" else check["mode"]
        text = f"{verb} a WebSocket at {check['url']}"
        if verb != "open":
            text = f"{verb} over a WebSocket at {check['url']}"
    elif check["do"] == "certificate":
        text = f"TLS handshake for {urlsplit(check['url']).hostname}"
    else:
        text = f"{check.get('method', 'GET')} {check['url']}"
    sent = [
        f"{key} {value}"
        for key, value in check.get("send", {}).items()
        if re.match(r"(?i)origin$|access-control-", key)
    ]
    if sent:
        text += f" with {', '.join(sent)}"
    return f"{text}, at {connect_to}" if connect_to else text


def make_result(
    check: Check,
    level: str,
    asked: str,
    came: str,
    seconds: float,
    likely: str = "",
    hidden: Sequence[str] | set[str] = (),
) -> Result:
    """One line of the report."""
    came, likely = readable(came), readable(likely)
    return {
        "check": check["name"],
        "service": check["service"],
        "asked": asked,
        "expected": masked(expected_text(check), hidden),
        "came": came,
        "ok": level in ("ok", "warning"),
        "level": level,
        "seconds": round(seconds, 3),
        "likely": likely if level in ("failed", "warning") else "",
        "look": check.get("where", "") if level == "failed" else "",
    }


def packages_needed(checks: Sequence[Check]) -> list[str]:
    """The Python packages that these checks need beyond the standard library."""
    steps = [step for check in checks for step in check.get("steps", [check])]
    modes = {step["mode"] for step in steps if step["do"] == "websocket"}
    return (["websockets"] if modes else []) + (["pycrdt"] if "yjs" in modes else [])


def _found(patterns: Sequence[str], text: str) -> list[str]:
    return [match.group(0) for match in (re.search(pattern, text) for pattern in patterns) if match]
