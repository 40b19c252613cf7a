# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Places the boxes of a drawing in columns, from left to right along its arrows. Pure functions.

An arrow that passes a column gets its own place in it, so that no arrow crosses a box. First each box gets its column,
then each column its order (few crossings), then each box its vertical position (arrows as straight as possible).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import accumulate, pairwise
from statistics import fmean
from typing import NamedTuple

# Space between boxes of a column, between arrows, and between columns, where arrows bend and carry their labels.
SPACE, LANE, GAP = 24, 18, 84
SWEEPS = 24
# Positions are computed in rounds, until a round moves nothing by this much.
ROUNDS, ENOUGH = 300, 0.02
# How strongly an arrow is straightened between two boxes, next to one, and where it passes columns.
STRAIGHT = (1, 2, 8)


class Box(NamedTuple):
    """A placed box: its upper left corner, and its size."""

    x: float
    y: float
    width: float
    height: float


class Layout(NamedTuple):
    """Boxes by name; for each arrow the points it passes: out of a box, past columns, into a box."""

    boxes: dict[str, Box]
    routes: list[list[tuple[float, float]]]


def columns(names: Iterable[str], arrows: Iterable[tuple[str, str]], first: Mapping[str, int]) -> dict[str, int]:
    """Return each box's column: right of all boxes with arrows to it, and at least `first`. Arrows form no cycle."""
    before: dict[str, set[str]] = {name: set() for name in names}
    for source, target in arrows:
        before[target].add(source)
    found: dict[str, int] = {}
    for name in TopologicalSorter(before).static_order():
        found[name] = max([first.get(name, 0), *(found[other] + 1 for other in before[name])])
    used = {column: number for number, column in enumerate(sorted(set(found.values())))}
    return {name: used[found[name]] for name in before}


def side(arrows: int) -> float:
    """Return the minimum height of a box with this many arrows on one side."""
    return LANE * (arrows + 1)


def layout(
    sizes: Mapping[str, tuple[float, float]], arrows: Sequence[tuple[str, str]], column: Mapping[str, int]
) -> Layout:
    """Place boxes of these sizes; arrows lead to columns further right."""
    paths = [
        [source, *(f"{number} {between}" for between in range(column[source] + 1, column[target])), target]
        for number, (source, target) in enumerate(arrows)
    ]
    order: list[list[str]] = [[] for _number in range(max(column.values(), default=-1) + 1)]
    for name in sizes:
        order[column[name]].append(name)
    for path in paths:
        for step, name in enumerate(path[1:-1], column[path[0]] + 1):
            order[step].append(name)
    links = [link for path in paths for link in pairwise(path)]
    order = _ordered(order, links)
    heights = {name: sizes[name][1] if name in sizes else 0.0 for names in order for name in names}
    ports = _ports(order, paths)
    middle = _heights(order, heights, paths, ports)
    top = min((middle[name] - heights[name] / 2 for name in middle), default=0)
    boxes: dict[str, Box] = {}
    edges: dict[str, tuple[float, float]] = {}
    left = 0.0
    for names in order:
        width = max(sizes[name][0] for name in names if name in sizes)
        for name in names:
            edges[name] = (left, left + width)
            if name in sizes:
                boxes[name] = Box(left, round(middle[name] - heights[name] / 2 - top, 1), width, heights[name])
        left += width + GAP
    routes = []
    for number, path in enumerate(paths):
        route = []
        for step, name in enumerate(path):
            y = round(middle[name] - top + ports.get((number, step), 0), 1)
            route += [(x, y) for x in edges[name]]
        routes.append(route[1:-1])
    return Layout({name: boxes[name] for name in sizes}, routes)


def _ordered(order: list[list[str]], links: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return the orders of the columns with the fewest crossings found by sweeping back and forth."""
    best, fewest = order, _crossings(order, links)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        place = {name: float(index) for names in order for index, name in enumerate(names)}
        beside: dict[str, list[str]] = {name: [] for name in place}
        for source, target in links:
            if sweep % 2:
                beside[source].append(target)
            else:
                beside[target].append(source)
        turned = []
        for names in reversed(order) if sweep % 2 else order:
            means = {name: fmean([place[item] for item in beside[name]] or [place[name]]) for name in names}
            turned.append(sorted(names, key=means.__getitem__))
            place.update({name: float(index) for index, name in enumerate(turned[-1])})
        order = turned[::-1] if sweep % 2 else turned
        crossings = _crossings(order, links)
        if crossings < fewest:
            best, fewest = order, crossings
    return best


def _crossings(order: list[list[str]], links: Sequence[tuple[str, str]]) -> int:
    place = {name: (number, index) for number, names in enumerate(order) for index, name in enumerate(names)}
    between: dict[int, list[tuple[int, int]]] = {}
    for source, target in links:
        between.setdefault(place[source][0], []).append((place[source][1], place[target][1]))
    return sum(
        (one[0] - other[0]) * (one[1] - other[1]) < 0
        for ends in between.values()
        for index, one in enumerate(ends)
        for other in ends[:index]
    )


def _ports(order: list[list[str]], paths: Sequence[Sequence[str]]) -> dict[tuple[int, int], float]:
    """Return the distance from a box's middle at which each arrow starts (number, 0) and ends (number, last)."""
    place = {name: index for names in order for index, name in enumerate(names)}
    sides: dict[tuple[str, bool], list[tuple[int, int, int]]] = {}
    for number, path in enumerate(paths):
        sides.setdefault((path[0], True), []).append((place[path[1]], number, 0))
        sides.setdefault((path[-1], False), []).append((place[path[-2]], number, len(path) - 1))
    return {
        (number, step): LANE * (index - (len(ends) - 1) / 2)
        for ends in sides.values()
        for index, (_place, number, step) in enumerate(sorted(ends))
    }


def _heights(
    order: list[list[str]],
    heights: Mapping[str, float],
    paths: Sequence[Sequence[str]],
    ports: Mapping[tuple[int, int], float],
) -> dict[str, float]:
    """Return the vertical middle of each box, and of each arrow where it passes a column."""
    pulls: dict[str, list[tuple[str, float, int]]] = {name: [] for name in heights}
    for number, path in enumerate(paths):
        for step, (one, other) in enumerate(pairwise(path)):
            shift = ports.get((number, step + 1), 0) - ports.get((number, step), 0)
            weight = STRAIGHT[(step > 0) + (step < len(path) - 2)]
            pulls[one].append((other, shift, weight))
            pulls[other].append((one, -shift, weight))
    gaps = [
        [0.0, *((heights[one] + heights[other]) / 2 + (SPACE if heights[one] or heights[other] else LANE)
                for one, other in pairwise(names))]
        for names in order
    ]  # fmt: skip
    middle = {name: y for names, apart in zip(order, gaps, strict=True) for name, y in _stacked(names, apart)}
    weights = {name: sum(item[-1] for item in found) for name, found in pulls.items()}
    for _round in range(ROUNDS):
        before = dict(middle)
        for names, apart in [*zip(order, gaps, strict=True), *zip(order[::-1], gaps[::-1], strict=True)]:
            wanted = [
                sum((middle[item] + by) * weight for item, by, weight in pulls[name]) / weights[name]
                if pulls[name]
                else middle[name]
                for name in names
            ]
            # A box without arrows stays in place, as far as the others allow.
            middle.update(zip(names, settled(wanted, apart, [weights[name] or 0.01 for name in names]), strict=True))
        if all(abs(middle[name] - before[name]) < ENOUGH for name in middle):
            break
    return middle


def _stacked(names: Sequence[str], gaps: Sequence[float]) -> Iterable[tuple[str, float]]:
    """Yield an initial place for each name, with its column centred on the middle of the drawing."""
    places = list(accumulate(gaps))
    return ((name, y - places[-1] / 2) for name, y in zip(names, places, strict=True))


def settled(wanted: Sequence[float], gaps: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the places nearest to the wanted ones (least squares, weighted) that keep their order and these gaps.

    gaps: the minimum distance of each from the one before it.
    """
    least = list(accumulate(gaps))
    blocks: list[tuple[float, float, int]] = []  # what moves together: its target, without gaps; its weight; how many
    for place, gap, weight in zip(wanted, least, weights, strict=True):
        level, count = place - gap, 1
        while blocks and blocks[-1][0] > level:
            other, more, many = blocks.pop()
            level = (other * more + level * weight) / (more + weight)
            weight, count = weight + more, count + many
        blocks.append((level, weight, count))
    flat = [level for level, _weight, count in blocks for _number in range(count)]
    return [place + gap for place, gap in zip(flat, least, strict=True)]
