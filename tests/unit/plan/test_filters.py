# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filters as playbooks call them: with Ansible's own strings and containers, and with plain results."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError, AnsibleUndefinedVariable
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import trust_as_template
from ansible.vars import hostvars as hostvars_of_ansible
from ansible.vars.manager import VariableManager
from ansible_collections.fivepointers.platform.plugins.filter.platform import FilterModule
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters import planning, selection
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters import releases as release_filters
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import verification

ROOT = Path(__file__).resolve().parents[3]
FILTERS = FilterModule().filters()


def types_in(value: Any) -> set[type]:
    """Return the types of everything in nested data."""
    found = {type(value)}
    if isinstance(value, dict):
        found |= {type(key) for key in value}
        for item in value.values():
            found |= types_in(item)
    elif isinstance(value, list):
        for item in value:
            found |= types_in(item)
    return found


def test_values_of_an_inventory_are_templated_and_the_result_is_plain(stack: Any, template: Any) -> None:
    stack.environment["front_door"] = trust_as_template("{{ edge_address }}")
    stack.environment["tls"]["certificate"] = trust_as_template("{{ folder }}/certificate.pem")
    variables = {
        "environment": stack.environment,
        "edge_address": trust_as_template("{{ '10.0.0' ~ '.1' }}"),
        "folder": "/tls",
    }
    environment = template("{{ environment }}", variables)
    plan = FILTERS["plan"](stack.catalogue, environment, stack.hosts)
    assert plan["environment"]["front_door"] == "10.0.0.1"
    assert types_in(plan) <= {dict, list, str, int, bool, type(None)}


def test_an_undefined_variable_in_the_environment_is_named(stack: Any, template: Any) -> None:
    stack.environment["front_door"] = trust_as_template("{{ nowhere }}")
    with pytest.raises(AnsibleUndefinedVariable, match="nowhere"):
        FILTERS["plan"](stack.catalogue, template("{{ environment }}", {"environment": stack.environment}), stack.hosts)


@pytest.mark.parametrize("name", ["plan", "topology", "log_groups", "provision"])
def test_each_filter_refuses_the_whole_catalogue_with_all_problems(name: str, stack: Any) -> None:
    stack.set("c.services.api.port", 0).set("c.services.sites.kind", "x")
    with pytest.raises(AnsibleFilterError) as caught:
        FILTERS[name](stack.catalogue, stack.environment)
    assert "2 problems" in str(caught.value)
    assert "services.api.port: 0" in str(caught.value)
    assert "services.sites.kind: x" in str(caught.value)


def test_log_groups_are_those_of_the_plan(stack: Any) -> None:
    assert FILTERS["log_groups"](stack.catalogue, stack.environment) == stack.plan()["log_groups"]


def test_the_plan_holds_the_checks_and_who_is_swept(stack: Any) -> None:
    """Nothing has to read the catalogue again: neither to verify, nor to sweep access to the database."""
    plan = FILTERS["plan"](stack.catalogue, stack.environment, stack.hosts)
    assert [check["name"] for check in plan["checks"] if check["do"] == "journey"] == [
        "a user logs in and reads a page"
    ]
    assert plan["checks"] == verification(plan, stack.catalogue["journeys"])
    assert plan["access_group"] == ""
    stack.environment["aws"] = {}
    plan = FILTERS["plan"](stack.catalogue, stack.environment, stack.hosts)
    assert plan["access_group"] == "production-database-access"
    stack.set("c.journeys.0.steps.0.service", "nobody")
    with pytest.raises(AnsibleFilterError, match="nobody"):
        FILTERS["plan"](stack.catalogue, stack.environment, stack.hosts)


# --- selecting --------------------------------------------------------------------


@pytest.mark.parametrize(
    "host, kind, tags, names",
    [
        ("sites-1", None, None, ["sites", "collab"]),
        ("sites-1", "nextjs", None, ["sites"]),
        ("sites-1", "nestjs_api", None, []),
        ("edge-1", None, None, []),
        ("sites-1", None, ["all"], ["sites", "collab"]),
        ("sites-1", None, ["yjs_websocket"], ["collab"]),
        ("sites-1", None, ["nginx_proxy"], []),
    ],
)
def test_services_on(host: str, kind: Any, tags: Any, names: list[str], stack: Any) -> None:
    assert [spec["name"] for spec in selection.services_on(stack.plan(), host, kind, tags)] == names


def test_services_on_an_unknown_host(stack: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"unknown host 'web-9'.*edge-1, web-1"):
        selection.services_on(stack.plan(), "web-9")


@pytest.mark.parametrize(
    "tags, names",
    [
        (["all"], ["api", "sites", "collab", "frontend"]),
        (["nestjs_api"], ["api"]),
        (["nextjs", "static_frontend"], ["sites", "frontend"]),
        (["collab"], ["collab"]),
        (["nginx_proxy"], []),
        (["cloudwatch_agent", "nginx_proxy"], []),
        (["nginx_proxy", "api"], ["api"]),
        (["release"], ["api", "sites", "collab", "frontend"]),
        ([], ["api", "sites", "collab", "frontend"]),
    ],
)
def test_select_services(tags: list[str], names: list[str], stack: Any) -> None:
    assert selection.select_services(stack.plan(), tags) == names


def test_select_services_of_some(stack: Any) -> None:
    plan = stack.plan()
    assert selection.select_services(plan, ["all"], "sites, api") == ["api", "sites"]
    assert selection.select_services(plan, ["nextjs"], ["sites", "api"]) == ["sites"]
    with pytest.raises(AnsibleFilterError, match="unknown service 'sits'"):
        selection.select_services(plan, ["all"], "sits")


def test_secret_references(stack: Any) -> None:
    plan = stack.plan()
    assert [item["name"] for item in selection.secret_references(plan)] == ["database.password", "jwt"]
    assert selection.secret_references(plan, ["sites"]) == []
    assert len(selection.secret_references(plan, ["sites", "api"])) == 2


# --- hosts ------------------------------------------------------------------------


class HostVars(dict):  # type: ignore[type-arg]
    """Stands for Ansible's hostvars: templated by key, raw by raw_get."""

    def __init__(self, raw: dict[str, Any], template: Any) -> None:
        super().__init__({name: template("{{ values }}", {"values": values}) for name, values in raw.items()})
        self.raw_get = raw.__getitem__


def test_platform_hosts(template: Any) -> None:
    hostvars = HostVars(
        {
            "api-1": {"platform_address": "10.0.0.1", "platform_services": ["api"], "other": 1},
            "web-1": {
                "platform_address": trust_as_template("{{ '10.0.0' ~ '.2' }}"),
                "platform_services": [trust_as_template("{{ 'web' }}")],
            },
            "ec2-1": {"aws_private_ip_address": "10.0.0.3", "aws_tags": {"Services": "edge, web"}},
            "ec2-2": {
                "aws_private_ip_address": "10.0.0.4",
                "aws_tags": {"Services": "web"},
                "platform_services": ["api"],
            },
            # What the host says goes before its groups.
            "both-1": {"platform_services": ["api"], "group_names": ["platform", "service_web"]},
            "bare-1": {"group_names": ["platform", "services"]},
        },
        template,
    )
    assert planning.platform_hosts(hostvars, ["api-1", "web-1", "ec2-1", "ec2-2", "both-1", "bare-1"]) == {
        "api-1": {"address": "10.0.0.1", "services": ["api"]},
        "web-1": {"address": "10.0.0.2", "services": ["web"]},
        # The plan strips names.
        "ec2-1": {"address": "10.0.0.3", "services": ["edge", " web"]},
        "ec2-2": {"address": "10.0.0.4", "services": ["api"]},
        "both-1": {"address": None, "services": ["api"]},
        "bare-1": {"address": None, "services": None},
    }


def test_a_static_inventory_names_each_service_once(tmp_path: Path) -> None:
    """Read by Ansible itself: the example of docs/inventory.md."""
    text = (ROOT / "docs/inventory.md").read_text()
    (example,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if block.startswith("platform:")]
    (tmp_path / "hosts.yml").write_text(example)
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(tmp_path / "hosts.yml")])
    hostvars = hostvars_of_ansible.HostVars(inventory, VariableManager(loader=loader, inventory=inventory), loader)
    assert planning.platform_hosts(hostvars, inventory.get_groups_dict()["platform"]) == {
        "web-1": {"address": "10.0.0.1", "services": ["edge", "frontend"]},
        "api-1": {"address": "10.0.0.2", "services": ["my-api"]},
        "api-2": {"address": "10.0.0.3", "services": ["my-api"]},
    }


def test_a_host_without_variables_is_refused_by_the_plan(stack: Any) -> None:
    stack.hosts["bare-1"] = {"address": None, "services": None}
    assert [item.path for item in stack.problems()] == ["hosts.bare-1.services", "hosts.bare-1.address"]


def test_artifact_choice() -> None:
    api, sites = "5d41402abc4b2a76", "7d793037a0760186"
    assert selection.artifact_choice(f"api:{api}, sites:{sites}") == {"api": api, "sites": sites}
    assert selection.artifact_choice(api, "api") == {"api": api}
    assert selection.artifact_choice("", "api") == selection.artifact_choice(None) == {}
    for service in (None, "api,sites"):
        with pytest.raises(AnsibleFilterError, match=f"-e artifact=api:{api}"):
            selection.artifact_choice(api, service)


@pytest.mark.parametrize(
    "artifact", ["1a2b", "latest", "../../etc/x", "5D41402ABC4B2A76", "5d41402abc4b2a 76", "g" * 16]
)
def test_only_ids_are_chosen(artifact: str) -> None:
    with pytest.raises(AnsibleFilterError, match="is not an artifact's id, which has 16 to 64 hexadecimal digits"):
        selection.artifact_choice(f"api:{artifact}")


ESCAPE = "../../inventories/production/group_vars/all/zz"


def test_the_id_in_a_fetched_manifest_is_checked_before_it_is_a_path() -> None:
    manifest = {"id": "a" * 16, "service": "api", "archive_sha256": "b" * 64}
    manifest |= {"archive_size": 1, "unpacked_size": 1, "files_count": 1}
    origin = "s3://builds/api/latest.json"

    def read(artifact: str | None = None, **changes: Any) -> str:
        return release_filters.artifact_id(json.dumps(manifest | changes), "api", origin, artifact)

    assert read() == read("a" * 16) == "a" * 16
    assert read(commit={"id": "b" * 40, "time": 1, "dirty": False}) == "a" * 16
    for changes in ({"id": ESCAPE}, {"id": ["a" * 16]}, {"id": "a" * 15}, {"id": None}, {"id": "a" * 16 + "\n"}):
        with pytest.raises(AnsibleFilterError, match=f"api: the manifest {origin} is not one that a build .*id is"):
            read(**changes)
    for changes, key in (
        ({"archive_sha256": "../x"}, "archive_sha256"),
        ({"archive_size": "1"}, "archive_size"),
        ({"unpacked_size": -1}, "unpacked_size"),
        ({"files_count": True}, "files_count"),
        ({"service": "sites"}, "service"),
        ({"commit": {"id": "a" * 40, "time": "1", "dirty": False}}, "commit"),
        ({"commit": {"id": "../x", "time": 1, "dirty": False}}, "commit"),
        ({"commit": None}, "commit"),
        ({"native": {"file": "a.node"}}, "native"),
        ({"native": [{"package": "a", "file": "a.node", "platform": ["linux-x64"], "libc": ""}]}, "native"),
    ):
        with pytest.raises(AnsibleFilterError, match=f"{key} is "):
            read(**changes)
    with pytest.raises(AnsibleFilterError, match="id is 'aaaa"):
        read("c" * 16)
    for text in ("", "[]", "3", '{"id": "'):
        with pytest.raises(AnsibleFilterError, match=f"{origin} is not a manifest"):
            release_filters.artifact_id(text, "api", origin)
    # What is hostile is not repeated at length.
    with pytest.raises(AnsibleFilterError) as error:
        read(id="x" * 10_000)
    assert len(str(error.value)) < 500


def test_provision_changes_names_the_layers(stack: Any) -> None:
    stack.environment["aws"] = {}
    desired = FILTERS["provision"](stack.catalogue, stack.environment)
    assert FILTERS["provision_changes"](desired, "artifacts", {"buckets": []}) == {"ours": True, "changes": []}
    with pytest.raises(AnsibleFilterError, match=r"unknown layer 'netwrk'.*network, security_groups"):
        FILTERS["provision_changes"](desired, "netwrk", {})
    with pytest.raises(AnsibleFilterError, match="2 VPCs have"):
        FILTERS["provision_changes"](desired, "network", {"vpcs": [{"vpc_id": "a"}, {"vpc_id": "b"}], "subnets": []})


# --- speed ----------------------------------------------------------------------------


def test_a_large_platform_is_checked_and_planned_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 services over 1,000 hosts take about 0.3 s of a processor; the bound is loose."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "bench"))
    monkeypatch.delitem(sys.modules, "plan", raising=False)
    import plan as bench

    assert sum(bench.measure(rounds=3, clock=time.process_time)) < 1
