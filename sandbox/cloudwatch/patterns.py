"""Filter patterns of CloudWatch Logs for JSON events: as much of them as the platform uses, and errors for the rest."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

Predicate = Callable[[Any], bool]
TOKEN = re.compile(
    r"""\s*(?:(?P<word>\(|\)|&&|\|\||!=|>=|<=|=|>|<)|(?P<path>\$(?:\.[A-Za-z0-9_@-]+)+)"""
    r"""|"(?P<text>[^"]*)"|%(?P<regex>[^%]+)%|(?P<bare>[^\s()=<>!&|"%]+))"""
)
MISSING = object()


class PatternError(ValueError):
    """The pattern is wrong, or uses what the stand-in does not know."""


def compile_pattern(pattern: str) -> Predicate:
    """Return whether a parsed event matches. Raises PatternError."""
    if not pattern.strip():
        return lambda _event: True
    inner = re.fullmatch(r"\s*\{(.*)\}\s*", pattern, re.DOTALL)
    if not inner:
        raise PatternError(f"the stand-in knows patterns for JSON only: {pattern}")
    tokens = list(_tokens(inner[1]))
    predicate = _alternatives(tokens)
    if tokens:
        raise PatternError(f"unexpected {tokens[0][1]!r} in {pattern}")
    return predicate


def value_at(event: Any, path: str) -> Any:
    """Return what stands at a path such as $.a.b, or MISSING."""
    for key in path.split(".")[1:]:
        if not isinstance(event, dict) or key not in event:
            return MISSING
        event = event[key]
    return event


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position, text = 0, text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if not match:
            raise PatternError(f"cannot read {text[position:]!r}")
        kind = str(match.lastgroup)
        yield kind, match[kind]
        position = match.end()


def _take(tokens: list[tuple[str, str]], *kinds: str) -> tuple[str, str]:
    if not tokens or tokens[0][0] not in kinds:
        raise PatternError(f"expected {' or '.join(kinds)}, not {tokens[0][1] if tokens else 'the end'!r}")
    return tokens.pop(0)


def _alternatives(tokens: list[tuple[str, str]]) -> Predicate:
    parts = [_conjunction(tokens)]
    while tokens[:1] == [("word", "||")]:
        tokens.pop(0)
        parts.append(_conjunction(tokens))
    return parts[0] if len(parts) == 1 else lambda event: any(part(event) for part in parts)


def _conjunction(tokens: list[tuple[str, str]]) -> Predicate:
    parts = [_comparison(tokens)]
    while tokens[:1] == [("word", "&&")]:
        tokens.pop(0)
        parts.append(_comparison(tokens))
    return parts[0] if len(parts) == 1 else lambda event: all(part(event) for part in parts)


def _comparison(tokens: list[tuple[str, str]]) -> Predicate:
    if tokens[:1] == [("word", "(")]:
        tokens.pop(0)
        inner = _alternatives(tokens)
        if _take(tokens, "word")[1] != ")":
            raise PatternError("a bracket is not closed")
        return inner
    path = _take(tokens, "path")[1]
    operator = _take(tokens, "word")[1]
    kind, wanted = _take(tokens, "text", "regex", "bare")
    if kind == "regex":
        return _search(path, operator, wanted)
    number = _number(wanted) if kind == "bare" else None
    if operator not in ("=", "!=") and number is None:
        raise PatternError(f"{operator} {wanted}: only numbers can be compared so")

    def compare(event: Any) -> bool:
        found = value_at(event, path)
        if found is MISSING or isinstance(found, (dict, list)):
            return False
        if number is None:
            text = found if isinstance(found, str) else json.dumps(found)
            return fnmatch.fnmatchcase(text, re.sub(r"([\[?])", r"[\1]", wanted)) == (operator == "=")
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            return False
        return {
            "=": found == number, "!=": found != number, ">": found > number,
            "<": found < number, ">=": found >= number, "<=": found <= number,
        }[operator]  # fmt: skip

    return compare


def _search(path: str, operator: str, expression: str) -> Predicate:
    # What CloudWatch does not know is refused: brackets for one thing.
    if operator != "=" or not re.fullmatch(r"[A-Za-z0-9:_#=@/;,\-^$?\[\]{}|\\*+.]+", expression):
        raise PatternError(f"{operator} %{expression}%: no such expression is allowed")
    wanted = re.compile(expression)

    def search(event: Any) -> bool:
        found = value_at(event, path)
        return isinstance(found, str) and wanted.search(found) is not None

    return search


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
