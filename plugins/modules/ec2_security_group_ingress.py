#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage a single ingress rule of a security group."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ec2_security_group_ingress
short_description: Manage a single ingress rule of a security group
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Adds, describes and revokes one rule by its network, protocol and port. All other rules are left unchanged,
    including those that somebody else adds or revokes at the same time.
  - M(amazon.aws.ec2_security_group) can revoke a rule only if given all rules that remain.
options:
  group_id:
    description:
      - Id of the security group.
    type: str
    required: true
  cidr:
    description:
      - The IPv4 or IPv6 network that may connect.
    type: str
    required: true
  port:
    description:
      - The port that it may connect to.
    type: int
    required: true
  protocol:
    description:
      - The protocol.
    type: str
    choices: [tcp, udp]
    default: tcp
  description:
    description:
      - What the rule is for. Without it, an existing description is kept.
    type: str
  state:
    description:
      - Whether the rule exists.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fivepointers.platform.attributes.resource
"""

EXAMPLES = r"""
- name: Allow one address to connect to the database
  fivepointers.platform.ec2_security_group_ingress:
    group_id: sg-0123456789abcdef0
    cidr: 203.0.113.7/32
    port: 3306
    description: A restore, until noon

- name: Revoke it
  fivepointers.platform.ec2_security_group_ingress:
    group_id: sg-0123456789abcdef0
    cidr: 203.0.113.7/32
    port: 3306
    state: absent
"""

RETURN = r"""
rule:
  description: The rule after the run, in check mode as it would be; empty if it is absent.
  returned: success
  type: dict
  contains:
    cidr:
      description: The network that may connect.
      type: str
      returned: where present
    port:
      description: The port.
      type: int
      returned: where present
    protocol:
      description: The protocol.
      type: str
      returned: where present
    description:
      description: What the rule is for.
      type: str
      returned: where present
"""

import contextlib
from typing import Any

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it
    import botocore

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry


def ranges(cidr: str) -> tuple[str, str]:
    """Return EC2's names for networks of this kind."""
    return ("Ipv6Ranges", "CidrIpv6") if ":" in cidr else ("IpRanges", "CidrIp")


def find(permissions: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
    """Return the rule from a group's permissions, or an empty one."""
    several, one = ranges(params["cidr"])
    for permission in permissions:
        if permission["IpProtocol"] == params["protocol"] and (
            permission.get("FromPort") == permission.get("ToPort") == params["port"]
        ):
            for item in permission.get(several, []):
                if item[one] == params["cidr"]:
                    return described(params, item.get("Description", ""))
    return {}


def described(params: dict[str, Any], description: str) -> dict[str, Any]:
    """Return the rule with a description."""
    return {**{key: params[key] for key in ("cidr", "port", "protocol")}, "description": description}


def plan(before: dict[str, Any], params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the required call, if any, and the rule after it."""
    if params["state"] == "absent":
        return ("revoke_security_group_ingress" if before else "", {})
    stated = params["description"]
    after = described(params, before.get("description", "") if stated is None else stated)
    if not before:
        return "authorize_security_group_ingress", after
    return ("update_security_group_rule_descriptions_ingress" if before != after else "", after)


def permission(rule: dict[str, Any]) -> dict[str, Any]:
    """Return the rule in the format of EC2."""
    several, one = ranges(rule["cidr"])
    entry = {one: rule["cidr"], **({"Description": rule["description"]} if rule["description"] else {})}
    return {"IpProtocol": rule["protocol"], "FromPort": rule["port"], "ToPort": rule["port"], several: [entry]}


def main() -> None:
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec={
            "group_id": {"required": True},
            "cidr": {"required": True},
            "port": {"type": "int", "required": True},
            "protocol": {"choices": ["tcp", "udp"], "default": "tcp"},
            "description": {},
            "state": {"choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    group = module.params["group_id"]
    try:
        client = module.client("ec2", retry_decorator=AWSRetry.jittered_backoff())
        found = client.describe_security_groups(GroupIds=[group], aws_retry=True)["SecurityGroups"][0]
        before = find(found["IpPermissions"], module.params)
        call, after = plan(before, module.params)
        if call and not module.check_mode:
            try:
                getattr(client, call)(GroupId=group, IpPermissions=[permission(after or before)], aws_retry=True)
            except is_boto3_error_code("InvalidPermission.NotFound"):
                if after:
                    raise  # somebody revoked it just now
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        module.fail_json_aws(error, msg=f"Cannot change the rule for {module.params['cidr']} in {group}")
    module.exit_json(changed=bool(call), rule=after, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
