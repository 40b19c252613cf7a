# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The lookup that fetches the secrets of a plan."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: secrets
author:
  - Five Pointers (@fivepointers)
version_added: '0.2.0'
short_description: Fetch the secrets that a plan references
description:
  - Fetches all secrets of a plan in one call, each at most once.
  - They come from AWS Secrets Manager, the SSM parameter store, or variables of the controller, such as vaulted ones.
  - Uses E(AWS_ENDPOINT_URL), E(AWS_PROFILE) and everything else that boto3 reads.
  - Set C(no_log) on tasks that use this lookup.
options:
  _terms:
    description:
      - References as the filter P(fivepointers.platform.secret_references#filter) returns them.
      - Each has a C(name), and one of C(secretsmanager) (with C(key) for one key of a JSON secret), C(ssm)
        and C(variable). C(region) is the AWS region of the secret.
    type: list
    elements: dict
    required: true
  region:
    description:
      - AWS region of references without one.
      - Defaults to the region in the controller's AWS configuration.
    type: str
  otherwise:
    description: What to do if a secret cannot be read, other than to make it readable. A sentence, added to errors.
    type: str
    default: ''
    version_added: '0.2.0'
requirements:
  - boto3, if secrets come from AWS
"""

EXAMPLES = r"""
- name: Fetch the secrets that the services need
  ansible.builtin.set_fact:
    service_secrets: "{{ lookup('fivepointers.platform.secrets', platform | fivepointers.platform.secret_references) }}"
  no_log: true
"""

RETURN = r"""
_raw:
  description: One mapping of the secrets' names to their values.
  type: list
  elements: dict
"""

import json
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    HAS_BOTO3 = True
except ImportError:
    HAS_BOTO3 = False

SOURCES = ("secretsmanager", "ssm", "variable")
SSM_BATCH = 10

Reference = dict[str, str]


def failure(reference: Reference, problem: str, fix: str) -> AnsibleLookupError:
    """Return the error for one reference. It never holds a value."""
    where = ", ".join(f"{key}: {reference[key]}" for key in (*SOURCES, "key") if key in reference)
    return AnsibleLookupError(f"The secret '{reference['name']}' ({where}) cannot be read: {problem}. {fix}")


def aws_failure(reference: Reference, error: Any, action: str) -> AnsibleLookupError:
    """Return the error for an answer of AWS."""
    code = error.response.get("Error", {}).get("Code", "unknown")
    if code == "ResourceNotFoundException":
        problem = "there is no such secret in this region and account"
        fix = "Create it, or correct the reference in platform_environment."
    elif "AccessDenied" in code or "Unauthorized" in code:
        problem, fix = f"AWS denies access ({code})", f"Allow {action} on it for the controller."
    elif any(word in code for word in ("Token", "Credential", "Signature")):
        problem = f"AWS does not accept the credentials ({code})"
        fix = "Renew the AWS credentials of the controller."
    else:
        problem, fix = f"AWS answers {code}", "Check the secret in the AWS console."
    return failure(reference, problem, fix)


def from_secretsmanager(client: Any, references: list[Reference]) -> dict[str, str]:
    """Return the values of references to Secrets Manager; each secret is requested once."""
    found: dict[str, str] = {}
    values = {}
    for reference in references:
        secret = reference["secretsmanager"]
        if secret not in found:
            try:
                answer = client.get_secret_value(SecretId=secret)
            except ClientError as error:
                raise aws_failure(reference, error, "secretsmanager:GetSecretValue") from None
            if "SecretString" not in answer:
                raise failure(reference, "it is binary", "Store it as text.")
            found[secret] = answer["SecretString"]
        values[reference["name"]] = member(reference, found[secret]) if "key" in reference else found[secret]
    return values


def member(reference: Reference, text: str) -> str:
    """Return one key of a JSON secret."""
    try:
        data = json.loads(text)
    except ValueError:
        fix = "Store a JSON object, or remove 'key' from the reference."
        raise failure(reference, "it is not JSON", fix) from None
    if not isinstance(data, dict) or reference["key"] not in data:
        raise failure(reference, "its JSON has no such key", "Add the key to the secret, or correct the reference.")
    value = data[reference["key"]]
    return value if isinstance(value, str) else json.dumps(value)


def from_ssm(client: Any, references: list[Reference]) -> dict[str, str]:
    """Return the values of references to the parameter store, ten in a call."""
    found: dict[str, str] = {}
    names = list(dict.fromkeys(reference["ssm"] for reference in references))
    for start in range(0, len(names), SSM_BATCH):
        batch = names[start : start + SSM_BATCH]
        try:
            answer = client.get_parameters(Names=batch, WithDecryption=True)
        except ClientError as error:
            first = next(reference for reference in references if reference["ssm"] in batch)
            raise aws_failure(first, error, "ssm:GetParameters") from None
        found.update({item["Name"]: item["Value"] for item in answer["Parameters"]})
    for reference in references:
        if reference["ssm"] not in found:
            problem = "there is no such parameter in this region and account"
            fix = "Create it as a SecureString, or correct the reference in platform_environment."
            raise failure(reference, problem, fix)
    return {reference["name"]: found[reference["ssm"]] for reference in references}


def checked_references(terms: list[Any]) -> list[Reference]:
    """Return the references among the lookup's terms, which may be lists of them."""
    flat = [item for term in terms for item in (term if isinstance(term, list) else [term])]
    for item in flat:
        if not isinstance(item, dict) or "name" not in item or sum(source in item for source in SOURCES) != 1:
            raise AnsibleLookupError(
                "This is not a reference to a secret. The lookup takes {name, secretsmanager|ssm|variable}; pass the "
                "result of the filter fivepointers.platform.secret_references."
            )
    return flat


class LookupModule(LookupBase):
    """Fetch secrets."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, str]]:
        """Return one mapping of names to values."""
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return self._fetch(terms, variables)
        except AnsibleLookupError as error:
            if not self.get_option("otherwise"):
                raise
            raise AnsibleLookupError(f"{error} {self.get_option('otherwise')}") from None

    def _fetch(self, terms: list[Any], variables: dict[str, Any] | None) -> list[dict[str, str]]:
        references = checked_references(plain(terms))
        values: dict[str, str] = {}
        groups: dict[tuple[str, str | None], list[Reference]] = {}
        for reference in references:
            source = next(source for source in SOURCES if source in reference)
            groups.setdefault((source, reference.get("region")), []).append(reference)
        for (source, region), group in groups.items():
            if source == "variable":
                values.update(self._from_variables(group, variables or {}))
            else:
                values.update(self._from_aws(source, region or self.get_option("region"), group))
        for reference in references:
            if not values[reference["name"]]:
                raise failure(reference, "it is empty", "Store a value.")
        return [{reference["name"]: values[reference["name"]] for reference in references}]

    def _from_aws(self, source: str, region: str | None, references: list[Reference]) -> dict[str, str]:
        if not HAS_BOTO3:
            problem = "boto3 is not installed on the controller"
            raise failure(references[0], problem, "Install it: pip install boto3.")
        config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "max_attempts": 3})
        try:
            client = boto3.session.Session(region_name=region).client(source, config=config)
            return (from_ssm if source == "ssm" else from_secretsmanager)(client, references)
        except BotoCoreError as error:
            fix = "Check the controller's AWS credentials, its region and AWS_ENDPOINT_URL."
            raise failure(references[0], str(error).rstrip("."), fix) from None

    def _from_variables(self, references: list[Reference], variables: dict[str, Any]) -> dict[str, str]:
        values = {}
        for reference in references:
            if reference["variable"] not in variables:
                fix = "Define it for the controller, for instance in a vaulted file of group_vars/all."
                raise failure(reference, "there is no such variable", fix)
            value = plain(self._templar.template(variables[reference["variable"]]))
            if not isinstance(value, str):
                raise failure(reference, "it is not a string", "Write its value in quotes.")
            values[reference["name"]] = value
        return values
