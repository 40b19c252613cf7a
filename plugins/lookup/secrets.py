# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
name: secrets
author:
  - Five Pointers (@fivepointers)
version_added: '0.1.0'
short_description: Fetch the secrets that a plan refers to
description:
  - Fetches all secrets of a plan in one call, each at most once.
  - They come from AWS Secrets Manager, from the SSM parameter store, or from variables of the controller such as vaulted ones.
  - Tasks that use this lookup need C(no_log).
options:
  _terms:
    description:
      - References as the filter P(fivepointers.platform.secret_references#filter) returns them.
      - Each has O(_terms[].name) and one of C(secretsmanager) (with C(key) for one key of a JSON secret), C(ssm) or C(variable).
    type: list
    elements: dict
    required: true
  region:
    description:
      - AWS region. Without it, what the AWS configuration of the controller says.
    type: str
    env:
      - name: AWS_REGION
      - name: AWS_DEFAULT_REGION
    vars:
      - name: platform_secrets_region
requirements:
  - boto3, where secrets come from AWS
notes:
  - Honours E(AWS_ENDPOINT_URL), E(AWS_PROFILE) and everything else that boto3 reads.
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
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.fivepointers.platform.plugins.module_utils.schema import plain

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    boto3 = None

SSM_BATCH = 10


def fail(name: str, reference: str, problem: str, fix: str) -> AnsibleLookupError:
    """Return the error for one secret. It never holds a value."""
    return AnsibleLookupError("The secret '%s' (%s) cannot be read: %s. %s" % (name, reference, problem, fix))


def from_secretsmanager(client: Any, references: list[dict[str, str]]) -> dict[str, str]:
    """Return the values of references to Secrets Manager; each secret is asked for once."""
    texts: dict[str, str] = {}
    values = {}
    for reference in references:
        secret, key = reference["secretsmanager"], reference.get("key")
        where = "secretsmanager: %s" % secret + (", key: %s" % key if key else "")
        if secret not in texts:
            try:
                answer = client.get_secret_value(SecretId=secret)
            except ClientError as error:
                raise fail(reference["name"], where, *_advice(error, "secretsmanager:GetSecretValue")) from None
            if "SecretString" not in answer:
                raise fail(reference["name"], where, "it is binary", "Store it as text.")
            texts[secret] = answer["SecretString"]
        values[reference["name"]] = texts[secret] if not key else _member(reference["name"], where, texts[secret], key)
    return values


def _member(name: str, where: str, text: str, key: str) -> str:
    try:
        data = json.loads(text)
    except ValueError:
        raise fail(name, where, "it is not JSON", "Store a JSON object, or remove 'key' from the reference.") from None
    if not isinstance(data, dict) or key not in data:
        raise fail(name, where, "its JSON has no such key", "Add the key to the secret, or correct the reference.")
    return data[key] if isinstance(data[key], str) else json.dumps(data[key])


def from_ssm(client: Any, references: list[dict[str, str]]) -> dict[str, str]:
    """Return the values of references to the parameter store, ten in a call."""
    found: dict[str, str] = {}
    paths = list(dict.fromkeys(reference["ssm"] for reference in references))
    for start in range(0, len(paths), SSM_BATCH):
        batch = paths[start : start + SSM_BATCH]
        try:
            answer = client.get_parameters(Names=batch, WithDecryption=True)
        except ClientError as error:
            first = next(reference for reference in references if reference["ssm"] in batch)
            raise fail(first["name"], "ssm: %s" % ", ".join(batch), *_advice(error, "ssm:GetParameters")) from None
        found.update({item["Name"]: item["Value"] for item in answer["Parameters"]})
    for reference in references:
        if reference["ssm"] not in found:
            raise fail(
                reference["name"],
                "ssm: %s" % reference["ssm"],
                "there is no such parameter in this region and account",
                "Create it as a SecureString, or correct the reference in platform_environment.",
            )
    return {reference["name"]: found[reference["ssm"]] for reference in references}


def _advice(error: Any, action: str) -> list[str]:
    """Return what went wrong at AWS, and what to do."""
    code = error.response.get("Error", {}).get("Code", "unknown")
    if code == "ResourceNotFoundException":
        return [
            "there is no such secret in this region and account",
            "Create it, or correct the reference in platform_environment.",
        ]
    if "AccessDenied" in code or "Unauthorized" in code:
        return ["AWS denies it (%s)" % code, "Allow the controller %s on it." % action]
    if "Token" in code or "Credential" in code or "Signature" in code:
        return ["AWS does not accept the credentials (%s)" % code, "Renew the controller's AWS credentials."]
    return ["AWS answers %s" % code, "Look at the secret in the AWS console."]


class LookupModule(LookupBase):
    """lookup('fivepointers.platform.secrets', references)."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, str]]:
        """Return one mapping of names to values."""
        self.set_options(var_options=variables, direct=kwargs)
        references = self._references(plain(terms))
        values: dict[str, str] = {}
        sources: dict[str, Callable[[list[dict[str, str]]], dict[str, str]]] = {
            "secretsmanager": lambda found: from_secretsmanager(self._client("secretsmanager", found), found),
            "ssm": lambda found: from_ssm(self._client("ssm", found), found),
            "variable": lambda found: self._from_variables(found, variables or {}),
        }
        for source, fetch in sources.items():
            found = [reference for reference in references if source in reference]
            if found:
                try:
                    values.update(fetch(found))
                except AnsibleError:
                    raise
                except Exception as error:
                    if boto3 is None or not isinstance(error, BotoCoreError):
                        raise
                    raise fail(
                        found[0]["name"],
                        "%s: %s" % (source, found[0][source]),
                        str(error),
                        "Check the controller's AWS credentials, region and AWS_ENDPOINT_URL.",
                    ) from None
        for name, value in values.items():
            if not value:
                raise AnsibleLookupError("The secret '%s' is empty. Store a value." % name)
        return [{reference["name"]: values[reference["name"]] for reference in references}]

    def _references(self, terms: list[Any]) -> list[dict[str, str]]:
        flat = [item for term in terms for item in (term if isinstance(term, list) else [term])]
        for item in flat:
            if not isinstance(item, dict) or "name" not in item:
                raise AnsibleLookupError(
                    "The lookup takes references {name, secretsmanager|ssm|variable}, and got a %s. "
                    "Pass the result of the filter fivepointers.platform.secret_references." % type(item).__name__
                )
            if sum(source in item for source in ("secretsmanager", "ssm", "variable")) != 1:
                raise AnsibleLookupError(
                    "The secret '%s' needs exactly one of secretsmanager, ssm and variable." % item["name"]
                )
        return flat

    def _client(self, service: str, found: list[dict[str, str]]) -> Any:
        if boto3 is None:
            raise fail(
                found[0]["name"],
                "%s: %s" % (service, found[0][service]),
                "boto3 is not installed on the controller",
                "Install it with pip install boto3.",
            )
        config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "max_attempts": 3})
        return boto3.session.Session(region_name=self.get_option("region")).client(service, config=config)

    def _from_variables(self, references: list[dict[str, str]], variables: dict[str, Any]) -> dict[str, str]:
        values = {}
        for reference in references:
            name = reference["variable"]
            if name not in variables:
                raise fail(
                    reference["name"],
                    "variable: %s" % name,
                    "there is no such variable",
                    "Define it for the controller, for instance in a vaulted file of group_vars/all.",
                )
            value = plain(self._templar.template(variables[name]))
            if not isinstance(value, str):
                raise fail(
                    reference["name"],
                    "variable: %s" % name,
                    "it is no string",
                    "Write its value in quotes.",
                )
            values[reference["name"]] = value
        return values
