# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Names and tags derived from a model, each defined once. Pure functions."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import MANAGED_BY
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model


def aws_tags(model: Model, service: str = "") -> dict[str, str]:
    """Return the tags of a resource. Service names the service it belongs to, if it belongs to one."""
    found = {"Platform": "fivepointers", "Environment": str(model.environment["name"]), "ManagedBy": MANAGED_BY}
    return {**found, "Service": service} if service else found


def aws_name(model: Model, thing: str) -> str:
    """Return the name of a resource."""
    return f"{model.environment['name']}-{thing}"


def variable_name(name: str) -> str:
    """Return a service's or database's name as the prefix of environment variables."""
    return name.upper().replace("-", "_")


def process_title(name: str) -> str:
    """Return the first word of a service's command line. It identifies the service, whatever program runs."""
    return "fivepointers-" + name


def process_pattern(model: Model, name: str) -> str:
    """Return the regular expression that matches the command lines of a service's processes; empty if none can.

    None can for static files, or for a program found in PATH, which keeps its own first word. What runs by a schedule
    is not there most of the time.
    """
    start = model.services[name]["start"]
    if (
        not model.is_process(name)
        or model.is_scheduled(name)
        or not start
        or not (start[0] == "node" or "/" in start[0])
    ):
        return ""
    title = process_title(name)
    if start[0] == "node" or start[0].startswith("/"):
        return f"^{title}( |$)"
    # A script's command line starts with the interpreter, then the script.
    return f"^({title}|\\S+ /opt/fivepointers/{name}/releases/\\S+)( |$)"


def log_group(model: Model, name: str) -> str:
    """Return the name of a service's log group; services cannot be named C(nginx) or C(verify)."""
    return f"/fivepointers/{model.environment['name']}/{name}"


def log_groups(model: Model) -> dict[str, str]:
    """Return each service's log group."""
    return {name: log_group(model, name) for name in model.services}
