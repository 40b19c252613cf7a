# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The report of a deployment: budgets, the terminal's table, and the page, also of reports that mean harm."""

from __future__ import annotations

import base64
import copy
import hashlib
import math
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import report as deploy_report
from hypothesis import given, settings
from hypothesis import strategies as st

STARTED = 1795567310.0
BUDGET = {"failed": 0, "longest_stall_ms": 500, "latency_p99_ms": 300, "edit_delay_ms": 1000, "sockets_out_ms": 1000}
LATENCY = {"p50": 3.1, "p95": 9.0, "p99": 52.0, "max": 138.0, "max_at": 4.0}

OUTAGE = {"at": 10.0, "until": 10.24, "service": "collab", "who": "client 1", "what": "closed (1012)", "attempts": 1}


def service(failed: int = 0, stall: int = 40, **changes: Any) -> dict[str, Any]:
    return {
        "requests": 100,
        "failed": failed,
        "latency_ms": dict(LATENCY),
        "longest_stall_ms": stall,
        "longest_stall_at": 9.2,
        **changes,
    }


def probe(**changes: Any) -> dict[str, Any]:
    """A measurement: quiet, but for what is changed."""
    return {
        "started": STARTED + 0.5,
        "seconds": 20.0,
        "requests": 200,
        "failed": 0,
        "unanswered": 0,
        "unsent": 0,
        "latency_ms": dict(LATENCY),
        "longest_stall_ms": 40,
        "longest_stall_at": 9.2,
        "by_service": {"api": service(), "frontend": service()},
        "failures": [],
        "failed_at": [],
        "sockets": {
            "services": ["collab"],
            "closed": 2,
            "codes": {"1012": 2},
            "longest_out_ms": 240,
            "longest_out_at": 10.0,
            "outages": [OUTAGE],
            "edit_delay_ms": {"p50": 2.0, "max": 90.0, "max_at": 10.0},
            "edits": 20,
            "edits_missing": 0,
        },
        "services": ["api", "frontend"],
        "samples": [[at / 10, 3.0 + at % 7, 1, at % 2] for at in range(200)],
        "down_before": {},
        "unmeasured": [],
        **changes,
    }


def step(name: str, host: str, start: float, end: float, *services: str) -> dict[str, Any]:
    return {"name": name, "host": host, "start": start, "end": end, "services": list(services)}


def report(**changes: Any) -> dict[str, Any]:
    return {
        "deployment": "20261125T004155Z-ab12",
        "environment": "production",
        "by": "ann@desk",
        "started": "2026-11-25T00:41:50Z",
        "seconds": 20.5,
        "outcome": "committed",
        "message": "",
        "services": {
            "api": {"from": "9f2c1d77aa01", "to": "f52cb87d9735", "hosts": ["api-1", "api-2"]},
            "collab": {"from": "", "to": "c0ffee123456", "hosts": ["collab-1"]},
        },
        "steps": [
            step("prepare", "api-1", 0.6, 5.1, "api"),
            step("prepare", "collab-1", 0.6, 4.1, "collab"),
            step("migrate", "api-1", 5.2, 7.0, "api"),
            step("switch", "api-1", 8.0, 8.4, "api"),
            step("switch", "api-2", 8.0, 8.5, "api"),
            step("switch", "collab-1", 9.9, 10.5, "collab"),
            step("verify", "", 10.5, 16.0),
            step("commit", "api-1", 16.1, 18.0, "api"),
        ],
        "probe": probe(),
        "budget": dict(BUDGET),
        "over_budget": [],
        **changes,
    }


def outage() -> dict[str, Any]:
    return probe(
        failed=7,
        failed_at=[9.2, 10.1],
        longest_stall_ms=906,
        by_service={"frontend": service(), "api": service(7, 906)},
        failures=[{"at": 9.2, "service": "api", "url": "https://api.example.com/health", "what": "502 Bad Gateway"}],
        samples=[*[[at / 10, 3.0, 1, 0] for at in range(90)], *[[9.2 + at / 10, 1.0, 0, 0] for at in range(7)]],
    )


# --- budgets ----------------------------------------------------------------------


SOCKETS = probe()["sockets"]
CASES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (probe(), BUDGET, []),
    (outage(), {}, []),
    (outage(), {"failed": None, "unknown": 0}, []),
    (outage(), {"failed": 7, "longest_stall_ms": 906}, []),
    (
        outage(),
        {"failed": 0},
        ["7 of 200 requests failed, 0 allowed, at 00:41:59.7 UTC until 00:42:00.6 UTC (api: 502 Bad Gateway)"],
    ),
    (outage(), {"longest_stall_ms": 500}, ["api did not respond for 906 ms, 500 ms allowed, from 00:41:59.7 UTC"]),
    (
        probe(),
        {"latency_p99_ms": 50},
        ["The p99 latency was 52 ms, 50 ms allowed; the slowest request took 138 ms at 00:41:54.5 UTC"],
    ),
    (
        probe(sockets={**SOCKETS, "edit_delay_ms": {"p50": 2.0, "max": 2310.0, "max_at": 10.0}}),
        {"edit_delay_ms": 1000},
        ["An edit took 2.31 s to arrive, 1.00 s allowed, written at 00:42:00.5 UTC"],
    ),
    (
        probe(sockets={**SOCKETS, "edits_missing": 3, "edit_delay_ms": {"p50": 2.0, "max": 9000, "max_at": 10.0}}),
        {"edit_delay_ms": 1000},
        ["An edit has not arrived after 9.00 s (3 missing), 1.00 s allowed, written at 00:42:00.5 UTC"],
    ),
    (
        probe(),
        {"sockets_out_ms": 100},
        ["A socket of collab was disconnected for 240 ms, 100 ms allowed, from 00:42:00.5 UTC (closed (1012))"],
    ),
    (
        probe(requests=0, unmeasured=["api never answered: refused"]),
        {"failed": 0},
        ["The budget cannot be checked, because nothing was measured: api never answered: refused."],
    ),
    (probe(unmeasured=["sites never answered: refused"]), BUDGET, []),
    (probe(requests=0), BUDGET, []),
]


@pytest.mark.parametrize("measured, budget, texts", CASES)
def test_what_is_over_budget_is_told_with_its_time(
    measured: dict[str, Any], budget: dict[str, Any], texts: list[str]
) -> None:
    assert deploy_report.over_budget(measured, budget) == texts


def test_a_budget_without_a_measurement_is_not_kept() -> None:
    assert len(deploy_report.over_budget(None, BUDGET)) == 1
    assert deploy_report.over_budget(None, {}) == []


def test_each_limit_can_be_broken() -> None:
    """And none breaks another."""
    measured = outage()
    measured["sockets"]["edit_delay_ms"]["max"] = 2000.0
    for key in deploy_report.LIMITS:
        assert len(deploy_report.over_budget(measured, {key: 0})) == 1, key
        assert deploy_report.over_budget(measured, {key: 10**9}) == [], key
    assert len(deploy_report.over_budget(measured, dict.fromkeys(deploy_report.LIMITS, 0))) == 5


# --- the table ---------------------------------------------------------------------


def test_the_table_says_that_no_candidate_got_ready() -> None:
    assert "no new release was prepared" in deploy_report.table(report(services={}, outcome="taken back"))


def test_a_rollback_with_other_secrets_says_which_release_it_restored() -> None:
    services = {"api": {"from": "f52cb87d9735", "to": "0123456789ab", "of": "9f2c1d77aa01", "hosts": ["api-1"]}}
    told = report(services=services)
    assert "secrets of now     0123456789ab is 9f2c1d77aa01" in deploy_report.table(told).splitlines()
    assert "0123456789ab: 9f2c1d77aa01 with the secrets of now" in deploy_report.html(told)
    assert "secrets of" not in deploy_report.table(report())


def test_the_table_says_what_an_operator_asks() -> None:
    over = deploy_report.over_budget(outage(), BUDGET)
    told = report(outcome="taken back", probe=outage(), over_budget=over, message="All is taken back.\n\nReally.")
    lines = deploy_report.table(told).splitlines()
    assert lines[0] == ("production: TAKEN BACK after 20.5 s, deployment 20261125T004155Z-ab12 by ann@desk")
    text = "\n".join(lines)
    for expected in (
        r"api +9f2c1d77aa01 +f52cb87d9735 +api-1, api-2$",
        r"collab +none +c0ffee123456 +collab-1$",
        r"switch +8\.0 s +2\.50 s +api-1, api-2, collab-1$",
        r"verify +10\.5 s +5\.50 s +front door$",
        r"api +100 +7 +3\.1 ms +52 ms +138 ms +906 ms$",
        r"sockets +2 closed \(2 × 1012\), disconnected for up to 240 ms; 20 edits, 0 missing, seen within 90 ms$",
        r"over budget: 7 of 200 requests failed, 0 allowed",
        r"over budget: api did not respond for 906 ms",
        r"All is taken back\.$",
        r"Really\.$",
    ):
        assert re.search(f"(?m)^{expected}", text), expected
    assert "migrate" in text and "take back " not in text


def test_a_large_deployment_fits_the_terminal_and_hides_no_failure() -> None:
    names = [f"service-with-a-long-name-{number}" for number in range(40)]
    hosts = [f"host-{number}_i-0123456789abcdef0" for number in range(60)]
    figures = {name: service() for name in names}
    figures[names[33]] = service(failed=5, stall=4000)
    told = report(
        outcome="failed",
        services={name: {"from": "a" * 40, "to": "b" * 40, "hosts": hosts} for name in names},
        steps=[step(name, host, 1, 2, *names) for name in deploy_report.STEPS for host in hosts],
        probe=probe(by_service=figures, services=names, unmeasured=["x" * 300] * 9, down_before={"sites": 2.0}),
        over_budget=["y" * 300] * 9,
        message="\n".join(f"line {number} of what happened" for number in range(50)),
    )
    lines = deploy_report.table(told).splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 110
    text = "\n".join(lines)
    assert "and 35 more services" in text and re.search(r"and \d+ more$", text, re.MULTILINE)
    assert re.search(r"service-with-a-lo… +100 +5 ", text)
    assert "line 0 of what happened" in text


# --- the page -----------------------------------------------------------------------

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """A page as a browser reads it: elements, their attributes, and all text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.said.append(data)

    def all(self, name: str, kind: str = "") -> list[dict[str, str | None]]:
        return [
            attributes
            for tag, attributes in self.elements
            if tag == name and (not kind or kind in (attributes.get("class") or "").split())
        ]

    @property
    def text(self) -> str:
        return "\n".join(self.said)


KNOWN = set(
    "html head meta title style body main header span h1 h2 p section ul li pre div strong small figure figcaption i "
    "svg g rect line text path table thead tbody tr th td footer".split()
)


def harmless(text: str) -> Page:
    """A page that fetches nothing, runs nothing, and is drawn where it should be."""
    page = Page(text)
    text.encode()
    for tag, attributes in page.elements:
        assert tag in KNOWN, tag
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("style", "src", "href", "action"), name
            if name in ("x", "y", "x1", "x2", "y1", "y2", "width", "height"):
                assert value is not None and math.isfinite(float(value)) and (float(value) >= 0 or "1" in name), (
                    attributes
                )
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style and "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = page.all("meta")[-1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"] == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)
    return page


def test_the_page_shows_what_was_done_and_what_users_met() -> None:
    told = report(outcome="taken back", probe=outage(), over_budget=["over <one>"], message="All is\ntaken back.")
    page = harmless(deploy_report.html(told))
    for text in ("production", "taken back", "over <one>", "All is\ntaken back.", "502 Bad Gateway", "c0ffee123456"):
        assert text in page.text
    assert "7" in page.said and "of 200 requests failed" in page.said
    assert len(page.all("svg")) == 2, "one for wide windows, one for phones"
    for number, name in enumerate(deploy_report.STEPS[:5]):
        drawn = [item for item in told["steps"] if item["name"] == name]
        assert len(page.all("rect", f"step-{number}")) == 2 * len(drawn), name
    assert len(page.all("rect", "step-5")) == 0
    assert len(page.all("rect", "stall")) == 2 and len(page.all("rect", "out")) == 2
    for kind, count in (("ok", 90), ("fail", 7)):
        paths = page.all("path", kind)
        assert len(paths) == 2
        assert {(path["d"] or "").count("M") for path in paths} == {count}
    # Two hosts are switched within a tenth of a second: one line. The other service has its own.
    assert len(page.all("line", "switch")) == 4
    assert "switch collab" in page.said and "switch api" in page.said
    assert page.all("div", "is-bad") and page.all("div", "is-good")


def test_flags_of_switches_cover_neither_each_other_nor_lines() -> None:
    steps = [step("switch", f"h{number}", 5, 6 + number * 0.4, f"service-{number}") for number in range(9)]
    for width in (1060, 400):
        drawing = deploy_report.Drawing(report(steps=steps), width)
        page = Page(drawing.svg())
        flags = page.all("text", "switch-name")
        assert 3 <= len(flags) <= 2 * deploy_report.Drawing.FLAGS
        places = [(float(flag["x"] or 0), float(flag["y"] or 0)) for flag in flags]
        for line in page.all("line", "switch"):
            at, top = float(line["x1"] or 0), float(line["y1"] or 0)
            assert not [1 for x, y in places if x < at < x + 60 and top < y - 4 and x - at != 5], (at, top, places)
        assert len({y for x, y in places}) > 1


def test_the_probe_s_times_are_drawn_at_the_deployment_s() -> None:
    told = report(probe=probe(samples=[[9.5, 3.0, 0, 0]], started=STARTED + 1.0))
    drawing = deploy_report.Drawing(told, 1060)
    page = Page(drawing.svg())
    x = float(re.match(r"M([\d.]+)", page.all("path", "fail")[0]["d"] or "")[1]) + 3  # type: ignore[index]
    assert x == pytest.approx(drawing.x(10.5), abs=0.2)
    for started, offset in ((STARTED + 2, 2.0), (STARTED - 5, 0.0), (STARTED + 10**6, 0.0), (0, 0.0), (None, 0.0)):
        assert deploy_report.probe_offset(report(probe=probe(started=started))) == offset
    assert deploy_report.probe_offset(report(started="2026-11-25T00:41:50.250Z")) == pytest.approx(0.25)
    assert deploy_report.probe_offset(report(started="yesterday")) == 0.0


def test_steps_at_the_same_time_on_one_host_are_drawn_below_each_other() -> None:
    steps = [
        step("prepare", "one", 1, 5, "api"),
        step("prepare", "one", 2, 4, "web"),
        step("switch", "one", 5, 6, "api"),
    ]
    page = Page(deploy_report.Drawing(report(steps=steps), 1060).svg())
    first, second = page.all("rect", "step-0")
    assert first["y"] != second["y"]
    assert page.all("rect", "step-2")[0]["y"] == first["y"]


def test_without_a_measurement_the_page_says_so() -> None:
    page = harmless(deploy_report.html(report(probe=None)))
    assert "User impact was not measured." in page.text
    assert "user impact        not measured" in deploy_report.table(report(probe=None))


def test_what_was_not_measured_and_what_was_down_before_is_told() -> None:
    measured = probe(unmeasured=["sites never answered"], down_before={"collab": 3.0}, unsent=4, unanswered=2)
    page = harmless(deploy_report.html(report(probe=measured)))
    for text in (
        "sites never answered",
        "collab did not respond until 3.5 s",
        "4 requests were not sent",
        "2 requests",
    ):
        assert text in page.text
    table = deploy_report.table(report(probe=measured))
    assert "not measured: sites never answered" in table and "already down       collab until 3.0 s" in table


HOSTILE = (
    '"><script>alert(1)</script>',
    "</style></title></svg><img src=x onerror=alert(1)>",
    "' onload='alert(1)",
    "&lt;b&gt; &amp; ]]> --> <!--",
    "\x1b[2J\x1b]0;x\x07\r\b\x00\x9b",
    "\ud800 \u202e \uffff",
)


def poisoned(value: Any, poison: str) -> Any:
    """A copy in which every text is poison, the keys of mappings by name too."""
    if isinstance(value, dict):
        named = all(isinstance(item, dict) for item in value.values())
        return {(poison + key if named else key): poisoned(item, poison) for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item, poison) for item in value]
    return poison + value if isinstance(value, str) else value


@pytest.mark.parametrize("poison", HOSTILE)
def test_texts_that_mean_harm_are_shown_and_do_none(poison: str) -> None:
    told = poisoned(report(probe=outage(), over_budget=["x"], message="y", outcome="failed"), poison)
    page = harmless(deploy_report.html(told))
    assert deploy_report.clean(poison) in page.text or "\n" in poison
    for text in (deploy_report.table(told), page.text, *deploy_report.over_budget(told["probe"], {"failed": 0})):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)


def test_attributes_are_escaped_too() -> None:
    (element,) = Page(deploy_report.tag("p", "x", title='"><b onclick="y">')).elements
    assert element == ("p", {"title": '"><b onclick="y">'})


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None, "7", True, -5, 10**30])
def test_figures_that_are_none_are_drawn_somewhere(odd: Any) -> None:
    figures = service(longest_stall_ms=odd, longest_stall_at=odd, latency_ms={"p50": odd, "p99": odd, "max": odd})
    measured = probe(
        started=odd, seconds=odd, samples=[[odd, odd, 1, 0], [1.0, odd, 0, 1]], by_service={"api": figures}
    )
    measured["sockets"] |= {"longest_out_ms": odd, "edit_delay_ms": {"max": odd}, "outages": [{**OUTAGE, "until": odd}]}
    told = report(
        probe=measured, seconds=odd, steps=[step("switch", "a", odd, 2.0, "api"), step("commit", "a", 1.0, odd)]
    )
    harmless(deploy_report.html(told))
    assert deploy_report.table(told)
    assert isinstance(deploy_report.over_budget(measured, BUDGET), list)


NUMBER = st.one_of(st.integers(-10, 10**7), st.floats(), st.none())
TEXT = st.text(max_size=12)
STEP = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*deploy_report.STEPS, "other"]),
        "host": st.sampled_from(["", "a", "b<"]),
        "start": NUMBER,
    },
    optional={"end": NUMBER, "services": st.lists(TEXT, max_size=3)},
)
SERVICE = st.fixed_dictionaries({}, optional={"requests": NUMBER, "failed": NUMBER, "longest_stall_ms": NUMBER})
PROBE = st.fixed_dictionaries(
    {
        "services": st.lists(TEXT, max_size=3),
        "samples": st.lists(
            st.tuples(NUMBER, NUMBER, st.sampled_from([0, 1]), st.integers(0, 3)).map(list), max_size=9
        ),
        "by_service": st.dictionaries(TEXT, SERVICE, max_size=8),
    },
    optional={
        "started": NUMBER,
        "seconds": NUMBER,
        "requests": st.integers(0, 10**6),
        "failed": st.integers(0, 9),
        "longest_stall_ms": NUMBER,
        "longest_stall_at": NUMBER,
        "failures": st.lists(
            st.fixed_dictionaries({"at": NUMBER, "service": TEXT, "url": TEXT, "what": TEXT}), max_size=3
        ),
        "sockets": st.fixed_dictionaries(
            {"services": st.lists(TEXT, max_size=2), "edits": st.integers(0, 5), "closed": st.integers(0, 5)},
            optional={
                "longest_out_ms": NUMBER,
                "edit_delay_ms": st.dictionaries(st.sampled_from(["p50", "max"]), NUMBER),
            },
        ),
        "unmeasured": st.lists(TEXT, max_size=2),
        "down_before": st.dictionaries(TEXT, NUMBER, max_size=2),
    },
)
CHANGE = st.fixed_dictionaries({"from": TEXT, "to": TEXT, "hosts": st.lists(TEXT)})
REPORT = st.fixed_dictionaries(
    {"deployment": TEXT, "environment": TEXT, "outcome": st.sampled_from([*deploy_report.OUTCOMES, "?"])},
    optional={
        "by": TEXT,
        "started": st.sampled_from(["2026-11-25T00:41:50Z", "", "?"]),
        "seconds": NUMBER,
        "message": st.text(max_size=99),
        "services": st.dictionaries(TEXT, CHANGE, max_size=9),
        "steps": st.lists(STEP, max_size=12),
        "probe": st.none() | PROBE,
        "budget": st.dictionaries(st.sampled_from(list(deploy_report.LIMITS)), st.integers(0, 999)),
        "over_budget": st.lists(TEXT, max_size=5),
    },
)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(REPORT)
def test_every_report_renders(told: dict[str, Any]) -> None:
    before = copy.deepcopy(told)
    harmless(deploy_report.html(told))
    lines = deploy_report.table(told).splitlines()
    assert 1 <= len(lines) <= 30 and max(map(len, lines)) <= 110
    deploy_report.over_budget(told.get("probe"), told.get("budget", {}))
    assert repr(told) == repr(before)
