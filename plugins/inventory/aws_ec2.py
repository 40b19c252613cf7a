# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The inventory of one environment."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: aws_ec2
author:
  - Five Pointers (@fivepointers)
version_added: '0.2.0'
short_description: The running instances of one environment
description:
  - Finds the instances with the tags C(Platform=fivepointers) and C(Environment) by P(amazon.aws.aws_ec2#inventory).
  - A host is named by its tag C(Name) and the instance id, since two instances may have the same name.
  - Each service of the tag C(Services), such as C(edge,frontend), has a group C(service_edge); all of these are in the
    group C(platform). An instance without the tag ends the run; it is a mistake, and must not be skipped silently.
  - Hosts have the variables C(aws_instance_id), C(aws_instance_type), C(aws_availability_zone),
    C(aws_private_ip_address) and C(aws_tags); M(amazon.aws.ec2_instance_info) returns the rest.
  - With a cache, the hosts are cached as found, so that neither boto3 is loaded nor a template evaluated. Each
    environment, region, account (by profile or key) and endpoint has its own entry.
  - The file's name ends with C(aws_ec2.yml) or C(aws_ec2.yaml).
extends_documentation_fragment:
  - inventory_cache
  - amazon.aws.common.plugins
  - amazon.aws.assume_role.plugins
options:
  plugin:
    description: This plugin's name.
    type: str
    required: true
    choices:
      - fivepointers.platform.aws_ec2
  environment:
    description: Value of the tag C(Environment).
    type: str
    required: true
  regions:
    description: AWS regions to look in.
    type: list
    elements: str
    required: true
requirements:
  - boto3
"""

EXAMPLES = r"""
# inventories/production/aws_ec2.yml
plugin: fivepointers.platform.aws_ec2
environment: production
regions:
  - ap-northeast-2
---
# Cached for a minute: hosts that are gone in the meantime are still listed.
plugin: fivepointers.platform.aws_ec2
environment: production
regions:
  - ap-northeast-2
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: .ansible/inventory
cache_timeout: 60
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable
from ansible.plugins.loader import inventory_loader
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import tagged_services

ASKS = "amazon.aws.aws_ec2"
OWN = ("plugin", "environment")
# What decides which account and instances are seen: options, and what botocore reads. Never a secret.
SEEN = ("environment", "regions", "profile", "access_key", "assume_role_arn", "endpoint_url")
SEEN_BY_BOTOCORE = (
    "AWS_CONFIG_FILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "AWS_ROLE_ARN", "AWS_SHARED_CREDENTIALS_FILE"
)  # fmt: skip

Hosts = dict[str, dict[str, Any]]


class InventoryModule(BaseInventoryPlugin, Cacheable):
    """Hosts and groups of an environment."""

    NAME = "fivepointers.platform.aws_ec2"

    def verify_file(self, path: str) -> bool:
        """Whether the file name is one of this plugin's."""
        return bool(super().verify_file(path)) and path.endswith(("aws_ec2.yml", "aws_ec2.yaml"))

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        """Fill the inventory.

        :raises AnsibleParserError: an unknown option, no region, what AWS refuses, an instance without Services.
        """
        super().parse(inventory, loader, path, cache)
        self._refuse_unknown(self._read_config_data(path), path)
        options = {name: self._plain(value) for name, value in self.get_options().items()}
        if not options["regions"] or not all(options["regions"]):
            raise AnsibleParserError(f"{path}: regions: {options['regions']}: name each AWS region, as ap-northeast-2.")
        hosts = self._kept(self._key(path, options), cache, options)
        for name, variables in hosts.items():
            for service in tagged_services(variables["aws_tags"]):
                group = inventory.add_group(self._sanitize_group_name(f"service_{service}"))
                inventory.add_child(inventory.add_group("platform"), group)
                inventory.add_host(name, group)
            for variable, value in variables.items():
                inventory.set_variable(name, variable, value)

    def _refuse_unknown(self, config: Mapping[str, Any], path: str) -> None:
        known = set(self.option_definitions) | {
            alias for item in self.option_definitions.values() for alias in item.get("aliases") or ()
        }
        unknown = sorted(set(config) - known)
        if unknown:
            raise AnsibleParserError(
                f"{path}: {', '.join(unknown)}: no option of {self.NAME}. Known are plugin, environment, regions, "
                f"and those of the cache and of AWS credentials; see ansible-doc -t inventory {self.NAME}. "
                f"For a custom inventory use the plugin {ASKS}."
            )

    def _plain(self, value: Any) -> Any:
        return self.templar.template(value) if value else value

    def _key(self, path: str, options: Mapping[str, Any]) -> str:
        seen = json.dumps([*map(options.get, SEEN), *map(os.environ.get, SEEN_BY_BOTOCORE)], default=str)
        return f"{self.get_cache_key(path)}_{hashlib.sha256(seen.encode()).hexdigest()[:16]}"

    def _kept(self, key: str, cache: bool, options: Mapping[str, Any]) -> Hosts:
        """Return the hosts from the cache, or ask and cache the answer. An answer without hosts is not reused."""
        if not options["cache"]:
            return self._ask(options)
        found: Hosts = self._cache.get(key, {}) if cache else {}
        if not found:
            found = self._cache[key] = self._ask(options)
        return found

    def _ask(self, options: Mapping[str, Any]) -> Hosts:
        asker = inventory_loader.get(ASKS)
        if asker is None:
            raise AnsibleParserError(
                f"The plugin {ASKS} is not installed: ansible-galaxy collection install amazon.aws"
            )
        asked = {name: value for name, value in options.items() if name not in OWN and not name.startswith("cache")}
        asked |= {
            "include_filters": [
                {
                    "tag:Platform": "fivepointers",
                    "tag:Environment": options["environment"],
                    "instance-state-name": "running",
                }
            ],
            "hostnames": [{"name": "instance-id", "prefix": "tag:Name", "separator": "_"}],
            "strict_permissions": True,
            "cache": False,
        }
        # It would read them from a file.
        asker._read_config_data = lambda path: asker.set_options(direct=asked)
        found = InventoryData()
        asker.parse(found, self.loader, "", cache=False)
        hosts = {name: _variables(host.get_vars()) for name, host in found.hosts.items()}
        bare = sorted(name for name, variables in hosts.items() if not tagged_services(variables["aws_tags"]))
        if bare:
            raise AnsibleParserError(
                f"No tag Services, or an empty one: {', '.join(bare)}. It names what runs on the instance, such as "
                "`api` or `edge,frontend`. Set it, or remove the tag Platform from an instance that is not a host of "
                "the platform."
            )
        return hosts


def _variables(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "aws_instance_id": found["instance_id"],
        "aws_instance_type": found["instance_type"],
        "aws_availability_zone": found["placement"]["availability_zone"],
        "aws_private_ip_address": found["private_ip_address"],
        "aws_tags": found["tags"],
    }
