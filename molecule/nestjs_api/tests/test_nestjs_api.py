"""What users and operators of an API see: answers, restarts, releases, and what a broken one does (nothing)."""

from __future__ import annotations

import collections
import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SHARED = PROJECT / "molecule/shared"
VERSIONS = {name: item["version"] for name, item in json.loads((PROJECT / "sandbox/nodejs.json").read_text()).items()}
PORT, SLOTS = 3001, {"blue": 13001, "green": 23001}
CANARIES = ("canary-of-the-token", "canary of the/database", "canary%20of%20the%2Fdatabase")

testinfra_hosts = ["ansible://api-1"]


@pytest.fixture(scope="module")
def address() -> str:
    instances = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
    return str(instances[0]["address"])


@pytest.fixture
def ask(address: str) -> Callable[..., Any]:
    """Ask the API as the edge does; give the JSON of its answer."""

    def ask(path: str, status: int = 200, **headers: str) -> Any:
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        assert answer.status == status, (answer.status, answer.getheaders(), body)
        return json.loads(body)

    return ask


def play(*arguments: str, **variables: Any) -> tuple[int, str]:
    """Run the scenario's playbook with changes; give its status and all it says, on one line."""
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], *arguments]
    command += [str(SHARED / "service.yml"), "-e", json.dumps(variables)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def deploy(version: str, *arguments: str) -> tuple[int, str]:
    """Build the application as a version, and release it."""
    # Options come first: ansible-playbook takes its playbooks in one piece.
    return play(*arguments, str(SHARED / "build.yml"), version=version)


def live_slot(host: Host) -> str:
    return "green" if host.run("test -e /var/lib/fivepointers/orders.green").rc == 0 else "blue"


def unit(slot: str) -> str:
    return f"fivepointers-orders@{slot}.service"


def running(host: Host) -> list[str]:
    return [slot for slot in SLOTS if host.run(f"systemctl is-active --quiet {unit(slot)}").rc == 0]


def enabled(host: Host) -> list[str]:
    return [slot for slot in SLOTS if host.run(f"systemctl is-enabled --quiet {unit(slot)}").rc == 0]


def eventually(check: Callable[[], Any], seconds: float) -> Any:
    """Give what a check gives as soon as it does not fail."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except (AssertionError, OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def users(address: str) -> Iterator[collections.Counter[str]]:
    """Users who ask and post all the time, over connections that stay open; counts what each request came to."""
    came: collections.Counter[str] = collections.Counter()
    over = threading.Event()

    def use(method: str) -> None:
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        while not over.is_set():
            try:
                connection.request(method, "/api/version", body=b"{}" if method == "POST" else None)
                answer = connection.getresponse()
                body = answer.read()
                came[json.loads(body)["version"] if answer.status == 200 else str(answer.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                came[type(error).__name__] += 1
                connection.close()
            time.sleep(0.02)

    threads = [threading.Thread(target=use, args=(method,)) for method in ("GET", "GET", "POST") * 3]
    for thread in threads:
        thread.start()
    yield came
    over.set()
    for thread in threads:
        thread.join()


def test_it_answers_on_its_port_with_its_runtime(ask: Callable[..., Any]) -> None:
    assert ask("/api/version")["node"] == "v" + VERSIONS["24"]
    assert ask("/api/nowhere", status=404) == {"message": "not found"}


def test_only_nginx_can_be_reached(host: Host, address: str) -> None:
    for port in SLOTS.values():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), 2)
    with host.sudo():
        listening = host.check_output(f"ss -Hltn sport = :{SLOTS[live_slot(host)]}")
    assert "127.0.0.1:" in listening and "0.0.0.0:" not in listening.split()[3], listening


def test_forged_headers_do_not_arrive(ask: Callable[..., Any]) -> None:
    seen = ask(
        "/api/headers",
        X_Forwarded_For="192.0.2.66",
        X_Forwarded_Host="evil.test",
        X_Middleware_Subrequest="middleware",
        X_Request_Id="forged-by-the-client",
        Forwarded="for=192.0.2.66",
    )
    assert "x-middleware-subrequest" not in seen and "forwarded" not in seen
    assert "192.0.2.66" not in json.dumps(seen) and "evil.test" not in json.dumps(seen)
    assert seen["x-request-id"] != "forged-by-the-client" and len(seen["x-request-id"]) >= 16


def test_environment_variables_arrive_exactly(ask: Callable[..., Any], host: Host) -> None:
    seen = ask("/api/environment")
    assert seen["AWKWARD"] == "a \"b\" c\\d $HOME %h `e` 'f' #g"
    assert seen["JWT_SECRET"] == CANARIES[0]
    assert seen["DATABASE_URL"] == f"mysql://app:{CANARIES[2]}@192.0.2.1:3306/app"
    assert int(seen["PORT"]) == SLOTS[live_slot(host)]


def test_only_root_can_read_the_secrets(host: Host) -> None:
    with host.sudo():
        found = host.run("grep -rlE %s /etc /opt /var/lib /run /tmp /home", "|".join(CANARIES)).stdout.split()
        assert found, "the environment file is where?"
        modes = {path: (host.file(path).mode, host.file(path).user) for path in found}
    assert set(modes.values()) == {(0o600, "root")}, modes
    commands = host.check_output("cat /proc/*/cmdline 2>/dev/null || true")
    assert not [canary for canary in CANARIES if canary in commands]


def test_the_unit_is_hardened(host: Host) -> None:
    with host.sudo():
        said = host.check_output("systemd-analyze security --no-pager %s", unit(live_slot(host)))
    score = float(said.split("exposure level for")[1].split(":")[1].split()[0])
    assert score <= 2.0, said
    assert "MemoryDenyWriteExecute" not in host.check_output("systemctl cat %s", unit(live_slot(host))).replace(
        "# No MemoryDenyWriteExecute", ""
    )


METADATA = """
import socket, sys
# In place of EC2: the metadata service, and the DNS server, which has to stay reachable.
servers = [socket.create_server((address, 8169)) for address in sys.argv[2:]]
if sys.argv[1] != "session":
    with open(sys.argv[1] + "/cgroup.procs", "w") as file:
        file.write("0")
for address in sys.argv[2:]:
    try:
        socket.create_connection((address, 8169), timeout=1)
        print(address)
    except OSError:
        pass
"""


def test_a_service_does_not_reach_the_credentials_of_its_host(host: Host) -> None:
    """What runs among its processes does not; the same program in a session does."""
    addresses = ["169.254.169.253", "169.254.169.254"]
    with host.sudo():
        group = host.check_output("systemctl show --value --property=ControlGroup %s", unit(live_slot(host)))
        try:
            for address in addresses:
                host.check_output("ip address replace %s/32 dev lo", address)
            reached = {
                where: host.check_output("python3 -c %s %s %s %s", METADATA, where, *addresses).split()
                for where in (f"/sys/fs/cgroup{group}", "session")
            }
        finally:
            for address in addresses:
                host.run("ip address delete %s/32 dev lo", address)
    assert reached == {f"/sys/fs/cgroup{group}": addresses[:1], "session": addresses}


def test_log_lines_carry_the_release(host: Host) -> None:
    with host.sudo():
        entry = json.loads(
            host.check_output("journalctl --identifier=orders _TRANSPORT=stdout --output=json --lines=1 --no-pager")
        )
        copies = json.loads(host.file("/var/lib/fivepointers/orders/state.json").content_string)
    release = max(filter(None, copies), key=lambda copy: copy["number"])["record"]["live"]["release"]
    assert json.loads(entry["MESSAGE"])["level"] == "info"
    assert (entry["FIVEPOINTERS_SERVICE"], entry["FIVEPOINTERS_RELEASE"]) == ("orders", release)


def test_a_killed_process_is_back_within_seconds(host: Host, ask: Callable[..., Any]) -> None:
    for _round in range(3):
        before = ask("/api/version")["pid"]
        with host.sudo():
            host.check_output(f"kill -9 {before}")
        after = eventually(lambda: ask("/api/version"), 10)["pid"]
        assert after != before


def test_a_release_loses_no_request(host: Host, users: collections.Counter[str], ask: Callable[..., Any]) -> None:
    before = live_slot(host)
    workers = host.check_output("pgrep --parent $(cat /run/nginx.pid)")
    status, output = deploy("better")
    assert status == 0, output
    time.sleep(0.5)
    assert set(users) == {"good", "better"}, users
    assert ask("/api/version")["version"] == "better"
    assert host.check_output("pgrep --parent $(cat /run/nginx.pid)") == workers, "nginx was reloaded"
    now = live_slot(host)
    assert now != before
    assert (running(host), enabled(host)) == ([now], [now])


def test_migrations_ran_once_for_each_release(host: Host, ask: Callable[..., Any]) -> None:
    assert live_slot(host), "pytest runs the tests of a host in their order"
    assert ask("/api/migrations") == ["good", "better"]


@pytest.mark.parametrize(
    "version, told",
    [
        ("crashing", ["exited with status 3", "no table for orders", "/api/health"]),
        ("sick", ["503", "no database", "start_period"]),
        ("unmigratable", ["step migrate", "column total exists already"]),
    ],
)
def test_a_broken_release_never_serves(
    host: Host, users: collections.Counter[str], version: str, told: list[str]
) -> None:
    slot = live_slot(host)
    status, output = deploy(version, "-vvv", "--diff")
    assert status != 0, output
    for text in ["orders on api-1", "is still serving", "What to do", *told]:
        assert text in output
    assert not [canary for canary in CANARIES if canary in output]
    assert set(users) == {"better"}, users
    assert (live_slot(host), running(host), enabled(host)) == (slot, [slot], [slot])


def test_a_dry_run_on_an_untouched_host_names_all_that_would_be_done() -> None:
    status, output = play("--check", "--diff", target="bare-1")
    assert status == 0, output
    for text in (
        f"/opt/fivepointers/node/{VERSIONS['24']}",
        "would create the user fp-orders",
        "would send and unpack release",
        "would start fivepointers-orders@blue.service at 127.0.0.1:13001",
        "would run its migrations",
        "would write its front at port 3001",
        "+ExecStart=",
        "+JWT_SECRET",
    ):
        assert text in output
    assert not [canary for canary in CANARIES if canary in output]
    bare = testinfra.get_host("ansible://bare-1", ansible_inventory=os.environ["MOLECULE_INVENTORY_FILE"])
    for path in ("/opt/fivepointers", "/etc/fivepointers", "/var/lib/fivepointers", "/etc/nginx"):
        assert not bare.file(path).exists, f"the dry run made {path}"


def test_a_missing_artifact_is_told_with_the_fix(tmp_path: Path) -> None:
    status, output = play(artifacts=str(tmp_path))
    assert status != 0
    assert "orders: no artifact found" in output and "ansible-playbook playbooks/build.yml" in output


def test_what_runs_is_left_alone_and_what_was_changed_is_made_right(host: Host, ask: Callable[..., Any]) -> None:
    status, output = deploy("better")
    assert status == 0 and re.search(r"api-1 : ok=\d+ changed=0 ", output), output
    before = ask("/api/version")["pid"]
    slot = live_slot(host)
    with host.sudo():
        host.check_output("sh -c 'echo EXTRA=1 >> /etc/fivepointers/orders/%s.env'", slot)
    status, output = play("--check", "--diff", version="better")
    assert status == 0
    assert "changed manually" in output and "would start fivepointers-orders@" in output
    assert ask("/api/version")["pid"] == before, "the dry run restarted it"
    assert play(version="better")[0] == 0
    assert "EXTRA" not in ask("/api/environment")
    assert "changed=0" in play(version="better")[1]


def test_a_reboot_brings_the_live_release_back(host: Host, ask: Callable[..., Any]) -> None:
    slot = live_slot(host)
    with host.sudo():
        host.check_output("touch /run/before-the-reboot")
    subprocess.run(
        ["python3", "-m", "sandbox", "reboot", "--name", "molecule-nestjs-api", "api-1"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    assert eventually(lambda: ask("/api/version"), 15)["version"] == "better"
    assert not host.file("/run/before-the-reboot").exists, "it was not rebooted"
    assert (live_slot(host), running(host)) == (slot, [slot])
