# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The layer C(database_access): what C(db_access.yml) needs to grant temporary database access."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Key, integer, items, keys
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import aws_name, aws_tags
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import iam
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    security_groups as aws_security_groups,
)

MOST_HOURS = 24
RENAME = "Rename that role, or the environment."

KEYS: dict[str, Key] = {
    "hours": Key(integer(1, MOST_HOURS), MOST_HOURS),
    "networks": Key(items(values.network, "a list of networks such as [10.8.0.0/16]"), []),
}

CHECK = keys(KEYS, "a mapping such as {hours: 8}")


def derive(model: Model) -> dict[str, Any]:
    """Return the security group of grants (empty without a database), and the name of the role and of the schedules."""
    name = aws_name(model, "database-access")
    group = aws_security_groups.group_name(model, "database-access") if model.databases else ""
    return {
        "group": group,
        "name": name,
        "tags": aws_tags(model, "database"),
        "region": model.environment["region"],
    }


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the C(groups) on which access is granted (one, if all is well), and the C(role) that revokes its rules.

    there: C(groups) of the region, C(caller), and the C(roles) that have the role's name. Returns also the C(roles) to
    create or change and the C(refusals) of C(iam.compare).
    """
    groups = [item for item in there["groups"] if item["group_name"] == derived["group"]]
    partition, account = there["caller"]["arn"].split(":")[1], there["caller"]["account"]
    # In check mode, the group does not exist before the first run.
    group = groups[0]["group_id"] if groups else "sg-unknown"
    statement = {
        "Effect": "Allow",
        "Action": "ec2:RevokeSecurityGroupIngress",
        "Resource": f"arn:{partition}:ec2:{derived['region']}:{account}:security-group/{group}",
    }
    description = "Revokes access to the database when its time is over"
    role = iam.scheduler_role(derived["name"], description, derived["tags"], account, [statement])
    return {"groups": groups, "role": role, **iam.compare([role], there["roles"], RENAME)}
