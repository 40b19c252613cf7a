#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Remove the unused resources that a plan file marks."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: unused_resources
short_description: Remove the unused resources that a plan marks
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Reads a plan from P(fivepointers.platform.unused_resources_info#module) that a person has reviewed, and removes the
    marked resources in order of dependency. Unmarked resources are never touched.
  - Checks each resource again right before its removal. A resource that is in use again, is protected, or has changed
    since the plan is left, and the reason is reported.
  - For an environment, the instances are stopped. For a log group, the retention is set.
  - Continues if a resource cannot be removed, and fails at the end with all errors.
options:
  plan:
    description:
      - The plan, with C(remove) set to true for each resource to remove. The days in the plan apply.
    type: path
    required: true
  environment:
    description:
      - Whose resources may be removed. What has not the tag C(Environment) with this value is left.
    type: str
    required: true
  production:
    description:
      - Values of the tag C(Environment) of instances that always run.
    type: list
    elements: str
    default: [production]
  retention:
    description:
      - Retention of log groups in days.
    type: int
    default: 30
    choices: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
  snapshot:
    description:
      - Whether to create a snapshot of each volume first, and wait until it is complete.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reports what would be removed, and removes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare; the removed resources are reported.
    support: none
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Remove what the plan marks, and keep a snapshot of each volume
  fivepointers.platform.unused_resources:
    region: ap-northeast-2
    environment: staging
    plan: unused.yml
    snapshot: true
"""

RETURN = r"""
removed:
  description: Ids of the removed resources, in check mode of those that would be removed.
  returned: where the plan can be used
  type: list
  elements: str
left:
  description: A line for each marked resource that was left, with the reason.
  returned: where the plan can be used
  type: list
  elements: str
failed_to_remove:
  description: A line for each resource that could not be removed, with the error of AWS.
  returned: where the plan can be used
  type: list
  elements: str
"""

from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fivepointers.platform.plugins.module_utils.aws import unused
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.unused_account import (
    RETENTIONS,
    clean,
    clients,
    read_plan,
    remove,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain

with suppress(ImportError):  # AnsibleAWSModule reports what is missing
    from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """Run the module."""
    spec = {
        "environment": {"type": "str", "required": True},
        "plan": {"type": "path", "required": True},
        "production": {"type": "list", "elements": "str", "default": ["production"]},
        "retention": {"type": "int", "default": 30, "choices": list(RETENTIONS)},
        "snapshot": {"type": "bool", "default": False},
    }
    module = AnsibleAWSModule(argument_spec=spec, supports_check_mode=True)
    settings = plain(module.params)
    path = Path(settings["plan"])
    if not path.is_file():
        module.fail_json(msg=f"Plan {path} not found. Create a report first, or correct the path.")
    client = clients(module)

    def act(entry: dict[str, Any]) -> None:
        if not module.check_mode:
            remove(client, entry, settings["retention"], settings["snapshot"])

    try:
        account = client("sts").get_caller_identity()["Account"]
        plan, wrong = read_plan(path.read_text(), account, module.region)
        if wrong:
            module.fail_json(msg="\n".join([f"Nothing was removed. The plan {path} is not valid:", *wrong]))
        days = {kind: value for kind, value in plan["days"].items() if value is not None}
        rules = unused.Rules(
            datetime.now(timezone.utc),
            {**unused.DAYS, **days},
            production=tuple(settings["production"]),
            environment=settings["environment"],
        )
        marked = [entry for entry in plan["resources"] if entry["remove"]]
        removed, left, failed = clean(client, marked, rules, act)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="Cannot read the account")
    result = {"changed": bool(removed), "removed": removed, "left": left, "failed_to_remove": failed}
    if failed:
        module.fail_json(msg="\n".join(["These resources could not be removed:", *failed]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
