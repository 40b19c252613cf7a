# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Files of a host that hold anything: a sentence that names the file, and never an exception that names a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import register
from ansible_collections.fivepointers.platform.plugins.module_utils.release import files, leases, releases
from ansible_collections.fivepointers.platform.plugins.modules import release
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEYS = ["release", "slot", "until", "before", "since", "deployment"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["release", "slot", "until", "before", "since", "deployment"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
STATES = VALUES | st.dictionaries(st.sampled_from(["live", "pending", "held", "line", "history", "version"]), VALUES)
LEASES = VALUES | st.dictionaries(
    st.sampled_from(["id", "number", "by", "since", "beat", "members", "released", "boot", "at"]), VALUES
)
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of the service orders."""
    monkeypatch.setattr(releases, "STATE", str(tmp_path / "state"))
    monkeypatch.setattr(releases, "HOME", str(tmp_path / "home"))
    path = tmp_path / "state/orders/state.json"
    path.parent.mkdir(parents=True)
    return path


@FUZZ
@given(content=STATES)
def test_any_state_is_read_or_told(state: Path, content: Any) -> None:
    state.write_text(json.dumps(content))
    try:
        look = release.look(["orders"])["orders"]
        files.record_switch("orders", "a" * 12, "blue")
    except releases.ReleaseError as error:
        assert f"orders: {state} is damaged: " in str(error) and f"sudo mv {state}" in str(error)
        assert json.loads(state.read_text()) == content, "nothing was changed"
    else:
        assert isinstance(look["live"], dict)
        assert releases.read_state("orders")["live"]["release"] == "a" * 12


@FUZZ
@given(content=LEASES)
def test_any_lease_and_fence_is_read_or_told(tmp_path: Path, content: Any) -> None:
    for name in ("lease.json", "fence.json"):
        (tmp_path / name).write_text(json.dumps(content))
    try:
        leases.HostStore(str(tmp_path)).update(
            lambda record, age: register.renewed(register.claimed(record, age, "d1", "kim", "now"), "d1")
        )
    except register.HeldError as error:
        assert "Another run is changing this environment" in str(error)
    except leases.HostError as error:
        assert "lease.json is damaged" in str(error) and "sudo mv" in str(error)
    try:
        leases.check_fence(5, str(tmp_path))
    except leases.HostError as error:
        assert ".json is damaged" in str(error) or "lost its lock" in str(error)


@pytest.mark.parametrize("text", ["", "{", "\0", '{"live": '])
def test_what_is_no_json_is_as_if_it_were_not_there(state: Path, text: str) -> None:
    state.write_text(text)
    assert releases.read_state("orders") == {}


@pytest.mark.parametrize("record", [{}, {"wanted": {}}, {"wanted": {"name": "orders"}}, {"artifact": 1, "wanted": 3}])
def test_a_damaged_record_of_a_release_is_told(state: Path, record: dict[str, Any]) -> None:
    path = Path(releases.release_path("orders", "a" * 12))
    path.mkdir(parents=True)
    (path / "release.json").write_text(json.dumps(record))
    with pytest.raises(releases.ReleaseError, match=r"is damaged|there is no release"):
        releases.load_wanted("orders", "a" * 12)


@FUZZ
@given(content=VALUES | st.dictionaries(st.sampled_from(["wanted", "artifact", "staged", "parts"]), VALUES))
def test_any_record_of_a_release_is_read_or_told(state: Path, content: Any) -> None:
    path = Path(releases.release_path("orders", "a" * 12)) / "release.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for read in (lambda: release.look(["orders"]), lambda: releases.load_wanted("orders", "a" * 12)):
        try:
            read()
        except releases.ReleaseError as error:
            assert "is damaged" in str(error) or "there is no release" in str(error)
