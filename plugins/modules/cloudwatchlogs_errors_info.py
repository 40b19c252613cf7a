#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Find the errors in CloudWatch log groups, grouped by what they have in common."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cloudwatchlogs_errors_info
short_description: Find the errors in CloudWatch log groups, grouped
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Reads the recent events of log groups, as the CloudWatch agent ships them from the journal, and returns each kind
    of error once, with its count, first and last time, hosts and releases.
  - Errors are JSON lines with the level C(error) or C(fatal) (or a number from 50), exceptions that ended a process,
    and journal entries with error priority.
  - Two errors are of the same kind if service, type, message and top frame are equal, ignoring numbers, identifiers
    and quoted text.
options:
  log_groups:
    description:
      - Names of services and their log groups. A log group that does not exist has no errors.
    type: dict
    required: true
  hours:
    description:
      - How far back to look.
    type: float
    default: 24
  limit:
    description:
      - Maximum number of events to read from each log group. If there are more, RV(complete) is false.
    type: int
    default: 100000
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fivepointers.platform.attributes.reads
"""

EXAMPLES = r"""
- name: Find the errors of the last day
  fivepointers.platform.cloudwatchlogs_errors_info:
    log_groups: {api: /fivepointers/production/api}
  register: found

- name: Show them
  ansible.builtin.debug:
    msg: "{{ found.table }}"
"""

RETURN = r"""
errors:
  description: The kinds of errors, the most frequent first.
  returned: success
  type: list
  elements: dict
  contains:
    fingerprint:
      description: Identifies this kind of error, also across reports.
      type: str
      returned: always
    service:
      description: The service.
      type: str
      returned: always
    type:
      description: The exception's class, if known.
      type: str
      returned: always
    message:
      description: Message of the first occurrence.
      type: str
      returned: always
    frame:
      description: Function and file where it occurred.
      type: str
      returned: always
    count:
      description: How often it was seen.
      type: int
      returned: always
    first_seen:
      description: When it was first seen in these hours.
      type: str
      returned: always
    last_seen:
      description: When it was last seen.
      type: str
      returned: always
    releases:
      description: The releases in which it was seen.
      type: list
      elements: str
      returned: always
    hosts:
      description: The hosts on which it was seen.
      type: list
      elements: str
      returned: always
    sample:
      description: The last occurrence, with its request id and stack.
      type: dict
      returned: always
table:
  description: The errors as text.
  returned: success
  type: str
complete:
  description: Whether all events of these hours were read.
  returned: success
  type: bool
"""

import contextlib
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it
    import botocore

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.log_errors import PATTERN, grouped, table


def events(client: Any, group: str, start: float) -> Iterator[dict[str, Any]]:
    """Return the events of a log group since a time, in seconds; none if the log group does not exist."""
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int(start * 1000), filterPattern=PATTERN
    )
    try:
        for page in pages:
            yield from page["events"]
    except is_boto3_error_code("ResourceNotFoundException"):
        return


def main() -> None:
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec={
            "log_groups": {"type": "dict", "required": True},
            "hours": {"type": "float", "default": 24},
            "limit": {"type": "int", "default": 100000},
        },
        supports_check_mode=True,
    )
    if module.params["hours"] <= 0:
        module.fail_json(msg=f"hours: {module.params['hours']:g} is not valid; write a number above 0")
    start = time.time() - module.params["hours"] * 3600
    found: list[tuple[str, dict[str, Any]]] = []
    complete = True
    try:
        client = module.client("logs")
        for service, group in module.params["log_groups"].items():
            read = list(islice(events(client, group, start), module.params["limit"] + 1))
            complete = complete and len(read) <= module.params["limit"]
            found += [(service, event) for event in read[: module.params["limit"]]]
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        module.fail_json_aws(error, msg="Cannot read the log groups")
    if not complete:
        module.warn(f"A log group has more than {module.params['limit']} events: increase limit, or reduce hours")
    kinds = grouped(found)
    module.exit_json(changed=False, errors=kinds, table=table(kinds), complete=complete)


if __name__ == "__main__":
    main()
