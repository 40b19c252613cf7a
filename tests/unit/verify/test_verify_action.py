# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The action's arguments, answer and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.fivepointers.platform.plugins.action import verify

from .conftest import TOKEN, Authority, FrontDoor, checks_of

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(door: FrontDoor, authority: Authority, tmp_path: Path) -> Call:
    """Run the action as Ansible does; returns its answer."""

    def run(check_mode: bool = False, **args: Any) -> dict[str, Any]:
        values = {
            "checks": checks_of(),
            "connect_to": door.address,
            "ca_file": str(authority.file),
            "report": str(tmp_path / "reports" / "verification.json"),
            **args,
        }
        task = Mock(args=values, check_mode=check_mode, async_val=0, environment=None)
        connection = Mock(_shell=Mock(tmpdir=None))
        action = verify.ActionModule(task, connection, Mock(), Mock(), Mock(), Mock())
        try:
            answer = action.run(task_vars={})
        except AnsibleActionFail as error:
            return {"failed": True, "msg": str(error)}
        # What Ansible does with a result.
        assert json.loads(json.dumps(answer)) == answer
        return answer

    return run


def test_all_is_well(call: Call, tmp_path: Path) -> None:
    answer = call()
    assert not answer.get("failed")
    assert not answer["changed"]
    assert answer["failures"] == []
    report = json.loads((tmp_path / "reports/verification.json").read_text())
    assert report["ok"]
    assert report["results"] == answer["results"]
    assert report["summary"] == answer["summary"]
    assert not list((tmp_path / "reports").glob(".*"))


def test_a_failure_fails_with_its_explanation(call: Call, door: FrontDoor, tmp_path: Path) -> None:
    door.faults.add("login fails")
    answer = call()
    assert answer["failed"]
    assert "api: log in" in answer["msg"]
    assert "answers its health check" not in answer["msg"], "what passed is not explained"
    assert TOKEN not in json.dumps(answer)
    report = (tmp_path / "reports/verification.json").read_text()
    assert not json.loads(report)["ok"]
    assert TOKEN not in report
    for password in door.users.values():
        assert password not in report
        assert password not in json.dumps(answer)


def test_a_failure_may_be_left_to_the_caller(call: Call, door: FrontDoor) -> None:
    door.faults.add("slot down")
    answer = call(fail=False)
    assert not answer.get("failed")
    assert len(answer["failures"]) == 7


def test_check_mode_asks_nothing(call: Call, door: FrontDoor, tmp_path: Path) -> None:
    answer = call(check_mode=True)
    assert {item["level"] for item in answer["results"]} == {"skipped"}
    assert not answer["changed"]
    assert door.asked == []
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("package", ["websockets", "pycrdt"])
def test_a_missing_package_is_named(call: Call, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = verify.import_module

    def missing(name: str) -> Any:
        if name == package:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(verify, "import_module", missing)
    answer = call()
    assert answer["failed"]
    assert f"({package})" in answer["msg"]


def test_what_cannot_be_read_or_written_is_named(call: Call, tmp_path: Path) -> None:
    assert "absent.pem" in call(ca_file=str(tmp_path / "absent.pem"))["msg"]
    (tmp_path / "file").write_text("")
    answer = call(report=str(tmp_path / "file" / "report.json"))
    assert answer["failed"]
    assert "report.json cannot be written" in answer["msg"]


def test_an_argument_that_is_wrong_is_named(call: Call) -> None:
    assert "timeout" in call(timeout="soon")["msg"]
    assert "conect_to" in call(conect_to="10.0.0.1")["msg"]
