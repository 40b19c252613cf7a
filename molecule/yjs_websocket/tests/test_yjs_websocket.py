"""What those who edit together notice of a relay's host: nothing, as long as it is not their relay that changes."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
RELAY, CHAT = 3003, 3004


class Client:
    """A WebSocket through the front."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_connection((address, port), 5)
        self.stream = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /room HTTP/1.1\r\nHost: ws.molecule.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Origin: https://molecule.test\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.status = self.stream.readline().split()[1].decode()
        while self.stream.readline().strip():
            pass

    def say(self, text: str) -> tuple[int, str]:
        """Send a text; give the process that sent it back, and what came."""
        data = text.encode()
        self.socket.sendall(bytes([129, 128 | len(data), 0, 0, 0, 0]) + data)
        _first, length = self.stream.read(2)
        pid, _space, rest = self.stream.read(length).decode().partition(" ")
        return int(pid), rest

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def address() -> str:
    return str(yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())[0]["address"])


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    made = Client(address, RELAY)
    yield made
    made.close()


def play(**variables: Any) -> str:
    """Run the scenario's playbook with changes; give all it says, on one line."""
    command = [
        "ansible-playbook",
        "-i",
        os.environ["MOLECULE_INVENTORY_FILE"],
        str(PROJECT / "molecule/shared/service.yml"),
    ]
    command += ["-e", json.dumps(variables)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_sockets_reach_the_relay_with_their_origin(host: Host, client: Client) -> None:
    assert client.status == "101"
    assert client.say("hello")[1] == "https://molecule.test hello"


def test_a_second_service_of_the_host_has_its_own_process(host: Host, client: Client, address: str) -> None:
    other = Client(address, CHAT)
    assert other.say("x")[0] != client.say("x")[0]
    other.close()


def test_slots_cannot_be_reached(host: Host, address: str) -> None:
    for port in (13003, 23003, 13004, 23004):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), 2)


@pytest.mark.parametrize("service", ["relay", "chat"])
def test_the_units_are_hardened(host: Host, service: str) -> None:
    with host.sudo():
        said = host.check_output(f"systemd-analyze security --no-pager fivepointers-{service}@blue.service")
    assert float(said.split("exposure level for")[1].split(":")[1].split()[0]) <= 2.0, said


def test_a_release_of_one_service_leaves_the_sockets_of_others_open(host: Host, client: Client, address: str) -> None:
    before = client.say("before")
    chat = Client(address, CHAT)
    old = chat.say("x")[0]
    said = play(greeting="good morning")
    assert "changed=1" in said, said
    assert client.say("after")[0] == before[0]
    # The old process is told to end after its drain, and sends its sockets away with 1012, "service restart".
    first, length = chat.stream.read(2)
    assert first == 0x88 and chat.stream.read(length)[:2] == (1012).to_bytes(2, "big")
    assert chat.stream.read(1) == b""
    chat = Client(address, CHAT)
    assert chat.say("x")[0] != old
    chat.close()
    assert "changed=0" in play(greeting="good morning")
    assert client.say("still")[0] == before[0]


def test_a_killed_process_is_back_within_seconds(host: Host, address: str) -> None:
    client = Client(address, RELAY)
    before = client.say("x")[0]
    client.close()
    with host.sudo():
        host.check_output(f"kill -9 {before}")
    deadline = time.monotonic() + 10
    while True:
        client = Client(address, RELAY)
        if client.status == "101":
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.say("x")[0] != before
    client.close()
