# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The policies of docs/iam: real actions, none too many, and enough for the calls that are really made."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    __store: {bucket: EXAMPLE-ARTIFACTS, prefix: EXAMPLE-ENVIRONMENT/}
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
        "ansible_python_interpreter": api.python,
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
        (recorder.Call("s3:GetObject", "arn:aws:s3:::EXAMPLE-ARTIFACTS/EXAMPLE-ENVIRONMENT/a/b"), True),
        (recorder.Call("s3:GetObject", "arn:aws:s3:::other/a"), False),
        (recorder.Call("s3:PutObject", "arn:aws:s3:::EXAMPLE-ARTIFACTS/EXAMPLE-ENVIRONMENT/a"), False),
        (recorder.Call("ec2:RunInstances", ""), False),
    ],
)
def test_a_call_too_many_would_be_noticed(call: recorder.Call, fits: bool) -> None:
    assert recorder.allowed("deploy", call) is fits


# --- what a policy must not allow -----------------------------------------------------------

OWN, OTHER, UNTAGGED = (
    {"aws:ResourceTag/Environment": "EXAMPLE-ENVIRONMENT"},
    {"aws:ResourceTag/Environment": "x"},
    {},
)
#: What somebody adds to a call to have it taken for one of this environment.
CLAIM = {"aws:RequestTag/Environment": "EXAMPLE-ENVIRONMENT"}
READS = re.compile(r"[a-z0-9-]+:(?:BatchGet|Describe|FilterLogEvents|Get|List|Scan)\w*")
MAKES = re.compile(r"[a-z0-9-]+:(?:Allocate|Create(?!Tags)|Put|Run|Store)\w*")
#: What is written in spite of its tags, and why. All else needs this environment's tag, or has its name.
IN_SPITE_OF_TAGS = {
    ("provision_database", "rds:CreateDBInstance"): "The account's default options, which it cannot change.",
    ("provision_database", "rds:ModifyDBInstance"): "The same.",
    ("provision_database", "secretsmanager:CreateSecret"): "Only RDS makes names that begin with rds!.",
    ("provision_database", "secretsmanager:TagResource"): "The same: RDS gives these their tags.",
    ("provision_edge", "route53:ChangeTagsForResource"): "Route 53 knows no tags there.",
    ("provision_edge", "route53:CreateHostedZone"): "Has no resource.",
    ("provision_hosts", "ec2:RunInstances"): "Public images have no tags, and new interfaces not yet.",
    ("provision_monitoring", "logs:PutQueryDefinition"): "Has no resource.",
    ("provision_network", "ec2:AllocateAddress"): "The module gives a new address its tags afterwards.",
    ("provision_network", "ec2:CreateNatGateway"): "So it is used without.",
    ("provision_network", "ec2:CreateTags"): "And then tagged. An untagged address of others could be, as well.",
    ("provision_network", "route53:AssociateVPCWithHostedZone"): "Route 53 knows no tags there.",
}


def reached(name: str) -> set[tuple[str, str]]:
    """Return the actions that a policy allows on what has no tag, or another environment's."""
    found = set()
    for statement in recorder.statements(name):
        for action in filter(lambda item: not READS.fullmatch(item), recorder.many(statement["Action"])):
            for pattern in recorder.many(statement["Resource"]):
                named = "EXAMPLE-" in pattern
                made = pattern.replace("*", "x") if pattern != "*" else "arn:aws:x:x:x:x"
                # A name can be a part of another environment's. What is made now has no tag yet.
                for tags in (OTHER,) if named else (OTHER, UNTAGGED):
                    for claim in ({},) if MAKES.fullmatch(action) else ({}, CLAIM):
                        # By the name alone is enough where that is no prefix.
                        prefix = not named or re.search(r"EXAMPLE-ENVIRONMENT-[\w-]*\*", pattern)
                        if prefix and recorder.permits(name, action, made, {**tags, **claim}):
                            found.add((name, action))
    return found


def test_what_others_have_and_what_has_no_tag_is_out_of_reach() -> None:
    found = set().union(*map(reached, POLICIES))
    assert found == set(IN_SPITE_OF_TAGS)


ROUTE53 = "route53:ChangeResourceRecordSets"


def records(names: str, kind: str = "A", action: str = "UPSERT") -> dict[str, list[str]]:
    return {f"{ROUTE53}NormalizedRecordNames": [names], f"{ROUTE53}RecordTypes": [kind], f"{ROUTE53}Actions": [action]}


VPCS, ASSOCIATE = "route53:VPCs", "route53:AssociateVPCWithHostedZone"
ACTIONS = "cloudwatch:AlarmActions"
ALARM = "arn:aws:cloudwatch:ap-northeast-2:111122223333:alarm:EXAMPLE-ENVIRONMENT/api"
TOPICS = "arn:aws:sns:ap-northeast-2:111122223333:"
ROLE, OTHERS_ROLE = "arn:aws:iam::111122223333:role/EXAMPLE-ENVIRONMENT-", "arn:aws:iam::111122223333:role/production-"
EC2, PUBLIC = "arn:aws:ec2:ap-northeast-2:111122223333:", "arn:aws:ec2:ap-northeast-2::"
TO_EC2, TO_LAMBDA = ({"iam:PassedToService": f"{name}.amazonaws.com"} for name in ("ec2", "lambda"))
BUILDS = "arn:aws:s3:::EXAMPLE-ARTIFACTS"
SECRET = "arn:aws:secretsmanager:ap-northeast-2:111122223333:secret:"
SIGNING = f"{SECRET}fivepointers-build/EXAMPLE-ENVIRONMENT/key-AbCdEf"
READ_SECRET = "secretsmanager:GetSecretValue"
CLEANUP = "unused_resources_cleanup"
ZONE = "arn:aws:route53:::hostedzone/Z1"
LAUNCH = {"ec2:CreateAction": "RunInstances"}
KEPT = {"aws:ResourceTag/Keep": "yes"}


@pytest.mark.parametrize(
    ("policy", "action", "resource", "context", "fits"),
    [
        # Who builds for one environment does not write what another one runs, nor read its key.
        ("build", "s3:PutObject", f"{BUILDS}/EXAMPLE-ENVIRONMENT/api/latest.json", {}, True),
        ("build", "s3:PutObject", f"{BUILDS}/production/api/latest.json", {}, False),
        ("build", "s3:PutObject", f"{BUILDS}/EXAMPLE-ENVIRONMENT-eu/api/latest.json", {}, False),
        ("build", "s3:PutObject", f"{BUILDS}/latest.json", {}, False),
        ("build", "s3:DeleteObject", f"{BUILDS}/EXAMPLE-ENVIRONMENT/api/latest.json", {}, False),
        ("build", "s3:PutBucketPolicy", BUILDS, {}, False),
        ("build", READ_SECRET, SIGNING, {}, True),
        ("build", READ_SECRET, f"{SECRET}fivepointers-build/production/key-AbCdEf", {}, False),
        ("build", READ_SECRET, f"{SECRET}fivepointers/EXAMPLE-ENVIRONMENT/jwt-AbCdEf", {}, False),
        # Who deploys neither writes artifacts nor signs them.
        ("deploy", "s3:GetObject", f"{BUILDS}/EXAMPLE-ENVIRONMENT/api/latest.json", {}, True),
        ("deploy", "s3:PutObject", f"{BUILDS}/EXAMPLE-ENVIRONMENT/api/latest.json", {}, False),
        ("deploy", "s3:GetObject", f"{BUILDS}/production/api/latest.json", {}, False),
        ("deploy", READ_SECRET, SIGNING, {}, False),
        ("deploy", READ_SECRET, f"{SECRET}fivepointers/production/jwt-AbCdEf", {}, False),
        # Roles: one's own, and for one service.
        ("provision_hosts", "iam:PutRolePolicy", f"{ROLE}host", OWN, True),
        ("provision_hosts", "iam:PutRolePolicy", f"{ROLE}host-api", UNTAGGED, False),
        ("provision_hosts", "iam:PutRolePolicy", f"{OTHERS_ROLE}host", OTHER, False),
        ("provision_hosts", "iam:TagRole", f"{ROLE}host", OWN, True),
        ("provision_hosts", "iam:TagRole", f"{ROLE}host", {**OWN, "aws:RequestTag/Environment": "x"}, False),
        ("provision_hosts", "iam:TagRole", f"{ROLE}host-eu", {**OTHER, **CLAIM}, False),
        ("provision_hosts", "iam:PutRolePolicy", "arn:aws:iam::111122223333:role/Admin", OWN, False),
        ("provision_hosts", "iam:UpdateAssumeRolePolicy", f"{ROLE}deploy", OWN, False),
        ("provision_hosts", "iam:AttachRolePolicy", f"{ROLE}host", OWN, False),
        ("provision_hosts", "iam:CreateRole", f"{ROLE}host", CLAIM, True),
        ("provision_hosts", "iam:CreateRole", f"{ROLE}host", {}, False),
        ("provision_hosts", "iam:PassRole", f"{ROLE}host-api", TO_EC2, True),
        ("provision_hosts", "iam:PassRole", f"{ROLE}host-api", TO_LAMBDA, False),
        ("provision_hosts", "iam:PassRole", f"{OTHERS_ROLE}host", TO_EC2, False),
        ("provision_schedules", "iam:PassRole", f"{ROLE}host", TO_EC2, False),
        ("db_access", "iam:PassRole", f"{ROLE}schedule", {"iam:PassedToService": "scheduler.amazonaws.com"}, False),
        # A tag is no way to take something over.
        ("provision_hosts", "ec2:CreateTags", f"{EC2}instance/i-1", {**OWN, **CLAIM}, True),
        ("provision_hosts", "ec2:CreateTags", f"{EC2}instance/i-1", {**CLAIM, **LAUNCH}, True),
        ("provision_hosts", "ec2:CreateTags", f"{EC2}instance/i-1", CLAIM, False),
        ("provision_hosts", "ec2:CreateTags", f"{EC2}instance/i-1", {**OTHER, **CLAIM}, False),
        ("provision_hosts", "ec2:CreateTags", f"{EC2}instance/i-1", {**OWN, "aws:RequestTag/Environment": "x"}, False),
        ("provision_hosts", "ec2:TerminateInstances", f"{EC2}instance/i-1", UNTAGGED, False),
        ("provision_network", "ec2:CreateTags", f"{EC2}vpc/vpc-1", CLAIM, False),
        ("provision_network", "ec2:CreateRoute", f"{EC2}route-table/rtb-1", UNTAGGED, False),
        ("provision_network", "ec2:CreateSubnet", f"{EC2}vpc/vpc-1", CLAIM, False),
        ("provision_network", "ec2:AuthorizeSecurityGroupIngress", f"{EC2}security-group/sg-1", OTHER, False),
        ("power", "ec2:StopInstances", f"{EC2}instance/i-1", UNTAGGED, False),
        # The domain's names, and no mail or delegation.
        ("provision_edge", ROUTE53, ZONE, records("api.EXAMPLE-DOMAIN"), True),
        ("provision_edge", ROUTE53, ZONE, records("api.other.com"), False),
        ("provision_edge", ROUTE53, ZONE, records("api.EXAMPLE-DOMAIN", "NS"), False),
        ("provision_edge", ROUTE53, ZONE, records("api.EXAMPLE-DOMAIN", action="DELETE"), False),
        ("provision_edge", ROUTE53, ZONE, {}, False),
        # A launch uses nothing of another environment; what is public has no tags, and a new interface not yet.
        *(
            ("provision_hosts", "ec2:RunInstances", f"{where}/x", tags, tags != OTHER)
            for where in (f"{PUBLIC}image", f"{PUBLIC}snapshot", f"{EC2}network-interface", f"{EC2}key-pair")
            for tags in (UNTAGGED, OWN, OTHER)
        ),
        # A private zone answers for any name in the networks that it is associated with.
        ("provision_edge", "route53:CreateHostedZone", ZONE, {}, True),
        ("provision_edge", "route53:CreateHostedZone", ZONE, {VPCS: ["VPCId=vpc-1,VPCRegion=a"]}, False),
        ("provision_network", ASSOCIATE, ZONE, {}, True),
        ("provision_network", ASSOCIATE, ZONE, {VPCS: ["VPCId=EXAMPLE-VPC,VPCRegion=a"]}, True),
        ("provision_network", ASSOCIATE, ZONE, {VPCS: ["VPCId=vpc-1,VPCRegion=a"]}, False),
        # An alarm tells the environment's people, and does not stop a host or run code.
        *(
            ("provision_monitoring", f"cloudwatch:Put{kind}Alarm", ALARM, {ACTIONS: actions}, fits)
            for kind in ("Metric", "Composite")
            for actions, fits in (
                ([f"{TOPICS}EXAMPLE-ENVIRONMENT-alarms"], True),
                ([f"{TOPICS}production-alarms"], False),
                ([f"{TOPICS}EXAMPLE-ENVIRONMENT-alarms", "arn:aws:automate:ap-northeast-2:ec2:terminate"], False),
                (["arn:aws:lambda:ap-northeast-2:111122223333:function:x"], False),
            )
        ),
        ("provision_monitoring", "cloudwatch:PutMetricAlarm", ALARM, {}, True),
        # The clean-up.
        (CLEANUP, "ec2:DeleteVolume", f"{EC2}volume/v", OWN, True),
        (CLEANUP, "ec2:DeleteVolume", f"{EC2}volume/v", {**OWN, **KEPT}, False),
        (CLEANUP, "ec2:DeleteVolume", f"{EC2}volume/v", UNTAGGED, False),
        (CLEANUP, "rds:DeleteDBSnapshot", "arn:aws:rds:a:1:snapshot:before", OTHER, False),
        (CLEANUP, "logs:PutRetentionPolicy", "arn:aws:logs:a:1:log-group:/x", {**OWN, **KEPT}, False),
        ("unused_resources", "ec2:DeleteVolume", f"{EC2}volume/v", OWN, False),
    ],
)  # fmt: skip
def test_what_a_policy_must_not_allow(
    policy: str, action: str, resource: str, context: dict[str, Any], fits: bool
) -> None:
    """Each with what it has to allow, so that it is not the question that is wrong."""
    assert recorder.permits(policy, action, resource, context) is fits


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "fits"),
    [
        ("StringEquals", "a", {"k": "a"}, True),
        ("StringEquals", "a", {}, False),
        ("StringEqualsIfExists", "a", {}, True),
        ("StringEqualsIfExists", "a", {"k": "b"}, False),
        ("StringNotEquals", "a", {}, True),
        ("StringNotEquals", "a", {"k": "a"}, False),
        ("StringLike", "a*", {"k": "ab"}, True),
        ("ForAllValues:StringEquals", ["a", "b"], {"k": ["a", "c"]}, False),
        ("ForAllValues:StringEquals", ["a", "b"], {"k": ["b"]}, True),
        ("ForAllValues:StringEquals", ["a", "b"], {}, True),
        ("Null", "true", {}, True),
        ("Null", "false", {}, False),
    ],
)
def test_conditions_are_judged_as_iam_does(operator: str, wanted: Any, found: dict[str, Any], fits: bool) -> None:
    assert recorder.met(operator, "k", recorder.many(wanted), found) is fits


REFERENCE = re.compile(r"\b(secretsmanager|ssm): (/?[\w-]+(?:/[\w-]+)+)")
EXAMPLES = sorted([*(recorder.ROOT / "docs").glob("*.md"), *(recorder.ROOT / "inventories").rglob("*.yml")])
EXAMPLES += [*(recorder.ROOT / "plugins/plugin_utils").rglob("*.py"), *(recorder.ROOT / "roles").glob("*/README.md")]


def test_the_secrets_of_examples_are_those_that_policies_allow() -> None:
    found = {match.groups() for path in EXAMPLES for match in REFERENCE.finditer(path.read_text())}
    assert len(found) >= 4
    refused = []
    for kind, name in sorted(found):
        own = re.sub(r"/(?:staging|production|development|sandbox)/", "/EXAMPLE-ENVIRONMENT/", name.strip("/"))
        action = READ_SECRET if kind == "secretsmanager" else "ssm:GetParameters"
        where = f"{SECRET}{own}-AbCdEf" if kind == "secretsmanager" else f"arn:aws:ssm:a:1:parameter/{own}"
        if not any(recorder.permits(policy, action, where, {}) for policy in ("build", "deploy")):
            refused.append(name)
    assert refused == []
