# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Taking a port over: what is recorded, real processes and a real nginx, and what a kill at any point leaves."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import http_client, sockets, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import adoption, phases, releases

from .test_phases import Killed, Played, job, played, release

__all__ = ["job", "played"]

OLD = """
import http.server, signal, sys
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"old")
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def said(port: int) -> str:
    try:
        return http_client.ask(f"http://127.0.0.1:{port}/", timeout=2).text
    except http_client.ProbeError:
        return ""


def until(check: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Callable[..., tuple[int, subprocess.Popen[bytes]]]]:
    """Start the application as somebody would by hand; give its port and process."""
    started = []

    def start(*arguments: str) -> tuple[int, subprocess.Popen[bytes]]:
        port = free_port()
        with (tmp_path / "nohup.out").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", OLD, str(port), *arguments],
                cwd=tmp_path,
                env={"TOKEN": 'canary "of" $it', "NODE_CHANNEL_FD": "3", "PATH": os.environ["PATH"]},
                stdout=output,
            )
        started.append(process)
        until(lambda: said(port) == "old")
        return port, process

    yield start
    for process in started:
        process.kill()
        process.wait()


def capture(port: int) -> dict[str, Any]:
    return adoption.capture("orders", port, [inode for _address, inode in sockets.listeners(port)])


# --- what is recorded -----------------------------------------------------------


def test_a_process_is_recorded_so_that_it_can_be_started_again(
    host: Path, tmp_path: Path, old: Callable[..., Any]
) -> None:
    port, process = old("two words")
    record = capture(port)
    seen = record["process"]
    assert (seen["pid"], seen["argv"][-2:]) == (process.pid, [str(port), "two words"])
    assert seen["directory"] == str(tmp_path) and seen["output"] == str(tmp_path / "nohup.out")
    assert seen["environment"]["TOKEN"] == 'canary "of" $it'
    adoption.write_record("orders", record, adoption.STOPPING)
    mode = stat.S_IMODE(os.stat(adoption.record_path("orders")).st_mode)
    assert (mode, adoption.recorded("orders")["was"]) == (0o600, record["was"])
    assert "canary" not in record["was"]


def test_the_unit_of_what_is_given_back_is_the_same_program(host: Path, old: Callable[..., Any]) -> None:
    record = capture(old("100% of $HOME")[0])
    unit = systemd.parse_unit(adoption.unit_text("orders", record, "/var/x.env"))["Service"]
    words = systemd.exec_start([record["process"]["executable"], *record["process"]["argv"]])
    assert unit["ExecStart"] == ["@" + words]
    assert '"100%% of $$HOME"' in words
    assert unit["WorkingDirectory"] == [record["process"]["directory"]]
    assert unit["StandardOutput"] == ["append:" + record["process"]["output"]]


def test_what_the_starting_process_left_in_the_environment_is_left_out(
    host: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: Callable[..., Any]
) -> None:
    monkeypatch.setattr(adoption, "RUN", str(tmp_path))
    monkeypatch.setattr(systemd, "systemctl", lambda *arguments: "")
    adoption.write_record("orders", capture(old()[0]), adoption.ADOPTED)
    assert adoption.prepare_return("orders")["state"] == adoption.RETURNING
    text = (tmp_path / "fivepointers-orders-given-back.env").read_text()
    assert 'TOKEN="canary \\"of\\" \\$it"' in text and "NODE_CHANNEL_FD" not in text


def test_a_process_that_hides_its_arguments_is_refused(host: Path) -> None:
    process = adoption.see(os.getpid())
    hidden = dataclasses.replace(process, argv=["my app: serving   "])
    assert "arguments" in adoption.refusal(hidden)
    assert "docker" not in adoption.refusal(process) and adoption.refusal(process) == ""
    assert "container" in adoption.refusal(dataclasses.replace(process, argv=["/usr/bin/docker-proxy"]))


def test_what_systemd_would_start_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    process = adoption.see(os.getpid())
    monkeypatch.setattr(adoption, "service_of", lambda text: "shop.service")
    shown = f"MainPID={process.pid}\nRestart=always"
    monkeypatch.setattr(systemd, "run", lambda argv: (0, shown))
    assert "systemctl disable --now shop.service" in adoption.refusal(process)
    monkeypatch.setattr(systemd, "run", lambda argv: (0, shown.replace("always", "no")))
    assert adoption.refusal(process) == ""


@pytest.mark.parametrize(
    "text, unit",
    [
        ("0::/system.slice/shop.service\n", "shop.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", ""),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service\n", "shop.service"),
        ("4:memory:/\n1:name=systemd:/system.slice/shop.service\n0::/\n", "shop.service"),
    ],
)
def test_the_service_of_a_process(text: str, unit: str) -> None:
    assert adoption.service_of(text) == unit


def app(pid: int, name: str, mode: str, port: int, number: int = 0) -> dict[str, Any]:
    return {"pid": pid, "name": name, "pm_id": number, "pm2_env": {"exec_mode": mode, "env": {"PORT": str(port)}}}


@pytest.mark.parametrize(
    "apps, chosen",
    [
        # The process itself holds the port.
        ([app(7, "api", "fork_mode", 1, 3), app(8, "web", "fork_mode", 3001, 4)], [3]),
        # pm2 holds it for all of a cluster.
        ([app(8, "api", "cluster_mode", 3001, 0), app(9, "api", "cluster_mode", 3001, 1)], [0, 1]),
        ([app(8, "api", "cluster_mode", 3001, 0), app(9, "web", "cluster_mode", 3002, 1)], [0]),
        ([app(8, "api", "cluster_mode", 0, 5), app(0, "web", "cluster_mode", 0, 6)], [5]),
        # Which one it is cannot be told.
        ([app(8, "api", "cluster_mode", 0, 0), app(9, "web", "cluster_mode", 0, 1)], []),
        ([app(8, "api", "fork_mode", 3001, 0)], []),
        ([], []),
    ],
)
def test_which_of_pm2s_processes_a_port_belongs_to(apps: list[dict[str, Any]], chosen: list[int]) -> None:
    process = dataclasses.replace(adoption.see(os.getpid()), pid=7)
    assert [item["pm_id"] for item in adoption.choose_app(apps, process, 3001)] == chosen


def test_pm2_says_other_things_before_its_list() -> None:
    assert adoption.parse_list('>>>> In-memory PM2 is out-of-date\n[PM2] x\n[{"pm_id": 1}]\n') == [{"pm_id": 1}]
    assert adoption.parse_list("[PM2] Spawning\n[]") == []
    assert adoption.parse_list("") == []


def test_pm2_is_known_by_the_title_of_its_daemon() -> None:
    process = dataclasses.replace(adoption.see(os.getpid()), argv=["PM2 v7.0.4: God Daemon (/home/a b/.pm2)      "])
    assert adoption.pm2_home(process) == "/home/a b/.pm2"
    assert adoption.pm2_home(dataclasses.replace(process, argv=["node", "PM2 v1: God"])) == ""


def test_of_processes_that_share_a_socket_the_first_one_is_stopped() -> None:
    here = adoption.see(os.getpid())
    family = [dataclasses.replace(here, pid=pid, parent=parent) for pid, parent in ((9, 5), (5, 1), (8, 5))]
    assert adoption.top(family).pid == 5


# --- real processes and a real nginx ----------------------------------------------


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real nginx; gives the directory whose *.conf it reads."""
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    if not os.path.exists(binary):
        pytest.skip("there is no nginx here")
    (tmp_path / "fronts").mkdir()
    (tmp_path / "fronts/idle.conf").write_text(f"server {{ listen 127.0.0.1:{free_port()}; }}\n")
    for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
        (tmp_path / name).mkdir()
    temporary = "".join(
        f"{name}_temp_path {tmp_path}/{name.partition('_')[0]};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    ).replace(str(tmp_path / "client"), str(tmp_path / "body"))
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/nginx.pid; daemon off; worker_processes 1; error_log {tmp_path}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} include {tmp_path}/fronts/*.conf; }}\n"
    )
    process = subprocess.Popen([binary, "-e", f"{tmp_path}/error.log", "-c", f"{tmp_path}/nginx.conf"])
    monkeypatch.setattr(adoption, "NGINX_PID", f"{tmp_path}/nginx.pid")
    until(lambda: (tmp_path / "nginx.pid").exists() and (tmp_path / "nginx.pid").read_text().strip() != "")
    yield tmp_path / "fronts"
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def place(fronts: Path, port: int) -> None:
    (fronts / "front.conf").write_text(f'server {{ listen {port}; return 200 "new"; }}\n')


@pytest.mark.parametrize("arguments", [(), ("stubborn",)])
def test_a_port_is_taken_over_and_the_outage_is_measured(
    host: Path, nginx: Path, monkeypatch: pytest.MonkeyPatch, old: Callable[..., Any], arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(adoption, "STOP_TIMEOUT", 0.5)
    port, process = old(*arguments)
    record = capture(port)
    place(nginx, port)
    assert said(port) == "old"
    outage = adoption.take_over("orders", record, lambda: said(port) == "new")
    assert said(port) == "new" and sockets.programs_at(port) == {"nginx"}
    assert 0 < outage < 1000
    assert process.wait(5) == -(signal.SIGKILL if arguments else signal.SIGTERM)
    assert adoption.recorded("orders")["state"] == adoption.ADOPTED


def test_a_front_that_does_not_come_up_is_told(
    host: Path, nginx: Path, monkeypatch: pytest.MonkeyPatch, old: Callable[..., Any]
) -> None:
    monkeypatch.setattr(adoption, "FRONT_TIMEOUT", 0.3)
    port, _process = old()
    record = adoption.write_record("orders", capture(port), adoption.STOPPING)
    with pytest.raises(releases.ReleaseError, match="did not answer"):
        adoption.take_over("orders", record, lambda: said(port) == "new")
    assert adoption.underway("orders")


def test_nothing_is_started_beside_what_runs_already(host: Path, old: Callable[..., Any]) -> None:
    port, _process = old()
    record = adoption.write_record("orders", capture(port), adoption.RETURNING)
    assert adoption.give_back("orders", record, lambda: said(port) == "old", time.monotonic()) == 0
    assert not os.path.exists(adoption.record_path("orders"))


def test_a_port_is_free_only_where_nginx_could_have_it() -> None:
    port = free_port()
    assert sockets.is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not sockets.is_free(port)


def test_a_process_that_ended_meanwhile_holds_no_port(monkeypatch: pytest.MonkeyPatch, old: Callable[..., Any]) -> None:
    port, process = old()
    assert sockets.programs_at(port) == {os.path.basename(os.path.realpath(sys.executable))}
    monkeypatch.setattr(sockets, "processes_of", lambda inodes: [process.pid])
    process.kill()
    process.wait()
    assert sockets.programs_at(port) == set()


# --- a kill at any point ------------------------------------------------------------


class Old:
    """The application that ran before, on the host that is played."""

    def __init__(self, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
        self.played = played
        self.running = True
        # The front that nginx uses, which is not always the one in its file.
        self.used = False
        process = adoption.see(os.getpid())
        self.process = {**dataclasses.asdict(process), "user": "admin"}
        tree = played.apply_tree

        def apply_tree(spec: dict[str, Any], check: bool = False) -> dict[str, Any]:
            tree(spec, check)
            if spec["reload"] and not check:
                self.reload()
            return {}

        changes: dict[Any, dict[str, Callable[..., Any]]] = {
            phases: {
                "apply_tree": apply_tree,
                "listeners": lambda port: [("::", "1")] if port == 3001 and self.programs() else [],
                "holder": lambda inode: next(iter(self.programs())) + " (process 9)",
                "health_problem": self.health,
                "_answers": lambda item: self.running,
            },
            adoption: {
                "is_free": lambda port: not self.programs(),
                "programs_at": lambda port: self.programs(),
                "capture": lambda name, port, inodes: self.record(),
                "_signal": self.end,
                "_alive": lambda record: self.running,
                "reload_nginx": lambda: (played.step("reload"), self.reload()),
                "_unit_path": lambda name: str(played.root / "unit"),
                "FRONT_TIMEOUT": 0.05,
                "START_TIMEOUT": 0.05,
            },
        }
        for module, names in changes.items():
            for name, change in names.items():
                monkeypatch.setattr(module, name, change)
        for name in ("write_record", "take_over", "give_back"):
            monkeypatch.setattr(adoption, name, self.stepped(name, getattr(adoption, name)))
        systemctl = played.systemctl

        def start(*arguments: str, timeout: float = 0) -> str:
            done = systemctl(*arguments)
            if arguments == ("start", adoption.unit_of("orders")):
                assert not self.used, "two at one port"
                played.running.discard(adoption.unit_of("orders"))
                self.running = True
            return done

        monkeypatch.setattr(systemd, "systemctl", start)

    def stepped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any) -> Any:
            self.played.step(name)
            return function(*arguments)

        return stepped

    def programs(self) -> set[str]:
        return {"node"} if self.running else {"nginx"} if self.used else set()

    def record(self) -> dict[str, Any]:
        return {"port": 3001, "was": "process 9", "process": self.process, "pm2": {}}

    def end(self, record: Any, number: int) -> None:
        if self.running:
            assert adoption.recorded("orders")["was"] == "process 9", "it is not on the disk yet"
            self.played.step("kill")
            self.running = False

    def reload(self) -> None:
        wanted = self.played.front() is not None
        # nginx keeps what it has where it cannot have a port.
        self.used = wanted and not self.running

    def health(self, wanted: releases.Wanted, port: int) -> str:
        if port == wanted.port:
            return "" if self.used and self.played.front_works and self.played.serving() else "502"
        return self.played.health(wanted, port)

    def state(self) -> tuple[str, bool, bool]:
        """What answers, whether the file of the front is there, and whether anything is recorded."""
        answers = "old" if self.running else self.played.serving() if self.used else ""
        return answers, self.played.front() is not None, bool(adoption.recorded("orders"))


@pytest.fixture
def before(played: Played, monkeypatch: pytest.MonkeyPatch) -> Old:
    return Old(played, monkeypatch)


@pytest.fixture
def taking(job: Callable[..., phases.Job]) -> Callable[[], phases.Job]:
    def taking() -> phases.Job:
        made = job("1")
        made.adopt = True
        made.refresh()
        return made

    return taking


def test_without_being_asked_to_it_refuses(played: Played, before: Old, job: Callable[..., phases.Job]) -> None:
    with pytest.raises(releases.ReleaseError, match="-e adopt=true"):
        release(job("1"))
    assert before.state() == ("old", False, False)
    assert played.steps == []


def test_it_is_adopted_and_given_back(played: Played, before: Old, taking: Callable[[], phases.Job]) -> None:
    work = taking()
    assert work.plans["orders"].steps[0] == "stop node (process 9), and take port 3001 over from it"
    wanted = release(work)
    assert before.state() == (wanted, True, True)
    assert work.adopted["orders"]["given_back"] is False
    played.steps.clear()
    again = taking()
    assert not any(step.changed for step in again.plans.values())
    phases.give_back(again)
    assert before.state() == ("old", False, False)
    assert not played.running and not played.enabled
    assert again.adopted["orders"]["given_back"] is True
    assert "live" not in releases.read_state("orders")


def test_a_candidate_that_is_ill_stops_nothing(played: Played, before: Old, taking: Callable[[], phases.Job]) -> None:
    work = taking()
    played.sick.add(work.wanted[0].release)
    with pytest.raises(releases.ReleaseError, match="did not become healthy"):
        phases.prepare(work)
    assert before.state() == ("old", False, False)
    assert "kill" not in played.steps


def test_a_front_that_does_not_answer_gives_the_port_back(
    played: Played, before: Old, taking: Callable[[], phases.Job]
) -> None:
    played.front_works = False
    with pytest.raises(releases.ReleaseError, match=r"could not be taken over from process 9.*returned"):
        release(taking())
    assert before.state() == ("old", False, False)
    assert "kill" in played.steps


def test_a_failed_deployment_gives_the_port_back(played: Played, before: Old, taking: Callable[[], phases.Job]) -> None:
    work = taking()
    phases.prepare(work)
    work.refresh()
    phases.switch(work)
    assert before.state()[0] == work.wanted[0].release
    phases.take_back(taking())
    assert before.state() == ("old", False, False)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["on", "back"])
def test_a_kill_at_any_step_leaves_a_state_from_which_the_next_run_goes_on(
    played: Played, before: Old, taking: Callable[[], phases.Job], way: str
) -> None:
    """The old one is stopped only when it is recorded; and whatever is left, the next run ends it, or undoes it."""
    played.kill, killed = 0, 0
    while True:
        played.steps.clear()
        before.running, before.used = True, False
        try:
            release(taking())
            break
        except Killed:
            killed += 1
        limit, played.kill = played.kill, None
        if way == "on":
            wanted = release(taking())
            assert before.state() == (wanted, True, True), limit
            assert not adoption.underway("orders"), limit
            phases.give_back(taking())
        else:
            phases.take_back(taking())
            if before.state()[1]:
                # It was committed before the kill.
                phases.give_back(taking())
        assert before.state() == ("old", False, False), limit
        shutil.rmtree(played.root / "var")
        shutil.rmtree(played.root / "opt", ignore_errors=True)
        (played.root / "var").mkdir()
        played.running.clear()
        played.enabled.clear()
        played.kill = limit + 1
    assert killed > 15


@pytest.mark.slow
@pytest.mark.parametrize("then", ["give_back", "deploy"])
def test_a_kill_at_any_step_of_giving_back_is_made_up_for(
    played: Played, before: Old, taking: Callable[[], phases.Job], then: str
) -> None:
    played.kill, killed = None, 0
    for limit in range(1000):
        played.kill = None
        if not adoption.recorded("orders"):
            release(taking())
        played.steps.clear()
        played.kill = limit
        try:
            phases.give_back(taking())
            break
        except Killed:
            killed += 1
        played.kill = None
        if then == "deploy":
            wanted = release(taking())
            assert before.state() == (wanted, True, True), limit
        else:
            phases.give_back(taking())
            assert before.state() == ("old", False, False), limit
    assert killed > 5


def test_the_record_is_json_without_a_release(host: Path, old: Callable[..., Any]) -> None:
    adoption.write_record("orders", capture(old()[0]), adoption.ADOPTED)
    assert set(adoption.recorded("orders")) == {
        "version", "state", "port", "at", "was", "process", "pm2",
    }  # fmt: skip
