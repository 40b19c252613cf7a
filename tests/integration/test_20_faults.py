# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Killed processes and rebooted hosts heal by themselves, within 15 seconds of the host being up."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

import pytest

from tests.integration.harness import Sandbox
from tests.integration.test_00_bare import DIRECT
from tests.integration.test_10_platform import processes

SERVICES = [DIRECT[kind] for kind in sorted(DIRECT)]
DEADLINE = 15


def healthy_within(url: str, seconds: float) -> float:
    started = time.monotonic()
    came: object = None
    while time.monotonic() - started < seconds:
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                if answer.status == 200:
                    return time.monotonic() - started
        except (urllib.error.URLError, OSError) as error:
            came = error
        time.sleep(0.2)
    raise AssertionError(f"{url} was not healthy within {seconds} s; the last answer: {came}")


@pytest.mark.parametrize("service,port,path", [it for it in SERVICES if it[0] != "frontend"])
def test_a_killed_service_comes_back(platform: Sandbox, service: str, port: int, path: str) -> None:
    for host in platform.hosts_of(service):
        unit = platform.ssh(
            host, f"systemctl list-units --plain --no-legend --state=active 'fivepointers-{service}@*'"
        ).split()[0]
        pid = platform.ssh(host, f"systemctl show -P MainPID {unit}").strip()
        platform.ssh(host, f"sudo kill -KILL {pid}")
        print(f"{service}: {healthy_within(f'http://{platform.address(host)}:{port}{path}', DEADLINE):.1f} s")
        assert platform.ssh(host, f"systemctl show -P MainPID {unit}").strip() not in ("0", pid)


def test_a_killed_nginx_comes_back(platform: Sandbox) -> None:
    for service, port, path in SERVICES:
        for host in platform.hosts_of(service):
            pid = platform.ssh(host, "systemctl show -P MainPID nginx").strip()
            platform.ssh(host, f"sudo kill -KILL {pid}")
            healthy_within(f"http://{platform.address(host)}:{port}{path}", DEADLINE)
    for host in platform.hosts_of("edge"):
        pid = platform.ssh(host, "systemctl show -P MainPID nginx").strip()
        platform.ssh(host, f"sudo kill -KILL {pid}")
        deadline = time.monotonic() + DEADLINE
        while platform.ssh(host, "systemctl show -P MainPID nginx").strip() in ("0", pid):
            assert time.monotonic() < deadline, f"nginx on {host} was not started again"
            time.sleep(0.2)


def test_rebooted_hosts_come_back(platform: Sandbox) -> None:
    for host in platform.endpoints["hosts"]:
        platform.reboot(host)
        for service, port, path in SERVICES:
            if host in platform.hosts_of(service):
                took = healthy_within(f"http://{platform.address(host)}:{port}{path}", DEADLINE)
                print(f"{host}: {service} healthy {took:.1f} s after the host was up")


def test_verification_passes_after_all_of_it(platform: Sandbox) -> None:
    platform.playbook("playbooks/verify.yml").succeeded()


def test_another_run_after_all_of_it_changes_and_restarts_nothing(platform: Sandbox) -> None:
    before = processes(platform)
    run = platform.playbook("playbooks/site.yml").unchanged()
    print(f"second site.yml run: {run.seconds:.1f} s")
    assert processes(platform) == before
