# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Find errors of services in log events, and group them. Pure functions."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

ERROR_LEVELS = frozenset({"error", "fatal"})
PINO_ERROR, SYSLOG_ERROR = 50, 3
# A process that an exception ends writes lines that are not JSON: the exception, then its stack.
RAISED = re.compile(r"^(?:Uncaught )?(?P<type>(?:[A-Z]\w*)?(?:Error|Exception))(?: \[\w+\])?: (?P<reason>.*)$")
FRAME = re.compile(r"^\s*at (?:(?:async )?(?P<function>[^()]+?) \()?(?P<file>[^()\s]+?)(?::\d+)?(?::\d+)?\)?$")
FOREIGN = ("node:", "node_modules/", "internal/", "<anonymous>")
# Parts that differ between occurrences.
VARYING = re.compile(
    r"""[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\b0x[0-9a-f]+\b|\b[0-9a-f]{12,}\b|'[^']*'|"[^"]*"|`[^`]*`|\d+""",
    re.I,
)
# The events to request from CloudWatch: lines with an error level, exceptions and their frames, error priorities.
# A pattern may contain at most two regular expressions, without blanks or brackets.
PATTERN = (
    r"{ ($.body.MESSAGE = %.level.:.?[56ef]%) || ($.body.MESSAGE = %^\s*at\s|Error|Exception%)"
    + "".join(f' || ($.body.PRIORITY = "{priority}")' for priority in range(SYSLOG_ERROR + 1))
    + " }"
)
REQUEST_IDS = ("requestId", "request_id", "reqId")
MAX_FRAMES = 20


def grouped(events: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the errors in (service, CloudWatch Logs event) pairs: each kind once, the most frequent first."""
    groups: dict[str, dict[str, Any]] = {}
    for error in errors(events):
        group = groups.setdefault(
            error["fingerprint"],
            {
                **{key: error[key] for key in ("fingerprint", "service", "type", "message", "frame")},
                "count": 0, "first_seen": error["time"], "last_seen": error["time"],
                "releases": [], "hosts": [], "sample": error,
            },
        )  # fmt: skip
        group["count"] += 1
        group["first_seen"] = min(group["first_seen"], error["time"])
        if error["time"] >= group["last_seen"]:
            group["last_seen"] = error["time"]
            # The request of the latest sample is the most likely to be still in the logs.
            group["sample"] = error
        for key, value in (("releases", error["release"]), ("hosts", error["host"])):
            group[key] = sorted({*group[key], *([value] if value else [])})
    for group in groups.values():
        group["sample"] = {
            key: group["sample"][key] for key in ("time", "host", "release", "request_id", "stack", "fields")
        }
    return sorted(groups.values(), key=lambda group: (-group["count"], group["service"], group["message"]))


def errors(events: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterable[dict[str, Any]]:
    """Yield each error, in the order of its process's events."""
    raised: dict[tuple[str, str], dict[str, Any]] = {}
    for service, event in events:
        body = _mapping(event["message"]).get("body")
        if not isinstance(body, dict):
            continue
        text = body.get("MESSAGE")
        if not isinstance(text, str):
            continue
        common = {
            "service": service,
            "time": _time(event["timestamp"]),
            "host": str(body.get("_HOSTNAME") or event.get("logStreamName") or ""),
            "release": str(body.get("FIVEPOINTERS_RELEASE") or ""),
        }
        process = (common["host"], str(body.get("_PID", "")))
        if process in raised and text.lstrip().startswith("at "):
            raised[process]["stack"].append(text)
            continue
        if process in raised:
            yield finished(raised.pop(process))
        fields = _mapping(text)
        if fields:
            if is_error(fields):
                yield finished(common | described(fields))
        elif match := RAISED.match(text):
            raised[process] = common | {
                "type": match["type"], "message": match["reason"], "stack": [text], "request_id": "", "fields": {},
            }  # fmt: skip
        elif str(body.get("PRIORITY", "6")).isdigit() and int(body.get("PRIORITY", 6)) <= SYSLOG_ERROR:
            yield finished(common | {"type": "", "message": text, "stack": [], "request_id": "", "fields": {}})
    for error in raised.values():
        yield finished(error)


def is_error(fields: Mapping[str, Any]) -> bool:
    """Return whether a line's level is an error: a word, or a number as in pino."""
    level = fields.get("level")
    if isinstance(level, (int, float)):
        return level >= PINO_ERROR
    return str(level).lower() in ERROR_LEVELS


def described(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the error in a JSON line, in the format of any common logger."""
    inner: dict[str, Any] = next((fields[key] for key in ("err", "error") if isinstance(fields.get(key), dict)), {})
    kind = fields["error"] if isinstance(fields.get("error"), str) else inner.get("type") or inner.get("name") or ""
    reason = fields.get("reason") or inner.get("message") or ""
    said = str(fields.get("message") or fields.get("msg") or "")
    stack = fields.get("stack") or inner.get("stack") or ""
    request = fields.get("req")
    return {
        "type": str(kind),
        "message": ": ".join(part for part in dict.fromkeys((said, str(reason))) if part),
        "stack": str(stack).splitlines(),
        "request_id": str(
            next((fields[key] for key in REQUEST_IDS if fields.get(key)), "")
            or (request.get("id", "") if isinstance(request, dict) else "")
        ),
        "fields": {
            key: value
            for key, value in fields.items()
            if isinstance(value, (str, int, float, bool))
            and key not in {"stack", "level", "time", "service", "message", "msg"}
        },
    }


def finished(error: dict[str, Any]) -> dict[str, Any]:
    """Return an error with its top frame and its fingerprint."""
    stack = error["stack"][:MAX_FRAMES]
    frame = top_frame(stack)
    same = [error["service"], error["type"], VARYING.sub("…", error["message"]), frame]
    fingerprint = hashlib.sha256(json.dumps(same).encode()).hexdigest()[:12]
    return {**error, "stack": stack, "frame": frame, "fingerprint": fingerprint}


def top_frame(stack: Iterable[str]) -> str:
    """Return the function and file where an error occurred: the application's, if the stack has one.

    Without the line number, which changes with every release.
    """
    frames = [match for line in stack if (match := FRAME.match(line))]
    own = [match for match in frames if not any(word in match["file"] for word in FOREIGN)]
    for match in own or frames:
        # The folder differs between releases.
        file = re.sub(r"^(?:file://)?.*/releases/[^/]+/(?:app/)?", "", match["file"])
        return f"{match['function'] or '(anonymous)'} ({file})"
    return ""


def table(groups: Iterable[Mapping[str, Any]]) -> str:
    """Return the groups as text, one per line."""
    heads = ("count", "service", "first seen", "last seen", "release", "hosts", "request", "error")
    rows = [heads]
    for group in groups:
        kind = f"{group['type']}: " if group["type"] and not group["message"].startswith(group["type"]) else ""
        what = f"{kind}{group['message']}" + (f" at {group['frame']}" if group["frame"] else "")
        last = group["sample"]
        rows.append(
            (
                str(group["count"]), group["service"], group["first_seen"], group["last_seen"],
                last["release"][:12] or "-", ",".join(group["hosts"]) or "-", last["request_id"] or "-", what,
            )
        )  # fmt: skip
    widths = [max(len(row[index]) for row in rows) for index in range(len(heads) - 1)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]) for row in rows)


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _time(milliseconds: int) -> str:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
