# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Draws an environment as SVG: what connects to what, on which port, on which hosts, under which names.

Pure functions. The same model gives the same bytes. The arrows are the flows that security groups allow.
"""

from __future__ import annotations

import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import NamedTuple

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.picture.layers import (
    GAP,
    LANE,
    Box,
    columns,
    layout,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.flows import (
    EDGE,
    HOSTS,
    LOAD_BALANCER,
    WORLD,
    Flow,
    flows,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets.ec2 import size
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import hosts as aws_hosts

# The width of a character in a monospaced font, relative to its size; no font that browsers use is wider.
CHARACTER = 0.603
TITLE, TEXT = 13, 11
LINE, PADDING, MARGIN = 16, 14, 24
LONGEST, LINES = 30, 24  # characters in a title, in a line
SHOWN = 6  # hosts in the box of a service; all of them are listed below
LEAST = 520  # minimum width of the private network
BEND = GAP - 44  # the part between columns where arrows bend; they are straight where their labels are
FRAME = 72  # where the private network starts, below the heading
# The minimum columns of boxes.
FIRST = {WORLD: 0, LOAD_BALANCER: 1, EDGE: 2}
SERVICE, DATABASE = 3, 1000
SHOWN_AS = {WORLD: "internet"}
NOTE = "Arrows: what may open connections to what, with the port. Security groups allow exactly these."

STYLE = """
svg { color-scheme: light dark; --page: #fff; --ink: #1c2530; --quiet: #566270; --border: #c8d0d9; --frame: #f4f6f9;
  --card: #fff; --arrow: #75818f; --world: #566270; --entry: #7c3aed; --service: #1d5fd6; --database: #0b7a6e;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace }
@media (prefers-color-scheme: dark) { svg { --page: #0d1117; --ink: #e6edf3; --quiet: #9ba8b6; --border: #323a44;
  --frame: #12171f; --card: #1a212b; --arrow: #7d8997; --world: #9ba8b6; --entry: #a78bfa; --service: #6ba6ff;
  --database: #2fc7b3 } }
text { font-size: 11px; fill: var(--ink) }
.title { font-size: 13px; font-weight: 700 }
.quiet, .port { fill: var(--quiet) }
.port { font-size: 10px }
.page { fill: var(--page) }
.frame { fill: var(--frame); stroke: var(--border); stroke-dasharray: 5 4 }
.card { fill: var(--card); stroke: var(--border) }
.world .bar { fill: var(--world) } .entry .bar { fill: var(--entry) } .service .bar { fill: var(--service) }
.database .bar { fill: var(--database) } .hosts .bar, .host .card { fill: none; stroke: none }
.service .public { fill: var(--service) }
.line { fill: none; stroke: var(--arrow); stroke-width: 1.4 }
.reach { fill: none; stroke: transparent; stroke-width: 12; pointer-events: stroke }
.head { fill: var(--arrow) }
.flow:hover .line { stroke: var(--service); stroke-width: 2.4 }
"""


class Machine(NamedTuple):
    """A host of the inventory or, without an inventory, a group of hosts that will be created."""

    name: str
    detail: str
    services: list[str]


class Line(NamedTuple):
    """A line of text in a box."""

    text: str
    style: str = "quiet"

    @property
    def shown(self) -> str:
        """The part that fits."""
        return cut(self.text, LINES)


@dataclass
class Card:
    """A box with text: its title and lines, and optionally other boxes below them, side by side."""

    name: str
    style: str
    title: str
    lines: list[Line] = field(default_factory=list)
    inside: list[Card] = field(default_factory=list)
    width: float = 0
    arrows: int = 0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height that fit the content, and the arrows of the side with more of them."""
        text = max([measure(cut(self.title), TITLE), *(measure(line.shown, TEXT) for line in self.lines)])
        rows = -(-len(self.inside) // self.across)
        width = max(self.width, round(text + 2 * PADDING), self.cell[0] if self.inside else 0)
        return width, max(self.head + rows * self.cell[1], LANE * (self.arrows + 1))

    @property
    def head(self) -> int:
        """Height of title and lines."""
        return (PADDING if self.inside else 2 * PADDING - 4) + LINE * (1 + len(self.lines))

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height that fit each inner box."""
        sizes = [card.size for card in self.inside] or [(1.0, 0.0)]
        return max(width for width, _height in sizes), max(height for _width, height in sizes)

    @property
    def across(self) -> int:
        """How many inner boxes are side by side."""
        return max(1, int(self.width // self.cell[0]))


@dataclass
class Drawing:
    """What has been placed: boxes with their cards, and flows with the points they pass."""

    boxes: list[tuple[Card, Box]] = field(default_factory=list)
    routes: list[tuple[Flow, list[tuple[float, float]]]] = field(default_factory=list)

    def place(self, cards: Sequence[Card], found: Sequence[Flow], first: Mapping[str, int], x: float, y: float) -> None:
        """Place cards and the flows between them, with their upper left corner at `x` and `y`."""
        arrows = [(flow.source, flow.target) for flow in found]
        sides = Counter((end, side) for arrow in arrows for side, end in enumerate(arrow))
        for card in cards:
            card.arrows = max(sides[card.name, 0], sides[card.name, 1])
        sizes = {card.name: card.size for card in cards}
        plan = layout(sizes, arrows, columns(sizes, arrows, first))
        for card in cards:
            box = plan.boxes[card.name]
            self.boxes.append((card, box._replace(x=box.x + x, y=box.y + y)))
        for flow, route in zip(found, plan.routes, strict=True):
            self.routes.append((flow, [(left + x, level + y) for left, level in route]))

    @property
    def end(self) -> tuple[float, float]:
        """The right and the bottom end."""
        return max(box.x + box.width for _card, box in self.boxes), max(box.y + box.height for _card, box in self.boxes)


def picture(model: Model) -> str:
    """Return the drawing of a model without problems."""
    found, carried = flows(model), machines(model)
    # Flows to every host lead to the box of the hosts, in a separate row.
    administration = [flow for flow in found if flow.target == HOSTS]
    others = [flow for flow in found if flow.target != HOSTS]
    first = {**dict.fromkeys(model.services, SERVICE), **dict.fromkeys(model.servers, DATABASE), **FIRST}
    drawing = Drawing()
    cards = _cards(model, others, carried)
    drawing.place(cards, others, first, MARGIN if cards[0].name == WORLD else 2 * MARGIN, FRAME + 2 * MARGIN)
    left = min(box.x for card, box in drawing.boxes if card.name != WORLD)
    right, bottom = drawing.end
    if carried or administration:
        sources = [Card(name, "entry", name) for name in dict.fromkeys(flow.source for flow in administration)]
        taken = max(card.size[0] for card in sources) + GAP if sources else 0
        hosts = _hosts(carried, max(right - left, LEAST) - taken)
        drawing.place([*sources, hosts], administration, {}, left, bottom + 2 * MARGIN)
    return _draw(model, drawing)


# --- what is drawn --------------------------------------------------------------


def machines(model: Model) -> list[Machine]:
    """Return the hosts, or the groups of hosts that the environment defines."""
    if model.hosts:
        # An inventory from AWS has no defined order.
        return [Machine(name, host["address"] or "", host["services"]) for name, host in sorted(model.hosts.items())]
    return [
        Machine(f"{size(group)} × {name}", group["type"], group["services"])
        for name, group in aws_hosts.groups(model).items()
    ]


def _cards(model: Model, found: Sequence[Flow], carried: Sequence[Machine]) -> list[Card]:
    """Return the boxes: the endpoints of flows, and every service and database."""
    ends = dict.fromkeys(end for flow in found for end in (flow.source, flow.target))
    names = dict.fromkeys([*(name for name in FIRST if name in ends), *model.services, *model.servers, *ends])
    return [_card(model, name, carried) for name in names]


def _card(model: Model, name: str, carried: Sequence[Machine]) -> Card:
    on = [machine.name for machine in carried if name in machine.services]
    on = on if len(on) <= SHOWN else [*on[: SHOWN - 1], f"and {len(on) - SHOWN + 1} more"]
    hosts = [Line(host) for host in on]
    if name in model.services:
        service = model.services[name]
        public = [Line(item["fqdn"] + item["path"].rstrip("/"), "public") for item in service["public"]]
        public += [Line(f"{item['fqdn']} → {item['to']}", "public") for item in service["redirects"]]
        about = f"{service['kind']} :{service['port']}" if model.listens(name) else service["kind"]
        return Card(name, "service", name, [Line(about), *public, *hosts])
    if name in model.servers:
        access = model.access.get(name) or {}
        about = f"{model.servers[name]['engine']} :{access.get('port') or model.servers[name]['port']}"
        return Card(name, "database", name, [Line(about), *(Line(part) for part in [access.get("host")] if part)])
    balanced = model.environment["tls"]["mode"] == "load_balancer"
    words = {WORLD: "users", LOAD_BALANCER: "TLS ends here", EDGE: "nginx" if balanced else "nginx, TLS ends here"}
    lines = [Line(words[name])] if name in words else []
    return Card(
        name,
        "world" if name == WORLD else "entry",
        SHOWN_AS.get(name, name),
        [*lines, *(hosts if name == EDGE else [])],
    )


def _hosts(carried: Sequence[Machine], width: float) -> Card:
    """Return the box of all hosts, each with its address and services, side by side within this width."""
    inside = [
        Card(
            f"host {machine.name}",
            "host",
            machine.name,
            [
                Line(line)
                for line in [machine.detail, *wrap(", ".join(machine.services), LINES, break_on_hyphens=False)]
                if line
            ],
        )
        for machine in carried
    ]
    return Card(HOSTS, "hosts", HOSTS, inside=inside, width=width)


# --- text -----------------------------------------------------------------------


def clean(text: str) -> str:
    """Return text without characters that XML cannot contain or that change the text direction."""
    return "".join("\ufffd" if unicodedata.category(letter)[0] == "C" else letter for letter in text)


def cells(text: str) -> int:
    """Return how many cells text takes in a monospaced font."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def measure(text: str, size: int) -> float:
    """Return how wide text is."""
    return cells(text) * size * CHARACTER


def cut(text: str, most: int = LONGEST) -> str:
    """Return text cleaned, and shortened if it is too long."""
    text = clean(text)
    if cells(text) <= most:
        return text
    while cells(text) > most - 1:
        text = text[:-1]
    return text + "…"


# --- drawing --------------------------------------------------------------------


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: str | float) -> ET.Element:
    """Add an element. `style` is its class, and data_x becomes data-x."""
    element = ET.SubElement(parent, tag)
    for key, value in attributes.items():
        name = "class" if key == "style" else key.replace("_", "-")
        element.set(name, clean(value) if isinstance(value, str) else f"{value:g}")
    element.text = clean(text) if text else None
    return element


def _draw(model: Model, drawing: Drawing) -> str:
    """Write the SVG, from the back to the front."""
    heading = cut(f"{model.environment['name']} · {model.environment['domain']}", 3 * LONGEST)
    summary = _summary(model)
    right, bottom = drawing.end
    left = min(box.x for card, box in drawing.boxes if card.name != WORLD)
    left -= GAP - BEND + 4 if drawing.boxes[0][0].name == WORLD else MARGIN
    right = max(right, left + LEAST, measure(NOTE, TEXT), measure(heading, TITLE), measure(summary, TEXT))
    width, height = round(right + 2 * MARGIN), round(bottom + 3 * MARGIN)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", role="img")
    root.attrib.update({"width": str(width), "height": str(height), "aria-labelledby": "topology-name topology-flows"})
    _add(root, "title", heading, id="topology-name")
    _add(root, "desc", " ".join(_told(flow) for flow, _route in drawing.routes), id="topology-flows")
    ET.SubElement(root, "style").text = STYLE
    head = _add(root, "marker", id="topology-head", viewBox="0 0 8 8", refX=7, refY=4, markerWidth=8, markerHeight=8)
    head.attrib.update(markerUnits="userSpaceOnUse", orient="auto")
    _add(head, "path", style="head", d="M0 .5 8 4 0 7.5z")
    _add(root, "rect", style="page", width=width, height=height)
    _add(root, "text", heading, style="title", x=MARGIN, y=34)
    _add(root, "text", summary, style="quiet", x=MARGIN, y=54)
    deep = bottom + MARGIN - FRAME
    _add(root, "rect", style="frame", rx=10, x=left, y=FRAME, width=right + MARGIN - left, height=deep)
    _add(root, "text", "private network", style="quiet", x=left + PADDING, y=FRAME + MARGIN)
    _add(root, "text", NOTE, style="quiet", x=MARGIN, y=height - MARGIN)
    for flow, route in drawing.routes:
        _arrow(root, flow, route)
    for card, box in drawing.boxes:
        _box(root, card, box)
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode") + "\n"


def _summary(model: Model) -> str:
    counts = {"service": len(model.services), "database": len(model.databases), "host": len(model.hosts or {})}
    words = [f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts.items() if count]
    return " · ".join([model.environment["region"], *words])


def _told(flow: Flow) -> str:
    return f"{SHOWN_AS.get(flow.source, flow.source)} to {flow.target}, {flow.protocol} {flow.port}: {flow.reason}."


def _box(parent: ET.Element, card: Card, box: Box) -> None:
    group = _add(parent, "g", style=card.style, data_name=card.name)
    _add(group, "title").text = "\n".join(clean(text) for text in [card.title, *(line.text for line in card.lines)])
    _add(group, "rect", style="card", rx=6, **box._asdict())
    _add(group, "rect", style="bar", rx=2, x=box.x, y=box.y + 6, width=4, height=box.height - 12)
    y = box.y + (0 if card.inside else (box.height - card.head) / 2) + PADDING + LINE - 6
    _add(group, "text", cut(card.title), style="title", x=box.x + PADDING, y=y)
    for line in card.lines:
        y += LINE
        _add(group, "text", line.shown, style=line.style, x=box.x + PADDING, y=y)
    for number, inner in enumerate(card.inside):
        width, height = card.cell
        down, along = divmod(number, card.across)
        place = Box(box.x + along * width, box.y + card.head + down * height, width, inner.size[1])
        _box(group, inner, place)


def _arrow(parent: ET.Element, flow: Flow, route: Sequence[tuple[float, float]]) -> None:
    """Draw a flow through its points, two for each gap between columns: curved, then straight to its label."""
    group = _add(parent, "g", style="flow")
    group.attrib.update({f"data-{key}": clean(str(value)) for key, value in flow._asdict().items()})
    _add(group, "title", _told(flow))
    path = f"M{route[0][0]:g} {route[0][1]:g}"
    for (x, y), (end, level) in zip(route[::2], route[1::2], strict=True):
        half = x + BEND / 2
        path += f"H{x:g}C{half:g} {y:g} {half:g} {level:g} {x + BEND:g} {level:g}H{end:g}"
    _add(group, "path", style="reach", d=path)
    _add(group, "path", style="line", d=path, marker_end="url(#topology-head)")
    x, y = route[-1]
    _add(group, "text", str(flow.port), style="port", x=x - 10, y=y - 4, text_anchor="end")
