# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Measure what browsers get of built files, and what that costs nginx: .venv/bin/python tests/bench/assets.py

Prints the bytes of the newest artifacts of the example frontend and sites, as they are and compressed; and the
processor time of nginx for each request of the frontend's largest script, with and without what the roles set.
Variants take turns, and the median of their rounds counts; the first variant stands twice, which shows the noise.
Half a minute, after `make up` or the build of both.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "collections")]

from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases  # noqa: E402
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text  # noqa: E402

from tests.unit.nginx import live  # noqa: E402
from tests.unit.release.conftest import make_spec  # noqa: E402

ROUNDS, REQUESTS = 15, 1000
# One request of this variant takes as long as a hundred of the others.
SLOW = "compressed for each request"
SNIPPETS = "fivepointers/snippets"
Change = Callable[[dict[str, str]], dict[str, str]]


def without(snippet: str, text: str) -> Change:
    """Return a change that takes a text out of a snippet."""

    def change(files: dict[str, str]) -> dict[str, str]:
        path = f"{SNIPPETS}/{snippet}.conf"
        assert text in files[path]
        return {**files, path: files[path].replace(text, "")}

    return change


CACHE = "open_file_cache max=1000 inactive=10s;\nopen_file_cache_valid 5s;\nopen_file_cache_errors off;\n"
VARIANTS: dict[str, Change] = {
    "as it is": dict,
    "as it is, again": dict,
    "files not kept open": without("hashed", CACHE),
    SLOW: without("static", "gzip_static on;\nbrotli_static on;\n"),
}


def read_files(service: str) -> dict[str, bytes]:
    """Return the files of a service's newest artifact."""
    folder = ROOT / ".artifacts" / service
    name = json.loads((folder / "latest.json").read_text())["id"]
    with tarfile.open(folder / f"{name}.tar.gz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]


def print_bytes(service: str, files: dict[str, bytes]) -> None:
    """Print what the files come to that are there compressed as well."""
    packed = [name for name in files if f"{name}.br" in files]
    plain, gzipped, brotli = (sum(len(files[name + suffix]) for name in packed) for suffix in ("", ".gz", ".br"))
    print(f"{service}: {len(packed)} files, {plain} bytes as they are, {gzipped} with gzip, {brotli} with brotli")


@contextlib.contextmanager
def front(change: Change, script: dict[str, bytes]) -> Iterator[tuple[int, int]]:
    """A live front of a release with one script; gives its port and the process that serves."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary)
        path.chmod(0o755)
        assets = path / "orders/slots/blue/app/assets"
        assets.mkdir(parents=True)
        for suffix, content in script.items():
            (assets / f"app.js{suffix}").write_bytes(content)
        prefix = live.Prefix(path / "nginx")
        with mock.patch.multiple(releases, HOME=temporary, STATE=temporary):
            text = front_text(make_spec("static_frontend"))
        prefix.write(change({"fivepointers/front-orders.conf": text, **live.render({})}))
        with contextlib.contextmanager(live.start)(prefix, None):
            master = (prefix.path / "nginx.pid").read_text().strip()
            (worker,) = subprocess.check_output(["pgrep", "--parent", master], text=True).split()
            yield prefix.port(8080), int(worker)


def microseconds(port: int, worker: int, requests: int) -> float:
    """Return the processor time of one request, of many on one connection."""
    request = b"GET /assets/app.js HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\n\r\n"
    spent = Path(f"/proc/{worker}/schedstat")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        before = int(spent.read_text().split()[0])
        for _request in range(requests):
            connection.sendall(request)
            with http.client.HTTPResponse(connection) as response:
                response.begin()
                assert response.status == http.HTTPStatus.OK and response.read()
        return (int(spent.read_text().split()[0]) - before) / requests / 1000


def main() -> None:
    """Measure and print."""
    frontend = read_files("frontend")
    print_bytes("frontend", frontend)
    print_bytes("sites", read_files("sites"))
    largest = max((name for name in frontend if f"{name}.br" in frontend), key=lambda name: len(frontend[name]))
    script = {suffix: frontend[largest + suffix] for suffix in ("", ".gz", ".br")}
    with contextlib.ExitStack() as stack:
        fronts = {name: stack.enter_context(front(change, script)) for name, change in VARIANTS.items()}
        rounds: dict[str, list[float]] = {name: [] for name in fronts}
        for number in range(ROUNDS):
            for name in sorted(fronts, reverse=bool(number % 2)):
                rounds[name].append(microseconds(*fronts[name], REQUESTS // (100 if name == SLOW else 1)))
    print(f"{largest}: processor time of one request, at a load of {os.getloadavg()[0]:.1f}")
    first = statistics.median(rounds["as it is"])
    for name, times in rounds.items():
        middle = statistics.median(times)
        print(f"  {name:30} {middle:8.1f} µs ({min(times):.1f} to {max(times):.1f}), {middle / first:.2f} of the first")


if __name__ == "__main__":
    main()
