# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The sandbox's secrets are canaries: they are looked for wherever they must not be."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from tests.integration.harness import ROOT, Sandbox

# Reads the patterns from its standard input, so that the search itself shows them in no process list.
SEARCH = r"""
patterns=$(mktemp -p /dev/shm); cat > "$patterns"
{ find $(findmnt -rno TARGET -t overlay,tmpfs,ext4,xfs) -xdev -type f -perm -o=r -size -64M -print0 |
    xargs -0 -r grep -lFf "$patterns" 2>/dev/null | sed 's/^/world-readable file: /'
  journalctl --no-pager -o json 2>/dev/null | grep -cFf "$patterns" | grep -v '^0$' | sed 's/^/journal lines: /'
  grep -lFf "$patterns" /proc/[0-9]*/cmdline 2>/dev/null | sed 's/^/process list: /'
  systemctl show '*' | grep -cFf "$patterns" | grep -v '^0$' | sed 's/^/unit properties: /'
} ; rm -f "$patterns"; true
"""


def search(sandbox: Sandbox, host: str, patterns: str) -> str:
    return sandbox.ssh(host, f"sudo bash -c {shlex.quote(SEARCH)}", stdin=patterns)


class Canaries(dict[str, str]):
    """Secrets by name. A failing test must not print them."""

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


@pytest.fixture(scope="module")
def canaries(platform: Sandbox) -> Canaries:
    secrets = json.loads((platform.state / "secrets.json").read_text())
    flat = Canaries({name: value for name, value in secrets.items() if isinstance(value, str)})
    assert len(flat) >= 2 and all(len(value) >= 12 for value in flat.values()), list(flat)
    return flat


def test_no_run_of_this_session_showed_a_secret(platform: Sandbox, canaries: dict[str, str]) -> None:
    """Among the runs are those that wrote the environment files, with ``-vvv --diff``."""
    loud = [run for run in platform.runs if "task path: " in run.output and run.changed]
    assert loud, "no loud, changing run to look at: run this file after the bare hosts' tests"
    for run in platform.runs:
        for name, value in canaries.items():
            assert value not in run.output, f"{name} is shown by {run.command}"


def test_no_host_shows_a_secret(platform: Sandbox, canaries: dict[str, str]) -> None:
    patterns = "\n".join(canaries.values()) + "\n"
    found = {host: search(platform, host, patterns) for host in platform.endpoints["hosts"]}
    assert not any(found.values()), found


def test_the_search_finds_a_planted_secret(platform: Sandbox, canaries: dict[str, str]) -> None:
    """The negative control: a search that cannot find anything proves nothing."""
    host = platform.hosts_of("api")[0]
    value = next(iter(canaries.values()))
    platform.ssh(host, "cat > /tmp/planted; chmod 644 /tmp/planted", stdin=value)
    try:
        assert "/tmp/planted" in search(platform, host, value + "\n")
    finally:
        platform.ssh(host, "rm -f /tmp/planted")


def test_the_controller_keeps_secrets_to_itself(platform: Sandbox, canaries: dict[str, str]) -> None:
    patterns = "\n".join(canaries.values()) + "\n"
    places = [str(path) for path in (ROOT, Path.home() / ".ansible", Path("/tmp")) if path.exists()]
    done = subprocess.run(
        [
            "grep",
            "-rlFf",
            "/dev/stdin",
            "--exclude-dir=.venv",
            "--exclude-dir=.cache",
            "--exclude-dir=node_modules",
            *places,
        ],
        input=patterns,
        text=True,
        capture_output=True,
        check=False,
    )
    readable = [
        path for path in done.stdout.split("\n") if path and Path(path).stat().st_mode & (stat.S_IROTH | stat.S_IRGRP)
    ]
    assert not readable
