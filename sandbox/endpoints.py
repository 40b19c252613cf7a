"""What a sandbox tells the outside. Pure: texts and dictionaries from what is known."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from sandbox.engines import MAX_CONNECTIONS, USER, schemas
from sandbox.topology import Topology

EDGE = "edge"


def edge_address(topology: Topology, addresses: Mapping[str, str]) -> str | None:
    """Address of the first host that carries the edge."""
    return next((addresses[host.name] for host in topology.hosts if EDGE in host.services), None)


def plan_hosts(topology: Topology, addresses: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The hosts as the plan wants them."""
    return {host.name: {"address": addresses[host.name], "services": list(host.services)} for host in topology.hosts}


def endpoints(
    topology: Topology,
    *,
    name: str,
    subnet: str,
    provisioned: bool,
    addresses: Mapping[str, str],
    instances: Mapping[str, str],
    services: Mapping[str, Mapping[str, Any]],
    paths: Mapping[str, str],
    aws_endpoint: str | None,
    region: str,
    nodejs: Mapping[str, Any],
    database: Mapping[str, Any] | None,
    servers: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of endpoints.json. It holds no secret.

    :param provisioned: whether the hosts are what provision.yml makes.
    :param instances: host name to EC2 instance id; empty without the AWS API.
    :param services: service name to its url and port.
    :param nodejs: runtimes that are on this machine, by major version.
    :param database: the container of this name: engine, host, port, name and user.
    :param servers: what `servers` says.
    :param paths: state, ca_file, ssh_key, known_hosts and inventory.
    """
    hosts: dict[str, dict[str, Any]] = plan_hosts(topology, addresses)
    for host, instance in instances.items():
        hosts[host] |= {"instance_id": instance, "inventory_name": f"{host}_{instance}"}
    return {
        "name": name,
        "environment": topology.environment,
        "region": region,
        "domain": topology.domain,
        "edge": edge_address(topology, addresses),
        **paths,
        "aws_endpoint": aws_endpoint,
        "subnet": subnet,
        "provisioned": provisioned,
        "hosts": hosts,
        "services": {
            service: {
                "url": spec["url"],
                "port": spec["port"],
                "hosts": [host.name for host in topology.hosts if service in host.services],
            }
            for service, spec in services.items()
        },
        "nodejs": dict(nodejs),
        "database": database,
        "databases": {},
        "stores": {},
        **servers,
    }


def servers(
    asked: Mapping[str, Mapping[str, str]], parts: Mapping[str, str], environment: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """What the environment says of the catalogue's databases and stores, as `platform_environment` has it.

    :param asked: the engine of each, by section and name.
    :param parts: the engine of each container that runs one, by the container's name, which hosts know.
    """
    hosts = {engine: part for part, engine in parts.items()}
    password = {"secretsmanager": f"fivepointers/{environment}/database"}
    own = schemas(asked["databases"])
    return {
        "databases": {
            name: {
                "host": hosts[engine], "name": own[name], "user": USER, "password": password,
                "max_connections": MAX_CONNECTIONS,
            }
            for name, engine in asked["databases"].items()
        },
        "stores": {name: {"host": hosts[engine], "password": password} for name, engine in asked["stores"].items()},
    }  # fmt: skip


def environment_file(variables: Mapping[str, str], venv_bin: str) -> str:
    """A file for the shell: `. .sandbox/env`."""
    lines = [
        "# Written by the sandbox. Use it with: . .sandbox/env",
        "unset AWS_PROFILE AWS_SESSION_TOKEN AWS_SECURITY_TOKEN",
        *(f"export {key}={shlex.quote(value)}" for key, value in variables.items()),
        f'case ":$PATH:" in *:{shlex.quote(venv_bin)}:*) ;; *) export PATH={shlex.quote(venv_bin)}:"$PATH" ;; esac',
    ]
    return "\n".join(lines) + "\n"


def environment_variables(
    *, state: str, endpoint: str, region: str, secrets: Mapping[str, str], no_proxy: str
) -> dict[str, str]:
    """What a shell or a playbook needs to speak to the sandbox's AWS API.

    :param no_proxy: NO_PROXY as it is now; the API's address is added.
    """
    address = endpoint.split("//")[1].split(":")[0]
    return {
        "PLATFORM_STATE": state,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": secrets["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": secrets["aws_secret_access_key"],
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "NO_PROXY": ",".join(dict.fromkeys([*filter(None, no_proxy.split(",")), address])),
    }


def known_hosts(addresses: Mapping[str, str], keys: Mapping[str, str]) -> str:
    """The hosts' keys, as ssh wants them."""
    return "".join(f"{addresses[host]},{host} {key}\n" for host, key in keys.items())


def hosts_file(addresses: Mapping[str, str]) -> str:
    """/etc/hosts of every container."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {host}" for host, address in addresses.items()]
    return "\n".join(lines) + "\n"


def ssh_config(addresses: Mapping[str, str], key: str, known: str) -> str:
    """A configuration for ssh -F, so that hosts have their names."""
    blocks = [f"Host {host}\n  HostName {address}\n" for host, address in addresses.items()]
    return "".join(blocks) + (
        f'Host *\n  User admin\n  IdentityFile "{key}"\n  IdentitiesOnly yes\n'
        f'  UserKnownHostsFile "{known}"\n  StrictHostKeyChecking yes\n  LogLevel ERROR\n'
    )
