# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What ``ansible-galaxy collection build`` makes is complete: it runs the site without the repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.integration.harness import ROOT, Sandbox


def test_the_built_collection_runs_the_site_from_an_empty_path(platform: Sandbox, tmp_path: Path) -> None:
    def galaxy(*args: str) -> None:
        done = subprocess.run(
            ["ansible-galaxy", "collection", *args],
            cwd=tmp_path,
            env=platform.environment,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    galaxy("build", str(ROOT), "--output-path", str(tmp_path))
    archive = next(tmp_path.glob("fivepointers-platform-*.tar.gz"))
    galaxy("install", str(archive), "--no-deps", "-p", str(tmp_path / "collections"))

    # A project of the team's own: its inventories, a catalogue, and nothing of this repository.
    project = tmp_path / "project"
    project.mkdir()
    shutil.copytree(ROOT / "inventories", project / "inventories")
    shutil.copy(ROOT / "ansible.cfg", project)
    (project / "ansible.cfg").write_text(
        (ROOT / "ansible.cfg").read_text().replace("./collections", str(tmp_path / "collections"))
    )
    run = platform.playbook(
        "fivepointers.platform.site",
        "-e",
        f"platform_artifacts={ROOT / '.artifacts'}",
        cwd=project,
        inventory=project / "inventories" / "sandbox" / "aws_ec2.yml",
    ).unchanged()
    assert len(run.recap) == 6
