#!/usr/bin/python
# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Let RDS manage the master password of an instance in Secrets Manager."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rds_managed_password
short_description: Let RDS manage the master password of an instance in Secrets Manager
version_added: '0.2.0'
author:
  - Five Pointers (@fivepointers)
description:
  - RDS generates a new master password, keeps it in its own secret in Secrets Manager, and rotates it.
  - The previous password of the instance is no longer valid.
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
    description: Reports whether the password would be handed over, also for an instance that does not exist yet.
    support: full
  diff_mode:
    description: The only difference is a password.
    support: none
"""

EXAMPLES = r"""
- name: Have the master password managed and rotated
  fivepointers.platform.rds_managed_password:
    db_instance_identifier: production-database
"""

RETURN = r"""
secret_arn:
  description: The secret with user and password; empty in check mode if it does not exist yet.
  returned: success
  type: str
"""

from contextlib import suppress
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry

with suppress(ImportError):  # AnsibleAWSModule reports it
    from botocore.exceptions import BotoCoreError, ClientError


def secret_of(client: Any, identifier: str) -> str | None:
    """Return the ARN of the instance's secret, empty if it has none, None if there is no instance."""
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
            module.fail_json(msg=f"RDS instance {identifier} not found. Create it first.")
        if changed and not module.check_mode:
            client.modify_db_instance(
                DBInstanceIdentifier=identifier, ManageMasterUserPassword=True, ApplyImmediately=True, aws_retry=True
            )
            client.get_waiter("db_instance_available").wait(DBInstanceIdentifier=identifier)
            secret = secret_of(client, identifier)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"Cannot let Secrets Manager manage the master password of {identifier}")
    module.exit_json(changed=changed, secret_arn=secret or "")


if __name__ == "__main__":
    main()
