# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Applications that were not written for this collection: built, deployed and verified as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import ROOT, Sandbox

AWKWARD = ROOT / "tests" / "awkward"


@pytest.fixture(scope="module")
def awkward() -> Iterator[Sandbox]:
    """One host for all of them, beside a database."""
    it = Sandbox("test-awkward", topology=str(AWKWARD / "topology.yml"))
    it.extra = ["-e", f"platform_catalogue_file={AWKWARD / 'services.yml'}"]
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()
    it.up()
    yield it
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()


def test_they_are_built_deployed_and_verified(awkward: Sandbox, tmp_path: Path) -> None:
    report = tmp_path / "verify.json"
    awkward.playbook("playbooks/build.yml").succeeded()
    awkward.playbook("playbooks/site.yml", "-e", f"verify_report={report}").succeeded()
    results = json.loads(report.read_text())["results"]
    assert all(result["ok"] for result in results)
    assert {"notes", "quotes", "relay", "board"} <= {result["service"] for result in results}


def test_a_second_run_changes_nothing(awkward: Sandbox) -> None:
    awkward.playbook("playbooks/build.yml").unchanged()
    awkward.playbook("playbooks/site.yml").unchanged()


def test_what_is_written_beside_the_code_is_kept_outside_of_the_release(awkward: Sandbox) -> None:
    lines = awkward.ssh("old-1", "sudo cat /var/lib/fivepointers-relay/write/logs/relay.log").splitlines()
    assert lines[0].endswith(" started") and len(lines) > 1


def test_two_services_of_one_host_use_different_versions_of_node(awkward: Sandbox) -> None:
    commands = awkward.ssh("old-1", "pgrep -f ^fivepointers- | sudo xargs -I @ readlink /proc/@/exe").splitlines()
    versions = {line.split("/")[4].split(".")[0] for line in commands}
    assert versions == {"22", "24"}, commands


def test_a_project_without_a_lock_file_is_refused_with_the_cure(awkward: Sandbox, tmp_path: Path) -> None:
    strict = AWKWARD / ".strict.yml"
    strict.write_text((AWKWARD / "services.yml").read_text().replace(", lockfile: optional", ""))
    try:
        run = awkward.playbook("playbooks/build.yml", "-e", f"platform_catalogue_file={strict}", "-e", "service=relay")
    finally:
        strict.unlink()
    assert run.rc != 0
    for word in ("relay", "package-lock.json", "lockfile: optional", "npm install"):
        assert word in run.output, run.output
