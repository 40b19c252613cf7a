# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The lock's register as an item of a DynamoDB table, for environments without hosts: one item, conditional writes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import register
from botocore.exceptions import ClientError

CONDITION = "attribute_not_exists(version) OR version = :version"


class TableStore(register.Store):
    """The register of an environment in a table whose key is the string `environment`.

    client: a client of DynamoDB. Nobody but the claimants sees time pass: a claimant that finds the lock held watches
    whether the holder's beat goes on, and takes over if it does not for LEASE seconds of its own monotonic clock.
    """

    def __init__(self, client: Any, table: str, environment: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.client, self.table, self.clock = client, table, clock
        self.key = {"environment": {"S": environment}}
        self._seen: tuple[str, float] = ("", 0.0)

    def update(self, change: Callable[[register.Record, float], dict[str, Any]]) -> dict[str, Any]:
        """Replace the item unless another has replaced it meanwhile; then look again. Raises ClientError."""
        while True:
            item = self.client.get_item(TableName=self.table, Key=self.key, ConsistentRead=True).get("Item") or {}
            version = item.get("version", {}).get("N", "0")
            if version != self._seen[0]:
                self._seen = (version, self.clock())
            record = json.loads(item["record"]["S"]) if item else {}
            new = change(record, self.clock() - self._seen[1])
            content = {"version": {"N": str(int(version) + 1)}, "record": {"S": json.dumps(new)}}
            try:
                self.client.put_item(
                    TableName=self.table,
                    Item={**self.key, **content},
                    ConditionExpression=CONDITION,
                    ExpressionAttributeValues={":version": {"N": version}},
                )
                return new
            except ClientError as error:
                if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                    raise

    def gives_up(self, first: register.Record, now: register.Record, passed: float, patience: float) -> bool:
        """Return whether the holder showed a sign of life: with one register, nobody claims at the same time."""
        return (first.get("id"), first.get("beat")) != (now.get("id"), now.get("beat"))
