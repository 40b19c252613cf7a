"""`make up`: from a bare machine to a platform that answers, in one command."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sandbox.console import LOGS, Steps, run_logged, say
from sandbox.errors import SandboxError
from sandbox.paths import REPO, VENV, repository_path, state_dir
from sandbox.setup import setup

# One start of Ansible for each.
ACCOUNT = ("playbooks/provision.yml",)
BUILD = ("playbooks/build.yml",)
SITE = ("playbooks/site.yml", "playbooks/topology.yml")
# Where playbooks/topology.yml puts its picture.
PICTURES = ".artifacts"


def stack(name: str) -> None:
    """Set the machine up, make an account by provision.yml, start its hosts, build the applications, release them."""
    steps = Steps()
    setup(steps, images=True)
    with steps.step("Start the AWS API and the database"):
        endpoints = _up(name)
    # Neither needs the other, and Ansible keeps one core busy.
    with steps.step("Provision the account and build the applications"), ThreadPoolExecutor(1) as pool:
        account = pool.submit(_provision, endpoints)
        _play(endpoints, BUILD)
        account.result()
    with steps.step("Start the hosts"):
        endpoints = _up(name)
    with steps.step("Configure, release and verify"):
        _play(endpoints, SITE)
    say("\nHow long it took:")
    say(steps.table())
    say("\n" + summary(endpoints))


def _up(name: str) -> dict[str, Any]:
    """Bring up what there is; returns what the sandbox tells."""
    _call([str(VENV / "bin" / "python"), "-m", "sandbox", "up", "--provisioned", "--name", name], "")
    endpoints: dict[str, Any] = json.loads((state_dir(name) / "endpoints.json").read_text())
    return endpoints


def _playbook(endpoints: Mapping[str, Any], playbooks: tuple[str, ...]) -> list[str]:
    """The command that runs playbooks; tells how to do that by hand."""
    state, inventory = Path(endpoints["state"]), repository_path(Path(endpoints["inventory"]))
    say(f"  . {repository_path(state)}/env; ansible-playbook -i {inventory} {' '.join(playbooks)}")
    return ["sh", "-c", '. "$0" && exec ansible-playbook -i "$@"', str(state / "env"), inventory, *playbooks]


def _play(endpoints: Mapping[str, Any], playbooks: tuple[str, ...]) -> None:
    _call(
        _playbook(endpoints, playbooks),
        f"{' or '.join(playbooks)} failed. The output above says what and where; "
        "mend it and run `make up` again, or only the command above.",
    )


def _provision(endpoints: Mapping[str, Any]) -> None:
    """Have the account made, with the output in a log: another playbook has the terminal."""
    began = time.monotonic()
    failure = "provision.yml failed. Its log says what and where; mend it and run `make up` again."
    run_logged(_playbook(endpoints, ACCOUNT), "provision", failure=failure)
    seconds = time.monotonic() - began
    say(f"  the account is provisioned, in {seconds:.0f} s: {repository_path(LOGS)}/provision.log")


def summary(endpoints: dict[str, Any]) -> str:
    """What is where, and how to open it."""
    edge, domain, hosts = endpoints["edge"], endpoints["domain"], endpoints["hosts"]
    rows = [f"  {name:18} {host['address']:13} {' '.join(host['services'])}" for name, host in hosts.items()]
    urls = [f"  {name:10} {service['url']}" for name, service in endpoints["services"].items()]
    names = [service["url"].split("//")[1] for service in endpoints["services"].values() if "*" not in service["url"]]
    directory = repository_path(Path(endpoints["state"]))
    inventory = repository_path(Path(endpoints["inventory"]))
    return "\n".join(
        [
            "The platform is up.",
            *rows,
            *urls,
            f"A picture of it: {PICTURES}/topology-{endpoints['environment']}.svg",
            "",
            "From the shell:",
            f"  curl --cacert {directory}/tls/ca.pem --resolve '*:443:{edge}' https://{domain}/",
            "In a browser on this machine: add this line to /etc/hosts (and one for each page's subdomain),",
            f"and trust {directory}/tls/ca.pem as an authority.",
            f"  {edge} {' '.join(dict.fromkeys([domain, *names]))}",
            "On a host:",
            f"  ssh -F {directory}/ssh_config {next(iter(hosts))}",
            "Any playbook:",
            f"  . {directory}/env; ansible-playbook -i {inventory} playbooks/site.yml",
        ]
    )


def _call(command: list[str], failure: str) -> None:
    """Run a command on the user's terminal; one that fails has said why."""
    process = subprocess.Popen(command, cwd=REPO)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # The terminal sent it the same signal: let it end what it began.
        process.wait()
        raise
    if status:
        raise SandboxError(failure)
