# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The controller keeps the secrets of a run to itself: with a cache of facts, a log of results in JSON, and `-vvv`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CANARY = "canary-of-the-store"


def fetching(playbook: str) -> dict[str, Any]:
    """Return the task of a playbook that fetches secrets."""
    plays = yaml.safe_load((ROOT / "playbooks" / playbook).read_text())
    tasks = [task for play in plays for task in play.get("tasks", []) if "secrets" in task["name"].split()]
    (found,) = (task for task in tasks if "ansible.builtin.set_fact" in task)
    return dict(found)


@pytest.mark.slow
def test_what_is_fetched_reaches_no_cache_and_no_output(tmp_path: Path) -> None:
    reference = {"name": "jwt", "variable": "vaulted"}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {
            "__plan": {"secrets": [reference], "services": {"api": {"secrets": ["jwt"]}}},
            "__selected": ["api"],
            "__rollback": {"references": [reference]},
        },
        "tasks": [
            fetching("parts/deploy.yml"),
            fetching("rollback.yml"),
            {"set_fact": {"control": "in the cache", "cacheable": True}},
            {
                "assert": {
                    "that": ["hostvars.localhost[item].jwt is match('canary')"],
                    "quiet": True,
                },
                "loop": ["__platform_secrets", "__recalled_secrets"],
            },
        ],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(tmp_path / "cache"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LOG_PATH": str(tmp_path / "log"),
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"localhost": {"vaulted": CANARY}}}}))
    done = subprocess.run(
        ["ansible-playbook", "-vvv", "--diff", "-i", str(inventory), str(tmp_path / "play.yml")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    written = {
        path.name: path.read_text()
        for folder in ("cache", ".")
        for path in (tmp_path / folder).glob("*")
        if path.is_file()
    }
    assert any("in the cache" in text for text in written.values()), "no cache is on, so that this shows nothing"
    for name in set(written) - {"hosts.yml"}:
        assert CANARY not in written[name], name
    assert CANARY not in done.stdout + done.stderr
