# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""IAM roles that layers create: for hosts, and for EventBridge Scheduler. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import foreign, lacks


def scheduler_role(
    name: str, description: str, tags: Mapping[str, str], account: str, statements: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a role for EventBridge Scheduler of this account, which allows exactly these statements."""
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "scheduler.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": account}},
    }
    return {
        "name": name,
        "description": description,
        "tags": dict(tags),
        "trust": {"Version": "2012-10-17", "Statement": [trust]},
        # As text, since Ansible would sort the keys.
        "policy": json.dumps({"Version": "2012-10-17", "Statement": list(statements)}),
    }


def compare(wanted: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]], fix: str) -> dict[str, Any]:
    """Return the C(roles) to create or change, and C(refusals): why a role of that name must not be changed.

    there: the roles of these names, as iam_role_info returns them. fix: what to do about a role of another owner.
    Equal policies can be written differently: a role whose text differs is returned, and the module compares it.
    """
    by_name = {role["role_name"]: role for role in there}
    refusals = [
        f"The role {role['name']} {reason}. {fix}"
        for role in wanted
        if role["name"] in by_name and (reason := foreign(by_name[role["name"]].get("tags") or {}, role["tags"]))
    ]
    differing = [
        role
        for role in wanted
        if (found := by_name.get(role["name"])) is None
        or found.get("description") != role["description"]
        or found["assume_role_policy_document"] != role["trust"]
        or lacks(found["tags"], role["tags"])
    ]
    return {"roles": differing, "refusals": refusals}
