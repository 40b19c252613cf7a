"""From wanted containers to running ones, whatever an earlier run left."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import runtime
from sandbox.console import run, say
from sandbox.engines import ENGINES, MAX_CONNECTIONS
from sandbox.errors import SandboxError
from sandbox.paths import BYTECODE, CLONE, FILES
from sandbox.state import State, write

SANDBOX, SPEC, KIND = "fivepointers.sandbox", "fivepointers.spec", "fivepointers.kind"
# Ends each network's name. podman names firewall chains after the network: without the clone's
# part, taking a sandbox down would cut off the one of the same name in another clone.
NETWORK = f".{CLONE}.network"
BOOT_LIMIT = 60.0
CLEANUP_LIMIT = 30.0


@dataclass(frozen=True)
class Container:
    """One wanted container. `options` and `command` are podman's."""

    host: str
    kind: str
    address: str
    image: str
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def name(self, sandbox: str) -> str:
        """The container's name; the dot keeps names of different sandboxes apart."""
        return f"{sandbox}.{self.host}"

    def spec(self, identity: str) -> str:
        """Changes when the container must be recreated. A newer image alone is no reason to lose a disk."""
        content = json.dumps([identity, self.host, self.kind, self.address, self.options, self.command])
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def host(name: str, address: str, image: str, state: State) -> Container:
    """A systemd host."""
    keys = state.directory / "hosts" / name
    BYTECODE.mkdir(parents=True, exist_ok=True)
    options = (
        "--systemd=always", "--stop-timeout=20",
        f"--volume={keys}:/etc/sandbox:ro",
        f"--volume={BYTECODE}:/var/cache/bytecode",
        # On the host's disk, as on EC2: logs outlive a reboot.
        "--volume=/var/log/journal",
    )  # fmt: skip
    return Container(name, "host", address, image, options)


def database(part: str, address: str, image: str, state: State, endpoint: str, region: str) -> Container:
    """A database, in place of RDS; what RDS tells CloudWatch goes to `endpoint`."""
    engine = ENGINES[state.databases[part]]
    options = (
        "--stop-timeout=20",
        f"--stop-signal={engine.stop}",
        f"--env=AWS_ENDPOINT_URL={endpoint}",
        f"--env=AWS_REGION={region}",
        f"--env=MAX_CONNECTIONS={MAX_CONNECTIONS}",
        f"--volume={Path(__file__).parent}:/opt/sandbox:ro",
        f"--volume={state.directory / part}:/etc/sandbox:ro",
        f"--volume={FILES / engine.script}:/usr/local/sbin/database:ro",
    )
    return Container(part, part, address, image, options, ("sh", "/usr/local/sbin/database"))


def network_name(sandbox: str) -> str:
    """The podman network of a sandbox."""
    return f"{sandbox}{NETWORK}"


def networks() -> list[str]:
    """The names of all sandboxes' networks."""
    names = runtime.podman("network", "ls", "--format", "{{.Name}}").stdout.split()
    return [name for name in names if name.endswith(NETWORK)]


def bridge_name(sandbox: str) -> str:
    """The name of a sandbox's bridge on the machine: the same each time, and nobody else's."""
    return f"fp-{hashlib.sha256(f'{CLONE} {sandbox}'.encode()).hexdigest()[:10]}"


def _name_bridge(sandbox: str) -> None:
    # podman would take the first podmanN that is free now. Another clone, whose networks it
    # does not know, may take the same one before the bridge appears, and two networks on
    # one bridge cut each other off. This podman has no option for the name.
    path = runtime.NETWORKS / f"{network_name(sandbox)}.json"
    description = json.loads(path.read_text())
    write(path, json.dumps({**description, "network_interface": bridge_name(sandbox)}))


def inspect_network(sandbox: str) -> dict[str, Any] | None:
    """What podman says about a sandbox's network, if it has one."""
    result = runtime.podman("network", "inspect", network_name(sandbox), check=False)
    found: list[dict[str, Any]] = json.loads(result.stdout or "[]") if result.returncode == 0 else []
    return found[0] if found else None


def remove_network(sandbox: str) -> None:
    """Remove a sandbox's network, if it has one."""
    if network_name(sandbox) in networks():
        runtime.podman("network", "rm", "--force", network_name(sandbox))


def ensure_network(sandbox: str, subnet: str) -> None:
    """Make the sandbox's network; one with another subnet, or whose creation was interrupted, is recreated."""
    found = inspect_network(sandbox)
    made = ([item["subnet"] for item in found["subnets"]], found["network_interface"]) if found else None
    if made == ([subnet], bridge_name(sandbox)):
        return
    if made:
        remove(rows(sandbox))
        remove_network(sandbox)
    runtime.podman("network", "create", "--disable-dns", "--subnet", subnet, network_name(sandbox))
    _name_bridge(sandbox)


def rows(sandbox: str | None = None) -> list[dict[str, Any]]:
    """What podman says about the sandbox's containers, or all sandboxes' ones."""
    label = SANDBOX if sandbox is None else f"{SANDBOX}={sandbox}"
    result: list[dict[str, Any]] = runtime.podman_json("ps", "--all", "--format", "json", "--filter", f"label={label}")
    return result


def running(row: dict[str, Any]) -> bool:
    """Whether the container of this row is running: its process is alive, and no other one that got its number.

    podman does not know where it was killed together with its watcher.
    """
    if row["State"] != "running":
        return False
    process = Path("/proc") / str(row["Pid"])
    try:
        # pid (command) state …: a command may contain a parenthesis.
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX" and row["Id"] in (process / "cgroup").read_text()
    except OSError:
        return False


def settled(wanted: Sequence[Container], state: State) -> bool:
    """Whether exactly the wanted containers run: there is nothing to do."""
    running_now = {(row["Names"][0], row["Labels"].get(SPEC)) for row in rows(state.name) if running(row)}
    return running_now == {(container.name(state.name), container.spec(state.identity)) for container in wanted}


def converge(wanted: Sequence[Container], state: State) -> None:
    """Create, start, renew and remove until exactly the wanted containers run."""
    existing = {row["Names"][0]: row for row in rows(state.name)}
    names = {container.name(state.name) for container in wanted}
    remove([row for name, row in existing.items() if name not in names], "is not in the topology any more")
    for container in wanted:
        row = existing.get(container.name(state.name))
        if row and row["Labels"].get(SPEC) != container.spec(state.identity):
            remove([row], "is recreated, because its description changed")
            row = None
        if row and running(row):
            continue
        if row and _restart(row, container, state):
            continue
        _create(container, state)
        _start(container.name(state.name))


def _create(container: Container, state: State) -> None:
    name = container.name(state.name)
    # An interrupted `create` may have left a half of one.
    runtime.podman("rm", "--force", "--volumes", name, check=False)
    runtime.podman(
        "create", *runtime.PRIVILEGES, "--name", name, "--hostname", container.host, "--no-hosts",
        f"--volume={state.directory / 'etc_hosts'}:/etc/hosts",
        "--network", network_name(state.name), "--ip", container.address,
        "--label", f"{SANDBOX}={state.name}", "--label", f"{KIND}={container.kind}",
        "--label", f"{SPEC}={container.spec(state.identity)}",
        *container.options, container.image, *container.command,
    )  # fmt: skip


def _start(name: str) -> None:
    result = _attempt_start(name)
    if result.returncode:
        raise SandboxError(
            f"The container {name} does not start: {result.stderr.strip()}\n"
            f"Its output: python3 -m sandbox podman logs {name}"
        )


def _attempt_start(name: str) -> subprocess.CompletedProcess[str]:
    result = runtime.podman("start", name, check=False)
    until = time.monotonic() + CLEANUP_LIMIT
    # What cleans up after a stopped container works beside podman, and a busy machine lets it be late.
    while result.returncode and "already exists" in result.stderr and time.monotonic() < until:
        time.sleep(0.5)
        result = runtime.podman("start", name, check=False)
    if not result.returncode:
        _pin_bridge(name.split(".")[0])
    return result


def _pin_bridge(sandbox: str) -> None:
    # A bridge takes the lowest hardware address of its ports until one is set: each container that
    # starts or stops may change it, and the others go on sending to the one they know for a minute
    # and more. Later versions of podman's network part set one; here what it is now is set.
    name = bridge_name(sandbox)
    address = (Path("/sys/class/net") / name / "address").read_text().strip()
    run(["ip", "link", "set", "dev", name, "address", address])


def reboot(name: str) -> None:
    """Stop a container as a reboot does, and start it again."""
    runtime.podman("stop", name)
    _start(name)


def _restart(row: dict[str, Any], container: Container, state: State) -> bool:
    """Start a container that an earlier run left; tells whether that was possible."""
    name = container.name(state.name)
    if row["State"] == "running":
        # Its process died together with podman's watcher, who had no time to note it.
        runtime.note_exit(row["Id"])
    result = _attempt_start(name)
    if result.returncode:
        say(f"  {container.host} cannot be started and is recreated: {result.stderr.strip().splitlines()[-1]}")
    return not result.returncode


def remove(victims: Iterable[dict[str, Any]], reason: str = "") -> None:
    """Remove containers with their disks."""
    for row in victims:
        if reason:
            say(f"  {row['Names'][0].split('.', 1)[1]} {reason}")
        runtime.podman("rm", "--force", "--time", "3", "--volumes", row["Id"])


def ssh(address: str, state: State, *command: str) -> list[str]:
    """The command line that runs `command` on a host as admin."""
    return [
        "ssh", "-F", "none", "-i", str(state.ssh_key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
        "-o", f'UserKnownHostsFile="{state.directory / "known_hosts"}"', "-o", "StrictHostKeyChecking=yes",
        "-o", "ConnectTimeout=3", "-o", "LogLevel=ERROR", f"admin@{address}", *command,
    ]  # fmt: skip


def wait_for_ssh(addresses: dict[str, str], state: State) -> None:
    """Wait until every host lets admin in, which is when it has booted.

    :raises SandboxError: naming the hosts that do not within a minute.
    """

    def answers(address: str) -> str:
        until = time.monotonic() + BOOT_LIMIT
        while True:
            result = run(ssh(address, state, "true"), check=False)
            if result.returncode == 0:
                return ""
            if time.monotonic() > until:
                return result.stderr.strip() or f"exit status {result.returncode}"
            time.sleep(0.3)

    with ThreadPoolExecutor(max_workers=8) as pool:
        errors = dict(zip(addresses, pool.map(answers, addresses.values()), strict=True))
    failed = [name for name, error in errors.items() if error]
    if failed:
        first = f"{state.name}.{failed[0]}"
        raise SandboxError(
            f"No SSH within {BOOT_LIMIT:.0f} s on {', '.join(failed)} ({errors[failed[0]]}). See "
            f"`python3 -m sandbox podman logs {first}` and `python3 -m sandbox podman exec {first} journalctl`, "
            f"or recreate it with `python3 -m sandbox down --name {state.name}` and up again."
        )
