# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What nginx itself cannot limit: new connections, which the kernel does, and the size of its logs: logrotate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.nginx.live import DOMAIN, edge_plan, render, render_role

LARGE = 1024 * 1024 + 1
LIMIT = "/etc/fivepointers/edge/limit.nft"
BALANCER = {"mode": "load_balancer", "trusted": ["10.77.0.0/29", "2001:db8:7::/48"]}

# Run in a network of its own, with the rules loaded: a peer at the other end of a cable opens connections from several
# addresses, and says how many of each were accepted. In the name of the first, somebody else sends SYNs and answers.
PEER = """\
import ctypes, os, socket, struct, subprocess, sys, time
def run(*argv): subprocess.run(argv, check=True)
child = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
there = ("nsenter", "-n", "-t", str(child.pid))
run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(child.pid))
run("ip", "address", "add", "10.77.0.254/24", "dev", "here")
run("ip", "address", "add", "2001:db8:7:1::1/32", "dev", "here", "nodad")
run("ip", "link", "set", "here", "up")
for address in sys.argv[2:]:
    run(*there, "ip", "address", "add", address + ("/32" if ":" in address else "/24"), "dev", "there",
        *(["nodad"] if ":" in address else []))
run(*there, "ip", "link", "set", "there", "up")
run("nft", "--file", sys.argv[1])
run("nft", "--file", sys.argv[1])
v6 = {"family": socket.AF_INET6, "dualstack_ipv6": True, "backlog": 1000}
listeners = {port: socket.create_server(("", port), **v6) for port in (443, 22)}
for listener in listeners.values():
    listener.setblocking(False)
def accepted(address, port):
    # Those of others may still come, as the limit lets them in.
    found = []
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        try:
            connection, client = listeners[port].accept()
            if client[0].removeprefix("::ffff:") == address:
                found.append(connection)
        except BlockingIOError:
            time.sleep(0.005)
    return found
assert ctypes.CDLL(None).setns(os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY), 0) == 0
def forge(address, target, port, flags):
    ends = socket.inet_aton(address) + socket.inet_aton(target)
    head = struct.pack("!HHIIBBHHH", port, 443, 1000, 123456789 if flags & 16 else 0, 80, flags, 65535, 0, 0)
    total = sum(struct.unpack("!16H", ends + struct.pack("!HH", 6, len(head)) + head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[18:]
    raw.sendto(struct.pack("!BBHHHBBH", 69, 0, 40, 0, 0, 64, 6, 0) + ends + head, (target, 0))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for address in sys.argv[2:]:
    target = "2001:db8:7:1::1" if ":" in address else "10.77.0.254"
    socket.create_connection((target, 22), 10, (address, 0)).close()
    accepted(address, 22)
    if address == sys.argv[2]:
        before = socket.create_connection((target, 443), 10, (address, 0))
        (there,) = accepted(address, 443)
        for flags in (2, 16):
            for port in range(1024, 1224):
                forge(address, target, port, flags)
        before.sendall(b"x")
        there.settimeout(5)
        assert there.recv(1) == b"x"
    for port in (443, 22):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sockets = [socket.socket(family, socket.SOCK_STREAM) for _ in range(60)]
        for one in sockets:
            one.setblocking(False)
            one.bind((address, 0))
            one.connect_ex((target, port))
        print(address, port, len(accepted(address, port)), flush=True)
        for one in sockets:
            one.close()
child.kill()
child.wait()
"""


def accepted(folder: Path, *addresses: str, room: int = 262144) -> dict[tuple[str, int], int]:
    """Return how many connections were accepted, by address and port; room is for those that begin."""
    inputs = {
        "nginx_proxy_domain": DOMAIN,
        "nginx_proxy_tls": BALANCER,
        "nginx_proxy_edge": edge_plan(),
        "nginx_proxy_connections_per_client": 10,
    }
    rules = render_role("nginx_proxy", inputs, "__nginx_proxy_limit_templates")[LIMIT]
    assert rules.count("size 262144") == 2
    (folder / "limit.nft").write_text(rules.replace("size 262144", f"size {room}"))
    command = ["unshare", "-n", sys.executable, "-c", PEER, str(folder / "limit.nft"), *addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return {(line.split()[0], int(line.split()[1])): int(line.split()[2]) for line in done.stdout.splitlines()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a network of its own")
def test_the_kernel_lets_one_client_open_so_many_connections_at_once(tmp_path: Path) -> None:
    """A burst of 20, here; a network of IPv6 is one client, the load balancer none, and other ports are not ours."""
    ipv6 = ["2001:db8:9:1::1", "2001:db8:9:1::2", "2001:db8:9:2::1"]
    opened = accepted(tmp_path, "10.77.0.65", "10.77.0.66", "10.77.0.67", "10.77.0.2", *ipv6, "2001:db8:7::2")
    assert {count for (_address, port), count in opened.items() if port == 22} == {60}, opened
    assert 19 <= opened["10.77.0.65", 443] <= 25, "in whose name somebody else sent SYNs"
    for address in ("10.77.0.66", "10.77.0.67", "2001:db8:9:1::1", "2001:db8:9:2::1"):
        assert 20 <= opened[address, 443] <= 25, opened
    assert opened["2001:db8:9:1::2", 443] <= 5, "another address of the same network"
    assert opened["10.77.0.2", 443] == opened["2001:db8:7::2", 443] == 60, "the load balancer"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a network of its own")
def test_who_fills_the_table_of_connections_that_begin_is_limited_all_the_same(tmp_path: Path) -> None:
    opened = accepted(tmp_path, "10.77.0.65", "10.77.0.66", room=1)
    assert 20 <= opened["10.77.0.66", 443] <= 25, opened
    assert opened["10.77.0.66", 22] == 60


def test_large_logs_are_rotated_and_small_ones_are_left(tmp_path: Path) -> None:
    logrotate = shutil.which("logrotate") or "/usr/sbin/logrotate"
    rules = render({})["/etc/nginx/fivepointers/logrotate"]
    ours = {"/var/log/nginx": str(tmp_path), "/run/nginx.pid": str(tmp_path / "nginx.pid"), "size 100M": "size 1M"}
    for old, new in ours.items():
        assert old in rules
        rules = rules.replace(old, new)
    if os.geteuid():
        rules = rules.replace("create 0640 www-data adm", "create 0640")
    (tmp_path / "rules").write_text(rules)
    (tmp_path / "rules").chmod(0o644)
    (tmp_path / "access.log").write_text("small\n")

    def rotate() -> set[str]:
        tmp_path.chmod(0o755)
        command = [logrotate, "--state", str(tmp_path / "state"), str(tmp_path / "rules")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {path.name for path in tmp_path.glob("access.log*")}

    assert rotate() == {"access.log"}
    # nginx, for which a shell stands in, is told to open its log anew.
    with subprocess.Popen(["sh", "-c", "trap 'exit 9' USR1; echo; while :; do sleep 0.1; done"], stdout=-1) as nginx:
        assert nginx.stdout
        nginx.stdout.readline()
        (tmp_path / "nginx.pid").write_text(str(nginx.pid))
        os.truncate(tmp_path / "access.log", LARGE)
        assert rotate() == {"access.log", "access.log.1"}
        assert nginx.wait(5) == 9
    (tmp_path / "nginx.pid").unlink()
    assert (tmp_path / "access.log").stat().st_size == 0
    for _time in range(20):
        os.truncate(tmp_path / "access.log", LARGE)
        kept = rotate()
    assert len(kept) == 15
    assert sum((tmp_path / name).stat().st_size for name in kept) < 2 * LARGE


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    inputs = {"nginx_proxy_domain": DOMAIN, "nginx_proxy_tls": BALANCER, "nginx_proxy_edge": edge_plan()}
    files = {**render({}), **render_role("nginx_proxy", inputs, "__nginx_proxy_limit_templates")}
    units = [path for path in files if path.startswith("/etc/systemd/") and path.endswith((".service", ".timer"))]
    assert len(units) == 3
    for path in units:
        (tmp_path / Path(path).name).write_text(files[path])
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / Path(path).name) for path in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(tmp_path) not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
