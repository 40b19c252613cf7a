# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The plan of a tree: a pure function, with laws that hold for every tree and every host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common.config_tree import (
    File,
    Found,
    Plan,
    TreeError,
    plan_trees,
)
from hypothesis import given
from hypothesis import strategies as st

ROOT = "/etc/x"
PATHS = [f"{ROOT}/{name}" for name in "abcde"]

found_files = st.builds(
    Found,
    kind=st.just("file"),
    content=st.sampled_from([b"1", b"2", b""]),
    mode=st.sampled_from([0o644, 0o600]),
    uid=st.just(0),
    gid=st.just(0),
)
hosts = st.fixed_dictionaries({path: st.one_of(st.just(Found()), found_files) for path in PATHS})
wanted_files = st.dictionaries(
    st.sampled_from(PATHS), st.tuples(st.sampled_from([b"1", b"2", b""]), st.sampled_from([0o644, 0o600]))
).map(lambda items: {path: File(path, content, mode, 0, 0) for path, (content, mode) in items.items()})


def carry_out(
    plan: Plan, files: dict[str, File], host: dict[str, Found], originals: dict[str, Found]
) -> tuple[dict[str, Found], dict[str, Found]]:
    """Do to a dictionary what apply_tree does to a disk."""
    host, originals = dict(host), dict(originals)
    for path in plan.adopt:
        originals[path] = host[path]
    for path in plan.write:
        file = files[path]
        host[path] = Found("file", file.content, file.mode, file.uid, file.gid)
    for path in plan.restore:
        host[path] = originals.pop(path)
    for path in plan.remove:
        host[path] = Found()
    return host, originals


def manifests_after(plan: Plan, manifests: dict[str, Any]) -> dict[str, Any]:
    result = {**manifests, **plan.manifests}
    return {owner: manifest for owner, manifest in result.items() if manifest["files"]}


@given(st.lists(wanted_files, min_size=1, max_size=4), hosts)
def test_any_sequence_of_trees_ends_as_described(sequence: list[dict[str, File]], host: dict[str, Found]) -> None:
    first, manifests, originals = dict(host), {}, {}
    for files in sequence:
        plan = plan_trees({"web": files}, frozenset(), ROOT, manifests, host)
        host, originals = carry_out(plan, files, host, originals)
        manifests = manifests_after(plan, manifests)
        for path, file in files.items():
            assert host[path] == Found("file", file.content, file.mode, 0, 0)
        assert plan_trees({"web": files}, frozenset(), ROOT, manifests, host).empty
    plan = plan_trees({"web": {}}, frozenset(), ROOT, manifests, host)
    host, originals = carry_out(plan, {}, host, originals)
    manifests = manifests_after(plan, manifests)
    assert manifests == {} and originals == {}
    assert host == first


@given(wanted_files, wanted_files, hosts)
def test_an_owner_never_touches_what_is_anothers(
    mine: dict[str, File], others: dict[str, File], host: dict[str, Found]
) -> None:
    plan = plan_trees({"other": others}, frozenset(), ROOT, {}, host)
    host, _originals = carry_out(plan, others, host, {})
    manifests = manifests_after(plan, {})
    clash = set(mine) & set(others)
    if clash:
        with pytest.raises(TreeError, match="belongs to the tree 'other', and 'web' wants it too"):
            plan_trees({"web": mine}, frozenset(), ROOT, manifests, host)
    else:
        plan = plan_trees({"web": mine}, frozenset(), ROOT, manifests, host)
        assert not set(plan.write + plan.remove + plan.restore) & set(others)


@given(wanted_files, hosts)
def test_nothing_is_removed_that_was_never_owned(files: dict[str, File], host: dict[str, Found]) -> None:
    plan = plan_trees({"web": files}, frozenset(), ROOT, {}, host)
    assert plan.remove == plan.restore == []
    assert set(plan.write) <= set(files)
