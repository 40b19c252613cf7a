# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The layer `artifacts`: the bucket for artifacts. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    integer,
    items,
    keys,
    text,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import MANAGED_BY
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import names
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import FoundError, elsewhere

KEYS: dict[str, Key] = {
    "old_versions_days": Key(integer(1, 3650), 30),
    "abort_uploads_days": Key(integer(1, 365), 7),
    "writers": Key(
        items(
            text(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", "the ARN of one role"),
            "a list of roles such as ['arn:aws:iam::111122223333:role/build-production']",
        ),
        [],
    ),
}
CHECK = keys(KEYS, "a mapping such as {old_versions_days: 30}")


def derive(model: Model) -> dict[str, Any]:
    """Return the bucket of C(platform_environment.artifacts); C(bucket) is empty if artifacts are kept elsewhere."""
    settings = model.environment["aws"]["artifacts"]
    store = plans.artifact_store(model.environment["artifacts"])
    bucket = store.get("bucket", "")
    partition = "aws-cn" if model.environment["region"].startswith("cn-") else "aws"
    arn = f"arn:{partition}:s3:::{bucket}"
    tls_only = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    statements = [tls_only]
    if settings["writers"]:
        statements.append(
            {
                "Sid": "WritersOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": [
                    "s3:DeleteObject",
                    "s3:DeleteObjectVersion",
                    "s3:PutObject",
                    "s3:ReplicateDelete",
                    "s3:ReplicateObject",
                ],
                "Resource": f"{arn}/{store.get('prefix', '')}*",
                "Condition": {"ArnNotEquals": {"aws:PrincipalArn": settings["writers"]}},
            }
        )
    return {
        "bucket": bucket,
        "policy": {"Version": "2012-10-17", "Statement": statements},
        "old_versions_days": settings["old_versions_days"],
        "abort_uploads_days": settings["abort_uploads_days"],
        "rule": "fivepointers",
        "tags": names.aws_tags(model, "artifacts"),
    }


def bucket_state(found: Sequence[Mapping[str, Any]], rule: str) -> dict[str, Any]:
    """Return what s3_bucket_info found of a bucket, in the form of C(wanted); empty if there is none."""
    if not found:
        return {}
    bucket = found[0]
    encryption = _first(bucket, "bucket_encryption", "ServerSideEncryptionConfiguration", "Rules")
    rules = (bucket.get("bucket_lifecycle_configuration") or {}).get("Rules") or []
    lifecycle: Mapping[str, Any] = next((item for item in rules if item.get("ID") == rule), {})
    block = (bucket.get("public_access_block") or {}).get("PublicAccessBlockConfiguration") or {}
    policy = (bucket.get("bucket_policy") or {}).get("Policy")
    return {
        "tags": bucket.get("bucket_tagging") or {},
        "versioning": (bucket.get("bucket_versioning") or {}).get("Status") == "Enabled",
        "encryption": encryption.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm"),
        "private": len(block) == len(BLOCKS) and all(block.values()),
        "policy": json.loads(policy) if policy else None,
        "ownership": _first(bucket, "bucket_ownership_controls", "OwnershipControls", "Rules").get("ObjectOwnership"),
        "old_versions_days": lifecycle.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        "abort_uploads_days": lifecycle.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    }


BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def _first(bucket: Mapping[str, Any], fact: str, *path: str) -> Mapping[str, Any]:
    value: Any = bucket.get(fact) or {}
    for key in path:
        value = value.get(key) or {}
    return value[0] if value else {}


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether the bucket is C(ours) to change, and the C(changes): one line each.

    there: C(buckets), what s3_bucket_info found. s3_bucket has no check mode, so this says what it would do.
    Raises FoundError for another environment's bucket: its policy and tags are for that environment.
    """
    found, wanted = there["buckets"], derived
    name = wanted["bucket"]
    if not name:
        return {"ours": True, "changes": []}
    state = bucket_state(found, wanted["rule"])
    if not state:
        return {"ours": True, "changes": [f"{name}, created"]}
    if reason := elsewhere(state["tags"], wanted["tags"]["Environment"]):
        raise FoundError(
            f"platform_environment.artifacts: the bucket {name} {reason}. Each environment needs its own: name another."
        )
    aims = {
        # Other tags are kept.
        "tags": {**state["tags"], **wanted["tags"]},
        **{key: wanted[key] for key in ("policy", "old_versions_days", "abort_uploads_days")},
        "versioning": True,
        "encryption": "AES256",
        "private": True,
        "ownership": "BucketOwnerEnforced",
    }
    lines = [
        f"{name}: {key} {json.dumps(aim)} instead of {json.dumps(state[key])}"
        for key, aim in aims.items()
        if state[key] != aim
    ]
    ours = state["tags"].get("ManagedBy") == MANAGED_BY
    if not ours:
        lines = [f"{line}; somebody else created the bucket, so it is left unchanged" for line in lines]
    return {"ours": ours, "changes": lines}
