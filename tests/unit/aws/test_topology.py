# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The picture of an environment: it shows what is, and can be read.

`PYTHONPATH=collections python -m tests.unit.aws.test_topology` writes docs/topology.svg anew.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogue
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.picture import layers, topology
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.flows import Flow, flows
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright

from tests import warm
from tests.unit import catalogue as repository

ROOT = Path(__file__).resolve().parents[3]
DRAWN = ROOT / "docs" / "topology.svg"
BROWSER = "chromium-headless-shell"
SVG = "{http://www.w3.org/2000/svg}"
# Where text may stand above another's line, and how much a rounded number may be off.
SLACK = 0.2
FILES = {"mode": "files", "certificate": "/tls/certificate.pem", "key": "/tls/key.pem"}
HOSTILE = '"/><script>alert(1)</script>&amp;\x00\u202e\ud800 \N{HANGUL SYLLABLE GA}'
SPREAD = {
    "edge-1": ["edge"],
    "edge-2": ["edge"],
    "web-1": ["frontend", "sites"],
    "web-2": ["frontend", "sites"],
    "api-1": ["api"],
    "api-2": ["api"],
    "api-3": ["api"],
    "collab-1": ["collab"],
    "collab-2": ["collab"],
}


def described() -> tuple[dict[str, Any], dict[str, Any]]:
    """The repository's catalogue, and its production."""
    variables = yaml.safe_load((ROOT / "inventories/production/group_vars/all/environment.yml").read_text())
    return repository.catalogue(), variables["platform_environment"]


def hosts(carried: dict[str, list[str]]) -> dict[str, Any]:
    """Hosts with these services, in two zones by turns."""
    return {
        name: {"address": f"10.0.{number % 2}.{10 + number}", "services": services}
        for number, (name, services) in enumerate(carried.items())
    }


def production() -> Model:
    """What docs/topology.svg shows."""
    return catalogue.load(*described(), hosts(SPREAD))


def many() -> Model:
    """Twelve services with long names, and two databases."""
    names = [f"{'a-service-with-a-long-name' if number == 4 else 'service'}-{number}" for number in range(12)]
    entries = {
        name: {
            "kind": ("nestjs_api", "nextjs", "yjs_websocket", "static_frontend")[number % 4],
            "port": 3000 + number,
            "health": {"tcp": True},
            "public": [{"host": f"s{number}"}] if number > 4 else [],
            "needs": [names[other] for other in {number // 2, number // 3} if other < number]
            + [("database", "archive")[number % 2] for _once in [1] if number % 4 != 3],
            **({} if number % 4 == 3 else {"pool": 1}),
        }
        for number, name in enumerate(names)
    }
    for entry in entries.values():
        entry["build"] = {"source": "../app"}
    access = described()[1]["databases"]["database"]
    environment = {**described()[1], "secrets": {}, "databases": {"database": access, "archive": access}}
    carried = {f"a-host-of-some-length-{number}": ["edge", *names[number::3]] for number in range(3)}
    databases = {"database": {"engine": "mysql"}, "archive": {"engine": "mysql"}}
    return catalogue.load({"services": entries, "databases": databases}, environment, hosts(carried))


def case(name: str) -> Model:
    """One of the environments that pictures are tried with."""
    services, environment = described()
    sandbox = {**environment, "name": "sandbox", "domain": "sandbox.test", "tls": FILES}
    everything = [*services["services"], "edge"]
    if name == "sandbox":
        return catalogue.load(services, sandbox, hosts({f"{item}-1": [item] for item in everything}))
    if name == "one host":
        return catalogue.load(services, sandbox, hosts({"development-1": everything}))
    if name == "hostile hosts":
        return catalogue.load(services, sandbox, hosts({HOSTILE: everything, "long" * 30: []}))
    if name == "no hosts yet":
        rest = {"services": list(services["services"]), "adopt": ["i-0abc12345678def01"], "type": "t3.medium"}
        groups = {"edge": {"services": ["edge"], "count": 2}, "rest": rest}
        return catalogue.load(services, {**environment, "aws": {"hosts": groups}})
    if name == "no database":
        page = {"kind": "static_frontend", "public": [{"host": "@"}], "build": {"source": "../page"}}
        return catalogue.load({"services": {"page": page}}, {**sandbox, "databases": {}, "secrets": {}})
    if name == "nothing public":
        worker = {"kind": "nestjs_api", "port": 3001, "health": "/", "build": {"source": "../worker"}}
        return catalogue.load({"services": {"worker": worker}}, {**sandbox, "databases": {}, "secrets": {}})
    return {"production": production, "twelve services": many}[name]()


CASES = (
    "production",
    "sandbox",
    "one host",
    "hostile hosts",
    "no hosts yet",
    "no database",
    "nothing public",
    "twelve services",
)


def drawn(text: str) -> list[Flow]:
    """The flows that a picture shows."""
    found = [element.attrib for element in ET.fromstring(text).iter() if element.get("class") == "flow"]
    return [
        Flow(item["data-source"], item["data-target"], int(item["data-port"]), item["data-protocol"],
             item["data-reason"])
        for item in found
    ]  # fmt: skip


def cards(text: str) -> dict[str, layers.Box]:
    """The boxes of a picture, by name."""
    return {
        group.attrib["data-name"]: layers.Box(*(float(rect.attrib[key]) for key in ("x", "y", "width", "height")))
        for group in ET.fromstring(text).iter(f"{SVG}g")
        if group.get("data-name")
        for rect in group.findall(f"{SVG}rect")[:1]
    }


def overlap(one: layers.Box, other: layers.Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


@pytest.mark.parametrize("name", CASES)
def test_the_arrows_are_the_flows_and_the_boxes_what_is_there(name: str) -> None:
    model = case(name)
    text = topology.picture(model)
    assert sorted(drawn(text)) == sorted(flows(model))
    ends = {end for flow in flows(model) for end in (flow.source, flow.target)}
    assert {*model.services, *model.databases, *ends} <= set(cards(text))
    shown = {element.text for element in ET.fromstring(text).iter(f"{SVG}text")}
    told = " ".join(element.text or "" for element in ET.fromstring(text).iter(f"{SVG}title"))
    for host, entry in (model.hosts or {}).items():
        assert topology.clean(host) in told
        assert entry["address"] in shown
    for service in model.services.values():
        assert {f"{service['kind']} :{service['port']}"} <= shown
        assert {address["fqdn"] for address in service["public"]} <= shown


@pytest.mark.parametrize("name", CASES)
def test_boxes_lie_apart_and_on_the_page(name: str) -> None:
    text = topology.picture(case(name))
    boxes = cards(text)
    outer = {key: box for key, box in boxes.items() if not key.startswith("host ")}
    for one, other in combinations(outer, 2):
        assert not overlap(outer[one], outer[other]), (one, other)
    inner = [box for key, box in boxes.items() if key.startswith("host ")]
    for one, other in combinations(inner, 2):
        assert not overlap(one, other)
    _left, _top, width, height = map(float, ET.fromstring(text).attrib["viewBox"].split())
    for box in boxes.values():
        assert box.x >= 0 and box.y >= 0 and box.x + box.width <= width and box.y + box.height <= height


def test_names_from_outside_are_text_and_nothing_else() -> None:
    root = ET.fromstring(topology.picture(case("hostile hosts")))
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "style", "marker", "path", "rect", "text", "g"}
    assert not {key for element in root.iter() for key in element.attrib if key.startswith("on") or "href" in key}
    told = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert any(item.startswith('"/><script>alert(1)</script>&amp;\ufffd\ufffd\ufffd 가') for item in told)


def test_a_reader_without_eyes_gets_all_of_it() -> None:
    model = production()
    root = ET.fromstring(topology.picture(model))
    parts = {element.get("id"): element for element in root}
    title, desc = (parts[part] for part in root.attrib["aria-labelledby"].split())
    assert root.attrib["role"] == "img"
    assert (title.tag, desc.tag) == (f"{SVG}title", f"{SVG}desc")
    assert title.text == "production · example.com"
    assert all(flow.reason in (desc.text or "") and str(flow.port) in (desc.text or "") for flow in flows(model))


@pytest.mark.parametrize("name", ["world", "hosts", "load-balancer", "instance-connect", "edge"])
def test_no_service_is_named_as_an_end_of_flows_that_is_none(name: str) -> None:
    services, environment = described()
    services["services"][name] = services["services"].pop("collab")
    services["services"]["frontend"]["needs"] = ["api"]
    services["journeys"] = []
    found = catalogue.read(services, environment)[1]
    assert [(item.path, item.problem) for item in found] == [(f"services.{name}", f"'{name}' is a reserved word")]


def test_hosts_that_are_not_there_yet_are_drawn_as_groups() -> None:
    shown = [element.text for element in ET.fromstring(topology.picture(case("no hosts yet"))).iter(f"{SVG}text")]
    assert "2 × edge" in shown
    assert {"1 × rest", "t3.medium"} <= set(shown)


def test_the_picture_in_the_documentation_is_that_of_production() -> None:
    assert DRAWN.read_text() == topology.picture(production()), (
        "production looks otherwise now: PYTHONPATH=collections python -m tests.unit.aws.test_topology"
    )


@pytest.mark.slow
def test_the_playbook_draws_the_hosts_of_the_inventory_and_asks_none_of_them(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "inventories", tmp_path / "inventories", ignore=shutil.ignore_patterns("aws_ec2.yml"))
    carried = {"edge-1": ["edge"], "all-1": list(described()[0]["services"])}
    entries = {
        name: {"platform_address": entry["address"], "platform_services": entry["services"], "ansible_port": 9}
        for name, entry in hosts(carried).items()
    }
    inventory = tmp_path / "inventories" / "production" / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"platform": {"hosts": entries}}))
    done = subprocess.run(
        [str(warm.programs() / "ansible-playbook"), "-i", str(inventory), "playbooks/topology.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    picture = tmp_path / ".artifacts" / "topology-production.svg"
    assert str(picture) in done.stdout
    assert picture.read_text() == topology.picture(catalogue.load(*described(), hosts(carried)))


# --- geometry ---------------------------------------------------------------


@st.composite
def graphs(draw: Any) -> tuple[dict[str, tuple[float, float]], list[tuple[str, str]]]:
    """Boxes of some sizes, and arrows from earlier to later ones."""
    names = [f"n{number}" for number in range(draw(st.integers(2, 9)))]
    arrows = draw(st.lists(st.sampled_from(list(combinations(names, 2))), max_size=16))
    return {name: (draw(st.integers(40, 200)), draw(st.integers(40, 320))) for name in names}, arrows


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_no_arrow_crosses_a_box(graph: tuple[dict[str, tuple[float, float]], list[tuple[str, str]]]) -> None:
    sizes, arrows = graph
    column = layers.columns(sizes, arrows, {})
    placed = layers.layout(sizes, arrows, column)
    for one, other in combinations(placed.boxes, 2):
        assert not overlap(placed.boxes[one], placed.boxes[other])
    passing: dict[tuple[float, float], int] = {}
    for (source, target), route in zip(arrows, placed.routes, strict=True):
        assert column[source] < column[target]
        assert route[0][0] == placed.boxes[source].x + placed.boxes[source].width
        assert route[-1][0] == placed.boxes[target].x
        assert len(route) == 2 * (column[target] - column[source])
        for (left, y), (right, level) in zip(route[1:-1:2], route[2:-1:2], strict=True):
            assert y == level, "straight past a column"
            passing[left, y] = passing.get((left, y), 0) + 1
            for box in placed.boxes.values():
                assert not overlap(layers.Box(left, y - 1, right - left, 2), box)
    assert set(passing.values()) <= {1}, "no two arrows on one line"


def test_a_column_settles_where_it_wants_to_as_far_as_it_has_room() -> None:
    assert layers.settled([5, 30], [0, 10], [1, 1]) == [5, 30]
    assert layers.settled([10, 10], [0, 10], [1, 1]) == [5, 15]
    assert layers.settled([10, 10], [0, 10], [3, 1]) == [7.5, 17.5]


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_every_catalogue_is_drawn_as_it_is(chance: random.Random) -> None:
    names = [f"s{number}" for number in range(chance.randint(1, 7))]
    entries = {
        name: {
            "kind": chance.choice(["nestjs_api", "static_frontend", "nextjs", "yjs_websocket"]),
            "port": 3000 + number,
            "health": {"tcp": True},
            "needs": chance.sample(names[:number], chance.randint(0, min(2, number))),
            "public": [{"host": f"h{number}"}] if chance.random() < 0.5 else [],
            "build": {"source": "../app"},
        }
        for number, name in enumerate(names)
    }
    environment = {**described()[1], "databases": {}, "secrets": {}}
    if chance.random() < 0.5:
        environment["tls"] = FILES
    model = catalogue.load({"services": entries}, environment)
    text = topology.picture(model)
    assert sorted(drawn(text)) == sorted(flows(model))
    for one, other in combinations(cards(text).values(), 2):
        assert not overlap(one, other)


# --- in a browser -------------------------------------------------------------

# Everything that a browser has drawn: texts with their boxes, cards, and points of the arrows.
MEASURE = """() => {
  const box = (element) => { const {x, y, width, height} = element.getBBox(); return [x, y, width, height]; };
  const all = (query) => [...document.querySelectorAll(query)];
  return {
    page: box(document.querySelector('.page')),
    texts: all('text').map((text) => [
      text.textContent, text.parentNode.dataset.name || null, box(text), text.classList.contains('port')]),
    cards: all('g[data-name]').map((group) => [group.dataset.name, box(group.querySelector('rect'))]),
    points: all('.flow').map((group) => { const path = group.querySelector('.line'), length = path.getTotalLength();
      return [group.dataset.source + ' ' + group.dataset.target, [...Array(101).keys()].map((step) => {
        const point = path.getPointAtLength(length * step / 100); return [point.x, point.y]; })]; }),
  }; }"""


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, Any]]:
    """What a browser measures in each picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(BROWSER))
        page = browser.new_page()
        found = {}
        for name in CASES:
            page.set_content(topology.picture(case(name)))
            found[name] = page.evaluate(MEASURE)
        browser.close()
        yield found


def inside(inner: layers.Box, outer: layers.Box) -> bool:
    return (
        inner.x >= outer.x - SLACK
        and inner.y >= outer.y - SLACK
        and inner.x + inner.width <= outer.x + outer.width + SLACK
        and inner.y + inner.height <= outer.y + outer.height + SLACK
    )


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(BROWSER), reason=f"{BROWSER} is not here: make setup")
@pytest.mark.parametrize("name", CASES)
def test_in_a_browser_text_fits_and_nothing_lies_on_it(name: str, measured: dict[str, Any]) -> None:
    seen = measured[name]
    boxes = {card: layers.Box(*box) for card, box in seen["cards"]}
    texts = [(text, card, layers.Box(*box)) for text, card, box, _port in seen["texts"]]
    for text, card, box in texts:
        assert inside(box, boxes[card] if card else layers.Box(*seen["page"])), text
        assert box.width > 0, text
    for (one, _card, box), (other, _other, second) in combinations(texts, 2):
        # The boxes of lines that follow each other touch; letters do not reach the upper and lower fifth.
        tight = box._replace(y=box.y + box.height / 5, height=box.height * 3 / 5)
        assert not overlap(tight, second._replace(y=second.y + second.height / 5, height=second.height * 3 / 5)), (
            one,
            other,
        )
    labels = [layers.Box(*box) for _text, _card, box, port in seen["texts"] if port]
    for ends, points in seen["points"]:
        for end, (_x, y) in zip(ends.split(), (points[0], points[-1]), strict=True):
            assert boxes[end].y < y < boxes[end].y + boxes[end].height, "an arrow begins and ends at its box"
        for x, y in points:
            point = layers.Box(x - 0.1, y - 0.1, 0.2, 0.2)
            for card, box in boxes.items():
                core = layers.Box(box.x + 1, box.y + 1, box.width - 2, box.height - 2)
                assert not overlap(point, core), (ends, card)
            for box in labels:
                core = layers.Box(box.x, box.y + box.height / 5, box.width, box.height * 3 / 5)
                assert not overlap(point, core), (ends, box)


if __name__ == "__main__":
    DRAWN.write_text(topology.picture(production()))
