"""What `make up` runs, and what it says in the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import stack
from sandbox.errors import SandboxError
from sandbox.paths import REPO

TOLD: dict[str, Any] = {
    "environment": "sandbox",
    "edge": "10.80.0.11",
    "domain": "sandbox.test",
    "state": str(REPO / ".sandbox"),
    "inventory": str(REPO / "inventories/sandbox/aws_ec2.yml"),
    "hosts": {"edge-1": {"address": "10.80.0.11", "services": ["edge"]}},
    "services": {"api": {"url": "https://api.sandbox.test", "port": 3001}},
}


def test_it_runs_playbooks_that_are_there() -> None:
    for playbook in (*stack.ACCOUNT, *stack.BUILD, *stack.SITE):
        assert (REPO / playbook).is_file()


def test_it_makes_the_account_before_its_hosts_and_fails_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def bring_up(name: str) -> dict[str, Any]:
        done.append("up")
        return TOLD

    monkeypatch.setattr(stack, "setup", lambda steps, images: None)
    monkeypatch.setattr(stack, "_up", bring_up)
    monkeypatch.setattr(stack, "_play", lambda told, playbooks: done.append(playbooks[0]))

    def provision(told: dict[str, Any]) -> None:
        time.sleep(0.05)
        done.append("provision")

    monkeypatch.setattr(stack, "_provision", provision)
    stack.stack("trial")
    assert done == ["up", "playbooks/build.yml", "provision", "up", "playbooks/site.yml"]

    def broken(told: dict[str, Any]) -> None:
        raise SandboxError("it broke")

    done.clear()
    monkeypatch.setattr(stack, "_provision", broken)
    with pytest.raises(SandboxError, match="it broke"):
        stack.stack("trial")
    assert done == ["up", "playbooks/build.yml"]


def test_it_says_where_the_picture_is_that_its_last_playbook_draws() -> None:
    play = yaml.safe_load((REPO / stack.SITE[-1]).read_text())[0]
    drawn = Path(play["vars"]["__topology_file"].replace("{{ platform_environment.name }}", TOLD["environment"])).name
    assert f"{stack.PICTURES}/{drawn}" in stack.summary(TOLD)
