"""What hosts run, run once by Python 3.9: Debian 12 has it as PyPy. `make check` asks vermin about all the rest.

The modules are packed as Ansible packs them, so that this also tells which files travel to a host.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.action.config_tree import pack

pytestmark = pytest.mark.slow
PYTHON39 = "/usr/bin/pypy3"
PREFIX = "ansible_collections/fivepointers/platform/plugins/module_utils/"
#: How many files of module_utils a module takes to a host, at most. Measured; raise it only for a reason.
FILES = {
    "release": 24,
    "lock": 4,
    "config_tree": 3,
    "unpack": 4,
    "http_health": 1,
    "cloudwatch_agent_config": 4,
    "openpgp_signature": 0,
}
# The same for modules that call AWS, from the controller.
OTHERS = {"unused_resources": 4}
# In a process of its own: Ansible's packing does not get on with pytest's imports.
PACK = """
import json, sys
from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

root, target, python = sys.argv[1:]
init_plugin_loader([root + "/collections"])
for name, args in json.load(sys.stdin).items():
    built = modify_module(
        module_name="fivepointers.platform." + name,
        module_path=root + "/collections/ansible_collections/fivepointers/platform/plugins/modules/" + name + ".py",
        module_args=args,
        templar=Templar(loader=DataLoader()),
        task_vars={"ansible_python_interpreter": python},
        module_compression="ZIP_STORED",
    )
    with open(target + "/" + name, "wb") as file:
        file.write(built.b_module_data)
"""


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


def archive(path: Path) -> str:
    """Write an archive with one program; return its SHA-256."""
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("top/program")
        content = b"#!/bin/sh\necho 1.0\n"
        info.size, info.mode = len(content), 0o755
        tar.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


Answers = dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """Of each module that runs on hosts, arguments and what is right in an answer to them."""
    path = tmp_path_factory.mktemp("host")
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sha256 = archive(path / "1.0.tar.gz")
    request = {"version": "1.0", "archives": {"": {"url": "", "sha256": sha256, "strip": 1}}}
    check = {"_ansible_check_mode": True}
    yield {
        "http_health": (
            {"url": f"http://127.0.0.1:{server.server_port}/", "status": [204]},
            lambda answer: answer["status"] == 204,
        ),
        "unpack": (
            {
                "dest": str(path / "versions"),
                "wanted": ["1.0"],
                "requests": [request],
                "sent": {"1.0": str(path / "1.0.tar.gz")},
                "proof": {"command": ["program"], "says": "{version}"},
            },
            lambda answer: answer["changed"] and (path / "versions/1.0/program").exists(),
        ),
        "config_tree": (
            {
                "owner": "test",
                "root": str(path / "tree"),
                "payload": pack([{"path": "a.conf", "content": b"a\n"}]),
                **check,
            },
            lambda answer: answer["written"] == [str(path / "tree/a.conf")],
        ),
        "cloudwatch_agent_config": (
            {"configuration": {"agent": {"region": "eu-west-1"}}, "agent_directory": str(path / "agent"), **check},
            lambda answer: answer["reasons"][0] == "the agent is not installed yet",
        ),
        "release": (
            {"services": [], "phase": "look", "requests": [{"name": "absent"}]},
            lambda answer: answer["services"]["absent"]["live"] == {},
        ),
        "lock": ({"state": "claimed", "id": "1", **check}, lambda answer: not answer["changed"]),
        "openpgp_signature": (
            dict.fromkeys(("path", "signature", "key"), str(path / "absent")) | {"fingerprint": "00"},
            lambda answer: answer["failed"] and ("gpgv" in answer["msg"] or "cannot be used" in answer["msg"]),
        ),
    }
    server.shutdown()


@pytest.fixture(scope="module")
def modules(root: Path, tmp_path_factory: pytest.TempPathFactory, answers: Answers) -> Path:
    """All modules that run on hosts, packed with these arguments as Ansible sends them."""
    folder = tmp_path_factory.mktemp("packed")
    arguments = {name: args for name, (args, _right) in answers.items()} | {name: {} for name in OTHERS}
    command = [sys.executable, "-c", PACK, str(root), str(folder), PYTHON39]
    subprocess.run(command, input=json.dumps(arguments), text=True, check=True)
    return folder


def shipped(module: Path) -> list[str]:
    """Return the files of our module_utils in a packed module, without empty packages."""
    found = re.search(rb"^zip_data='([^']+)'", module.read_bytes(), re.MULTILINE)
    assert found, "the module holds no archive"
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(found[1])))
    return sorted(
        name.removeprefix(PREFIX)
        for name in archive.namelist()
        if name.startswith(PREFIX) and not name.endswith("__init__.py")
    )


@pytest.mark.parametrize("name", [*FILES, *OTHERS])
def test_a_module_ships_only_what_it_imports(modules: Path, name: str) -> None:
    files = shipped(modules / name)
    print(f"{name}: {len(files)} files: {', '.join(files)}")
    assert len(files) <= {**FILES, **OTHERS}[name]


def test_a_lease_needs_nothing_of_a_release(modules: Path) -> None:
    assert shipped(modules / "lock") == [
        "common/files.py",
        "common/records.py",
        "common/register.py",
        "release/leases.py",
    ]


def test_hosts_may_have_python_39(modules: Path, answers: Answers) -> None:
    assert Path(PYTHON39).exists(), "run `make setup`"
    said = subprocess.run([PYTHON39, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
    assert said.stdout.strip() == "(3, 9)"
    assert set(answers) == set(FILES)
    for name, (_args, right) in answers.items():
        done = subprocess.run([PYTHON39, str(modules / name)], capture_output=True, text=True, check=False)
        assert done.stdout.strip().startswith("{"), (name, done.stdout, done.stderr)
        answer = json.loads(done.stdout)
        assert right(answer), (name, answer)


def test_all_code_of_hosts_can_be_imported_by_python_39(root: Path) -> None:
    folders = [root / "plugins/module_utils" / part for part in ("common", "release")]
    names = [
        "ansible_collections.fivepointers.platform." + str(path.relative_to(root).with_suffix("")).replace("/", ".")
        for folder in folders
        for path in sorted(folder.glob("*.py"))
    ]
    script = f"import sys; sys.path.insert(0, {str(root / 'collections')!r})\n" + "\n".join(
        f"import {name}" for name in names
    )
    done = subprocess.run([PYTHON39, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
