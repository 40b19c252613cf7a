# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What docs/operations.md tells of the night: its messages, and that its cures work."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator

import pytest

from tests.integration.harness import ROOT, Run, Sandbox, podman
from tests.integration.test_25_deployments import Stack, start

DEPLOYMENTS = ROOT / ".artifacts/deployments"
#: Seconds after which a host that answers nobody comes back by itself, whatever becomes of the test.
OUTAGE = 60


@pytest.fixture(scope="module")
def stack(platform: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    it = Stack(platform, tmp_path_factory.mktemp("catalogues"))
    yield it
    it.deploy().succeeded()


def said(output: str) -> str:
    """What a run said, whatever its lines."""
    return " ".join(output.split())


def begun(stack: Stack, argument: str, phase: str, host: str) -> subprocess.Popen[str]:
    """A deployment of a catalogue that has got through a phase on a host."""
    for journal in DEPLOYMENTS.glob("*.steps"):
        journal.unlink()
    process = start(stack, "-e", argument)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = "".join(path.read_text() for path in DEPLOYMENTS.glob("*.steps")).splitlines()
        if any((step["name"], step["host"].partition("_")[0]) == (phase, host) for step in map(json.loads, lines)):
            return process
        time.sleep(0.02)
    raise AssertionError(f"{phase} was never reached on {host}: {process.communicate()[0][-3000:]}")


def cut_off(sandbox: Sandbox, host: str) -> None:
    """Let nobody reach a host for a while; what runs there goes on."""
    script = f"systemctl stop ssh.socket ssh.service; pkill -KILL -x sshd; sleep {OUTAGE}; systemctl start ssh.service"
    sandbox.ssh(host, f"sudo systemd-run --quiet --collect --unit=outage sh -c '{script}'", check=False)


def reachable(sandbox: Sandbox, host: str) -> None:
    """End the outage, from inside the host."""
    podman("exec", f"{sandbox.name}.{host}", "systemctl", "start", "ssh.service")
    deadline = time.monotonic() + OUTAGE + 30
    while sandbox.ssh(host, "echo reached", check=False).strip() != "reached":
        assert time.monotonic() < deadline, f"{host} did not come back"
        time.sleep(0.5)


def whole(stack: Stack, argument: str) -> Run:
    """Deploy again, as the message says; nothing is left open."""
    run = stack.sandbox.playbook("playbooks/deploy.yml", "-e", argument).succeeded()
    for service in ("api", "collab", "sites"):
        assert "pending" not in stack.state(service)
    return run


def test_a_host_that_vanishes_in_mid_deployment_is_named_and_the_next_one_mends_it(stack: Stack) -> None:
    before = stack.live()
    argument = stack.catalogue(api={"memory": "720M"}, collab={"memory": "720M"})
    process = begun(stack, argument, "prepare", "collab-1")
    cut_off(stack.sandbox, "collab-1")
    output = said(process.communicate(timeout=200)[0])
    assert process.returncode != 0
    assert "Make sure this host can be reached over ssh" in output and "collab-1" in output
    reachable(stack.sandbox, "collab-1")
    assert stack.live() == before
    whole(stack, argument)
    assert all(stack.live()[name] != before[name] for name in ("api", "collab"))


def test_a_host_that_restarts_in_mid_deployment_is_whole_after_the_next(stack: Stack) -> None:
    before = stack.live()
    argument = stack.catalogue(sites={"memory": "730M"})
    process = begun(stack, argument, "switch", "sites-1")
    stack.sandbox.reboot("sites-1")
    output = said(process.communicate(timeout=200)[0])
    assert process.returncode == 0 or "sites-1" in output
    whole(stack, argument)
    assert stack.live()["sites"] != before["sites"]


@pytest.fixture
def another(stack: Stack) -> Iterator[str]:
    """Another artifact of the pages, the same but for one more file, which no host has."""
    folder = ROOT / ".artifacts/frontend"
    manifest = json.loads((folder / "latest.json").read_text())
    content = io.BytesIO()
    with tarfile.open(folder / f"{manifest['id']}.tar.gz") as old, tarfile.open(fileobj=content, mode="w:gz") as new:
        for member in old:
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
        text = f"made at {time.time()}".encode()
        member = tarfile.TarInfo("another.txt")
        member.size = len(text)
        new.addfile(member, io.BytesIO(text))
    data = content.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    identifier = digest[: len(manifest["id"])]
    manifest.update(id=identifier, archive_sha256=digest, archive_size=len(data))
    manifest.update(unpacked_size=manifest["unpacked_size"] + len(text), files_count=manifest["files_count"] + 1)
    paths = folder / f"{identifier}.tar.gz", folder / f"{identifier}.json"
    paths[0].write_bytes(data)
    paths[1].write_text(json.dumps(manifest))
    yield identifier
    for path in paths:
        path.unlink()


def choose(stack: Stack, artifact: str) -> Run:
    return stack.sandbox.playbook("playbooks/deploy.yml", "-e", f"artifact=frontend:{artifact}")


def test_a_damaged_archive_is_not_unpacked(stack: Stack, another: str) -> None:
    before = stack.live()
    archive = ROOT / f".artifacts/frontend/{another}.tar.gz"
    whole_archive = archive.read_bytes()
    archive.write_bytes(whole_archive[:-100])
    run = choose(stack, another)
    assert run.rc != 0
    assert "it is damaged, or the wrong one. Nothing was unpacked." in said(run.output)
    assert stack.live() == before
    archive.write_bytes(whole_archive)
    choose(stack, another).succeeded()
    assert stack.live()["frontend"] != before["frontend"]


def test_a_build_that_ends_in_mid_deployment_changes_nothing_of_it(stack: Stack, another: str) -> None:
    latest = ROOT / ".artifacts/frontend/latest.json"
    newest, before = latest.read_bytes(), stack.live()
    host = stack.sandbox.hosts_of("frontend")[0]
    try:
        latest.write_bytes(latest.with_name(f"{another}.json").read_bytes())
        process = begun(stack, stack.catalogue(), "prepare", host)
    finally:
        latest.write_bytes(newest)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output[-3000:]
    assert "pending" not in stack.state("frontend")
    after = stack.live()["frontend"]
    record = stack.sandbox.ssh(host, f"sudo cat /opt/fivepointers/frontend/releases/{after}/release.json")
    assert after != before["frontend"] and json.loads(record)["artifact"] == another


def test_older_code_is_refused(stack: Stack, another: str) -> None:
    """As from a checkout that is not up to date, or by an old manifest that somebody put back."""
    latest = ROOT / ".artifacts/frontend/latest.json"
    newest, before = latest.read_bytes(), stack.live()
    manifest = json.loads(latest.with_name(f"{another}.json").read_text())
    old = {"id": "0" * 40, "time": manifest["commit"]["time"] - 1000, "dirty": False}
    for path in (latest, latest.with_name(f"{another}.json")):
        path.write_text(json.dumps({**manifest, "commit": old}))
    try:
        run = stack.deploy()
        assert run.rc != 0 and not run.changed
        assert "frontend: its code is of commit 000000000000" in said(run.output) and "-e older=true" in said(
            run.output
        )
        assert stack.live() == before
        stack.deploy("-e", "older=true", "--check").succeeded()
    finally:
        latest.write_bytes(newest)


@pytest.fixture
def full(stack: Stack) -> Iterator[str]:
    """A host whose releases lie on a disk with no room for another one."""
    host = stack.sandbox.hosts_of("frontend")[0]
    stack.sandbox.ssh(
        host,
        "sudo sh -euc 'mkdir -p /run/small; mount -t tmpfs -o size=60M tmpfs /run/small;"
        " cp -a /opt/fivepointers/. /run/small/; mount --bind /run/small /opt/fivepointers'",
    )
    yield host
    make_room(stack, host)


def make_room(stack: Stack, host: str) -> None:
    stack.sandbox.ssh(
        host, "sudo sh -c 'for path in /opt/fivepointers /run/small; do ! mountpoint -q $path || umount -l $path; done'"
    )


def test_a_full_disk_is_noticed_before_anything_is_written(stack: Stack, another: str, full: str) -> None:
    before = stack.live()
    run = choose(stack, another)
    assert run.rc != 0
    output = said(run.output)
    assert "frontend: release" in output and "are free. Nothing was changed. Free some space there" in output
    assert full in output
    assert stack.live() == before
    make_room(stack, full)
    choose(stack, another).succeeded()
    assert stack.live()["frontend"] != before["frontend"]


PLACES = "/var/lib/fivepointers /var/lib/fivepointers-api /etc/nginx /etc/systemd/system"


@pytest.fixture
def cramped(stack: Stack) -> Iterator[str]:
    """A host on which a service can fill the disk that holds flags, states, boot links and fronts."""
    host = stack.sandbox.hosts_of("api")[0]
    stack.sandbox.ssh(
        host,
        "sudo sh -euc 'mkdir -p /run/small; mount -t tmpfs -o size=150M,nr_inodes=5k tmpfs /run/small;"
        f" for place in {PLACES}; do mkdir -p /run/small$(dirname $place); cp -a $place /run/small$place;"
        " mount --bind /run/small$place $place; done'",
    )
    yield host
    # What changed meanwhile stays; what filled the disk goes.
    stack.sandbox.ssh(
        host,
        "sudo sh -euc 'rm -rf /run/small/var/lib/fivepointers-api/full;"
        f" for place in {PLACES}; do umount -l $place; find $place -mindepth 1 -delete;"
        " cp -a /run/small$place/. $place/; done; umount -l /run/small; systemctl daemon-reload'",
    )


def test_a_release_that_filled_the_disk_is_rolled_back(stack: Stack, cramped: str) -> None:
    """Not a byte and not an inode is left."""
    stack.deploy(api={"hold": 600}).succeeded()
    before = stack.live()
    stack.deploy(api={"memory": "640M", "hold": 600, "body_limit": "3m"}).succeeded()
    assert stack.live()["api"] != before["api"]
    # As the service, which can do so.
    script = "mkdir full; cd full; seq 1 6000 | xargs touch; head -c 1G /dev/zero >> 1"
    stack.sandbox.ssh(
        cramped, f"sudo -u fp-api sh -c 'cd /var/lib/fivepointers-api; {script}' 2>/dev/null", check=False
    )
    for place, what in (("/etc/nginx/x", "inodes"), ("/var/lib/fivepointers-api/full/2", "bytes")):
        tried = stack.sandbox.ssh(cramped, f"echo x | sudo tee {place} 2>&1", check=False)
        assert "No space left" in tried, what
    stack.sandbox.playbook("playbooks/rollback.yml", "-e", stack.catalogue(), "-e", "service=api").succeeded()
    assert stack.live() == before


def test_nobody_else_on_a_host_reads_a_release(stack: Stack) -> None:
    for service, reader in (("api", "fp-api"), ("frontend", "www-data")):
        host = stack.sandbox.hosts_of(service)[0]
        look = f"sh -c 'cd /opt/fivepointers/{service}/releases && ls $(ls | head -1)/app' 2>&1"
        assert "Permission denied" in stack.sandbox.ssh(host, f"sudo -u nobody {look}", check=False)
        assert stack.sandbox.ssh(host, f"sudo -u {reader} {look}")


def test_a_wrong_password_of_the_database_is_told_by_the_candidates_last_words(stack: Stack) -> None:
    before = stack.live()
    store, name = stack.sandbox.aws("secretsmanager"), "fivepointers/sandbox/database"
    right = store.get_secret_value(SecretId=name)["SecretString"]
    store.put_secret_value(SecretId=name, SecretString="not the password")
    # The application retries until start_period ends: 5 s, not a minute.
    health = {"path": "/api/health", "start_period": 5}
    try:
        run = stack.deploy(api={"health": health})
    finally:
        store.put_secret_value(SecretId=name, SecretString=right)
    assert run.rc != 0
    assert "step prepare" in said(run.output) and "Access denied for user 'app'" in said(run.output)
    assert "not the password" not in run.output
    assert stack.live() == before
    stack.deploy().succeeded()
