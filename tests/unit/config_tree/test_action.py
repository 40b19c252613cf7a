# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The controller's half: what is rendered, what is sent, and what is refused before any host is asked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.template import Templar
from ansible_collections.fivepointers.platform.plugins.action.config_tree import ActionModule
from ansible_collections.fivepointers.platform.plugins.modules.config_tree import unpack


class Sent(dict[str, Any]):
    """The arguments that the module got."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the action for a role in a temporary directory. Returns what was sent, and the result."""
    for folder in ("templates", "files"):
        (tmp_path / folder).mkdir()
    loader = DataLoader()
    loader.set_basedir(str(tmp_path))

    def act(**arguments: Any) -> tuple[Sent, dict[str, Any]]:
        variables = {"name": "api", "inventory_hostname": "edge-1", "ansible_search_path": [str(tmp_path)]}
        sent = Sent()
        task = Task()
        task.args = {"owner": "web", "root": "/etc/x", **arguments}
        templar = Templar(loader=loader, variables=variables)
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        action = ActionModule(task, connection, SimpleNamespace(check_mode=False), loader, templar, None)

        def execute(module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
            sent.update(module_args, module_name=module_name)
            return {"changed": True, "invocation": {"module_args": module_args}, "notes": []}

        monkeypatch.setattr(action, "_execute_module", execute)
        monkeypatch.setattr(
            action, "_find_needle", lambda folder, name: loader.path_dwim_relative_stack([str(tmp_path)], folder, name)
        )
        return sent, action.run(None, variables)

    return act


def test_all_files_go_in_one_call_and_come_back_out(run: Any, tmp_path: Path) -> None:
    (tmp_path / "templates" / "a.conf.j2").write_text(
        "{% for n in [1, 2] %}\n    line {{ n }} of {{ name }};\n{% endfor %}\n{% include 'b.j2' %}\n"
    )
    (tmp_path / "templates" / "b.j2").write_text("included {{ name | upper }}\n")
    (tmp_path / "files" / "key.pem").write_bytes(b"\x00secret\xff")
    sent, _result = run(
        templates=[{"src": "a.conf.j2", "dest": "a.conf"}],
        files=[
            {"path": "key.pem", "source": "key.pem", "sensitive": True},
            {"path": "/etc/y/c", "content": "c\n", "mode": "0640", "user": "root", "group": "root"},
        ],
        validate=["x", "-t"],
    )
    assert sent["module_name"] == "fivepointers.platform.config_tree"
    assert sent["validate"] == ["x", "-t"] and "templates" not in sent and "files" not in sent
    assert unpack(sent["payload"]) == [
        {
            "path": "a.conf",
            "content": b"    line 1 of api;\n    line 2 of api;\nincluded API\n",
            "template": "a.conf.j2",
        },
        {"path": "key.pem", "content": b"\x00secret\xff", "sensitive": True},
        {"path": "/etc/y/c", "content": b"c\n", "mode": "0640", "user": "root", "group": "root"},
    ]


def test_a_secret_is_looked_up_where_its_file_is_written(tmp_path: Path) -> None:
    """By Ansible itself, which finds the lookup. In check mode, since the module's own state has one place."""
    files = [{"path": "key.pem", "secret": {"variable": "vaulted"}, "sensitive": True}]
    arguments = {"owner": "test", "root": str(tmp_path / "etc"), "files": files}
    command = [
        "ansible",
        "localhost",
        "--check",
        "--diff",
        "-m",
        "fivepointers.platform.config_tree",
        "-a",
        json.dumps(arguments),
    ]
    said = subprocess.run([*command, "-e", "vaulted=canary"], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{tmp_path}/etc/key.pem" in said.stdout
    assert "canary" not in said.stdout + said.stderr


def test_what_is_sent_shows_nothing_and_the_result_does_not_repeat_it(run: Any) -> None:
    sent, result = run(files=[{"path": "key.pem", "content": "very secret", "sensitive": True}])
    assert "very secret" not in str(sent)
    assert "invocation" not in result


def test_a_variable_that_is_missing_is_named(run: Any, tmp_path: Path) -> None:
    (tmp_path / "templates" / "a.conf.j2").write_text("{{ no_such_variable }}\n")
    with pytest.raises(AnsibleError, match="no_such_variable"):
        run(templates=[{"src": "a.conf.j2", "dest": "a.conf"}])


WRONG = [
    ({"templates": [{"src": "none.j2", "dest": "a"}]}, "there is no template 'none.j2'"),
    ({"templates": [{"src": "none.j2"}]}, "dest of a file is missing"),
    ({"templates": [{"src": "a", "dest": "b", "modes": "0644"}]}, "unknown key 'modes' in a file; known keys: dest,"),
    ({"files": ["a"]}, "'a' is not a file; give a mapping with"),
    ({"files": [{"path": "a"}]}, "a needs either content, source (a file on the controller) or secret"),
    ({"files": [{"path": "a", "content": "", "source": "b"}]}, "needs either content, source"),
    ({"files": [{"path": "a", "content": "", "secret": {"variable": "b"}}]}, "needs either content, source"),
    ({"files": [{"path": "a", "source": "none.pem"}]}, "the source 'none.pem' of a cannot be read on the controller"),
    ({"files": [{"content": "a"}]}, "path of a file is missing"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_mistakes_are_named_before_any_host_is_asked(run: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleActionFail) as caught:
        run(**arguments)
    assert said in str(caught.value)
