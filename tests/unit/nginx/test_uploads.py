# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Bodies over HTTP/2, which needs no length for them: what one client can put on the edge's disk, on a live nginx."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.unit.nginx.live import DOMAIN, NODE
from tests.unit.nginx.test_cors import PREFLIGHT

API = f"api.{DOMAIN}"
ORIGIN = f"https://app.{DOMAIN}"
KILOBYTE = 1024
READS = ("GET", "HEAD", "OPTIONS")

# Sends requests over one connection, all at once, and says what came back, once so many as are held by a body that does
# not end are left, or after five seconds.
CLIENT = """\
const http2 = require("http2"), fs = require("fs");
const { url, name, ca, requests, held } = JSON.parse(fs.readFileSync(0));
const session = http2.connect(url, { servername: name, ca: fs.readFileSync(ca), maxSessionMemory: 1000 });
session.on("error", () => {});
const answers = requests.map(() => ({ headers: {}, body: "" }));
let open = requests.length;
const done = () => { console.log(JSON.stringify(answers)); process.exit(); };
setTimeout(done, 5000);
requests.forEach(({ headers, size, end }, number) => {
  const stream = session.request({ ":authority": name, ...headers }, { endStream: !size });
  stream.on("response", (headers) => { answers[number].headers = headers; });
  stream.on("data", (part) => { answers[number].body += part; });
  stream.on("error", () => {});
  stream.on("close", () => { open -= 1; if (open <= held) done(); });
  if (size) stream.write(Buffer.alloc(size, "x"));
  if (size && end) stream.end();
});
"""


def request(method: str, size: int = 0, end: bool = True, path: str = "/x", **headers: str) -> dict[str, Any]:
    """A request for the client; with a length, if one is among the headers."""
    return {"headers": {":method": method, ":path": path, **headers}, "size": size, "end": end}


def on_disk(prefix: Path, what: str = "client_body") -> int:
    """Return the size of the bodies in files, which have no names; or, of "proxy", of the responses."""
    master = (prefix / "nginx.pid").read_text().strip()
    size = 0
    for worker in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        for file in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if f"/temp_{what}/" in str(file.readlink()):
                    size += file.stat().st_blocks * 512
    return size


def ask(edge: Any, *requests: dict[str, Any], name: str = API, held: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the answers, and how many bytes of files the worker had for bodies at most."""
    url = f"https://127.0.0.1:{edge.ports[443]}"
    what = {"url": url, "name": name, "ca": str(edge.ca_file), "requests": requests, "held": held}
    most = 0
    with subprocess.Popen([NODE, "-e", CLIENT], stdin=-1, stdout=-1, text=True) as node:
        assert node.stdin and node.stdout
        node.stdin.write(json.dumps(what))
        node.stdin.close()
        while node.poll() is None:
            most = max(most, on_disk(edge.prefix.path))
        return json.loads(node.stdout.read()), most


def statuses(answers: list[dict[str, Any]]) -> Counter[int | None]:
    return Counter(answer["headers"].get(":status") for answer in answers)


def test_bodies_of_reads_do_not_fill_the_disk(edge: Any) -> None:
    """Without a length it cannot be counted as a large body, and a body_limit each would fill the disk."""
    answers, most = ask(edge, *[request(method, 100 * KILOBYTE, end=False) for method in READS] * 35)
    assert statuses(answers) == {413: 105}
    assert most <= 105 * 12 * KILOBYTE
    assert json.loads(answers[0]["body"])["statusCode"] == 413


def test_a_read_may_have_a_small_body_and_one_with_a_length_a_large_one(edge: Any) -> None:
    size = 900 * KILOBYTE
    answers, most = ask(
        edge, request("GET", 9 * KILOBYTE), request("GET", size, **{"content-length": str(size)}), request("POST", size)
    )
    assert [answer["headers"][":status"] for answer in answers] == [200] * 3
    assert [json.loads(answer["body"])["method"] for answer in answers] == ["GET", "GET", "POST"]
    assert most <= 2 * 1024 * KILOBYTE


def test_large_bodies_of_one_client_are_counted(edge: Any) -> None:
    size = 20 * KILOBYTE
    counted = [request("POST", size, False), request("DELETE", size, False)]
    counted += [request(method, size, False, **{"content-length": str(size + 1)}) for method in READS]
    answers, _most = ask(edge, *counted * 24, held=100)
    assert statuses(answers) == {429: 20, None: 100}


def test_reads_are_limited(edge: Any) -> None:
    answers, _most = ask(edge, *[request("GET", path="/limited")] * 3, name=f"own.{DOMAIN}")
    assert statuses(answers) == {200: 1, 429: 2}
    assert {answer["headers"].get("retry-after") for answer in answers} == {None, "60"}


def test_a_read_is_answered_as_over_http_1(edge: Any) -> None:
    """It takes another location, with the same headers, limits, paths and error pages."""
    ours = {"origin": ORIGIN}
    preflight = {name.lower(): value for name, value in PREFLIGHT.items()}
    asked = [
        request("GET", path="/a%2Fb//c?d=%20", **ours),
        request("OPTIONS", **ours, **preflight),
        request("OPTIONS", origin="https://elsewhere.test", **preflight),
        request("GET", path="/status/404", **ours),
        request("GET", path="/own", **ours),
    ]
    answers, _most = ask(edge, *asked)
    assert [answer["headers"][":status"] for answer in answers] == [200, 204, 403, 404, 200]
    assert json.loads(answers[0]["body"])["path"] == "/a%2Fb//c?d=%20"
    for answer, wanted in zip(answers, asked, strict=True):
        same = dict(wanted["headers"])
        before = edge.ask(API, same.pop(":path"), same.pop(":method"), same)
        for name in ("access-control-allow-origin", "content-security-policy", "strict-transport-security", "vary"):
            assert answer["headers"].get(name) == (", ".join(before.all(name)) or None), name
    dead, _most = ask(edge, request("GET", **ours), name=f"gone.{DOMAIN}")
    assert dead[0]["headers"][":status"] == 502 and "<h1>" in dead[0]["body"]
