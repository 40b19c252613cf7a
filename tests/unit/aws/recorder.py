# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""An AWS API for playbooks, which notes every call that is made; and what a policy says to these calls.

with recorder.Api() as api:
    api.playbook("playbooks/x.yml", inventory, {"variable": "value"})
    assert recorder.refused("x", api.calls) == []
"""

from __future__ import annotations

import base64
import fnmatch
import functools
import io
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import botocore.loaders
import yaml
from botocore.config import Config
from botocore.model import ServiceModel
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests import warm

ROOT = Path(__file__).resolve().parents[3]
POLICIES = ROOT / "docs" / "iam"
REGION = "ap-northeast-2"
ACCOUNT = "123456789012"
# The name that signs a request → the one that policies use, and that of botocore's model, where they differ.
POLICY_NAMES = {"monitoring": "cloudwatch"}
MODELS = {"elasticloadbalancing": "elbv2", "monitoring": "cloudwatch"}
# Operations of S3 whose permission has another name.
S3_ACTIONS = {
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListBuckets": "ListAllMyBuckets",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketInventoryConfiguration": "GetInventoryConfiguration",
    "GetBucketLifecycle": "GetLifecycleConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycle": "PutLifecycleConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}
# Permissions that no call has the name of: AWS asks for them when another call hands a role over.
PERMISSIONS = {"iam:PassRole"}
# Look like PutObject and UploadPart but for a header; what they need is what these and GetObject need.
COPIES = {"CopyObject", "UploadPartCopy"}
# The parameters of requests that name a resource, the first that is there, and what its ARN says before the name.
NAMES = {
    "cloudwatch": {"AlarmName": "alarm:", "AlarmNames": "alarm:", "DashboardName": "dashboard/"},
    "iam": {"InstanceProfileName": "instance-profile/", "RoleName": "role/"},
    "logs": {"logGroupName": "log-group:"},
    "rds": {"DBInstanceIdentifier": "db:", "DBParameterGroupName": "pg:", "DBSubnetGroupName": "subgrp:"},
    "sns": {"Name": "", "TopicArn": ""},
}
# Services whose ARNs have no region.
GLOBAL = {"cloudwatch:dashboard", "iam"}
# What policies allow only with the tag of the environment in the call.
TAGGED = {
    f"ec2:Create{name}"
    for name in ("InternetGateway", "LaunchTemplate", "RouteTable", "SecurityGroup", "Subnet", "Vpc")
} | {"ec2:RunInstances", "iam:CreateRole", "rds:CreateDBInstance", "rds:CreateDBParameterGroup"}
TAGGED |= {"rds:CreateDBSubnetGroup"}
# Every call is allowed for everybody.
FREE = {"sts:GetCallerIdentity"}

REFUSAL = (
    b"<Response><Errors><Error><Code>DependencyViolation</Code>"
    b"<Message>The resource has a dependent object.</Message></Error></Errors></Response>"
)
# Without it, there are a thousand images of others, each with a snapshot.
SETTINGS = {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false", "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true"}


class Call(NamedTuple):
    """A call as a policy sees it: its action, and the resource where its address tells it."""

    action: str
    resource: str
    # Those that the call gives to what it makes, where it is a form.
    tags: tuple[tuple[str, str], ...] = ()

    def of_environment(self, name: str, bucket: str = "") -> Call:
        """Return the call with the policies' own names in the place of these."""
        found = self.resource.replace(f":::{bucket}", ":::EXAMPLE-ARTIFACTS") if bucket else self.resource
        tags = tuple((key, "EXAMPLE-ENVIRONMENT" if value == name else value) for key, value in self.tags)
        found = re.sub(rf"(?<=[:/]){re.escape(name)}(?=[-/]|$)", "EXAMPLE-ENVIRONMENT", found)
        return self._replace(resource=found, tags=tags)


class Api:
    """moto in a thread, on a port of its own, with an account of its own."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        # Actions that are refused, as AWS refuses them for what others use.
        self.refuse: set[str] = set()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Api:
        self._before = {name: os.environ.get(name) for name in SETTINGS}
        os.environ.update(SETTINGS)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        for name, value in self._before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value

    def client(self, service: str) -> Any:
        """Return a client; what it calls is noted as well, so forget it with ``calls.clear()``."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="SANDBOX123",
            aws_secret_access_key="unusual-secret-1",
            config=Config(proxies={}),
        )

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to find this API."""
        found = self._settings
        return {**found, "PATH": f"{warm.programs(found)}:{Path(sys.executable).parent}:{os.environ['PATH']}"}

    @property
    def python(self) -> str:
        """What modules are run by."""
        return str(warm.programs(self._settings) / "python")

    @property
    def _settings(self) -> dict[str, str]:
        return {
            **os.environ,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "SANDBOX123",
            "AWS_SECRET_ACCESS_KEY": "unusual-secret-1",
            "AWS_DEFAULT_REGION": REGION,
            "NO_PROXY": "127.0.0.1",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
        }

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program against this API."""
        variables = self.environment | environment
        return subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=300
        )

    def playbook(
        self, book: str, inventory: str, variables: Mapping[str, Any], *options: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook against this API."""
        return self.run("ansible-playbook", "-i", inventory, book, "-e", json.dumps(variables), *options)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        call = read(environ, body)
        if call and call.action not in FREE:
            self.calls.append(call)
        if call and call.action in self.refuse:
            start("400 Bad Request", [("Content-Type", "text/xml")])
            return [REFUSAL]
        return self._app(environ, start)


def read(environ: Mapping[str, Any], body: bytes) -> Call | None:
    """Return what a request calls, or nothing for what is no call of AWS."""
    signed = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    if not signed:
        return None
    service = signed[1]
    path, query = unquote(environ["PATH_INFO"]), environ.get("QUERY_STRING", "")
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    form = parse_qs(body.decode(errors="replace")) if "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", "") else {}
    if target:
        operation = target.rpartition(".")[2]
    elif "Action" in form:
        operation = form["Action"][0]
    else:
        operation = rest(service, environ["REQUEST_METHOD"], path, query)
    if service == "s3":
        operation = S3_ACTIONS.get(operation, operation)
    given = {name.partition(".")[0]: values[0] for name, values in form.items()}
    given |= {name: value for name, value in parse_qs(query).items() if service == "scheduler"}
    if body.startswith(b"{"):
        given |= json.loads(body)
    service = POLICY_NAMES.get(service, service)
    return Call(f"{service}:{operation}", resource(service, path, given), request_tags(form))


def request_tags(form: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    """Return the tags in a form, each service's in its own way."""
    found = {name: values[0] for name, values in form.items()}
    pattern = re.compile(r"((?:TagSpecification\.\d+\.)?Tags?\.(?:member\.|Tag\.)?\d+)\.Key")
    names = [match[1] for name in sorted(found) if (match := pattern.fullmatch(name))]
    return tuple(dict.fromkeys((found[f"{name}.Key"], found.get(f"{name}.Value", "")) for name in names))


def recorded(path: Path) -> list[Call]:
    """Return the calls that modules made, of a recording of moto's; a test's own client is none of them."""
    calls = []
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        headers = {name.lower(): value for name, value in entry["headers"].items()}
        if "Ansible" in headers.get("user-agent", ""):
            address = urlsplit(entry["url"])
            environ = {
                "REQUEST_METHOD": entry["method"],
                "PATH_INFO": address.path,
                "QUERY_STRING": address.query,
                "CONTENT_TYPE": headers.get("content-type", ""),
                "HTTP_AUTHORIZATION": headers.get("authorization", ""),
                "HTTP_X_AMZ_TARGET": headers.get("x-amz-target", ""),
            }
            calls.append(read(environ, base64.b64decode(entry["body"] or "")))
    return [call for call in calls if call and call.action not in FREE]


def resource(service: str, path: str, given: Mapping[str, Any]) -> str:
    """Return the resource of a call where it stands in the request as a policy has it; elsewhere, any."""
    if service == "s3":
        return f"arn:aws:s3:::{path.strip('/')}"
    if service == "secretsmanager":
        name = given.get("SecretId") or given.get("Name", "")
        return name if name.startswith("arn:") else f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf"
    if path.startswith("/tags/arn:"):
        return path.removeprefix("/tags/")
    if service == "scheduler" and path.startswith("/schedule"):
        kind, _, name = path.strip("/").partition("/")
        group = given.get("GroupName") or given.get("groupName", [""])[0]
        parts = [group, name] if kind == "schedules" else [name]
        return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:{kind[:-1]}/{'/'.join(parts)}" if name else ""
    for parameter, before in NAMES.get(service, {}).items():
        if found := given.get(parameter):
            name = many(found)[0]
            region = "" if service in GLOBAL or f"{service}:{before.rstrip('/')}" in GLOBAL else REGION
            return name if name.startswith("arn:") else f"arn:aws:{service}:{region}:{ACCOUNT}:{before}{name}"
    return ""


@functools.cache
def routes(service: str) -> list[tuple[str, re.Pattern[str], set[str], str]]:
    """Return the operations of a service by method and path, those with most demands first."""
    # Of its own: clients of S3 change theirs.
    model = ServiceModel(botocore.loaders.Loader().load_service_model(MODELS.get(service, service), "service-2"))
    found = []
    for name in set(model.operation_names) - COPIES:
        http = model.operation_model(name).http
        path, _, query = http.get("requestUri", "/").partition("?")
        pattern = re.sub(r"\\\{(\w+\\\+|\w*Arn)\\\}", ".+", re.escape(path))
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", pattern)
        demands = {item.partition("=")[0] for item in query.split("&") if item}
        found.append((http.get("method", "POST"), re.compile(pattern + "/?"), demands, name))
    return sorted(found, key=lambda item: (-len(item[2]), item[3]))


def rest(service: str, method: str, path: str, query: str) -> str:
    """Return the operation that a method and a path mean."""
    given = set(parse_qs(query, keep_blank_values=True))
    for wanted, pattern, demands, name in routes(service):
        if wanted == method and demands <= given and pattern.fullmatch(path):
            return name
    raise ValueError(f"{service}: {method} {path}?{query} is no operation of it")


# --- policies --------------------------------------------------------------------------------


def statements(policy: str) -> list[dict[str, Any]]:
    """Return the statements of a policy."""
    return json.loads((POLICIES / f"{policy}.json").read_text())["Statement"]


def actions(policy: str) -> set[str]:
    """Return the actions that a policy allows."""
    return {action for statement in statements(policy) for action in many(statement["Action"])}


def many(value: str | list[str]) -> list[str]:
    """Return a value or a list as a list."""
    return value if isinstance(value, list) else [value]


def allowed(policy: str, call: Call) -> bool:
    """Return whether a policy allows a call. Conditions on the tags that it gives are judged, others taken as met."""
    given: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in call.tags}
    return any(
        call.action in many(statement["Action"])
        and (not call.resource or any(fnmatch.fnmatchcase(call.resource, item) for item in many(statement["Resource"])))
        and all(met(*condition, given) for condition in conditions(statement) if condition[1] in given)
        for statement in statements(policy)
    )


def permits(policy: str, action: str, resource: str, context: Mapping[str, Any]) -> bool:
    """Return what IAM says to an action on a resource. context: what it compares conditions with; all that there is."""
    said = {
        statement["Effect"]
        for statement in statements(policy)
        if action in many(statement["Action"])
        and any(fnmatch.fnmatchcase(resource, item) for item in many(statement["Resource"]))
        and all(met(*condition, context) for condition in conditions(statement))
    }
    return said == {"Allow"}


def conditions(statement: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Return the conditions of a statement: operator, key, and values."""
    stated = statement.get("Condition", {})
    return [(operator, key, many(values)) for operator in stated for key, values in stated[operator].items()]


def met(operator: str, key: str, wanted: list[str], context: Mapping[str, Any]) -> bool:
    """Return whether a condition is met, as IAM evaluates it."""
    quantifier, _, word = operator.rpartition(":")
    comparison = word.removesuffix("IfExists")
    if comparison == "Null":
        return (key not in context) == (wanted == ["true"])
    if key not in context:
        return word != comparison or quantifier == "ForAllValues" or "Not" in comparison
    compare = {"StringEquals": str.__eq__, "StringNotEquals": str.__eq__, "StringLike": fnmatch.fnmatchcase}[comparison]
    found = [any(compare(value, item) for item in wanted) for value in many(context[key])]
    fits = all(found) if quantifier == "ForAllValues" else any(found)
    return fits != ("Not" in comparison)


def refused(policies: str | Iterable[str], calls: Iterable[Call]) -> list[Call]:
    """Return the calls that none of the policies allows."""
    names = [policies] if isinstance(policies, str) else list(policies)
    return sorted({call for call in calls if not any(allowed(name, call) for name in names)})


def untried(policies: Iterable[str], calls: Iterable[Call]) -> set[str]:
    """Return the actions that policies allow, no call made, and docs/iam/untried.yml gives no reason for."""
    reasons = yaml.safe_load((POLICIES / "untried.yml").read_text())
    names = list(policies)
    excused = {action for name in names for action in reasons.get(name, {})}
    made = {call.action for call in calls}
    return {action for name in names for action in actions(name)} - made - excused
