# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What is said of services that are on hosts and not described there, and which of them may be retired."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import steps
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters import releases as filters
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import retirements, rollbacks

from ..release.test_rollbacks import look

# tenants left the catalogue, relay moved from host-1 to host-2.
PLAN = {
    "services": {"api": {"hosts": ["host-1"]}, "relay": {"hosts": ["host-2"]}},
    "hosts": {
        "host-1": {"address": "10.0.0.1", "services": ["api"], "edge": False, "described": ["api"]},
        "host-2": {"address": "10.0.0.2", "services": ["relay"], "edge": False, "described": ["relay"]},
        "edge-1": {"address": "10.0.0.3", "services": [], "edge": True, "described": ["edge"]},
    },
    "batches": [["api"], ["relay"]],
}
RETIRED = {"release": "t2", "since": "2026-01-01T12:00:00Z", "deployment": "d7", "by": "someone@somewhere"}


def there(*has: str, retired: dict[str, str] | None = None, **more: str) -> dict[str, Any]:
    runs = any(what in ("unit", "front", "flag") for what in has)
    return {"has": list(has), "runs": runs, "release": "", "since": "", "retired": retired or {}, **more}


RUNNING = there("unit", "front", "releases", "state", release="t2", since="2026-01-01T10:00:00Z")
GONE = there("releases", "state", "user", retired=RETIRED)
FOUND = {
    "host-1": {"relay": RUNNING, "tenants": RUNNING, "old": GONE, "bits": there("cache", "user")},
    "host-2": {"tenants": RUNNING},
    "edge-1": {},
}


def choose(names: str, upstreams: Any = None, **options: bool) -> dict[str, Any]:
    return retirements.choose(FOUND, upstreams or {}, PLAN, names.split(","), **options)


def test_a_timer_that_is_left_on_another_host_stops_a_deployment() -> None:
    timed = there("unit", "timer", "releases")
    plan = {**PLAN, "services": {**PLAN["services"], "relay": {"hosts": ["host-2"], "schedule": "daily"}}}
    with pytest.raises(
        AnsibleFilterError, match="relay is described for host-2 only, and its timer is still on host-1"
    ):
        filters.undescribed({"host-1": {"relay": timed}}, plan)
    # Nobody else runs what left the catalogue.
    assert filters.undescribed({"host-1": {"tenants": timed}}, plan)
    assert filters.undescribed({"host-1": {"relay": there("unit", "releases")}}, plan)
    # It is not deployed.
    assert filters.undescribed({"host-1": {"relay": timed}}, plan, ["api"])
    with pytest.raises(AnsibleFilterError, match="its timer is still on host-1"):
        filters.undescribed({"host-1": {"relay": timed}}, plan, ["relay"])


def test_what_another_host_runs_by_a_timer_does_not_come_back() -> None:
    timed = there("releases", "state", retired={**RETIRED, "timer": "fivepointers-relay_run.timer"})
    found = {"host-1": {"relay": timed, "tenants": timed}}
    with pytest.raises(
        retirements.RetirementError, match="relay on host-1: its timer runs for host-2, and it would run"
    ):
        retirements.choose(found, {}, PLAN, ["relay"], back=True)
    assert retirements.choose(found, {}, PLAN, ["tenants"], back=True)["releases"] == {"host-1": {"tenants": "t2"}}


def test_of_several_hosts_that_had_the_timer_of_what_comes_back_the_last_one_gets_it() -> None:
    timed = {"timer": "fivepointers-tenants_run.timer", "release": "t2"}
    found = {
        host: {"tenants": there("releases", "state", retired={**RETIRED, **timed, "since": since})}
        for host, since in {"edge-1": "2026-01-02T12:00:00Z", "host-1": "2026-01-01T12:00:00Z"}.items()
    }
    found["host-2"] = {"tenants": GONE}
    chosen = retirements.choose(found, {}, PLAN, ["tenants"], back=True)
    assert chosen["releases"] == {"edge-1": {"tenants": "t2"}, "host-2": {"tenants": "t2"}}
    assert "tenants on host-1: nothing to do, its timer went to edge-1 afterwards" in chosen["lines"]
    # Each of them is purged.
    assert set(retirements.choose(found, {}, PLAN, ["tenants"], purge=True)["hosts"]) == set(found)


def test_each_is_named_with_its_hosts_and_the_command() -> None:
    assert retirements.remarks(FOUND, PLAN) == [
        "bits is not in the catalogue, and host-1 still has its cache, user. Remove that: "
        "ansible-playbook playbooks/retire.yml -e retire=bits -e purge=true",
        "relay is described for host-2 only, and is still on host-1 with release t2 since 2026-01-01T10:00:00Z "
        "(unit, front, releases, state). Retire it: ansible-playbook playbooks/retire.yml -e retire=relay",
        "tenants is not in the catalogue, and is still on host-1 with release t2 since 2026-01-01T10:00:00Z, host-2 "
        "with release t2 since 2026-01-01T10:00:00Z (unit, front, releases, state). Retire it: "
        "ansible-playbook playbooks/retire.yml -e retire=tenants",
    ]
    assert retirements.remarks({"host-1": {}}, PLAN) == []
    (edge,) = retirements.remarks({"host-1": {"edge": {**there("edge configuration"), "runs": True}}}, PLAN)
    assert edge.startswith("edge is described for edge-1 only, and is still on host-1 with no release (edge conf")


@pytest.mark.parametrize(
    "names, options, hosts, line",
    [
        ("tenants", {}, {"host-1": ["tenants"], "host-2": ["tenants"]}, "tenants on host-2: remove its unit, front"),
        ("relay,tenants", {}, {"host-1": ["relay", "tenants"], "host-2": ["tenants"]}, "relay on host-1: remove its"),
        ("old", {}, {}, "old on host-1: nothing to do, it was retired at 2026-01-01T12:00:00Z"),
        ("old", {"back": True}, {"host-1": ["old"]}, "old on host-1: bring back release t2"),
        ("tenants", {"back": True}, {}, "tenants on host-1: nothing to do, it runs"),
        ("old", {"purge": True}, {"host-1": ["old"]}, "old on host-1: remove its releases, state, user"),
        ("bits", {"purge": True}, {"host-1": ["bits"]}, "bits on host-1: remove its cache, user"),
    ],
)
def test_what_is_done(names: str, options: dict[str, bool], hosts: dict[str, list[str]], line: str) -> None:
    chosen = choose(names, **options)
    assert {host: [item["name"] for item in items] for host, items in chosen["hosts"].items()} == hosts
    assert line in "\n".join(chosen["lines"])
    assert chosen["releases"] == ({"host-1": {"old": "t2"}} if names == "old" and "back" in options else {})


@pytest.mark.parametrize(
    "names, options, said",
    [
        ("", {}, r"no service is given. Write -e retire=NAME. These .*: bits, old, relay, tenants\."),
        ("api", {}, r"'api' is described for host-1, and is on no other host. To retire it, remove it from the cat"),
        ("edge", {}, r"'edge' is described for edge-1, and is on no other host"),
        ("tenant", {}, r"'tenant' is neither in the catalogue nor on any .*not to run them: bits, old, relay, tenants"),
        ("tenants,api", {}, r"nothing was changed:\n- 'api' is described"),
        ("tenants", {"purge": True}, r"tenants on host-1: it still runs there. Retire it first: ansible-playbook "),
        ("bits", {"back": True}, r"bits on host-1: it was not retired there"),
        ("old", {"back": True, "purge": True}, "not both"),
    ],
)
def test_what_is_refused(names: str, options: dict[str, bool], said: str) -> None:
    with pytest.raises(retirements.RetirementError, match=said):
        retirements.choose(FOUND, {}, PLAN, names.split(",") if names else [], **options)


def test_nothing_is_retired_to_which_requests_are_sent() -> None:
    upstreams = {"edge-1": {"edge_relay": ["10.0.0.2:3001", "10.0.0.1:3001"], "edge_api": ["10.0.0.1:3002"]}}
    with pytest.raises(retirements.RetirementError, match=r"relay on host-1: nginx on edge-1 still sends .*site\.yml"):
        choose("relay", upstreams)
    with pytest.raises(retirements.RetirementError, match="nginx on host-2 still sends"):
        choose("relay", {"host-2": {"internal_relay": ["10.0.0.1:3001"]}})
    # What nobody asks any more, and nobody rewrites.
    assert choose("relay", {"edge-1": {"internal_relay": ["10.0.0.1:3001"]}})["hosts"]
    assert choose("relay", {"host-2": {"edge_relay": ["10.0.0.1:3001"]}})["hosts"]
    upstreams = {"edge-1": {"edge_relay": ["10.0.0.2:3001"], "edge_api": ["10.0.0.1:3001"]}}
    assert choose("relay", upstreams)["hosts"], "the port may be another service's by now"


def test_the_filter_takes_what_hosts_return() -> None:
    looks = {host: {"undescribed": found, "upstreams": {}} for host, found in FOUND.items()}
    assert filters.retirement(looks, PLAN, "old, relay", "false", "")["problem"].startswith("The value")
    assert filters.retirement(looks, PLAN, "old , relay", "false", "no")["problem"] == ""
    assert filters.retirement(looks, PLAN, "nobody", False, False)["problem"].startswith("Refused; nothing was changed")


def test_the_table_marks_what_is_not_described() -> None:
    looks = {"host-1": {"api": look(("a1", "d1")), "tenants": look(("t1", "d1"), ("t2", "d2")), "bits": look()}}
    looks["host-1"]["old"] = {**look(("t1", "d1"), ("t2", "d2")), "live": {}}
    table = rollbacks.releases_table(looks, ["api"], FOUND).splitlines()
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table]
    assert [(row[0], row[2], row[4]) for row in rows[1:]] == [
        ("api", "a1", "live"),
        ("bits", "-", "not described: its cache, user"),
        ("old", "t1", "kept, retired"),
        ("old", "t2", "retired"),
        ("tenants", "t1", "previous, not described"),
        ("tenants", "t2", "live, not described"),
    ]


@pytest.mark.parametrize("phase", ["retire", "purge"])
def test_what_could_not_be_retired_is_said_to_be_continued(phase: str) -> None:
    step = {"name": phase, "host": "host-1", "failed": True, "message": "it did not stop"}
    assert steps.outcome_of([step], []) == "failed"
    assert steps.message_of("failed", [step], []).endswith("run the same again: it continues from the current state.")
    assert steps.outcome_of([{**step, "failed": False}], []) == "committed"
