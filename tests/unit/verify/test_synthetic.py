# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the scheduled check publishes, as the program that hosts run; and the unit in which it runs."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from .conftest import ROOT, TOKEN, Authority, FrontDoor, checks_of

ROLE = ROOT / "roles/synthetic"
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text())
COLLECTION = "ansible_collections.fivepointers.platform.plugins."
Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def check(door: FrontDoor, authority: Authority, tmp_path: Path) -> Check:
    """Run the program with nothing but the files that the role sends, and the packages."""
    shutil.copy(ROLE / "files/check.py", tmp_path)
    for path in VARIABLES["__synthetic_modules"]:
        sent = tmp_path / VARIABLES["__synthetic_package"] / path
        sent.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "plugins" / path, sent)

    def run(**changes: Any) -> subprocess.CompletedProcess[str]:
        settings = {"checks": checks_of(), "connect_to": door.address, "ca_file": str(authority.file), "timeout": 2}
        (tmp_path / "settings.json").write_text(json.dumps(settings | changes))
        return subprocess.run(
            [sys.executable, "-B", str(tmp_path / "check.py"), str(tmp_path / "settings.json")],
            env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"},
            capture_output=True,
            text=True,
            check=True,
        )

    return run


def imported(path: Path) -> Iterator[str]:
    """The name of everything that a file imports, wherever in it. `from a import b` names both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path.name}: a relative import"
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def closure(program: Path) -> tuple[set[str], set[str]]:
    """What a program imports, directly or not: files of the collection, and packages of others."""
    found: set[Path] = set()
    others: set[str] = set()
    left = [program]
    while left:
        for name in imported(left.pop()):
            path = ROOT / "plugins" / (name.removeprefix(COLLECTION).replace(".", "/") + ".py")
            if not name.startswith(COLLECTION):
                others.add(name.partition(".")[0])
            elif path.is_file() and path not in found:
                found.add(path)
                left.append(path)
    return {str(path.relative_to(ROOT / "plugins")) for path in found}, others - sys.stdlib_module_names


def test_the_role_sends_exactly_what_the_check_imports() -> None:
    files, packages = closure(ROLE / "files/check.py")
    assert VARIABLES["__synthetic_modules"] == sorted(files)
    assert set((ROLE / "files/requirements.in").read_text().split()) == packages


def test_each_module_arrives_where_it_is_imported_from(template: Callable[[str, dict[str, Any]], Any]) -> None:
    known = {
        **VARIABLES,
        "role_path": str(ROLE),
        "synthetic_ca": "tls/ca.pem",
        "__synthetic_plugins": "plugins",
        "__synthetic_settings": {"timeout": 1},
    }
    program, settings, *modules, authorities = template(VARIABLES["__synthetic_files"], known)
    assert program == {"path": "check.py", "source": str(ROLE / "files/check.py")}
    assert json.loads(settings["content"]) == {"timeout": 1}
    assert authorities == {"path": "ca.pem", "source": "tls/ca.pem"}
    package = COLLECTION.replace(".", "/")
    paths = VARIABLES["__synthetic_modules"]
    assert modules == [{"path": package + path, "source": f"plugins/{path}"} for path in paths]
    assert len(template(VARIABLES["__synthetic_files"], {**known, "synthetic_ca": ""})) == 2 + len(paths)


def published(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (line,) = done.stdout.splitlines()
    return dict(json.loads(line)["verify"])


def test_a_good_walk_is_one_line(check: Check) -> None:
    done = check()
    said = published(done)
    assert (said["succeeded"], said["failures"]) == (1, [])
    assert said["checks"] > 30
    assert 0 < said["seconds"] < 10
    assert f"{said['checks']} checks: {said['checks']} ok" in done.stderr


def test_a_failed_walk_names_the_step_and_no_secret(check: Check, door: FrontDoor) -> None:
    door.faults.add("anyone may call")
    done = check()
    said = published(done)
    assert said["succeeded"] == 0
    (failure,) = said["failures"]
    assert failure.startswith("api: be refused without a token: 200")
    assert "look" in done.stderr and "1 failed" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_front_door_that_is_away_fails_shortly(check: Check, door: FrontDoor) -> None:
    door.shutdown()
    door.server_close()
    done = check(checks=[dict(checks_of()[0]) for _ in range(30)])
    said = published(done)
    assert (said["succeeded"], len(said["failures"])) == (0, 20)
    assert all(len(text) <= 200 for text in said["failures"])


def test_a_check_that_cannot_be_made_has_failed(check: Check) -> None:
    done = check(ca_file="/none.pem")
    assert published(done)["succeeded"] == 0
    assert "/none.pem" in published(done)["failures"][0]
    assert "/none.pem" in done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_rates_the_unit_two_or_better(tmp_path: Path) -> None:
    variables = {"__synthetic_home": "/opt/fivepointers/synthetic", "synthetic_log": "/var/log/x.log"}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"), undefined=jinja2.StrictUndefined, autoescape=False
    )
    path = tmp_path / "fivepointers-synthetic.service"
    path.write_text(environment.get_template("service.j2").render(variables))
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
