"""What the users of a host with several versions of Node.js rely on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
VERSIONS = {name: item["version"] for name, item in json.loads((PROJECT / "sandbox/nodejs.json").read_text()).items()}
HOME = "/opt/fivepointers/node"

Converge = Callable[..., tuple[int, str]]


@pytest.fixture
def converge() -> Converge:
    """Run the scenario's playbook again, with changes; give its status and all it says, on one line."""

    def run(**variables: Any) -> tuple[int, str]:
        command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(SCENARIO / "converge.yml")]
        command += ["-e", json.dumps(variables)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


@pytest.mark.parametrize("name", sorted(VERSIONS))
def test_each_version_runs_a_script(host: Host, name: str) -> None:
    script = "console.log(process.version, 6 * 7)"
    assert host.check_output(f"{HOME}/{VERSIONS[name]}/bin/node -e '{script}'") == f"v{VERSIONS[name]} 42"


def test_a_version_that_somebody_changed_is_made_anew(host: Host, converge: Converge) -> None:
    program = f"{HOME}/{VERSIONS['22']}/bin/node"
    with host.sudo():
        host.check_output(f"truncate --size=1000 {program}")
    status, output = converge()
    assert status == 0, output
    assert host.check_output(f"{program} --version") == f"v{VERSIONS['22']}"
    assert "changed=0" in converge()[1]


def test_what_a_killed_run_left_is_no_version_and_goes_away(host: Host, converge: Converge) -> None:
    with host.sudo():
        host.check_output(f"mv {HOME}/{VERSIONS['22']} {HOME}/.incomplete-{VERSIONS['22']}-x")
    assert converge()[0] == 0
    assert host.check_output(f"ls -A {HOME}").split() == sorted(VERSIONS.values())


def test_an_unknown_version_is_refused_by_name(converge: Converge) -> None:
    status, output = converge(versions=["19"])
    assert status != 0
    assert "no archive for version '19'" in output
    assert f"24 ({VERSIONS['24']})" in output
    assert "platform_environment.nodejs" in output


def test_another_archive_than_the_table_says_is_refused(host: Host, converge: Converge) -> None:
    status, output = converge(versions=["24"], overrides={"24": {"sha256": "0" * 64}})
    assert status != 0
    assert "checksum" in output
    assert host.run(f"{HOME}/{VERSIONS['24']}/bin/node --version").rc == 0


def test_an_archive_of_another_version_never_appears(host: Host, converge: Converge) -> None:
    status, output = converge(versions=["24"], overrides={"24": {"version": "24.0.1", "strip": 1}})
    assert status != 0
    assert "v24.0.1" in output
    assert host.run(f"test -e {HOME}/24.0.1").rc == 1
