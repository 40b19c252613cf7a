#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Let RDS keep the master password of an instance in Secrets Manager."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rds_managed_password
short_description: Let RDS keep the master password of an instance in Secrets Manager
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - RDS makes a new master password, keeps it in a secret of its own in Secrets Manager, and rotates it.
  - The password that the instance had before is worth nothing afterwards.
options:
  db_instance_identifier:
    description:
      - Identifier of the instance.
    type: str
    required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Tells whether it would be done. An instance that is not there yet counts as one that would get it.
    support: full
  diff_mode:
    description: There is nothing to compare but a password.
    support: none
"""

EXAMPLES = r"""
- name: Have the master password kept and rotated
  fivepointers.platform.rds_managed_password:
    db_instance_identifier: production-database
"""

RETURN = r"""
secret_arn:
  description: The secret that holds user and password; empty in check mode as long as there is none.
  returned: success
  type: str
"""

from contextlib import suppress
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry

with suppress(ImportError):  # AnsibleAWSModule says so
    from botocore.exceptions import BotoCoreError, ClientError


def secret_of(client: Any, identifier: str) -> str | None:
    """Return the ARN of the instance's secret, empty where it has none, None where there is no instance."""
    try:
        instances = client.describe_db_instances(DBInstanceIdentifier=identifier, aws_retry=True)["DBInstances"]
    except is_boto3_error_code("DBInstanceNotFound"):
        return None
    return str(instances[0].get("MasterUserSecret", {}).get("SecretArn", ""))


def main() -> None:
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec={"db_instance_identifier": {"type": "str", "required": True}}, supports_check_mode=True
    )
    identifier = module.params["db_instance_identifier"]
    client = module.client("rds", retry_decorator=AWSRetry.jittered_backoff())
    try:
        secret = secret_of(client, identifier)
        changed = not secret
        if secret is None and not module.check_mode:
            module.fail_json(msg=f"There is no RDS instance {identifier}: make it first.")
        if changed and not module.check_mode:
            client.modify_db_instance(
                DBInstanceIdentifier=identifier, ManageMasterUserPassword=True, ApplyImmediately=True, aws_retry=True
            )
            client.get_waiter("db_instance_available").wait(DBInstanceIdentifier=identifier)
            secret = secret_of(client, identifier)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"The master password of {identifier} cannot be given to Secrets Manager")
    module.exit_json(changed=changed, secret_arn=secret or "")


if __name__ == "__main__":
    main()
