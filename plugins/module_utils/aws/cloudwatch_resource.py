# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Shared by the modules for CloudWatch resources: read the current state, plan the desired state, apply it.

A thing is a dictionary of what a user can set; an empty one means that it does not exist.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

with contextlib.suppress(ImportError):  # AnsibleAWSModule reports it
    import botocore

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
    compare_aws_tags,
)

Thing = dict[str, Any]
STATE: dict[str, Any] = {"choices": ["present", "absent"], "default": "present"}


class Kind(NamedTuple):
    """One kind of thing.

    :param service: boto3's name of the service.
    :param key: name of its return value; with an s, of the list.
    :param current: (client, parameters) → current state.
    :param plan: (current state, parameters) → desired state. Not called for state absent.
    :param apply: (client, before, after, parameters) → warnings. Not called in check mode.
    """

    service: str
    key: str
    current: Callable[[Any, Thing], Thing]
    plan: Callable[[Thing, Thing], Thing]
    apply: Callable[[Any, Thing, Thing, Thing], list[str]]


def run(kind: Kind, options: Thing, required_if: list[Any]) -> None:
    """Run a module for a list of things, so that Python and boto3 start only once."""
    plural = f"{kind.key}s"
    item: Thing = {"type": "list", "elements": "dict", "required": True, "options": options, "required_if": required_if}
    module = AnsibleAWSModule(argument_spec={plural: item}, supports_check_mode=True)
    before, after = bring_about(module, kind, module.params[plural])
    changed = [index for index, was in enumerate(before) if was != after[index]]
    shown = {"before": [before[index] for index in changed], "after": [after[index] for index in changed]}
    module.exit_json(changed=bool(changed), diff=shown, **{plural: after})


def bring_about(module: AnsibleAWSModule, kind: Kind, things: list[Thing]) -> tuple[list[Thing], list[Thing]]:
    """Apply the desired state of things one by one; return the states before and after, in check mode as planned."""
    before, after = [], []
    wanted: Thing = {}
    try:
        client = module.client(kind.service, retry_decorator=AWSRetry.jittered_backoff())
        for wanted in things:
            before.append(kind.current(client, wanted))
            after.append({} if wanted["state"] == "absent" else kind.plan(before[-1], wanted))
            if before[-1] != after[-1] and not module.check_mode:
                for warning in kind.apply(client, before[-1], after[-1], wanted):
                    module.warn(warning)
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        name = wanted.get("name", "")
        verb = "delete" if wanted.get("state") == "absent" else "create or update"
        module.fail_json_aws(error, msg=f"Cannot {verb} the {kind.key.replace('_', ' ')} {name}")
    return before, after


def stated(**values: Any) -> Thing:
    """Return the values that are neither None nor empty."""
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}


def current_tags(client: Any, arn: str) -> Thing:
    """Return the tags of an alarm."""
    tags: Thing = boto3_tag_list_to_ansible_dict(client.list_tags_for_resource(ResourceARN=arn, aws_retry=True)["Tags"])
    return tags


def planned_tags(before: Thing, wanted: Thing) -> Thing:
    """Return the desired tags of a thing."""
    kept = before.get("tags", {}) if wanted["tags"] is None or not wanted["purge_tags"] else {}
    return {**kept, **(wanted["tags"] or {})}


def apply_alarm_tags(client: Any, kind: str, before: Thing, after: Thing) -> None:
    """Set the tags of an existing alarm. CloudWatch ignores the tags in an update of the alarm."""
    added, removed = compare_aws_tags(before.get("tags", {}), after["tags"], purge_tags=True)
    if added or removed:
        found = client.describe_alarms(AlarmNames=[after["name"]], AlarmTypes=[kind], aws_retry=True)
        arn = found[f"{kind}s"][0]["AlarmArn"]
        if added:
            client.tag_resource(ResourceARN=arn, Tags=ansible_dict_to_boto3_tag_list(added), aws_retry=True)
        if removed:
            client.untag_resource(ResourceARN=arn, TagKeys=removed, aws_retry=True)
