# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Which operating systems hosts may have: the tasks' facts are faked here, since there is no image of most of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

DEBIAN = 'PRETTY_NAME="{}"\nNAME="x"\nID={}\nVERSION_ID="{}"\nHOME_URL="https://example.com/"\n'
AMAZON = 'NAME="Amazon Linux"\nVERSION="2023"\nID="amzn"\nVERSION_ID="2023"\nPRETTY_NAME="Amazon Linux 2023.6"\n'
ARCHITECTURE = "cloudwatch_agent_architecture"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("release", "added", "refused"),
    [
        (DEBIAN.format("Debian GNU/Linux 12 (bookworm)", "debian", "12"), [], ""),
        (DEBIAN.format("Debian GNU/Linux 13 (trixie)", "debian", "13"), [], ""),
        (DEBIAN.format("Ubuntu 24.04.1 LTS", "ubuntu", "24.04"), [], ""),
        (DEBIAN.format("Ubuntu 26.04 LTS", "ubuntu", "26.04"), [], ""),
        (DEBIAN.format("Debian GNU/Linux 11 (bullseye)", "debian", "11"), [], "Debian GNU/Linux 11 (bullseye)"),
        (DEBIAN.format("Ubuntu 22.04.5 LTS", "ubuntu", "22.04"), [], "Ubuntu 22.04.5 LTS"),
        (DEBIAN.format("Ubuntu 22.04.5 LTS", "ubuntu", "22.04"), ["ubuntu 22.04"], ""),
        (AMAZON, [], "Amazon Linux 2023.6"),
        ("", [], "an unknown system"),
    ],
)
def test_a_system_that_is_not_supported_is_refused(
    root: Path,
    template: Callable[[str, dict[str, Any]], Any],
    release: str,
    added: list[str],
    refused: str,
    ending: str,
) -> None:
    play = yaml.safe_load((root / "playbooks/parts/configure.yml").read_text())[0]
    look, check = play["tasks"][:2]
    assert look["register"] == "__os_release" and check["tags"] == look["tags"]
    systems = yaml.safe_load((root / "playbooks/group_vars/all.yml").read_text())["__platform_systems"]
    assert look["ansible.builtin.raw"] == "cat /etc/os-release; uname -m"
    # A connection may have a terminal.
    said = (release + "aarch64\n").replace("\n", ending)
    known: dict[str, Any] = {"__os_release": {"stdout": said}, "inventory_hostname": "api-1"}
    known["__platform_systems"] = template(systems, {"platform_systems": added})
    known["__os"] = template(check["vars"]["__os"], known)
    known["__system"] = template(check["vars"]["__system"], known)
    assertion = check["ansible.builtin.assert"]
    assert template("{{ %s }}" % assertion["that"], known) is (refused == "")
    if refused:
        assert f"Nothing was changed on api-1: it runs {refused}." in template(assertion["fail_msg"], known)


@pytest.mark.parametrize(("processor", "architecture"), [("aarch64", "arm64"), ("x86_64", "amd64")])
def test_the_agent_is_that_for_the_processor(
    root: Path, template: Callable[[str, dict[str, Any]], Any], processor: str, architecture: str
) -> None:
    tasks = yaml.safe_load((root / "playbooks/parts/configure.yml").read_text())[0]["tasks"]
    (value,) = [task["vars"][ARCHITECTURE] for task in tasks if ARCHITECTURE in task.get("vars", {})]
    assert template(value, {"__os_release": {"stdout_lines": ["NAME=x", processor]}}) == architecture
