#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Find what costs money in an account and serves nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: unused_resources_info
short_description: Find what costs money and serves nothing
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Reads one region of an account and judges what it finds, with an estimate of what each unused resource costs a
    month.
  - What carries the tag C(Keep), or a tag that begins with C(aws:) since another service manages it, is never unused.
  - Changes nothing, and does the same in check mode.
options:
  kinds:
    description:
      - The kinds of resources to look at. All without it.
    type: list
    elements: str
    choices: [environment, instance, volume, load_balancer, target_group, nat_gateway, address, endpoint, image,
              snapshot, database_snapshot, security_group, log_group]
  days:
    description:
      - From how many days on something is unused for long enough, for each of C(environment), C(instance), C(volume),
        C(load_balancer), C(nat_gateway), C(endpoint), C(image), C(snapshot) and C(database_snapshot).
      - They add to the defaults.
    type: dict
    default: {}
  prices:
    description:
      - Prices in USD that add to, or replace, those that are known. Names and units stand in the result.
    type: dict
    default: {}
  production:
    description:
      - Values of the tag C(Environment) of instances that are meant to run all the time.
    type: list
    elements: str
    default: [production]
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fivepointers.platform.attributes.reads
"""

EXAMPLES = r"""
- name: Find what serves nothing, snapshots from a year on
  fivepointers.platform.unused_resources_info:
    region: ap-northeast-2
    days: {snapshot: 365}
  register: found
"""

RETURN = r"""
account:
  description: The account that was looked at.
  returned: always
  type: str
kinds:
  description: The kinds that were looked at.
  returned: always
  type: list
  elements: str
report:
  description: What a plan file holds. Every entry of C(resources) has C(remove), which is false.
  returned: always
  type: dict
prices:
  description: The prices that the estimates rest on, in USD, by GB and month or by hour.
  returned: always
  type: dict
table:
  description: The lines of a table.
  returned: always
  type: list
  elements: str
"""

from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fivepointers.platform.plugins.module_utils.aws import unused
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.unused_account import DAYS, clients, gather
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Report, plain

with suppress(ImportError):  # AnsibleAWSModule says what is missing
    from botocore.exceptions import BotoCoreError, ClientError


def problems(days: Any, prices: dict[str, Any]) -> list[str]:
    """Return what is wrong with the settings."""
    report = Report()
    DAYS(report, "days", days)
    for name, value in prices.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            report.add(f"prices.{name}", value, "this is not a price", "Write USD, such as 0.05.")
    return [f"{item.path} = {item.value}: {item.problem}. {item.fix}" for item in report.problems]


def summary(resources: list[dict[str, Any]], region: str) -> tuple[float, list[str]]:
    """Return the sum a month, and the lines of the report: what costs, then what does not."""
    costly = [item for item in resources if item["monthly"] != 0]
    free = [item for item in resources if item["monthly"] == 0]
    total = round(sum(item["monthly"] or 0 for item in costly), 2)
    lines = unused.table(costly) if costly else ["Nothing that costs money is unused."]
    if costly:
        lines += ["", f"{total:.2f} USD a month, at list prices of {unused.PRICES_OF}."]
        if not unused.PRICES_OF.startswith(region):
            lines[-1] += f" In {region} prices differ: state them in unused_prices."
    return total, [*lines, *(["", "Unused, and costs nothing or next to it:", *unused.table(free)] if free else [])]


def main() -> None:
    """Run the module."""
    spec = {
        "kinds": {"type": "list", "elements": "str", "choices": list(unused.KINDS)},
        "days": {"type": "dict", "default": {}},
        "prices": {"type": "dict", "default": {}},
        "production": {"type": "list", "elements": "str", "default": ["production"]},
    }
    module = AnsibleAWSModule(argument_spec=spec, supports_check_mode=True)
    settings = plain(module.params)
    wrong = problems(settings["days"], settings["prices"])
    if wrong:
        module.fail_json(msg="\n".join(wrong))
    kinds = settings["kinds"] or list(unused.KINDS)
    rules = unused.Rules(
        datetime.now(timezone.utc),
        {**unused.DAYS, **settings["days"]},
        {**unused.PRICES, **settings["prices"]},
        tuple(settings["production"]),
    )
    client = clients(module)
    try:
        account = client("sts").get_caller_identity()["Account"]
        facts = gather(client, {source for kind in kinds for source in unused.KINDS[kind].sources})
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The account cannot be read")
    resources = unused.unused(unused.judge(facts, rules, kinds))
    total, lines = summary(resources, module.region)
    module.exit_json(
        changed=False,
        account=account,
        kinds=kinds,
        table=lines,
        prices=dict(rules.prices),
        report={
            "account": account,
            "region": module.region,
            "made": unused.text(rules.now),
            "days": dict(rules.days),
            "prices_of": unused.PRICES_OF,
            "total": total,
            "resources": [{"remove": False, **entry} for entry in resources],
        },
    )


if __name__ == "__main__":
    main()
