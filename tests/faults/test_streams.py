# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A deployment over open streams: none ends before the drain is over, and no event is lost.

STREAM_SECONDS says how old the streams are by then.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.front import NODE, Front
from tests.unit.nginx import live

AGE = float(os.environ.get("STREAM_SECONDS", "2"))
DRAIN = 2.0
CLIENT = Path(__file__).with_name("streams.mjs")
CLIENTS = 3


class Line(NamedTuple):
    """What a client told: when (seconds since 1970), what, the event's id or how a stream ended, and the release."""

    at: float
    what: str
    which: str
    release: str


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    """An edge and a front with a live release."""
    with Front(tmp_path, edge=True) as front:
        front.start("blue", "release-0")
        yield front


def lines(path: Path) -> list[Line]:
    """What a client has told so far."""
    found = [line.split() for line in path.read_text().splitlines()]
    return [Line(float(words[0]), words[1], words[2], words[3]) for words in found]


def test_a_deployment_cuts_no_stream_before_its_drain_is_over_and_loses_no_event(front: Front, tmp_path: Path) -> None:
    target = [str(front.prefix.port(443)), f"api.{live.DOMAIN}", str(front.authority)]
    told = {
        f"{protocol}-{number}": tmp_path / f"{protocol}-{number}"
        for protocol in ("http1", "http2")
        for number in range(CLIENTS)
    }
    with ExitStack() as clients:
        for name, path in told.items():
            with path.open("w") as output:
                process = subprocess.Popen([NODE, str(CLIENT), name.partition("-")[0], *target], stdout=output)
            clients.callback(process.wait)
            clients.callback(process.kill)
        deadline = time.monotonic() + 20
        while not all(path.stat().st_size for path in told.values()):
            assert time.monotonic() < deadline, "no client got an event"
            time.sleep(0.05)
        time.sleep(AGE)
        # A certificate that is renewed in mid-stream.
        front.reload()
        begun = time.time()
        front.replace("release-1", front.flag, DRAIN)
        time.sleep(1.5)
    for name, path in told.items():
        found = lines(path)
        events = [int(line.which) for line in found if line.what == "event"]
        assert events == list(range(events[0], events[-1] + 1)), f"{name} lost events, or got some twice"
        assert len(events) >= 10 * (AGE + DRAIN)
        (end,) = [line for line in found if line.what == "end"]
        assert end.which == "whole" and end.at >= begun + DRAIN, f"{name} ended {end.at - begun:.1f} s after the switch"
        releases = [line.release for line in found if line.what == "event"]
        assert sorted(set(releases)) == ["release-0", "release-1"] and releases == sorted(releases)
    print(f"\n{len(told)} streams of {AGE:g} s: no event lost, and each connected again by itself")
