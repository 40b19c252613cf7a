# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a deployment did and its impact on users, for a terminal and as a page. Pure functions over one report.

report: {deployment, environment, by, started (ISO), seconds, outcome, message, services: {name: {from, to, hosts}},
steps: [{name, services, host, start, end}], probe: what `deploy_probe` measured or None, budget, over_budget}. Times
of steps are seconds since `started`; those of the probe are seconds since its own start.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html as escaping
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: What a budget may limit: the unit, and what is counted or measured.
LIMITS = {
    "failed": ("", "failed requests"),
    "longest_stall_ms": ("ms", "longest time without a response"),
    "latency_p99_ms": ("ms", "99th percentile of latency"),
    "edit_delay_ms": ("ms", "time until others see an edit"),
    "sockets_out_ms": ("ms", "time a socket is disconnected"),
}
STEPS = ("prepare", "migrate", "switch", "verify", "commit", "take back")
# Of a run that retires services, and has no others.
ENDINGS = ("retire", "purge")
OUTCOMES = ("committed", "taken back", "failed")
WIDTH, LINES = 110, 30
UTC = datetime.timezone(datetime.timedelta(0))
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

Report = Mapping[str, Any]


# --- the budget -----------------------------------------------------------------


def over_budget(probe: Mapping[str, Any] | None, budget: Mapping[str, Any]) -> list[str]:
    """Measurements over the budget: the value, the limit, and when it happened."""
    limits = {key: value for key, value in (budget or {}).items() if key in LIMITS and value is not None}
    if not limits:
        return []
    probe = probe or {}
    if not probe or (probe.get("unmeasured") and not probe.get("requests")):
        why = "; ".join(probe.get("unmeasured", [])) or "there is no measurement"
        return [f"The budget cannot be checked, because nothing was measured: {why}."]
    sockets, latency = probe.get("sockets") or {}, probe.get("latency_ms") or {}
    found = {
        "failed": probe.get("failed"),
        "longest_stall_ms": probe.get("longest_stall_ms"),
        "latency_p99_ms": latency.get("p99"),
        "edit_delay_ms": (sockets.get("edit_delay_ms") or {}).get("max"),
        "sockets_out_ms": sockets.get("longest_out_ms"),
    }
    return [
        _over(key, found[key], limits[key], probe)
        for key in LIMITS
        if key in limits and _beyond(found[key], limits[key])
    ]


def _beyond(value: Any, limit: Any) -> bool:
    return _number(value) > _number(limit)


def _over(key: str, value: Any, limit: Any, probe: Mapping[str, Any]) -> str:
    allowed = f"{limit:,.0f} allowed" if key == "failed" else f"{duration(limit)} allowed"
    sockets = probe.get("sockets") or {}
    if key == "failed":
        times = probe.get("failed_at") or [failure["at"] for failure in probe.get("failures", [])]
        first = (probe.get("failures") or [{}])[0]
        which = f"{first.get('service')}: {first.get('what')}" if first else ""
        span = "" if not times else f", {_clock(probe, times[0])}"
        if len(times) > 1:
            span += f" until {_clock(probe, times[-1]).partition(' ')[2]}"
        text = f"{value:,} of {probe.get('requests', 0):,} requests failed, {allowed}{span} ({which})"
    elif key == "longest_stall_ms":
        worst = max((probe.get("by_service") or {"": {}}).items(), key=lambda item: _number(item[1].get(key)))
        text = f"{worst[0] or 'A service'} did not respond for {duration(value)}, {allowed}"
        text += f", from {_clock(probe, probe.get('longest_stall_at')).partition(' ')[2]}"
    elif key == "latency_p99_ms":
        text = f"The p99 latency was {duration(value)}, {allowed}; the slowest request took "
        latency = probe.get("latency_ms") or {}
        text += f"{duration(latency.get('max'))} {_clock(probe, latency.get('max_at'))}"
    elif key == "edit_delay_ms":
        missing = sockets.get("edits_missing") or 0
        verb = f"has not arrived after {duration(value)}" if missing else f"took {duration(value)} to arrive"
        verb += f" ({missing} missing)" if missing else ""
        text = f"An edit {verb}, {allowed}, written {_clock(probe, (sockets.get('edit_delay_ms') or {}).get('max_at'))}"
    else:
        at = sockets.get("longest_out_at")
        cause: Mapping[str, Any] = next((item for item in sockets.get("outages", []) if item.get("at") == at), {})
        whose = f" of {cause['service']}" if cause else ""
        text = f"A socket{whose} was disconnected for {duration(value)}, {allowed}"
        text += f", from {_clock(probe, at).partition(' ')[2]}"
        text += f" ({cause['what']})" if cause.get("what") else ""
    return clean(text)


def _clock(probe: Mapping[str, Any], at: Any) -> str:
    """When something happened, in the time of the hosts' logs if it is known."""
    started = _number(probe.get("started"))
    if not started:
        return f"at {_number(at):.1f} s"
    return f"at {_time(started + _number(at))} UTC"


def _time(epoch: float) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(epoch, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{epoch:.1f} s"
    return f"{moment:%H:%M:%S}.{moment.microsecond // 100000}"


# --- words and figures ------------------------------------------------------------


def clean(text: Any) -> str:
    """Text without characters that move a terminal's cursor or cannot be written to a file."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def duration(ms: Any) -> str:
    """Milliseconds as text."""
    value = _number(ms)
    if value < 9.95:
        return f"{value:.1f} ms".replace(".0 ms", " ms")
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.2f} s" if value < 9995 else f"{value / 1000:.1f} s"


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if math.isfinite(value) else 0.0


def _clip(text: Any, width: int) -> str:
    line = " ".join(clean(text).split())
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def _names(names: Iterable[Any], width: int) -> str:
    """Names joined by commas, and how many more there are."""
    listed = [clean(name) for name in names]
    for count in range(len(listed), 0, -1):
        more = f" and {len(listed) - count} more" if count < len(listed) else ""
        text = ", ".join(listed[:count]) + more
        if len(text) <= width:
            return text
    return _clip(", ".join(listed), width)


# --- the terminal -------------------------------------------------------------------


def table(report: Report) -> str:
    """What an operator reads at the end of a deployment: at most 30 lines of 110 columns."""
    probe = report.get("probe")
    lines = [_headline(report), *_service_lines(report, 5), *_step_lines(report)]
    if probe:
        lines += _probe_lines(probe, 4)
        lines += [f"not measured: {text}" for text in probe.get("unmeasured", [])[:1]]
    else:
        lines.append(f"{'user impact':<18} not measured")
    lines += [f"over budget: {text}" for text in report.get("over_budget", [])[:3]]
    if report.get("message"):
        text = [line for line in str(report["message"]).splitlines() if line.strip()]
        room = max(1, LINES - len(lines))
        lines += text[:room] if len(text) <= room else [*text[: room - 1], f"… {len(text) - room + 1} more lines"]
    return "\n".join(_line(line) for line in lines)


def _line(text: str) -> str:
    line = clean(text).replace("\n", " ").replace("\t", " ").rstrip()
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _headline(report: Report) -> str:
    took = duration(_number(report.get("seconds")) * 1000)
    return _clip(
        f"{report.get('environment')}: {str(report.get('outcome')).upper()} after {took}, deployment "
        f"{report.get('deployment')} by {report.get('by')}",
        WIDTH,
    )


def _service_lines(report: Report, most: int) -> list[str]:
    services = list((report.get("services") or {}).items())
    if not services:
        return [f"{'service':<18} no new release was prepared"]
    lines = [f"{'service':<18} {'from':<22} {'to':<22} hosts"]
    for name, change in services[:most]:
        was, now = _clip(change.get("from") or "none", 22), _clip(change.get("to"), 22)
        lines.append(f"{_clip(name, 18):<18} {was:<22} {now:<22} {_names(change.get('hosts', []), 44)}")
    if len(services) > most:
        lines.append(f"… and {len(services) - most} more services")
    newer = [f"{change.get('to')} is {change['of']}" for _name, change in services if change.get("of")]
    if newer:
        lines.append(f"{'secrets of now':<18} {_names(newer, 90)}")
    return lines


def _restored(change: Mapping[str, Any]) -> Any:
    of = change.get("of")
    return f"{change.get('to')}: {of} with the secrets of now" if of else change.get("to")


def _step_lines(report: Report) -> list[str]:
    steps = report.get("steps") or []
    lines = [f"{'step':<18} {'started':>8} {'took':>9}    hosts"] if steps else []
    for name in (*STEPS, *ENDINGS):
        those = [step for step in steps if step.get("name") == name]
        if those:
            start = min(_number(step.get("start")) for step in those)
            end = max(_number(step.get("end")) for step in those)
            hosts = dict.fromkeys(step.get("host") or "front door" for step in those)
            took = duration((end - start) * 1000)
            lines.append(f"{name:<18} {start:>6.1f} s {took:>9}    {_names(hosts, 68)}")
    return lines


def _probe_lines(probe: Mapping[str, Any], most: int) -> list[str]:
    columns = f"{'requests':>9} {'failed':>7} {'p50':>9} {'p99':>9} {'slowest':>9} {'stall':>9}"
    lines = [f"{'user impact':<18} {columns}"]
    services = list((probe.get("by_service") or {}).items())
    # The most affected services must not be among those left out.
    if len(services) > most:
        services.sort(key=lambda item: (-_number(item[1].get("failed")), -_number(item[1].get("longest_stall_ms"))))
    for name, figures in services[:most]:
        latency = figures.get("latency_ms") or {}
        times = [duration(latency.get(key)) for key in ("p50", "p99", "max")]
        times.append(duration(figures.get("longest_stall_ms")))
        counts = f"{_number(figures.get('requests')):>9,.0f} {_number(figures.get('failed')):>7,.0f}"
        lines.append(f"{_clip(name, 18):<18} {counts} " + " ".join(f"{text:>9}" for text in times))
    if len(services) > most:
        lines.append(f"… and {len(services) - most} more services")
    sockets = probe.get("sockets") or {}
    if sockets.get("edits") or sockets.get("closed"):
        lines.append(f"{'sockets':<18} {_sockets_text(sockets)}")
    if probe.get("down_before"):
        since = ", ".join(f"{name} until {_number(at):.1f} s" for name, at in probe["down_before"].items())
        lines.append(f"{'already down':<18} {since}; not counted as failed")
    return lines


def _sockets_text(sockets: Mapping[str, Any]) -> str:
    closed = _number(sockets.get("closed"))
    codes = ", ".join(f"{count} × {code}" for code, count in (sockets.get("codes") or {}).items())
    text = f"{closed:.0f} closed{f' ({codes})' if codes else ''}"
    if closed:
        text += f", disconnected for up to {duration(sockets.get('longest_out_ms'))}"
    delay, missing = sockets.get("edit_delay_ms") or {}, _number(sockets.get("edits_missing"))
    edits = f"{_number(sockets.get('edits')):.0f} edits, {missing:.0f} missing"
    return f"{text}; {edits}, seen within {duration(delay.get('max'))}"


# --- the page -----------------------------------------------------------------------


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *content: Any, **attributes: Any) -> Markup:
    """An element. Everything but Markup is escaped. Attributes with the value None are omitted; `_` becomes `-`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaping.escape(clean(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(item if isinstance(item, Markup) else escaping.escape(clean(item)) for item in content)
    return Markup(f"<{name}{given}>{inner}</{name}>")


def html(report: Report) -> str:
    """A self-contained page: no scripts, no external resources, and a policy that allows only its own style."""
    style = Markup(STYLE)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    title = _clip(f"{report.get('environment')}: {report.get('outcome')}, {report.get('deployment')}", 120)
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark"><meta http-equiv="Content-Security-Policy" content="'),
        Markup(f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">"),
        tag("title", title),
        tag("style", style),
    )
    body = tag(
        "body", tag("main", _header(report), *_verdict(report), _cards(report), _figure(report), *_tables(report))
    )
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _header(report: Report) -> Markup:
    outcome = str(report.get("outcome"))
    kind = OUTCOMES.index(outcome) if outcome in OUTCOMES else 2
    started = re.sub(r"T(\d\d:\d\d:\d\d)\S*", r" \1 UTC", str(report.get("started")))
    return tag(
        "header",
        tag("span", outcome, class_=f"outcome is-{('good', 'warn', 'bad')[kind]}"),
        tag("h1", report.get("environment")),
        tag("p", f"{report.get('deployment')} by {report.get('by')}, {started}", class_="muted"),
        tag("p", duration(_number(report.get("seconds")) * 1000), class_="took"),
    )


def _verdict(report: Report) -> list[Markup]:
    parts = []
    if report.get("over_budget"):
        items = [tag("li", text) for text in report["over_budget"]]
        parts.append(tag("section", tag("h2", "Over budget"), tag("ul", *items), class_="note is-bad"))
    if report.get("message"):
        kind = "bad" if report.get("outcome") == "failed" else "warn"
        parts.append(
            tag("section", tag("h2", "What happened"), tag("pre", report["message"]), class_=f"note is-{kind}")
        )
    unmeasured = (report.get("probe") or {}).get("unmeasured")
    if unmeasured:
        items = [tag("li", text) for text in unmeasured]
        parts.append(tag("section", tag("h2", "Not measured"), tag("ul", *items), class_="note"))
    return parts


def _cards(report: Report) -> Markup:
    probe = report.get("probe")
    if not probe:
        return tag("p", "User impact was not measured.", class_="muted")
    budget, sockets = report.get("budget") or {}, probe.get("sockets") or {}
    latency, delay = probe.get("latency_ms") or {}, sockets.get("edit_delay_ms") or {}
    cards = [
        ("failed", probe.get("failed"), f"of {_number(probe.get('requests')):,.0f} requests failed"),
        ("longest_stall_ms", probe.get("longest_stall_ms"), "longest time without a response"),
        ("latency_p99_ms", latency.get("p99"), f"p99 latency, median {duration(latency.get('p50'))}"),
    ]
    if sockets.get("edits") or sockets.get("closed"):
        closed = _number(sockets.get("closed"))
        cards += [
            ("sockets_out_ms", sockets.get("longest_out_ms"), f"longest disconnected socket, {closed:.0f} closed"),
            ("edit_delay_ms", delay.get("max"), f"slowest of {_number(sockets.get('edits')):.0f} edits to arrive"),
        ]
    return tag("section", *(_card(key, value, text, budget.get(key)) for key, value, text in cards), class_="cards")


def _card(key: str, value: Any, text: str, limit: Any) -> Markup:
    shown = f"{_number(value):,.0f}" if key == "failed" else duration(value)
    allowed, kind = "no limit set", ""
    if limit is not None:
        allowed = f"{_number(limit):,.0f} allowed" if key == "failed" else f"{duration(limit)} allowed"
        kind = " is-bad" if _beyond(value, limit) else " is-good"
    return tag(
        "div",
        tag("strong", shown),
        tag("span", text),
        tag("small", ("over: " if kind == " is-bad" else "") + allowed),
        class_=f"card{kind}",
    )


def _figure(report: Report) -> Markup:
    keys = [tag("span", tag("i", class_=f"key step-{STEPS.index(name)}"), name) for name in _used_steps(report)]
    probe = report.get("probe") or {}
    if any(step.get("name") == "switch" for step in report.get("steps") or []):
        keys.append(tag("span", tag("i", class_="key key-switch"), "switched"))
    if probe.get("samples"):
        keys.append(tag("span", tag("i", class_="key key-ok"), "answered"))
    if probe.get("failed"):
        keys.append(tag("span", tag("i", class_="key key-fail"), "failed"))
    if any(_stalled(figures) for figures in (probe.get("by_service") or {}).values()):
        keys.append(tag("span", tag("i", class_="key key-stall"), "longest time without a response"))
    if (probe.get("sockets") or {}).get("services"):
        keys.append(tag("span", tag("i", class_="key key-open"), "socket open"))
    if (probe.get("sockets") or {}).get("closed"):
        keys.append(tag("span", tag("i", class_="key key-out"), "socket disconnected"))
    return tag(
        "figure",
        tag("div", Drawing(report, 1060).svg(), class_="wide"),
        tag("div", Drawing(report, 400).svg(), class_="narrow"),
        tag("figcaption", *keys),
    )


def _stalled(figures: Mapping[str, Any]) -> bool:
    """Whether the longest time without a response is worth drawing."""
    return _number(figures.get("longest_stall_ms")) >= 100 or bool(figures.get("failed"))


def _used_steps(report: Report) -> list[str]:
    there = {step.get("name") for step in report.get("steps") or []}
    return [name for name in STEPS if name in there]


def probe_offset(report: Report) -> float:
    """Seconds from the start of the deployment to that of the probe."""
    probe = report.get("probe") or {}
    text = str(report.get("started")).replace("Z", "+00:00")
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    offset = _number(probe.get("started")) - moment.timestamp()
    return offset if 0 <= offset < 3600 else 0.0


class Drawing:
    """The timeline at one width, drawn from top to bottom; `y` is the current position."""

    HOSTS = 16
    FLAGS = 4
    ROW = 20

    def __init__(self, report: Report, width: int) -> None:
        self.report = report
        self.probe = report.get("probe") or {}
        self.offset = probe_offset(report)
        self.width = width
        self.narrow = width < 600
        self.left = 8 if self.narrow else 170
        self.right = width - 14
        self.y = 0.0
        self.tops: dict[float, float] = {}
        self.back: list[Markup] = []
        self.front: list[Markup] = []
        steps = report.get("steps") or []
        ends = [_number(report.get("seconds")), *(_number(step.get("end")) for step in steps)]
        ends += [_number(step.get("start")) for step in steps]
        ends.append(self.offset + _number(self.probe.get("seconds")))
        self.end = max(1.0, *ends)
        self.start = min([0.0, *(_number(step.get("start")) for step in steps)])

    def x(self, seconds: Any) -> float:
        """The x coordinate of a time of the deployment."""
        share = (_number(seconds) - self.start) / (self.end - self.start)
        return round(self.left + min(1.0, max(0.0, share)) * (self.right - self.left), 1)

    def svg(self) -> Markup:
        """The whole drawing."""
        self._switch_names()
        top = self.y
        self._steps()
        self._services()
        self._sockets()
        bottom = self.y + 4
        self._axis(top, bottom)
        for at, begin in self.tops.items():
            line = tag("line", x1=self.x(at), x2=self.x(at), y1=begin - 4, y2=bottom, class_="switch")
            self.back.append(line)
        label = "Timeline of the deployment: steps by host, and user impact"
        return tag(
            "svg", *self.back, *self.front, viewBox=f"0 0 {self.width} {self.y + 2:.0f}", role="img", aria_label=label
        )

    def _text(self, x: float, y: float, text: str, kind: str = "", anchor: str | None = None) -> None:
        self.front.append(tag("text", text, x=round(x, 1), y=round(y, 1), class_=kind or None, text_anchor=anchor))

    def _lane(self, name: Any, note: str = "", height: float = ROW) -> float:
        """Label the next lane, and return where it begins."""
        if self.narrow:
            self._text(self.left, self.y + 14, _clip(f"{name}, {note}" if note else name, 56), "lane")
            self.y += 19
            return self.y
        self._text(
            self.left - 14, self.y + (14 if height <= self.ROW else height / 2 - 2), _clip(name, 23), "lane", "end"
        )
        if note:
            self._text(self.left - 14, self.y + height / 2 + 13, _clip(note, 26), "muted", "end")
        return self.y

    def _heading(self, text: str) -> None:
        self.y += 12
        self.back.append(tag("line", x1=0, x2=self.width, y1=self.y, y2=self.y, class_="rule"))
        self._text(0 if not self.narrow else self.left, self.y + 17, text, "heading")
        self.y += 26

    def _switches(self) -> dict[float, list[str]]:
        """The times at which new requests went to other releases, with the services; close ones are merged."""
        found: dict[float, list[str]] = {}
        steps = [step for step in self.report.get("steps") or [] if step.get("name") == "switch"]
        last = None
        for step in sorted(steps, key=lambda step: _number(step.get("end"))):
            at = _number(step.get("end"))
            if last is None or self.x(at) - self.x(last) > 8:
                last = at
            names = found.setdefault(last, [])
            names += [name for name in map(clean, step.get("services", [])) if name not in names]
        return found

    def _switch_names(self) -> None:
        """Flags on top of the lines: an earlier one is drawn above those that it would cover."""
        flags: list[tuple[float, str, float, int]] = []
        before = ""
        for at, names in self._switches().items():
            text = _clip("switch " + _names(names, 30), 38)
            if text == before:
                # Another host of the same services.
                self.tops[at] = 0.0
                continue
            flags.append((at, text, len(text) * 6.6 + 8, 0))
            before = text
        for index in reversed(range(len(flags))):
            at, text, width, _row = flags[index]
            covered = [row for other, _text, _width, row in flags[index + 1 :] if self.x(other) < self.x(at) + width]
            flags[index] = (at, text, width, 1 + max(covered, default=-1))
        rows = min(self.FLAGS, 1 + max((row for *_flag, row in flags), default=-1))
        self.y = 16.0 * rows + 6
        for at, text, width, row in flags:
            self.tops[at] = 0.0 if row >= rows else self.y - 8 - 16 * row
            if row < rows:
                x, fits = self.x(at), self.x(at) + width < self.right
                self._text(x + (5 if fits else -5), self.tops[at] + 5, text, "switch-name", None if fits else "end")
        self.tops = {at: top or self.y for at, top in self.tops.items()}

    def _steps(self) -> None:
        steps = list(self.report.get("steps") or [])
        if not steps:
            return
        self._heading("Steps by host")
        hosts: dict[str, list[Mapping[str, Any]]] = {}
        for step in sorted(steps, key=lambda step: _number(step.get("start"))):
            hosts.setdefault(str(step.get("host") or ""), []).append(step)
        order = sorted(hosts, key=lambda host: (host == "", -1 if not host else 0))
        for host in order[: self.HOSTS]:
            lane = self._lane(host or "front door")
            ends: list[float] = []
            for step in hosts[host]:
                start, end = _number(step.get("start")), _number(step.get("end"))
                row = next((row for row, until in enumerate(ends) if until <= start + 1e-6), len(ends))
                ends[row : row + 1] = [max(start, end)]
                self._bar(step, lane + row * self.ROW)
            self.y = lane + len(ends) * self.ROW + 4
        if len(order) > self.HOSTS:
            self._text(self.left, self.y + 14, f"and {len(order) - self.HOSTS} more hosts", "muted")
            self.y += self.ROW

    def _bar(self, step: Mapping[str, Any], y: float) -> None:
        name = clean(step.get("name"))
        number = STEPS.index(name) if name in STEPS else 0
        start, end = _number(step.get("start")), _number(step.get("end"))
        x, width = self.x(start), max(3.0, round(self.x(end) - self.x(start) - 1, 1))
        services = _names(step.get("services", []), 60)
        title = f"{name} {services} on {step.get('host') or 'the front door'}: {start:.2f} s to {end:.2f} s"
        rect = tag("rect", x=x, y=round(y + 1, 1), width=width, height=17, rx=3, class_=f"step-{number}")
        self.front.append(tag("g", tag("title", title), rect))
        for text in (f"{name}: {services}" if services else name, name):
            if len(text) * 6.4 + 10 < width:
                self._text(x + 6, y + 13.5, text, f"in-bar on-{number}")
                break

    def _services(self) -> None:
        names = [str(name) for name in self.probe.get("services") or []]
        if not names:
            return
        self._heading("User impact: each request, by latency")
        samples: dict[int, list[Sequence[Any]]] = {}
        slowest = 0.0
        for sample in self.probe.get("samples") or []:
            samples.setdefault(int(_number(sample[3])), []).append(sample)
            slowest = max(slowest, _number(sample[1]))
        decades = max(2, math.ceil(math.log10(max(slowest, 1.0)) - 1e-9))
        for index, name in enumerate(names):
            figures = (self.probe.get("by_service") or {}).get(name) or {}
            note = f"{_number(figures.get('failed')):,.0f} of {_number(figures.get('requests')):,.0f} failed"
            height = 76.0
            lane = self._lane(name, note, height)
            self._panel(lane, height, decades)
            self._stall(figures, lane, height)
            self._dots(samples.get(index, []), lane, height, decades)
            self.y = lane + height + 12

    def _panel(self, top: float, height: float, decades: int) -> None:
        frame = {"x": self.left, "width": self.right - self.left}
        self.back.append(tag("rect", y=top, height=height, rx=4, class_="panel", **frame))
        for decade in range(1, decades):
            y = round(top + height * (1 - decade / decades), 1)
            self.back.append(tag("line", x1=self.left, x2=self.right, y1=y, y2=y, class_="grid"))
            self._text(self.right - 4, y - 3, duration(10**decade), "muted", "end")

    def _stall(self, figures: Mapping[str, Any], top: float, height: float) -> None:
        ms = _number(figures.get("longest_stall_ms"))
        at = _number(figures.get("longest_stall_at")) + self.offset
        if not _stalled(figures):
            return
        x, end = self.x(at), self.x(at + ms / 1000)
        width = max(2.0, round(end - x, 1))
        self.back.append(tag("rect", x=x, y=top, width=width, height=height, class_="stall"))
        text = duration(ms) if self.narrow else f"{duration(ms)} without a response"
        room = len(text) * 6.2 + 8
        anchor = None if end + room < self.right else "end"
        self._text(end + 5 if anchor is None else x - 5, top + 14, text, "stall-name", anchor)

    def _dots(self, samples: Iterable[Sequence[Any]], top: float, height: float, decades: int) -> None:
        good, bad = [], []
        for at, ms, ok, *_rest in samples:
            share = min(1.0, max(0.0, math.log10(max(_number(ms), 1.0)) / decades))
            x, y = self.x(_number(at) + self.offset), round(top + 4 + (height - 8) * (1 - share), 1)
            if ok:
                good.append(f"M{x:g} {y:g}h0")
            else:
                bad.append(f"M{x - 3:g} {y - 3:g}l6 6m-6 0l6-6")
        for paths, kind in ((good, "ok"), (bad, "fail")):
            if paths:
                self.front.append(tag("path", d="".join(paths), class_=kind))

    def _sockets(self) -> None:
        sockets = self.probe.get("sockets") or {}
        services = [str(name) for name in sockets.get("services") or []]
        if not services or not (sockets.get("edits") or sockets.get("closed")):
            return
        self._heading("Two clients in one document: when their sockets were open")
        begin, end = self.x(self.offset), self.x(self.offset + _number(self.probe.get("seconds")))
        for service in services:
            outages = [item for item in sockets.get("outages") or [] if str(item.get("service")) == service]
            note = "" if outages else "never closed"
            lane = self._lane(service, note, 44.0)
            for row, who in enumerate(("client 1", "client 2")):
                y = lane + 18 * row + 9
                self.back.append(tag("line", x1=begin, x2=end, y1=y, y2=y, class_="open"))
                for outage in outages:
                    if outage.get("who") == who:
                        self._outage(outage, y)
            self.y = lane + 40
        self._delay(sockets)

    def _outage(self, outage: Mapping[str, Any], y: float) -> None:
        at, until = _number(outage.get("at")), _number(outage.get("until"))
        x = self.x(at + self.offset)
        width = max(3.0, round(self.x(until + self.offset) - x, 1))
        took = duration((until - at) * 1000)
        title = f"{outage.get('who')} was disconnected for {took}: {outage.get('what')}"
        rect = tag("rect", x=x, y=y - 6, width=width, height=12, rx=2, class_="out")
        self.front.append(tag("g", tag("title", title), rect))
        if x + width + 60 < self.right:
            self._text(x + width + 5, y - 3, took, "muted")

    def _delay(self, sockets: Mapping[str, Any]) -> None:
        delay = sockets.get("edit_delay_ms") or {}
        if not _number(delay.get("max")):
            return
        missing = _number(sockets.get("edits_missing"))
        text = f"{'' if self.narrow else 'slowest '}edit seen after {duration(delay.get('max'))}"
        text += f"; {missing:.0f} not seen" if missing else ""
        x = self.x(_number(delay.get("max_at")) + self.offset)
        room = len(text) * 6.2 + 10
        anchor = None if x + room < self.right else "end"
        self._text(x + (7 if anchor is None else -7), self.y + 8, text, "muted", anchor)
        mark = f"M{x:g} {self.y - 2:g}l4 10h-8z"
        self.front.append(tag("path", d=mark, class_="edit"))
        self.y += 16

    def _axis(self, top: float, bottom: float) -> None:
        span = self.end - self.start
        wanted = 4 if self.narrow else 9
        step = next((step for step in _steps_of_axis() if span / step <= wanted), span)
        first = math.ceil(self.start / step)
        for number in range(first, first + wanted + 2):
            at = number * step
            if at > self.end + 1e-9:
                break
            x = self.x(at)
            self.back.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
            edge = "start" if x < self.left + 10 else "end" if x > self.right - 14 else "middle"
            self._text(x, bottom + 16, f"{at:g} s", "muted", edge)
        self.y = bottom + 22


def _steps_of_axis() -> Iterable[float]:
    return (base * 10.0**power for power in range(-1, 13) for base in (1, 2, 5))


def _tables(report: Report) -> list[Markup]:
    probe = report.get("probe") or {}
    offset = probe_offset(report)
    parts = [
        _rows(
            "Services",
            ("service", "from", "to", "hosts"),
            [
                (name, item.get("from") or "none", _restored(item), ", ".join(map(clean, item.get("hosts", []))))
                for name, item in (report.get("services") or {}).items()
            ],
            "No service changed.",
        ),
        _rows(
            "Requests",
            ("service", "#requests", "#failed", "#median", "#p95", "#p99", "#slowest", "#without a response"),
            [_measured(name, item) for name, item in (probe.get("by_service") or {}).items()],
        ),
        _rows(
            "First failures",
            ("#at", "time", "service", "error", "address"),
            [
                (_seconds(item, offset), _clock(probe, item.get("at"))[3:], *map(item.get, ("service", "what", "url")))
                for item in probe.get("failures") or []
            ],
        ),
        _rows(
            "Disconnected sockets",
            ("#at", "time", "service", "client", "#disconnected for", "#failed attempts", "cause"),
            [
                (
                    _seconds(item, offset),
                    _clock(probe, item.get("at"))[3:],
                    item.get("service"),
                    item.get("who"),
                    duration((_number(item.get("until")) - _number(item.get("at"))) * 1000),
                    item.get("attempts"),
                    item.get("what"),
                )
                for item in (probe.get("sockets") or {}).get("outages") or []
            ],
        ),
        _rows(
            "Steps",
            ("step", "host", "services", "#started", "#took"),
            [
                (
                    step.get("name"),
                    step.get("host") or "front door",
                    ", ".join(map(clean, step.get("services", []))),
                    f"{_number(step.get('start')):.1f} s",
                    duration((_number(step.get("end")) - _number(step.get("start"))) * 1000),
                )
                for step in report.get("steps") or []
            ],
        ),
    ]
    notes = []
    if probe:
        thinned = _number(probe.get("requests")) - len(probe.get("samples") or [])
        notes.append(
            "Requests were sent at a steady rate through the front door, half of them on new connections, without "
            "retries. Time without a response runs from a request until the address responds again."
        )
        if thinned > 0:
            notes.append(f"{thinned:,.0f} requests are counted but not drawn; of neighbours, the slowest is drawn.")
        for name, at in (probe.get("down_before") or {}).items():
            notes.append(f"{name} did not respond until {_number(at) + offset:.1f} s; this is not counted as failed.")
        if probe.get("unsent"):
            notes.append(f"{probe['unsent']} requests were not sent, because too many were waiting for a response.")
        if probe.get("unanswered"):
            notes.append(f"{probe['unanswered']} requests were still waiting when the measurement ended.")
    parts.append(tag("footer", *(tag("p", note) for note in notes)))
    return parts


def _measured(name: Any, item: Mapping[str, Any]) -> tuple[Any, ...]:
    latency = item.get("latency_ms") or {}
    times = [duration(latency.get(key)) for key in ("p50", "p95", "p99", "max")]
    counts = [f"{_number(item.get(key)):,.0f}" for key in ("requests", "failed")]
    return (name, *counts, *times, duration(item.get("longest_stall_ms")))


def _seconds(item: Mapping[str, Any], offset: float) -> str:
    return f"{_number(item.get('at')) + offset:.1f} s"


def _rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str = "") -> Markup:
    """A table under a title; a column whose name starts with # holds figures."""
    if not rows:
        return tag("section", tag("h2", title), tag("p", empty, class_="muted")) if empty else Markup("")
    kinds = ["figure" if column.startswith("#") else None for column in columns]
    head = [tag("th", column.lstrip("#"), class_=kinds[at], scope="col") for at, column in enumerate(columns)]
    body = [tag("tr", *(tag("td", value, class_=kinds[at]) for at, value in enumerate(row))) for row in rows]
    filled = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("section", tag("h2", title), tag("div", filled, class_="scroll"))


STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--paper:#fff;--ink:#1b2330;--soft:#5b6675;--line:#e1e5ea;--panel:#f8f9fb;
--good:#13795b;--warn:#9a5b00;--bad:#c22f3d;--good-back:#e3f4ed;--warn-back:#fdf1dd;--bad-back:#fdeaec;--dot:#2b8a9d;
--s0:#66758a;--s1:#8c62c7;--s2:#2f5fd0;--s3:#2b8a9d;--s4:#2c9165;--s5:#c9760c;--switch:#2f5fd0;--on:#fff}
@media (prefers-color-scheme:dark){:root{--page:#11151b;--paper:#191f28;--ink:#e6eaf0;--soft:#98a4b3;--line:#2c3541;
--panel:#1e2530;--good:#52c99c;--warn:#eab15a;--bad:#ff7b86;--good-back:#15322a;--warn-back:#38290f;--bad-back:#3c1c21;
--dot:#56bccf;--s0:#77869a;--s1:#b08fe6;--s2:#7da2ff;--s3:#56bccf;--s4:#52c08e;--s5:#eba040;--switch:#7da2ff;--on:#10151c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1140px;margin:0 auto;padding:28px 20px 48px}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 14px;margin-bottom:20px}
h1{font-size:26px;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:15px;margin:0 0 8px}
header p{margin:0;overflow-wrap:anywhere}
header .muted{flex-basis:100%;order:2}
.took{font-size:20px;color:var(--soft);font-variant-numeric:tabular-nums}
.outcome{font-weight:650;font-size:14px;border-radius:99px;padding:3px 12px;align-self:center}
.is-good{--tone:var(--good);--back:var(--good-back)}.is-warn{--tone:var(--warn);--back:var(--warn-back)}
.is-bad{--tone:var(--bad);--back:var(--bad-back)}
.outcome{color:var(--tone);background:var(--back)}
.muted{color:var(--soft)}
.note{border:1px solid var(--line);border-left:4px solid var(--tone,var(--s0));background:var(--back,var(--paper));
border-radius:8px;padding:12px 16px;margin:0 0 14px}
.note h2{color:var(--tone,var(--ink))}
.note ul{margin:0;padding-left:18px}
.note li,pre{overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:0 0 16px}
.card{background:var(--paper);border:1px solid var(--line);border-top:3px solid var(--tone,var(--line));
border-radius:8px;padding:10px 14px;display:flex;flex-direction:column}
.card strong{font-size:24px;line-height:1.25;font-variant-numeric:tabular-nums;color:var(--tone,var(--ink))}
.card small{color:var(--tone,var(--soft));margin-top:auto;padding-top:4px}
figure,.scroll{background:var(--paper);border:1px solid var(--line);border-radius:8px}
figure{margin:0 0 24px;padding:16px}
figcaption{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--soft);font-size:13px;padding-top:12px}
figcaption span{display:inline-flex;align-items:center;gap:6px}
svg{display:block;width:100%;height:auto;font:11.5px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink)}
.narrow{display:none}
section{margin:0 0 22px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:7px 14px;white-space:nowrap;vertical-align:top}
td{border-top:1px solid var(--line)}
th{color:var(--soft);font-weight:550;font-size:13px}
.figure{text-align:right;font-variant-numeric:tabular-nums}
footer{color:var(--soft);font-size:13px}
footer p{margin:0 0 4px}
.lane{font-weight:600;font-size:12px}.heading{font-size:12px;fill:var(--soft)}
svg .muted{fill:var(--soft);font-size:10.5px}
svg text{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}svg .in-bar{stroke:none}
.rule,.grid{stroke:var(--line);stroke-width:1}.panel{fill:var(--panel)}
.switch{stroke:var(--switch);stroke-width:1.5;stroke-dasharray:4 3}.switch-name{fill:var(--switch);font-weight:600}
.step-0{fill:var(--s0)}.step-1{fill:var(--s1)}.step-2{fill:var(--s2)}.step-3{fill:var(--s3)}.step-4{fill:var(--s4)}
.step-5{fill:var(--s5)}.in-bar{fill:var(--on);font-size:11px}
.ok{fill:none;stroke:var(--dot);stroke-width:4;stroke-linecap:round;stroke-opacity:.8}
.fail{fill:none;stroke:var(--bad);stroke-width:2;stroke-linecap:round}
.stall{fill:var(--bad);fill-opacity:.13}.stall-name{fill:var(--bad);font-size:11px;font-weight:600}
.open{stroke:var(--s4);stroke-width:4;stroke-linecap:round}.out{fill:var(--bad)}.edit{fill:var(--s1)}
.key{width:14px;height:12px;border-radius:3px;background:currentColor;flex:none}
.key.step-0{color:var(--s0)}.key.step-1{color:var(--s1)}.key.step-2{color:var(--s2)}.key.step-3{color:var(--s3)}
.key.step-4{color:var(--s4)}.key.step-5{color:var(--s5)}
.key-switch{width:0;border-left:2px dashed var(--switch);border-radius:0;height:14px;background:none}
.key-ok{color:var(--dot);width:8px;height:8px;border-radius:50%}
.key-fail{background:none;position:relative;color:var(--bad);width:11px}
.key-fail::before,.key-fail::after{content:"";position:absolute;top:5px;width:11px;height:2px;background:currentColor}
.key-fail::before{transform:rotate(45deg)}.key-fail::after{transform:rotate(-45deg)}
.key-stall{color:var(--bad);opacity:.25}.key-open{color:var(--s4);height:4px}.key-out{color:var(--bad)}
@media (max-width:700px){main{padding:18px 12px 32px}h1{font-size:22px}.wide{display:none}.narrow{display:block}
figure{padding:12px 8px}.cards{grid-template-columns:1fr 1fr;gap:8px}.card{padding:8px 10px}.card strong{font-size:20px}
th,td{padding:6px 10px}}
@media print{body{background:none}figure,.scroll{break-inside:avoid}}
"""
