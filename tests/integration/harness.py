# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the tests do with a sandbox: what an operator would, by the same commands."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import boto3
from ansible_collections.fivepointers.platform.plugins.module_utils.common import http_client
from botocore.config import Config

from sandbox import network
from sandbox.containers import bridge_name
from tests import warm

ROOT = Path(__file__).parents[2]


@dataclass
class Run:
    """What one ``ansible-playbook`` call did."""

    command: str
    rc: int
    output: str
    seconds: float
    #: NaN where it ran warm, which is neither more nor less than anything.
    processor_seconds: float
    recap: dict[str, dict[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.recap = {
            match[1]: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", match[2])}
            for match in re.finditer(r"^(\S+)\s+: (ok=\d+.*)$", self.output, re.MULTILINE)
        }

    @property
    def changed(self) -> dict[str, int]:
        """Inventory names of the hosts that were changed, with the number of changes."""
        return {host: counts["changed"] for host, counts in self.recap.items() if counts["changed"]}

    @property
    def tasks(self) -> list[str]:
        return re.findall(r"^(?:TASK|RUNNING HANDLER) \[(.+?)\] \*", self.output, re.MULTILINE)

    @property
    def changes(self) -> list[str]:
        """What was changed: task and host."""
        found, task = [], ""
        for match in re.finditer(
            r"^(?:(?:TASK|RUNNING HANDLER) \[(.+?)\] \*|changed: \[(.+?)[\] ])", self.output, re.MULTILINE
        ):
            task = match[1] or task
            found += [f"{task} ({match[2]})"] if match[2] else []
        return found

    def succeeded(self) -> Run:
        assert self.rc == 0, self.output[-6000:]
        return self

    def unchanged(self) -> Run:
        self.succeeded()
        assert not self.changed, f"changed: {self.changes or self.changed}\n{self.output[-6000:]}"
        return self


def podman(*args: str) -> subprocess.CompletedProcess[str]:
    """Call the sandboxes' podman."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", "podman", *args], cwd=ROOT, text=True, capture_output=True, timeout=120
    )


def _run(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=True, timeout=30).stdout


class Sandbox:
    """A sandbox by name, with the calls that an operator would make."""

    def __init__(self, name: str, topology: str | None = None, inventory: str = "sandbox") -> None:
        self.name = name
        self.state = ROOT / ".sandbox" if name == "sandbox" else ROOT / ".sandbox" / name
        self.topology = topology
        self.inventory = inventory
        #: Whether playbooks run without the start of Ansible. What is measured starts it.
        self.warm = False
        self.extra: list[str] = []
        self.runs: list[Run] = []

    def cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sandbox", *args, "--name", self.name],
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=900,
            check=False,
        )

    def reboot(self, host: str) -> None:
        done = self.cli("reboot", host)
        assert done.returncode == 0, done.stdout + done.stderr

    def power_off(self, host: str) -> float:
        """Take a host's power away, and return when: nobody is told, and what is sent to it vanishes.

        As on EC2, where its address stays known. A killed container alone says goodbye on each of its connections,
        and the others would hear after three seconds that nobody has its address.
        """
        networks = self._networks()
        place, address = networks.pop(host), self.address(host)
        hardware = json.loads(_run(*place, "ip", "-json", "link", "show", "eth0"))[0]["address"]
        for other, device in [*((inside, "eth0") for inside in networks.values()), ([], bridge_name(self.name))]:
            _run(*other, *f"ip neigh replace {address} lladdr {hardware} dev {device} nud permanent".split())
        _run(*place, "ip", "link", "set", "eth0", "down")
        moment = time.monotonic()
        killed = podman("kill", f"{self.name}.{host}")
        assert killed.returncode == 0, killed.stderr
        return moment

    def power_on(self, host: str) -> None:
        """Give a host its power back."""
        self.reboot(host)
        networks = self._networks()
        del networks[host]
        for other, device in [*((inside, "eth0") for inside in networks.values()), ([], bridge_name(self.name))]:
            _run(*other, *f"ip neigh flush to {self.address(host)} dev {device} nud permanent".split())

    def within(self, part: str) -> list[str]:
        """How a command of this machine is run in the network of a part: a host, or the database."""
        return self._networks(part)[part]

    def _networks(self, *parts: str) -> dict[str, list[str]]:
        """The same of several, by part; of all hosts, where none is named."""
        parts = parts or tuple(self.endpoints["hosts"])
        names = [f"{self.name}.{part}" for part in parts]
        pids = podman("inspect", "--format", "{{.State.Pid}}", *names).stdout.split()
        return {part: ["nsenter", f"--target={pid}", "--net"] for part, pid in zip(parts, pids, strict=True)}

    @property
    def gateway(self) -> str:
        """The address of this machine in the sandbox's network."""
        return network.address(IPv4Network(self.endpoints["subnet"]), 1)

    def up(self, *how: str) -> None:
        done = self.cli("up", *(how or (["--topology", self.topology] if self.topology else [])))
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        done = self.cli("down")
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def endpoints(self) -> dict:
        return json.loads((self.state / "endpoints.json").read_text())

    def address(self, host: str) -> str:
        return self.endpoints["hosts"][host]["address"]

    @property
    def environment(self) -> dict[str, str]:
        lines = (self.state / "env").read_text().splitlines()
        exported = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
        return {
            **os.environ,
            **{key: value.strip("'\"") for key, value in exported.items()},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_FORCE_COLOR": "0",
        }

    def playbook(
        self,
        playbook: str,
        *args: str,
        cwd: Path = ROOT,
        env: dict[str, str] | None = None,
        inventory: Path | None = None,
        measured: bool = False,
    ) -> Run:
        """Run a playbook as an operator would.

        :param measured: whether its processor time is looked at. That is not known of what runs warm.
        """
        environment = {**self.environment, **(env or {})}
        # What is imported depends on settings, which are others elsewhere.
        programs = warm.programs(environment) if self.warm and not (measured or env or cwd != ROOT) else None
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [
                str(programs / "ansible-playbook") if programs else "ansible-playbook",
                "-i",
                str(inventory or ROOT / "inventories" / self.inventory / "aws_ec2.yml"),
                playbook,
                *self.extra,
                *args,
            ],
            cwd=cwd,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1500,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = Run(
            shlex.join([playbook, *args]),
            done.returncode,
            done.stdout,
            time.monotonic() - started,
            float("nan") if programs else after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        )
        self.runs.append(run)
        return run

    def ssh(self, host: str, command: str, check: bool = True, stdin: str | None = None) -> str:
        done = subprocess.run(
            [
                "ssh",
                "-i",
                self.endpoints["ssh_key"],
                "-o",
                f"UserKnownHostsFile={self.state / 'known_hosts'}",
                "-o",
                "LogLevel=ERROR",
                "-o",
                "ConnectTimeout=5",
                f"admin@{self.address(host)}",
                command,
            ],
            text=True,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, f"{host}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def aws(self, service: str) -> Any:
        """A client of the sandbox's AWS API."""
        names = {
            "endpoint_url": "AWS_ENDPOINT_URL",
            "region_name": "AWS_REGION",
            "aws_access_key_id": "AWS_ACCESS_KEY_ID",
            "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
        }
        environment = self.environment
        settings: dict[str, Any] = {key: environment[name] for key, name in names.items()}
        return boto3.client(service, config=Config(proxies={}), **settings)

    def sql(self, statements: str, *login: str) -> str:
        """Run SQL in the database, as root unless a login is given."""
        command = ["mariadb", "--batch", "--skip-column-names", *login, "-e", statements]
        done = podman("exec", f"{self.name}.database", *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hosts_of(self, service: str) -> list[str]:
        return [name for name, host in self.endpoints["hosts"].items() if service in host["services"]]

    def record(self, host: str, name: str) -> dict[str, Any]:
        """A record of a host: the newer of its two copies."""
        copies = json.loads(self.ssh(host, f"cat /var/lib/fivepointers/{name}"))
        return max(filter(None, copies), key=lambda copy: copy["number"])["record"]

    def ask(self, label: str, path: str, **how: Any) -> http_client.Answer:
        """Ask a name of the domain, such as `api`, through the front door; `@` is the domain itself."""
        endpoints = self.endpoints
        name = endpoints["domain"] if label == "@" else f"{label}.{endpoints['domain']}"
        context = http_client.tls_context(endpoints["ca_file"])
        return http_client.ask(f"https://{name}{path}", connect_to=endpoints["edge"], context=context, **how)

    @contextlib.contextmanager
    def asked(self, *addresses: tuple[str, str]) -> Iterator[list[str]]:
        """Somebody who asks these labels and paths in turn, all the time; what failed."""
        failed: list[str] = []
        over = threading.Event()

        def user() -> None:
            while not over.is_set():
                for label, path in addresses:
                    try:
                        answer = self.ask(label, path)
                        said = answer.describe() if answer.status >= 400 else ""
                    except http_client.ProbeError as error:
                        said = str(error)
                    if said:
                        failed.append(f"{time.time():.3f} {label}{path} {said}")
                    time.sleep(0.05)

        thread = threading.Thread(target=user)
        thread.start()
        try:
            yield failed
        finally:
            over.set()
            thread.join()


def build(sandbox: Sandbox) -> None:
    sandbox.playbook("playbooks/build.yml").succeeded()
