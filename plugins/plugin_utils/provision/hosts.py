# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The hosts of an environment: groups of instances by their services, and their permissions in AWS. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.runtime_table import (
    ANY,
    find,
    lacking,
    platforms_of,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    Report,
    choice,
    integer,
    items,
    keys,
    listed,
    optional,
    table,
    text,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import MANAGED_BY
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge.configuration import certificates
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.flows import EDGE
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.names import aws_name, aws_tags
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.plan import (
    artifact_store,
    connection_budget,
    service_spec,
    virtual_hosts,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets.ec2 import count
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.variables import secret_references
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import iam, permissions
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    security_groups as aws_security_groups,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import (
    FoundError,
    elsewhere,
    foreign,
    lacks,
)

# Debian publishes its latest image there; EC2 resolves it at each launch. ARM types have a g after the number.
DEBIAN = "/aws/service/debian/release/12/latest/"
ARM = re.compile(r"(?:a1|[a-z]+\d+g[a-z]*)\..+")
# Gives a host its role.
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
# A tag's value.
LONGEST_TAG = 256

GROUP_KEYS: dict[str, Key] = {
    "services": Key(
        items(text(r"[a-z][a-z0-9-]*", "the name of a service, or edge"), "a list such as [api]"),
        required=True,
        hint="Add services: those of these hosts, such as [api].",
    ),
    "count": Key(integer(0, 200)),
    "type": Key(text(r"[a-z0-9-]+\.[a-z0-9-]+", "an instance type such as t3.small"), "t3.small"),
    "disk": Key(integer(8, 16384), 20),
    "image": Key(
        optional(text(r"ami-[0-9a-f]{8,17}|/[A-Za-z0-9/._-]+", "an image (ami-…), or an SSM parameter that names one"))
    ),
    "root_device": Key(text(r"/dev/[a-z0-9]+", "the image's root device, such as /dev/xvda"), "/dev/xvda"),
    "key": Key(optional(text(r"[^\x00-\x1f\x7f]{1,255}", "the name of a key pair of EC2"))),
    "reads": Key(items(choice(("secrets", "artifacts"), "what a host may read"), "a list such as [secrets]"), []),
    "adopt": Key(items(text(r"i-[0-9a-f]{8,17}", "the id of an instance"), "a list such as [i-0abc12345678def01]"), []),
}

CHECK = table(
    text(r"[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?", "up to 20 lower-case letters, digits and hyphens"),
    keys(GROUP_KEYS, "a mapping such as {services: [api], count: 2}"),
    "a mapping of groups of hosts, such as {api: {services: [api], count: 2}}",
)

# Required for access: Debian's image has no SSM agent. Its bucket is reached through the S3 endpoint.
USER_DATA = """#!/bin/sh
set -eu
cd "$(mktemp -d)"
case "$(dpkg --print-architecture)" in arm64) name=debian_arm64 ;; *) name=debian_amd64 ;; esac
base=https://s3.{region}.amazonaws.com/amazon-ssm-{region}/latest
python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(sys.argv[1], "agent.deb")' \\
  "$base/$name/amazon-ssm-agent.deb"
dpkg --install agent.deb
systemctl enable --now amazon-ssm-agent
"""


def groups(model: Model) -> dict[str, dict[str, Any]]:
    """Return the checked groups of hosts; empty if this environment's hosts are created elsewhere."""
    found: dict[str, dict[str, Any]] = (model.environment["aws"] or {}).get("hosts") or {}
    return found


def placement(model: Model) -> dict[str, list[str]]:
    """Return the names of the hosts that will run each service, before they exist."""
    found: dict[str, list[str]] = {}
    for name, group in groups(model).items():
        hosts = [aws_name(model, f"{name}-{number + 1}") for number in range(count(group))] + (group["adopt"] or [])
        for service in group["services"] or []:
            found.setdefault(service, []).extend(hosts)
    return found


def derive(model: Model) -> dict[str, Any]:
    """Return roles and groups of hosts. A group's `security_groups` are those of all services of its hosts."""
    roles: dict[str, dict[str, Any]] = {}
    found = {}
    region = model.environment["region"]
    for name, group in groups(model).items():
        services = list(dict.fromkeys(group["services"]))
        policy = _policy(model, services, group["reads"])
        role = aws_name(model, f"host-{name}" if len(policy["Statement"]) > len(_basics(model)) else "host")
        if count(group):
            roles[role] = {
                "name": role,
                "description": f"Hosts of {model.environment['name']}",
                "trust": TRUST,
                "policy": json.dumps(policy),
                "tags": aws_tags(model),
            }
        architecture = "arm64" if ARM.fullmatch(group["type"]) else "amd64"
        image = group["image"] or DEBIAN + architecture
        # The tag Service is for cost allocation; a host with several services counts for its group.
        tags = aws_tags(model, services[0] if len(services) == 1 else name) | {"Services": ",".join(services)}
        found[name] = {
            "name": aws_name(model, name),
            "group": name,
            "count": count(group),
            "type": group["type"],
            "disk": group["disk"],
            "root_device": group["root_device"],
            "image": f"resolve:ssm:{image}" if image.startswith("/") else image,
            "key": group["key"],
            "role": role,
            "user_data": USER_DATA.replace("{region}", region),
            "security_groups": [aws_security_groups.group_name(model, service) for service in services],
            "tags": tags,
            "adopt": list(group["adopt"]),
        }
    most = aws_security_groups.limits(model)["groups"]
    return {
        "environment": model.environment["name"],
        "roles": list(roles.values()),
        "groups": found,
        "most_groups": most,
    }


def _basics(model: Model) -> list[dict[str, Any]]:
    """Return the permissions of every host: sessions through SSM, logs and metrics of its environment."""
    environment, region = model.environment["name"], model.environment["region"]
    logs = f"arn:aws:logs:{region}:*:log-group:/fivepointers/{environment}/*"
    channels = ("CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel")
    writes = ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents", "PutRetentionPolicy")
    return [
        # Amazon's own policy for SSM would let a host read all parameters of the account.
        _allow(["ssm:UpdateInstanceInformation", *(f"ssmmessages:{channel}" for channel in channels)], "*"),
        _allow([f"logs:{action}" for action in writes], [logs, f"{logs}:log-stream:*"]),
        _allow(
            ["cloudwatch:PutMetricData"],
            "*",
            {"StringEquals": {"cloudwatch:namespace": f"FivePointers/{environment}"}},
        ),
    ]


def _allow(actions: list[str], resource: str | list[str], condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})


def _policy(model: Model, services: Sequence[str], reads: Iterable[str] | None) -> dict[str, Any]:
    """Return the permissions of hosts with these services. The controller delivers secrets and releases: hosts do not
    read them from AWS, unless the settings allow it."""
    statements = _basics(model)
    if EDGE in services and model.environment["tls"]["mode"] == "acme":
        certified = [name for item in certificates(virtual_hosts(model)) for name in item["names"]]
        names = {f"_acme-challenge.{name.removeprefix('*.')}" for name in certified}
        record_names = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
        only = {
            "ForAllValues:StringEquals": {
                record_names: sorted(names),
                "route53:ChangeResourceRecordSetsRecordTypes": ["TXT"],
            },
            # All of no values are equal to anything.
            "Null": {record_names: "false"},
        }
        statements.append(_allow(["route53:ListHostedZones", "route53:GetChange"], "*"))
        statements.append(_allow(["route53:ChangeResourceRecordSets"], "arn:aws:route53:::hostedzone/*", only))
    region = model.environment["region"]
    if "secrets" in (reads or ()):
        specs = {name: service_spec(model, name) for name in services if name in model.services}
        secrets, parameters = [], []
        for reference in secret_references(model, specs):
            if "secretsmanager" in reference:
                name = reference["secretsmanager"]
                # AWS appends six characters to a name.
                arn = name if name.startswith("arn:") else f"arn:aws:secretsmanager:{region}:*:secret:{name}-??????"
                secrets.append(arn)
            elif "ssm" in reference:
                name = reference["ssm"]
                arn = name if name.startswith("arn:") else f"arn:aws:ssm:{region}:*:parameter/{name.lstrip('/')}"
                parameters.append(arn)
        if secrets:
            statements.append(_allow(["secretsmanager:GetSecretValue"], sorted(set(secrets))))
        if parameters:
            statements.append(_allow(["ssm:GetParameter", "ssm:GetParameters"], sorted(set(parameters))))
    store = artifact_store(model.environment["artifacts"])
    if "artifacts" in (reads or ()) and store:
        statements.append(_allow(["s3:GetObject"], f"arn:aws:s3:::{store['bucket']}/{store['prefix']}*"))
    for stated in permissions.allowed(model, services):
        statements.append(_allow(stated["actions"], stated["resources"], stated["conditions"]))
    return {"Version": "2012-10-17", "Statement": statements}


def problems(report: Report, model: Model) -> None:
    """Require hosts for every service, only known services, and no more than the database and AWS allow."""
    if not groups(model):
        return
    root = "platform_environment.aws.hosts"
    carried = placement(model)
    known = [*model.services, EDGE]
    most = aws_security_groups.limits(model)["groups"]
    owners: dict[str, str] = {}
    for name, group in groups(model).items():
        path = f"{root}.{name}"
        services = list(dict.fromkeys(group["services"] or []))
        if group["services"] == []:
            report.add(
                f"{path}.services", [], "these hosts would have no services", "Add services, or remove the group."
            )
        for service in services:
            if service not in known:
                fix = f"Correct the name, or add the service to the catalogue.{report.suggest(service, known)}"
                report.add(f"{path}.services", service, f"unknown service '{service}'", fix)
        if len(services) > most:
            report.add(
                f"{path}.services",
                ",".join(services),
                f"a host would have {len(services)} security groups, one for each service, but AWS allows {most}",
                "Split them into two groups of hosts; or have AWS raise the quota 'security groups per network "
                f"interface', and set aws.security_groups.limits.groups: {len(services)}.",
            )
        if len(",".join(services)) > LONGEST_TAG:
            problem = f"the tag Services would be longer than {LONGEST_TAG} characters"
            report.add(f"{path}.services", ",".join(services), problem, "Split them into two groups of hosts.")
        if "artifacts" in (group["reads"] or []) and not model.environment["artifacts"]:
            problem = "the environment does not define where artifacts are"
            report.add(f"{path}.reads", "artifacts", problem, "Add platform_environment.artifacts, or remove it.")
        _check_nodejs(report, model, path, group)
        for instance in group["adopt"] or []:
            first = owners.setdefault(instance, name)
            if first != name:
                report.add(f"{path}.adopt", instance, f"this instance is already in '{first}'", "Keep one of them.")
    wanted = list(model.services)
    if any(service["public"] for service in model.services.values()):
        wanted.append(EDGE)
    for service in wanted:
        if not carried.get(service):
            fix = f"Add '{service}' to the services of a group of hosts, or a count to its group."
            report.add(root, service, f"no host would run '{service}'", fix)
    _check_budget(report, model, carried)


def _check_nodejs(report: Report, model: Model, path: str, group: Mapping[str, Any]) -> None:
    """Require archives of Node.js for the processors of new hosts."""
    if not count(group) or not group["type"]:
        return
    platform = "linux-arm64" if ARM.fullmatch(group["type"]) else "linux-x64"
    services = [name for name in group["services"] or [] if name in model.services and model.is_process(name)]
    for wanted in dict.fromkeys(model.services[name]["node"] for name in services):
        entry = find(model.environment["nodejs"], wanted)
        known = platforms_of(entry) if isinstance(entry, Mapping) else {}
        if known and platform not in known and ANY not in known:
            problem = lacking(f"platform_environment.nodejs['{wanted}']", known, platform, "this type")
            problem, _stop, fix = problem.partition(". ")
            report.add(f"{path}.type", group["type"], problem, f"{fix}.")


def _check_budget(report: Report, model: Model, carried: dict[str, list[str]]) -> None:
    """Require that the connection pools of all future hosts fit into what the database allows."""
    for database, budget in connection_budget(replace(model, placement=carried)).items():
        if not budget["max_connections"] or budget["needed"] <= budget["allowed"]:
            continue
        largest = max(budget["lines"], key=lambda line: int(line["connections"]))
        for name, group in groups(model).items():
            if largest["service"] in (group["services"] or []):
                sums = [
                    f"{line['service']}: {line['processes'] // 2} hosts × 2 slots × pool {line['pool']} = "
                    f"{line['connections']}"
                    for line in budget["lines"]
                ]
                report.add(
                    f"platform_environment.aws.hosts.{name}.count",
                    count(group),
                    f"the pools of these hosts may open {budget['needed']} connections to '{database}', which allows "
                    f"{budget['allowed']} (80 % of {budget['max_connections']}): {listed(sums)}",
                    f"Use fewer hosts, a smaller pool for '{largest['service']}', or a larger database class "
                    f"with its platform_environment.databases.{database}.max_connections.",
                )
                break


# --- compare with AWS ----------------------------------------------------------

# The content of a launch template.
TEMPLATE_KEYS = ("name", "image", "type", "key", "role", "root_device", "disk", "user_data", "tags")
GONE = ("shutting-down", "terminated")


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to do about the hosts, their launch templates and their roles.

    there: C(instances) of the VPC, C(roles) and C(launch_templates) of the derived names; C(network) and
    C(security_groups) (name to id) as returned by these layers; and C(terminate), the ids that may be terminated.
    Returns what C(compare) and C(iam.compare) return, and C(launch_templates) to create or change.
    """
    return {
        **compare(derived, there["instances"], there["network"], there["security_groups"], there["terminate"]),
        **iam.compare(derived["roles"], there["roles"], "Rename the group of hosts, or the environment."),
        "launch_templates": differing_templates(derived, there["launch_templates"], there["security_groups"]),
    }


def compare(
    derived: Mapping[str, Any],
    there: Sequence[Mapping[str, Any]],
    network: Mapping[str, Any],
    security_groups: Mapping[str, str],
    terminate: Iterable[str] = (),
) -> dict[str, Any]:
    """Return what to do about the hosts.

    there: the instances of the VPC, as the info module returns them. network: the result of the layer `network`.
    security_groups: name -> id. terminate: ids that may be terminated. Returns launch (name, subnet, tags, groups),
    tag and regroup (what differs), terminate, and notices.
    """
    alive = [instance for instance in there if instance["state"]["name"] not in GONE]
    adopted = {name for group in derived["groups"].values() for name in group["adopt"]}
    ours = [item for item in alive if item["instance_id"] not in adopted and _is_ours(derived, item)]
    asked = _terminable(list(terminate), ours, adopted)
    kept = [instance for instance in ours if instance["instance_id"] not in asked]
    result: dict[str, Any] = {"launch": [], "tag": [], "regroup": [], "terminate": asked, "notices": []}
    placed: set[str] = set()
    for group in derived["groups"].values():
        members = [item for item in kept if item["instance_id"] not in placed and _belongs(derived, group, item)]
        placed.update(item["instance_id"] for item in members)
        if len(members) > group["count"]:
            ids = sorted(item["instance_id"] for item in members)
            raise FoundError(
                f"aws.hosts.{group['group']}.count: {group['count']} hosts are configured, but {len(ids)} exist: "
                f"{', '.join(ids)}. Hosts are only terminated by name: take one out of service "
                f"(playbooks/maintenance.yml), then run with -e terminate={ids[-1]}. Or raise the count."
            )
        names = _names(group, members)
        wanted_groups = [security_groups[name] for name in group["security_groups"] if name in security_groups]
        for item, name in zip(members, names, strict=False):
            _repair(result, item, group["tags"] | {"Name": name}, wanted_groups, exact=True)
            if item["instance_type"] != group["type"]:
                result["notices"].append(
                    f"host {name} ({item['instance_id']}) is a {item['instance_type']}, but aws.hosts.{group['group']}"
                    f".type is {group['type']}: a host keeps its type until it is replaced (-e terminate=…)"
                )
            profile = _profile(item)
            if profile != group["role"]:
                result["notices"].append(
                    f"host {name} ({item['instance_id']}) has the role {profile or 'none'}, but its services need "
                    f"{group['role']}: a host keeps its role until it is replaced (-e terminate=…)"
                )
        used = [item["subnet_id"] for item in members]
        for name in names[len(members) :]:
            subnet = min(network["private"], key=used.count, default="")
            used.append(subnet)
            result["launch"].append(
                {
                    "name": name,
                    "template": group["name"],
                    "subnet": subnet,
                    "tags": group["tags"] | {"Name": name},
                    "security_groups": wanted_groups,
                }
            )
        _adopt(result, group, alive, wanted_groups, derived["most_groups"])
    result["notices"] += [
        f"host {item['tags'].get('Name', '')} ({item['instance_id']}) does not belong to any group of aws.hosts; "
        f"to terminate it: -e terminate={item['instance_id']}"
        for item in kept
        if item["instance_id"] not in placed
    ]
    return result


def differing_templates(
    derived: Mapping[str, Any], there: Sequence[Mapping[str, Any]], security_groups: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the launch templates to create or change, each with the ids of its groups.

    there: templates of these names with their versions. What a version was created from is in its description, so
    that one created manually since is noticed.
    """
    by_name = {template["launch_template_name"]: template for template in there}
    differing = []
    for group in derived["groups"].values():
        wanted = {key: group[key] for key in TEMPLATE_KEYS}
        wanted["security_group_ids"] = [security_groups.get(name, "") for name in group["security_groups"]]
        content = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
        found = by_name.get(group["name"])
        reason = foreign(found["tags"], group["tags"]) if found and group["count"] else ""
        if reason:
            raise FoundError(
                f"The launch template '{group['name']}' {reason}. Rename the group of hosts '{group['group']}'; or "
                "if it is this environment's, give it the tags ManagedBy and Environment."
            )
        newest = max(found["versions"], key=lambda version: int(version["version_number"])) if found else {}
        if group["count"] and (
            not found
            or newest.get("version_description") != content
            or found["default_version_number"] != newest["version_number"]
            or lacks(found["tags"], group["tags"])
        ):
            differing.append({**wanted, "content": content})
    return differing


def _adopt(
    result: dict[str, Any],
    group: Mapping[str, Any],
    alive: Sequence[Mapping[str, Any]],
    wanted_groups: Sequence[str],
    most: int,
) -> None:
    """Give adopted hosts the tags that the inventory reads, and our groups in addition to their own."""
    for number, name in enumerate(group["adopt"]):
        item = next((instance for instance in alive if instance["instance_id"] == name), None)
        if item is None:
            raise FoundError(
                f"aws.hosts.{group['group']}.adopt: instance {name} not found in the environment's VPC. Correct the "
                "id; or set the VPC that it is in: aws.network.vpc and aws.network.subnets."
            )
        other = elsewhere(item["tags"], group["tags"]["Environment"])
        if other:
            raise FoundError(f"aws.hosts.{group['group']}.adopt: {name} {other}. Correct the id.")
        others = [entry["group_name"] for entry in item["security_groups"] if entry["group_id"] not in wanted_groups]
        if len(others) + len(wanted_groups) > most:
            raise FoundError(
                f"aws.hosts.{group['group']}.adopt: {name} has {listed(others)}, and with {len(wanted_groups)} groups "
                f"of its services it would have more than AWS allows ({most}). Remove it from one; or have AWS raise "
                "the quota 'security groups per network interface', and set aws.security_groups.limits.groups."
            )
        tags = {key: value for key, value in group["tags"].items() if key != "ManagedBy"}
        tags["Name"] = item["tags"].get("Name") or f"{group['name']}-adopted-{number + 1}"
        _repair(result, item, tags, wanted_groups, exact=False)


def _is_ours(derived: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Return whether the collection created this host: by its tags or, if a tag was lost, by its instance profile."""
    tags = item["tags"]
    if elsewhere(tags, derived["environment"]):
        return False
    if tags.get("ManagedBy") == MANAGED_BY and tags.get("Environment") == derived["environment"]:
        return True
    return _profile(item) in {group["role"] for group in derived["groups"].values()}


def _profile(item: Mapping[str, Any]) -> str:
    """Return the name of a host's instance profile, which is that of its role; empty if it has none."""
    return str((item.get("iam_instance_profile") or {}).get("arn", "")).rpartition("/")[2]


def _belongs(derived: Mapping[str, Any], group: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Return whether a host belongs to a group: by its name, or by its services if the name was lost."""
    name = str(item["tags"].get("Name", ""))
    if any(re.fullmatch(re.escape(other["name"]) + r"-\d+", name) for other in derived["groups"].values()):
        return bool(re.fullmatch(re.escape(group["name"]) + r"-\d+", name))
    return item["tags"].get("Services") == group["tags"]["Services"]


def _names(group: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each member, which keeps its name, and for each host to launch."""
    names: list[str] = []
    for item in members:
        name = str(item["tags"].get("Name", ""))
        good = re.fullmatch(re.escape(group["name"]) + r"-\d+", name) and name not in names
        names.append(name if good else "")
    taken = {name for name in names if name}
    free = [
        name for name in (f"{group['name']}-{n + 1}" for n in range(group["count"] + len(names))) if name not in taken
    ]
    filled = [name or free.pop(0) for name in names]
    return filled + free[: group["count"] - len(filled)]


def _repair(
    result: dict[str, Any],
    item: Mapping[str, Any],
    tags: Mapping[str, str],
    wanted: Sequence[str],
    exact: bool,
) -> None:
    """Record what a host lacks. Its groups are replaced with the desired ones, or with exact=False extended."""
    entry = {"id": item["instance_id"], "name": tags["Name"]}
    if lacks(item["tags"], tags):
        result["tag"].append({**entry, "tags": dict(tags)})
    has = [group["group_id"] for group in item["security_groups"]]
    groups_of = list(wanted) if exact else list(dict.fromkeys([*has, *wanted]))
    if set(has) != set(groups_of):
        stopped = item["state"]["name"] in ("stopped", "stopping")
        state = "stopped" if stopped else "present"
        result["regroup"].append({**entry, "security_groups": groups_of, "subnet": item["subnet_id"], "state": state})


def _terminable(names: Sequence[str], ours: Sequence[Mapping[str, Any]], adopted: set[str]) -> list[str]:
    known = {item["instance_id"] for item in ours}
    for name in names:
        if name in adopted:
            raise FoundError(f"terminate: {name} was adopted, so it is never terminated here.")
        if name not in known:
            have = listed(sorted(known)) or "none"
            raise FoundError(f"terminate: {name} is not a host that was created here. Those are: {have}.")
    return list(names)
