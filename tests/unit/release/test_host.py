# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Releases on a host's disk: staged whole or not at all, sharing files, pruned with care; and candidates' health."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import write_file
from ansible_collections.fivepointers.platform.plugins.module_utils.release import files, phases, releases

from .conftest import SECRETS, make_archive, make_manifest, make_request, make_spec

Stage = Callable[..., releases.Wanted]


# --- staging ------------------------------------------------------------------------


def test_a_release_holds_all_that_it_needs(host: Path, stage: Stage) -> None:
    wanted = stage({"dist/main.js": "code"}, make_spec(environment={"T": "${secret.jwt} $${x}", "P": "${self.port}"}))
    path = Path(releases.release_path("orders", wanted.release))
    assert (path / "app/dist/main.js").read_text() == "code"
    assert json.loads((path / "release.json").read_text())["artifact"] == wanted.artifact
    assert (path / "environment").stat().st_mode & 0o777 == 0o600
    readable = [file for file in path.rglob("*") if file.is_file() and file.stat().st_mode & 0o004]
    assert not [file for file in readable if SECRETS["jwt"] in file.read_text()]
    _unit, environment = releases.slot_texts("orders", wanted.release, 13001, 252)
    assert environment == 'P="13001"\nT="canary-token \\${x}"\n'


def test_what_a_service_writes_to_is_there(host: Path, stage: Stage) -> None:
    wanted = stage({"server.js": "code"}, make_spec("nextjs"))
    app = Path(releases.release_path(wanted.name, wanted.release)) / "app"
    assert (app / ".next/cache").is_dir()


def test_a_release_of_an_earlier_or_later_version_can_be_read(host: Path, stage: Stage) -> None:
    wanted = stage({"dist/main.js": "code"})
    path = Path(releases.release_path(wanted.name, wanted.release)) / "release.json"
    record = json.loads(path.read_text())
    assert {"writable", "handover"} <= set(record["wanted"])
    for key in ("writable", "handover"):
        del record["wanted"][key]
    record["wanted"]["of_a_later_version"] = 1
    path.write_text(json.dumps(record))
    found = releases.load_wanted(wanted.name, wanted.release)
    assert (found.writable, found.handover) == ([], "requests")
    assert (found.release, found.unit, found.front) == (wanted.release, wanted.unit, wanted.front)


def test_a_service_with_documents_counts_its_sockets(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = "0100007F:%04X" % 13001
    monkeypatch.setattr(releases, "tcp_sockets", lambda state: [(port, "1", socket.AF_INET)] * 3)
    for kind, count in (("yjs_websocket", 3), ("nestjs_api", 0)):
        wanted = releases.Wanted(**make_request(make_spec(kind, slots={"blue": 13001, "green": 23001})))
        write_file(os.path.join(releases.NGINX, wanted.front_path), wanted.front, 0o644)
        os.makedirs(releases.release_path(wanted.name, wanted.release), exist_ok=True)
        files.point_slot(wanted.name, "blue", wanted.release)
        assert releases.observe([wanted])[wanted.name].sockets == count


def test_the_same_code_is_not_stored_twice(host: Path, stage: Stage) -> None:
    first = stage({"a/b": "code", "c": "x"})
    request = make_request(make_spec(memory="2G"), make_manifest(id=first.artifact))
    second = releases.Wanted(**request)
    files.stage(second, first.release, None, SECRETS)
    paths = [Path(releases.release_path("orders", item.release)) / "app/a/b" for item in (first, second)]
    assert paths[0].samefile(paths[1])


@pytest.mark.slow
def test_a_kill_while_staging_leaves_a_release_whole_or_absent(host: Path, tmp_path: Path) -> None:
    sha256 = make_archive(tmp_path / "a.tar.gz", {f"{number}": "x" * 20_000 for number in range(200)})
    wanted = releases.Wanted(
        **make_request(manifest=make_manifest(archive_sha256=sha256, files_count=200, unpacked_size=4_000_000))
    )
    path = Path(releases.release_path("orders", wanted.release))
    outcomes, seconds = [], 0.001
    while True not in outcomes:
        child = os.fork()
        if not child:
            files.stage(wanted, "archive", str(tmp_path / "a.tar.gz"), SECRETS)
            os._exit(0)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen = releases.observe([wanted])["orders"]
        assert (wanted.release in seen.releases) == path.exists()
        if path.exists():
            assert len(os.listdir(path / "app")) == 200 and (path / "environment").exists()
        outcomes.append(path.exists())
        seconds *= 1.5
    assert outcomes.count(False) >= 3, "the kills came too late to show anything"
    assert [name for name in os.listdir(path.parent) if name.startswith(archive.TEMPORARY)] == []


def test_a_damaged_archive_is_not_staged(host: Path, tmp_path: Path) -> None:
    make_archive(tmp_path / "a.tar.gz", {"a": "x"})
    wanted = releases.Wanted(**make_request())
    with pytest.raises(releases.ReleaseError, match=r"orders: .* checksum .* playbooks/build.yml -e service=orders"):
        files.stage(wanted, "archive", str(tmp_path / "a.tar.gz"), SECRETS)
    assert releases.observe([wanted])["orders"].releases == {}


def test_what_does_not_fit_is_refused_before_it_is_unpacked(host: Path, tmp_path: Path) -> None:
    sha256 = make_archive(tmp_path / "a.tar.gz", {"a": "x"})
    manifest = make_manifest(archive_sha256=sha256, unpacked_size=1 << 60)
    with pytest.raises(releases.ReleaseError, match=r"orders: release \w+ needs .* are free"):
        files.stage(releases.Wanted(**make_request(manifest=manifest)), "archive", str(tmp_path / "a.tar.gz"), SECRETS)
    assert list((host / "opt").rglob("app")) == []


def test_a_secret_that_is_missing_is_named_and_nothing_is_staged(host: Path, stage: Stage) -> None:
    wanted = stage({"a": "x"})
    with pytest.raises(ValueError, match="'jwt' was not passed"):
        releases.fill_secrets(wanted.environment, {})


# --- hashed files, and pruning ----------------------------------------------------------


# As it is, and as the build compressed it.
ENCODINGS = ("", ".br", ".gz")


def test_hashed_files_outlive_their_release_as_long_as_it_is_kept(host: Path, stage: Stage) -> None:
    spec = make_spec("static_frontend")
    made = []
    for number in range(7):
        content = {"index.html": f"{number}", "assets/same.js": "same"}
        content |= {f"assets/{number}.js{packed}": f"{number}" for packed in ENCODINGS}
        made.append(stage(content, spec))
        files.point_slot("orders", releases.SLOTS[number % 2], made[-1].release)
    shared = host / "opt/orders/shared/assets"
    hashed = [f"{number}.js{packed}" for number in range(7) for packed in ENCODINGS]
    assert sorted(os.listdir(shared)) == [*hashed, "same.js"]
    gone = files.prune(made[-1])
    assert gone == [made[1].release, made[0].release]
    assert sorted(os.listdir(shared)) == [*hashed[2 * len(ENCODINGS) :], "same.js"]
    assert sorted(os.listdir(host / "opt/orders/releases")) == sorted(item.release for item in made[2:])


def test_what_a_slot_has_or_had_before_is_never_pruned(host: Path, stage: Stage) -> None:
    made = [stage({"a": str(number)}) for number in range(8)]
    files.point_slot("orders", "blue", made[0].release)
    files.point_slot("orders", "green", made[1].release)
    files.record_switch("orders", made[2].release, "blue")
    files.record_switch("orders", made[0].release, "blue")
    gone = files.prune(dataclasses.replace(made[-1], keep={"releases": 2, "bytes": 1 << 30}))
    assert set(gone) == {item.release for item in made[3:]}, "what is needed counts first"


def test_what_was_deployed_again_is_kept_longer_than_what_was_live_between(host: Path, stage: Stage) -> None:
    made = [stage({"a": str(number)}).release for number in range(6)]
    wanted = stage({"a": "6"})
    for release in (*made[:4], made[0], made[4], wanted.release):
        files.record_switch("orders", release, "blue")
    gone = files.prune(dataclasses.replace(wanted, keep={"releases": 3, "bytes": 1 << 30}))
    assert gone == [made[3], made[2], made[1], made[5]], "what was staged and never live goes, too"


def test_files_of_the_newest_release_win(host: Path, stage: Stage) -> None:
    spec = make_spec("static_frontend")
    stage({"assets/logo.svg": "old"}, spec)
    stage({"assets/logo.svg": "new"}, spec)
    assert (host / "opt/orders/shared/assets/logo.svg").read_text() == "new"


@pytest.mark.parametrize("kind", ["nestjs_api", "static_frontend", "nextjs"])
def test_no_other_user_of_the_host_reads_a_release(host: Path, stage: Stage, kind: str) -> None:
    spec = make_spec(kind)
    groups: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "group_id", lambda name: groups.append(name) or os.getegid())
        wanted = stage({".next/static/a.js": "x", "assets/a.js": "x", "dist/main.js": "x", "index.html": "x"}, spec)
        files.seclude(wanted)
    assert set(groups) <= {wanted.user if spec["slots"] else "www-data", "www-data", "root"}
    assert groups[0] == ("fp-orders" if spec["slots"] else "www-data")
    folders = [Path(releases.release_path("orders", wanted.release)), host / "opt/orders/shared", host / "etc/orders"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in folders if path.exists()}
    assert set(modes.values()) == {0o750} and wanted.release in modes
    assert ("shared" in modes) == bool(wanted.shared)


def test_folders_of_an_earlier_version_are_closed_to_others(host: Path, stage: Stage) -> None:
    wanted = stage({"a": "x"}, make_spec("static_frontend"))
    files.seclude(wanted)
    files.point_slot("orders", "blue", wanted.release)
    files.allocate("orders", "blue")
    files.record_switch("orders", wanted.release, "blue")
    write_file(os.path.join(releases.NGINX, wanted.front_path), wanted.front, 0o644)
    assert not releases.plan(wanted, releases.observe([wanted])["orders"]).changed
    os.chmod(releases.release_path("orders", wanted.release), 0o755)
    repairs = releases.plan(wanted, releases.observe([wanted])["orders"]).repairs
    assert repairs == ("let no other user of the host read its folders",)
    files.seclude(wanted)
    assert not releases.plan(wanted, releases.observe([wanted])["orders"]).changed


# --- slots --------------------------------------------------------------------------------


def test_the_flag_alone_says_what_is_live(host: Path, stage: Stage) -> None:
    wanted = stage({"a": "x"}, make_spec("static_frontend"))
    assert releases.observe([wanted])["orders"].live is None
    files.point_slot("orders", "green", wanted.release)
    write_file(os.path.join(releases.NGINX, wanted.front_path), wanted.front, 0o644)
    assert releases.observe([wanted])["orders"].live is None, "blue is live, and has nothing"
    files.set_flag("orders", "green")
    seen = releases.observe([wanted])["orders"]
    assert (seen.live, seen.slots["green"].release) == ("green", wanted.release)
    files.record_switch("orders", wanted.release, "green")
    assert not releases.plan(wanted, releases.observe([wanted])["orders"]).changed
    files.set_flag("orders", "blue")
    assert releases.observe([wanted])["orders"].live is None


def test_a_slot_whose_release_is_gone_has_none(host: Path, stage: Stage) -> None:
    wanted = stage({"a": "x"}, make_spec("static_frontend"))
    files.point_slot("orders", "blue", "f" * 12)
    assert releases.observe([wanted])["orders"].slots["blue"].release == ""


@pytest.mark.parametrize("spoil", ["environment", "unit", "mode"])
def test_a_slot_is_faithful_until_somebody_changes_it(host: Path, stage: Stage, spoil: str) -> None:
    wanted = stage({"a": "x"})
    unit, environment = releases.slot_texts("orders", wanted.release, 13001, 252)
    unit_path = host / "units/fivepointers-orders@blue.service"
    write_file(str(unit_path), unit, 0o644)
    write_file(releases.environment_path("orders", "blue"), environment, 0o600)
    files.point_slot("orders", "blue", wanted.release)
    assert releases.observe([wanted])["orders"].slots["blue"].faithful
    environment_path = Path(releases.environment_path("orders", "blue"))
    if spoil == "mode":
        environment_path.chmod(0o644)
    else:
        path = unit_path if spoil == "unit" else environment_path
        path.write_text(path.read_text() + "X=1\n")
    assert not releases.observe([wanted])["orders"].slots["blue"].faithful


def test_what_was_live_before_is_remembered(host: Path) -> None:
    for release, slot in (("one", "blue"), ("two", "green"), ("two", "blue"), ("three", "green")):
        files.record_switch("orders", release, slot)
    state = releases.read_state("orders")
    assert (state["live"]["release"], state["live"]["slot"], files.previous(state)) == ("three", "green", "two")
    assert [entry["release"] for entry in state["history"]] == ["one", "two", "two", "three"]
    (host / "var/orders/state.json").write_text("{ torn")
    files.record_switch("orders", "four", "blue")
    assert releases.read_state("orders")["live"]["release"] == "four"


def test_who_switched_is_noted(host: Path) -> None:
    files.begin_switch("orders", "one", "blue", {"release": "", "slot": ""}, {"deployment": "d1", "by": "somebody"})
    files.record_switch("orders", "one", "blue")
    state = releases.read_state("orders")
    assert (state["live"]["deployment"], state["live"]["by"]) == ("d1", "somebody")
    assert "pending" not in state


def test_releases_are_kept_as_long_as_they_fit(host: Path, stage: Stage) -> None:
    made = [stage({"a": str(number)}) for number in range(6)]
    files.point_slot("orders", "blue", made[0].release)
    # Each is 4,000 bytes unpacked, as the manifest says.
    small = dataclasses.replace(made[-1], keep={"releases": 5, "bytes": 12_000})
    assert set(files.prune(small)) == {item.release for item in made[1:4]}
    assert files.prune(small) == []


# --- ports ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family, address", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_holds_a_port_is_told(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"there is no {address} here")
        listener.listen()
        port = listener.getsockname()[1]
        found = phases.listeners(port)
        assert [item[0] for item in found] == [address]
        assert f"(process {os.getpid()})" in phases.holder(found[0][1])
        wanted = releases.Wanted(**make_request(make_spec(port=port, slots={"blue": port, "green": port})))
        with pytest.raises(releases.ReleaseError, match=rf"port {port}.*in use by .*\(process {os.getpid()}\)"):
            phases.check_ports(wanted, "blue")
        with pytest.raises(releases.ReleaseError, match="started manually or by pm2"):
            phases.check_front_port(wanted, releases.Seen())
        assert phases.exposed(wanted, "blue") == ""
    assert phases.listeners(port) == []


def test_a_slot_that_listens_on_all_addresses_is_told_of() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        wanted = releases.Wanted(**make_request(make_spec(slots={"blue": port, "green": port})))
        told = phases.exposed(wanted, "blue")
    assert "0.0.0.0" in told and str(port) in told and "HOST" in told


# --- health -----------------------------------------------------------------------------------


class Application(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the test sets."""

    status = 200

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def application() -> Iterator[int]:
    """A process in the slot; gives its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    Application.status = 200


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[systemd.UnitState]:
    """What systemd says, one after the other; the last for ever."""
    said = [systemd.UnitState("u", load="loaded", active="active", pid=7)]

    def answer(units: list[str]) -> dict[str, systemd.UnitState]:
        now = said.pop(0) if len(said) > 1 else said[0]
        return dict.fromkeys(units, now)

    monkeypatch.setattr(systemd, "states", answer)
    monkeypatch.setattr(systemd, "journal", lambda unit, since, lines: ["the last words"])
    return said


def candidate(port: int, **health: Any) -> releases.Wanted:
    checked = {"type": "http", "path": "/", "status": [200], "interval": 0.1, "timeout": 1, "start_period": 0.5}
    return releases.Wanted(**make_request(make_spec(slots={"blue": port, "green": port}, health={**checked, **health})))


@pytest.mark.parametrize("health", [{}, {"type": "tcp"}, {"status": [200, 204]}])
def test_a_healthy_candidate_is_taken_at_once(
    application: int, states: list[systemd.UnitState], health: dict[str, Any]
) -> None:
    start = time.monotonic()
    assert phases.wait_until_healthy([(candidate(application, **health), "blue")]) == []
    assert time.monotonic() - start < 2


def test_a_sick_candidate_is_told_with_everything(application: int, states: list[systemd.UnitState]) -> None:
    Application.status = 503
    (failure,) = phases.wait_until_healthy([(candidate(application), "green")])
    text = failure.text("api-1", "0123456789ab")
    for part in (
        "orders on api-1, step prepare",
        "in slot green",
        "Release 0123456789ab is still serving",
        f"GET http://127.0.0.1:{application}/, answered with 200",
        "Came: 503",
        "the last words",
        "What to do",
        "journalctl -u fivepointers-orders@green.service",
    ):
        assert part in text
    assert "No release was serving" in failure.text("api-1", "")


def test_a_candidate_that_keeps_ending_is_given_up_early(states: list[systemd.UnitState]) -> None:
    states[:] = [systemd.UnitState("u", active="activating", code=1, status=3, restarts=number) for number in range(6)]
    start = time.monotonic()
    (failure,) = phases.wait_until_healthy([(candidate(1, start_period=60), "blue")])
    assert time.monotonic() - start < 10
    assert failure.process == "its process exited with status 3 5 times, and was restarted each time"


def test_one_for_which_another_host_migrates_is_given_its_time(
    application: int, states: list[systemd.UnitState]
) -> None:
    ends = [systemd.UnitState("u", active="activating", code=1, status=3, restarts=number) for number in range(8)]
    states[:] = [*ends, systemd.UnitState("u", active="active", pid=7)]
    item = candidate(application, start_period=60)
    assert phases.wait_until_healthy([(item, "blue")], [item.name]) == []


def test_a_candidate_that_answers_and_dies_is_not_healthy(application: int, states: list[systemd.UnitState]) -> None:
    alive = [systemd.UnitState("u", active="active", pid=pid) for pid in range(100, 400)]
    states[:] = alive
    (failure,) = phases.wait_until_healthy([(candidate(application), "blue")])
    assert failure.came == "it answered, and then its process exited"


def test_another_process_on_the_port_does_not_pass_for_the_candidate(
    application: int, states: list[systemd.UnitState]
) -> None:
    states[:] = [systemd.UnitState("u", active="activating", pid=0)]
    (failure,) = phases.wait_until_healthy([(candidate(application), "blue")])
    assert failure.came == "its process is not running"
