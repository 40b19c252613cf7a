#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""List schedules of Amazon EventBridge Scheduler."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: scheduler_schedule_info
short_description: List schedules of Amazon EventBridge Scheduler
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Lists schedules as returned by C(ListSchedules), without the input of their targets.
options:
  group_name:
    description:
      - Only list the schedules of this group. A group that does not exist has none.
    type: str
  name_prefix:
    description:
      - Only list schedules whose names begin with this.
    type: str
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fivepointers.platform.attributes.reads
"""

EXAMPLES = r"""
- name: List the schedules of an environment
  fivepointers.platform.scheduler_schedule_info:
    group_name: development-schedule
"""

RETURN = r"""
schedules:
  description: The schedules, sorted by group and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the schedule.
      type: str
      returned: always
    group_name:
      description: Its group.
      type: str
      returned: always
    state:
      description: V(ENABLED) or V(DISABLED).
      type: str
      returned: always
    arn:
      description: ARN of the schedule.
      type: str
      returned: always
"""

import contextlib
from typing import Any

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it
    import botocore

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry


def schedules(client: Any, filters: dict[str, str]) -> list[dict[str, Any]]:
    """Return the schedules of ListSchedules."""
    try:
        return client.get_paginator("list_schedules").paginate(**filters).build_full_result()["Schedules"]
    except is_boto3_error_code("ResourceNotFoundException"):
        return []


def main() -> None:
    """Run the module."""
    module = AnsibleAWSModule(argument_spec={"group_name": {}, "name_prefix": {}}, supports_check_mode=True)
    given = {"GroupName": module.params["group_name"], "NamePrefix": module.params["name_prefix"]}
    try:
        client = module.client("scheduler")
        found = AWSRetry.jittered_backoff()(schedules)(client, {key: value for key, value in given.items() if value})
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        module.fail_json_aws(error, msg="Cannot list the schedules")
    found.sort(key=lambda item: (item["GroupName"], item["Name"]))
    module.exit_json(changed=False, schedules=[camel_dict_to_snake_dict(item) for item in found])


if __name__ == "__main__":
    main()
