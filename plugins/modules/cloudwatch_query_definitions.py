#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manage saved queries of CloudWatch Logs Insights."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cloudwatch_query_definitions
short_description: Manage saved queries of CloudWatch Logs Insights
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Creates, updates and deletes query definitions, identified by name.
  - CloudWatch has no tags for query definitions.
options:
  query_definitions:
    description:
      - The queries.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the query. The part before a slash is shown as a folder.
        type: str
        required: true
      query:
        description:
          - The query.
          - Required if O(query_definitions[].state=present).
        type: str
      log_groups:
        description:
          - Names of the log groups to query.
        type: list
        elements: str
        default: []
      state:
        description:
          - Whether the query exists.
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
- name: Save a query for failed requests, and delete the previous one
  fivepointers.platform.cloudwatch_query_definitions:
    query_definitions:
      - name: production/requests that failed
        log_groups: [/fivepointers/production/nginx]
        query: |-
          fields @timestamp, @message
          | filter status >= 500
      - name: production/failures
        state: absent
"""

RETURN = r"""
query_definitions:
  description: The queries after the run, in check mode as they would be; an absent one is empty.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the query.
      type: str
      returned: where present
    query:
      description: The query.
      type: str
      returned: where present
    log_groups:
      description: Names of the log groups to query.
      type: list
      elements: str
      returned: where present
"""

from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.aws.cloudwatch_resource import (
    STATE,
    Kind,
    Thing,
    run,
)


def find(client: Any, name: str) -> Thing:
    """Return the first query of exactly this name as CloudWatch describes it."""
    arguments = {"queryDefinitionNamePrefix": name}
    while True:
        page = client.describe_query_definitions(**arguments, aws_retry=True)
        for item in page["queryDefinitions"]:
            if item["name"] == name:
                return dict(item)
        if not page.get("nextToken"):
            return {}
        arguments["nextToken"] = page["nextToken"]


def current(client: Any, wanted: Thing) -> Thing:
    """Return the query."""
    found = find(client, wanted["name"])
    if not found:
        return {}
    groups = sorted(found.get("logGroupNames", []))
    return {"name": found["name"], "query": found["queryString"], "log_groups": groups}


def plan(before: Thing, wanted: Thing) -> Thing:
    """Return the desired state of the query."""
    return {"name": wanted["name"], "query": wanted["query"], "log_groups": sorted(wanted["log_groups"])}


def apply(client: Any, before: Thing, after: Thing, wanted: Thing) -> list[str]:
    """Apply the desired state of the query."""
    known = {"queryDefinitionId": find(client, before["name"])["queryDefinitionId"]} if before else {}
    if after:
        arguments = {"name": after["name"], "queryString": after["query"], "logGroupNames": after["log_groups"]}
        client.put_query_definition(**arguments, **known, aws_retry=True)
    else:
        client.delete_query_definition(**known, aws_retry=True)
    return []


QUERY_DEFINITION = Kind("logs", "query_definition", current, plan, apply)


def main() -> None:
    """Run the module."""
    run(
        QUERY_DEFINITION,
        {
            "name": {"required": True},
            "query": {},
            "log_groups": {"type": "list", "elements": "str", "default": []},
            "state": STATE,
        },
        required_if=[("state", "present", ("query",))],
    )


if __name__ == "__main__":
    main()
