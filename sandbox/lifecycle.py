"""up, down and status of a sandbox."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from sandbox import aws, certificates, cloudwatch_agent, containers, endpoints, image, network, nodejs, plan, runtime
from sandbox.console import Steps, say
from sandbox.containers import Container
from sandbox.engines import ENGINES, NAME, USER, parts, schemas
from sandbox.errors import SandboxError
from sandbox.paths import CACHE, REPO, RUNTIME, SHARED_RUNTIME, STATE, TOPOLOGIES, VENV, repository_path
from sandbox.state import State, check_name, others, write
from sandbox.topology import Host, Topology, parse

DATABASE_LIMIT = 60.0
# Written last and removed first: who finds them finds a sandbox that is up.
TOLD = ("endpoints.json", "env")


def load_topology(name: str, path: Path | None) -> Topology:
    """The topology file asked for, or the one that is called like the sandbox, or the default one."""
    if path is None:
        path = TOPOLOGIES / f"{name}.yml"
        path = path if path.exists() else TOPOLOGIES / "sandbox.yml"
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise SandboxError(f"--topology {path}: there is no such file.") from None
    except yaml.YAMLError as error:
        raise SandboxError(f"{path} is not YAML: {error}") from None
    return parse(data, repository_path(path.resolve()), name, path.parent)


def up(name: str, topology_file: Path | None, bare: bool, steps: Steps, provisioned: bool = False) -> dict[str, Any]:
    """Bring the sandbox up, whatever state it is in; returns the content of endpoints.json.

    :param provisioned: the hosts are those that provision.yml made in the account; until there are any, those of the
        last time are left as they are. Otherwise they are the topology file's, and are registered with the account.
    """
    check_name(name)
    topology = load_topology(name, topology_file)
    image.require_tools()
    with _alone(name), runtime.session():
        state = State.load(name)
        # A sandbox that is up stays what it is, unless something else is asked for.
        provisioned = provisioned or (state.provisioned and topology_file is None and not bare)
        state.databases = parts(plan.servers(topology.catalogue))
        with steps.step("Prepare the container runtime"):
            images = image.ensure(() if bare else state.databases.values(), topology.suite)
        with steps.step(f"Start the {'hosts' if bare else 'hosts that are known, the database and the AWS API'}"):
            _address(state, topology, provisioned)
            state.bare, state.provisioned = bare, provisioned
            state.save()
            _start(state, topology, images)
        with steps.step("Wait until they answer"):
            containers.wait_for_ssh(state.addresses, state)
            if not bare:
                _wait_for_databases(state)
                aws.wait(_aws_endpoint(state), name)
        instances: dict[str, str] = {}
        if not bare:
            with steps.step("Pack the CloudWatch agent's stand-in"):
                cloudwatch_agent.build(state.directory / "amazon-cloudwatch-agent.deb")
            account = aws.Account(_aws_endpoint(state), state.secrets())
            if provisioned:
                with steps.step("Start the hosts in the account"):
                    topology, instances = _follow(state, topology, account, images)
            else:
                with steps.step("Register the hosts with the AWS API"):
                    instances = _register(state, topology, account)
            _put_secrets(state, topology, account)
        return _tell(state, topology, instances)


def down(name: str) -> None:
    """Remove the sandbox: containers, network and endpoints file. Keys and secrets are kept for the next `up`."""
    check_name(name)
    if not runtime.installed():
        return
    with _alone(name):
        state = State.load(name)
        _forget(state)
        if state.provisioned:
            # Its account is gone with it.
            state.provisioned = False
            state.save()
        if not runtime.STORE.exists() and not RUNTIME.exists():
            return
        with runtime.session(last=True):
            containers.remove(containers.rows(name))
            containers.remove_network(name)


def down_all() -> None:
    """Remove all sandboxes of this clone, then images, caches and state."""
    if runtime.installed() and runtime.STORE.exists():
        with runtime.session(last=True):
            names = {row["Labels"][containers.SANDBOX] for row in containers.rows()}
            names |= {name.removesuffix(containers.NETWORK) for name in containers.networks()}
            for name in sorted(names):
                say(f"- Remove {name}")
                down(name)
            # What an interrupted build left.
            for row in runtime.podman_json("ps", "--all", "--external", "--format", "json"):
                runtime.podman("rm", "--force", "--volumes", row["Id"], check=False)
            runtime.podman("rmi", "--all", "--force", check=False)
        runtime.remove_store()
    for directory in (STATE, CACHE, image.SHARED):
        shutil.rmtree(directory, ignore_errors=True)
    for path in SHARED_RUNTIME.glob(f"{RUNTIME.name}.*"):
        path.unlink()


def status(name: str) -> dict[str, Any]:
    """What runs and answers, host by host."""
    check_name(name)
    state = State.load(name)
    told = state.directory / TOLD[0]
    report: dict[str, Any] = {"name": name, "up": False, "parts": {}}
    if not state.identity:
        return report
    # Without podman's files in /run nothing runs, and looking must not make them.
    rows = []
    if runtime.installed() and RUNTIME.exists():
        with runtime.session():
            rows = containers.rows(name)
    for row in rows:
        part = row["Names"][0].split(".", 1)[1]
        kind = row["Labels"][containers.KIND]
        address = _address_of(state, part)
        runs = containers.running(row)
        report["parts"][part] = {
            "kind": kind,
            "address": address,
            "state": "running" if runs else "stopped" if row["State"] == "running" else row["State"],
            "answers": runs and _part_answers(state, kind, address),
        }
    wanted = {*state.addresses, *(() if state.bare else (*state.databases, "aws"))}
    parts = report["parts"]
    report["missing"] = sorted(wanted - set(parts))
    report["up"] = told.exists() and not report["missing"] and all(part["answers"] for part in parts.values())
    return report


def _alone(name: str) -> AbstractContextManager[None]:
    busy = f"Another command works on the sandbox {name!r} right now. Wait until it has ended."
    return runtime.lock(SHARED_RUNTIME / f"{RUNTIME.name}.{name}.lock", busy)


def _address(state: State, topology: Topology, provisioned: bool) -> None:
    """Give the sandbox its subnet and its hosts their addresses; what was given stays.

    Hosts that provision.yml makes get theirs from the account.
    """
    with runtime.turn(SHARED_RUNTIME / "addresses.lock"):
        own = containers.inspect_network(state.name)
        taken = network.taken_networks(network.read_routes(), own["network_interface"] if own else None)
        recorded = ipaddress.IPv4Network(state.subnet) if state.subnet else None
        if recorded and topology.subnet in (None, recorded):
            if own is None:
                network.refuse_overlap(recorded, taken)
        else:
            reserved = {ipaddress.IPv4Network(other.subnet): f"sandbox {other.name}" for other in others(state.name)}
            chosen = network.choose(state.name, topology.subnet, {**taken, **reserved})
            state.subnet, state.addresses = str(chosen), {}
        subnet = ipaddress.IPv4Network(state.subnet)
        if not provisioned:
            state.addresses = network.allocate(subnet, (host.name for host in topology.hosts), state.addresses)
        elif not state.provisioned:
            state.addresses = {}
        # Written at once: nobody else may choose the same.
        state.save()


def _forget(state: State) -> None:
    for name in TOLD:
        (state.directory / name).unlink(missing_ok=True)


def _part(state: State, offset: int) -> str:
    return network.address(ipaddress.IPv4Network(state.subnet), offset)


def _address_of(state: State, part: str) -> str:
    fixed = {"aws": network.AWS, **{name: network.DATABASE + at for at, name in enumerate(state.databases)}}
    return _part(state, fixed[part]) if part in fixed else state.addresses.get(part, "")


def _aws_endpoint(state: State) -> str:
    return aws.endpoint(_part(state, network.AWS))


def _start(state: State, topology: Topology, images: Mapping[str, str]) -> None:
    """Make what the containers need, and have exactly those run that the state names."""
    state.ensure_keys(state.addresses)
    _write_host_files(state, state.bare)
    changed: list[str] = []
    if not state.bare:
        _write_certificates(state, topology)
        changed = _write_database_files(state, topology)
    wanted = _wanted(state, images)
    if not containers.settled(wanted, state):
        _forget(state)
        containers.ensure_network(state.name, state.subnet)
        containers.converge(wanted, state)
    for part in changed:
        # A server makes its databases when it starts.
        containers.reboot(f"{state.name}.{part}")


def _wanted(state: State, images: Mapping[str, str]) -> list[Container]:
    hosts = [containers.host(name, address, images["host"], state) for name, address in state.addresses.items()]
    if state.bare:
        return hosts
    # They take longest to answer, so they start first.
    return [
        aws.container(_part(state, network.AWS), images["base"], state.provisioned),
        *(
            containers.database(part, _address_of(state, part), images[engine], state, _aws_endpoint(state), aws.REGION)
            for part, engine in state.databases.items()
        ),
        *hosts,
    ]


def _write_host_files(state: State, bare: bool) -> None:
    addresses = dict(state.addresses)
    if not bare:
        addresses |= {part: _address_of(state, part) for part in ("aws", *state.databases)}
    # In place: it is mounted into running containers.
    path = state.directory / "etc_hosts"
    path.touch()
    with path.open("r+") as handle:
        handle.write(endpoints.hosts_file(addresses))
        handle.truncate()
    known = endpoints.known_hosts(state.addresses, state.host_keys(state.addresses))
    write(state.directory / "known_hosts", known)
    config = endpoints.ssh_config(state.addresses, str(state.ssh_key), str(state.directory / "known_hosts"))
    write(state.directory / "ssh_config", config)


def _write_certificates(state: State, topology: Topology) -> None:
    tls = state.directory / "tls"
    title = f"Five Pointers sandbox {state.name} {state.identity}"
    names = [topology.domain, f"*.{topology.domain}"]
    if certificates.ensure(tls / "ca.pem", tls / "certificate.pem", tls / "key.pem", names, title):
        say(f"  created a certificate for {' and '.join(names)}")
    for part in state.databases:
        directory = state.directory / part
        names = [part, _address_of(state, part)]
        certificates.ensure(tls / "ca.pem", directory / "certificate.pem", directory / "key.pem", names, title)
        write(directory / "ca.pem", (tls / "ca.pem").read_bytes())


def _write_database_files(state: State, topology: Topology) -> list[str]:
    """Write what each server makes its databases from; returns the parts that had something else."""
    subnet = ipaddress.IPv4Network(state.subnet)
    databases = plan.servers(topology.catalogue)["databases"]
    changed = []
    for part, engine in state.databases.items():
        # One that no entry asks for has the first's name all the same.
        own = [name for key, name in schemas(databases).items() if databases[key] == engine] or [NAME]
        accounts = ENGINES[engine].accounts(own, USER, state.secrets()["database"], subnet)
        path = state.directory / part / "init"
        if path.exists() and path.read_text() != accounts:
            changed.append(part)
        write(path, accounts, 0o600)
    return changed


def _wait_for_databases(state: State) -> None:
    until = time.monotonic() + DATABASE_LIMIT
    for part in state.databases:
        while not _part_answers(state, part, address := _address_of(state, part)):
            if time.monotonic() > until:
                raise SandboxError(
                    f"The {state.databases[part]} at {address} does not answer within {DATABASE_LIMIT:.0f} s. "
                    f"Its output: python3 -m sandbox podman logs {state.name}.{part}"
                )
            time.sleep(0.2)


def _part_answers(state: State, kind: str, address: str) -> bool:
    if kind == "aws":
        return aws.answers(aws.endpoint(address))
    if kind not in state.databases:
        return _greets(address, 22)
    engine = ENGINES[state.databases[kind]]
    return _greets(address, engine.port, engine.greets)


def _greets(address: str, port: int, first: bool = True) -> bool:
    """Whether something listens on the port, and speaks first where it does so, as SSH does."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            connection.settimeout(2)
            return not first or bool(connection.recv(1))
    except OSError:
        return False


def _follow(
    state: State, topology: Topology, account: aws.Account, images: Mapping[str, str]
) -> tuple[Topology, dict[str, str]]:
    """Have a host run for each instance of the account; returns the topology with them, and the instances' ids.

    An account that was lost and made again gives the same addresses, in the order of the launches, and other ids.
    """
    found = account.provisioned(topology.environment)
    if found:
        addresses = {item.name: item.address for item in found.values()}
        moved = [name for name, address in addresses.items() if state.addresses.get(name, address) != address]
        if moved:
            say(f"  {', '.join(moved)}: another address in the account, so recreated")
        state.addresses = addresses
        state.save()
        _start(state, topology, images)
        containers.wait_for_ssh(state.addresses, state)
    hosts = tuple(Host(item.name, tuple(item.tags["Services"].split(","))) for item in found.values())
    return replace(topology, hosts=hosts), {item.name: name for name, item in found.items()}


def _register(state: State, topology: Topology, account: aws.Account) -> dict[str, str]:
    instances = [
        aws.Instance(
            host.name,
            state.addresses[host.name],
            aws.tags(topology.environment, host.name, host.services),
        )
        for host in topology.hosts
    ]
    ids = account.register(state.subnet, instances)
    return {host.name: ids[host.name] for host in topology.hosts}


def _put_secrets(state: State, topology: Topology, account: aws.Account) -> None:
    secrets, prefix = state.secrets(), f"fivepointers/{topology.environment}"
    account.put_secrets({f"{prefix}/{secret}": secrets[secret] for secret in ("database", "jwt")})


def _tell(state: State, topology: Topology, instances: dict[str, str]) -> dict[str, Any]:
    inventory = REPO / "inventories" / topology.environment / "aws_ec2.yml"
    paths = {
        "state": str(state.directory),
        "ssh_key": str(state.ssh_key),
        "known_hosts": str(state.directory / "known_hosts"),
    }
    if not state.bare:
        paths |= {"ca_file": str(state.directory / "tls" / "ca.pem"), "inventory": str(inventory)}
    content = endpoints.endpoints(
        topology,
        name=state.name,
        subnet=state.subnet,
        provisioned=state.provisioned,
        addresses=state.addresses,
        instances=instances,
        services={} if state.bare else plan.services(
            topology.catalogue, topology.environment, topology.domain, aws.REGION
        ),
        paths=paths,
        aws_endpoint=None if state.bare else _aws_endpoint(state),
        region=aws.REGION,
        nodejs={} if state.bare else nodejs.archives(),
        database=None if state.bare else {
            "engine": state.databases["database"], "host": _address_of(state, "database"),
            "port": ENGINES[state.databases["database"]].port, "name": NAME, "user": USER,
        },
        servers={} if state.bare else endpoints.servers(
            plan.servers(topology.catalogue), state.databases, topology.environment
        ),
    )  # fmt: skip
    if not state.bare:
        variables = endpoints.environment_variables(
            state=str(state.directory),
            endpoint=_aws_endpoint(state),
            region=aws.REGION,
            secrets=state.secrets(),
            no_proxy=os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")),
        )
        write(state.directory / "env", endpoints.environment_file(variables, str(VENV / "bin")), 0o600)
    write(state.directory / "endpoints.json", json.dumps(content, indent=2) + "\n")
    return content
