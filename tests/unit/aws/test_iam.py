# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The policies of docs/iam: real actions, none too many, and enough for the calls that are really made."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
import yaml

from tests.unit.aws import recorder

POLICIES = sorted(path.stem for path in recorder.POLICIES.glob("*.json"))
LONGEST = 6144  # characters of a managed policy, without white space
WIDE = {"logs:PutQueryDefinition", "route53:CreateHostedZone"}
SERVICES = {"elasticloadbalancing": "elbv2"}

BOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    __store: {bucket: EXAMPLE-ARTIFACTS, prefix: builds/}
    __choice: {}
    __fetched: [api]
    __plan: {environment: {artifacts: "{{ __store }}", region: ap-northeast-2, artifact_keys: []}}
    built: {item: {name: api}, id: 0123456789abcdef}
    __secrets:
      - {name: jwt, secretsmanager: fivepointers/EXAMPLE-ENVIRONMENT/jwt, region: ap-northeast-2}
      - {name: key, ssm: /fivepointers/EXAMPLE-ENVIRONMENT/key, region: ap-northeast-2}
  tasks:
    - import_tasks: TASKS/store_artifact.yml
      tags: [build]
    - import_tasks: TASKS/fetch_artifacts.yml
      tags: [deploy]
    - assert:
        that: lookup('fivepointers.platform.secrets', [__signing, __token]).values() | sort == ['four', 'three']
      vars:
        __token: {name: NPM_TOKEN, secretsmanager: fivepointers-build/shared/npm, region: ap-northeast-2}
        __signing: {name: signing, secretsmanager: fivepointers-build/EXAMPLE-ENVIRONMENT/key, region: ap-northeast-2}
      tags: [build]
    - assert:
        that: lookup('fivepointers.platform.secrets', __secrets).values() | sort == ['one', 'two']
      tags: [deploy]
    - fivepointers.platform.cloudwatch_dashboard:
        name: EXAMPLE-ENVIRONMENT-platform
        region: ap-northeast-2
        marker: {label: api, time: "2026-01-02T03:04:05Z"}
      tags: [deploy]
"""


@functools.cache
def operations(service: str) -> set[str]:
    model = botocore.session.get_session().get_service_model(SERVICES.get(service, service))
    return set(model.operation_names) | (set(recorder.S3_ACTIONS.values()) if service == "s3" else set())


@pytest.mark.parametrize("name", POLICIES)
def test_each_action_exists_and_nothing_is_open_that_can_be_narrowed(name: str) -> None:
    assert (
        len(json.dumps(json.loads((recorder.POLICIES / f"{name}.json").read_text()), separators=(",", ":"))) < LONGEST
    )
    for statement in recorder.statements(name):
        for action in recorder.many(statement["Action"]):
            service, _, operation = action.partition(":")
            assert action in recorder.PERMISSIONS or operation in operations(service), action
            assert "*" not in action
            # Those that AWS cannot narrow to a resource only read, but for two.
            assert statement["Resource"] != "*" or operation.startswith(("Describe", "List", "Get")) or action in WIDE


def test_reasons_are_for_actions_that_are_there() -> None:
    reasons = yaml.safe_load((recorder.POLICIES / "untried.yml").read_text())
    assert {(name, action) for name in reasons for action in reasons[name]} <= {
        (name, action) for name in POLICIES for action in recorder.actions(name)
    }


def test_every_policy_is_documented() -> None:
    text = (recorder.ROOT / "docs/iam.md").read_text()
    assert [name for name in POLICIES if f"(iam/{name}.json)" not in text] == []


@pytest.fixture(scope="module")
def api() -> Iterator[recorder.Api]:
    with recorder.Api() as found:
        yield found


@pytest.mark.slow
def test_building_and_deploying_need_what_the_policies_say(api: recorder.Api, tmp_path: Path) -> None:
    api.client("s3").create_bucket(
        Bucket="EXAMPLE-ARTIFACTS".lower(), CreateBucketConfiguration={"LocationConstraint": recorder.REGION}
    )
    api.client("secretsmanager").create_secret(Name="fivepointers/EXAMPLE-ENVIRONMENT/jwt", SecretString="one")
    api.client("secretsmanager").create_secret(Name="fivepointers-build/EXAMPLE-ENVIRONMENT/key", SecretString="three")
    api.client("secretsmanager").create_secret(Name="fivepointers-build/shared/npm", SecretString="four")
    api.client("ssm").put_parameter(Name="/fivepointers/EXAMPLE-ENVIRONMENT/key", Value="two", Type="SecureString")
    graph = {"type": "metric", "properties": {"metrics": [["A", "b"]], "region": recorder.REGION}}
    api.client("cloudwatch").put_dashboard(
        DashboardName="EXAMPLE-ENVIRONMENT-platform", DashboardBody=json.dumps({"widgets": [graph]})
    )
    book = tmp_path / "book.yml"
    tasks = str(recorder.ROOT / "playbooks/tasks")
    book.write_text(BOOK.replace("TASKS", tasks).replace("bucket: EXAMPLE-ARTIFACTS", "bucket: example-artifacts"))
    sizes = dict.fromkeys(("archive_size", "unpacked_size", "files_count"), 1)
    manifest = {"id": "0123456789abcdef", "service": "api", "archive_sha256": "0" * 64, **sizes}
    artifacts = tmp_path / "api"
    artifacts.mkdir()
    (artifacts / "0123456789abcdef.tar.gz").write_text("x")
    for name in ("0123456789abcdef.json", "latest.json"):
        (artifacts / name).write_text(json.dumps(manifest))
    variables = {"platform_environment": {"region": recorder.REGION}}
    calls = {}
    for name, folder in (("build", tmp_path), ("deploy", tmp_path / "other")):
        api.calls.clear()
        done = api.playbook(str(book), "localhost,", {**variables, "__platform_artifacts": str(folder)}, "--tags", name)
        assert done.returncode == 0, done.stdout + done.stderr
        calls[name] = [
            call._replace(resource=call.resource.replace("example-artifacts", "EXAMPLE-ARTIFACTS"))
            for call in api.calls
        ]
    assert {name: recorder.refused(name, made) for name, made in calls.items()} == {"build": [], "deploy": []}
    assert {name: recorder.untried([name], made) for name, made in calls.items()} == {"build": set(), "deploy": set()}
    assert (tmp_path / "other/api/0123456789abcdef.tar.gz").exists()


@pytest.mark.slow
def test_the_inventory_needs_what_its_policy_says(api: recorder.Api) -> None:
    api.calls.clear()
    done = api.run("ansible-inventory", "-i", "inventories/staging/aws_ec2.yml", "--list")
    assert done.returncode == 0, done.stderr
    assert recorder.refused("inventory", api.calls) == []
    assert recorder.untried(["inventory"], api.calls) == set()


@pytest.mark.slow
def test_reporting_errors_needs_what_its_policy_says(api: recorder.Api) -> None:
    name = recorder.ROOT / "inventories/development/group_vars/all/environment.yml"
    variables = yaml.safe_load(name.read_text()) | {
        "platform_catalogue_file": str(recorder.ROOT / "inventories/services.yml"),
        "ansible_python_interpreter": sys.executable,
        "service": "api",
    }
    api.client("logs").create_log_group(logGroupName="/fivepointers/development/api")
    api.calls.clear()
    done = api.playbook("playbooks/errors.yml", "localhost,", variables)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = [call.of_environment("development") for call in api.calls]
    assert recorder.refused("errors", calls) == []
    assert recorder.untried(["errors"], calls) == set()


@pytest.mark.parametrize(
    "call, fits",
    [
        (recorder.Call("s3:GetObject", "arn:aws:s3:::EXAMPLE-ARTIFACTS/a/b"), True),
        (recorder.Call("s3:GetObject", "arn:aws:s3:::other/a"), False),
        (recorder.Call("s3:PutObject", "arn:aws:s3:::EXAMPLE-ARTIFACTS/a"), False),
        (recorder.Call("ec2:RunInstances", ""), False),
    ],
)
def test_a_call_too_many_would_be_noticed(call: recorder.Call, fits: bool) -> None:
    assert recorder.allowed("deploy", call) is fits
