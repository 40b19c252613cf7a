# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Whatever is named after a service: no two services share a name, and none has one that is used otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Report
from ansible_collections.fivepointers.platform.plugins.module_utils.release import (
    adoption,
    confirm,
    leftovers,
    phases,
    releases,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import values
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import compose
from ansible_collections.fivepointers.platform.plugins.plugin_utils.edge import configuration
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import names
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import security_groups
from hypothesis import assume, given
from hypothesis import strategies as st

from ..release.conftest import make_spec
from .conftest import ENVIRONMENT

ROOT = Path(__file__).parents[3]
Names = set[tuple[str, str]]
# Words that stand in names of ours, and some that do not.
WORDS = """
a b api blue green migration listing retire given back edge internal synthetic nginx verify confirm client socket
sockets requests hashed other node trees deployments build front conf env state maintenance url public database
host port 1 2
""".split()


def allowed(name: str) -> bool:
    report = Report()
    values.name(report, "services", name)
    return not report.problems and name not in security_groups.OWN


NAMES = (
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("-".join)
    | st.from_regex(r"[a-z](?:[a-z0-9-]{0,27}[a-z0-9])?", fullmatch=True)
).filter(allowed)


#: Names need its environment only.
ACCOUNT = loading.read({"services": {}}, ENVIRONMENT)[0]


def template(path: str) -> str:
    return (ROOT / path).read_text()


def of(name: str) -> Names:
    """What is named after a service, each with what it is: only names of one kind can collide."""
    found = {("user", "fp-" + name), ("artifacts", name), ("tag", name), ("label", name)}
    units = [releases.unit_name(name, slot) for slot in releases.SLOTS]
    units += [phases.once_unit(name, what, slot) for what in ("migration", "listing") for slot in releases.SLOTS]
    units += [phases.retirement(name) + suffix for suffix in (".timer", ".service")]
    units += [adoption.unit_of(name)]
    found |= {("path", systemd.UNITS + "/" + unit) for unit in units}
    found |= {("path", path) for path in (
        releases.release_path(name).rpartition("/")[0], releases.SETTINGS + "/" + name, releases.flag_path(name),
        releases.state_path(name).rpartition("/")[0], f"{releases.STATE}/{name}.maintenance",
        f"{leftovers.fronts()}/front-{name}.conf", f"{releases.DATA}/fivepointers-{name}",
        f"{releases.CACHE}/fivepointers-{name}",
    )}  # fmt: skip
    # The same service could be one of files, or of a process.
    for kind in ("nestjs_api", "static_frontend"):
        front = compose.front_text(make_spec(kind, name=name))
        found |= {("zone", word) for word in re.findall(r"^upstream (\S+)", front, re.MULTILINE)}
        found |= {("variable", word) for word in re.findall(r'^map (?:"[^"]*"|\S+) \$(\S+)', front, re.MULTILINE)}
    text = template("roles/nginx/templates/internal.conf.j2").replace("{{ call.service }}", name)
    found |= {("zone", word) for word in re.findall(r"^upstream (\S+)", text, re.MULTILINE)}
    found |= {("label", word) for word in re.findall(r"\$platform_service (\S+);", text)}
    found |= {("zone", "edge_" + name)}
    limit = {"request": "GET /", "rate": "1/s", "burst": 1}
    location = {"service": name, "rate_limits": [limit] * 12, "sockets_per_client": 1}
    limits = configuration.limits_of([{"locations": [location]}])[name]
    found |= {("zone", zone) for zone in (limits["sockets"]["zone"], *(item["zone"] for item in limits["requests"]))}
    found |= {("variable", item["zone"] + end) for item in limits["requests"] for end in ("", "_client")}
    found |= {("log group", names.log_group(ACCOUNT, name)), ("group", names.aws_name(ACCOUNT, name))}
    return found


def ours() -> Names:
    """What has a name of the same kind, and belongs to no service."""
    found = {("artifacts", "deployments"), ("label", "nginx")}
    units = ("fivepointers-synthetic.timer", "fivepointers-synthetic.service", confirm.UNIT)
    found |= {("path", systemd.UNITS + "/" + unit) for unit in units}
    found |= {("path", path) for path in (
        "/opt/fivepointers/node", "/opt/fivepointers/synthetic", "/etc/fivepointers/cloudwatch_agent",
        "/var/lib/fivepointers/trees", "/var/lib/fivepointers/lease.json", "/var/lib/fivepointers/.lock",
        confirm.program_path(),
        "/var/lib/fivepointers/edge.maintenance", "/etc/nginx/fivepointers/edge.conf",
        "/etc/nginx/fivepointers/internal.conf", "/var/cache/fivepointers",
    )}  # fmt: skip
    edge = "".join(path.read_text() for path in ROOT.glob("roles/nginx*/templates/**/*.j2"))
    found |= {("variable", word) for word in re.findall(r"\$(edge_\w+|platform_\w+)", edge)}
    found |= {("log group", names.log_group(ACCOUNT, name)) for name in ("nginx", "verify")}
    found |= {
        ("group", names.aws_name(ACCOUNT, name)) for name in ("edge", "load-balancer", "hosts", "instance-connect")
    }
    for playbook in ("build", "configure", "deploy", "site", "plan", "verify"):
        for play in yaml.safe_load(template(f"playbooks/{playbook}.yml")):
            for part in (play, *play.get("tasks", [])):
                found |= {("tag", tag) for tag in part.get("tags", []) if "{{" not in tag}
    return found


OURS = ours()


@given(NAMES, NAMES)
def test_no_two_services_share_a_derived_name(first: str, second: str) -> None:
    assume(first != second)
    assert of(first) & of(second) == set()


@given(NAMES)
def test_no_service_has_a_name_of_ours(name: str) -> None:
    assert of(name) & OURS == set()


@given(NAMES)
def test_names_are_as_long_as_systems_allow(name: str) -> None:
    longest = {"user": 32, "path": 255 + len("/etc/systemd/system/"), "log group": 512, "group": 255}
    for kind, derived in of(name):
        assert len(derived) <= longest.get(kind, 255)


@pytest.mark.parametrize(
    ("first", "second"),
    [("api", "api-migration"), ("api", "api-listing"), ("x", "x-retire"), ("a-b", "ab"), ("a", "internal-a")],
)
def test_these_were_seen_to_collide_or_look_as_if(first: str, second: str) -> None:
    assert of(first) & of(second) == set()


@pytest.mark.parametrize("name", ["edge", "synthetic", "nginx", "verify", "node", "trees", "deployments", "build"])
def test_what_a_separator_cannot_tell_apart_is_reserved(name: str) -> None:
    report = Report()
    values.name(report, f"services.{name}", name)
    (problem,) = report.problems
    assert (problem.path, problem.value) == (f"services.{name}", name)
    assert "reserved" in problem.problem and problem.fix == "Choose another name."


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            {"a": {"public": [{"host": "a"}]}, "a-internal": {"public": [{"host": "b"}]}},
            "a-internal",
            "'user' would get the environment variable A_INTERNAL_URL from 'a-internal' and from 'a'",
        ),
        ({"sentry": {}, "a": {}}, "", ""),
    ],
)
def test_two_needs_do_not_give_a_service_the_same_variable(first: dict[str, Any], second: str, said: str) -> None:
    services = {
        name: {"kind": "nestjs_api", "port": 3010 + number, "health": "/", **changes}
        for number, (name, changes) in enumerate(first.items())
    }
    services["user"] = {"kind": "nestjs_api", "port": 3001, "health": "/", "needs": list(first)}
    for service in services.values():
        service["build"] = {"source": "."}
    hosts = {"h": {"address": "10.0.0.1", "services": [*services, "edge"]}}
    problems = loading.read({"services": services}, {**ENVIRONMENT, "databases": {}}, hosts)[1]
    assert [(item.path, item.value, item.problem) for item in problems] == (
        [("services.user.needs", second, said)] if second else []
    )
    assert all(item.fix == "Rename 'a-internal' or 'a'." for item in problems)


def test_a_database_does_not_take_a_variable_of_the_platform() -> None:
    services = {
        "api": {"kind": "nestjs_api", "port": 3001, "health": "/", "needs": ["statsd"], "statsd": True, "pool": 1}
    }
    environment = {**ENVIRONMENT, "databases": {"statsd": ENVIRONMENT["databases"]["database"]}}
    hosts = {"h": {"address": "10.0.0.1", "services": ["api"]}}
    catalogue = {"services": services, "databases": {"statsd": {}}}
    problems = loading.read(catalogue, environment, hosts)[1]
    (problem,) = problems
    assert problem.problem == "'api' would get the environment variable STATSD_HOST from 'statsd' and from the platform"
    assert problem.fix == "Rename 'statsd'."
