# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The plan: what differs, and what therefore has to be done."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases

from .conftest import make_manifest, make_request, make_spec

RUNNING = systemd.UnitState("u", load="loaded", active="active", sub="running", pid=7)
STOPPED = systemd.UnitState("u", load="loaded")
FAILED = systemd.UnitState("u", load="loaded", active="failed")


def wanted(kind: str = "nestjs_api", **changes: Any) -> releases.Wanted:
    return releases.Wanted(**make_request(make_spec(kind, **changes)))


def seen(item: releases.Wanted, live: str | None = "blue", **changes: Any) -> releases.Seen:
    """A host on which the wanted release is live and well."""
    process = item.process
    slots = {slot: releases.Slot() for slot in releases.SLOTS}
    if live:
        slots[live] = releases.Slot(item.release, True, process, RUNNING if process else systemd.UNKNOWN)
    record = {"artifact": item.artifact, "parts": item.parts, "wanted": {"commit": item.commit}}
    state: dict[str, Any] = {
        "account": True,
        "runtime": True,
        "releases": {item.release: record} if live else {},
        "slots": slots,
        "flag": live or "blue",
        "live": live,
        "front": item.front if live else None,
        "recorded": (item.release, live) if live else ("", ""),
    }
    return releases.Seen(**{**state, **changes})


def slot(host: releases.Seen, name: str, **changes: Any) -> releases.Seen:
    return dataclasses.replace(host, slots={**host.slots, name: dataclasses.replace(host.slots[name], **changes)})


@pytest.mark.parametrize("live", ["blue", "green"])
@pytest.mark.parametrize("kind", ["nestjs_api", "static_frontend", "nextjs", "yjs_websocket"])
def test_what_is_live_and_well_is_left_alone(kind: str, live: str) -> None:
    item = wanted(kind)
    plan = releases.plan(item, seen(item, live))
    assert (plan.changed, plan.live, plan.slot, plan.steps, plan.stage) == (False, live, live, (), "")


def test_a_bare_host_gets_everything_into_blue() -> None:
    item = wanted(migrate=["node", "dist/migrate.js"])
    plan = releases.plan(item, seen(item, None, account=False, runtime=False))
    assert (plan.live, plan.serving, plan.slot, plan.stage, plan.ready) == (None, "", "blue", "archive", False)
    steps = " / ".join(plan.steps)
    for text in ("create the user fp-orders", "send and unpack", "127.0.0.1:13001", "migrations", "port 3001"):
        assert text in steps
    assert "stop" not in steps
    assert plan.reasons == ("it is not deployed on this host yet",)


@pytest.mark.parametrize("live", ["blue", "green"])
def test_another_release_goes_into_the_other_slot(live: str) -> None:
    old, new = wanted(), wanted(environment={"PORT": "${self.port}", "A": "2"}, secrets=[])
    plan = releases.plan(new, seen(old, live))
    assert (plan.live, plan.slot, plan.serving, plan.candidate) == (live, releases.other(live), old.release, True)
    assert plan.reasons == (f"its environment differs ({new.parts['environment']}, was {old.parts['environment']})",)
    # The same code is there already: nothing has to be sent.
    assert plan.stage == old.release
    assert f"from slot {live} (release {old.release})" in plan.steps[-2]
    assert plan.steps[-1] == f"stop fivepointers-orders@{live}.service after 10 s"


def test_another_archive_of_the_same_artifact_is_other_code() -> None:
    """The id is a digest of what went into a build. What came out may be another thing, by chance or on purpose."""
    old = wanted()
    new = releases.Wanted(**make_request(manifest=make_manifest(archive_sha256="c" * 64)))
    plan = releases.plan(new, seen(old))
    assert (new.artifact, new.release == old.release) == (old.artifact, False)
    assert plan.stage == "archive", "its files are not those on the host"
    assert plan.reasons == (f"its code differs ({'a' * 16}:{'c' * 16}, was {'a' * 16}:{'b' * 16})",)


def test_older_code_is_told() -> None:
    def built(name: str, seconds: int | None) -> releases.Wanted:
        commit = {"commit": {"id": name * 40, "time": seconds, "dirty": False}} if seconds else {}
        return releases.Wanted(**make_request(manifest=make_manifest(id=name * 16, **commit)))

    new, old, unknown = built("a", 1_800_000_000), built("b", 1_700_000_000), built("c", None)
    assert "commit bbbbbbbbbbbb (2023-11-14 22:13 UTC), which is older" in releases.plan(old, seen(new)).older
    assert "names no commit" in releases.plan(unknown, seen(new)).older
    # The same code again, with a later commit: what is between is older.
    assert releases.plan(new, seen(old, commit={"id": "c" * 40, "time": 1_900_000_000})).older
    for item, live in ((new, old), (old, unknown), (new, new)):
        assert releases.plan(item, seen(live)).older == ""
    # Other settings for the same code are no step back.
    assert releases.plan(dataclasses.replace(new, release="0" * 12, commit=old.commit), seen(new)).older == ""


def test_every_part_that_differs_is_named() -> None:
    old = wanted()
    new = dataclasses.replace(old, release="0" * 12, parts=dict.fromkeys(releases.PARTS, "new"))
    reasons = releases.plan(new, seen(old)).reasons
    assert [reason.split()[1] for reason in reasons] == list(releases.PARTS)


def test_a_prepared_candidate_only_waits_for_the_switch() -> None:
    old, new = wanted(), wanted(memory="2G")
    state = seen(old)
    record = {"artifact": new.artifact, "parts": new.parts}
    state = dataclasses.replace(state, releases={**state.releases, new.release: record})
    state = slot(state, "green", release=new.release, faithful=True, state=RUNNING)
    plan = releases.plan(new, state)
    assert plan.ready and plan.stage == "" and len(plan.steps) == 2
    for change in ({"faithful": False}, {"state": FAILED}, {"state": STOPPED}, {"release": old.release}):
        assert not releases.plan(new, slot(state, "green", **change)).ready


@pytest.mark.parametrize(
    "change, told",
    [
        ({"faithful": False}, "changed manually"),
        ({"state": STOPPED}, "is not running (inactive)"),
        ({"state": FAILED}, "is not running (failed)"),
        ({"state": dataclasses.replace(RUNNING, load="not-found")}, "is not running"),
    ],
)
def test_a_live_slot_that_is_not_well_is_replaced_without_a_gap(change: dict[str, Any], told: str) -> None:
    item = wanted(migrate=["node", "dist/migrate.js"])
    plan = releases.plan(item, slot(seen(item), "blue", **change))
    assert plan.candidate and plan.slot == "green" and told in plan.reasons[0]
    assert not plan.migrate, "the schema is that of this release already"


def test_a_process_that_is_being_restarted_is_left_to_systemd() -> None:
    item = wanted()
    restarting = systemd.UnitState("u", load="loaded", active="activating", sub="auto-restart")
    assert not releases.plan(item, slot(seen(item), "blue", state=restarting)).changed


def test_open_sockets_that_would_move_are_counted() -> None:
    old, new = wanted("yjs_websocket"), wanted("yjs_websocket", memory="2G")
    steps = releases.plan(new, dataclasses.replace(seen(old), sockets=12)).steps
    assert "move its 12 open sockets, document by document" in steps
    assert not any("sockets" in step for step in releases.plan(new, seen(old)).steps)


@pytest.mark.parametrize(
    "slot_name, change, told",
    [
        ("blue", {"enabled": False}, "enable slot blue at boot"),
        ("green", {"state": RUNNING}, "stop slot green"),
        ("green", {"state": FAILED, "enabled": True}, "stop slot green"),
    ],
)
def test_what_a_broken_off_run_left_is_repaired_without_a_candidate(
    slot_name: str, change: dict[str, Any], told: str
) -> None:
    item = wanted()
    plan = releases.plan(item, slot(seen(item), slot_name, **change))
    assert plan.changed and not plan.candidate and told in plan.repairs[0]


def test_a_front_that_was_changed_is_put_back() -> None:
    item = wanted("static_frontend")
    plan = releases.plan(item, seen(item, front="# changed"))
    assert plan.front and not plan.candidate and "restore its front" in plan.repairs[0]


@pytest.mark.parametrize("recorded", [("", ""), ("0" * 12, "blue")])
def test_a_switch_that_was_not_noted_is_noted(recorded: tuple[str, str]) -> None:
    item = wanted()
    plan = releases.plan(item, seen(item, recorded=recorded))
    assert not plan.candidate and "record that it is live" in plan.repairs[0]


def test_migrations_run_on_the_first_host_only() -> None:
    spec = make_spec(migrate=["node", "dist/migrate.js"])
    for host, runs in (("api-1", True), ("api-2", False)):
        item = releases.Wanted(**make_request(spec, host=host))
        assert releases.plan(item, seen(item, None)).migrate is runs
        assert ("run its migrations" in releases.plan(item, seen(item, None)).steps) is runs


def test_migrations_of_a_first_release_run_before_it_is_started_and_others_after() -> None:
    old, new = wanted(), wanted(migrate=["node", "dist/migrate.js"])
    for host, elsewhere, first in ((seen(new, None), "", True), (seen(new, None), "r1", False), (seen(old), "", False)):
        plan = releases.plan(new, host, elsewhere)
        started = next(number for number, step in enumerate(plan.steps) if step.startswith("start "))
        assert plan.migrates_first is first
        assert (plan.steps.index("run its migrations") < started) is first


def test_no_plan_ever_touches_the_live_slot() -> None:
    """Whatever is found: a candidate never goes where requests go."""
    old, new = wanted(), wanted(memory="2G")
    states = [RUNNING, STOPPED, FAILED, systemd.UNKNOWN]
    for live, item, faithful, state, idle in itertools.product(
        ["blue", "green"], [old, new], [True, False], states, states
    ):
        host = slot(seen(old, live), live, faithful=faithful, state=state)
        host = slot(host, releases.other(live), release=new.release, state=idle)
        plan = releases.plan(item, host)
        assert plan.slot != live or not plan.candidate
        assert bool(plan.steps) == plan.changed
