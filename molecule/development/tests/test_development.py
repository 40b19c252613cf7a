# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""One host serves everything, and only nginx is reachable from outside it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
STATE = ROOT / ".sandbox" / "molecule-development"
EXPECTED_PORTS = {22, 80, 443, 3001, 3002, 3003, 8080}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What verify.yml says, run as an operator runs it."""
    path = tmp_path_factory.mktemp("verify") / "report.json"
    command = f"""
        . {STATE}/env && exec ansible-playbook -i inventories/development/aws_ec2.yml playbooks/verify.yml \
            -e verify_report={path}
    """
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize("service", ["api", "frontend", "sites", "collab"])
def test_each_service_is_verified_through_the_front_door(report: dict, service: str) -> None:
    results = [result for result in report["results"] if result["service"] == service]
    assert results
    assert all(result["ok"] for result in results), results


def test_only_nginx_and_ssh_listen_on_reachable_addresses(host) -> None:
    with host.sudo():
        lines = host.check_output("ss -Hltnp").splitlines()
    reachable = [line for line in lines if not line.split()[3].startswith(("127.", "[::1]"))]
    assert {int(line.split()[3].rsplit(":", 1)[1]) for line in reachable} <= EXPECTED_PORTS
    assert all("nginx" in line or "sshd" in line or "systemd" in line for line in reachable), reachable
