# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters of database, bucket, load balancer and names in AWS: thin wrappers around pure functions.

What each does stands in the .yml file of its name beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import artifacts as aws_artifacts
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import database as aws_database
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import dns as aws_dns
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import load_balancer as aws_load_balancer


def _database(function: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Make a filter of what is found wrong with an RDS instance."""
    return lambda found, wanted, parameters, memory: function(plain(wanted), plain(found), plain(parameters), memory)


def dns_zone(found: Any, wanted: Any) -> dict[str, Any]:
    """Return the zone that the names are written into."""
    try:
        return aws_dns.zone(plain(found), plain(wanted))
    except aws_dns.ZoneError as error:
        raise AnsibleFilterError(str(error)) from None


def dns_records(wanted: Any, load_balancer: Any, edges: Any, certificates: Any) -> list[dict[str, Any]]:
    """Return the records of an environment's names."""
    return aws_dns.records(plain(wanted), plain(load_balancer), plain(edges), plain(certificates))


class FilterModule:
    """Ansible finds the filters here."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "artifact_bucket_plan": lambda found, wanted: aws_artifacts.bucket_plan(plain(wanted), plain(found)),
            "database_errors": _database(aws_database.errors),
            "database_findings": _database(aws_database.findings),
            "dns_records": dns_records,
            "dns_zone": dns_zone,
            "load_balancer_certificate": lambda certificates, wanted: aws_load_balancer.choose_certificate(
                plain(certificates), plain(wanted)
            ),
            "target_group_changes": lambda found, wanted: aws_load_balancer.target_group_changes(
                plain(wanted), plain(found)
            ),
            "load_balancer_targets": lambda instances, targets: aws_load_balancer.target_plan(
                plain(instances), plain(targets)
            ),
        }
