# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What a host has and is not to run: found by what is there, retired, brought back, purged, killed at any step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import (
    files,
    leftovers,
    phases,
    releases,
    retirement,
)

from . import test_phases
from .test_phases import Killed, Played, live, release

MakeJob = Callable[..., phases.Job]
# The host that is played, and a job on it.
played, job = test_phases.played, test_phases.job
WARNINGS: list[str] = []
AUTHOR = {"deployment": "d7", "by": "someone@somewhere"}


@pytest.fixture(autouse=True)
def system(host: Path, played: Played, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rest of the host: boot links are files, and users are lines of a file."""
    users = host / "passwd"
    users.write_text("root:x:0:0::/root:/bin/sh\nfp-someone:x:1:1::/home/someone:/bin/sh\n")
    monkeypatch.setattr(leftovers, "USERS", str(users))
    wants = Path(systemd.WANTS)

    def enable(unit: str) -> None:
        played.step("enable")
        played.enabled.add(unit)
        wants.mkdir(parents=True, exist_ok=True)
        (wants / unit).touch()

    def disable(unit: str) -> None:
        played.step("disable")
        played.enabled.discard(unit)
        (wants / unit).unlink(missing_ok=True)

    def account(user: str) -> None:
        if user + ":" not in users.read_text():
            users.write_text(users.read_text() + f"{user}:x:990:990::/nonexistent:/usr/sbin/nologin\n")

    def run(argv: list[str], timeout: float = 0) -> tuple[int, str]:
        if argv[0] == "userdel":
            played.step("userdel")
            kept = [line for line in users.read_text().splitlines(True) if not line.startswith(argv[1] + ":")]
            users.write_text("".join(kept))
        return played.run(argv, timeout)

    monkeypatch.setattr(systemd, "enable", enable)
    monkeypatch.setattr(systemd, "disable", disable)
    monkeypatch.setattr(systemd, "run", run)
    monkeypatch.setattr(phases, "ensure_account", account)
    # Whatever removes something can be the last thing that a run does.
    for module, name in ((os, "unlink"), (os, "rename"), (retirement.shutil, "rmtree")):
        monkeypatch.setattr(module, name, _stepped(played, name, getattr(module, name)))
    record = files.record_retirement
    monkeypatch.setattr(files, "record_retirement", _stepped(played, "record", record))
    return host


def _stepped(played: Played, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def stepped(*arguments: Any, **options: Any) -> Any:
        played.step(name)
        return real(*arguments, **options)

    return stepped


def found() -> dict[str, Any]:
    return leftovers.undescribed([], [])


def retire(described: tuple[str, ...] = ()) -> dict[str, Any]:
    todo = retirement.todo("retire", ["orders"], described, described)
    if todo:
        retirement.retire("api-1", todo, AUTHOR)
    return todo


def purge() -> dict[str, Any]:
    todo = retirement.todo("purge", ["orders"], [], [])
    retirement.purge(list(todo), WARNINGS.append)
    return todo


def back(version: str) -> str:
    wanted = releases.load_wanted("orders", version)
    job = phases.Job("api-1", [wanted], {}, {}, {}, {}, described=[])
    return release(job)


def fill(host: Path) -> None:
    """What a service itself leaves."""
    for folder in ("data", "cache"):
        (host / folder / "fivepointers-orders").mkdir(parents=True, exist_ok=True)
        (host / folder / "fivepointers-orders" / "file").write_text("x")


def everything(host: Path) -> list[str]:
    """Each path on the host that has the service's name, or lies below one that has."""
    return [str(path) for path in host.rglob("*") if "orders" in str(path.relative_to(host))]


def test_whatever_a_deployed_service_has_is_found_and_a_described_one_is_not(
    system: Path, played: Played, job: MakeJob
) -> None:
    version = release(job("1"))
    fill(system)
    seen = found()["orders"]
    assert seen["has"] == [
        "unit", "boot link", "front", "environment file", "flag", "releases", "state", "data", "cache", "user",
    ]  # fmt: skip
    assert (seen["runs"], seen["release"], seen["retired"]) == (True, version, {})
    assert seen["since"] == releases.read_state("orders")["live"]["since"]
    assert leftovers.undescribed(["orders"], ["orders"]) == {}
    assert set(found()) == {"orders"}, "a person's account is none of ours"


@pytest.mark.parametrize(
    "path, has",
    [
        ("units/fivepointers-orders@green.service", "unit"),
        ("units/wants/fivepointers-orders@blue.service", "boot link"),
        ("units/parked/fivepointers-orders@blue.service", "boot link"),
        ("units/fivepointers-orders_run.timer", "timer"),
        ("units/fivepointers-orders_run.service", "timer"),
        ("units/wants/fivepointers-orders_run.timer", "timer"),
        ("units/parked/fivepointers-orders_run.timer", "timer"),
        ("nginx/fivepointers/front-orders.conf", "front"),
        ("etc/orders/blue.env", "environment file"),
        ("var/orders.green", "flag"),
        ("var/orders.maintenance", "maintenance flag"),
        ("opt/orders/releases/abc/unit", "releases"),
        ("opt/orders/releases.removed/abc/unit", "releases"),
        ("var/orders/state.json", "state"),
    ],
)
def test_each_single_thing_is_found_and_removed(system: Path, path: str, has: str) -> None:
    (system / path).parent.mkdir(parents=True, exist_ok=True)
    (system / path).write_text("{}")
    assert found()["orders"]["has"] == [has]
    if found()["orders"]["runs"] and has != "front":
        assert retire() == {"orders": [has]}
        assert not (system / path).exists()
    if has != "front":
        purge()
        assert everything(system) == []


def test_a_folder_that_only_has_the_name_is_not_a_services(system: Path) -> None:
    """An operator's backups are theirs, until a service of that name leaves something else."""
    for folder in ("data", "cache"):
        (system / folder / "fivepointers-backups").mkdir(parents=True)
    assert found() == {} and retirement.todo("purge", ["backups"], [], []) == {}
    (system / "passwd").write_text("fp-backups:x:990:990::/nonexistent:/usr/sbin/nologin\n")
    assert found()["backups"]["has"] == ["data", "cache", "user"]


@pytest.mark.parametrize(
    "folder", ["data/fivepointers-orders", "cache/fivepointers-orders", "opt/orders", "var/orders"]
)
def test_a_folder_that_a_link_put_elsewhere_is_kept_and_told(
    system: Path, played: Played, job: MakeJob, folder: str
) -> None:
    release(job("1"))
    fill(system)
    retire()
    elsewhere = system / "volume"
    (system / folder).rename(elsewhere)
    (elsewhere / "kept").touch()
    (system / folder).symlink_to(elsewhere)
    purge()
    warning = WARNINGS.pop()
    assert (
        f"{system / folder} was a link to {elsewhere}. The link is removed" in warning
        and "of fp-orders is free" in warning
    )
    assert found() == {} and everything(system) == [] and (elsewhere / "kept").exists()
    assert not list(elsewhere.rglob("environment")), "secrets of releases are none of what is kept"


def test_the_user_is_removed_last(system: Path, played: Played, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    release(job("1"))
    fill(system)
    retire()
    real = systemd.run

    def run(argv: list[str], timeout: float = 0) -> tuple[int, str]:
        return (8, "fp-orders is in use") if argv[0] == "userdel" else real(argv, timeout)

    monkeypatch.setattr(systemd, "run", run)
    with pytest.raises(releases.ReleaseError, match="The user fp-orders cannot be removed: fp-orders is in use"):
        purge()
    assert found()["orders"]["has"] == ["user"] and everything(system) == []
    monkeypatch.setattr(systemd, "run", real)
    purge()
    assert found() == {}


def test_a_front_that_no_release_wrote_is_told(system: Path, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "apply_tree", lambda spec, check=False: {})
    path = system / "nginx/fivepointers/front-orders.conf"
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(
        releases.ReleaseError, match=r"orders: .*/front-orders.conf on api-1 was not written by .*Remove"
    ):
        retire()


def test_what_is_not_a_services_is_not_found(system: Path) -> None:
    for path in (
        "opt/node/24.1.0/bin/node", "opt/synthetic/check.py", "etc/cloudwatch_agent/agent.json", "var/trees/a.json",
        "var/edge.maintenance", "var/lease.json", "var/fence", "nginx/fivepointers/internal.conf",
        "nginx/fivepointers/snippets/server.conf", "units/fivepointers-synthetic.timer", "units/nginx.service",
    ):  # fmt: skip
        (system / path).parent.mkdir(parents=True, exist_ok=True)
        (system / path).touch()
    assert found() == {}


def test_a_host_that_is_no_edge_any_more_is_found_and_ends_to_be_one(
    system: Path, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = system / "nginx/fivepointers/edge.conf"
    path.parent.mkdir(parents=True)
    path.touch()
    (system / "var/edge.maintenance").touch()
    assert leftovers.undescribed(["edge"], []) == {}
    assert found()["edge"]["has"] == ["edge configuration"]

    def apply_tree(spec: dict[str, Any], check: bool = False) -> None:
        assert spec["trees"] == {"nginx_proxy": []} and spec["reload"]
        path.unlink()

    monkeypatch.setattr(phases, "apply_tree", apply_tree)
    retirement.retire("api-1", retirement.todo("retire", ["edge"], [], []), AUTHOR)
    assert found() == {} and list(system.glob("var/*")) == []


def test_the_edge_may_close_a_service_of_another_host(system: Path) -> None:
    (system / "var/orders.maintenance").touch()
    assert leftovers.undescribed([], ["orders"]) == {}
    assert leftovers.undescribed([], [])["orders"]["runs"]
    retire()
    assert everything(system) == [], "a flag alone leaves nothing to come back to"


def test_a_retired_service_keeps_what_it_takes_to_come_back_and_no_more(
    system: Path, played: Played, job: MakeJob
) -> None:
    release(job("1"))
    version = release(job("2"))
    fill(system)
    reloads = played.steps.count("fronts")
    retire()
    assert live(played) == ("", [], [])
    assert played.steps.count("fronts") == reloads + 1
    assert played.timers == {}
    seen = found()["orders"]
    assert (seen["has"], seen["runs"]) == (["releases", "state", "data", "cache", "user"], False)
    assert seen["retired"].items() >= {"release": version, **AUTHOR}.items()
    assert not (system / "etc/orders").exists(), "secrets stay in the releases only"
    before = list(played.steps)
    assert retire() == {} and played.steps == before

    assert back(version) == version
    assert live(played)[0] == version and len(played.enabled) == 1
    assert "retired" not in releases.read_state("orders")
    assert releases.read_state("orders")["live"]["release"] == version


def test_a_deployment_ends_the_retirement(played: Played, job: MakeJob) -> None:
    release(job("1"))
    retire()
    version = release(job("2"))
    assert played.serving() == version and found()["orders"]["retired"] == {}


def test_what_was_never_committed_does_not_come_back(played: Played, job: MakeJob) -> None:
    old = release(job("1"))
    new = job("2")
    phases.prepare(new)
    new.refresh()
    phases.switch(new)
    retire()
    assert found()["orders"]["retired"]["release"] == old


def test_a_first_release_that_was_never_committed_does_not_come_back(played: Played, job: MakeJob) -> None:
    new = job("1")
    phases.prepare(new)
    new.refresh()
    phases.switch(new)
    retire()
    assert found()["orders"]["retired"]["release"] == ""


def test_a_purge_that_was_killed_before_a_deployment_does_not_hinder_the_next(
    system: Path, played: Played, job: MakeJob
) -> None:
    (system / "opt/orders/releases.removed/abc").mkdir(parents=True)
    release(job("1"))
    retire()
    purge()
    assert everything(system) == []


def test_a_service_that_is_described_is_not_retired(played: Played, job: MakeJob) -> None:
    version = release(job("1"))
    with pytest.raises(releases.ReleaseError, match="orders: it is described on this host"):
        retire(described=("orders",))
    with pytest.raises(releases.ReleaseError, match="orders: it was not retired, so it cannot be purged"):
        purge()
    assert played.serving() == version


def test_a_unit_that_does_not_stop_is_told_and_keeps_its_files(
    system: Path, played: Played, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(job("1"))
    monkeypatch.setattr(phases, "stop_quietly", lambda units: None)
    with pytest.raises(releases.ReleaseError, match=r"did not stop. See: systemctl status fivepointers-orders@blue"):
        retire()
    assert found()["orders"]["runs"]


def test_a_kill_at_any_step_of_retiring_is_finished_by_the_next_run(system: Path, played: Played, job: MakeJob) -> None:
    version, done = release(job("1")), False
    kill = 0
    while not done:
        played.steps, played.kill = [], kill
        try:
            retire()
            done = True
        except Killed:
            assert found()["orders"]["release"] == version or found()["orders"]["retired"]["release"] == version
        played.steps, played.kill = [], None
        retire()
        seen = found()["orders"]
        assert (live(played), seen["runs"], seen["retired"]["release"]) == (("", [], []), False, version)
        assert back(version) == version
        kill += 1
    assert kill > 10, "there were that many steps to be killed at"


def test_a_kill_at_any_step_of_purging_is_finished_by_the_next_run(system: Path, played: Played, job: MakeJob) -> None:
    kill, done = 0, False
    while not done:
        version = release(job("1"))
        fill(system)
        retire()
        played.steps, played.kill = [], kill
        try:
            purge()
            done = True
        except Killed:
            assert not found()["orders"]["runs"]
            kept = releases.release_path("orders", version)
            assert os.path.exists(os.path.join(kept, "app")) == os.path.exists(os.path.join(kept, "release.json"))
        played.steps, played.kill = [], None
        purge()
        assert found() == {} and everything(system) == []
        kill += 1
    assert kill > 5


def test_a_renamed_service_does_not_share_a_port_with_the_one_before(
    system: Path, played: Played, job: MakeJob
) -> None:
    release(job("1"))
    renamed = job("2", name="purchases", user="fp-purchases")
    # The played host has one front only, and the old one listens there.
    text = (system / "nginx/fivepointers/front-orders.conf").read_text()
    assert "listen 3001;" in text
    renamed.described = ["purchases"]
    with pytest.raises(releases.ReleaseError) as caught:
        phases.prepare(renamed)
    said = str(caught.value)
    assert "purchases: port 3001 on api-1 is in use by the service 'orders', which runs there and is not" in said
    assert "playbooks/retire.yml -e retire=orders" in said and "another port, and retire 'orders' afterwards" in said
    assert "listen 3001;" in (system / "nginx/fivepointers/front-orders.conf").read_text() and played.serving()
    # Described services move between ports by themselves.
    renamed.described = ["purchases", "orders"]
    phases.check_leftovers(renamed)


def test_what_comes_back_does_not_share_a_port_with_its_successor(played: Played, job: MakeJob) -> None:
    release(job("1"))
    old = job("2", name="purchases", user="fp-purchases")
    old.described = ["orders"]
    with pytest.raises(releases.ReleaseError, match=r"is in use by the service 'orders'. .*Give 'orders' another port"):
        phases.check_leftovers(old)


def test_where_nginx_sends_requests_is_read(system: Path) -> None:
    folder = system / "nginx/fivepointers"
    folder.mkdir(parents=True)
    (folder / "edge.conf").write_text(
        "upstream edge_orders {\n    zone edge_orders 64k;\n    server 10.0.0.1:3001 max_fails=2;\n"
        "    server 10.0.0.2:3001;\n}\nserver {\n    listen 80;\n    server_name x;\n}\n"
    )
    assert leftovers.upstreams() == {"edge_orders": ["10.0.0.1:3001", "10.0.0.2:3001"]}
