#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Find unused resources that cost money."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: unused_resources_info
short_description: Find unused resources that cost money
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - Checks the resources in one region of an account, and estimates the monthly cost of each unused one.
  - A resource with the tag C(Keep), or with a tag that begins with C(aws:) since another service manages it, is never
    reported as unused.
  - Changes nothing, and behaves the same in check mode.
options:
  kinds:
    description:
      - The kinds of resources to check. All by default.
    type: list
    elements: str
    choices: [environment, instance, volume, load_balancer, target_group, nat_gateway, address, endpoint, image,
              snapshot, database_snapshot, security_group, log_group]
  days:
    description:
      - Days after which a resource counts as unused, for each of C(environment), C(instance), C(volume),
        C(load_balancer), C(nat_gateway), C(endpoint), C(image), C(snapshot) and C(database_snapshot).
      - Merged with the defaults.
    type: dict
    default: {}
  prices:
    description:
      - Prices in USD, merged with the known ones. For names and units see the result.
    type: dict
    default: {}
  environment:
    description:
      - Who wants to clean up. The report then says of what belongs to others, or has no tag C(Environment), that
        P(fivepointers.platform.unused_resources#module) would leave it.
    type: str
  production:
    description:
      - Values of the tag C(Environment) of instances that always run.
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
- name: Find unused resources, and snapshots older than a year
  fivepointers.platform.unused_resources_info:
    region: ap-northeast-2
    days: {snapshot: 365}
  register: found
"""

RETURN = r"""
account:
  description: The account that was checked.
  returned: always
  type: str
kinds:
  description: The kinds that were checked.
  returned: always
  type: list
  elements: str
report:
  description: Content of a plan file. Every entry of C(resources) has C(remove) set to false.
  returned: always
  type: dict
prices:
  description: The prices used for the estimates, in USD per GB and month, or per hour.
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

with suppress(ImportError):  # AnsibleAWSModule reports what is missing
    from botocore.exceptions import BotoCoreError, ClientError


def problems(days: Any, prices: dict[str, Any]) -> list[str]:
    """Return the problems of the settings."""
    report = Report()
    DAYS(report, "days", days)
    for name, value in prices.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            report.add(f"prices.{name}", value, "this is not a price", "Write USD, such as 0.05.")
    return [f"{item.path} = {item.value}: {item.problem}. {item.fix}" for item in report.problems]


def summary(resources: list[dict[str, Any]], region: str) -> tuple[float, list[str]]:
    """Return the monthly total, and the lines of the report: resources that cost money, then the others."""
    costly = [item for item in resources if item["monthly"] != 0]
    free = [item for item in resources if item["monthly"] == 0]
    total = round(sum(item["monthly"] or 0 for item in costly), 2)
    lines = unused.table(costly) if costly else ["No unused resource costs money."]
    if costly:
        lines += ["", f"{total:.2f} USD a month, at list prices of {unused.PRICES_OF}."]
        if not unused.PRICES_OF.startswith(region):
            lines[-1] += f" Prices in {region} differ: set them in unused_prices."
    return total, [*lines, *(["", "Unused, at little or no cost:", *unused.table(free)] if free else [])]


def main() -> None:
    """Run the module."""
    spec = {
        "environment": {"type": "str"},
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
        settings["environment"] or "",
    )
    client = clients(module)
    try:
        account = client("sts").get_caller_identity()["Account"]
        facts = gather(client, {source for kind in kinds for source in unused.KINDS[kind].sources})
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="Cannot read the account")
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
