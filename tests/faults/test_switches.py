# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A switch loses no request; and the same instrument shows what other ways of replacing a process lose."""

from __future__ import annotations

import http.client
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.front import Front
from tests.faults.load import Process, Result, Sample, Switch, first_answer, late_answers, report

# A third of what the benchmark sends, since other tests may run on the machine.
LOAD = {"rate": 250, "connections": 50, "post": 0.3, "service_ms": 4, "slow": 0.01, "slow_ms": 500, "seconds": 120}
DRAIN = 1.0
ADDED_MS = 250
# Where half of all requests wait as long as this, the machine has no processor left for them. No switch does that.
BUSY_MS = 50

Act = Callable[[Front], list[Switch]]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    """A front with a live release."""
    with Front(tmp_path) as front:
        front.start("blue", "release-0")
        yield front


def measured(front: Front, act: Act) -> tuple[Result, list[Switch]]:
    """Put load on a front while something is done to it."""
    with Process(front.prefix.path / "load.json", **front.target, **LOAD) as load:
        time.sleep(0.5)
        switches = act(front)
        time.sleep(0.5)
        return load.finish(), switches


def by_flag(front: Front, abrupt: bool = False) -> list[Switch]:
    """Switch a few times as a deployment does."""
    return [front.replace(f"release-{number}", front.flag, DRAIN, abrupt=abrupt) for number in range(1, 5)]


def by_nothing(_front: Front) -> list[Switch]:
    """Let it run as long as the others do."""
    switches = []
    for _ in range(4):
        switches.append(Switch(time.monotonic(), time.monotonic(), "", ""))
        time.sleep(DRAIN)
    return switches


def delay(result: Result, switches: list[Switch]) -> float:
    """Return the worst latency in milliseconds around a switch, of the switch for which it was least.

    What a switch delays, it delays each time. What else runs on the machine hits one or the other.
    """
    return 1000 * min(
        max(it.latency for it in result.samples if switch.begun - 0.3 <= it.due <= switch.done + DRAIN + 0.3)
        for switch in switches
    )


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the machine itself delays: the same without a switch."""
    with Front(tmp_path_factory.mktemp("still")) as front:
        front.start("blue", "release-0")
        return delay(*measured(front, by_nothing))


def assert_nothing_lost(result: Result, switches: list[Switch], still: float) -> None:
    """No failure, no answer of an old release, no delay that anybody would notice."""
    figures, samples = result
    assert figures["failures"] == {}
    assert set(figures["releases"]) == {f"release-{number}" for number in range(len(switches) + 1)}
    assert late_answers(samples, switches) == 0
    if figures["p50_ms"] > BUSY_MS:
        warnings.warn(f"the machine was too busy to judge latencies: {figures}", stacklevel=2)
    else:
        assert delay(result, switches) <= ADDED_MS + still, figures


def test_a_switch_by_flag_loses_nothing(front: Front, still: float) -> None:
    result, switches = measured(front, by_flag)
    assert_nothing_lost(result, switches, still)
    # The instrument sees answers of old releases where there are some.
    assert late_answers(result.samples, [switch._replace(done=switch.begun - 0.5) for switch in switches]) > 0


def test_an_application_without_manners_loses_nothing_either(front: Front, still: float) -> None:
    result, switches = measured(front, lambda front: by_flag(front, abrupt=True))
    assert_nothing_lost(result, switches, still)


def test_nothing_is_lost_through_the_edge(tmp_path: Path, still: float) -> None:
    with Front(tmp_path, edge=True) as front:
        front.start("blue", "release-0")
        result, switches = measured(front, by_flag)
    assert_nothing_lost(result, switches, still)


@pytest.mark.parametrize("late, status", [(-0.5, 200), (0.2, 502)])
def test_an_upload_is_kept_that_ends_within_the_drain(front: Front, late: float, status: int) -> None:
    """The slot is chosen when the headers are there, and reached when the body is."""
    front.start("green", "release-1")
    body = b"x" * 200_000
    connection = http.client.HTTPConnection(urlsplit(front.target["url"]).netloc, timeout=10)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100_000])
    time.sleep(0.1)
    ends = front.flag("green").done + DRAIN
    stop = threading.Timer(DRAIN, front.stop, ["blue"])
    stop.start()
    time.sleep(ends + late - time.monotonic())
    connection.send(body[100_000:])
    response = connection.getresponse()
    stop.join()
    assert response.status == status
    assert response.getheader("X-Release") == ("release-0" if status == 200 else None)


# --- what the instrument must be able to see ----------------------------------


def test_a_restart_in_place_loses_requests(front: Front) -> None:
    figures = measured(front, lambda front: [front.restart("release-1")])[0].figures
    assert figures["failed"] > 10
    assert figures["longest_stall_ms"] > 30


def test_a_reload_that_does_not_drain_loses_requests(front: Front) -> None:
    assert measured(front, lambda front: [front.replace("release-1", front.reload, 0)])[0].figures["failed"] > 3


def test_a_reload_that_drains_lets_the_old_release_answer(front: Front) -> None:
    result, switches = measured(front, lambda front: [front.replace("release-1", front.reload, DRAIN)])
    assert late_answers(result.samples, switches) > 0


def test_figures_are_of_all_requests() -> None:
    def sample(due: float, latency: float, release: str = "old", error: str = "", asked: float = 0.0) -> Sample:
        return Sample(due, due, due + latency + asked, asked, "GET", 200, release, error)

    samples = [sample(number / 100, 0.002, asked=0.1) for number in range(100)]
    samples += [sample(1.0, 0.5), sample(1.1, 0.002, "", "reset"), sample(1.2, 0.01, "new"), sample(1.6, 0, "new")]
    figures = report(samples, [0.001] * 104, 0.2)
    assert (figures["requests"], figures["failures"]) == (104, {"reset": 1})
    assert (figures["p50_ms"], figures["worst_ms"]) == (2.0, 500.0)
    assert figures["longest_stall_ms"] == 290.0
    assert figures["kept_up"] is True
    assert report(samples, [0.001] * 103 + [0.5], 0.2)["kept_up"] is False
    assert report(samples, [0.001] * 102 + [0.03] * 2, 0.2)["kept_up"] is False
    assert report(samples, [0.001] * 104, 0.95)["kept_up"] is False
    switch = Switch(0.9, 0.92, "old", "new")
    assert late_answers(samples, [switch]) == 3
    assert first_answer(samples, switch) == pytest.approx(0.31)
