# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What people who edit together notice when their relay is replaced: nothing."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.faults.sockets import Kit, MissingError, Stand, over, replace
from tests.unit.nginx.live import ROOT

# The full 200 on 20 are for tests/bench/sockets.py.
SOCKETS, DOCUMENTS = 60, 10
RELAY = "sockets_relay.cjs"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """Programs and packages."""
    kit = Kit(tmp_path_factory.mktemp("sockets"))
    try:
        kit.node()
        assert kit.code
    except MissingError as error:
        pytest.fail(str(error), pytrace=False)
    return kit


def replaced(
    kit: Kit, folder: Path, *but: str, how: signal.Signals = signal.SIGTERM, **settings: Any
) -> dict[str, Any]:
    """Return what people noticed of a replacement that kept to the bars, but for some.

    Nothing may be lost in any attempt. How long things take is also up to who else uses the machine: of three
    attempts one has to do.
    """
    for attempt in range(3):
        with Stand(kit, folder / str(attempt), **settings) as stand:
            figures = replace(stand, SOCKETS, DOCUMENTS, how=how)
            if how == signal.SIGTERM:
                figures["report"] = stand.said("blue", "sent clients away")
        beyond = over(figures, *but)
        assert not {"missing", "split", "empty"} & set(beyond), figures
        assert figures["moved"] == SOCKETS
        if not beyond:
            return figures
    pytest.fail(f"{beyond} of {figures}")


def test_the_collab_server_is_replaced(kit: Kit, tmp_path: Path) -> None:
    figures = replaced(kit, tmp_path)
    assert figures["status"] == 0
    report = figures["report"]
    assert (report["documents"], report["connections"]) == (DOCUMENTS, SOCKETS)
    assert report["ms"] / 1000 <= figures["seconds"]


def test_the_collab_server_is_killed(kit: Kit, tmp_path: Path) -> None:
    """All come back at once, which nobody can pace; what they wrote is there."""
    replaced(kit, tmp_path, "peak", how=signal.SIGKILL)


def test_a_relay_that_knows_nothing_is_replaced(kit: Kit, tmp_path: Path) -> None:
    figures = replaced(kit, tmp_path, server=RELAY, preload=True)
    assert figures["status"] == -signal.SIGTERM
    report = figures["report"]
    assert (report["documents"], report["connections"]) == (DOCUMENTS, SOCKETS)
    assert report["joined"] > DOCUMENTS, "documents that were left count too"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"shared": False, "environment": {"HAND_OFF_RATE": "100000"}}, id="no pacing, no shared store"),
        pytest.param({"server": RELAY}, id="no module"),
    ],
)
def test_a_failure_is_seen(kit: Kit, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Else all of the above says nothing."""
    with Stand(kit, tmp_path, **settings) as stand:
        figures = replace(stand, SOCKETS, DOCUMENTS)
    assert {"peak", "empty"} <= set(over(figures)), figures


# --- the module alone -----------------------------------------------------------------------------------------------

# Answers each message with what it knows of the client, and does at SIGTERM what a test says.
ECHO = """
const http = require('node:http');
const { WebSocketServer } = require('ws');
const relay = new WebSocketServer({ noServer: true });
const server = http.createServer((request, response) => response.end());
server.on('upgrade', (request, socket, head) => {
  if (request.url.startsWith('/refused')) {
    socket.write('HTTP/1.1 401 Unauthorized\\r\\nContent-Length: 0\\r\\n\\r\\n');
    return socket.end();
  }
  relay.handleUpgrade(request, socket, head, (client) => relay.emit('connection', client, request));
});
relay.on('connection', (socket, request) => {
  console.log(JSON.stringify({ message: 'came', url: request.url, ...request.headers }));
  socket.on('message', () => socket.send('still here'));
});
server.listen(process.env.PORT, '127.0.0.1');
"""
STOPS = {
    "nothing": ("", -signal.SIGTERM),
    "ends by itself": ("process.on('SIGTERM', (...values) => leave(values));", 7),
    "once": ("process.once('SIGTERM', (...values) => leave(values));", 7),
    # As NestJS does.
    "passes the signal on": (
        """process.on('SIGTERM', function again(...values) {
             process.removeListener('SIGTERM', again);
             tell(values);
             process.kill(process.pid, 'SIGTERM');
           });""",
        -signal.SIGTERM,
    ),
}
TELL = """
const open = () => [...relay.clients].filter((client) => client.readyState === client.OPEN).length;
const tell = (values) => console.log(JSON.stringify({ message: 'asked to stop', values, open: open() }));
const leave = (values) => { tell(values); server.close(() => process.exit(7)); };
"""


def echo(kit: Kit, folder: Path, script: str = "", **settings: Any) -> Stand:
    """Return a stand with the echo server, which also runs a script."""
    name = f"echo-{folder.name}.cjs"
    (kit.code / name).write_text(ECHO + TELL + script)
    return Stand(kit, folder, server=name, preload=True, **settings)


def connect(stand: Stand, path: str = "/room", **headers: str) -> ClientConnection:
    """Open a socket through the front."""
    return stand.stack.enter_context(
        websockets.sync.client.connect(
            f"ws://127.0.0.1:{stand.port}{path}", additional_headers=headers, open_timeout=5, close_timeout=1
        )
    )


def goodbye(client: ClientConnection) -> int:
    """Return the code with which a socket was closed."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.parametrize("name, node", [*((name, "24") for name in STOPS), ("passes the signal on", "22")])
def test_the_application_stops_as_it_would(kit: Kit, tmp_path: Path, name: str, node: str) -> None:
    script, expected = STOPS[name]
    with echo(kit, tmp_path, script, node=node) as stand:
        clients = [connect(stand), connect(stand, "/other")]
        stand.switch()
        status, _seconds = stand.stop("blue")
        assert [goodbye(client) for client in clients] == [1012, 1012]
        assert status == expected, stand.log("blue").read_text()
        if script:
            told = stand.said("blue", "asked to stop")
            assert (told["values"], told["open"]) == (["SIGTERM", 15], 0)
        idle, seconds = stand.stop("green")
        assert idle == expected
        assert seconds < 2


def test_an_application_that_does_not_stop_goes_on(kit: Kit, tmp_path: Path) -> None:
    with echo(kit, tmp_path, "process.on('SIGTERM', tell);") as stand:
        client = connect(stand)
        stand.processes["blue"].send_signal(signal.SIGTERM)
        assert goodbye(client) == 1012
        stand.wait_for("blue", "asked to stop")
        again = connect(stand)
        again.send("you?")
        assert again.recv(timeout=5) == "still here"


def test_what_goes_wrong_inside_is_logged_and_nothing_else(kit: Kit, tmp_path: Path) -> None:
    script = "globalThis.WebSocket = class { constructor() { throw new Error('out of order'); } };"
    with echo(kit, tmp_path, script, environment={"HAND_OFF_RATE": "fast"}) as stand:
        client = connect(stand)
        stand.switch()
        assert stand.stop()[0] == -signal.SIGTERM
        assert goodbye(client) == 1012
        assert "out of order" in stand.said("blue", "failed")["reason"]
        assert 'HAND_OFF_RATE is "fast"' in stand.said("blue", "wrong setting")["reason"]


def test_nobody_to_take_over_nobody_to_wait_for(kit: Kit, tmp_path: Path) -> None:
    with echo(kit, tmp_path, environment={"HAND_OFF_RATE": "1"}) as stand:
        stand.stop("green")
        clients = [connect(stand, f"/{number}") for number in range(10)]
        _status, seconds = stand.stop("blue")
        assert {goodbye(client) for client in clients} == {1012}
        assert seconds < 2


def test_it_ends_in_time(kit: Kit, tmp_path: Path) -> None:
    with echo(kit, tmp_path, environment={"HAND_OFF_RATE": "1", "HAND_OFF_TIMEOUT": "1"}) as stand:
        clients = [connect(stand, f"/{number}") for number in range(10)]
        stand.switch()
        _status, seconds = stand.stop("blue")
        assert {goodbye(client) for client in clients} == {1012}
        assert 0.7 < seconds < 3


def test_a_bridge_shows_what_its_document_needs(kit: Kit, tmp_path: Path) -> None:
    with echo(kit, tmp_path) as stand:
        with pytest.raises(InvalidStatus):
            connect(stand, "/refused")
        # Who says to be a bridge, from outside, is a client like any other.
        client = connect(
            stand,
            "/room?token=t",
            **{"Cookie": "a=b", "Authorization": "Bearer c", "Origin": "https://example.test", "X-Hand-Off": "x"},
        )
        assert stand.join() == {"documents": 1, "joined": 1}
        seen = stand.said("green", "came")
        assert (seen["url"], seen["cookie"], seen["authorization"], seen["origin"]) == (
            "/room?token=t",
            "a=b",
            "Bearer c",
            "https://example.test",
        )
        assert "token" not in json.dumps(stand.lines("blue", "joined documents"))
        # Opened between the question and the switch.
        second = connect(stand, "/second")
        opened = time.monotonic()
        stand.wait_for("green", "came", url="/second")
        assert time.monotonic() - opened < 0.7
        stand.switch()
        stand.stop()
        assert [goodbye(client), goodbye(second)] == [1012, 1012]


@pytest.mark.parametrize("order", [[("blue",), ("green",)], [("green",), ("blue",)], [("blue", "green")]], ids=str)
def test_messages_pass_once(kit: Kit, tmp_path: Path, order: list[tuple[str, ...]]) -> None:
    """A relay without documents would pass a message round and round, if both sides made a bridge."""
    shutil.copy(ROOT / "tests" / "awkward" / "relay" / "relay.js", kit.code / "awkward.cjs")
    with Stand(kit, tmp_path, server="awkward.cjs", preload=True, port_variable="WS_PORT") as stand:
        old = connect(stand)
        stand.switch()
        new = connect(stand)
        for slots in order:
            assert stand.join(*slots) == {"documents": 1, "joined": 1}
        # Of two bridges that were made at once one is still going.
        time.sleep(0.2)
        for sender, receiver in ((old, new), (new, old)):
            sender.send(b"\x00once")
            assert receiver.recv(timeout=5) == b"\x00once"
            with pytest.raises(TimeoutError):
                receiver.recv(timeout=0.3)
        with pytest.raises(TimeoutError):
            old.recv(timeout=0.1)
        # It says "not now" to SIGTERM; its people are gone when systemd kills it.
        stand.processes["blue"].send_signal(signal.SIGTERM)
        assert goodbye(old) == 1012
        new.send(b"still there")


def test_documents_are_joined_at_the_stop_if_nobody_asked_before(kit: Kit, tmp_path: Path) -> None:
    with Stand(kit, tmp_path, server=RELAY, preload=True) as stand, stand.people(6, 2) as people:
        stand.switch()
        stand.stop()
        found = people.ask("late")
        assert (found["documents"], found["empty"], found["incomplete"]) == (3, 0, 0)


def test_a_restarted_successor_learns_everything_again(kit: Kit, tmp_path: Path) -> None:
    with Stand(kit, tmp_path, server=RELAY, preload=True) as stand, stand.people(6, 2) as people:
        stand.join()
        stand.stop("green", signal.SIGKILL)
        stand.start("green")
        stand.wait_for("blue", "joined documents again", documents=3, joined=3)
        stand.switch()
        found = people.ask("late")
        assert (found["documents"], found["empty"], found["incomplete"]) == (3, 0, 0)
