"""What `make up` runs, and what it says in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sandbox import stack
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
    for _title, playbooks in stack.PLAYBOOKS:
        assert playbooks
        assert all((REPO / playbook).is_file() for playbook in playbooks)


def test_it_says_where_the_picture_is_that_its_last_playbook_draws() -> None:
    play = yaml.safe_load((REPO / stack.PLAYBOOKS[-1][1][-1]).read_text())[0]
    drawn = Path(play["vars"]["__topology_file"].replace("{{ platform_environment.name }}", TOLD["environment"])).name
    assert f"{stack.PICTURES}/{drawn}" in stack.summary(TOLD)
