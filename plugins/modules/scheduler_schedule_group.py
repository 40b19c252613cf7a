#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage groups of schedules of Amazon EventBridge Scheduler."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: scheduler_schedule_group
short_description: Manage groups of schedules of Amazon EventBridge Scheduler
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Creates and deletes groups of schedules, and sets their tags, which schedules themselves cannot have.
  - Deleting a group deletes its schedules.
options:
  name:
    description:
      - Name of the group.
    type: str
    required: true
  state:
    description:
      - Whether the group exists.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
  - fivepointers.platform.attributes.resource
"""

EXAMPLES = r"""
- name: Create a group for an environment's schedules
  fivepointers.platform.scheduler_schedule_group:
    name: development-schedule
    tags: {Environment: development}

- name: Delete it with all its schedules
  fivepointers.platform.scheduler_schedule_group:
    name: development-schedule
    state: absent
"""

RETURN = r"""
schedule_group:
  description: The group after the run, in check mode as it would be; empty if it is absent.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the group.
      type: str
      returned: where present
    tags:
      description: Its tags.
      type: dict
      returned: where present
"""

import contextlib
from typing import Any

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it
    import botocore

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
    compare_aws_tags,
)


def current(client: Any, name: str) -> tuple[str, dict[str, Any]]:
    """Return the ARN of the group, and its name and tags; empty if it does not exist or is being deleted."""
    try:
        found = client.get_schedule_group(Name=name, aws_retry=True)
    except is_boto3_error_code("ResourceNotFoundException"):
        return "", {}
    if found["State"] != "ACTIVE":
        return "", {}
    tags = client.list_tags_for_resource(ResourceArn=found["Arn"], aws_retry=True)["Tags"]
    return found["Arn"], {"name": name, "tags": boto3_tag_list_to_ansible_dict(tags)}


def plan(before: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Return the desired state of the group."""
    if params["state"] == "absent":
        return {}
    kept = before.get("tags", {}) if params["tags"] is None or not params["purge_tags"] else {}
    return {"name": params["name"], "tags": {**kept, **(params["tags"] or {})}}


def apply(client: Any, arn: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Apply the desired state of the group."""
    if not after:
        client.delete_schedule_group(Name=before["name"], aws_retry=True)
    elif not before:
        tags = ansible_dict_to_boto3_tag_list(after["tags"])
        client.create_schedule_group(Name=after["name"], Tags=tags, aws_retry=True)
    else:
        added, removed = compare_aws_tags(before["tags"], after["tags"], purge_tags=True)
        if added:
            client.tag_resource(ResourceArn=arn, Tags=ansible_dict_to_boto3_tag_list(added), aws_retry=True)
        if removed:
            client.untag_resource(ResourceArn=arn, TagKeys=removed, aws_retry=True)


def main() -> None:
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "tags": {"type": "dict", "aliases": ["resource_tags"]},
            "purge_tags": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    name = module.params["name"]
    try:
        client = module.client("scheduler", retry_decorator=AWSRetry.jittered_backoff())
        arn, before = current(client, name)
        after = plan(before, module.params)
        if before != after and not module.check_mode:
            apply(client, arn, before, after)
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        verb = "delete" if module.params["state"] == "absent" else "create or update"
        module.fail_json_aws(error, msg=f"Cannot {verb} the schedule group {name}")
    module.exit_json(changed=before != after, schedule_group=after, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
