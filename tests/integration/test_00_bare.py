# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Hosts that were never touched: check mode says what would be done, and each role works alone."""

from __future__ import annotations

import re
import urllib.request

import pytest

from tests.integration.harness import Run, Sandbox

KINDS = {"nestjs_api", "static_frontend", "nextjs", "yjs_websocket"}
ENGINES = {"node_service", "nodejs", "nginx"}
# The loudest run there is: test_30_secrets.py looks for secrets in what it printed.
LOUD = ("-vvv", "--diff")
DIRECT = {
    "nestjs_api": ("api", 3001, "/api/health"),
    "static_frontend": ("frontend", 8080, "/"),
    "nextjs": ("sites", 3002, "/healthz"),
    "yjs_websocket": ("collab", 3003, "/health"),
}


def roles_in(run: Run) -> set[str]:
    return {match[1] for task in run.tasks if (match := re.match(r"fivepointers\.platform\.(\w+) : ", task))}


def status(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status


def test_check_mode_on_bare_hosts_names_what_would_be_done_and_does_nothing(sandbox: Sandbox) -> None:
    run = sandbox.playbook("playbooks/site.yml", "--check", "--diff").succeeded()
    hosts = {name: counts for name, counts in run.recap.items() if name != "localhost"}
    assert len(hosts) == 5
    assert all(counts["changed"] for counts in hosts.values()), hosts
    for service in ("api", "frontend", "sites", "collab"):
        assert re.search(rf"\b{service}\b.*\bwould\b|\bwould\b.*\b{service}\b", run.output), service
    for host in sandbox.endpoints["hosts"]:
        assert sandbox.ssh(host, "ls -d /opt/fivepointers /usr/sbin/nginx /etc/fivepointers", check=False) == ""


# The scenarios of molecule have each role alone as well, without a tag.
SOAK = ("nextjs", "yjs_websocket")


@pytest.mark.parametrize(
    "role", [pytest.param(role, marks=pytest.mark.soak) if role in SOAK else role for role in sorted(DIRECT)]
)
def test_service_role_alone_works_on_a_bare_host(sandbox: Sandbox, role: str) -> None:
    service, port, path = DIRECT[role]
    run = sandbox.playbook("playbooks/site.yml", "--tags", role, *LOUD).succeeded()
    assert roles_in(run) <= {role} | ENGINES, roles_in(run)
    touched = {name.split("_")[0] for name in run.changed} - {"localhost"}
    assert touched == set(sandbox.hosts_of(service))
    for host in sandbox.hosts_of(service):
        assert status(f"http://{sandbox.address(host)}:{port}{path}") == 200


def test_edge_role_alone_works_on_a_bare_host(sandbox: Sandbox) -> None:
    run = sandbox.playbook("playbooks/site.yml", "--tags", "nginx_proxy", *LOUD).succeeded()
    assert roles_in(run) <= {"nginx_proxy", "nginx"}
    touched = {name.split("_")[0] for name in run.changed} - {"localhost"}
    assert touched == set(sandbox.hosts_of("edge"))


def test_agent_role_alone_works_on_every_host(sandbox: Sandbox) -> None:
    run = sandbox.playbook("playbooks/site.yml", "--tags", "cloudwatch_agent", *LOUD).succeeded()
    assert roles_in(run) == {"cloudwatch_agent"}
    for host in sandbox.endpoints["hosts"]:
        assert sandbox.ssh(host, "systemctl is-active amazon-cloudwatch-agent").strip() == "active"
