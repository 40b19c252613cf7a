# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What may connect to what in an environment, derived from the catalogue. Pure functions.

Security groups allow exactly these flows, and the picture of an environment draws them.
"""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets.ec2 import EDGE_PORTS, called_services

# Endpoints of flows that are neither a service nor a database.
WORLD, LOAD_BALANCER, EDGE, HOSTS, INSTANCE_CONNECT = "world", "load-balancer", "edge", "hosts", "instance-connect"
HTTP, SSH = 80, 22


class Flow(NamedTuple):
    """A source that may open connections to a target. `hosts` means every host."""

    source: str
    target: str
    port: int
    protocol: str
    reason: str


def flows(model: Model) -> list[Flow]:
    """Return every flow of an environment, each once.

    Calls from pages (the `needs` of a frontend) arrive through the edge, so only services that are processes connect
    to others. A front on the same host is reached the same way as one on another host.
    """
    found = _public(model)
    for name, service in model.services.items():
        for other in called_services(model, [name]):
            found.append(Flow(name, other, model.services[other]["port"], "tcp", f"{name} needs {other}"))
        for other in service["needs"]:
            if other in model.servers and model.is_process(name):
                port = (model.access.get(other) or {}).get("port") or model.servers[other]["port"]
                found.append(Flow(name, other, port, "tcp", f"{name} needs {other}"))
    if (model.environment["aws"] or {}).get("hosts"):
        found.append(Flow(INSTANCE_CONNECT, HOSTS, SSH, "tcp", "administration, without access from the internet"))
    return list(dict.fromkeys(found))


def _public(model: Model) -> list[Flow]:
    """Return the flows from users to fronts; none if no service is public."""
    public = [name for name, service in model.services.items() if service["public"]]
    if not public:
        return []
    if model.environment["tls"]["mode"] == "load_balancer":
        found = [Flow(WORLD, LOAD_BALANCER, port, "tcp", "users") for port in EDGE_PORTS]
        # TLS ends at the load balancer, and the edge has no certificate: it listens on 80 only.
        found.append(Flow(LOAD_BALANCER, EDGE, HTTP, "tcp", "requests and health checks of the load balancer"))
    else:
        found = [Flow(WORLD, EDGE, port, "tcp", "users") for port in EDGE_PORTS]
    return found + [Flow(EDGE, name, model.services[name]["port"], "tcp", f"{name} is public") for name in public]
