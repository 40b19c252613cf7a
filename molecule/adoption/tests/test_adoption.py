"""Applications that run already, by nohup and by pm2, are taken over and given back, under the eyes of users."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
PORTS = {"orders": 3001, "parcels": 3002}
CANARY = 'canary "of" $the old'

testinfra_hosts = ["ansible://api-1"]


@pytest.fixture(scope="module")
def address() -> str:
    instances = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
    return str(instances[0]["address"])


def get(address: str, service: str, path: str = "/api/version") -> Any:
    """What a service answers on a connection of its own."""
    connection = http.client.HTTPConnection(address, PORTS[service], timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        return json.loads(body)
    finally:
        connection.close()


class Users:
    """Ask each service every 10 ms, each time over a new connection."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.over = threading.Event()
        self.answers: dict[str, list[tuple[float, str]]] = {service: [] for service in PORTS}
        self.threads = [threading.Thread(target=self.use, args=(service,)) for service in PORTS]
        for thread in self.threads:
            thread.start()

    def use(self, service: str) -> None:
        while not self.over.is_set():
            try:
                version = get(self.address, service)["version"]
                self.answers[service].append((time.monotonic(), version))
            except (OSError, AssertionError, http.client.HTTPException):
                pass
            time.sleep(0.01)

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def longest_outage(self, service: str) -> float:
        """The longest time without an answer, in seconds."""
        times = [moment for moment, _version in self.answers[service]]
        return max(later - sooner for sooner, later in itertools.pairwise(times))

    def versions(self, service: str) -> list[str]:
        """What was answered, each version as often as it came back."""
        seen = [version for _moment, version in self.answers[service]]
        return [version for index, version in enumerate(seen) if index == 0 or seen[index - 1] != version]


@pytest.fixture
def users(address: str) -> Iterator[Users]:
    users = Users(address)
    yield users
    users.end()


def play(playbook: str, *arguments: str, **variables: Any) -> tuple[int, str]:
    """Run a playbook; give its status and all it says, on one line."""
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(PROJECT / playbook), "--diff"]
    for path in (SCENARIO / "vars/main.yml", PROJECT / "molecule/nodejs/vars/archives.yml"):
        command += ["-e", f"@{path}"]
    command += [*arguments, "-e", json.dumps(variables)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def build(version: str) -> None:
    status, output = play("molecule/adoption/build.yml", version=version)
    assert status == 0, output


def outages(output: str) -> dict[str, float]:
    """What a run says it measured."""
    found = re.findall(r"(\w+): (?:took over from|started again) [^\n]*?nobody answered for ([\d.]+) ms", output)
    return {service: float(number) for service, number in found}


def pm2(host: Host) -> list[tuple[str, str, int]]:
    """Name, status and number of restarts of pm2's processes."""
    listed = host.check_output("pm2 jlist")
    return [(app["name"], app["pm2_env"]["status"], app["pm2_env"]["restart_time"]) for app in json.loads(listed)]


def eventually(check: Callable[[], Any], seconds: float = 5) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except (AssertionError, OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def processes(address: str) -> dict[str, int]:
    return {service: get(address, service)["pid"] for service in PORTS}


@pytest.fixture(scope="module")
def before(address: str) -> dict[str, int]:
    """The processes of the applications as they ran before."""
    return eventually(lambda: processes(address))


def test_a_port_that_is_held_is_refused_and_nothing_changes(
    host: Host, address: str, before: dict[str, int], users: Users
) -> None:
    status, output = play("playbooks/deploy.yml")
    assert status != 0 and "-e adopt=true" in output and "port 3001" in output, output
    users.end()
    assert processes(address) == before
    assert [users.versions(service) for service in PORTS] == [["old"], ["old"]]
    assert not host.file("/etc/nginx/fivepointers/front-orders.conf").exists


def test_a_dry_run_says_what_would_be_stopped(host: Host, address: str, before: dict[str, int]) -> None:
    status, output = play("playbooks/deploy.yml", "--check", adopt=True)
    assert status == 0, output
    assert f"would stop node (process {before['orders']}), and take port 3001 over from it" in output
    assert processes(address) == before
    assert host.run("sudo test -e /var/lib/fivepointers/orders/adopted.json").rc != 0


def test_a_broken_candidate_never_stops_the_old_process(host: Host, address: str, before: dict[str, int]) -> None:
    build("sick")
    status, output = play("playbooks/deploy.yml", adopt=True)
    assert status != 0 and "did not become healthy" in output, output
    assert processes(address) == before
    with host.sudo():
        assert not host.file("/var/lib/fivepointers/orders/adopted.json").exists


def test_both_are_taken_over_within_a_second(host: Host, address: str, before: dict[str, int], users: Users) -> None:
    build("new")
    status, output = play("playbooks/deploy.yml", adopt=True)
    assert status == 0, output
    time.sleep(0.5)
    users.end()
    told = outages(output)
    for service in PORTS:
        assert users.versions(service) == ["old", "new"]
        longest = users.longest_outage(service)
        print(f"{service}: {longest * 1000:.0f} ms without an answer, {told[service]} ms told")
        assert longest < 1, users.longest_outage(service)
        assert told[service] < 1000
    assert host.run(f"test -e /proc/{before['orders']}").rc != 0
    assert pm2(host) == [("parcels", "stopped", 0)]
    with host.sudo():
        for service in PORTS:
            record = host.file(f"/var/lib/fivepointers/{service}/adopted.json")
            assert (record.mode, record.user) == (0o600, "root")
        assert '"state": "adopted"' in record.content_string
    assert "canary" not in output


def test_the_second_run_changes_nothing(host: Host, address: str) -> None:
    now = processes(address)
    status, output = play("playbooks/deploy.yml", adopt=True)
    assert status == 0 and "changed=0" in output and "changed=1" not in output, output
    assert processes(address) == now
    assert pm2(host) == [("parcels", "stopped", 0)]


def test_pm2_does_not_bring_it_back_with_the_host(host: Host, address: str) -> None:
    now = processes(address)
    # What pm2 does when a host starts.
    host.check_output("pm2 kill && pm2 resurrect")
    assert pm2(host) == [("parcels", "stopped", 0)]
    assert processes(address) == now


def test_what_was_adopted_is_given_back(host: Host, address: str, before: dict[str, int], users: Users) -> None:
    status, output = play("playbooks/give_back.yml", "-e", "service=orders")
    assert status == 0 and outages(output).keys() == {"orders"}, output
    assert get(address, "orders")["version"] == "old"
    assert get(address, "parcels")["version"] == "new"
    status, output = play("playbooks/give_back.yml", "-e", "service=orders,parcels")
    assert status == 0 and outages(output).keys() == {"parcels"}, output
    users.end()
    for service in PORTS:
        assert users.versions(service) == ["new", "old"]
        print(f"{service}: {users.longest_outage(service) * 1000:.0f} ms without an answer while it was given back")
    assert pm2(host)[0][:2] == ("parcels", "online")
    environment = get(address, "orders", "/api/environment")
    assert (environment["TOKEN"], environment["PORT"], environment["PWD"]) == (CANARY, "3001", "/home/admin")
    pid = get(address, "orders")["pid"]
    with host.sudo():
        arguments = host.check_output(f"cat /proc/{pid}/cmdline").split("\0")
        assert arguments[:3] == ["node", "orders.js", "two words"]
        assert host.check_output(f"stat --format=%U /proc/{pid}") == "admin"
        assert host.check_output(f"readlink /proc/{pid}/fd/1").endswith("/orders.log")
        assert host.run("systemctl is-active 'fivepointers-*@*.service'").rc != 0
        assert not host.file("/var/lib/fivepointers/orders/adopted.json").exists
    assert not host.file("/etc/nginx/fivepointers/front-orders.conf").exists


def test_what_was_given_back_can_be_adopted_again(host: Host, address: str, users: Users) -> None:
    status, output = play("playbooks/deploy.yml", adopt=True)
    assert status == 0, output
    users.end()
    for service in PORTS:
        assert users.versions(service) == ["old", "new"]
        assert users.longest_outage(service) < 1
