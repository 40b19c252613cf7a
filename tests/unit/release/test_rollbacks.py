# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Where a rollback goes, and what it refuses, from what hosts say."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import rollbacks


def look(*line: tuple[str, str], kept: str = "", **changes: Any) -> dict[str, Any]:
    """What a host says of a service on which these (release, deployment) were live one after the other."""
    history = [
        {"release": release, "slot": "blue", "since": deployment, "deployment": deployment, "by": "someone@somewhere"}
        for release, deployment in line
    ]
    names = kept.split() or [release for release, _deployment in line]
    return {
        "live": history[-1] if history else {},
        "pending": {},
        "previous": line[-2][0] if len(line) > 1 else "",
        "held": {},
        "history": history,
        "kept": [
            {"release": name, "artifact": f"art-{name}", "staged": 1.7e9, "bytes": 2_500_000, "schema": []}
            for name in names
        ],
        "schema": [],
        **changes,
    }


def migration(name: str, contract: bool = False, applied: bool = True) -> dict[str, Any]:
    return {"name": name, "applied": applied, "contract": contract, "known": True}


STACK = {
    "api-1": {"api": look(("a1", "d1"), ("a2", "d2"), ("a3", "d4"))},
    "api-2": {"api": look(("a1", "d1"), ("a2", "d2"), ("a3", "d4"))},
    "web-1": {"web": look(("w1", "d1"), ("w2", "d3"))},
    "all-1": {"sites": look(("s1", "d1"), ("s2", "d4"))},
}


@pytest.mark.parametrize(
    "services, to, expected",
    [
        (None, None, {"api": "a2", "sites": "s1"}),
        (["web"], None, {"web": "w1"}),
        (["api", "web"], None, {"api": "a2", "web": "w1"}),
        (["api"], "a1", {"api": "a1"}),
        (["api"], "art-a2", {"api": "a2"}),
        (["api"], "d1", {"api": "a1"}),
        (None, "d3", {"api": "a2", "sites": "s1"}),
        (None, "d2", {"api": "a2", "web": "w1", "sites": "s1"}),
    ],
)
def test_where_it_goes(services: list[str] | None, to: str | None, expected: dict[str, str]) -> None:
    assert rollbacks.rollback_targets(STACK, services, to) == expected


def test_a_deployment_that_broke_off_is_what_the_stack_goes_back_from() -> None:
    switched = {"release": "a4", "slot": "blue", "before": {"release": "a3", "slot": "green"}, "deployment": "d5"}
    stack = {**STACK, "api-1": {"api": {**STACK["api-1"]["api"], "pending": switched}}}
    stack["api-2"] = {"api": {**STACK["api-2"]["api"], "pending": switched}}
    assert rollbacks.rollback_targets(stack, None, None) == {"api": "a3"}
    assert rollbacks.rollback_targets(stack, ["api"], None) == {"api": "a3"}
    # The other host took its switch back by itself.
    stack["api-2"] = STACK["api-2"]
    assert rollbacks.rollback_targets(stack, None, None) == {"api": "a3"}
    assert rollbacks.rollback_targets(stack, ["api"], None) == {"api": "a3"}


@pytest.mark.parametrize(
    "looks, services, to, told",
    [
        ({"h": {"api": look(("a1", "d1"))}}, None, None, "api: deployment d1 was its first"),
        ({"h": {"api": look(("a1", "d1"))}}, ["api"], None, "it has no release before the live one"),
        (STACK, ["api"], "a9", "release 'a9' is not kept on api-1. Kept releases: a1, a2, a3"),
        (STACK, ["apo"], None, "these hosts run no service 'apo'.*api, sites, web"),
        (STACK, ["api"], "a3", "a3 is already live"),
        ({"h": {"api": look()}}, None, None, "Nothing to roll back to"),
        (
            {
                "h": {"api": look(("a1", "d1"), ("a2", "d2"), kept="a2")},
                "i": {"web": look(("w1", "d1"), ("w2", "d2"), kept="w2")},
            },
            None,
            None,
            "(?s)api: release 'a1' is not kept on h.*web: release 'w1' is not kept on i",
        ),
        (
            {"h": {"api": look(("a1", "d1"), ("a2", "d2"))}, "i": {"api": look(("a0", "d0"), ("a2", "d2"))}},
            ["api"],
            None,
            "different releases .h: a1, i: a0",
        ),
    ],
)
def test_what_it_refuses(looks: Any, services: list[str] | None, to: str | None, told: str) -> None:
    with pytest.raises(rollbacks.RollbackError, match=told):
        rollbacks.rollback_targets(looks, services, to)


@pytest.mark.parametrize(
    "applied, known, refused",
    [
        ([migration("one"), migration("two")], [migration("one")], False),
        ([migration("one"), migration("two", contract=True)], [migration("one")], True),
        ([migration("one"), migration("two", contract=True, applied=False)], [migration("one")], False),
        ([migration("one", contract=True)], [migration("one", contract=True)], False),
        ([], [], False),
    ],
)
def test_a_schema_that_moved_past_the_old_code_is_no_way_back(
    applied: list[dict[str, Any]], known: list[dict[str, Any]], refused: bool
) -> None:
    host = look(("a1", "d1"), ("a2", "d2"), schema=applied)
    host["kept"][0]["schema"] = known
    # A host that came first before another was added recorded what ran then.
    other = look(("a1", "d1"), ("a2", "d2"), schema=[migration("one")] if known else [])
    looks = {"api-1": {"api": other}, "api-2": {"api": host}}
    if refused:
        with pytest.raises(rollbacks.RollbackError, match="moved past release a1: two removed or narrowed"):
            rollbacks.rollback_targets(looks, None, None)
    else:
        assert rollbacks.rollback_targets(looks, None, None) == {"api": "a1"}


def test_the_table_says_what_is_what() -> None:
    stack = {**STACK, "api-1": {"api": look(("a1", "d1"), ("a2", "d2"), ("a3", "d4"), held={"slot": "blue"})}}
    lines = rollbacks.releases_table(stack, ["api", "web"]).splitlines()
    assert lines[0].split()[:4] == ["service", "host", "release", "artifact"]
    assert [line.split()[:3] for line in lines[1:4]] == [["api", "api-1", name] for name in ("a1", "a2", "a3")]
    assert "previous, still running" in lines[2] and "live" in lines[3] and "someone@somewhere" in lines[3]
    assert not any(line.startswith("sites") for line in lines)
    assert lines[3].split()[-1] == "2.5"


def test_the_table_says_when_something_runs_next_and_how_it_went() -> None:
    ended = {"ended": "2026-11-30T18:00:04Z", "release": "a2", "result": "success", "status": "0"}
    timers: list[dict[str, str]] = [
        {"next": "Tue 2026-12-01 18:00:00 UTC", "running": "", **ended},
        {"next": "", "running": "yes", **ended, "result": "exit-code", "status": "1"},
        {"next": "Tue 2026-12-01 18:00:00 UTC", "running": ""},
    ]
    lines = []
    for timer in timers:
        looks = {"api-1": {"api": {**look(("a1", "d1"), ("a2", "d2")), "timer": timer}}}
        lines.append(rollbacks.releases_table(looks, ["api"]).splitlines()[-1])
    assert lines[0] == (
        "api on api-1: next run Tue 2026-12-01 18:00:00 UTC; "
        "the last run, of release a2, ended well at 2026-11-30T18:00:04Z"
    )
    assert "a run is going on; next run unknown" in lines[1] and "ended with exit-code (status 1)" in lines[1]
    assert lines[2].endswith("no run has ended yet")


# --- deployments by their number ----------------------------------------------------------


def numbered(*line: tuple[str, str, int], **changes: Any) -> dict[str, Any]:
    """What a host says of a service: (release, deployment, number), with no number where it is 0."""
    found = look(*((release, deployment) for release, deployment, _number in line), **changes)
    for entry, (_release, _deployment, number) in zip(found["history"], line, strict=True):
        entry.update({"number": number} if number else {})
    return found


# The clock of the second deployment was ten years ahead, the first was made by an earlier version.
AHEAD = {
    "api-1": {"api": numbered(("a1", "2026-d1", 0), ("a2", "2036-d2", 2), ("a3", "2026-d4", 4))},
    "web-1": {"web": numbered(("w1", "2026-d1", 0), ("w2", "2036-d2", 2))},
    "all-1": {"sites": numbered(("s1", "2026-d1", 0), ("s2", "2026-d3", 3))},
}


@pytest.mark.parametrize(
    "to, expected",
    [
        (None, {"api": "a2"}),
        ("2026-d3", {"api": "a2"}),
        ("2036-d2", {"api": "a2", "sites": "s1"}),
        ("2026-d1", {"api": "a1", "web": "w1", "sites": "s1"}),
    ],
)
def test_deployments_are_ordered_by_number_whatever_clocks_said(to: str | None, expected: dict[str, str]) -> None:
    assert rollbacks.rollback_targets(AHEAD, None, to) == expected


def test_of_switches_that_broke_off_the_one_with_the_highest_number_counts() -> None:
    def pending(release: str, deployment: str, number: int) -> dict[str, Any]:
        before = {"release": "a1", "slot": "green"}
        return {"release": release, "slot": "blue", "before": before, "deployment": deployment, "number": number}

    looks = {
        "h": {"api": look(("a1", "d1"), pending=pending("a2", "2036-d2", 2))},
        "i": {"web": look(("w1", "d1"), pending=pending("w2", "2026-d3", 3))},
    }
    assert rollbacks.last_deployment(looks) == "2026-d3"


# --- the secrets of now ----------------------------------------------------------------------

KNOWN = {name: {"name": name, "variable": name} for name in ("jwt", "database.password", "other")}


def keeping(release: str, secrets: list[str] | None) -> dict[str, Any]:
    found = look((release, "d1"), ("a9", "d2"))
    found["kept"][0]["secrets"] = secrets
    return found


def test_it_takes_the_secrets_that_its_releases_use_and_no_others() -> None:
    looks = {"h": {"api": keeping("a1", ["jwt", "database.password"])}, "i": {"web": keeping("w1", [])}}
    found = rollbacks.recall(looks, {"api": "a1", "web": "w1"}, KNOWN, "now")
    assert found.names == {"api": ["database.password", "jwt"], "web": []}
    assert found.references == [KNOWN["database.password"], KNOWN["jwt"]]
    assert found.told == {"api": "secrets of now", "web": "no secrets"}


def test_with_the_values_of_then_it_needs_no_access_to_secrets() -> None:
    looks = {"h": {"api": keeping("a1", ["jwt", "gone"])}}
    found = rollbacks.recall(looks, {"api": "a1"}, KNOWN, "then")
    assert (found.names, found.references, found.told) == ({}, [], {"api": "secrets of then"})


def test_a_secret_that_is_gone_is_named_with_the_way_out() -> None:
    looks = {"h": {"api": keeping("a1", ["jwt", "gone", "off"])}, "i": {"web": keeping("w1", ["late"])}}
    with pytest.raises(rollbacks.RollbackError, match=r"api: release a1 uses the secret 'gone', 'off'") as error:
        rollbacks.recall(looks, {"api": "a1", "web": "w1"}, KNOWN, "now")
    assert str(error.value).count("-e secrets=then") == 2 and "web: release w1 uses the secret 'late'" in str(
        error.value
    )


def test_what_one_host_does_not_know_comes_back_as_it_was_on_all() -> None:
    looks = {"h": {"api": keeping("a1", ["jwt"])}, "i": {"api": keeping("a1", None)}}
    found = rollbacks.recall(looks, {"api": "a1"}, KNOWN, "now")
    assert (found.names, found.references) == ({}, [])
    assert found.told["api"].startswith("secrets of then, since an earlier version")


def test_another_word_is_refused_and_not_shown() -> None:
    with pytest.raises(rollbacks.RollbackError, match="neither now nor then") as error:
        rollbacks.recall({}, {}, KNOWN, "hush")
    assert "hush" not in str(error.value)
