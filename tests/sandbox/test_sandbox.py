# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The sandbox itself: it comes up after whatever happened to it, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.containers import bridge_name, network_name
from tests.integration.harness import ROOT, Sandbox, podman

HOSTS = "hosts: {a-1: [api, edge], b-1: []}\n"


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sandbox") / "topology.yml"
    path.write_text(HOSTS)
    return str(path)


@pytest.fixture(scope="module")
def hardy(topology: str) -> Iterator[Sandbox]:
    it = Sandbox("hardy", topology)
    it.down()
    yield it
    it.down()


def test_two_at_once_are_strangers_and_the_second_up_changes_nothing(hardy: Sandbox, topology: str) -> None:
    hardy.up()
    other = Sandbox("hardy-too", topology)
    try:
        done = other.cli("up", "--bare", "--topology", topology)
        assert done.returncode == 0, done.stderr
        assert other.endpoints["subnet"] != hardy.endpoints["subnet"]
        assert other.endpoints["aws_endpoint"] is None
        assert not (other.state / "env").exists()
    finally:
        other.down()
    told, stamp = hardy.endpoints, (hardy.state / "ssh_key").stat().st_mtime_ns
    began = time.monotonic()
    hardy.up()
    assert time.monotonic() - began < 30
    assert (hardy.endpoints, (hardy.state / "ssh_key").stat().st_mtime_ns) == (told, stamp)


def test_the_database_lets_the_sandbox_in_and_speaks_tls(hardy: Sandbox) -> None:
    secrets = json.loads((hardy.state / "secrets.json").read_text())
    database = hardy.endpoints["database"]
    login = ("--host", database["host"], "--user", database["user"], f"--password={secrets['database']}")
    tls = ("--ssl-ca=/etc/sandbox/ca.pem", "--ssl-verify-server-cert")
    assert hardy.sql("select database(), @@max_connections", *login, *tls, database["name"]) == "app\t150\n"
    assert "TLS" in hardy.sql("show status like 'Ssl_version'", *login, *tls)
    subnet = hardy.endpoints["subnet"].split("/")[0]
    assert hardy.sql("select host from mysql.user where user = 'app'") == f"{subnet}/255.255.255.0\n"


def ended(pid: int) -> None:
    """Wait until a killed process is gone; MariaDB takes its time."""
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until, Path(f"/proc/{pid}/status").read_text()
        time.sleep(0.05)


def test_killed_containers_come_back_with_their_disks_and_their_names(hardy: Sandbox) -> None:
    before = hardy.endpoints
    address = Path("/sys/class/net") / bridge_name("hardy") / "address"
    gateway = address.read_text()
    hardy.ssh("a-1", "echo kept | sudo tee /root/mark; sync")
    hardy.sql("create table app.marks (mark text); insert into app.marks values ('kept')")
    # Container and watcher at once, as the kernel does when memory ends: podman is not told.
    for part in ("a-1", "database", "aws"):
        shown = json.loads(podman("inspect", f"hardy.{part}").stdout)[0]["State"]
        os.kill(shown["ConmonPid"], signal.SIGKILL)
        os.kill(shown["Pid"], signal.SIGKILL)
        ended(shown["Pid"])
    assert hardy.cli("status").returncode == 3
    hardy.up()
    assert hardy.cli("status").returncode == 0
    assert hardy.ssh("a-1", "sudo cat /root/mark") == "kept\n"
    assert hardy.sql("select mark from app.marks") == "kept\n"
    assert hardy.endpoints == before, "the AWS API lost its account, and the instances have their ids again"
    assert address.read_text() == gateway, "hosts send to an address that is gone"


@pytest.mark.parametrize(
    "how, delay",
    [
        (signal.SIGINT, 0.5),
        (signal.SIGKILL, 2.0),
        pytest.param(signal.SIGINT, 2.0, marks=pytest.mark.soak),
        pytest.param(signal.SIGKILL, 0.5, marks=pytest.mark.soak),
    ],
)
def test_an_interrupted_up_is_finished_by_the_next(hardy: Sandbox, how: signal.Signals, delay: float) -> None:
    hardy.down()
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "up", "--name", "hardy", "--topology", hardy.topology or ""],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(delay)
    os.killpg(process.pid, how)
    process.wait(60)
    hardy.up()
    assert hardy.cli("status").returncode == 0


def test_a_network_that_an_interrupted_up_left_without_its_bridges_name_is_made_anew(hardy: Sandbox) -> None:
    subnet = hardy.endpoints["subnet"]
    hardy.down()
    podman("network", "create", "--disable-dns", "--subnet", subnet, network_name("hardy"))
    hardy.up()
    assert hardy.cli("status").returncode == 0
    assert (Path("/sys/class/net") / bridge_name("hardy")).exists()


def test_what_is_in_the_way_is_told_in_a_sentence(hardy: Sandbox, tmp_path: Path) -> None:
    hardy.up()
    taken = tmp_path / "taken.yml"
    taken.write_text(f"subnet: {hardy.endpoints['subnet']}\n{HOSTS}")
    done = Sandbox("hardy-too").cli("up", "--bare", "--topology", str(taken))
    assert done.returncode == 1
    assert f"network {hardy.endpoints['subnet']} is in use" in done.stderr
    assert "set `subnet` in the topology file" in done.stderr
    assert "Traceback" not in done.stderr


def test_down_leaves_nothing_and_keeps_the_keys(hardy: Sandbox) -> None:
    hardy.up()
    told = hardy.endpoints
    key = (hardy.state / "ssh_key").read_text()
    pids = [json.loads(podman("inspect", f"hardy.{part}").stdout)[0]["State"]["ConmonPid"] for part in ("a-1", "aws")]
    hardy.down()
    assert "hardy." not in podman("ps", "--all", "--external", "--format", "{{.Names}}").stdout
    assert "hardy." not in podman("network", "ls", "--format", "{{.Name}}").stdout
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    assert told["subnet"] not in routes
    assert not any(alive(pid) for pid in pids)
    assert not (hardy.state / "endpoints.json").exists()
    assert not (hardy.state / "env").exists()
    assert (hardy.state / "ssh_key").read_text() == key
    assert hardy.cli("status").returncode == 3


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
