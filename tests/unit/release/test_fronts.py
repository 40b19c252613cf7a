# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Fronts: rendered on the controller, and read by a parser of nginx configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crossplane
import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import compose

from .conftest import make_spec

KINDS = ("nestjs_api", "nextjs", "yjs_websocket", "static_frontend")
Block = list[dict[str, Any]]


@pytest.fixture
def front(tmp_path: Path) -> Any:
    """Render a service's front and parse it."""

    def front(kind: str, **changes: Any) -> Block:
        path = tmp_path / "front.conf"
        path.write_text(compose.front_text(make_spec(kind, **changes)))
        parsed = crossplane.parse(str(path), single=True, check_ctx=False)
        assert parsed["errors"] == []
        return parsed["config"][0]["parsed"]

    return front


def directives(block: Block, name: str, *, deep: bool = False) -> Iterator[list[str]]:
    """The arguments of every directive of a name."""
    for item in block:
        if item["directive"] == name:
            yield item["args"]
        if deep:
            yield from directives(item.get("block", []), name, deep=True)


def inner(block: Block, name: str, *arguments: str) -> Block:
    """What is inside the one block of a name and these arguments."""
    (found,) = (item["block"] for item in block if item["directive"] == name and item["args"] == list(arguments))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_front_listens_on_the_services_port_and_switches_by_the_flag(front: Any, kind: str) -> None:
    server = inner(front(kind), "server")
    assert list(directives(server, "listen")) == [["8080" if kind == "static_frontend" else "3001"]]
    assert list(directives(server, "open_file_cache")) == [["off"]], "the flag would be remembered"
    switch = inner(server, "if", "-f", "/var/lib/fivepointers/orders.green")
    assert [item["directive"] for item in switch] == ["set"], "anything else in an if is a trap"
    ((_variable, blue),) = ([name, value] for name, value in directives(server, "set") if name == "$slot")
    ((_variable, green),) = directives(switch, "set")
    assert blue.replace("blue", "green") == green


@pytest.mark.parametrize("kind", KINDS[:3])
def test_each_slot_has_a_pool_of_its_own_that_gives_up_before_node_does(front: Any, kind: str) -> None:
    block = front(kind, name="my-orders")
    for slot, port in (("blue", 13001), ("green", 23001)):
        upstream = inner(block, "upstream", f"fp_my_orders_{slot}")
        assert [args[0] for args in directives(upstream, "server")] == [f"127.0.0.1:{port}"]
        assert list(directives(upstream, "keepalive_timeout")) == [["4s"]]
    assert set(map(tuple, directives(block, "proxy_pass", deep=True))) == {("http://$slot",)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_location_that_passes_requests_on_blanks_forged_headers(front: Any, kind: str) -> None:
    server = inner(front(kind), "server")
    for item in server:
        if item["directive"] == "location" and list(directives(item["block"], "proxy_pass")):
            includes = [args[0] for args in directives(item["block"], "include")]
            assert "/etc/nginx/fivepointers/snippets/proxy.conf" in includes, item["args"]
            # It would replace all that the snippet sets.
            assert list(directives(item["block"], "proxy_set_header")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_sockets_may_be_silent_only_where_there_are_some(front: Any, kind: str) -> None:
    includes = [args[0] for args in directives(front(kind), "include", deep=True)]
    assert ("/etc/nginx/fivepointers/snippets/websocket.conf" in includes) == (kind == "yjs_websocket")


def test_large_bodies_are_let_in_as_the_catalogue_says(front: Any) -> None:
    server = inner(front("nestjs_api", body_limit="25m"), "server")
    assert list(directives(server, "client_max_body_size")) == [["25m"]]


def test_next_serves_the_chunks_of_all_kept_releases(front: Any) -> None:
    location = inner(inner(front("nextjs"), "server"), "location", "~", "^(?:/.*)?/_next/static/(?<file>.+)$")
    assert list(directives(location, "root")) == [["/opt/fivepointers/orders/shared"]]
    assert list(directives(location, "try_files")) == [["/_next/static/$file", "@application"]]
    includes = [args[0] for args in directives(location, "include")]
    assert includes == [f"/etc/nginx/fivepointers/snippets/{name}.conf" for name in ("static", "hashed")]


@pytest.mark.parametrize("spa, last", [(True, "/index.html"), (False, "=404")])
def test_deep_links_are_the_page_only_in_an_application_of_one_page(front: Any, spa: bool, last: str) -> None:
    server = inner(front("static_frontend", spa=spa), "server")
    ((*_tried, found),) = directives(inner(server, "location", "/"), "try_files")
    assert found == last
    ((*_tried, found),) = directives(inner(server, "location", "@earlier"), "try_files")
    assert found == "=404", "a missing script must never be answered with a page"


@pytest.mark.parametrize("kind", KINDS)
def test_headers_for_browsers_are_the_edges(front: Any, kind: str) -> None:
    names = {args[0].lower() for args in directives(front(kind), "add_header", deep=True)}
    # What passes event by event is marked for the proxy before it.
    assert names <= {"cache-control", "x-accel-buffering"}
