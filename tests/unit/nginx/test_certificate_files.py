# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Certificate and key of mode `files`, from files or references, as Ansible itself hands them to config_tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge.configuration import certificate_files

from tests.unit.nginx.live import ROOT


def give(tmp_path: Path, *each: dict[str, Any], **variables: Any) -> tuple[int, str]:
    """Make the files below tmp_path/root as the role does, once for each TLS; return status and output.

    As loud as can be.
    """
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": variables,
        "tasks": [
            {
                "fivepointers.platform.config_tree": {
                    "owner": "nginx_proxy",
                    "root": str(tmp_path / "root"),
                    "files": certificate_files({"mode": "files", **tls}),
                }
            }
            for tls in each
        ],
    }
    (tmp_path / "root").mkdir(exist_ok=True)
    (tmp_path / "play.json").write_text(json.dumps([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-vvvvv", "--diff", str(tmp_path / "play.json")],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1", "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(autouse=True)
def root() -> None:
    """config_tree keeps its state where only root may write."""
    if os.geteuid():
        pytest.skip("config_tree is for root")


@pytest.mark.slow
def test_a_key_by_reference_is_the_same_file_and_in_no_output(certificate: Path, tmp_path: Path) -> None:
    crt, key = (certificate / name for name in ("edge.crt", "edge.key"))
    read = "{{ lookup('ansible.builtin.file', '%s', rstrip=false) }}"
    by_reference = {"certificate": {"variable": "some_crt"}, "key": {"variable": "some_key"}}
    as_files = {"certificate": str(crt), "key": str(key)}
    # As files they are the same: nothing to change.
    status, said = give(tmp_path, by_reference, as_files, some_crt=read % crt, some_key=read % key)
    assert status == 0 and re.search(r"ok=2 +changed=1 ", said), said
    assert said.index("changed: [") < said.index("ok: [")
    written = tmp_path / "root/fivepointers/tls"
    assert [(written / name).read_text() for name in (crt.name, key.name)] == [crt.read_text(), key.read_text()]
    assert (written / key.name).stat().st_mode & 0o777 == 0o600
    for line in key.read_text().splitlines()[1:-1]:
        assert line not in said


@pytest.mark.slow
def test_a_reference_that_leads_nowhere_is_named(certificate: Path, tmp_path: Path) -> None:
    status, said = give(tmp_path, {"certificate": str(certificate / "edge.crt"), "key": {"variable": "gone"}})
    assert status != 0
    assert (
        "The secret 'fivepointers/tls/edge.key' (variable: gone) cannot be read: there is no such variable"
        in " ".join(said.split())
    )
