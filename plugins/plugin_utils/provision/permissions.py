# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""C(platform_environment.aws.permissions): what a service may do in AWS. The roles of its hosts allow it. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Check,
    Key,
    Report,
    items,
    keys,
    table,
    text,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.values import MANAGED
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.plan import artifact_store

ROOT = "platform_environment.aws.permissions"
EXAMPLE = "a list such as [{actions: [s3:GetObject], resources: ['arn:aws:s3:::shop-uploads/*']}]"

#: What applications call while they run. Everything else is refused, since a list of what is dangerous is never
#: complete: many services can run code with another role, or change who may use something. Each can be narrowed to
#: resources; those that also start code name functions and state machines, which run with roles of their own.
ACTIONS: Mapping[str, str] = {
    "bedrock": "ApplyGuardrail InvokeModel InvokeModelWithResponseStream Retrieve RetrieveAndGenerate",
    "dynamodb": "BatchGetItem BatchWriteItem ConditionCheckItem DeleteItem DescribeTable GetItem PutItem Query Scan"
    " UpdateItem",
    "elasticache": "Connect",
    "es": "ESHttpDelete ESHttpGet ESHttpHead ESHttpPatch ESHttpPost ESHttpPut",
    "events": "PutEvents",
    "execute-api": "Invoke ManageConnections",
    "firehose": "PutRecord PutRecordBatch",
    "kinesis": "DescribeStream DescribeStreamSummary GetRecords GetShardIterator ListShards PutRecord PutRecords",
    "kms": "Decrypt DescribeKey Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateMac GetPublicKey Sign"
    " Verify VerifyMac",
    "lambda": "InvokeFunction InvokeFunctionUrl",
    "rds-db": "connect",
    "rekognition": "DeleteFaces DetectCustomLabels IndexFaces ListFaces SearchFaces SearchFacesByImage",
    "s3": "AbortMultipartUpload DeleteObject DeleteObjectVersion GetBucketLocation GetObject GetObjectAttributes"
    " GetObjectTagging GetObjectVersion ListBucket ListBucketMultipartUploads ListBucketVersions"
    " ListMultipartUploadParts PutObject PutObjectTagging",
    "secretsmanager": "DescribeSecret GetSecretValue",
    "ses": "SendBulkEmail SendBulkTemplatedEmail SendEmail SendRawEmail SendTemplatedEmail",
    "sns": "Publish",
    "sqs": "ChangeMessageVisibility DeleteMessage GetQueueAttributes GetQueueUrl ReceiveMessage SendMessage",
    "ssm": "GetParameter GetParameters GetParametersByPath",
    "states": "DescribeExecution StartExecution StartSyncExecution",
    "sts": "AssumeRole",
}
KNOWN = frozenset(f"{service}:{name}" for service, names in ACTIONS.items() for name in names.split())
ASSUME = "sts:AssumeRole"
#: With this begin the names of the secrets of every environment, and of what builds.
RESERVED = "fivepointers"
#: Services whose ARNs name a resource without its type before it.
UNTYPED = frozenset({"execute-api", "s3", "sns", "sqs"})


def action(report: Report, path: str, value: Any) -> str | None:
    """An action, written in full, that applications need while they run."""
    found = text(r"[a-z0-9-]+:[A-Za-z0-9*?]+", "an action such as s3:GetObject")(report, path, value)
    if found is None:
        return None
    if "*" in found or "?" in found:
        problem, fix = "a pattern also allows actions that AWS adds later", "List the actions that the service calls."
    elif found not in KNOWN:
        problem = "it is not one of the actions that applications need while they run"
        fix = "Remove it. If the service needs it, a person attaches a policy of their own to the role of its hosts."
        fix += report.suggest(found, sorted(KNOWN))
    else:
        return found
    report.add(path, found, problem, fix)
    return None


def resource(report: Report, path: str, value: Any) -> str | None:
    """The ARN of a resource whose name is given, at least in part."""
    pattern = r"arn:aws[a-z-]*:[a-z0-9-]+:[^:\s]*:[^:\s]*:\S+"
    found = text(pattern, "an ARN that names a resource, such as arn:aws:s3:::shop-uploads/*")(report, path, value)
    if found is None:
        return None
    name = _name(found)
    if re.match(r"[*?$]", name) or (found.split(":")[2] == "s3" and re.search("[*?$]", name.partition("/")[0])):
        problem = "it names no resource, so that it also means those of other services and environments"
        report.add(path, found, problem, "Write the resource's name; a pattern may follow its first letters.")
        return None
    return found


def _name(arn: str) -> str:
    """Return the name of a resource, without its type; a pattern for the type, as in secre*, is for any name."""
    service, name = arn.split(":")[2], arn.split(":", 5)[5]
    if service in UNTYPED:
        return name
    typed = re.fullmatch(r"[A-Za-z-]+[:/]/*(.*)", name)
    return typed[1] if typed else "*"


def conditions(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """Conditions as IAM has them: operators, keys and values."""
    operator = text(r"(?:ForAllValues:|ForAnyValue:)?[A-Z][A-Za-z]+", "an operator such as StringEquals")
    key = text(r"[a-z0-9-]+:[^\s]+", "a key such as aws:RequestedRegion")
    return table(operator, table(key, _texts, "a mapping of keys to values"), "a mapping such as {StringEquals: {…}}")(
        report, path, value
    )


def _texts(report: Report, path: str, value: Any) -> str | list[str] | None:
    one = text(None, "a text, or a list of texts")
    return items(one, "a list of texts")(report, path, value) if isinstance(value, list) else one(report, path, value)


STATEMENT_KEYS: dict[str, Key] = {
    "actions": Key(
        items(action, "a list such as [s3:GetObject]"),
        required=True,
        hint="Add actions, such as [s3:GetObject].",
    ),
    "resources": Key(
        items(resource, "a list such as ['arn:aws:s3:::shop-uploads/*']"),
        required=True,
        hint="Add resources, such as ['arn:aws:s3:::shop-uploads/*'].",
    ),
    "conditions": Key(conditions, {}),
}


def statement(report: Report, path: str, value: Any) -> dict[str, Any] | None:
    """What IAM calls a statement, and allows."""
    checked = keys(STATEMENT_KEYS, "a mapping with actions and resources")(report, path, value)
    if checked is None:
        return None
    for key in ("actions", "resources"):
        if value.get(key) == []:
            report.add(f"{path}.{key}", [], "IAM refuses a statement without any", STATEMENT_KEYS[key].hint)
    if ASSUME in (checked["actions"] or []):
        for number, arn in enumerate(checked["resources"] or []):
            if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", arn):
                problem = f"{ASSUME} would reach any role that fits"
                report.add(
                    f"{path}.resources[{number}]", arn, problem, "Name one role: arn:aws:iam::111122223333:role/x."
                )
    return checked


CHECK: Check = table(
    text(None, "the name of a service"),
    items(statement, EXAMPLE),
    "a mapping of services to lists of statements",
)


def allowed(model: Model, services: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the statements of these services."""
    stated = (model.environment["aws"] or {}).get("permissions") or {}
    for name in services:
        yield from stated.get(name, [])


def problems(report: Report, model: Model) -> None:
    """Require a statement of every service with C(aws: true), and of no other; keep what all hosts trust out of it."""
    stated = model.environment["aws"]["permissions"]
    for name, service in model.services.items():
        if service["aws"] and name not in stated:
            fix = f"Add {EXAMPLE}; or [] if it may do nothing in this environment."
            report.add(f"{ROOT}.{name}", None, f"services.{name}.aws is true, and what it may do is missing", fix)
    for name, found in stated.items():
        if name not in model.services:
            fix = f"Correct the name, or remove it.{report.suggest(name, model.services)}"
            report.add(f"{ROOT}.{name}", name, f"unknown service '{name}'", fix)
        elif not model.services[name]["aws"]:
            problem = "this service does not get the credentials of its host"
            report.add(f"{ROOT}.{name}", name, problem, f"Add `aws: true` to services.{name}, or remove this.")
        for number, entry in enumerate(found):
            for position, arn in enumerate(entry["resources"] or []):
                if reason := _trusted(model, arn) or _elsewhere(model, arn):
                    fix = "Name a resource of the service's own."
                    report.add(f"{ROOT}.{name}[{number}].resources[{position}]", arn, reason, fix)


def _elsewhere(model: Model, arn: str) -> str:
    """Return why a secret is not this environment's alone: it may be another one's, or that of a build."""
    if arn.split(":")[2] not in ("secretsmanager", "ssm"):
        return ""
    own = f"{RESERVED}/{model.environment['name']}/"
    # What a pattern certainly begins with.
    start = re.split(r"[*?$]", _name(arn))[0]
    if any(prefix.startswith(start) for prefix in MANAGED):
        return "it also means the passwords of other databases"
    if start.startswith(own) or not (start.startswith(RESERVED) or RESERVED.startswith(start)):
        return ""
    return f"of the names that begin with {RESERVED}, services may read those below {own} only"


def _trusted(model: Model, arn: str) -> str:
    """Return why no service may have a resource: every host trusts it."""
    bucket = artifact_store(model.environment["artifacts"]).get("bucket")
    if bucket and arn.split(":", 5)[5].partition("/")[0] == bucket and ":s3:" in arn:
        return "this is where artifacts are, which run on every host"
    private = (model.environment["artifact_signing"] or {}).get("private_key") or {}
    # AWS appends six characters to the name of a secret.
    names = {
        "secretsmanager": f"secret:{str(private.get('secretsmanager')).rpartition(':secret:')[2]}-AbCdEf",
        "ssm": f"parameter/{str(private.get('ssm')).rpartition(':parameter')[2].lstrip('/')}",
    }
    for kind, name in names.items():
        if private.get(kind) and f":{kind}:" in arn and fnmatch.fnmatchcase(name, arn.split(":", 5)[5]):
            return "this is the key that signs artifacts"
    return ""
