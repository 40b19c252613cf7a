# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The probe against real servers on the loopback: quiet ones, and ones that fail in each way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import probe as deploy_probe
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.probe import Probe, Spread, Thinned
from hypothesis import example, given
from hypothesis import strategies as st
from pycrdt import Doc, Text, YMessageType, create_sync_message, create_update_message, handle_sync_message
from websockets.asyncio.server import ServerConnection, broadcast, serve

from tests.unit.verify.conftest import DOMAIN, Authority, FrontDoor, Visitor

pytestmark = pytest.mark.slow

API = {"service": "api", "kind": "http", "url": f"https://api.{DOMAIN}/api/health", "status": [200]}
PAGE = {"service": "frontend", "kind": "http", "url": f"https://{DOMAIN}/", "status": "200-399"}


class Door(FrontDoor):
    """A front door that counts its connections, and that can hang."""

    def __init__(self, authority: Authority, port: int = 0) -> None:
        self.port = port
        self.connections = 0
        self.answering = threading.Event()
        self.answering.set()
        super().__init__(authority)
        self.RequestHandlerClass = Patient

    def server_bind(self) -> None:
        self.server_address = ("127.0.0.1", self.port)
        super().server_bind()

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()


class Patient(Visitor):
    """Answers when the door does."""

    def api(self) -> None:
        assert isinstance(self.server, Door)
        self.server.answering.wait(10)
        super().api()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def door(authority: Authority) -> Iterator[Door]:
    it = Door(authority)
    yield it
    it.answering.set()
    it.shutdown()
    it.server_close()


Start = Callable[..., Probe]


@pytest.fixture
def start(authority: Authority) -> Iterator[Start]:
    """Start a probe that is stopped whatever happens."""
    probes: list[Probe] = []

    def begin(
        *targets: dict[str, Any], rate: float = 20, connect_to: str | None = None, ca: str | None = None
    ) -> Probe:
        probes.append(Probe(targets, rate, ca or str(authority.file), connect_to))
        probes[-1].start()
        return probes[-1]

    yield begin
    for probe in probes:
        probe.stop()


def wait_for(what: Callable[[], Any], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def sane(result: dict[str, Any]) -> None:
    """What holds of every result."""
    assert json.loads(json.dumps(result)) == result
    parts = result["by_service"].values()
    assert sum(part["requests"] for part in parts) == result["requests"]
    assert sum(part["failed"] for part in parts) == result["failed"] <= result["requests"]
    assert len(result["failures"]) <= 20 and len(result["samples"]) <= 2000
    assert result["longest_stall_ms"] == max((part["longest_stall_ms"] for part in parts), default=0)
    latency = result["latency_ms"]
    assert latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert [sample[0] for sample in result["samples"]] == sorted(sample[0] for sample in result["samples"])
    for _at, ms, ok, index in result["samples"]:
        assert ms >= 0 and ok in (0, 1) and 0 <= index < len(result["services"])


# --- requests ---------------------------------------------------------------------


def test_quiet_services_are_asked_at_the_rate_half_of_it_on_new_connections(door: Door, start: Start) -> None:
    probe = start(API, PAGE, connect_to=door.address)
    time.sleep(2)
    result = probe.stop()
    sane(result)
    assert result["failed"] == 0 and result["failures"] == [] and result["unmeasured"] == []
    assert 26 <= result["requests"] <= 42
    assert result["seconds"] == pytest.approx(2, abs=0.5)
    for name in ("api", "frontend"):
        assert result["by_service"][name]["requests"] == pytest.approx(result["requests"] / 2, abs=2)
    assert len(result["samples"]) == result["requests"] == len(door.asked)
    # The kept ones open once for each target, and once more where two requests overlapped.
    assert result["requests"] / 2 <= door.connections <= result["requests"] / 2 + 8
    assert 0 < result["longest_stall_ms"] <= result["latency_ms"]["max"] + 1


def test_an_outage_shows_with_its_time_its_length_and_its_service(door: Door, start: Start) -> None:
    probe = start(API, PAGE, connect_to=door.address)
    time.sleep(1)
    door.faults.add("slot down")
    began = probe._now()
    time.sleep(1)
    door.faults.clear()
    ended = probe._now()
    time.sleep(0.6)
    result = probe.stop()
    sane(result)
    assert 6 <= result["failed"] <= 12
    assert result["by_service"]["frontend"]["failed"] == 0
    assert result["by_service"]["api"]["longest_stall_ms"] == pytest.approx((ended - began) * 1000, abs=400)
    assert result["by_service"]["api"]["longest_stall_at"] == pytest.approx(began, abs=0.3)
    assert result["by_service"]["frontend"]["longest_stall_ms"] < 500
    assert result["latency_ms"]["max"] < 500
    first = result["failures"][0]
    assert first == {**first, "service": "api", "url": API["url"], "what": "502 Bad Gateway"}
    for at in (first["at"], *result["failed_at"]):
        assert began - 0.3 <= at <= ended + 0.3
    assert sum(1 for sample in result["samples"] if not sample[2]) == result["failed"]


def test_refused_connections_show_although_kept_ones_go_on(door: Door, start: Start) -> None:
    probe = start(API, connect_to=door.address)
    time.sleep(0.6)
    address = door.server_address
    door.shutdown()
    door.server_close()
    time.sleep(0.8)
    result = probe.result()
    sane(result)
    assert result["failed"] >= 4
    # One may have been accepted by the machine and by nobody else.
    refused = [
        item for item in result["failures"] if item["what"] == f"connection to {address[0]}:{address[1]} refused"
    ]
    assert len(refused) >= result["failed"] - 1
    assert 0.3 < result["failed"] / sum(1 for sample in result["samples"] if sample[0] > 0.7) < 0.8
    assert result["longest_stall_ms"] < 600, "every second request is answered, on the kept connection"


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure(door: Door, start: Start) -> None:
    """As it is none for a browser, which sees the end of the connection before it sends."""
    door.RequestHandlerClass = type("Hasty", (Patient,), {"timeout": 0.15})
    probe = start(API, rate=4, connect_to=door.address)
    time.sleep(1.6)
    result = probe.stop()
    assert (result["failed"], result["requests"]) == (0, pytest.approx(6, abs=1))


def test_requests_go_on_while_others_hang(door: Door, start: Start) -> None:
    """A probe that waits for its answers would count one slow request, and miss what the others meet."""
    probe = start(API, connect_to=door.address)
    time.sleep(0.6)
    door.answering.clear()
    time.sleep(1)
    assert probe.result()["unanswered"] >= 12
    assert probe.result()["longest_stall_ms"] > 700, "it shows while it lasts"
    door.answering.set()
    time.sleep(0.6)
    result = probe.stop()
    sane(result)
    assert result["failed"] == 0
    assert result["by_service"]["api"]["longest_stall_ms"] == pytest.approx(1000, abs=450)
    slow = [ms for _at, ms, _ok, _index in result["samples"] if ms > 100]
    assert len(slow) >= 12
    assert statistics.median(slow) < 900, "late ones waited less than the first"


def test_what_was_down_before_is_not_the_deployment_s_failure(authority: Authority, start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        probe = start(API, PAGE, connect_to=f"127.0.0.1:{port}")
        time.sleep(0.6)
        result = probe.result()
        assert result["requests"] == 0
        assert any(text.startswith("api never answered: connection to") for text in result["unmeasured"])
    door = Door(authority, port)
    try:
        wait_for(lambda: len(probe.result()["down_before"]) == 2)
        time.sleep(0.3)
        result = probe.stop()
    finally:
        door.shutdown()
        door.server_close()
    sane(result)
    assert result["failed"] == 0 and result["requests"] > 0 and result["unmeasured"] == []
    assert result["down_before"]["api"] == pytest.approx(0.6, abs=0.5)


# --- it never stands in the way -------------------------------------------------------


@pytest.mark.parametrize(
    "target, unmeasured",
    [
        ({**API, "url": "ftp://example.invalid/"}, "api never answered: "),
        ({**API, "url": "https://[bad"}, "api never answered: "),
        ({**API, "url": "https:///x"}, "api never answered: "),
        ({**API, "url": "https://a.invalid:99999/"}, "api never answered: "),
        ({**API, "kind": "websocket", "url": "wss://127.0.0.1:1/x"}, "the sockets of api never opened: "),
        ({**API, "kind": "websocket", "url": "nonsense"}, "the sockets of api never opened: "),
        ({"service": "api"}, "a target is unusable"),
    ],
)
def test_a_target_that_cannot_be_asked_is_told_and_nothing_raises(
    target: dict[str, Any], unmeasured: str, start: Start
) -> None:
    probe = start(target)
    wait_for(lambda: any(unmeasured in text and "no response" not in text for text in probe.result()["unmeasured"]))
    result = probe.stop()
    sane(result)
    assert result["requests"] == 0
    assert any(text.startswith(unmeasured) for text in result["unmeasured"]), result["unmeasured"]


def test_a_ca_file_that_is_not_there_is_told(start: Start, tmp_path: Path) -> None:
    result = start(API, ca=str(tmp_path / "none.pem")).stop()
    sane(result)
    assert result["unmeasured"][0].startswith("nothing could be measured (ca_file ")


def test_no_targets_and_no_start_are_no_errors() -> None:
    for targets in ([], [API]):
        result = Probe(targets).stop()
        sane(result)
        assert (result["seconds"], result["requests"], result["unmeasured"]) == (0, 0, [])


def test_it_stops_in_time_although_nothing_answers(start: Start) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(128)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        probe = start(API, {**API, "kind": "websocket", "url": f"wss://ws.{DOMAIN}/x"}, connect_to=address)
        time.sleep(1)
        began = time.monotonic()
        result = probe.stop()
        assert time.monotonic() - began < 3
        sane(result)
        assert result["unanswered"] >= 12 and result["requests"] == 0
        assert "api never answered: no response" in result["unmeasured"]
        silent.close()
        wait_for(lambda: not any(asked.under_way for asked in probe.asked))
        assert probe.stop() == {**result, "unanswered": 0}, "what comes later does not count"


def test_requests_under_way_are_bounded(door: Door, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_probe, "UNDER_WAY", 5)
    door.answering.clear()
    probe = start(API, connect_to=door.address)
    time.sleep(1)
    result = probe.result()
    assert result["unanswered"] == 5 and result["unsent"] >= 8
    door.answering.set()


def test_addresses_are_told_without_what_may_be_secret(start: Start) -> None:
    door = {**API, "url": "http://user:canary1@127.0.0.1:1/x?token=canary2"}
    probe = start(door)
    # Failures of what was up are told with their address.
    probe.asked[0].up = True
    time.sleep(0.4)
    result = probe.stop()
    assert result["failures"][0]["url"] == "http://127.0.0.1:1/x"
    assert "canary" not in json.dumps(result)


def test_it_measures_in_a_forked_process(door: Door, authority: Authority, tmp_path: Path) -> None:
    probe = Probe([API], 20, str(authority.file), door.address)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            probe.start()
            time.sleep(0.6)
            (tmp_path / "result").write_text(json.dumps(probe.stop()))
        os._exit(0)
    os.waitpid(child, 0)
    result = json.loads((tmp_path / "result").read_text())
    assert result["requests"] >= 8 and result["failed"] == 0


# --- figures in bounded memory ----------------------------------------------------------


@given(st.lists(st.floats(0.1, 60_000), min_size=1, max_size=400), st.integers(1, 20))
@example([1.0, 1.0, 1.0, 2.0], 1)
def test_thinning_keeps_order_bounds_and_every_peak(values: list[float], half: int) -> None:
    thinned = Thinned(2 * half)
    for at, ms in enumerate(values):
        thinned.add([at, ms])
    assert len(thinned.items) <= 2 * half
    assert len(thinned.items) == -(-len(values) // thinned.stride)
    assert max(ms for _at, ms in thinned.items) == max(values)
    assert [at for at, _ms in thinned.items] == sorted({at for at, _ms in thinned.items})


@given(st.lists(st.floats(0.05, 60_000), min_size=1, max_size=300))
def test_percentiles_are_within_one_percent(values: list[float]) -> None:
    spread = Spread()
    for value in values:
        spread.add(value, 1.0)
    for share in (0.5, 0.95, 0.99):
        exact = sorted(values)[max(0, -(-round(share * 1000) * len(values) // 1000) - 1)]
        assert spread.percentile(share) == pytest.approx(exact, rel=0.01, abs=0.06)
    assert spread.figures(99)["max"] == round(max(values), 1)


def test_a_long_deployment_is_counted_in_full_and_drawn_in_part() -> None:
    probe = Probe([API, PAGE])
    chance = random.Random(4)
    with probe.lock:
        for number in range(50_000):
            asked = probe.asked[number % 2]
            failed = asked.up and number % 100 == 0
            probe._note(asked, number / 20, number / 20 + chance.uniform(0.001, 0.05), "502" if failed else "")
    result = probe.result()
    sane(result)
    assert (result["requests"], result["failed"]) == (50_000, 499)
    assert sum(1 for sample in result["samples"] if not sample[2]) == 499, "failures are always drawn"
    assert len(result["samples"]) > 1000


# --- sockets ------------------------------------------------------------------------------


class Relay:
    """A Y.js relay on the loopback, in a thread, that can be told to misbehave."""

    def __init__(self) -> None:
        self.people: set[ServerConnection] = set()
        self.document: Any = None
        self.loop = asyncio.new_event_loop()
        self.refuses = self.drops = False
        self.slow = 0.0
        self.port = 0
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.call(self.open())

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def open(self) -> None:
        self.document = Doc()
        self.server = await serve(self.serve, "127.0.0.1", self.port, process_request=self.admit)
        self.port = next(iter(self.server.sockets)).getsockname()[1]

    def admit(self, connection: ServerConnection, _request: Any) -> Any:
        return connection.respond(503, "not now") if self.refuses else None

    async def serve(self, connection: ServerConnection) -> None:
        self.people.add(connection)
        try:
            await connection.send(create_sync_message(self.document))
            async for message in connection:
                assert isinstance(message, bytes)
                if message[0] != YMessageType.SYNC:
                    continue
                before = self.document.get_state()
                reply = handle_sync_message(message[1:], self.document)
                if reply:
                    await connection.send(reply)
                if self.drops or self.document.get_state() == before:
                    continue
                await asyncio.sleep(self.slow)
                update = create_update_message(self.document.get_update(before))
                # To those who are still there: one may have gone away meanwhile.
                broadcast(self.people - {connection}, update)
        finally:
            self.people.discard(connection)

    async def hang_up(self, code: int, number: int | None = None) -> None:
        for connection in list(self.people)[:number]:
            await connection.close(code, "service restart")

    async def text(self) -> str:
        return str(self.document.get("text", type=Text))

    async def close(self) -> None:
        self.server.close()
        await self.server.wait_closed()
        self.document = None

    def end(self) -> None:
        self.call(self.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    monkeypatch.setattr(deploy_probe, "EDIT_EVERY", 0.3)
    it = Relay()
    yield it
    it.end()


def socket_target(relay: Relay) -> dict[str, Any]:
    return {"service": "collab", "kind": "websocket", "url": f"ws://127.0.0.1:{relay.port}/room"}


def edited(probe: Probe, edits: int) -> Callable[[], bool]:
    return lambda: probe.result()["sockets"]["edits"] >= edits


def test_edits_are_seen_and_the_document_does_not_grow(relay: Relay, start: Start) -> None:
    for _deployment in range(2):
        probe = start(socket_target(relay))
        wait_for(edited(probe, 3))
        result = probe.stop()
        sane(result)
        sockets = result["sockets"]
        assert (sockets["closed"], sockets["edits_missing"], sockets["outages"]) == (0, 0, [])
        assert 0 < sockets["edit_delay_ms"]["p50"] <= sockets["edit_delay_ms"]["max"] < 800
        assert result["unmeasured"] == []
    assert len(relay.call(relay.text())) < 20


def test_a_handed_over_socket_is_out_for_as_long_as_a_browser_is(relay: Relay, start: Start) -> None:
    probe = start(socket_target(relay))
    wait_for(edited(probe, 2))
    relay.call(relay.hang_up(1012))
    wait_for(edited(probe, 4))
    sockets = probe.stop()["sockets"]
    assert (sockets["closed"], sockets["codes"], sockets["edits_missing"]) == (2, {"1012": 2}, 0)
    assert 100 <= sockets["longest_out_ms"] < 900
    assert [outage["attempts"] for outage in sockets["outages"]] == [0, 0]
    assert {outage["who"] for outage in sockets["outages"]} == {"client 1", "client 2"}
    assert sockets["outages"][0]["what"] == "the socket was closed (1012 service restart)"


def test_an_outage_of_the_relay_delays_what_is_written_in_it_and_loses_nothing(relay: Relay, start: Start) -> None:
    probe = start(socket_target(relay))
    wait_for(edited(probe, 2))
    relay.refuses = True
    relay.call(relay.hang_up(1001))
    time.sleep(1.5)
    during = probe.result()["sockets"]
    assert during["longest_out_ms"] > 1000 and during["outages"][0]["attempts"] >= 2
    relay.refuses = False
    wait_for(lambda: not probe.sockets[0].out)
    wait_for(edited(probe, 10))
    result = probe.stop()
    sane(result)
    sockets = result["sockets"]
    assert 1400 <= sockets["longest_out_ms"] < 4500
    assert sockets["edits_missing"] == 0
    assert 1000 < sockets["edit_delay_ms"]["max"] < 4500
    # What was written just before the connection is known to be lost is delayed as well.
    outage = sockets["outages"][0]
    assert outage["at"] - 0.1 <= sockets["edit_delay_ms"]["max_at"] <= outage["until"]


def test_edits_that_do_not_arrive_are_missing_and_late_by_their_age(
    relay: Relay, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy_probe, "PATIENCE", 0.8)
    probe = start(socket_target(relay))
    wait_for(edited(probe, 2))
    relay.drops = True
    wait_for(edited(probe, 5))
    began = time.monotonic()
    sockets = probe.stop()["sockets"]
    assert time.monotonic() - began < 3
    assert 2 <= sockets["edits_missing"] <= 4
    assert sockets["edit_delay_ms"]["max"] > 1000


def test_a_slow_relay_is_seen(relay: Relay, start: Start) -> None:
    relay.slow = 0.3
    probe = start(socket_target(relay))
    wait_for(edited(probe, 3))
    assert 300 <= probe.stop()["sockets"]["edit_delay_ms"]["p50"] < 900


def test_a_code_after_which_browsers_stay_away_lasts_to_the_end(relay: Relay, start: Start) -> None:
    probe = start(socket_target(relay))
    wait_for(edited(probe, 1))
    relay.call(relay.hang_up(4401, 1))
    time.sleep(0.6)
    sockets = probe.stop()["sockets"]
    assert sockets["codes"] == {"4401": 1}
    assert sockets["longest_out_ms"] > 500 and sockets["outages"][0]["attempts"] == 0


def test_sockets_through_the_front_door_with_its_certificate(door: Door, start: Start) -> None:
    target = {"service": "collab", "kind": "websocket", "url": f"wss://ws.{DOMAIN}/x", "origin": f"https://{DOMAIN}"}
    probe = start(API, target, connect_to=door.address)
    wait_for(edited(probe, 2))
    result = probe.stop()
    assert result["sockets"]["edits_missing"] == 0 and result["failed"] == 0 and result["unmeasured"] == []


def test_a_relay_that_hangs_after_its_closing_frame_is_left(door: Door, start: Start) -> None:
    target = {"service": "collab", "kind": "websocket", "url": f"wss://ws.{DOMAIN}/x", "origin": f"https://{DOMAIN}"}
    probe = start(target, connect_to=door.address)
    wait_for(edited(probe, 1))
    # Whoever holds them keeps their connections open.
    held = [visitor for _updates, visitors in door.rooms.values() for visitor in visitors]
    for visitor in held:
        with visitor.sending:
            visitor.protocol.send_close(1012, "hangs")
            visitor.flush()
    wait_for(lambda: len(probe.result()["sockets"]["outages"]) == len(held) == 2 and not probe.sockets[0].out)
    sockets = probe.stop()["sockets"]
    assert 2000 <= sockets["longest_out_ms"] < 3500
    assert sockets["codes"] == {"1012": 2}
