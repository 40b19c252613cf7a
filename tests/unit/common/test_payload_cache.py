# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Payloads of modules are kept from run to run, as long as each of their files is as it was."""

from __future__ import annotations

import base64
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
PLAY = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - {ansible.builtin.stat: {path: /}}
    - {acme.tools.say: {}}
    - {own: {}}
"""
MODULE = """\
from ansible.module_utils.basic import AnsibleModule
%s
AnsibleModule({}).exit_json(said=WORD)
"""
IMPORT = "from ansible_collections.acme.tools.plugins.module_utils.words import WORD"
CONFIGURATION = """\
[defaults]
collections_path = {folder}:{root}/collections
callbacks_enabled = fivepointers.platform.payload_cache
interpreter_python = {python}
"""


def payload(path: Path) -> bytes:
    """The names of the files of a kept payload, and more."""
    return base64.b64decode(pickle.loads(path.read_bytes()).zip_data)


class Project:
    """A project with a collection and a module of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.payloads = folder / "payloads"
        self.words = self.write("ansible_collections/acme/tools/plugins/module_utils/words.py", "WORD = 'one'\n")
        self.write("ansible_collections/acme/tools/plugins/modules/say.py", MODULE % IMPORT)
        self.write("library/own.py", MODULE % "WORD = 'mine'")
        self.write("play.yml", PLAY)
        self.write("ansible.cfg", CONFIGURATION.format(folder=folder, root=ROOT, python=sys.executable))

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def run(self) -> tuple[list[str], str]:
        """Run the playbook. Returns the modules whose payload was made, and what was said."""
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_DEBUG": "1",
            "FIVEPOINTERS_PAYLOADS": str(self.payloads),
        }
        command = [f"{Path(sys.executable).parent}/ansible-playbook", "-vv", "-c", "local", "-i", "localhost,"]
        done = subprocess.run(
            [*command, "play.yml"], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output[-3000:]
        made = re.findall(r"ANSIBALLZ: Lock acquired: \S+/ansiballz_cache/(\S+?)-ZIP", output)
        said = re.findall(r'"said": "(\w+)"', output)
        return sorted(name.rpartition(".")[2] for name in made), said[0]


def test_what_a_run_made_is_given_to_the_next_as_long_as_each_file_is_as_it_was(tmp_path: Path) -> None:
    project = Project(tmp_path)
    unused = project.payloads / "0123456789abcdef"
    unused.mkdir(parents=True, mode=0o700)
    project.payloads.chmod(0o700)
    os.utime(unused, (0, 0))
    assert project.run() == (["own", "say", "stat"], "one")
    assert not unused.exists(), "what nobody used for a month is removed"
    kept = [path for path in project.payloads.glob("*/*") if path.name != "index.json"]
    assert len(kept) == 2, "a module of a playbook may be another one in the next project"
    assert {path.stat().st_mode & 0o077 for path in (project.payloads, *kept)} == {0}

    # Neither its size nor the time that can be set tells that a file was changed.
    status = project.words.stat()
    project.words.write_text("WORD = 'two'\n")
    os.utime(project.words, ns=(status.st_atime_ns, status.st_mtime_ns))
    next(path for path in kept if b"ansible/modules/stat" in payload(path)).write_bytes(b"broken")
    assert project.run() == (["own", "say", "stat"], "two")
    assert project.run() == (["own"], "two")
    assert len(list(project.payloads.glob("*/*"))) == 3, "what was replaced is removed"

    other = Project(tmp_path / "other")
    other.payloads = project.payloads
    assert other.run() == (["own", "say", "stat"], "one"), "another project with the same names"

    project.payloads.chmod(0o777)
    assert project.run() == (["own", "say", "stat"], "two"), "others can write there"
