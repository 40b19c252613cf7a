# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The layer `load_balancer`: one in front of all edges, if it terminates TLS. Pure functions."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import (
    Key,
    Report,
    boolean,
    integer,
    keys,
    optional,
    text,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.common.tags import is_production, tagged_services
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge import configuration as edge
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import flows, names
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.targets.ec2 import EDGE_PORTS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    security_groups as aws_security_groups,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import foreign

# As long as nginx keeps an idle WebSocket. It applies to all connections, so the edge keeps its own open longer.
IDLE_TIMEOUT = 3600
LONGEST_NAME = 32
LONGEST_DELAY = 3600

KEYS: dict[str, Key] = {
    "certificate": Key(
        optional(text(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[A-Za-z0-9-]+", "the ARN of a certificate"))
    ),
    "policy": Key(
        text(r"ELBSecurityPolicy-TLS13-1-[23]-[A-Za-z0-9-]+", "a policy of TLS 1.2 or newer"),
        "ELBSecurityPolicy-TLS13-1-2-2021-06",
    ),
    "idle_timeout": Key(integer(60, IDLE_TIMEOUT), IDLE_TIMEOUT),
    "deletion_protection": Key(optional(boolean)),
}
CHECK = keys(KEYS, "a mapping such as {certificate: arn:aws:acm:…}")


def problems(report: Report, model: Model) -> None:
    """Require a load balancer that waits as long as services may take, and a name that AWS allows."""
    idle = model.environment["aws"]["load_balancer"]["idle_timeout"]
    slow = {name: service["timeout"] or 0 for name, service in model.services.items() if service["public"]}
    if model.environment["tls"]["mode"] == "load_balancer" and idle and max(slow.values(), default=0) > idle:
        name = max(slow, key=lambda name: int(slow[name]))
        problem = f"a request to '{name}' may take {slow[name]} s, and the load balancer would end it after {idle} s"
        fix = f"Write {slow[name]} or more, or remove it: the default is {IDLE_TIMEOUT}."
        report.add("platform_environment.aws.load_balancer.idle_timeout", idle, problem, fix)
    name = names.aws_name(model, "edge")
    if len(name) > LONGEST_NAME:
        problem = f"the load balancer's name '{name}' would be longer than {LONGEST_NAME} characters"
        report.add("platform_environment.name", model.environment["name"], problem, "Shorten the environment's name.")


def derive(model: Model) -> dict[str, Any]:
    """Return the load balancer and target group to create; C(enabled) is false if the edges terminate TLS."""
    settings = model.environment["aws"]["load_balancer"]
    protection = settings["deletion_protection"]
    name, tags = names.aws_name(model, "edge"), names.aws_tags(model, "edge")
    return {
        "enabled": model.environment["tls"]["mode"] == "load_balancer",
        "name": name,
        "security_group": aws_security_groups.group_name(model, flows.LOAD_BALANCER),
        "certificate": settings["certificate"] or "",
        "names": edge.certificate_names(plans.virtual_hosts(model)),
        "region": model.environment["region"],
        "policy": settings["policy"],
        "idle_timeout": settings["idle_timeout"],
        "deletion_protection": is_production(model.environment["name"]) if protection is None else protection,
        "target_group": {"name": name, "tags": tags, **target_group(model)},
        "tags": tags,
    }


def target_group(model: Model) -> dict[str, Any]:
    """Return how the edges are reached, checked and drained."""
    return {
        "protocol": "HTTP",
        "port": EDGE_PORTS[0],
        "health_check_protocol": "HTTP",
        # The response of the edge to requests by address.
        "health_check_path": "/edge-health",
        "health_check_interval": 5,
        "health_check_timeout": 2,
        "healthy_threshold_count": 2,
        "unhealthy_threshold_count": 2,
        "successful_response_codes": "200",
        "deregistration_delay_timeout": min(LONGEST_DELAY, longest_drain(model)),
    }


def longest_drain(model: Model) -> int:
    """Return the seconds after which the last public service has drained its requests and sockets."""
    public = [service for service in model.services.values() if service["public"]]
    return max((max(service["drain"], service["hold"] or 0) for service in public), default=0)


def changes(derived: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to do about load balancer, target group and targets, as far as they were looked up.

    there: C(load_balancer), C(target_group) (each as its info module returns it, empty if there is none), and
    C(certificates) of the region; or C(target_group) and the environment's C(instances).
    Returns C(refusals), C(certificate) (see C(choose_certificate)) and C(target_group), the changes in words; or
    C(targets) to register or deregister.
    """
    group = there["target_group"]
    if "instances" in there:
        return {"targets": target_plan(there["instances"], group.get("targets_health_description") or [])}
    found = there["load_balancer"]
    reason = foreign(found.get("tags") or {}, derived["tags"]) if found else ""
    fix = "Give it the tags ManagedBy and Environment to have it managed here, or remove it."
    return {
        "refusals": [f"The load balancer {derived['name']} {reason}. {fix}"] if reason else [],
        "target_group": target_group_changes(derived["target_group"], group),
        "certificate": choose_certificate(there["certificates"], derived),
    }


def covers(stated: Iterable[str], name: str) -> bool:
    """Return whether a certificate with these names covers a name; a wildcard matches one label."""
    return name in stated or f"*.{name.partition('.')[2]}" in stated


def choose_certificate(certificates: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> dict[str, str]:
    """Return C(arn) of the certificate for the load balancer, or in C(problem) what to do if there is none.

    The configured one, otherwise of those that cover all names the one that expires last. certificates: as
    acm_certificate_info found them.
    """
    if wanted["certificate"]:
        certificates = [item for item in certificates if item["certificate_arn"] == wanted["certificate"]]
    issued = [item for item in certificates if item["status"] == "ISSUED"]
    good = [item for item in issued if not _missing(item, wanted["names"])]
    if good:
        best = max(good, key=lambda item: str(item.get("not_after", "")))
        return {"arn": best["certificate_arn"], "problem": ""}
    if wanted["certificate"]:
        reason = "does not exist, or is not issued"
        if issued:
            reason = f"does not cover {', '.join(_missing(issued[0], wanted['names']))}"
        return {
            "arn": "",
            "problem": f"platform_environment.aws.load_balancer.certificate is {wanted['certificate']}, which "
            f"{reason}. Correct it, or remove it to find one by its names: {', '.join(wanted['names'])}",
        }
    first, *others = wanted["names"]
    command = ["aws", "acm", "request-certificate", "--region", wanted["region"], "--validation-method", "DNS"]
    command += ["--domain-name", first, *(["--subject-alternative-names", *others] if others else [])]
    return {
        "arn": "",
        "problem": f"ACM has no issued certificate in {wanted['region']} for {', '.join(wanted['names'])}. Request "
        f"one: `{shlex.join(command)}`. Then `provision.yml --tags dns` writes its validation records; "
        "once ACM shows it as issued, which takes minutes, run provision.yml again",
    }


def _missing(certificate: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    stated = {certificate["domain_name"], *(certificate.get("subject_alternative_names") or [])}
    return [name for name in names if not covers(stated, name)]


# Option of elb_target_group -> key of elb_target_group_info.
FOUND_AS = {
    "protocol": "protocol",
    "port": "port",
    "health_check_protocol": "health_check_protocol",
    "health_check_path": "health_check_path",
    "health_check_interval": "health_check_interval_seconds",
    "health_check_timeout": "health_check_timeout_seconds",
    "healthy_threshold_count": "healthy_threshold_count",
    "unhealthy_threshold_count": "unhealthy_threshold_count",
    "deregistration_delay_timeout": "deregistration_delay_timeout_seconds",
}


def target_group_changes(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the changes of the target group, one line each: elb_target_group does not support check mode."""
    if not found:
        return [f"{wanted['name']}, a target group"]
    pairs = {key: (found.get(name), wanted[key]) for key, name in FOUND_AS.items()}
    matcher = (found.get("matcher") or {}).get("http_code")
    pairs["successful_response_codes"] = (matcher, wanted["successful_response_codes"])
    lacking = {key: value for key, value in wanted["tags"].items() if (found.get("tags") or {}).get(key) != value}
    if lacking:
        pairs["tags"] = ({key: found.get("tags", {}).get(key) for key in lacking}, lacking)
    return [
        f"{wanted['name']}: {key} {aim} instead of {now}" for key, (now, aim) in pairs.items() if str(now) != str(aim)
    ]


def target_plan(instances: Iterable[Mapping[str, Any]], targets: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the instances to register with the target group, or to deregister: C(name), the id, and C(state).

    instances: those of the environment from ec2_instance_info. targets: the health from elb_target_group_info.
    A stopped edge stays registered, since it may be started again.
    """
    state = {
        item["instance_id"]: item["state"]["name"] for item in instances if "edge" in tagged_services(item.get("tags"))
    }
    known = [item["target"]["id"] for item in targets if item["target_health"]["state"] != "draining"]
    register = sorted(name for name, now in state.items() if now == "running" and name not in known)
    deregister = sorted(name for name in known if state.get(name, "terminated") == "terminated")
    return [{"name": name, "state": "present"} for name in register] + [
        {"name": name, "state": "absent"} for name in deregister
    ]
