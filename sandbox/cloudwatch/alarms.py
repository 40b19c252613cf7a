"""How alarms follow from data points, and composite alarms from other alarms. Pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}


@dataclass(frozen=True)
class Rule:
    """A metric alarm, as far as its state follows from it."""

    statistic: str
    comparison: str
    threshold: float
    period: int
    evaluation_periods: int
    datapoints: int
    missing: str = "missing"


def statistic(values: Sequence[float], name: str) -> float | None:
    """Return a statistic of a period's values; None where there are none."""
    if not values:
        return None
    if name.startswith("p"):
        return percentile(values, float(name[1:]))
    return {
        "Sum": sum(values),
        "Average": sum(values) / len(values),
        "Minimum": min(values),
        "Maximum": max(values),
        "SampleCount": float(len(values)),
    }[name]


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile, between two values by their distance."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def evaluate(rule: Rule, points: Sequence[tuple[float, float]], now: float, state: str) -> tuple[str, str]:
    """Return the state of a metric alarm and why, from (time, value) points.

    As CloudWatch, each minute: the last period ends with the last whole minute, however long periods are. But for the
    further periods that CloudWatch looks at where some are missing.
    """
    step = min(rule.period, 60)
    end = now // step * step
    values: list[float | None] = []
    for index in range(rule.evaluation_periods):
        until = end - index * rule.period
        values.append(statistic([value for at, value in points if until - rule.period <= at < until], rule.statistic))
    found = [value for value in values if value is not None]
    shown = ", ".join("missing" if value is None else f"{value:g}" for value in values)
    reason = f"{rule.statistic} of the last {rule.evaluation_periods} x {rule.period} s: {shown}"
    breaching = sum(COMPARISONS[rule.comparison](value, rule.threshold) for value in found)
    absent = len(values) - len(found)
    if rule.missing == "breaching":
        breaching += absent
    if breaching >= rule.datapoints:
        return ALARM, reason
    if not found and rule.missing == "missing":
        return INSUFFICIENT_DATA, reason
    if rule.missing == "ignore" and (not found or breaching + absent >= rule.datapoints):
        return state, reason
    return OK, reason


TOKEN = re.compile(
    r"\s*(?:(?P<state>ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*(?:\"([^\"]+)\"|([^\s\")]+))\s*\)|(?P<word>AND|OR|NOT|TRUE|FALSE|\(|\)))"
)


class RuleError(ValueError):
    """The rule of a composite alarm is wrong."""


def parse_rule(text: str) -> list[tuple[str, str]]:
    """Return the tokens of a rule: states with names of alarms, and words. Raises RuleError."""
    tokens, position, text = [], 0, text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if not match:
            raise RuleError(f"cannot read {text[position:]!r}")
        if match["state"]:
            # An alarm may be named by its ARN as well.
            tokens.append((match["state"], (match[2] or match[3]).split(":alarm:")[-1]))
        else:
            tokens.append((match["word"], ""))
        position = match.end()
    return tokens


def children(text: str) -> list[str]:
    """Return the alarms that a rule names."""
    return [name for _state, name in parse_rule(text) if name]


def raised(text: str, states: Mapping[str, str]) -> bool:
    """Return whether the rule of a composite alarm holds. Raises RuleError."""
    tokens = parse_rule(text)

    def either() -> bool:
        result = both()
        while tokens and tokens[0][0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    def both() -> bool:
        result = one()
        while tokens and tokens[0][0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one() -> bool:
        if not tokens:
            raise RuleError(f"the rule ends too early: {text}")
        word, name = tokens.pop(0)
        if word == "NOT":
            return not one()
        if word == "(":
            result = either()
            if not tokens or tokens.pop(0)[0] != ")":
                raise RuleError(f"a bracket is not closed: {text}")
            return result
        if word in ("TRUE", "FALSE"):
            return word == "TRUE"
        if not name:
            raise RuleError(f"unexpected {word}: {text}")
        return states.get(name) == word

    result = either()
    if tokens:
        raise RuleError(f"unexpected {tokens[0][0]}: {text}")
    return result


@dataclass
class Notice:
    """Whether a composite alarm that changed its state has still to notify."""

    since: float
    suppressed: bool = False
    suppressor_left: float | None = None


def due(notice: Notice, state: str, suppressor: str | None, wait: float, extension: float, now: float) -> bool:
    """Return whether a composite alarm notifies now; `suppressor` is the state of that alarm, None without one.

    One that is raised waits for its suppressor. While that is raised, and for a while after, nothing is told; then the
    state is that the alarm has by then.
    """
    if suppressor is None:
        return True
    if suppressor == ALARM:
        notice.suppressed, notice.suppressor_left = True, None
        return False
    if not notice.suppressed:
        return state != ALARM or now - notice.since >= wait
    notice.suppressor_left = now if notice.suppressor_left is None else notice.suppressor_left
    return now - notice.suppressor_left >= extension
