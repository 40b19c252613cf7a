# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The lock of an environment: one holder, whatever hosts are called, whatever clocks show, whoever dies."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.lock_table import TableStore
from ansible_collections.fivepointers.platform.plugins.module_utils.common import register
from ansible_collections.fivepointers.platform.plugins.module_utils.release import leases
from hypothesis import given
from hypothesis import strategies as some
from moto import mock_aws


def claim(record: register.Record, age: float, holder: str, fence: int = 0) -> dict[str, Any]:
    return register.claimed(record, age, holder, "ann@desk", "2026-01-01 00:00:00 UTC", fence)


# --- one register -----------------------------------------------------------------


def test_one_holds_the_lock_and_the_other_is_told_who() -> None:
    record = claim({}, 0, "one")
    with pytest.raises(register.HeldError, match=r"(?s)one, by ann@desk, since 2026-01-01 00:00:00 UTC.*in 50 s"):
        claim(record, 10, "two")


def test_a_silent_holder_loses_it_and_its_successor_has_a_higher_number() -> None:
    record = claim({}, 0, "one")
    after = claim(record, register.LEASE, "two")
    assert after["number"] > record["number"]
    for change in (register.renewed, register.released):
        with pytest.raises(register.LostError, match="two has it now, by ann@desk"):
            change(after, "one")


def test_a_lock_that_was_given_back_is_free_at_once() -> None:
    assert claim(register.released(claim({}, 0, "one"), "one"), 0, "two")["id"] == "two"


def test_the_number_is_higher_than_any_that_was_at_work() -> None:
    assert claim({}, 0, "one", fence=41)["number"] == 42
    assert claim({"id": "x", "number": 50, "released": True}, 0, "one", fence=41)["number"] == 51
    assert register.renewed(claim({}, 0, "one"), "one", 7, {"m": "a"})["number"] == 7


def test_the_lock_outlives_renewals_that_come_late() -> None:
    assert register.LEASE >= 3 * register.RENEWAL


def test_a_claim_waits_for_a_run_that_is_just_ending() -> None:
    store = Kept(claim({}, 0, "one"))

    def sleep(_seconds: float) -> None:
        store.record = register.released(store.record, "one")

    assert register.claim(store, "two", "bob", "now", sleep=sleep)["id"] == "two"


class Kept(register.Store):
    """A register that is kept here, with an age that is told."""

    def __init__(self, record: register.Record, age: float = 0) -> None:
        self.record, self.age = record, age

    def update(self, change: Callable[[register.Record, float], dict[str, Any]]) -> dict[str, Any]:
        self.record = change(self.record, self.age)
        return dict(self.record)


# --- a register on each host --------------------------------------------------------


def answer(mine: bool, member: str, number: int = 5, **members: str) -> dict[str, Any]:
    return {"mine": mine, "member": member, "number": number, "members": members, "problem": "" if mine else "two"}


def test_every_host_that_answers_has_to_be_ours() -> None:
    claims = {"a": answer(True, "A", 3), "b": answer(True, "B", 9), "c": answer(True, "C", 4)}
    assert register.agreement(claims, ["a", "b", "c"], []) == (9, {"A": "a", "B": "b", "C": "c"}, [])
    # One that another run has is enough to wait: its watch would take back what this one switches there.
    claims["c"] = answer(False, "C")
    assert register.agreement(claims, ["a", "b", "c"], [])[2] == ["two"]


def test_an_environment_that_grows_has_one_lock() -> None:
    """The first run has the only host; the second one sees three."""
    claims = {"a": answer(False, "A", 7, A="a"), "b": answer(True, "B", 1), "c": answer(True, "C", 1)}
    for intended in (0, 3):
        assert register.agreement(claims, ["a", "b", "c"], [], intended)[2] == ["two"]


def test_a_host_that_was_replaced_under_its_name_is_the_new_one() -> None:
    claims = {"a": answer(True, "A", A="a", B="b"), "b": answer(True, "B2")}
    assert register.agreement(claims, ["a", "b"], [])[1:] == ({"A": "a", "B2": "b"}, [])
    # A new one that does not answer yet is recorded when it does.
    first = register.agreement({"a": answer(True, "A"), "b": answer(True, "B")}, ["a", "b", "c"], [])
    assert first[1:] == ({"A": "a", "B": "b"}, [])


def test_to_stop_an_environment_the_hosts_that_run_are_enough() -> None:
    claims = {"a": answer(True, "A", A="a", B="b", C="c")}
    assert register.agreement(claims, ["a"], [], -1)[1:] == ({"A": "a"}, [])


def test_two_inventories_of_one_environment_have_one_lock() -> None:
    """The names differ, and so does the order: the hosts are the same."""
    holders: dict[str, str] = {}
    wins = []
    for run, names in (("one", {"a": "A", "b": "B", "c": "C"}), ("two", {"x": "C", "y": "B", "z": "A"})):
        claims = {name: answer(holders.setdefault(member, run) == run, member) for name, member in names.items()}
        wins.append(register.agreement(claims, list(names), [])[2] == [])
    assert wins == [True, False]


def test_hosts_that_the_last_run_had_do_not_vanish_without_a_word() -> None:
    members = {"A": "a", "B": "b", "C": "c"}
    claims = {"a": answer(True, "A", **members), "b": answer(True, "B", **members)}
    problem = register.agreement(claims, ["a", "b"], [])[2]
    assert len(problem) == 1 and "lacks c" in problem[0] and "-e hosts_gone=c" in problem[0]
    assert register.agreement(claims, ["a", "b"], ["c"])[1:] == ({"A": "a", "B": "b"}, [])
    # A host with another name is the same host.
    renamed = {"a": claims["a"], "other": claims["b"], "c": answer(True, "C")}
    assert register.agreement(renamed, sorted(renamed), [])[1:] == ({"A": "a", "B": "other", "C": "c"}, [])
    # The environment describes two by now.
    assert register.agreement(claims, ["a", "b"], [], 2)[1:] == ({"A": "a", "B": "b"}, [])
    assert register.agreement(claims, ["a", "b"], [], 3)[2]
    assert "b is in the inventory" in register.agreement(claims, ["a", "b"], ["b", "c"])[2][0]


def test_fewer_hosts_than_the_environment_describes_are_refused() -> None:
    claims = {"a": answer(True, "A")}
    assert (
        "has 1 hosts, and platform_environment.aws.hosts describes 2" in register.agreement(claims, ["a"], [], 2)[2][0]
    )
    assert register.agreement(claims, ["a"], ["b"], 2)[2] == []


def test_a_host_that_does_not_answer_counts_as_one() -> None:
    claims = {"a": answer(True, "A", A="a", B="b"), "c": answer(True, "C")}
    _number, members, problems = register.agreement(claims, ["a", "b", "c"], [])
    assert (members, problems) == ({"A": "a", "B": "b", "C": "c"}, [])
    alone = register.agreement({"a": claims["a"]}, ["a", "b", "c"], [])[2]
    assert "1 of 3 hosts answered" in alone[0] and "b, c" in alone[0]


@given(some.lists(some.tuples(some.sampled_from("xyz"), some.integers(0, 4), some.booleans()), max_size=60))
def test_of_any_runs_at_most_one_has_a_majority(steps: list[tuple[str, int, bool]]) -> None:
    """Claims and releases in any order, by any run, on any of five hosts."""
    hosts: list[Kept] = [Kept({}) for _number in range(5)]
    numbers: list[int] = []
    for run, host, back in steps:
        with contextlib.suppress(register.HeldError, register.LostError):
            hosts[host].update(
                lambda record, age, run=run, back=back: (
                    register.released(record, run) if back else claim(record, age, run)
                )
            )
        held = [kept.record.get("id") for kept in hosts if register.held(kept.record, 0)]
        assert len([name for name in set(held) if 2 * held.count(name) > len(hosts)]) <= 1
        numbers.append(max(int(kept.record.get("number", 0)) for kept in hosts))
    assert numbers == sorted(numbers)


# --- a host's file --------------------------------------------------------------------


def test_a_clock_that_is_years_ahead_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = leases.HostStore(str(tmp_path))
    for ahead in (3.2e8, -3.2e8):
        monkeypatch.setattr(time, "time", lambda ahead=ahead: 1.8e9 + ahead)
        first = register.claim(store, f"a{ahead}", "ann", "now")
        with pytest.raises(register.HeldError):
            store.update(lambda record, age: claim(record, age, "other"))
        store.update(lambda record, _age, first=first: register.released(record, first["id"]))
    numbers = leases.read_lease(str(tmp_path / "lease.json"))["number"]
    assert numbers == 2


def test_a_host_knows_by_its_monotonic_clock_when_a_holder_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = leases.HostStore(str(tmp_path)), [1000.0]
    monkeypatch.setattr(leases, "monotonic", lambda: now[0])
    register.claim(store, "one", "ann", "now")
    now[0] += register.LEASE - 1
    store.update(lambda record, _age: register.renewed(record, "one"))
    now[0] += register.LEASE - 1
    with pytest.raises(register.HeldError):
        store.update(lambda record, age: claim(record, age, "two"))
    now[0] += 1
    assert register.claim(store, "two", "bob", "now")["number"] == 2
    # After a boot, nobody knows how long ago the last beat was: a minute of this boot has to pass.
    monkeypatch.setattr(leases, "BOOT_ID", str(tmp_path / "another"))
    now[0] = 10.0
    with pytest.raises(register.HeldError):
        store.update(lambda record, age: claim(record, age, "three"))


def test_the_lease_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    old = {"id": "x", "number": 1764546183000, "by": "ann", "since": 1764546183.5, "expires": 2e12}
    (tmp_path / "lease.json").write_text(json.dumps(old))
    assert register.claim(leases.HostStore(str(tmp_path)), "one", "bob", "now")["number"] == 1764546183001


# --- a table ----------------------------------------------------------------------------


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("dynamodb", region_name="ap-northeast-2")
        client.create_table(
            TableName="locks",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "environment", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "environment", "AttributeType": "S"}],
        )
        yield client


@pytest.mark.slow
def test_a_table_gives_the_lock_to_one_of_two_that_read_it_free(table: Any) -> None:
    """moto is no judge of threads: the other one comes between the reading and the writing of the first."""
    one, two = (TableStore(table, "locks", "production") for _number in range(2))
    looks = []

    def overtaken(record: register.Record, age: float) -> dict[str, Any]:
        looks.append(dict(record))
        if len(looks) == 1:
            two.update(lambda record, age: claim(record, age, "two"))
        return claim(record, age, "one")

    with pytest.raises(register.HeldError, match="two, by ann@desk"):
        one.update(overtaken)
    assert [look.get("id") for look in looks] == [None, "two"], "it looked again"
    two.update(lambda record, _age: register.released(record, "two"))
    assert one.update(lambda record, age: claim(record, age, "one"))["number"] == 2
    assert TableStore(table, "locks", "staging").update(lambda record, age: claim(record, age, "s"))["number"] == 1


@pytest.mark.slow
def test_a_claimant_watches_a_table_and_takes_over_from_the_dead_only(table: Any) -> None:
    now = [0.0]
    holder = TableStore(table, "locks", "production")
    holder.update(lambda record, age: claim(record, age, "one"))
    other = TableStore(table, "locks", "production", clock=lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] == register.RENEWAL:
            holder.update(lambda record, _age: register.renewed(record, "one"))

    with pytest.raises(register.HeldError):
        register.claim(other, "two", "bob", "now", clock=lambda: now[0], sleep=sleep)
    assert now[0] == register.RENEWAL + register.POLL or now[0] == register.RENEWAL
    begun = now[0]
    assert register.claim(other, "two", "bob", "now", clock=lambda: now[0], sleep=sleep)["number"] == 2
    assert now[0] - begun == register.LEASE
    with pytest.raises(register.LostError):
        holder.update(lambda record, _age: register.renewed(record, "one"))
