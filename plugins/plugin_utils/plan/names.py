# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Names and tags that are derived from a model, each in one place. Pure functions."""

from __future__ import annotations

from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import MANAGED_BY
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model


def aws_tags(model: Model, service: str = "") -> dict[str, str]:
    """Return the tags of a resource; Service names what it serves, where that is one thing."""
    found = {"Platform": "fivepointers", "Environment": str(model.environment["name"]), "ManagedBy": MANAGED_BY}
    return {**found, "Service": service} if service else found


def aws_name(model: Model, thing: str) -> str:
    """Return the name of a resource."""
    return f"{model.environment['name']}-{thing}"


def variable_name(name: str) -> str:
    """Return a service's or database's name as the beginning of environment variables."""
    return name.upper().replace("-", "_")


def process_title(name: str) -> str:
    """Return the first word of a service's command line: it tells what a process belongs to, whatever it runs."""
    return "fivepointers-" + name


def process_pattern(model: Model, name: str) -> str:
    """Return the regular expression that matches the command lines of a service's processes; empty where none does.

    None does for files, and for a program that is looked for in PATH: its first word is its own.
    """
    start = model.services[name]["start"]
    if not model.is_process(name) or not start or not (start[0] == "node" or "/" in start[0]):
        return ""
    title = process_title(name)
    if start[0] == "node" or start[0].startswith("/"):
        return f"^{title}( |$)"
    # A script's first word is its interpreter, and its second the script.
    return f"^({title}|\\S+ /opt/fivepointers/{name}/releases/\\S+)( |$)"


def log_group(model: Model, name: str) -> str:
    """Return the name of a service's log group; C(nginx) and C(verify) are what services cannot be called."""
    return f"/fivepointers/{model.environment['name']}/{name}"


def log_groups(model: Model) -> dict[str, str]:
    """Return each service's log group."""
    return {name: log_group(model, name) for name in model.services}
