# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The configured platform: unchanged runs change nothing, and what a user does works."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.harness import Sandbox
from tests.unit.nginx.live import Client

PIDS = "systemctl show -p Id,MainPID,ActiveEnterTimestampMonotonic nginx 'fivepointers-*' amazon-cloudwatch-agent"


def processes(sandbox: Sandbox) -> dict[str, str]:
    return {host: sandbox.ssh(host, PIDS) for host in sandbox.endpoints["hosts"]}


def test_check_mode_on_configured_hosts_reports_no_change(platform: Sandbox) -> None:
    platform.playbook("playbooks/site.yml", "--check", "--diff").unchanged()


def test_verification_walks_the_front_door(platform: Sandbox, tmp_path: Path) -> None:
    report = tmp_path / "verify.json"
    platform.playbook("playbooks/verify.yml", "-e", f"verify_report={report}").succeeded()
    results = json.loads(report.read_text())
    names = {result["check"] for result in results["results"]}
    assert len(names) >= 15, names
    assert all(result["ok"] for result in results["results"])


def test_verification_fails_and_says_where_to_look(platform: Sandbox) -> None:
    host = platform.hosts_of("sites")[0]
    platform.ssh(host, "sudo systemctl stop nginx")
    try:
        run = platform.playbook("playbooks/verify.yml")
    finally:
        platform.ssh(host, "sudo systemctl start nginx")
    assert run.rc != 0
    assert "sites" in run.output and "502" in run.output
    assert "journalctl" in run.output


def test_a_service_is_closed_for_maintenance_and_opened_again(platform: Sandbox) -> None:
    endpoints = platform.endpoints
    domain = endpoints["domain"]
    edge = Client(endpoints["edge"], platform.state / "tls/ca.pem")
    before = processes(platform)

    def statuses() -> list[int]:
        return [edge.ask(name, path).status for name, path in ((f"api.{domain}", "/api/health"), (domain, "/"))]

    try:
        platform.playbook(
            "playbooks/maintenance.yml", "-e", "maintenance=on", "-e", 'service="api, collab"'
        ).succeeded()
        assert statuses() == [503, 200]
        platform.playbook("playbooks/maintenance.yml", "-e", "maintenance=on").succeeded()
        assert statuses() == [503, 503]
    finally:
        platform.playbook("playbooks/maintenance.yml", "-e", "maintenance=off").succeeded()
    assert statuses() == [200, 200]
    platform.playbook("playbooks/maintenance.yml", "-e", "maintenance=off").unchanged()
    assert processes(platform) == before


def test_outgoing_connections_do_not_get_ports_of_services(platform: Sandbox) -> None:
    for host in platform.hosts_of("sites"):
        # The pages call the API at port 33001 of their own host.
        assert "33001" in platform.ssh(host, "cat /proc/sys/net/ipv4/ip_local_reserved_ports")


def test_slots_listen_on_the_loopback_only(platform: Sandbox) -> None:
    for service, port in (("api", 3001), ("sites", 3002), ("collab", 3003)):
        for host in platform.hosts_of(service):
            listening = [line.split()[3] for line in platform.ssh(host, "ss -Hltn").splitlines()]
            slots = [it for it in listening if it.rsplit(":", 1)[1] in (str(10000 + port), str(20000 + port))]
            assert slots and all(it.startswith("127.0.0.1:") for it in slots), listening
