# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Deployments as one transaction over hosts and services: switched, taken back, rolled back, killed, and fenced off."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.module_utils.build.signatures import Signer

from tests.integration.harness import ROOT, Run, Sandbox

CATALOGUE = ROOT / "inventories/services.yml"
PROCESSES = ("api", "sites", "collab")
#: Seconds for which the whole stack may be on its way back: over five hosts, while the old releases still run.
WHOLE_STACK = 2.0


class Stack:
    """The platform, deployed from catalogues that differ."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.folder = folder
        self.number = 0

    def catalogue(self, **changes: dict[str, Any]) -> str:
        """Write a catalogue in which some keys of some services differ; return the argument that uses it."""
        content = yaml.safe_load(CATALOGUE.read_text())
        for name, service in content["services"].items():
            service["build"]["source"] = str((CATALOGUE.parent / service["build"]["source"]).resolve())
            service.update(changes.get(name, {}))
        self.number += 1
        path = self.folder / f"services-{self.number}.yml"
        path.write_text(yaml.safe_dump(content))
        return f"platform_catalogue_file={path}"

    def deploy(self, *arguments: str, **changes: dict[str, Any]) -> Run:
        return self.sandbox.playbook("playbooks/deploy.yml", "-e", self.catalogue(**changes), *arguments)

    def report(self) -> dict[str, Any]:
        """The report of the newest deployment."""
        return json.loads(max((ROOT / ".artifacts/deployments").glob("*.json")).read_text())

    def state(self, service: str) -> dict[str, Any]:
        host = self.sandbox.hosts_of(service)[0]
        return self.sandbox.record(host, f"{service}/state.json")

    def live(self) -> dict[str, str]:
        return {name: self.state(name)["live"]["release"] for name in (*PROCESSES, "frontend")}

    def inventory(self, **variables: dict[str, Any]) -> Path:
        """Write another inventory of the same hosts, in another order, under other names; return its path.

        variables: by host.
        """
        hosts = self.sandbox.endpoints["hosts"]
        groups: dict[str, Any] = {}
        named = {}
        for name in sorted(hosts, reverse=True):
            other = f"a-{len(named)}-{name}"
            known = {"aws_private_ip_address": hosts[name]["address"], "aws_tags": {"Services": ""}}
            known["aws_tags"] = {"Services": ",".join(hosts[name]["services"])}
            named[other] = {**known, **variables.get(name.replace("-", "_"), {})}
            for service in hosts[name]["services"]:
                groups.setdefault(f"service_{service}", {"hosts": {}})["hosts"][other] = None
        folder = self.folder / "another"
        folder.mkdir(exist_ok=True)
        if not (folder / "group_vars").exists():
            (folder / "group_vars").symlink_to(ROOT / "inventories/sandbox/group_vars")
        path = folder / "hosts.yml"
        path.write_text(yaml.safe_dump({"all": {"children": {"platform": {"hosts": named, "children": groups}}}}))
        return path

    def settled(self) -> bool:
        """Whether no switch is open."""
        return not any("pending" in self.state(name) for name in PROCESSES)

    def running(self, service: str) -> list[str]:
        host = self.sandbox.hosts_of(service)[0]
        command = f"systemctl list-units --plain --no-legend --state=active 'fivepointers-{service}@*'"
        return sorted(line.split()[0] for line in self.sandbox.ssh(host, command).splitlines())


@pytest.fixture(scope="module")
def stack(platform: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield Stack(platform, tmp_path_factory.mktemp("catalogues"))
    platform.playbook("playbooks/deploy.yml").succeeded()


@pytest.fixture
def users(stack: Stack) -> Iterator[list[str]]:
    """Somebody who asks the API through the front door all the time; what failed."""
    with stack.sandbox.asked(("api", "/api/health")) as failed:
        yield failed


def memory(size: str) -> dict[str, dict[str, Any]]:
    return {name: {"memory": size} for name in PROCESSES}


def slow(size: str) -> dict[str, dict[str, Any]]:
    """The same, so that a deployment waits for the drain of ten seconds: another one does not outwait it."""
    return {name: {"memory": size, "hold": 0} for name in PROCESSES}


def test_the_stack_is_released_as_one_and_nobody_notices(stack: Stack, users: list[str]) -> None:
    before = stack.live()
    stack.deploy(**memory("900M")).succeeded()
    after = stack.live()
    assert {name for name in before if before[name] != after[name]} == set(PROCESSES)
    report = stack.report()
    print(json.dumps({key: report["probe"][key] for key in ("requests", "failed", "longest_stall_ms")}))
    assert report["outcome"] == "committed" and set(report["services"]) == set(PROCESSES)
    assert report["probe"]["requests"] > 20 and report["probe"]["failed"] == 0
    assert users == []
    for name in PROCESSES:
        assert len(stack.running(name)) == 2, "the old release goes on running for its hold time"
        timer = f"$(systemctl show --property NextElapseUSecRealtime --value fivepointers-{name}-retire.timer)"
        script = f'sudo systemctl daemon-reload; date --date "{timer}" +%s'
        due = int(stack.sandbox.ssh(stack.sandbox.hosts_of(name)[0], script))
        assert abs(due - stack.state(name)["held"]["until"]) <= 1, "a daemon-reload changes nothing about its end"


def test_what_runs_already_is_left_alone(stack: Stack) -> None:
    argument = stack.catalogue(**memory("900M"))
    run = stack.sandbox.playbook("playbooks/deploy.yml", "-e", argument, measured=True).unchanged()
    print(f"deploying what runs: {run.seconds:.1f} s, of the processor {run.processor_seconds:.1f} s")
    # By the clock it is what other work on the machine makes it.
    assert run.processor_seconds < 12


def test_the_stack_goes_back_in_two_seconds_while_the_old_releases_run(stack: Stack, users: list[str]) -> None:
    now = stack.live()
    run = stack.sandbox.playbook("playbooks/rollback.yml").succeeded()
    assert {name for name, release in stack.live().items() if release != now[name]} == set(PROCESSES)
    at = sorted(stack.state(name)["live"]["at"] for name in PROCESSES)
    print(f"rollback of the stack: {at[-1] - at[0]:.2f} s from the first flag to the last, {run.seconds:.1f} s in all")
    assert at[-1] - at[0] < WHOLE_STACK
    assert users == []
    listed = stack.sandbox.playbook("playbooks/releases.yml").unchanged().output
    assert all(release in listed for release in (*now.values(), *stack.live().values()))


def test_a_failed_verification_takes_everything_back(stack: Stack, users: list[str]) -> None:
    before = stack.live()
    # The pages ask an API that is not there: healthy, and of no use.
    broken = {"memory": "800M", "environment": {"API_INTERNAL_URL": "http://127.0.0.1:9"}}
    run = stack.deploy(api={"memory": "800M"}, sites=broken)
    assert run.rc != 0
    assert "read the page on its subdomain" in run.output
    assert "The deployment was reverted" in run.output
    assert stack.live() == before
    assert stack.report()["outcome"] == "taken back"
    for name in ("api", "sites"):
        assert "pending" not in stack.state(name)
    assert users == []
    stack.deploy().unchanged()


def test_a_candidate_that_never_gets_healthy_is_told_with_its_last_words(stack: Stack, users: list[str]) -> None:
    before = stack.live()
    run = stack.deploy(
        api={"memory": "850M"},
        collab={"environment": {"MAX_DOCUMENTS": "none"}, "health": {"path": "/health", "start_period": 5}},
    )
    assert run.rc != 0
    said = " ".join(run.output.split())
    assert "collab on collab-1" in said and "step prepare" in said and "MAX_DOCUMENTS" in said
    assert "journalctl -u fivepointers-collab@" in said
    assert stack.live() == before
    assert users == []
    assert stack.report()["probe"]["failed"] == 0


def start(
    stack: Stack, *arguments: str, inventory: str = "inventories/sandbox/aws_ec2.yml", **environment: str
) -> subprocess.Popen[str]:
    """Start a deployment beside this test, in a session of its own."""
    return subprocess.Popen(
        ["ansible-playbook", "-i", inventory, "playbooks/deploy.yml", *arguments],
        cwd=ROOT,
        env={**stack.sandbox.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("round_", [0, *(pytest.param(number, marks=pytest.mark.soak) for number in range(1, 20))])
def test_of_two_controllers_with_different_inventories_one_works(stack: Stack, round_: int) -> None:
    """The hosts have other names in the second, and another order."""
    artifacts = f"platform_artifacts={ROOT}/.artifacts"
    sizes = (f"{700 + 2 * round_}M", f"{701 + 2 * round_}M")
    inventories = {"ann": "inventories/sandbox/aws_ec2.yml", "bob": str(stack.inventory())}
    runs = [
        start(stack, "-e", stack.catalogue(**slow(size)), "-e", artifacts, inventory=inventory, GITHUB_ACTOR=who)
        for size, (who, inventory) in zip(sizes, inventories.items(), strict=True)
    ]
    outputs = [run.communicate(timeout=300)[0] for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes[0] == 0 and codes[1] != 0, outputs
    refused = " ".join(next(output for run, output in zip(runs, outputs, strict=True) if run.returncode).split())
    assert "Another run is changing this environment" in refused and "Nothing was changed" in refused
    assert stack.report()["by"] in refused


def until(deployment: Path, phase: str, process: subprocess.Popen[str]) -> None:
    """Wait until a phase is in a deployment's journal."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        journals = sorted(deployment.glob("*.steps"))
        if journals and any(json.loads(line)["name"] == phase for line in journals[-1].read_text().splitlines()):
            return
        time.sleep(0.02)
    raise AssertionError(f"the phase {phase} was never reached")


def kill(process: subprocess.Popen[str], argument: str, alone: bool) -> None:
    """Kill a controller: the playbook, or with all that runs beside it, as when the machine is lost."""
    os.killpg(process.pid, signal.SIGKILL)
    if not alone:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if argument in path.read_text() and "ansible-playbook" in path.read_text():
                    os.kill(int(path.parent.name), signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    "phase, alone, round_",
    [
        pytest.param("prepare", True, 0, marks=pytest.mark.soak),
        pytest.param("migrate", True, 1, marks=pytest.mark.soak),
        ("switch", True, 2),
        *(pytest.param("switch", True, number, marks=pytest.mark.soak) for number in range(3, 12)),
        pytest.param("switch", False, 12, marks=pytest.mark.soak),
    ],
)
def test_a_killed_controller_leaves_nothing_to_repair(
    stack: Stack, users: list[str], phase: str, alone: bool, round_: int
) -> None:
    """The hosts take back by themselves what it switched to, and the next run says so."""
    argument = stack.catalogue(**memory(f"{601 + round_}M"))
    reports = ROOT / ".artifacts/deployments"
    for journal in reports.glob("*.steps"):
        journal.unlink()
    before = stack.live()
    process = start(stack, "-e", argument)
    try:
        until(reports, phase, process)
    finally:
        kill(process, argument, alone)
    assert users == []
    started = time.monotonic()
    if phase == "switch":
        deadline = started + (30 if alone else 100)
        while not stack.settled():
            assert time.monotonic() < deadline, "a host has not taken its switch back"
            time.sleep(1)
        print(f"killed in {phase}: the hosts were back {time.monotonic() - started:.1f} s later")
        assert stack.live() == before
        planned = stack.sandbox.playbook("playbooks/deploy.yml", "-e", argument, "--check", "--diff").succeeded()
        assert "by itself" in planned.output
    stack.sandbox.playbook("playbooks/deploy.yml", "-e", argument).succeeded()
    assert stack.settled()
    assert users == []


def everything(stack: Stack, service: str) -> str:
    """Checksums of all that makes a release, as it serves: code, unit, environment, front, runtime."""
    host = stack.sandbox.hosts_of(service)[0]
    script = f"""
        slot=blue; [ ! -e /var/lib/fivepointers/{service}.green ] || slot=green
        cd -P /opt/fivepointers/{service}/slots/$slot
        pwd
        find . -type f ! -name schema.json -exec sha256sum {{}} + | sort -k 2
        sha256sum /etc/nginx/fivepointers/front-{service}.conf
        grep -v ^PORT= /etc/fivepointers/{service}/$slot.env | sha256sum
        sha256sum < /etc/systemd/system/fivepointers-{service}@$slot.service
        readlink /proc/$(systemctl show -P MainPID fivepointers-{service}@$slot)/exe
    """
    return stack.sandbox.ssh(host, "sudo sh -eu", stdin=script)


def test_a_rollback_of_everything_at_once_restores_every_byte(stack: Stack) -> None:
    before = everything(stack, "collab")
    source = stack.folder / "collab"
    subprocess.run(["cp", "-r", str(ROOT / "examples/collab"), str(source)], check=True)
    with (source / "server.js").open("a") as handle:
        handle.write("// another version\n")
    changed = {
        "build": {"source": str(source)},
        "node": "22",
        "memory": "555M",
        "body_limit": "7m",
        "environment": {"MAX_DOCUMENTS": "1234"},
        "hold": 0,
    }
    argument = stack.catalogue(collab=changed)
    content = yaml.safe_load(Path(argument.partition("=")[2]).read_text())
    content["services"]["collab"]["build"] = changed["build"]
    Path(argument.partition("=")[2]).write_text(yaml.safe_dump(content))
    latest = ROOT / ".artifacts/collab/latest.json"
    kept = latest.read_bytes()
    collab_only = ("--tags", "yjs_websocket")
    try:
        stack.sandbox.playbook("playbooks/build.yml", "-e", argument, "-e", "service=collab").succeeded()
        # The host needs another Node.js: a site run, of this kind only, not only a deployment. The copy is in no
        # repository.
        stack.sandbox.playbook("playbooks/site.yml", "-e", argument, "-e", "older=true", *collab_only).succeeded()
        now = everything(stack, "collab")
        assert "/22." in now and before != now
        stack.sandbox.playbook("playbooks/rollback.yml", "-e", argument, "-e", "service=collab").succeeded()
        assert everything(stack, "collab") == before
    finally:
        latest.write_bytes(kept)


def test_a_late_write_of_a_deployment_that_lost_its_lock_is_refused(stack: Stack) -> None:
    reports = ROOT / ".artifacts/deployments"
    for journal in reports.glob("*.steps"):
        journal.unlink()
    process = start(stack, "-e", stack.catalogue(api={"memory": "650M"}))
    until(reports, "prepare", process)
    # As a later one would have left it there.
    host = stack.sandbox.hosts_of("api")[0]
    fence = stack.sandbox.record(host, "fence.json")["number"]
    script = f'sudo sh -c \'echo "{{\\"number\\": {fence + 1}}}" > /var/lib/fivepointers/fence.json\''
    stack.sandbox.ssh(host, script)
    output = process.communicate(timeout=200)[0]
    assert process.returncode != 0
    assert "lost its lock, and another one has worked on this host" in " ".join(output.split())


AHEAD = """\
import time
now, years = time.time, 10 * 365 * 24 * 3600
time.time = lambda: now() + years
"""


def test_a_host_whose_clock_is_years_ahead_changes_nothing(stack: Stack) -> None:
    """The host's Python has that clock: containers share the machine's. So does the journal, which api is asked by."""
    before = stack.live()
    host = stack.sandbox.hosts_of("sites")[0]
    stack.sandbox.ssh(host, "sudo mkdir -p /opt/ahead && sudo tee /opt/ahead/sitecustomize.py", stdin=AHEAD)
    wrapper = '#!/bin/sh\nPYTHONPATH=/opt/ahead exec /usr/bin/python3 "$@"\n'
    stack.sandbox.ssh(host, "sudo tee /opt/ahead/python && sudo chmod 755 /opt/ahead/python", stdin=wrapper)
    inventory = stack.inventory(sites_1={"ansible_python_interpreter": "/opt/ahead/python"})
    argument = stack.catalogue(**memory("660M"))
    arguments = ["-e", argument, "-e", f"platform_artifacts={ROOT}/.artifacts"]
    try:
        stack.sandbox.playbook("playbooks/deploy.yml", *arguments, inventory=inventory).succeeded()
        assert all(stack.live()[name] != before[name] for name in PROCESSES)
        # The clock is right again.
        stack.sandbox.playbook("playbooks/rollback.yml", "-e", argument).succeeded()
        assert stack.live() == before
    finally:
        stack.sandbox.ssh(host, "sudo rm -r /opt/ahead")


def test_a_rollback_does_not_bring_a_rotated_secret_back(stack: Stack, users: list[str]) -> None:
    """It is the code of then with the secrets of now, unless somebody wants those of then."""
    store, name = stack.sandbox.aws("secretsmanager"), "fivepointers/sandbox/jwt"
    leaked = store.get_secret_value(SecretId=name)["SecretString"]
    host = stack.sandbox.hosts_of("api")[0]

    def environment() -> str:
        slot = stack.state("api")["live"]["slot"]
        return stack.sandbox.ssh(host, f"sudo cat /etc/fivepointers/api/{slot}.env")

    only = ("-e", "service=api")
    stack.deploy(*only).succeeded()
    old = stack.live()["api"]
    stack.deploy(*only, api={"memory": "870M"}).succeeded()
    rotated = "rotated-" + "0123456789abcdef" * 3
    store.put_secret_value(SecretId=name, SecretString=rotated)
    try:
        run = stack.sandbox.playbook("playbooks/rollback.yml", *only, "-vvv").succeeded()
        assert f"{old}, with secrets of now" in run.output
        made = stack.live()["api"]
        assert stack.report()["services"]["api"]["of"] == old != made
        assert rotated in environment() and leaked not in environment()
        assert "MemoryMax=870M" not in stack.sandbox.ssh(host, f"sudo cat /opt/fivepointers/api/releases/{made}/unit")
        then = ["-e", f"to={old}", "-e", "secrets=then"]
        run = stack.sandbox.playbook("playbooks/rollback.yml", *only, *then, "-vvv").succeeded()
        assert stack.live()["api"] == old and leaked in environment()
        assert f"{old}, with secrets of then" in run.output
        # The next deployment takes up what was rotated, in the idle slot.
        stack.deploy(*only).succeeded()
        assert stack.live()["api"] == made and rotated in environment()
        for said in [run.output for run in stack.sandbox.runs]:
            assert rotated not in said and leaked not in said
        assert users == []
    finally:
        store.put_secret_value(SecretId=name, SecretString=leaked)


def test_a_part_of_the_hosts_is_not_changed_alone(stack: Stack) -> None:
    for playbook in ("site", "deploy", "rollback"):
        run = stack.sandbox.playbook(f"playbooks/{playbook}.yml", "--limit", "service_api")
        assert run.rc != 0 and "--limit service_api leaves hosts out" in " ".join(run.output.split())
        assert not run.changed


def test_artifacts_come_from_a_bucket(stack: Stack) -> None:
    bucket = stack.sandbox.aws("s3")
    region = stack.sandbox.environment["AWS_REGION"]
    bucket.create_bucket(Bucket="builds", CreateBucketConfiguration={"LocationConstraint": region})
    store = ["-e", "platform_sandbox_artifacts=s3://builds/app", "-e", "service=frontend"]
    stack.sandbox.playbook("playbooks/build.yml", *store).succeeded()
    elsewhere = ["-e", f"platform_artifacts={stack.folder}/elsewhere"]
    before = stack.live()
    stack.sandbox.playbook("playbooks/deploy.yml", *store, *elsewhere).succeeded()
    assert stack.live() == before
    # Who may write there does not choose what is written here.
    newest = f"{stack.folder}/elsewhere/frontend/latest.json"
    manifest = json.loads(Path(newest).read_text())
    for extension in ("json", "tar.gz"):
        bucket.put_object(Bucket="builds", Key=f"app/planted.{extension}", Body=b"- hosts: localhost")
    hostile = json.dumps({**manifest, "id": "../planted"}).encode()
    bucket.put_object(Bucket="builds", Key="app/frontend/latest.json", Body=hostile)
    run = stack.sandbox.playbook("playbooks/deploy.yml", *store, *elsewhere)
    assert run.rc != 0 and "id is '../planted'" in run.output and "s3://builds/app/frontend/latest.json" in run.output
    assert not list(Path(stack.folder).glob("elsewhere/planted.*"))
    bucket.put_object(Bucket="builds", Key="app/frontend/latest.json", Body=json.dumps(manifest).encode())
    # Nor what runs on the hosts, where artifacts are signed.
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True)
    signing = {"keys": [Signer(key.stdout).public_key], "private_key": {"variable": "signing_key"}}
    signed = ["-e", json.dumps({"platform_sandbox_artifact_signing": signing, "signing_key": key.stdout})]
    run = stack.sandbox.playbook("playbooks/deploy.yml", *store, *elsewhere, *signed)
    assert run.rc != 0 and "s3://builds/app/frontend/latest.json is not signed" in " ".join(run.output.split())
    stack.sandbox.playbook("playbooks/build.yml", *store, *elsewhere, *signed).succeeded()
    run = stack.sandbox.playbook("playbooks/deploy.yml", *store, *elsewhere, *signed).unchanged()
    assert "PRIVATE KEY" not in run.output
    # What arrives damaged is never unpacked.
    identifier = json.loads((stack.folder / "elsewhere/frontend/latest.json").read_text())["id"]
    bucket.put_object(Bucket="builds", Key=f"app/frontend/{identifier}.tar.gz", Body=b"damaged")
    host = stack.sandbox.hosts_of("frontend")[0]
    stack.sandbox.ssh(host, "sudo rm -r /opt/fivepointers/frontend/releases")
    run = stack.sandbox.playbook("playbooks/deploy.yml", *store, *elsewhere)
    assert run.rc != 0 and "checksum" in run.output
