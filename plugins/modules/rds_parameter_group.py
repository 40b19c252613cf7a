#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage a DB parameter group of RDS and its parameters."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rds_parameter_group
short_description: Manage a DB parameter group of RDS and its parameters
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Creates the group if it is missing, and sets the parameters that differ. Other parameters are left unchanged.
  - An unknown or unmodifiable parameter fails the task, and nothing is set.
  - Without O(parameters) and O(family), it only returns the parameters of the group.
options:
  name:
    description:
      - Name of the group.
    type: str
    required: true
  family:
    description:
      - Family of a new group, by its RDS name (the engine with its version).
    type: str
  parameters:
    description:
      - Values by name, in RDS's own notation.
      - Dynamic parameters take effect immediately; static ones after the next restart of an instance.
    type: dict
    default: {}
  tags:
    description:
      - Tags of a new group.
    type: dict
    default: {}
  instance_class:
    description:
      - The class of the instance that uses the group. Its memory is returned.
    type: str
  bytes_per_connection:
    description:
      - Memory that RDS calculates for one connection of this engine.
      - If C(max_connections) exceeds the memory of O(instance_class), the task fails, and nothing is set.
      - V(0) disables the check.
    type: int
    default: 0
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fivepointers.platform.attributes.resource
"""

EXAMPLES = r"""
- name: Require TLS for all connections
  fivepointers.platform.rds_parameter_group:
    name: production-database
    family: "{{ family }}"
    parameters:
      require_secure_transport: "1"
"""

RETURN = r"""
parameters:
  description: All parameters with a value, after the run.
  returned: success
  type: dict
  sample: {"require_secure_transport": "1"}
memory_mib:
  description: Memory of the instance class; 0 if none was given or EC2 does not know it.
  returned: success
  type: int
  sample: 2048
restart_needed:
  description: Parameters that were set and take effect only after a restart.
  returned: success
  type: list
  elements: str
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.amazon.aws.plugins.module_utils.tagging import ansible_dict_to_boto3_tag_list

with suppress(ImportError):  # AnsibleAWSModule reports it
    from botocore.exceptions import BotoCoreError, ClientError

# Maximum per call.
MOST = 20


def plan(wanted: Mapping[str, str], found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the parameters to set, in the format of RDS. found: the parameters that RDS describes, by name."""
    changes = []
    for name, value in wanted.items():
        now = found.get(name, {})
        if now.get("ParameterValue") != value:
            method = "pending-reboot" if now.get("ApplyType") == "static" else "immediate"
            changes.append({"ParameterName": name, "ParameterValue": value, "ApplyMethod": method})
    return changes


def refused(changes: list[dict[str, str]], found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the changes that RDS would reject, one sentence each. It lists every parameter that exists.

    Without such a list (a simulated API, or no group yet) RDS itself decides.
    """
    problems = []
    for name in (change["ParameterName"] for change in changes):
        if name not in found and any("DataType" in item for item in found.values()):
            problems.append(f"unknown parameter '{name}'")
        elif not found.get(name, {}).get("IsModifiable", True):
            problems.append(f"parameter '{name}' cannot be modified")
    return problems


def too_many(wanted: Mapping[str, str], memory_mib: int, instance_class: str, bytes_per_connection: int) -> list[str]:
    """Check max_connections: an instance without enough memory for them crashes."""
    most = memory_mib * 1024 * 1024 // bytes_per_connection if bytes_per_connection else 0
    if not most or int(wanted.get("max_connections", 0)) <= most:
        return []
    return [f"max_connections is {wanted['max_connections']}, but {instance_class} has memory for {most}"]


def describe(client: Any, name: str) -> dict[str, dict[str, Any]] | None:
    """Return the parameters of a group by name, or None if the group does not exist."""
    try:
        if not client.describe_db_parameter_groups(DBParameterGroupName=name, aws_retry=True)["DBParameterGroups"]:
            return None
    except is_boto3_error_code("DBParameterGroupNotFound"):
        return None
    pages = client.get_paginator("describe_db_parameters").paginate(DBParameterGroupName=name)
    return {item["ParameterName"]: item for page in pages for item in page["Parameters"]}


def memory(module: AnsibleAWSModule, instance_class: str | None) -> int:
    """Return the MiB of an instance class, 0 if EC2 does not know it."""
    if not instance_class:
        return 0
    try:
        types = module.client("ec2").describe_instance_types(InstanceTypes=[instance_class.removeprefix("db.")])
    except is_boto3_error_code("InvalidInstanceType"):
        return 0
    return int(types["InstanceTypes"][0]["MemoryInfo"]["SizeInMiB"]) if types["InstanceTypes"] else 0


def apply(client: Any, params: Mapping[str, Any], create: bool, changes: list[dict[str, str]]) -> None:
    """Create the group and set its parameters."""
    if create:
        client.create_db_parameter_group(
            DBParameterGroupName=params["name"],
            DBParameterGroupFamily=params["family"],
            Description=f"Parameters of {params['name']}",
            Tags=ansible_dict_to_boto3_tag_list(params["tags"]),
            aws_retry=True,
        )
    for start in range(0, len(changes), MOST):
        client.modify_db_parameter_group(
            DBParameterGroupName=params["name"], Parameters=changes[start : start + MOST], aws_retry=True
        )


def run(module: AnsibleAWSModule) -> dict[str, Any]:
    """Read, plan, apply; returns the result."""
    client = module.client("rds", retry_decorator=AWSRetry.jittered_backoff())
    params = module.params
    found = describe(client, params["name"])
    if found is None and not params["family"]:
        module.fail_json(msg=f"DB parameter group {params['name']} not found. Set family to create it.")
    wanted = {key: str(value) for key, value in params["parameters"].items()}
    memory_mib = memory(module, params["instance_class"])
    changes = plan(wanted, found or {})
    problems = refused(changes, found or {}) + too_many(
        wanted, memory_mib, params["instance_class"], params["bytes_per_connection"]
    )
    if problems:
        module.fail_json(msg=f"{params['name']}: {'; '.join(problems)}. Correct or remove it. Nothing was set.")
    if not module.check_mode:
        apply(client, params, found is None, changes)
    before = {name: str(item["ParameterValue"]) for name, item in (found or {}).items() if "ParameterValue" in item}
    after = {**before, **{change["ParameterName"]: change["ParameterValue"] for change in changes}}
    names = [change["ParameterName"] for change in changes]
    return {
        "changed": found is None or bool(changes),
        "parameters": after,
        "memory_mib": memory_mib,
        "restart_needed": [item["ParameterName"] for item in changes if item["ApplyMethod"] == "pending-reboot"],
        "diff": {
            "before": {name: before.get(name) for name in names},
            "after": {name: after[name] for name in names},
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "family": {"type": "str"},
            "parameters": {"type": "dict", "default": {}},
            "tags": {"type": "dict", "default": {}},
            "instance_class": {"type": "str"},
            "bytes_per_connection": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"Cannot update the DB parameter group {module.params['name']}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
