"""What users of the edge see, and what they do not notice: mistakes, crashes, interrupted runs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

from tests.unit.nginx.live import Client

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
TLS = PROJECT / ".sandbox/molecule-nginx-proxy/tls"
DOMAIN, API, TENANT, WS = "edge.test", "api.edge.test", "tenant.edge.test", "ws.edge.test"
ALLOWED = "https://app.edge.test"
SOCKET = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
STATE = "/var/lib/fivepointers/trees"


@pytest.fixture(scope="module")
def address() -> str:
    instances = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
    return str(instances[0]["address"])


@pytest.fixture
def edge(address: str) -> Client:
    return Client(address, TLS / "ca.pem")


@pytest.fixture
def converge() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the scenario's playbook again, with changes."""

    def run(*arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "ansible-playbook",
                "-i",
                os.environ["MOLECULE_INVENTORY_FILE"],
                str(PROJECT / "molecule/shared/edge.yml"),
                "-e",
                json.dumps(variables),
                *arguments,
            ],
            cwd=PROJECT,
            env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": "ansible.cfg"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


def recap(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.rpartition("PLAY RECAP")[2]


def workers(host: Host) -> set[str]:
    with host.sudo():
        return set(host.check_output("pgrep -P $(cat /run/nginx.pid)").split())


def files(host: Host) -> str:
    """Everything that nginx reads, and what config_tree knows of it."""
    with host.sudo():
        return str(host.check_output(f"find /etc/nginx {STATE} -type f ! -name .lock | sort | xargs sha256sum"))


# --- what a user sees ---


@pytest.mark.parametrize("name", [DOMAIN, API, TENANT])
def test_http_leads_to_https_with_a_good_certificate(edge: Client, name: str) -> None:
    answer = edge.ask(name, "/x?y", tls=False)
    assert (answer.status, answer.one("Location")) == (308, f"https://{name}/x?y")
    # The certificate is checked by the client.
    assert edge.ask(name, "/x").status == 200


def test_a_name_that_is_not_ours_is_refused(edge: Client, address: str) -> None:
    assert edge.ask("evil.net", tls=False).status == 421
    context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    with socket.create_connection((address, 443)) as plain, pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        context.wrap_socket(plain, server_hostname="evil.net")


@pytest.mark.parametrize(
    ("name", "path", "status"), [(API, "/", 200), ("dead.edge.test", "/", 502), (TENANT, "/", 200)]
)
@pytest.mark.parametrize(("origin", "allowed"), [(ALLOWED, True), ("https://evil.net", False), ("null", False)])
def test_only_pages_of_allowed_origins_may_read(
    edge: Client, name: str, path: str, status: int, origin: str, allowed: bool
) -> None:
    answer = edge.ask(name, path, headers={"Origin": origin})
    assert answer.status == (status if allowed else 403)
    assert answer.all("Access-Control-Allow-Origin") == ([origin] if allowed else [])
    assert "Origin" in answer.all("Vary")


def test_a_preflight_is_answered_by_the_edge(edge: Client) -> None:
    ask = {"Origin": ALLOWED, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "x-thing"}
    answer = edge.ask("dead.edge.test", "/", "OPTIONS", ask)
    assert answer.status == 204
    assert answer.one("Access-Control-Allow-Headers") == "x-thing"
    assert edge.ask(API, "/", "OPTIONS", {**ask, "Origin": "https://evil.net"}).status == 403


def test_a_socket_opens_for_allowed_origins_only(edge: Client) -> None:
    assert edge.ask(WS, "/room", headers={**SOCKET, "Origin": ALLOWED}).status == 101
    answer = edge.ask(WS, "/room", headers={**SOCKET, "Origin": "https://evil.net"})
    assert answer.status == 403
    assert answer.json["message"] == "The origin is not allowed"


def test_a_page_says_what_a_browser_may_do_with_it(edge: Client) -> None:
    answer = edge.ask(DOMAIN, "/page")
    assert f"connect-src 'self' https://{API} https://dead.{DOMAIN} wss://{WS};" in (
        answer.one("Content-Security-Policy") or ""
    )
    assert answer.one("X-Frame-Options") == "DENY"
    assert answer.one("Strict-Transport-Security") == "max-age=63072000"
    assert answer.one("Server") == "nginx"


def test_what_is_down_answers_in_the_language_of_its_kind(edge: Client) -> None:
    answer = edge.ask("dead.edge.test")
    assert (answer.status, answer.json["message"]) == (502, "The service does not answer")
    answer = edge.ask("gone.edge.test")
    assert answer.status == 502
    assert b"<h1>The service does not answer</h1>" in answer.body


def test_who_tries_too_often_is_told_so(edge: Client) -> None:
    assert [edge.ask(API, "/login", "POST").status for _ in range(4)] == [200, 200, 200, 429]
    answer = edge.ask(API, "/login", "POST", {"Origin": ALLOWED})
    assert (answer.one("Retry-After"), answer.json["message"]) == ("10", "Too many requests")
    assert answer.all("Access-Control-Allow-Origin") == [ALLOWED]
    assert edge.ask(API, "/other", "POST").status == 200


def test_a_service_is_closed_by_a_file(host: Host, edge: Client) -> None:
    """nginx's workers are not root, and see it nevertheless."""
    flag = "/var/lib/fivepointers/api.maintenance"
    with host.sudo():
        host.check_output(f"touch {flag}")
    try:
        time.sleep(1.2)  # nginx looks once a second
        answer = edge.ask(API, "/", headers={"Origin": ALLOWED})
    finally:
        with host.sudo():
            host.check_output(f"rm {flag}")
    time.sleep(1.2)
    assert (answer.status, answer.json["message"]) == (503, "The service is under maintenance")
    assert edge.ask(API).status == 200


def test_the_tenant_is_what_the_name_says(edge: Client) -> None:
    headers = {"X-Tenant-ID": "evil"}
    assert edge.ask(TENANT, headers=headers).seen("X-Tenant-ID") == ["tenant"]
    assert edge.ask(API, headers=headers).seen("X-Tenant-ID") == []


def test_a_load_balancer_finds_the_edge_healthy(edge: Client, address: str) -> None:
    assert edge.ask(address, "/edge-health", tls=False).body == b"ok\n"


def test_the_host_itself_calls_a_service_on_the_loopback(host: Host) -> None:
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:33001/x', timeout=5).read().decode())"
    assert json.loads(host.check_output(f'python3 -c "{fetch}"'))["path"] == "/x"


def test_what_is_for_the_host_alone_is_not_reachable(address: str) -> None:
    for port in (33001, 8099):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address, port), timeout=3)


def test_each_request_is_a_line_in_the_log_without_its_query(host: Host, edge: Client) -> None:
    request_id = edge.ask(API, "/logged?token=very-hidden").one("X-Request-ID")
    deadline = time.monotonic() + 10
    lines: list[dict[str, Any]] = []
    while not lines and time.monotonic() < deadline:
        with host.sudo():
            said = host.check_output("cat /var/log/nginx/access.log")
        lines = [json.loads(line) for line in said.splitlines() if f'"{request_id}"' in line]
    (line,) = lines
    assert (line["service"], line["status"], line["path"], line["tls"]) == ("api", 200, "/logged", "TLSv1.3")
    assert "very-hidden" not in said


def test_large_logs_are_rotated_and_nginx_goes_on_in_a_new_one(host: Host, edge: Client) -> None:
    log = "/var/log/nginx/access.log"
    with host.sudo():
        assert host.check_output("systemctl is-active fivepointers-nginx-logs.timer") == "active"
        host.check_output(f"truncate --size 101M {log} && systemctl start fivepointers-nginx-logs.service")
        assert int(host.check_output(f"stat --format %s {log}")) < 1024 * 1024
        request_id = edge.ask(API, "/after").one("X-Request-ID")
        time.sleep(1.5)  # nginx writes once a second
        assert f'"{request_id}"' in host.check_output(f"cat {log}")
        host.check_output(f"rm --force {log}.1")


def test_new_connections_of_a_client_are_counted_where_the_kernel_lets_us(host: Host) -> None:
    with host.sudo():
        unit = host.check_output(
            "systemctl show --property=ActiveState,ConditionResult fivepointers-edge-limit.service"
        )
        assert host.check_output("systemctl is-enabled fivepointers-edge-limit.service") == "enabled"
        # A container may not change the kernel's rules.
        if "ConditionResult=yes" in unit:
            assert "ActiveState=active" in unit
            assert "burst 2000 packets" in host.check_output("nft list table inet fivepointers_edge")
        else:
            assert host.run("nft list tables").failed


# --- what they do not notice ---


def test_another_run_changes_nothing_and_keeps_the_workers(host: Host, converge: Any) -> None:
    before = workers(host)
    for arguments in ([], ["--check", "--diff"]):
        done = converge(*arguments)
        assert done.returncode == 0, done.stdout
        assert "changed=0" in recap(done), done.stdout
    assert workers(host) == before


@pytest.mark.parametrize(("template", "arguments"), [("edge.conf.j2", []), ("edge-cors.conf.j2", ["--check"])])
def test_a_mistake_in_a_template_is_named_and_changes_nothing(
    host: Host, edge: Client, converge: Any, tmp_path: Path, template: str, arguments: list[str]
) -> None:
    shutil.copytree(PROJECT / "roles/nginx_proxy", tmp_path / "nginx_proxy")
    broken = tmp_path / "nginx_proxy" / "templates" / template
    lines = broken.read_text().splitlines()
    broken.write_text("\n".join([*lines, "not_a_directive on;"]) + "\n")
    files_before, workers_before = files(host), workers(host)
    done = converge(*arguments, role=str(tmp_path / "nginx_proxy"))
    assert done.returncode == 2
    said = " ".join(done.stdout.split())
    assert "The new configuration is invalid, and nothing was changed." in said
    assert 'unknown directive "not_a_directive" in /etc/nginx/fivepointers/' in said
    assert f"(from {template}): not_a_directive on;" in said
    assert (files(host), workers(host)) == (files_before, workers_before)
    assert edge.ask(API).status == 200


def test_a_port_that_is_taken_is_named_and_the_old_files_come_back(host: Host, edge: Client, converge: Any) -> None:
    """`nginx -t` does not notice, and the reload says that all is well: only the missing workers tell."""
    files_before = files(host)
    done = converge(nginx_status_port=22)
    assert done.returncode == 2
    said = " ".join(done.stdout.split())
    assert "the old files were restored" in said and "no new worker process appeared" in said
    assert "bind() to 127.0.0.1:22 failed (98: Address already in use)" in said, done.stdout
    assert files(host) == files_before
    assert edge.ask(API).status == 200


def test_a_reload_that_is_owed_is_made_up_for(host: Host, edge: Client, converge: Any) -> None:
    """A run that died between writing and reloading leaves its journal, as this one."""
    journal = {
        "phase": "reload",
        "entries": [],
        "directories": [],
        "prove": {"workers": "/run/nginx.pid"},
        "explain": [],
        "reload": ["systemctl", "reload-or-restart", "nginx.service"],
    }
    before = workers(host)
    with host.sudo():
        host.check_output(f"echo '{json.dumps(journal)}' > {STATE}/journal.json")
    done = converge()
    assert done.returncode == 0 and "changed=1" in recap(done), done.stdout
    assert not before & workers(host)
    assert "changed=0" in recap(converge())
    assert edge.ask(API).status == 200


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_a_killed_nginx_comes_back(host: Host, address: str, signal: str) -> None:
    with host.sudo():
        killed = host.check_output("cat /run/nginx.pid")
        host.check_output(f"kill -{signal} {killed}")
    deadline = time.monotonic() + 15
    # One that was asked to end may still answer.
    while host.file(f"/proc/{killed}").exists and time.monotonic() < deadline:
        time.sleep(0.1)
    status = 0
    while status != 200 and time.monotonic() < deadline:
        try:
            status = Client(address, TLS / "ca.pem").ask(API).status
        except OSError:
            time.sleep(0.2)
    assert status == 200
    assert host.service("nginx").is_enabled


def test_the_key_is_nobodys_to_read(host: Host) -> None:
    with host.sudo():
        key = host.file("/etc/nginx/fivepointers/tls/edge.key")
        assert (key.mode, key.user) == (0o600, "root")
        # Read on the host: sudo writes the words of a command to the journal.
        secret = f"$(sed -n 2p {key.path})"
        search = f'journalctl --no-pager | grep -cF -e "{secret}"; grep -rlF -e "{secret}" /run /tmp /var/log'
        assert host.run(search).stdout.split() == ["0"]


def test_the_key_is_in_no_output(converge: Any) -> None:
    done = converge("--check", "--diff", "-vvv", tls_directory=str(TLS), domain="other.test")
    assert (TLS / "key.pem").read_text().splitlines()[1] not in done.stdout
