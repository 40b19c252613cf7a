# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A service leaves the catalogue: it is reported, retired, brought back and purged; and one is renamed in its place."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.harness import ROOT, Run, Sandbox
from tests.integration.test_25_deployments import Stack

ARTIFACTS = ROOT / ".artifacts"
PORT = 3050


class Extra:
    """The relay once more, under names that the catalogue does not have, on a host with Node.js."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.sandbox = stack, stack.sandbox
        self.host = self.sandbox.hosts_of("sites")[0]
        self.names: list[str] = []

    def catalogue(self, *names: str) -> str:
        """The catalogue with these services too; the host is tagged for them, as somebody would have done."""
        path = Path(self.stack.catalogue().partition("=")[2])
        content = yaml.safe_load(path.read_text())
        relay = content["services"]["collab"]
        for name in names:
            more: dict[str, Any] = {"port": PORT, "needs": [], "public": [], "statsd": False, "hold": 0, "drain": 0}
            content["services"][name] = {**relay, **more, "secrets": {"API_TOKEN": "jwt"}}
            self._artifact(name)
        path.write_text(yaml.safe_dump(content))
        self.tag("sites", *names)
        return f"platform_catalogue_file={path}"

    def _artifact(self, name: str) -> None:
        source, target = ARTIFACTS / "collab", ARTIFACTS / name
        target.mkdir(exist_ok=True)
        manifest = json.loads((source / "latest.json").read_text())
        for file in (f"{manifest['id']}.json", "latest.json"):
            (target / file).write_text(json.dumps({**manifest, "service": name}))
        archive = target / f"{manifest['id']}.tar.gz"
        archive.write_bytes((source / archive.name).read_bytes())
        self.names.append(name)

    def deploy(self, name: str, *arguments: str) -> Run:
        """Deploy one of them alone. It is not public, so there is nothing to verify through the front door."""
        more = ("-e", f"service={name}", "-e", "verify=false", *arguments)
        return self.sandbox.playbook("playbooks/deploy.yml", "-e", self.catalogue(name), *more)

    def live(self) -> str:
        return str(self.sandbox.record(self.host, "old-relay/state.json")["live"]["release"])

    def tag(self, *services: str) -> None:
        ec2 = self.sandbox.aws("ec2")
        found = ec2.describe_instances(
            Filters=[{"Name": "private-ip-address", "Values": [self.sandbox.address(self.host)]}]
        )
        instance = found["Reservations"][0]["Instances"][0]["InstanceId"]
        ec2.create_tags(Resources=[instance], Tags=[{"Key": "Services", "Value": ",".join(services)}])

    def retire(self, name: str, *arguments: str) -> Run:
        return self.sandbox.playbook("playbooks/retire.yml", "-e", f"retire={name}", *arguments)

    def ask(self) -> str:
        """The status with which its front answers; empty if it does not."""
        try:
            with urllib.request.urlopen(f"http://{self.sandbox.address(self.host)}:{PORT}/health", timeout=5) as answer:
                return str(answer.status)
        except urllib.error.URLError:
            return ""

    def there(self, name: str) -> str:
        """Every path, user and unit of that name on the host."""
        return self.sandbox.ssh(
            self.host,
            f"sudo sh -c 'find /etc/fivepointers /etc/nginx /etc/systemd /opt/fivepointers /var/lib/fivepointers*"
            f' /var/cache -path "*{name}*" -prune -print; grep {name} /etc/passwd;'
            f' systemctl list-units --all --plain --no-legend "fivepointers-{name}*"\' 2>/dev/null',
            check=False,
        )


def said(output: str) -> str:
    return " ".join(output.split())


@pytest.fixture
def extra(platform: Sandbox, tmp_path: Path) -> Iterator[Extra]:
    it = Extra(Stack(platform, tmp_path))
    yield it
    it.tag("sites")
    for name in dict.fromkeys(it.names):
        if it.there(name).strip():
            it.retire(name)
            it.retire(name, "-e", "purge=true")
        for path in (ARTIFACTS / name).glob("*"):
            path.unlink()
        (ARTIFACTS / name).rmdir()


def test_a_service_that_left_the_catalogue_is_reported_retired_brought_back_and_purged(extra: Extra) -> None:
    sandbox, host = extra.sandbox, extra.host
    extra.deploy("old-relay").succeeded()
    assert extra.ask() == "200"
    release = extra.live()

    extra.tag("sites")
    reported = sandbox.playbook("playbooks/deploy.yml", "--check").unchanged()
    assert f"old-relay is not in the catalogue, and is still on {host}" in said(reported.output)
    assert "Retire it: ansible-playbook playbooks/retire.yml -e retire=old-relay" in said(reported.output)
    assert "live, not described" in sandbox.playbook("playbooks/releases.yml").unchanged().output

    before = extra.there("old-relay")
    checked = extra.retire("old-relay", "--check").unchanged()
    assert "remove its unit, boot link, front, environment file" in said(checked.output)
    assert extra.there("old-relay") == before and extra.ask() == "200"

    extra.retire("old-relay").succeeded()
    assert extra.ask() == ""
    left = extra.there("old-relay").splitlines()
    assert "/opt/fivepointers/old-relay" in left
    assert not [line for line in left if line.startswith("/etc/") or ".service" in line]

    extra.retire("old-relay", "-e", "back=true").succeeded()
    assert extra.ask() == "200" and extra.live() == release

    # Renamed, at the same port: the old one would go on answering.
    clash = extra.deploy("new-relay", "--check")
    assert clash.rc != 0 and f"new-relay: port {PORT} on {host}" in said(clash.output)
    assert "Retire it first: ansible-playbook playbooks/retire.yml -e retire=old-relay" in said(clash.output)

    extra.tag("sites")
    extra.retire("old-relay").succeeded()
    extra.retire("old-relay", "-e", "purge=true").succeeded()
    assert extra.there("old-relay").strip() == ""
