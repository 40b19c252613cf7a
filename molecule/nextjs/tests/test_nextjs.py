"""What visitors of pages see, before and after a release."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SHARED = PROJECT / "molecule/shared"
VERSIONS = {name: item["version"] for name, item in json.loads((PROJECT / "sandbox/nodejs.json").read_text()).items()}
PORT = 3002
IMMUTABLE = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def address() -> str:
    return str(yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())[0]["address"])


def ask(address: str, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection(address, PORT, timeout=5)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, body


def play(*playbooks: str, **variables: Any) -> str:
    """Run playbooks of the scenario with changes; give all they say, on one line."""
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"]]
    command += [*(str(SHARED / playbook) for playbook in playbooks), "-e", json.dumps(variables)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_each_subdomain_is_told_apart(host: Host, address: str) -> None:
    status, _headers, body = ask(address, "/", Host="tenant.molecule.test")
    assert status == 200
    page = json.loads(body)
    assert page["host"] == page["headers"]["x-forwarded-host"] == "tenant.molecule.test"
    assert page["node"] == "v" + VERSIONS["22"]


def test_middleware_cannot_be_left_out(host: Host, address: str) -> None:
    body = ask(address, "/", X_Middleware_Subrequest="src/middleware:src/middleware")[2]
    assert "x-middleware-subrequest" not in json.loads(body)["headers"]


def test_slots_cannot_be_reached(host: Host, address: str) -> None:
    for port in (13002, 23002):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), 2)


def test_pages_are_streamed(host: Host, address: str) -> None:
    connection = http.client.HTTPConnection(address, PORT, timeout=5)
    start = time.monotonic()
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    first, after = answer.readline(), time.monotonic() - start
    assert (first, answer.read()) == (b"first\n", b"second\n")
    connection.close()
    assert after < 1, "the first part waited for the second"


def test_its_cache_can_be_written_and_nothing_else(host: Host, address: str) -> None:
    status, _headers, body = ask(address, "/cache")
    assert (status, body) == (200, "first")
    with host.sudo():
        pid = host.check_output("systemctl show --property=MainPID --value fivepointers-pages@blue.service")
        app = host.check_output("readlink -f /opt/fivepointers/pages/slots/blue") + "/app"
        for path in (f"{app}/server.js", "/etc/x", "/opt/fivepointers/x"):
            done = host.run(f"nsenter --mount --target {pid} setpriv --reuid fp-pages --clear-groups touch {path}")
            assert done.rc != 0, path


def test_the_unit_is_hardened(host: Host) -> None:
    with host.sudo():
        said = host.check_output("systemd-analyze security --no-pager fivepointers-pages@blue.service")
    assert float(said.split("exposure level for")[1].split(":")[1].split()[0]) <= 2.0, said


def test_a_killed_process_is_back_within_seconds(host: Host, address: str) -> None:
    with host.sudo():
        host.check_output("systemctl kill --signal=KILL fivepointers-pages@blue.service")
    deadline = time.monotonic() + 10
    while ask(address, "/healthz")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_while_nothing_answers_visitors_see_a_page(host: Host, address: str) -> None:
    with host.sudo():
        host.check_output("systemctl stop fivepointers-pages@blue.service")
        try:
            status, headers, body = ask(address, "/")
            assert (status, headers["Content-Type"], headers["Cache-Control"]) == (
                502,
                "text/html; charset=utf-8",
                "no-store",
            )
            assert "does not answer" in body
        finally:
            host.check_output("systemctl start fivepointers-pages@blue.service")


def test_chunks_of_the_release_before_are_still_there_for_open_pages(host: Host, address: str) -> None:
    status, headers, body = ask(address, "/_next/static/chunks/first.js")
    assert (status, headers["Cache-Control"], body) == (200, IMMUTABLE, 'console.log("first");\n')
    play("build.yml", "service.yml", version="second")
    assert json.loads(ask(address, "/")[2])["version"] == "second"
    for version in ("first", "second"):
        status, headers, body = ask(address, f"/_next/static/chunks/{version}.js")
        assert (status, headers["Cache-Control"], version in body) == (200, IMMUTABLE, True)
    status, headers, body = ask(address, "/_next/static/chunks/third.js")
    assert (status, headers["Cache-Control"], body) == (404, None, "the application was asked")
    assert ask(address, "/cache")[2] == "second", "the cache is that of its release"
    assert "changed=0" in play("service.yml", version="second")
