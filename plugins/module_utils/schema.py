# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Check and normalise nested data against tables of keys, and collect every problem on the way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from re import Pattern
from typing import Any, NamedTuple

HIDDEN = "(not shown)"


class Problem(NamedTuple):
    """One mistake: where it stands, what stands there, what is wrong with it, and what to do."""

    path: str
    value: str
    problem: str
    fix: str


class Report:
    """Collects problems. A check that finds one returns None in place of the value."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._seen: dict[Problem, None] = {}
        self._suggestions = 100

    def add(self, path: str, value: Any, problem: str, fix: str) -> None:
        """Note a problem, once."""
        item = Problem(path, show(value), problem, fix)
        if item not in self._seen:
            self._seen[item] = None
            self.problems.append(item)

    def suggest(self, word: Any, options: Iterable[str]) -> str:
        """Return ' Did you mean …?', or nothing. Bounded, since comparing is slow."""
        if not isinstance(word, str) or self._suggestions <= 0:
            return ""
        self._suggestions -= 1
        close = get_close_matches(word.lower()[:80], list(options), n=1, cutoff=0.6)
        return " Did you mean '%s'?" % close[0] if close else ""


def show(value: Any) -> str:
    """Return a value as one short line."""
    if isinstance(value, str):
        text = value
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except (TypeError, ValueError):
            text = str(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= 100 else text[:97] + "..."


def listed(words: Iterable[Any], limit: int = 12) -> str:
    """Return words joined by commas, cut after `limit`."""
    items = [str(word) for word in words]
    if len(items) > limit:
        items = items[:limit] + ["... (%d more)" % (len(items) - limit)]
    return ", ".join(items)


def type_name(value: Any) -> str:
    """Return the YAML word for a value's type."""
    if value is None:
        return "nothing"
    for kind, name in ((bool, "a boolean"), (int, "a number"), (float, "a number"), (str, "a string")):
        if isinstance(value, kind):
            return name
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else type(value).__name__


def plain(value: Any) -> Any:
    """Return the value made of nothing but dict, list, str, int, float, bool and None.

    Ansible hands over strings with tags and containers that template when read; both end here.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {key if key is None else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)  # dates of YAML and vaulted strings; raises for undefined variables


Check = Callable[[Report, str, Any], Any]


class Key(NamedTuple):
    """One key of a mapping: how its value is checked, and what holds without it."""

    check: Check
    default: Any = None
    required: bool = False
    hint: str = ""


def refuse_type(report: Report, path: str, value: Any, wanted: str) -> None:
    """Note that a value has the wrong type."""
    report.add(path, value, "this is %s" % type_name(value), "Write %s." % wanted)


def text(pattern: str | Pattern[str] | None, wanted: str) -> Check:
    """A string that matches the pattern as a whole; `wanted` completes 'Write …'."""
    compiled = re.compile(pattern) if isinstance(pattern, str) else pattern

    def check(report: Report, path: str, value: Any) -> str | None:
        if not isinstance(value, str):
            refuse_type(report, path, value, wanted)
            return None
        if compiled is not None and not compiled.fullmatch(value):
            report.add(path, value, "this value cannot be used here", "Write %s." % wanted)
            return None
        return value

    return check


def integer(low: int, high: int) -> Check:
    """A whole number within bounds."""

    def check(report: Report, path: str, value: Any) -> int | None:
        wanted = "a whole number from %d to %d" % (low, high)
        if isinstance(value, bool) or not isinstance(value, int):
            refuse_type(report, path, value, wanted)
            return None
        if not low <= value <= high:
            report.add(path, value, "this number is out of range", "Write %s." % wanted)
            return None
        return value

    return check


def boolean(report: Report, path: str, value: Any) -> bool | None:
    """true or false."""
    if isinstance(value, bool):
        return value
    refuse_type(report, path, value, "true or false")
    return None


def choice(options: Sequence[str], noun: str) -> Check:
    """One of a few words; `noun` says what they are."""

    def check(report: Report, path: str, value: Any) -> str | None:
        if isinstance(value, str) and value in options:
            return value
        report.add(
            path,
            value,
            "this is not %s" % noun,
            "Write one of: %s.%s" % (listed(options), report.suggest(value, options)),
        )
        return None

    return check


def optional(inner: Check) -> Check:
    """The inner check, or null."""

    def check(report: Report, path: str, value: Any) -> Any:
        return None if value is None else inner(report, path, value)

    return check


def items(inner: Check, wanted: str) -> Check:
    """A list; items that fail are left out."""

    def check(report: Report, path: str, value: Any) -> list[Any] | None:
        if not isinstance(value, list):
            refuse_type(report, path, value, wanted)
            return None
        checked = [inner(report, "%s[%d]" % (path, index), item) for index, item in enumerate(value)]
        return [item for item in checked if item is not None]

    return check


def table(name: Check, inner: Check, wanted: str) -> Check:
    """A mapping with free keys; entries whose key or value fails are left out."""

    def check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            refuse_type(report, path, value, wanted)
            return None
        checked = {}
        for key, item in value.items():
            word = name(report, "%s.%s" % (path, key), key)
            result = inner(report, "%s.%s" % (path, key), item)
            if word is not None and result is not None:
                checked[word] = result
        return checked

    return check


def refuse_unknown_keys(report: Report, path: str, value: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Note each key that the table does not have."""
    known = list(keys)
    for key in value:
        if key not in known:
            report.add(
                "%s.%s" % (path, key) if path else str(key),
                key,
                "there is no key '%s' here" % key,
                "Remove it, or use one of: %s.%s" % (listed(known, 30), report.suggest(key, known)),
            )


def keys(fields: Mapping[str, Key], wanted: str) -> Check:
    """A mapping with these keys; what is missing gets its default, what fails becomes None."""

    def check(report: Report, path: str, value: Any) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            refuse_type(report, path, value, wanted)
            return None
        refuse_unknown_keys(report, path, value, fields)
        checked = {}
        for key, field in fields.items():
            where = "%s.%s" % (path, key) if path else key
            if key in value:
                checked[key] = field.check(report, where, value[key])
            else:
                checked[key] = field.default
                if field.required:
                    report.add(where, None, "'%s' is missing" % key, field.hint or "Add it.")
        return checked

    return check
