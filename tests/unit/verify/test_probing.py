# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""One question over the network: what comes, and what is said when nothing comes."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.fivepointers.platform.plugins.module_utils.common.http_client import (
    Answer,
    ProbeError,
    ask,
    complaints,
    likely,
    open_port,
    split_address,
)
from ansible_collections.fivepointers.platform.plugins.modules import http_health

from .conftest import DOMAIN, Authority, FrontDoor


@pytest.mark.parametrize(
    "text, expected",
    [
        ("host", ("host", 80)),
        ("10.0.0.1:8080", ("10.0.0.1", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        ("[::1]", ("::1", 80)),
        ("::1", ("::1", 80)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text, 80) == expected


@pytest.mark.parametrize("text", ["", ":80", "host:0", "host:70000", "host:http", "[::1", "[::1]80"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ProbeError, match="is not an address"):
        split_address(text, 80)


@pytest.fixture
def listener() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """A server on the loopback that does with each connection what it is told; gives its address."""
    servers: list[socket.socket] = []

    def start(conversation: Callable[[socket.socket], None]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = server.accept()
                    with connection, contextlib.suppress(OSError):
                        conversation(connection)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


def answer(text: bytes) -> Callable[[socket.socket], None]:
    def converse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)

    return converse


def trickle(connection: socket.socket) -> None:
    """A header at a time, for ever: each one restarts an ordinary timeout."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        time.sleep(0.1)
        connection.sendall(b"X-Slow: 1\r\n")


def hang(connection: socket.socket) -> None:
    connection.recv(65536)
    time.sleep(3)


CASES: list[tuple[str, Callable[[socket.socket], None], str, str]] = [
    ("http", hang, "answer_timeout", "did not respond in time"),
    ("http", trickle, "answer_timeout", "did not respond in time"),
    ("https", hang, "answer_timeout", "did not respond in time"),
    ("http", answer(b""), "closed", "closed the connection"),
    ("http", answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), "closed", "before its response"),
    ("http", answer(b"SSH-2.0-OpenSSH\r\n"), "protocol", "not HTTP"),
    ("https", answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "closed", "does not speak TLS"),
    ("https", answer(b""), "closed", "during the TLS handshake"),
]


@pytest.mark.parametrize("scheme, conversation, kind, words", CASES)
def test_answers_that_are_none(
    listener: Any, scheme: str, conversation: Callable[[socket.socket], None], kind: str, words: str
) -> None:
    start = time.monotonic()
    with pytest.raises(ProbeError, match=words) as error:
        ask(f"{scheme}://service.test/health", connect_to=listener(conversation), timeout=0.4)
    assert error.value.kind == kind
    assert error.value.likely
    assert time.monotonic() - start < 1.5


@pytest.mark.parametrize(
    "url, connect_to, kind",
    [
        ("http://service.test/", "127.0.0.1:1", "refused"),
        ("http://no-such-host.invalid/", None, "dns"),
        ("ftp://service.test/", None, "invalid"),
        ("http://service.test:99999/", None, "invalid"),
        ("http://service.test/a b", "LISTEN", "invalid"),
    ],
)
def test_connections_that_fail(listener: Any, url: str, connect_to: str | None, kind: str) -> None:
    if connect_to == "LISTEN":
        connect_to = listener(answer(b"HTTP/1.1 200 OK\r\n\r\n"))
    with pytest.raises(ProbeError) as error:
        ask(url, connect_to=connect_to, timeout=1)
    assert error.value.kind == kind
    assert error.value.likely


def test_a_connection_that_never_comes() -> None:
    """A listener whose queue is full does not answer, like a host behind a closed security group."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        with pytest.raises(ProbeError) as error:
            open_port(f"127.0.0.1:{address[1]}", 0.3)
        for each in waiting:
            each.close()
    assert error.value.kind == "connect_timeout"
    assert "security group" in error.value.likely


def test_the_name_stays_where_the_connection_goes_elsewhere(door: FrontDoor, authority: Authority) -> None:
    from ansible_collections.fivepointers.platform.plugins.module_utils.common.http_client import tls_context

    found = ask(f"https://api.{DOMAIN}/api/health", connect_to=door.address, context=tls_context(str(authority.file)))
    assert found.status == 200
    assert found.header("X-Frame-Options") == "DENY"
    assert found.certificate["notAfter"]
    assert door.asked == [f"GET https://api.{DOMAIN}/api/health"]


def test_host_header_names_a_port_that_is_not_the_usual_one(listener: Any) -> None:
    heard: list[bytes] = []

    def converse(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    address = listener(converse)
    ask("http://service.test:8080/x?y=1", connect_to=address, headers={"X-A": "b"})
    ask("http://service.test/", connect_to=address)
    assert heard[0].startswith(b"GET /x?y=1 HTTP/1.1\r\n")
    assert b"\r\nHost: service.test:8080\r\n" in heard[0]
    assert b"\r\nX-A: b\r\n" in heard[0]
    assert b"\r\nHost: service.test\r\n" in heard[1]


def test_an_answer_in_words() -> None:
    body = b"<h1>502</h1>\n" * 100
    assert Answer(502, [], body, 0, "Bad Gateway").describe().startswith("502 Bad Gateway: <h1>502</h1> <h1>")
    assert len(Answer(502, [], body, 0, "Bad Gateway").describe()) < 250
    moved = Answer(301, [("location", "https://a.test/")], b"", 0, "Moved")
    assert moved.describe() == "301 Moved to https://a.test/"
    assert likely(301)
    assert likely(507) == likely(500)
    assert likely(200) == ""


def test_complaints() -> None:
    found = Answer(200, [], b"all is well", 0)
    assert complaints(found, [200], ["well"]) == []
    assert complaints(found, [204, 302], ["ill"]) == [
        "status 200 instead of 204 or 302",
        "the body does not contain 'ill'",
    ]


# --- the module ------------------------------------------------------------------------


@pytest.fixture
def health(capfd: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Run the module as Ansible does; returns its answer."""

    def run(**args: Any) -> dict[str, Any]:
        capfd.readouterr()
        with patch_module_args(args), pytest.raises(SystemExit):
            http_health.main()
        content = json.loads(capfd.readouterr().out)
        assert isinstance(content, dict)
        return content

    return run


@pytest.mark.parametrize("check", [False, True])
def test_health_through_an_address(health: Any, door: FrontDoor, authority: Authority, check: bool) -> None:
    found = health(
        url=f"https://api.{DOMAIN}/api/health",
        connect_to=door.address,
        ca_file=str(authority.file),
        contains=["ok"],
        _ansible_check_mode=check,
    )
    assert not found.get("failed")
    assert not found["changed"]
    assert found["status"] == 200
    assert found["attempts"] == 1
    assert found["asked"] == f"GET https://api.{DOMAIN}/api/health at {door.address}"


def test_unhealthy_says_everything(health: Any, door: FrontDoor, authority: Authority) -> None:
    door.faults.add("slot down")
    url = f"https://api.{DOMAIN}/api/health"
    found = health(url=url, connect_to=door.address, ca_file=str(authority.file), retries=1, delay=0.01)
    assert found["failed"]
    assert found["attempts"] == 2
    assert found["msg"] == (
        f"Not healthy. Asked 2 times: GET {url} at {door.address}. Came: 502 Bad Gateway: <h1>502 Bad Gateway</h1> "
        "(status 502 instead of 200). Likely: nginx is up, but its upstream is not: the process is down, still "
        "starting, or on another port."
    )


def test_untrusted_certificates(health: Any, door: FrontDoor) -> None:
    args = {"url": f"https://{DOMAIN}/", "connect_to": door.address}
    assert "issuer is not trusted" in health(**args)["msg"]
    assert health(**args, validate_certs=False)["status"] == 200


def test_it_waits_until_something_listens(health: Any, listener: Any) -> None:
    answers = iter([b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
    address = listener(lambda connection: (connection.recv(65536), connection.sendall(next(answers))))
    found = health(url=f"http://{address}/", retries=5, delay=0.01)
    assert (found["status"], found["attempts"]) == (200, 2)


def test_open_ports(health: Any, listener: Any) -> None:
    address = listener(lambda _connection: None)
    assert health(tcp=address)["came"].startswith("connected in")
    assert "nothing is listening on 127.0.0.1:1" in health(tcp="127.0.0.1:1")["msg"]
    assert "has no port" in health(tcp="127.0.0.1")["msg"]


def test_one_question_at_a_time(health: Any, tmp_path: Path) -> None:
    assert health()["failed"]
    assert health(url="http://a.test/", tcp="a.test:1")["failed"]
    missing = health(url="https://a.test/", ca_file=str(tmp_path / "absent.pem"))
    assert "absent.pem" in missing["msg"]
