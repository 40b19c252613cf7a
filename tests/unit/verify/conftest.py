# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A front door on the loopback, with TLS, and faults that can be switched on one at a time."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as schema
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import verification
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.run import Walker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pycrdt import YMessageType, YSyncMessageType, create_update_message, merge_updates, read_message, write_message
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.unit.catalogue import catalogue

DOMAIN = "sandbox.test"
ROOT = Path(__file__).parents[3]
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ"
PAGE = '<!doctype html><script src="/assets/app-1.js"></script><script>self.__next_f=[]</script>'
PAGE_HEADERS = {
    "Strict-Transport-Security": "max-age=63072000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
EMPTY_STATE = bytes([0])


# --- certificates ------------------------------------------------------------------


class Authority:
    """A certificate authority for one session, and what it issues."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=400))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, names: tuple[str, ...], days: float) -> ssl.SSLContext:
        """A server's context with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - datetime.timedelta(days=300))
            .not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = self.folder / f"{names[0]}-{days}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# --- the front door ------------------------------------------------------------------


class FrontDoor(socketserver.ThreadingTCPServer):
    """http and https on one port, told apart by the first byte. `faults` holds what is broken."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, authority: Authority, names: tuple[str, ...] = (DOMAIN, f"*.{DOMAIN}"), days: float = 90
    ) -> None:
        super().__init__(("127.0.0.1", 0), Visitor)
        self.faults: set[str] = set()
        self.asked: list[str] = []
        self.users: dict[str, str] = {}
        self.pages: dict[str, str] = {}
        self.rooms: dict[str, tuple[list[bytes], list[Visitor]]] = {}
        self.lock = threading.Lock()
        self.use(authority.context(names, days))
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def use(self, context: ssl.SSLContext) -> None:
        context.sni_callback = self.choose
        self.context = context

    def choose(self, _socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        known = name and (name == DOMAIN or name.endswith(f".{DOMAIN}"))
        return None if known or "serves unknown hosts" in self.faults else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_args: Any) -> None:
        pass


class Visitor(BaseHTTPRequestHandler):
    """One connection: what the edge and the services behind it would answer."""

    server: FrontDoor
    protocol_version = "HTTP/1.1"
    server_version = "nginx"
    sys_version = ""
    timeout = 10

    def setup(self) -> None:
        self.secure = self.request.recv(1, socket.MSG_PEEK) == b"\x16"
        if self.secure:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.sending = threading.Lock()
        super().setup()

    def version_string(self) -> str:
        return "nginx/1.26.3" if "tells its version" in self.server.faults else "nginx"

    def log_message(self, *_args: object) -> None:
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        if not isinstance(body, bytes):
            headers.setdefault("content_type", "application/json" if isinstance(body, dict) else "text/html")
            body = (json.dumps(body) if isinstance(body, dict) else str(body)).encode()
        self.send_response(status)
        for name, value in {**self.extra, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fault(self, name: str) -> bool:
        return name in self.server.faults

    def handle_one(self) -> None:
        self.extra: dict[str, str] = {}
        host = self.headers["Host"].partition(":")[0]
        self.server.asked.append(f"{self.command} {'https' if self.secure else 'http'}://{host}{self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        self.content = json.loads(self.rfile.read(length)) if length else {}
        if not self.secure:
            if not host.endswith(DOMAIN) and not self.fault("serves unknown hosts"):
                self.close_connection = True
                return None
            if self.fault("no redirect"):
                return self.answer(200, PAGE)
            return self.answer(301, Location=f"https://{host}{self.path}")
        if self.headers.get("Upgrade") == "websocket":
            return self.websocket()
        if not host.endswith(DOMAIN):
            return self.answer(200, "anything")
        if not self.fault("no security headers"):
            self.extra = dict(PAGE_HEADERS)
        if self.fault("a page of the build"):
            self.extra["Content-Security-Policy"] = "script-src 'self' 'nonce-abc'"
        if self.fault("a page with things of others"):
            self.extra["Content-Security-Policy"] = "default-src 'self'; script-src 'self'; font-src 'self'"
        if host == DOMAIN:
            return self.frontend()
        if host == f"api.{DOMAIN}":
            return self.api()
        if host == f"ws.{DOMAIN}":
            return self.answer(200, {"status": "ok"})
        return self.site(host.partition(".")[0])

    do_GET = do_POST = do_PUT = do_OPTIONS = handle_one  # noqa: N815

    def frontend(self) -> None:
        if self.fault("a page with things of others"):
            if self.path == "/assets/a.css":
                return self.answer(
                    200, "@font-face { src: url(https://f.example.net/a.woff2) }", content_type="text/css"
                )
            if self.path == "/":
                return self.answer(
                    200, '<link rel="stylesheet" href="/assets/a.css"><script src="https://js.test/v3"></script>'
                )
        if self.path.startswith("/assets/"):
            if self.fault("missing asset is the page"):
                return self.answer(200, PAGE)
            cached = "public, max-age=31536000" if self.fault("missing asset is cached") else "no-store"
            return self.answer(404, "not found", Cache_Control=cached)
        if self.path == "/runtime-config.js":
            url = "http" if self.fault("mixed content") else "https"
            text = f'window.__CONFIG__ = {{"API_URL": "{url}://api.{DOMAIN}"}};'
            return self.answer(200, text, Cache_Control="no-cache", content_type="text/javascript")
        if self.path != "/" and self.fault("no deep links"):
            return self.answer(404, "not found")
        return self.answer(200, PAGE)

    def api(self) -> None:
        origin = self.headers.get("Origin")
        allowed = origin and (origin == f"https://{DOMAIN}" or origin.endswith(f".{DOMAIN}"))
        if self.fault("foreign origins are let in") and origin:
            allowed = True
        if self.fault("lookalike origins are let in") and origin and origin.endswith(DOMAIN):
            allowed = True
        if allowed and not self.fault("no CORS"):
            assert origin
            self.extra["Access-Control-Allow-Origin"] = origin
            if origin == f"https://{DOMAIN}" or self.fault("every subdomain has credentials"):
                self.extra["Access-Control-Allow-Credentials"] = "true"
            self.extra["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
            self.extra["Access-Control-Allow-Headers"] = "authorization, content-type"
        if not self.fault("no vary"):
            self.extra["Vary"] = "Origin"
        if self.command == "OPTIONS":
            return self.answer(405 if self.fault("no preflight") else 204)
        if self.fault("fails for an origin that it does not know") and origin not in (None, f"https://{DOMAIN}"):
            return self.answer(500, {"message": "Not allowed by CORS"})
        if self.fault("slot down"):
            return self.answer(502, "<h1>502 Bad Gateway</h1>")
        if self.path == "/api/health":
            return self.answer(200, {"status": "ok"})
        if self.path.startswith("/api/limited/"):
            return self.limited(*self.path.removeprefix("/api/limited/").split("/"))
        if self.path.startswith("/api/events"):
            return self.events()
        return self.account()

    def limited(self, times: str, after: str) -> None:
        """Answer 429 so many times, with this Retry-After."""
        before = sum(self.path in line for line in self.server.asked) - 1
        again = {"Retry_After": unquote(after)} if after else {}
        return self.answer(429, "slow down", **again) if before < int(times) else self.answer(200, "welcome")

    def events(self) -> None:
        parts = [": hello\n\n", "retry: 100\n\n", *(f"id: {n}\ndata: {n}\ndata: more\n\n" for n in range(3))]
        kind = "text/event-stream"
        if "lines" in self.path:
            kind, parts = "application/x-ndjson", [f'{{"n": {n}}}\n' for n in range(3)]
        if self.fault("events are collected"):
            time.sleep(0.3)
            parts = ["".join(parts)]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part.encode()))
            time.sleep(0 if "burst" in self.path or len(parts) == 1 else 0.1)
        if self.fault("events do not end") or "burst" in self.path:
            time.sleep(1.5)
        self.wfile.write(b"0\r\n\r\n")

    def account(self) -> None:
        users, given = self.server.users, self.content
        if self.path == "/api/auth/signup":
            users[given["email"]] = given["password"]
            return self.answer(201, {"email": given["email"]})
        if self.path == "/api/auth/login":
            if self.fault("login fails"):
                # A careless application: the answer repeats what was sent, and a token.
                return self.answer(500, {"error": f"{given['password']} is wrong", "accessToken": TOKEN, "seen": TOKEN})
            cookie = {"Set_Cookie": "sid=cookie-canary; Path=/; HttpOnly"}
            return self.answer(200, {"accessToken": TOKEN, "user": {"email": given["email"]}}, **cookie)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not self.fault("anyone may call"):
            return self.answer(401, {"message": "log in"})
        if self.fault("cookies are needed") and "sid=cookie-canary" not in (self.headers.get("Cookie") or ""):
            return self.answer(403, {"message": "no cookie"})
        if self.path.startswith("/api/pages/"):
            self.server.pages[self.path.rpartition("/")[2]] = given["body"]
            return self.answer(200, given)
        return self.answer(200, {"email": next(reversed(users), "")})

    def site(self, label: str) -> None:
        if self.path == "/healthz":
            return self.answer(200, {"status": "ok"})
        page = self.server.pages.get(label)
        if page and not self.fault("pages are stale"):
            return self.answer(200, f"<p>{page}</p>")
        return self.answer(404, "no such page")

    # --- WebSocket ---

    def websocket(self) -> None:
        self.close_connection = True
        origin = self.headers.get("Origin") or ""
        if not origin.endswith(DOMAIN) and not self.fault("foreign sockets are taken"):
            return self.answer(403, "origin")
        if self.fault("own sockets are refused"):
            return self.answer(403, "origin")
        if self.fault("relay wants a login at the handshake"):
            return self.answer(401, "log in")
        self.protocol = ServerProtocol()
        lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items()), "", ""]
        self.protocol.receive_data("\r\n".join(lines).encode())
        (request,) = self.protocol.events_received()
        assert isinstance(request, Request)
        with contextlib.suppress(InvalidHandshake):
            self.protocol.send_response(self.protocol.accept(request))
        self.flush()
        if self.fault("relay closes sockets"):
            with self.sending:
                self.protocol.send_close(4401, "log in")
                self.flush()
            time.sleep(0.1)
            return None
        room = self.server.rooms.setdefault(self.path, ([], []))
        room[1].append(self)
        try:
            if "echo" not in self.path and "broadcast" not in self.path:
                self.send(bytes([YMessageType.SYNC, YSyncMessageType.SYNC_STEP1]) + write_message(EMPTY_STATE))
            while data := self.request.recv(65536):
                with self.sending:
                    self.protocol.receive_data(data)
                    events = self.protocol.events_received()
                    self.flush()
                for event in events:
                    if isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.TEXT):
                        self.relay(bytes(event.data), event.opcode, room)
                    if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                        return None
        finally:
            room[1].remove(self)

    def relay(self, data: bytes, opcode: Opcode, room: tuple[list[bytes], list[Visitor]]) -> None:
        """A relay that keeps updates, and hands them on."""
        updates, visitors = room
        if "echo" in self.path:
            return None if self.fault("no echo") else self.send(data, opcode)
        if "broadcast" in self.path:
            others = [] if self.fault("no broadcast") else [other for other in visitors if other is not self]
            for other in others:
                other.send(data, opcode)
            return None
        if data[0] != YMessageType.SYNC:
            return None
        if self.fault("relay speaks another protocol"):
            return self.send(bytes([YMessageType.SYNC, YSyncMessageType.SYNC_UPDATE, 3, 255, 255, 255]))
        message = read_message(data[2:])
        if data[1] == YSyncMessageType.SYNC_STEP1:
            known = [] if self.fault("relay forgets") else updates
            merged = merge_updates(*known) if known else bytes([0, 0])
            return self.send(bytes([YMessageType.SYNC, YSyncMessageType.SYNC_STEP2]) + write_message(merged))
        with self.server.lock:
            updates.append(message)
        if not self.fault("relay keeps edits to itself"):
            for other in list(visitors):
                if other is not self:
                    other.send(create_update_message(message))
        return None

    def send(self, data: bytes, opcode: Opcode = Opcode.BINARY) -> None:
        with self.sending, contextlib.suppress(OSError):
            (self.protocol.send_text if opcode is Opcode.TEXT else self.protocol.send_binary)(data)
            self.flush()

    def flush(self) -> None:
        for chunk in self.protocol.data_to_send():
            if chunk:
                self.request.sendall(chunk)


@pytest.fixture
def door(authority: Authority) -> Iterator[FrontDoor]:
    """The front door, with nothing broken."""
    it = FrontDoor(authority)
    yield it
    it.shutdown()
    it.server_close()


# --- the plan -----------------------------------------------------------------------


def plan_of(content: dict[str, Any], **environment: Any) -> dict[str, Any]:
    """The plan of a catalogue on five hosts."""
    secret = {"variable": "x"}
    settings = {
        "name": "sandbox",
        "domain": DOMAIN,
        "region": "ap-northeast-2",
        "front_door": "10.0.0.10",
        "tls": {"mode": "files", "certificate": "/c", "key": "/k"},
        "databases": {
            name: {"host": "10.0.0.5", "name": "app", "user": "app", "password": secret, "max_connections": 150}
            for name in content.get("databases", {})
        },
        "secrets": {"jwt": secret},
        **environment,
    }
    hosts = {
        f"{name}-1_i-0": {"address": f"10.0.0.{number}", "services": [name]}
        for number, name in enumerate(["edge", *content["services"]], 10)
    }
    return plans.plan(schema.load(content, settings, hosts))


def checks_of(content: dict[str, Any] | None = None, **environment: Any) -> list[dict[str, Any]]:
    """Every check of a catalogue."""
    content = content or catalogue()
    return verification(plan_of(content, **environment), content.get("journeys", []))


@pytest.fixture
def walk(door: FrontDoor, authority: Authority) -> Callable[..., list[dict[str, Any]]]:
    """Walk through the front door; returns the results."""

    def run(checks: list[dict[str, Any]] | None = None, timeout: float = 5) -> list[dict[str, Any]]:
        return Walker(door.address, str(authority.file), timeout).walk(checks or checks_of())

    return run


def failed(results: list[dict[str, Any]]) -> list[str]:
    """Service and check of what failed."""
    return [f"{item['service']}: {item['check']}" for item in results if item["level"] == "failed"]
