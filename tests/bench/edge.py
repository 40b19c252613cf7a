# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Measure the edge against a bare nginx, written by hand: .venv/bin/python tests/bench/edge.py

Both pass requests on to the same upstreams, over the same TLS, with one worker each, and both log each request to a
file. wrk asks them in turn: in each round both, and the one that begins changes. Beside the throughput stands the
processor time of the worker for each request, which other work on the machine changes less. Below it: which share of
10,000 documents moves to another host when a host of a Y.js relay joins or leaves, asked of a live edge.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "collections")]

from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases  # noqa: E402
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text  # noqa: E402

from sandbox import certificates  # noqa: E402
from tests.faults.front import NODE  # noqa: E402
from tests.unit.nginx import live  # noqa: E402
from tests.unit.release.conftest import make_spec  # noqa: E402

BAR = 0.95
ROUNDS, SECONDS, CONNECTIONS = 7, 2, 32
DOCUMENTS = 10_000
# The second API answers with what nginx holds in memory, as no service does: it shows what the edge itself costs.
API, CONSTANT, FRONTEND, RELAY = (f"api.{live.DOMAIN}", f"dead.{live.DOMAIN}", live.DOMAIN, f"ws.{live.DOMAIN}")
# A request without a session, refused by a guard: the least that a service of NestJS does for an answer.
REFUSED = "/api/auth/me"
BODY = '{"items":[' + ",".join(f'{{"id":{number},"title":"Page {number}"}}' for number in range(20)) + "]}"
# What a bundler leaves of an application: text that shrinks to a third.
SCRIPT = "".join(f"export const f{n}=(a,b)=>a*{n * 7919 % 10007}+b.call({n * 31 % 977});\n" for n in range(1500))

# What somebody writes who needs no more than to reach the two services: Debian's main file, TLS and kept connections.
BARE = """\
worker_processes 1;
pid {path}/nginx.pid;
error_log {path}/error.log;
events {{
    worker_connections 4096;
}}
http {{
    include {path}/mime.types;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    gzip on;
    access_log {path}/access.log;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {path}/fivepointers/tls/edge.crt;
    ssl_certificate_key {path}/fivepointers/tls/edge.key;
    ssl_session_cache shared:edge:10m;
    upstream api {{
        server 127.0.0.1:{api};
        keepalive 64;
    }}
    upstream constant {{
        server 127.0.0.1:{constant};
        keepalive 64;
    }}
    upstream frontend {{
        server 127.0.0.1:{frontend};
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {api_name};
        location / {{
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_pass http://api;
        }}
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {constant_name};
        location / {{
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_pass http://constant;
        }}
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {frontend_name};
        location / {{
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_pass http://frontend;
        }}
    }}
    server {{
        listen 127.0.0.1:{files};
        gzip_static on;
        root {assets};
    }}
}}
"""


class Nginx:
    """A running nginx: where it listens, and what its worker used."""

    def __init__(self, prefix: live.Prefix) -> None:
        self.prefix = prefix

    def seconds(self) -> float:
        """Processor seconds of its workers so far."""
        master = (self.prefix.path / "nginx.pid").read_text().strip()
        workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        parts = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in workers]
        return sum(int(part[11]) + int(part[12]) for part in parts) / os.sysconf("SC_CLK_TCK")


def certificate(prefix: live.Prefix, folder: Path) -> None:
    """One authority and one certificate for all of them."""
    names = [live.DOMAIN, f"*.{live.DOMAIN}"]
    certificates.ensure(folder / "ca.crt", folder / "edge.crt", folder / "edge.key", names, "Bench authority")
    live.put_certificate(prefix.path, folder)


@contextlib.contextmanager
def running(prefix: live.Prefix) -> Iterator[Nginx]:
    """Run a prefix's nginx in the block."""
    with contextlib.contextmanager(live.start)(prefix, None):
        yield Nginx(prefix)


def buffered(prefix: live.Prefix) -> None:
    """Let a prefix write its log as on a host; for tests it is written at once."""
    for path in prefix.path.rglob("*.conf"):
        text = path.read_text()
        path.write_text(re.sub(r"(access_log \S+ platform_json\w*) if=", r"\1 buffer=64k flush=1s if=", text))


def files(home: Path) -> None:
    """A frontend's release in its slot, precompressed as builds leave it."""
    assets = home / "frontend" / "slots" / "blue" / "app" / "assets"
    assets.mkdir(parents=True)
    (assets / "index-0a1b2c3d.js").write_text(SCRIPT)
    (assets / "index-0a1b2c3d.js.gz").write_bytes(gzip.compress(SCRIPT.encode(), 9))


@contextlib.contextmanager
def service(folder: Path) -> Iterator[int]:
    """Build the example API and run it in the block, without a database; yields its port."""
    programs, port = Path(sys.executable).parent, live.free_port()
    shutil.copytree(ROOT / "examples" / "api", folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    for command in (["npm", "ci", "--silent"], ["npm", "run", "--silent", "build"]):
        subprocess.run(command, cwd=folder, env=environment, check=True)
    environment |= {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "NODE_ENV": "production",
        "JWT_SECRET": os.urandom(32).hex(),
    }
    environment |= {f"DATABASE_{name}": "none" for name in ("NAME", "USER", "PASSWORD")} | {"DATABASE_PORT": "9"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([NODE, "dist/main.js"], cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        for _attempt in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def wrk(url: str, address: Path) -> float:
    """Requests a second that wrk counts. All must be answered, and well, but for those of a session that is none."""
    # The edge gives each request an id; the front takes it from there.
    headers = f"-H 'Accept-Encoding: gzip' -H 'X-Request-ID: {os.urandom(16).hex()}'"
    command = f"wrk -t1 -c{CONNECTIONS} -d{SECONDS}s {headers} {url}"
    # The name has to be in the handshake: in a mount namespace of its own, wrk finds it here.
    command = f"mount --bind {address} /etc/hosts && exec {command}"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", command],
        capture_output=True,
        text=True,
        check=True,
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    requests, others = (re.search(pattern, done.stdout) for pattern in (r"(\d+) requests in", r"Non-2xx.*: (\d+)"))
    expected = requests[1] if requests and url.endswith(REFUSED) else "0"
    if not rate or "Socket errors" in done.stdout or (others[1] if others else "0") != expected:
        sys.exit(f"{url} was not answered as it should be:\n{done.stdout}{done.stderr}")
    return float(rate[1])


def compare(cases: dict[str, tuple[tuple[Nginx, str], tuple[Nginx, str]]], hosts: Path) -> bool:
    """Print a line for each case; returns whether all are within the bar."""
    print(f"{'':40}{'bare /s':>10}{'ours /s':>10}{'ratio':>8}{'spread':>16}{'bare µs':>10}{'ours µs':>10}")
    good = True
    for title, sides in cases.items():
        rates: list[list[float]] = [[], []]
        micros: list[list[float]] = [[], []]
        for side in (0, 1):
            wrk(sides[side][1], hosts)
        for number in range(ROUNDS):
            for side in (0, 1) if number % 2 else (1, 0):
                nginx, url = sides[side]
                before = nginx.seconds()
                rates[side].append(wrk(url, hosts))
                micros[side].append((nginx.seconds() - before) / (rates[side][-1] * SECONDS) * 1e6)
        ratios = sorted(ours / bare for bare, ours in zip(*rates, strict=True))
        ratio = statistics.median(ratios)
        bare, ours = (statistics.median(values) for values in rates)
        print(
            f"{title:40}{bare:10.0f}{ours:10.0f}{ratio:8.3f}{f'{ratios[0]:.3f} to {ratios[-1]:.3f}':>16}"
            f"{statistics.median(micros[0]):10.1f}{statistics.median(micros[1]):10.1f}",
            flush=True,
        )
        good &= ratio >= BAR
    return good


def bare(folder: Path, upstream: live.Prefix, api: int, assets: Path) -> live.Prefix:
    """A configuration written by hand, before the same upstreams."""
    prefix = live.Prefix(folder)
    prefix.path.mkdir()
    prefix.write({})
    text = BARE.format(
        path=prefix.path,
        api=api,
        constant=upstream.port(3001),
        frontend=upstream.port(8080),
        port=prefix.port(443),
        files=prefix.port(8080),
        assets=assets,
        api_name=API,
        constant_name=CONSTANT,
        frontend_name=FRONTEND,
    )
    (prefix.path / "nginx.conf").write_text(("user root;\n" if os.geteuid() == 0 else "") + text)
    certificate(prefix, folder.parent / "tls")
    return prefix


def throughput(folder: Path) -> bool:
    """Compare the edge with a bare nginx; returns whether it holds the bar."""
    home, hosts = folder / "home", folder / "hosts"
    names = [API, CONSTANT, FRONTEND]
    hosts.write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
    files(home)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(releases, "HOME", str(home)))
        stack.enter_context(mock.patch.object(releases, "STATE", str(folder)))

        upstream = live.Prefix(folder / "upstream")
        api = (
            "server {\n    listen 3001;\n    keepalive_requests 1000000;\n    access_log off;\n"
            f"    default_type application/json;\n    return 200 '{BODY}';\n}}\n"
        )
        front = front_text(make_spec("static_frontend", name="frontend"))
        upstream.write({**live.render({}), "fivepointers/front.conf": front, "fivepointers/api.conf": api})
        buffered(upstream)
        fronts = stack.enter_context(running(upstream))

        edge = live.Prefix(folder / "edge")
        node = stack.enter_context(service(folder / "service"))
        plan = live.edge_plan(
            api=[f"127.0.0.1:{node}"],
            dead=[f"127.0.0.1:{upstream.port(3001)}"],
            frontend=[f"127.0.0.1:{upstream.port(8080)}"],
        )
        tls = {"mode": "files", "certificate": "x", "key": "y"}
        edge.render({"nginx_proxy_domain": live.DOMAIN, "nginx_proxy_tls": tls, "nginx_proxy_edge": plan})
        buffered(edge)
        certificate(edge, folder / "tls")
        ours = stack.enter_context(running(edge))

        assets = home / "frontend" / "slots" / "blue" / "app"
        theirs = stack.enter_context(running(bare(folder / "bare", upstream, node, assets)))

        def https(nginx: Nginx, name: str, path: str) -> tuple[Nginx, str]:
            return nginx, f"https://{name}:{nginx.prefix.port(443)}{path}"

        def http(nginx: Nginx, path: str) -> tuple[Nginx, str]:
            return nginx, f"http://localhost:{nginx.prefix.port(8080)}{path}"

        pages, asset = "/api/pages", "/assets/index-0a1b2c3d.js"
        good = compare(
            {
                "API requests": (https(theirs, API, REFUSED), https(ours, API, REFUSED)),
                "static files through the edge": (https(theirs, FRONTEND, asset), https(ours, FRONTEND, asset)),
                "static files of the front": (http(theirs, asset), http(fronts, asset)),
            },
            hosts,
        )
        compare({"constant bytes, no bar": (https(theirs, CONSTANT, pages), https(ours, CONSTANT, pages))}, hosts)
        return good


def placement(folder: Path, hosts: int, port: int) -> dict[str, str]:
    """Document -> host, as a live edge with so many hosts of the relay sends them."""
    servers = [f"127.0.1.{number}:{port}" for number in range(1, hosts + 1)]
    relay = "server {\n" + "".join(f"    listen {server};\n" for server in servers)
    relay += "    keepalive_requests 1000000;\n    access_log off;\n    return 200 $server_addr;\n}\n"
    prefix = live.Prefix(folder / f"relay-{hosts}")
    plan = live.edge_plan(collab=servers)
    tls: dict[str, Any] = {"mode": "load_balancer", "trusted": ["127.0.0.0/8"]}
    prefix.render({"nginx_proxy_domain": live.DOMAIN, "nginx_proxy_tls": tls, "nginx_proxy_edge": plan})
    (prefix.path / "fivepointers" / "relay.conf").write_text(relay)
    # One connection for all.
    with contextlib.contextmanager(live.start)(prefix, None) as client:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
        return {
            name: client.ask(RELAY, f"/{name}", headers=forwarded, tls=False).body.decode()
            for name in (f"document-{number}" for number in range(DOCUMENTS))
        }


def movements(folder: Path) -> bool:
    """Print what moves when a host joins or leaves; returns whether only documents of that host do."""
    port = live.free_port()
    placed = {hosts: placement(folder, hosts, port) for hosts in (2, 3, 4)}
    good = True
    print(f"\n{DOCUMENTS} documents of a relay{'':10}{'moved':>8}{'least':>8}   on each host, of all")
    for before, after in ((2, 3), (3, 2), (3, 4), (4, 3)):
        moved = {name for name in placed[before] if placed[before][name] != placed[after][name]}
        changed = f"127.0.1.{max(before, after)}"
        good &= all(changed in (placed[before][name], placed[after][name]) for name in moved)
        shares = [list(placed[after].values()).count(host) / DOCUMENTS for host in sorted(set(placed[after].values()))]
        print(
            f"{f'from {before} hosts to {after}':34}{len(moved) / DOCUMENTS:8.1%}{1 / max(before, after):8.1%}   "
            + " ".join(f"{share:.1%}" for share in shares)
        )
    return good


def main() -> int:
    """Print both tables; out of the bars is a failure."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: run `make setup`")
    with tempfile.TemporaryDirectory() as folder:
        good = throughput(Path(folder))
        only = movements(Path(folder))
    print(f"\nbar: a ratio of {BAR}, the median of {ROUNDS} rounds" + ("" if good else " — MISSED"))
    if not only:
        print("documents of other hosts moved too — WRONG")
    return int(not (good and only))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    socket.setdefaulttimeout(30)
    sys.exit(main())
