# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Layer C(database_access): what lets C(db_access.yml) grant access to the database for a limited time."""

from __future__ import annotations

from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Key, integer, items, keys
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import aws_name, aws_tags
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    security_groups as aws_security_groups,
)

MOST_HOURS = 24

KEYS: dict[str, Key] = {
    "hours": Key(integer(1, MOST_HOURS), MOST_HOURS),
    "networks": Key(items(values.network, "a list of networks such as [10.8.0.0/16]"), []),
}

CHECK = keys(KEYS, "a mapping such as {hours: 8}")


def derive(model: Model) -> dict[str, Any]:
    """Return the security group of grants (empty without a database), and the name of the role and of the schedules."""
    name = aws_name(model, "database-access")
    group = aws_security_groups.group_name(model, "database-access") if model.databases else ""
    return {"group": group, "name": name, "tags": aws_tags(model, "database")}
