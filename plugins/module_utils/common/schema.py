# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Validate and normalise nested data against tables of keys, and collect every problem."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

HIDDEN = "(not shown)"
MAX_DEPTH = 30
MAX_SUGGESTIONS = 100


class Problem(NamedTuple):
    """One mistake: its path, its value, what is wrong with it, and how to fix it."""

    path: str
    value: str
    problem: str
    fix: str


class Report:
    """Collects problems. A check that finds one returns None instead of the value."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._seen: set[Problem] = set()
        self._suggestions = MAX_SUGGESTIONS

    def add(self, path: str, value: Any, problem: str, fix: str) -> None:
        """Record a problem, once."""
        item = Problem(path, show(value), problem, fix)
        if item not in self._seen:
            self._seen.add(item)
            self.problems.append(item)

    def suggest(self, word: Any, options: Iterable[str]) -> str:
        """Return " Did you mean …?", or nothing. The number of suggestions is limited, since comparing is slow."""
        if not isinstance(word, str) or self._suggestions <= 0:
            return ""
        self._suggestions -= 1
        known, start = list(options), word.lower()[:80]
        close = [option for option in known if len(start) > 2 and option.startswith(start)]
        close = close or get_close_matches(start, known, n=1, cutoff=0.6)
        return f" Did you mean '{close[0]}'?" if close else ""


class Redirect(Report):
    """Forwards to another report, and replaces paths below `prefix` with those where the values are defined.

    moved: path below the prefix → full path, for values that another file overrides.
    """

    def __init__(self, report: Report, prefix: str, moved: Mapping[str, str]) -> None:
        super().__init__()
        self.target = report
        self.prefix = prefix
        self.moved = moved
        self.problems = report.problems

    def add(self, path: str, value: Any, problem: str, fix: str) -> None:
        """Record a problem at the path where the value is defined."""
        self.target.add(relocate(path, self.prefix, self.moved), value, problem, fix)

    def suggest(self, word: Any, options: Iterable[str]) -> str:
        """Return the other report's suggestion."""
        return self.target.suggest(word, options)


def relocate(path: str, prefix: str, moved: Mapping[str, str]) -> str:
    """Return the path at which a value is defined."""
    inner = path[len(prefix) + 1 :]
    for key, place in moved.items():
        if inner == key or inner.startswith((key + ".", key + "[")):
            return place + inner[len(key) :]
    return path


def show(value: Any) -> str:
    """Return a value as one short line."""
    if isinstance(value, str):
        line = value
    else:
        try:
            line = json.dumps(value, ensure_ascii=False)
        except ValueError:  # a number of thousands of digits
            line = HIDDEN
    line = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", " ", line)
    return line if len(line) <= 100 else line[:97] + "..."


def listed(words: Iterable[Any], limit: int = 12) -> str:
    """Return words joined by commas, cut after `limit`."""
    every = [str(word) for word in words]
    more = [f"... ({len(every) - limit} more)"] if len(every) > limit else []
    return ", ".join(every[:limit] + more)


def type_name(value: Any) -> str:
    """Return the YAML name of a value's type."""
    if value is None:
        return "null"
    for kind, name in (
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        (list, "a list"),
        (dict, "a mapping"),
    ):
        if isinstance(value, kind):
            return name
    return type(value).__name__


def plain(value: Any, depth: int = 0) -> Any:
    """Return the value as plain dict, list, str, int, float, bool and None.

    Ansible passes tagged strings, and containers that template when read; neither is left in the result.
    Data that is nested too deeply (such as a YAML alias to itself) is cut.
    """
    if depth > MAX_DEPTH:
        return "(nested too deeply)"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth + 1) for item in value]
    return str(value)  # YAML dates and vaulted strings; raises for undefined variables


Check = Callable[[Report, str, Any], Any]


class Key(NamedTuple):
    """One key of a mapping: how its value is checked, and its default."""

    check: Check
    default: Any = None
    required: bool = False
    hint: str = ""


def refuse_type(report: Report, path: str, value: Any, expected: str, wanted: str) -> None:
    """Record that a value has the wrong type. `wanted` completes "Write …"."""
    problem = "value is missing" if value is None else f"expected {expected}, got {type_name(value)}"
    report.add(path, value, problem, f"Write {wanted}.")


def text(pattern: str | None, wanted: str) -> Check:
    """A string that matches the whole pattern; `wanted` completes "Write …"."""
    compiled = re.compile(pattern) if pattern is not None else None

    def check(report: Report, path: str, value: Any) -> str | None:
        if not isinstance(value, str):
            refuse_type(report, path, value, "a string", wanted)
            return None
        if compiled is not None and not compiled.fullmatch(value):
            report.add(path, value, "this value is not valid", f"Write {wanted}.")
            return None
        return value

    return check


def integer(low: int, high: int) -> Check:
    """A whole number within bounds."""

    def check(report: Report, path: str, value: Any) -> int | None:
        wanted = f"a whole number from {low} to {high}"
        if isinstance(value, bool) or not isinstance(value, int):
            refuse_type(report, path, value, "a whole number", wanted)
            return None
        if not low <= value <= high:
            report.add(path, value, "this value is out of range", f"Write {wanted}.")
            return None
        return value

    return check


def boolean(report: Report, path: str, value: Any) -> bool | None:
    """true or false."""
    if isinstance(value, bool):
        return value
    refuse_type(report, path, value, "a boolean", "true or false")
    return None


def choice(options: Sequence[str], noun: str) -> Check:
    """One of several words; `noun` says what they are."""

    def check(report: Report, path: str, value: Any) -> str | None:
        if isinstance(value, str) and value in options:
            return value
        fix = f"Write one of: {listed(options)}.{report.suggest(value, options)}"
        report.add(path, value, f"this is not {noun}", fix)
        return None

    return check


def optional(inner: Check) -> Check:
    """The inner check, or null."""

    def check(report: Report, path: str, value: Any) -> Any:
        return None if value is None else inner(report, path, value)

    return check


def unless_off(inner: Check) -> Check:
    """The inner check; an empty mapping for `off`, which YAML reads as false."""

    def check(report: Report, path: str, value: Any) -> Any:
        return {} if value is False else inner(report, path, value)

    return check


def items(inner: Check, wanted: str) -> Check:
    """A list; items that fail are left out."""

    def check(report: Report, path: str, value: Any) -> list[Any] | None:
        if not isinstance(value, list):
            refuse_type(report, path, value, "a list", wanted)
            return None
        checked = [inner(report, f"{path}[{index}]", item) for index, item in enumerate(value)]
        return [item for item in checked if item is not None]

    return check


def table(name: Check, inner: Check, wanted: str) -> Check:
    """A mapping with any keys; entries whose key or value fails are left out."""

    def check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            refuse_type(report, path, value, "a mapping", wanted)
            return None
        checked = {}
        for key, item in value.items():
            word = name(report, f"{path}.{key}", key)
            result = inner(report, f"{path}.{key}", item)
            if word is not None and result is not None:
                checked[word] = result
        return checked

    return check


def any_mapping(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """A mapping whose entries are validated elsewhere."""
    if isinstance(value, dict):
        return value
    refuse_type(report, path, value, "a mapping", "a mapping")
    return None


def anything(_report: Report, _path: str, value: Any) -> Any:
    """Any value."""
    return value


def keys(fields: Mapping[str, Key], wanted: str) -> Check:
    """A mapping with these keys; missing values get their defaults, invalid ones become None."""

    def check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            refuse_type(report, path, value, "a mapping", wanted)
            return None
        prefix = f"{path}." if path else ""
        for key in value:
            if key not in fields:
                fix = f"Remove it, or use one of: {listed(fields, 30)}.{report.suggest(key, fields)}"
                report.add(prefix + key, key, f"unknown key '{key}'", fix)
        checked = {}
        for key, field in fields.items():
            if key in value:
                checked[key] = field.check(report, prefix + key, value[key])
            else:
                checked[key] = field.default
                if field.required:
                    report.add(prefix + key, None, f"'{key}' is missing", field.hint)
        return checked

    return check
