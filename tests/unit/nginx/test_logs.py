# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What leaves the host of nginx's logs: no token of a query, whatever goes wrong with the request, on a live nginx."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.unit.nginx.conftest import inputs
from tests.unit.nginx.live import DOMAIN, Live, Prefix, put_certificate, render, start, version

ROOT = Path(__file__).resolve().parents[3]
# As a link in a mail, a redirect of a login, and an API have them.
NAMES = ("token", "code", "access_token", "state")
TOKEN = "eyJhbGciOi.canary"
QUERY = "&".join(f"{name}={TOKEN}-{name}" for name in NAMES)


class Bad(threading.Thread):
    """An upstream that answers as the path says: never, with half a head, with nonsense, or with too much."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                connection, _peer = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection:
            path = connection.recv(1 << 16).split(b" ")[1].decode()
            if path.startswith("/never"):
                connection.recv(1 << 16)
            elif path.startswith("/half"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-")
            elif path.startswith("/nonsense"):
                connection.sendall(b"220 mail.example.com ESMTP " + path.encode() + b"\r\n\r\n")
            elif path.startswith("/header"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nLocation\0: " + path.encode() + b"\r\n\r\n")
            elif path.startswith("/large"):
                head = b"HTTP/1.1 200 OK\r\nX-Large: " + path.encode() + b"a" * 40_000 + b"\r\n\r\n"
                connection.sendall(head)
            elif path.startswith("/short"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + path.encode())
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, nginx: str, certificate: Path) -> Iterator[Live]:
    """The edge, with upstreams that fail in every way, quick time-outs, and limits."""
    bad = Bad()
    bad.start()
    given = inputs(bad.address, {"mode": "files", "certificate": "x", "key": "y"})
    for host in given["nginx_proxy_edge"]["virtual_hosts"]:
        for location in host["locations"]:
            if location["service"] == "own":
                location["rate_limits"] = [{"request": "GET /limited", "rate": "1/m", "burst": 0}]
            if location["service"] == "collab":
                location["sockets_per_client"] = 0
    prefix = Prefix(tmp_path_factory.mktemp("failing"), nginx=nginx)
    files = render(given, version(nginx))
    for setting in ("client_header_timeout 15s;", "client_body_timeout 30s;"):
        files["nginx.conf"] = files["nginx.conf"].replace(setting, setting.split()[0] + " 300ms;")
    files = {
        path: re.sub(r"proxy_read_timeout \d+s;", "proxy_read_timeout 300ms;", text) for path, text in files.items()
    }
    files["nginx.conf"] = re.sub(r"worker_connections \d+;", "worker_connections 150;", files["nginx.conf"])
    prefix.write(files)
    put_certificate(prefix.path, certificate)
    yield from start(prefix, certificate)
    bad.listener.close()


def say(edge: Live, request: str, host: str = f"api.{DOMAIN}", tls: bool = True) -> None:
    """Send bytes, and wait until the other side has nothing more to say."""
    number = edge.ports[443 if tls else 80]
    with socket.create_connection(("127.0.0.1", number), timeout=1) as plain:
        encrypted = tls and host != "plain"
        connection = edge.context.wrap_socket(plain, server_hostname=host) if encrypted else plain
        try:
            connection.sendall(request.encode("latin-1"))
            while connection.recv(1 << 16):
                pass
        except (OSError, ssl.SSLError):
            return


def request(path: str, host: str = f"api.{DOMAIN}", method: str = "GET", more: str = "", body: str = "") -> str:
    referrer = f"Referer: https://app.{DOMAIN}/reset?{QUERY}\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    separator = "&" if "?" in path else "?"
    head = f"{method} {path}{separator}{QUERY} HTTP/1.1\r\nHost: {host}\r\n{referrer}"
    return f"{head}Connection: close\r\n{length}{more}\r\n{body}"


#: What goes wrong: the request, its host, and what nginx says of it; empty where it says nothing at this level.
CASES = {
    "the host is down": (request("/a", f"dead.{DOMAIN}"), f"dead.{DOMAIN}", "connect.. failed"),
    "no host": (request("/a", f"gone.{DOMAIN}"), f"gone.{DOMAIN}", "no live upstreams"),
    "it never answers": (request("/never"), "", "upstream timed out"),
    "it closes": (request("/half"), "", "upstream prematurely closed connection while reading response header"),
    "it speaks another protocol": (request("/nonsense"), "", "no valid HTTP/1.0 header|prematurely closed"),
    "its header is invalid": (request("/header"), "", "upstream sent invalid header"),
    "its header is too large": (request("/large"), "", "upstream sent too big header"),
    "it breaks off": (request("/short"), "", "upstream prematurely closed connection while reading upstream"),
    "the body is too large": (
        request("/a", method="POST", more="Content-Length: 9000000\r\n"),
        "",
        "client intended to send too large body",
    ),
    "the body is kept in a file": (
        request("/a", method="POST", body="a" * 500_000),
        "",
        "buffered to a temporary file",
    ),
    "the body never comes": (request("/a", method="POST", more="Content-Length: 9\r\n"), "", ""),
    "too often": (request("/limited", f"own.{DOMAIN}"), f"own.{DOMAIN}", ""),
    "the line is too long": (request("/" + "a" * 70_000), "", ""),
    "the header is too long": (request("/a", more=f"X-A: {'a' * 70_000}\r\n"), "", ""),
    "no host is named": (f"GET /a?{QUERY} HTTP/1.1\r\n\r\n", "", ""),
    "the version is unknown": (f"GET /a?{QUERY} HTTP/9.9\r\n\r\n", "", ""),
    "the line is malformed": (f"GET /a?{QUERY} and more\r\n\r\n", "", ""),
    "the method is malformed": (f"g\x01t /a?{QUERY} HTTP/1.1\r\n\r\n", "", ""),
    "the path leads out": (f"GET /../../a?{QUERY} HTTP/1.1\r\nHost: api.{DOMAIN}\r\n\r\n", "", ""),
    "two lengths": (request("/a", method="POST", more="Content-Length: 1\r\nContent-Length: 2\r\n"), "", ""),
    "a length that is none": (request("/a", method="POST", more="Content-Length: x\r\n"), "", ""),
    "chunks that are none": (request("/a", method="POST", more="Transfer-Encoding: chunked\r\n", body=""), "", ""),
    "an unknown name": (request("/a", "unknown.example.com"), "", ""),
    "a name that is none": (request("/a", "a b"), "", ""),
    "an absolute address": (f"GET https://api.{DOMAIN}/half?{QUERY} HTTP/1.1\r\nHost: api.{DOMAIN}\r\n\r\n", "", ""),
    "a tunnel": (f"CONNECT api.{DOMAIN}:443?{QUERY} HTTP/1.1\r\nHost: api.{DOMAIN}\r\n\r\n", "", ""),
    "HTTP where TLS is expected": (request("/a"), "plain", ""),
}


def test_no_token_of_a_query_is_in_a_log_that_leaves_the_host(failing: Live) -> None:
    with ThreadPoolExecutor(len(CASES)) as pool:
        for text, host, _said in [*CASES.values(), *CASES.values()]:
            pool.submit(say, failing, text, host or f"api.{DOMAIN}")
        pool.submit(say, failing, request("/a"), tls=False)
    exhausted(failing)
    kept = (failing.prefix.path / "error.log").read_text()
    levels = sorted({re.sub(r"\d+", "N", found[1]) for found in re.finditer(r" (\[\w+\]) [^\n]*request: ", kept)})
    print(f"{kept.count('request: ')} messages hold a request, of the levels {' '.join(levels)}")
    for name, (_text, _host, said) in CASES.items():
        assert not said or re.search(said, kept), f"nginx did not notice: {name}"
    assert f"token={TOKEN}" in kept and f'referrer: "https://app.{DOMAIN}/reset?token={TOKEN}' in kept
    shipped = {name: (failing.prefix.path / name).read_text() for name in ("journal.log", "access.log")}
    assert len(shipped["access.log"].splitlines()) > len(CASES)
    assert "worker_connections are not enough" in shipped["journal.log"], "what nginx says of itself is missing"
    for name, text in shipped.items():
        found = [line for line in text.splitlines() if TOKEN in line]
        assert not found, (name, found[:3])


def exhausted(edge: Live) -> None:
    """Use up nginx's connections, which is no fault of a request."""
    with ExitStack() as held:
        for _number in range(150):
            held.enter_context(socket.create_connection(("127.0.0.1", edge.ports[80]), timeout=2))
        say(edge, request("/a"), tls=False)


def test_the_file_with_requests_is_not_collected() -> None:
    snippet = (ROOT / "roles/nginx/templates/snippets/log.conf.j2").read_text()
    (path,) = re.findall(r"^error_log (\S+)", snippet, re.M)
    defaults = yaml.safe_load((ROOT / "roles/cloudwatch_agent/defaults/main.yml").read_text())
    assert path.startswith("/var/log/nginx/") and path != defaults["cloudwatch_agent_nginx_access_log"]
    assert path not in (ROOT / "playbooks/parts/configure.yml").read_text()
