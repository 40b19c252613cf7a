# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Network, security groups and hosts: what follows from the catalogue, and what is done about what AWS has."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogue
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters import provision as filters
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.flows import Flow, flows
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    database_access as aws_database_access,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import hosts as aws_hosts
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import iam, ownership, permissions
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import layers as provisioning
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import network as aws_network
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import (
    security_groups as aws_security_groups,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.ownership import FoundError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.aws import recorder

Load = Callable[..., Model]
HOSTS: dict[str, Any] = {
    "edge": {"services": ["edge", "frontend"], "count": 2},
    "api": {"services": ["api"], "count": 2},
    "more": {"services": ["sites", "collab"]},
}
OURS = {"ManagedBy": "fivepointers.platform", "Environment": "staging", "Platform": "fivepointers"}


# --- flows -----------------------------------------------------------------------


def test_the_flows_of_the_repositorys_catalogue(load: Load) -> None:
    """Users come in at the load balancer, processes call what they need, and a browser's needs go by the edge."""
    found = {(flow.source, flow.target, flow.port) for flow in flows(load(hosts=HOSTS))}
    assert found == {
        ("world", "load-balancer", 80),
        ("world", "load-balancer", 443),
        ("load-balancer", "edge", 80),
        ("edge", "api", 3001),
        ("edge", "frontend", 8080),
        ("edge", "sites", 3002),
        ("edge", "collab", 3003),
        ("sites", "api", 3001),
        ("collab", "api", 3001),
        ("api", "database", 3306),
        ("instance-connect", "hosts", 22),
    }


def test_without_a_load_balancer_users_come_to_the_edge(load: Load, environment: dict[str, Any]) -> None:
    """The edge then is what is open to the world, and no group is made for a load balancer."""
    environment["tls"] = {"mode": "acme", "email": "ops@example.com"}
    model = load(hosts=HOSTS)
    opened = [flow for flow in flows(model) if flow.source == "world"]
    assert opened == [Flow("world", "edge", port, "tcp", "users") for port in (80, 443)]
    assert "load-balancer" not in aws_security_groups.derive(model)["groups"]


def test_a_database_elsewhere_is_reached_on_its_own_port(load: Load, environment: dict[str, Any]) -> None:
    """What the environment says of a database counts, not the usual port."""
    environment["databases"]["database"]["port"] = 3307
    assert Flow("api", "database", 3307, "tcp", "api needs database") in flows(load())


# --- security groups: the law ------------------------------------------------------

# Of databases and stores, by engine: their ports once more.
DATABASE_PORTS = {"mysql": 3306, "postgresql": 5432}
STORE_PORTS = {"valkey": 6379, "redis": 6379}


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A valid catalogue with its groups of hosts: needs go to earlier services, hosts carry any of them."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 6)))]
    databases, stores = (
        {
            f"{letter}{number}": {"engine": draw(st.sampled_from(list(ports)))}
            for number in range(draw(st.integers(0, 2)))
        }
        for letter, ports in (("d", DATABASE_PORTS), ("q", STORE_PORTS))
    )
    services: dict[str, Any] = {}
    for number, name in enumerate(names):
        kind = draw(st.sampled_from(["nestjs_api", "static_frontend", "nextjs", "yjs_websocket"]))
        options = names[:number] + ([] if kind == "static_frontend" else [*databases, *stores])
        needs = draw(st.lists(st.sampled_from(options), unique=True)) if options else []
        entry: dict[str, Any] = {"kind": kind, "port": 3000 + number, "needs": needs}
        if kind != "static_frontend":
            entry.update(health="/health", pool=1)
        if draw(st.booleans()):
            entry["public"] = [{"host": name}]
        services[name] = {**entry, "build": {"source": "x"}}
    carriers = ["edge", *names]
    split = draw(st.lists(st.integers(0, 2), min_size=len(carriers), max_size=len(carriers)))
    hosts = {
        f"g{number}": {"services": [name for name, where in zip(carriers, split, strict=True) if where == number]}
        for number in set(split)
    }
    return {"services": services, "databases": databases, "stores": stores}, hosts


def _model(described: tuple[dict[str, Any], dict[str, Any]], mode: str) -> Model:
    entries, hosts = described
    access = {"host": "db", "name": "a", "user": "a", "password": {"variable": "x"}, "max_connections": 10000}
    environment = {
        "name": "test",
        "domain": "example.com",
        "region": "eu-central-1",
        "tls": {"mode": mode, **({"email": "ops@example.com"} if mode == "acme" else {})},
        "databases": dict.fromkeys(entries["databases"], access),
        "stores": {name: {"host": "q"} for name in entries["stores"]},
        "aws": {"hosts": hosts, "security_groups": {"limits": {"groups": 16}}, "network": {"nat": "none"}},
    }
    return catalogue.load(entries, environment)


def _reachable(derived: dict[str, Any], machines: dict[str, set[str]]) -> set[tuple[str, str, int]]:
    """Return which machine reaches which port of which other, from groups and rules alone, as a firewall would."""
    by_name = {group["name"]: group for group in derived["groups"].values()}
    found = set()
    for target, groups in machines.items():
        for rule in (rule for name in groups for rule in by_name[name].get("rules", [])):
            for source, has in machines.items():
                leaves = [by_name[name].get("egress") for name in has]
                back = any(
                    out is None
                    or any(set(item["group_name"]) & groups and item["ports"] == rule["ports"] for item in out)
                    for out in leaves
                )
                comes = "cidr_ip" in rule if source == "world" else bool(set(rule.get("group_name", ())) & has)
                if comes and (back or source == "world"):
                    found.update((source, target, int(port)) for port in rule["ports"])
    return found


@given(described=catalogues(), mode=st.sampled_from(["load_balancer", "acme"]))
def test_exactly_what_needs_ask_for_is_open(described: tuple[dict[str, Any], dict[str, Any]], mode: str) -> None:
    """Between machines that carry any mix of services all is open that the catalogue asks for, and nothing else."""
    entries, hosts = described
    model = _model(described, mode)
    derived = {name: module.derive(model) for name, module in (("sg", aws_security_groups), ("hosts", aws_hosts))}
    carries = {name: set(group["services"]) for name, group in hosts.items()}
    machines = {name: set(group["security_groups"]) for name, group in derived["hosts"]["groups"].items()}
    others = {
        *entries["databases"],
        *entries["stores"],
        "instance-connect",
        "endpoints",
        *(["load-balancer"] if mode != "acme" else []),
    }
    for name in others:
        carries[name], machines[name] = {name}, {derived["sg"]["groups"][name]["name"]}
    carries["world"], machines["world"] = {"world"}, set()

    # Said anew, from the catalogue's text alone.
    ports = {name: entry["port"] for name, entry in entries["services"].items()}
    for section, known in (("databases", DATABASE_PORTS), ("stores", STORE_PORTS)):
        ports |= {name: known[entry["engine"]] for name, entry in entries[section].items()}
    wanted: set[tuple[str, str, int]] = set()
    public = [name for name, service in entries["services"].items() if "public" in service]
    door = "edge" if mode == "acme" else "load-balancer"
    if public:
        wanted |= {("world", door, 80), ("world", door, 443)}
        wanted |= {("edge", name, entries["services"][name]["port"]) for name in public}
        wanted |= {("load-balancer", "edge", 80)} if mode != "acme" else set()
    for name, service in entries["services"].items():
        wanted |= {(name, "endpoints", 443), ("instance-connect", name, 22)}
        if service["kind"] != "static_frontend":
            wanted |= {(name, other, ports[other]) for other in service["needs"]}
    wanted |= {("edge", "endpoints", 443), ("instance-connect", "edge", 22)}
    expected = {
        (source, target, port)
        for begin, end, port in wanted
        for source in carries
        for target in carries
        if begin in carries[source] and end in carries[target]
    }
    assert _reachable(derived["sg"], machines) == expected


def test_rules_name_groups_and_only_users_come_from_addresses(load: Load) -> None:
    """No address is in a rule, but everybody's for the load balancer."""
    for thing, group in aws_security_groups.derive(load(hosts=HOSTS))["groups"].items():
        for rule in [*group.get("rules", []), *group.get("egress", [])]:
            assert ("cidr_ip" in rule) == (thing == "load-balancer" and rule["ports"] in (["80"], ["443"])) or (
                rule.get("group_name") == ["staging-edge"]
            )
    assert "rules" not in aws_security_groups.derive(load())["groups"]["database-access"]


# --- security groups: what is there --------------------------------------------------


def as_found(derived: dict[str, Any]) -> list[dict[str, Any]]:
    """Return groups as the info module returns them once the plan was carried out."""
    ids = {group["name"]: f"sg-{number}" for number, group in enumerate(derived["groups"].values())}

    def permissions(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "ip_protocol": "tcp",
                "from_port": int(rule["ports"][0]),
                "to_port": int(rule["ports"][0]),
                "user_id_group_pairs": [{"group_id": ids[name]} for name in rule.get("group_name", [])],
                "ip_ranges": [{"cidr_ip": cidr} for cidr in rule.get("cidr_ip", [])],
            }
            for rule in rules
        ]

    return [
        {
            "group_name": group["name"],
            "group_id": ids[group["name"]],
            "tags": dict(group["tags"]),
            "ip_permissions": permissions(group.get("rules", [])),
            "ip_permissions_egress": permissions(group["egress"]) if "egress" in group else [{"ip_protocol": "-1"}],
        }
        for group in derived["groups"].values()
    ]


def one(groups: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the group of that name."""
    return next(group for group in groups if group["group_name"] == name)


def test_groups_that_are_right_are_left_alone(load: Load) -> None:
    """A second run has nothing to do."""
    derived = aws_security_groups.derive(load(hosts=HOSTS))
    assert aws_security_groups.compare(derived, as_found(derived)) == {
        "make": [], "change": [], "remove": [], "notices": [],
    }  # fmt: skip


def test_an_address_rule_gives_way_to_a_group_rule(load: Load) -> None:
    """A rule made by hand is told as what goes, and what is missing as what comes."""
    derived = aws_security_groups.derive(load(hosts=HOSTS))
    there = as_found(derived)
    opened = {"ip_protocol": "tcp", "from_port": 3306, "to_port": 3306, "ip_ranges": [{"cidr_ip": "10.0.0.0/8"}]}
    one(there, "staging-database")["ip_permissions"] = [opened]
    one(there, "staging-database")["tags"].pop("Service")
    found = aws_security_groups.compare(derived, there)
    assert [(group["name"], group["differs"]) for group in found["change"]] == [
        ("staging-database", ["+ tcp 3306 from staging-api", "- tcp 3306 from 10.0.0.0/8"])
    ]
    assert [group["name"] for group in found["make"]] == ["staging-database"]


def test_a_group_made_by_others_is_refused_until_it_is_taken_in(load: Load) -> None:
    """Taken in, it gets the rules that it lacks, and keeps its own."""
    derived = aws_security_groups.derive(load(hosts=HOSTS))
    there = as_found(derived)
    legacy = one(there, "staging-api")
    legacy.update(tags={}, ip_permissions=[{"ip_protocol": "-1", "ip_ranges": [{"cidr_ip": "10.0.0.0/8"}]}])
    with pytest.raises(FoundError, match=r"aws\.security_groups\.adopt: \{api: staging-api\}"):
        aws_security_groups.compare(derived, there)
    legacy["group_name"] = "old api"
    derived = aws_security_groups.derive(load(hosts=HOSTS, security_groups={"adopt": {"api": "old api"}}))
    found = aws_security_groups.compare(derived, there)
    assert [group["differs"] for group in found["change"] if group["thing"] == "api"] == [
        [f"+ tcp {port} from staging-{source}" for port, source in (
            (22, "instance-connect"), (3001, "collab"), (3001, "edge"), (3001, "sites"))]
    ]  # fmt: skip
    assert found["notices"] == ["security group old api is adopted and keeps all from 10.0.0.0/8"]
    assert "old api" in str(derived["groups"]["database"]["rules"])
    with pytest.raises(FoundError, match="group 'old api' not found"):
        aws_security_groups.compare(derived, [])


def test_what_another_environment_has_is_never_taken_for_ones_own(load: Load, environment: dict[str, Any]) -> None:
    """production-eu-api is eu-api of production, and api of production-eu: groups, templates and hosts alike."""
    rest = ["edge", "frontend", "sites", "collab"]
    hosts: dict[str, Any] = {"eu-api": {"services": ["api"], "count": 1}, "all": {"services": rest}}
    environment["name"] = "production"
    model = load(hosts=hosts)
    groups, mine = aws_security_groups.derive(model), aws_hosts.derive(model)
    there = as_found(groups)
    one(there, "production-api")["tags"]["Environment"] = "production-eu"
    refused = "'production-api' and has the tag Environment=production-eu"
    for compared in (aws_security_groups.compare, aws_security_groups.ids):
        with pytest.raises(FoundError, match=refused):
            compared(groups, there)
    adopting = aws_security_groups.derive(load(hosts=hosts, security_groups={"adopt": {"api": "other"}}))
    one(there, "production-api")["group_name"] = "other"
    with pytest.raises(FoundError, match=refused.replace("production-api", "other")):
        aws_security_groups.compare(adopting, there)

    tags = {**mine["groups"]["all"]["tags"], "Environment": "production-eu"}
    template = {"launch_template_name": "production-eu-api", "versions": [], "tags": tags}
    with pytest.raises(FoundError, match="'production-eu-api' has the tag Environment=production-eu"):
        aws_hosts.differing_templates(mine, [template], {})
    with pytest.raises(FoundError, match="'production-eu-api' has no tag ManagedBy"):
        aws_hosts.differing_templates(mine, [{**template, "tags": {}}], {})

    launch = aws_hosts.compare(mine, [], NETWORK, {})["launch"]
    theirs = instances({"launch": launch})
    for item in theirs:
        item["tags"]["Environment"] = "production-eu"
        item["iam_instance_profile"]["arn"] = "arn:aws:iam::1:instance-profile/production-host"
    assert aws_hosts.compare(mine, theirs, NETWORK, {})["launch"] == launch
    taken = {**hosts, "eu-api": {"services": ["api"], "adopt": [theirs[0]["instance_id"]]}}
    with pytest.raises(FoundError, match="i-00000000 has the tag Environment=production-eu"):
        aws_hosts.compare(aws_hosts.derive(load(hosts=taken)), theirs, NETWORK, {})


def test_whose_a_resource_is_stands_in_its_tags() -> None:
    """Both tags have to be there; one that was never tagged is of nobody here."""
    assert ownership.foreign(OURS, OURS) == ""
    assert ownership.foreign({**OURS, "Environment": "other"}, OURS).startswith("has the tag Environment=other")
    assert "created by others" in ownership.foreign({"Environment": "staging"}, OURS)
    assert ownership.elsewhere({"Environment": "other"}, "staging") == ""


def test_the_group_of_developers_access_can_be_taken_in(load: Load) -> None:
    """The layer that grants access then uses that one."""
    model = load(hosts=HOSTS, security_groups={"adopt": {"database-access": "developers"}})
    assert aws_database_access.derive(model)["group"] == "developers"
    assert aws_database_access.derive(model)["name"] == "staging-database-access"
    assert aws_security_groups.derive(model)["groups"]["database-access"]["name"] == "developers"


@pytest.mark.parametrize("name, careful", [("eu-prod", True), ("production", True), ("staging", False)])
def test_production_is_known_by_its_name_everywhere(
    load: Load, environment: dict[str, Any], name: str, careful: bool
) -> None:
    """What users depend on is protected and has no hours."""
    environment["name"] = name
    derived = provisioning.provision(load(hosts=HOSTS))
    (database,) = derived["database"]["instances"]
    found = (database["multi_az"], database["deletion_protection"], derived["load_balancer"]["deletion_protection"])
    assert {*found, derived["schedule"]["production"]} == {careful}


def test_a_group_that_serves_nothing_is_reported_and_deleted_by_name_only(load: Load) -> None:
    """Nor is it deleted while something uses it, or if it is not ours, or if it is wanted."""
    derived = aws_security_groups.derive(load(hosts=HOSTS))
    there = as_found(derived)
    old = {"group_name": "staging-old", "group_id": "sg-old", "tags": dict(OURS)}
    foreign = {"group_name": "office", "group_id": "sg-office", "tags": {}}
    there += [old, foreign]
    found = aws_security_groups.compare(derived, there)
    assert found["remove"] == []
    assert found["notices"] == [
        "security group staging-old does not belong to anything in the catalogue; to delete it: -e remove=staging-old"
    ]
    assert aws_security_groups.compare(derived, there, remove=["staging-old"])["remove"] == ["staging-old"]
    pair = {"ip_protocol": "tcp", "user_id_group_pairs": [{"group_id": "sg-old"}]}
    interface = {"id": "eni-1", "groups": [{"group_id": "sg-old"}]}
    one(there, "staging-database")["ip_permissions"].append(pair)
    for name, message in (
        ("staging-old", "in use by staging-database, eni-1"),
        ("office", "created by others"),
        ("staging-api", "catalogue needs"),
        ("staging-none", "not found in the VPC"),
    ):
        with pytest.raises(FoundError, match=message):
            aws_security_groups.compare(derived, there, remove=[name], interfaces=[interface])


# --- network ----------------------------------------------------------------------------


def network_found(derived: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return VPC and subnets as the info modules return them once the plan was carried out."""
    vpc = {"vpc_id": "vpc-1", "tags": dict(derived["tags"])}
    subnets = [
        {
            "id": f"subnet-{subnet['name']}",
            "cidr_block": subnet["cidr"],
            "availability_zone": f"zone-{subnet['zone']}",
            "tags": dict(subnet["tags"]),
        }
        for subnet in derived["subnets"]
    ]
    return [vpc], subnets[::-1]


def test_the_network_lies_in_two_zones_within_its_addresses(load: Load) -> None:
    """Subnets do not overlap; the edge trusts those that the load balancer is in."""
    model = load(network={"cidr": "172.20.8.0/22"})
    derived = aws_network.derive(model)
    assert [(subnet["kind"], subnet["zone"], subnet["cidr"]) for subnet in derived["subnets"]] == [
        ("public", 0, "172.20.8.0/26"),
        ("public", 1, "172.20.8.64/26"),
        ("private", 0, "172.20.8.128/26"),
        ("private", 1, "172.20.8.192/26"),
    ]
    assert model.environment["tls"]["trusted"] == ["10.0.0.0/16", "172.20.8.0/26", "172.20.8.64/26"]


def test_examples_trust_the_subnets_of_the_load_balancer_only(load: Load) -> None:
    """Whoever is in a trusted network may choose its client address, and hosts are in the others."""
    _own, *public = load(network={"cidr": "10.0.0.0/16"}).environment["tls"]["trusted"]
    root = recorder.ROOT
    files = [root / "docs/catalogue.md", *(root / "inventories").rglob("environment.yml")]
    found = [match for path in files for match in re.findall(r"trusted: \[([\d./, ]+)\]", path.read_text())]
    assert found and set(found) == {", ".join(public)}


def test_hosts_reach_aws_by_one_way(load: Load) -> None:
    """By a NAT gateway, which packages need; or by endpoints where there is none. S3's costs nothing."""

    def services(**network: Any) -> list[str]:
        derived = aws_network.derive(load(network=network))
        return [endpoint["service"].rpartition(".")[2] for endpoint in derived["endpoints"]]

    assert services() == ["s3"]
    assert services(nat="none") == ["s3", *aws_network.INTERFACES]
    assert services(nat="each_zone", endpoints=["logs"]) == ["s3", "logs"]
    derived = aws_network.derive(load(network={"nat": "none", "endpoints": ["logs"]}))
    tags = [{"key": key, "value": value} for key, value in derived["endpoints"][1]["tags"].items()]
    there = [{"service_name": derived["endpoints"][1]["service"], "tags": tags}]
    assert aws_network.missing_endpoints(derived, there) == derived["endpoints"][:1]
    assert aws_network.missing_endpoints(derived, [{**there[0], "tags": tags[1:]}]) == derived["endpoints"]
    ways = [table["way"] for table in aws_network.derive(load(network={"nat": "each_zone"}))["route_tables"]]
    assert ways == ["internet", 0, 1]


def test_what_the_network_lacks_is_found(load: Load) -> None:
    """A subnet whose tag was lost is mended; what is right is left alone."""
    derived = aws_network.derive(load())
    vpcs, subnets = network_found(derived)
    found = aws_network.existing(derived, vpcs, subnets)
    assert found == {
        "vpc": "vpc-1",
        "public": ["subnet-staging-public-1", "subnet-staging-public-2"],
        "private": ["subnet-staging-private-1", "subnet-staging-private-2"],
        "zones": ["zone-0", "zone-1"],
        "missing": [],
    }
    subnets[0]["tags"].pop("ManagedBy")
    missing = aws_network.existing(derived, vpcs, subnets[:3])["missing"]
    assert [subnet["name"] for subnet in missing] == ["staging-public-1", "staging-private-2"]
    assert aws_network.existing(derived, [], [])["missing"] == derived["subnets"]
    vpcs[0]["tags"] = {}
    with pytest.raises(FoundError, match=r"vpc-1 has tag:Name=staging, cidr=10\.20\.0\.0/16, but not the tag"):
        aws_network.existing(derived, vpcs, subnets)


def test_routes_that_are_right_are_left_alone(load: Load) -> None:
    """A table that leads elsewhere is changed, and known by its subnet if its name was lost."""
    derived = aws_network.derive(load())
    network = aws_network.existing(derived, *network_found(derived))
    nats = [{"subnet_id": network["public"][0], "nat_gateway_id": "nat-1", "tags": derived["nat"][0]["tags"]}]
    assert aws_network.missing_nat_gateways(derived, network, nats) == []
    assert [nat["subnet"] for nat in aws_network.missing_nat_gateways(derived, network, [])] == [network["public"][0]]
    wanted = aws_network.missing_route_tables(derived, network, nats, [])
    assert [(table["name"], table["routes"][0]["gateway_id"]) for table in wanted] == [
        ("staging-public", "igw"), ("staging-private-1", "nat-1"), ("staging-private-2", "nat-1"),
    ]  # fmt: skip
    there: list[dict[str, Any]] = [
        {
            "route_table_id": f"rtb-{number}",
            "tags": dict(table["tags"]),
            "associations": [{"subnet_id": name} for name in table["subnet_ids"]],
            "routes": [
                {"destination_cidr_block": "0.0.0.0/0", "state": "active", "gateway_id": "igw-1"}
                if table["way"] == "internet"
                else {"destination_cidr_block": "0.0.0.0/0", "state": "active", "nat_gateway_id": "nat-1"}
            ],
        }
        for number, table in enumerate(wanted)
    ]
    assert aws_network.missing_route_tables(derived, network, nats, there) == []
    there[1]["tags"].pop("Name")
    there[2]["routes"][0]["state"] = "blackhole"
    assert [table["id"] for table in aws_network.missing_route_tables(derived, network, nats, there)] == [
        "rtb-1",
        "rtb-2",
    ]


def test_a_network_that_exists_is_used_as_it_is(load: Load) -> None:
    """By id or by tag, and only with subnets in two zones."""
    subnets = [
        {"id": f"subnet-0000000{n}", "availability_zone": f"z{n % 2}", "tags": {"tier": "web" if n < 2 else "app"}}
        for n in range(4)
    ]
    ids = {"public": ["subnet-00000000", "subnet-00000001"], "private": ["subnet-00000003", "subnet-00000002"]}
    tags = {"public": {"tier": "web"}, "private": {"tier": "app"}}
    for chosen, vpc in ((ids, "vpc-00000001"), (tags, {"Name": "main"})):
        model = load(network={"vpc": vpc, "subnets": chosen})
        derived = aws_network.derive(model)
        found = aws_network.existing(derived, [{"vpc_id": "vpc-00000001", "tags": {}}], subnets)
        assert (set(found["public"]), set(found["private"])) == (set(ids["public"]), set(ids["private"]))
        assert found["missing"] == derived["subnets"] == []
        assert model.environment["tls"]["trusted"] == ["10.0.0.0/16"]
    with pytest.raises(FoundError, match="subnets in two zones"):
        aws_network.existing(derived, [{"vpc_id": "vpc-1", "tags": {}}], subnets[:3])
    with pytest.raises(FoundError, match=r"no VPC has tag:Name=main"):
        aws_network.existing(derived, [], [])
    with pytest.raises(FoundError, match="2 VPCs have"):
        aws_network.existing(derived, [{"vpc_id": "vpc-1"}, {"vpc_id": "vpc-2"}], [])


# --- hosts ---------------------------------------------------------------------------------

NETWORK = {"vpc": "vpc-1", "public": [], "private": ["subnet-a", "subnet-b"], "zones": ["a", "b"], "missing": []}


def instances(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return instances as the info module returns them once these were launched."""
    return [
        {
            "instance_id": f"i-{number:08x}",
            "instance_type": "t3.small",
            "state": {"name": "running"},
            "subnet_id": host["subnet"],
            "tags": dict(host["tags"]),
            "security_groups": [{"group_id": group} for group in host["security_groups"]],
            "iam_instance_profile": {"arn": "arn:aws:iam::1:instance-profile/staging-host"},
        }
        for number, host in enumerate(plan["launch"])
    ]


class World:
    """The hosts of an environment, as they were launched."""

    def __init__(self, load: Load, hosts: dict[str, Any], **aws: Any) -> None:
        self.load = load
        self.aws = aws
        model = load(hosts=hosts)
        self.ids = {
            group["name"]: f"sg-{thing}" for thing, group in aws_security_groups.derive(model)["groups"].items()
        }
        adopting = any("adopt" in group for group in hosts.values())
        self.there = [] if adopting else instances(self.found(hosts))

    def found(self, hosts: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return what is to be done for these settings."""
        derived = aws_hosts.derive(self.load(hosts=hosts, **self.aws))
        return aws_hosts.compare(derived, getattr(self, "there", []), NETWORK, self.ids, **options)


@pytest.fixture
def world(load: Load) -> World:
    """The hosts of HOSTS."""
    return World(load, HOSTS)


def test_hosts_are_spread_and_tagged_as_the_inventory_reads_them(load: Load) -> None:
    """Hosts of one group lie in different zones, and carry the groups of their services."""
    launch = World(load, HOSTS).found(HOSTS)
    assert launch == {"launch": [], "tag": [], "regroup": [], "terminate": [], "notices": []}
    fresh = aws_hosts.compare(aws_hosts.derive(load(hosts=HOSTS)), [], NETWORK, {"staging-api": "sg-api"})["launch"]
    assert [(host["name"], host["subnet"]) for host in fresh] == [
        ("staging-edge-1", "subnet-a"), ("staging-edge-2", "subnet-b"), ("staging-api-1", "subnet-a"),
        ("staging-api-2", "subnet-b"), ("staging-more-1", "subnet-a"),
    ]  # fmt: skip
    assert fresh[4]["tags"] == {**OURS, "Name": "staging-more-1", "Services": "sites,collab", "Service": "more"}
    assert fresh[2]["security_groups"] == ["sg-api"]


def test_drift_of_hosts_is_mended_and_nothing_else(world: World) -> None:
    """A lost tag, even its name or the mark that it is ours; a group too many; while what others tagged stays."""
    world.there[0]["tags"].pop("Name")
    world.there[1]["tags"].update(ManagedBy="", Team="web")
    world.there[2]["security_groups"].append({"group_id": "sg-office"})
    world.there[2]["state"]["name"] = "stopped"
    found = world.found(HOSTS)
    assert [(item["id"], item["name"]) for item in found["tag"]] == [
        ("i-00000000", "staging-edge-1"), ("i-00000001", "staging-edge-2"),
    ]  # fmt: skip
    assert found["regroup"] == [
        {"id": "i-00000002", "name": "staging-api-1", "security_groups": ["sg-api"], "subnet": "subnet-a",
         "state": "stopped"}
    ]  # fmt: skip
    assert found["launch"] == found["terminate"] == found["notices"] == []


def test_fewer_hosts_are_refused_until_one_is_named(world: World) -> None:
    """Nothing is terminated silently; what is named goes, and the names of the others stay."""
    fewer = {**HOSTS, "api": {"services": ["api"], "count": 1}}
    with pytest.raises(FoundError, match=r"aws\.hosts\.api\.count: 1 hosts .* i-00000002, i-00000003\..*-e terminate="):
        world.found(fewer)
    found = world.found(fewer, terminate=["i-00000002"])
    assert (found["terminate"], found["launch"], found["tag"]) == (["i-00000002"], [], [])
    replaced = world.found(HOSTS, terminate=["i-00000002"])
    assert [(host["name"], host["subnet"]) for host in replaced["launch"]] == [("staging-api-1", "subnet-a")]
    with pytest.raises(FoundError, match="i-0000ffff is not a host that was created here"):
        world.found(HOSTS, terminate=["i-0000ffff"])


def test_a_host_keeps_its_type_and_one_without_group_is_reported(world: World) -> None:
    """Stopping a host to give it another type is a person's decision."""
    world.there[4]["instance_type"] = "t3.large"
    world.there.append({**copy.deepcopy(world.there[2]), "instance_id": "i-old"})
    world.there[5]["tags"].update(Name="staging-old-1", Services="old")
    notices = world.found(HOSTS)["notices"]
    assert "staging-more-1 (i-00000004) is a t3.large, but aws.hosts.more.type is t3.small" in notices[0]
    assert "staging-old-1 (i-old) does not belong to any group" in notices[1]


def test_hosts_made_by_hand_are_taken_in_and_never_terminated(load: Load) -> None:
    """They get the inventory's tags without the mark of what is ours, and groups beside their own."""
    hosts = {"all": {"services": ["edge", "frontend", "api", "sites", "collab"], "adopt": ["i-0000abcd"]}}
    world = World(load, hosts, security_groups={"limits": {"groups": 6}})
    assert world.there == []
    world.there = [
        {
            "instance_id": "i-0000abcd",
            "instance_type": "m5.large",
            "state": {"name": "running"},
            "subnet_id": "subnet-b",
            "tags": {"Name": "web", "Owner": "team"},
            "security_groups": [{"group_id": "sg-office", "group_name": "office"}],
        }
    ]
    found = world.found(hosts)
    assert found["tag"][0]["tags"] == {
        "Platform": "fivepointers", "Environment": "staging", "Name": "web", "Service": "all",
        "Services": "edge,frontend,api,sites,collab",
    }  # fmt: skip
    assert found["regroup"][0]["security_groups"][0] == "sg-office"
    assert len(found["regroup"][0]["security_groups"]) == 6
    assert found["launch"] == found["notices"] == []
    with pytest.raises(FoundError, match="never terminated here"):
        world.found(hosts, terminate=["i-0000abcd"])
    world.aws = {}
    with pytest.raises(FoundError, match=r"has office, and with 5 groups .* more than AWS allows \(5\)"):
        world.found(hosts)
    world.there = []
    with pytest.raises(FoundError, match="instance i-0000abcd not found"):
        world.found(hosts)


def test_a_host_may_do_what_hosts_do_and_no_more(load: Load, environment: dict[str, Any]) -> None:
    """Secrets and releases come from the controller; only hosts whose settings ask for it read them from AWS."""
    environment["artifacts"] = "s3://builds/staging"
    environment["artifact_signing"] = False
    hosts = copy.deepcopy(HOSTS)
    hosts["api"]["reads"] = ["secrets", "artifacts"]
    derived = aws_hosts.derive(load(hosts=hosts))
    policies = {role["name"]: json.loads(role["policy"])["Statement"] for role in derived["roles"]}
    assert {name: group["role"] for name, group in derived["groups"].items()} == {
        "edge": "staging-host", "api": "staging-host-api", "more": "staging-host",
    }  # fmt: skip
    actions = [action for statement in policies["staging-host"] for action in statement["Action"]]
    assert {action.partition(":")[0] for action in actions} == {"ssm", "ssmmessages", "logs", "cloudwatch"}
    assert not [action for action in actions if "Get" in action or "*" in action]
    more = [statement for statement in policies["staging-host-api"] if statement not in policies["staging-host"]]
    secret = "arn:aws:secretsmanager:ap-northeast-2:*:secret:fivepointers/staging/"
    assert [(statement["Action"], statement["Resource"]) for statement in more] == [
        (["secretsmanager:GetSecretValue"], [f"{secret}database-??????", f"{secret}jwt-??????"]),
        (["s3:GetObject"], "arn:aws:s3:::builds/staging/*"),
    ]
    environment["tls"] = {"mode": "acme", "email": "ops@example.com"}
    derived = aws_hosts.derive(load(hosts=HOSTS))
    assert {name: group["role"] for name, group in derived["groups"].items()} == {
        "edge": "staging-host-edge", "api": "staging-host", "more": "staging-host",
    }  # fmt: skip
    (acme,) = [role for role in derived["roles"] if role["name"] == "staging-host-edge"]
    (only,) = [item for item in json.loads(acme["policy"])["Statement"] if "Change" in item["Action"][0]]
    names = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
    assert only["Condition"]["ForAllValues:StringEquals"] == {
        # Neither those of another environment of the same domain, nor anything else of the zone.
        names: ["_acme-challenge.example.com"],
        "route53:ChangeResourceRecordSetsRecordTypes": ["TXT"],
    }
    assert only["Condition"]["Null"] == {names: "false"}


def test_what_a_service_may_do_is_on_the_role_of_its_hosts(services: dict[str, Any], load: Load) -> None:
    services["services"]["api"]["aws"] = services["services"]["collab"]["aws"] = True
    uploads = {"actions": ["s3:GetObject", "s3:PutObject"], "resources": ["arn:aws:s3:::shop-uploads/*"]}
    here = {"StringEquals": {"aws:RequestedRegion": "ap-northeast-2"}}
    model = load(hosts=HOSTS, permissions={"api": [{**uploads, "conditions": here}], "collab": []})
    derived = aws_hosts.derive(model)
    assert {name: group["role"] for name, group in derived["groups"].items()} == {
        "edge": "staging-host", "api": "staging-host-api", "more": "staging-host",
    }  # fmt: skip
    policies = {role["name"]: json.loads(role["policy"])["Statement"] for role in derived["roles"]}
    assert [entry for entry in policies["staging-host-api"] if entry not in policies["staging-host"]] == [
        {"Effect": "Allow", "Action": uploads["actions"], "Resource": uploads["resources"], "Condition": here}
    ]
    asks = {name: plans.service_spec(model, name)["aws"] for name in model.services}
    assert asks == {"api": True, "collab": True, "frontend": False, "sites": False}


def test_a_host_that_was_launched_with_another_role_is_reported(services: dict[str, Any], load: Load) -> None:
    services["services"]["api"]["aws"] = True
    world = World(functools.partial(load, permissions={"api": []}), HOSTS)
    assert world.found(HOSTS)["notices"] == []
    statement = {"actions": ["sqs:SendMessage"], "resources": ["arn:aws:sqs:ap-northeast-2:111122223333:orders"]}
    world.load = functools.partial(load, permissions={"api": [statement]})
    assert world.found(HOSTS)["notices"] == [
        f"host staging-api-{number} (i-0000000{number + 1}) has the role staging-host, but its services need "
        "staging-host-api: a host keeps its role until it is replaced (-e terminate=…)"
        for number in (1, 2)
    ]


SECRET = "arn:aws:secretsmanager:*:*:secret:"
QUEUE = "arn:aws:sqs:ap-northeast-2:111122223333:orders"


@pytest.mark.parametrize(
    ("actions", "resources", "where", "problem"),
    [
        ("*", QUEUE, "actions[0]", "not valid"),
        ("s3:*", QUEUE, "actions[0]", "a pattern also allows actions that AWS adds later"),
        ("s3:Get*", QUEUE, "actions[0]", "a pattern"),
        *(
            (name, QUEUE, "actions[0]", "not one of the actions that applications need")
            for name in """
            iam:PassRole iam:PutRolePolicy organizations:LeaveOrganization sts:GetFederationToken sts:assumerole
            ssm:SendCommand ssm:sendcommand ssm:StartSession ssm:ResumeSession ssm:CreateAssociation
            ssm:UpdateAssociation ssm:PutParameter ec2-instance-connect:SendSSHPublicKey ec2:ModifyInstanceAttribute
            ec2:ModifySnapshotAttribute ram:AssociateResourceShare lambda:UpdateFunctionCode lambda:AddPermission
            cloudformation:UpdateStack codebuild:StartBuild ecs:ExecuteCommand kms:CreateGrant s3:PutBucketPolicy
            s3:PutLifecycleConfiguration s3:getobject secretsmanager:PutSecretValue sns:Subscribe
            """.split()
        ),
        ("s3:GetObject", "*", "resources[0]", "not valid"),
        ("s3:GetObject", "arn:aws:s3:::*", "resources[0]", "names no resource"),
        ("s3:GetObject", "arn:aws:s3:::shop-*/x", "resources[0]", "names no resource"),
        ("s3:GetObject", "arn:aws:s3:::build${aws:TagKeys,'s'}/x", "resources[0]", "names no resource"),
        ("sqs:SendMessage", "arn:aws:sqs:*:*:*", "resources[0]", "names no resource"),
        ("dynamodb:GetItem", "arn:aws:dynamodb:*:*:table/*", "resources[0]", "names no resource"),
        ("ssm:GetParameter", "arn:aws:ssm:*:*:parameter/*", "resources[0]", "names no resource"),
        ("ssm:GetParameter", "arn:aws:ssm:*:*:param*/shop", "resources[0]", "names no resource"),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:secre*", "resources[0]", "names no resource"),
        ("secretsmanager:GetSecretValue", f"{SECRET}rds!db-*", "resources[0]", "other databases"),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:secret:*", "resources[0]", "names no resource"),
        ("sts:AssumeRole", "arn:aws:iam::111122223333:role/shop-*", "resources[0]", "any role that fits"),
        ("sts:AssumeRole", "arn:aws:iam::*:role/shop", "resources[0]", "any role that fits"),
        ("s3:PutObject", "arn:aws:s3:::builds/staging/*", "resources[0]", "where artifacts are"),
        (
            "secretsmanager:GetSecretValue",
            "arn:aws:secretsmanager:*:*:secret:fivepointers-build/*",
            "resources[0]",
            "the key that signs artifacts",
        ),
        *(
            (
                f"{kind}:{name}",
                f"arn:aws:{kind}:*:*:{before}{resource}",
                "resources[0]",
                "below fivepointers/staging/ only",
            )
            for kind, name, before in (
                ("secretsmanager", "GetSecretValue", "secret:"),
                ("ssm", "GetParameter", "parameter/"),
            )
            for resource in (
                "fivepointers/production/*",
                "fivepointers/staging-eu/*",
                "fivepointers/staging*",
                "fivepointers/*",
                "fivepointers-build/shared/npm*",
                "five?ointers/production/jwt",
                "f${aws:TagKeys,'x'}/*",
            )
        ),
    ],
)
def test_wide_permissions_are_refused(
    services: dict[str, Any], environment: dict[str, Any], actions: str, resources: str, where: str, problem: str
) -> None:
    services["services"]["api"]["aws"] = True
    environment |= {
        "artifacts": "s3://builds/staging",
        "artifact_signing": {
            "keys": ["MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="],
            "private_key": {"secretsmanager": "fivepointers-build/staging/key"},
        },
    }
    aws = {"permissions": {"api": [{"actions": [actions], "resources": [resources]}]}}
    (found,) = catalogue.read(services, {**environment, "aws": aws})[1]
    assert found.path == f"platform_environment.aws.permissions.api[0].{where}"
    assert problem in found.problem and found.fix
    assert str(found.value).strip('"') in (actions, resources)


@pytest.mark.parametrize(
    ("actions", "resources"),
    [
        ("s3:GetObject", "arn:aws:s3:::shop-uploads/*"),
        ("sqs:SendMessage", "arn:aws:sqs:ap-northeast-2:*:shop-*"),
        ("dynamodb:GetItem", "arn:aws:dynamodb:ap-northeast-2:111122223333:table/shop-orders/index/*"),
        ("ssm:GetParameter", "arn:aws:ssm:ap-northeast-2:*:parameter/shop/*"),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:ap-northeast-2:*:secret:shop/key-??????"),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:secret:fivepointers/staging/jwt-??????"),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:secret:rds!db-1a2b3c4d-*"),
        ("ssm:GetParametersByPath", "arn:aws:ssm:*:*:parameter/fivepointers/staging/api/*"),
        ("bedrock:InvokeModel", "arn:aws:bedrock:ap-northeast-2::foundation-model/some.model-v1"),
        ("ses:SendEmail", "arn:aws:ses:ap-northeast-2:111122223333:identity/example.com"),
        ("kms:GenerateDataKey", "arn:aws:kms:ap-northeast-2:111122223333:key/1234abcd-12ab"),
        ("execute-api:Invoke", "arn:aws:execute-api:ap-northeast-2:*:a1b2c3/*/GET/x"),
        ("sts:AssumeRole", "arn:aws:iam::111122223333:role/shop-reader"),
    ],
)
def test_narrow_permissions_are_taken(
    services: dict[str, Any], environment: dict[str, Any], actions: str, resources: str
) -> None:
    services["services"]["api"]["aws"] = True
    aws = {"permissions": {"api": [{"actions": [actions], "resources": [resources]}]}}
    assert catalogue.read(services, {**environment, "aws": aws})[1] == []


def test_actions_that_services_may_use_exist() -> None:
    """They are operations of their services, but for these; IAM ignores names that mean nothing."""
    models = {"bedrock": ["bedrock-runtime", "bedrock-agent-runtime"], "states": ["stepfunctions"]}
    session = botocore.session.get_session()
    others = set()
    for service, names in permissions.ACTIONS.items():
        found = [name for name in models.get(service, [service]) if name in session.get_available_services()]
        known = {name for model in found for name in session.get_service_model(model).operation_names}
        others |= {f"{service}:{name}" for name in set(names.split()) - known}
    assert others == set(
        """
        dynamodb:ConditionCheckItem elasticache:Connect execute-api:Invoke execute-api:ManageConnections
        lambda:InvokeFunction
        lambda:InvokeFunctionUrl rds-db:connect s3:DeleteObjectVersion s3:GetObjectVersion s3:ListBucket
        s3:ListBucketMultipartUploads s3:ListBucketVersions s3:ListMultipartUploadParts ses:SendBulkEmail
        es:ESHttpDelete es:ESHttpGet es:ESHttpHead es:ESHttpPatch es:ESHttpPost es:ESHttpPut
        """.split()
    )


def test_permissions_belong_to_services_that_ask_for_them(
    services: dict[str, Any], environment: dict[str, Any]
) -> None:
    services["services"]["api"]["aws"] = True
    one = {"actions": ["sqs:SendMessage"], "resources": [QUEUE]}
    refused = {
        "permissions.api": ({}, "what it may do is missing"),
        "permissions.sites": ({"api": [], "sites": [one]}, "does not get the credentials"),
        "permissions.apis": ({"api": [], "apis": [one]}, "unknown service"),
        "permissions.api[0].actions": ({"api": [{**one, "actions": []}]}, "IAM refuses"),
        "permissions.api[0].resources": ({"api": [{"actions": one["actions"]}]}, "'resources' is missing"),
        "permissions.api[0].conditions.StringEquals": ({"api": [{**one, "conditions": {"StringEquals": 1}}]}, "a map"),
        "permissions.api[0].effect": ({"api": [{**one, "effect": "Deny"}]}, "unknown key"),
    }
    for path, (stated, problem) in refused.items():
        found = catalogue.read(services, {**environment, "aws": {"permissions": stated}})[1]
        assert [(item.path, problem in item.problem) for item in found] == [(f"platform_environment.aws.{path}", True)]
    # An environment without AWS needs none, and the service gets none.
    model = catalogue.load(services, {**environment, "aws": None})
    assert plans.service_spec(model, "api")["aws"] is False


def test_roles_that_are_right_are_left_alone(load: Load) -> None:
    """Text, trust and tags count; what others tagged does not."""
    (wanted,) = aws_hosts.derive(load(hosts=HOSTS))["roles"]
    found = {
        "role_name": wanted["name"],
        "description": wanted["description"],
        "assume_role_policy_document": copy.deepcopy(wanted["trust"]),
        "tags": {**wanted["tags"], "Owner": "others"},
    }
    assert iam.compare([wanted], [found], "") == {"roles": [], "refusals": []}
    assert iam.compare([wanted], [], "")["roles"] == [wanted]
    for drift in ({"description": ""}, {"assume_role_policy_document": {}}, {"tags": {}}, {"role_name": "other"}):
        assert iam.compare([wanted], [{**found, **drift}], "")["roles"] == [wanted], drift
    others = {**found, "tags": {"Owner": "others"}}
    assert iam.compare([wanted], [others], "Rename it.")["refusals"] == [
        f"The role {wanted['name']} has no tag ManagedBy=fivepointers.platform, so it was created by others. Rename it."
    ]


# --- refusals ------------------------------------------------------------------------------


def wide(count: int) -> dict[str, Any]:
    """Return so many Next.js services that all need the API."""
    return {
        f"site-{number}": {
            "kind": "nextjs", "port": 4000 + number, "health": "/", "needs": ["api"], "build": {"source": "x"},
        }
        for number in range(count)
    }  # fmt: skip


ALL = ["edge", "frontend", "api", "sites", "collab"]


@pytest.mark.parametrize(
    ("aws", "path", "problem"),
    [
        ({"network": {"cidr": "10.0.0.0/8"}}, "network.cidr", "not a valid network for a VPC"),
        ({"network": {"cidr": "8.8.0.0/16"}}, "network.cidr", "not a valid network for a VPC"),
        ({"network": {"vpc": "vpc-00000001"}}, "network.subnets", "'vpc' is set without 'subnets'"),
        ({"network": {"zones": ["ap-northeast-2a"]}}, "network.zones", "two zones"),
        ({"network": {"nat": "many"}}, "network.nat", "kind of NAT"),
        ({"network": {"endpoints": ["ec2"]}}, "network.endpoints[0]", "not an endpoint"),
        (
            {"network": {"vpc": {"Name": "x"}, "subnets": {"public": ["subnet-1"], "private": {"a": "b"}}}},
            "network.subnets.public[0]",
            "not valid",
        ),
        (
            {"network": {"vpc": {"Name": "x"}, "nat": "one", "subnets": {"public": {"a": "b"}, "private": {"a": "b"}}}},
            "network.nat",
            "is not supported for an existing VPC",
        ),
        ({"security_groups": {"adopt": {"apis": "x"}}}, "security_groups.adopt.apis", "or database 'apis'"),
        ({"security_groups": {"adopt": {"api": "staging-sites"}}}, "security_groups.adopt.api", "group of 'sites'"),
        ({"security_groups": {"adopt": {"sites": "x", "api": "x"}}}, "security_groups.adopt.sites", "group of 'api'"),
        ({"security_groups": {"adopt": {"api": "staging-endpoints"}}}, "security_groups.adopt.api", "of 'endpoints'"),
        ({"security_groups": {"adopt": {"api": "sg-0abc1234"}}}, "security_groups.adopt.api", "not valid"),
        ({"hosts": {"all": {"services": ["apis"]}}}, "hosts.all.services", "unknown service 'apis'"),
        ({"hosts": {"all": {"services": [*ALL, "edge"]}}, "security_groups": {"limits": {"groups": 4}}},
         "hosts.all.services", "5 security groups"),
        ({"hosts": {"all": {"services": ALL[1:]}}}, "hosts", "no host would run 'edge'"),
        ({"hosts": {"all": {"services": ALL, "count": 0}}}, "hosts", "no host would run 'api'"),
        ({"hosts": {"all": {"services": []}}}, "hosts.all.services", "have no services"),
        ({"hosts": {"all": {"services": ALL, "disk": 4}}}, "hosts.all.disk", "out of range"),
        ({"hosts": {"all": {"services": ALL, "image": "debian"}}}, "hosts.all.image", "not valid"),
        ({"hosts": {"all": {"services": ALL, "reads": ["artifacts"]}}}, "hosts.all.reads", "where artifacts are"),
        ({"hosts": {"all": {"services": ALL, "adopt": ["i-1"]}}}, "hosts.all.adopt[0]", "not valid"),
        ({"hosts": {name: {"services": ALL, "adopt": ["i-00000001"]} for name in "ab"}}, "hosts.b.adopt",
         "already in 'a'"),
        ({"hosts": {"all": {"services": ALL, "count": 7}}}, "hosts.all.count", "allows 120 (80 % of 150)"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(
    services: dict[str, Any], environment: dict[str, Any], aws: dict[str, Any], path: str, problem: str
) -> None:
    """Each with where it stands, what stands there and what is wrong with it."""
    found = catalogue.read(services, {**environment, "aws": aws})[1]
    assert [item for item in found if item.path == f"platform_environment.aws.{path}" and problem in item.problem], (
        found
    )
    assert all(item.fix for item in found)


def test_more_rules_than_a_group_takes_are_refused(services: dict[str, Any], environment: dict[str, Any]) -> None:
    """Before AWS does, halfway through; a raised quota can be stated."""
    services["services"].update(wide(58))
    # 58 and the edge, sites, collab.
    found = catalogue.read(services, environment)[1]
    assert [item.path for item in found] == ["platform_environment.aws.security_groups.limits.rules"]
    assert "'api' would have 61 rules for what goes in" in found[0].problem
    limits = {"security_groups": {"limits": {"rules": 61}}}
    assert catalogue.read(services, {**environment, "aws": limits})[1] == []


def test_names_of_the_collections_own_groups_are_refused(services: dict[str, Any], environment: dict[str, Any]) -> None:
    """A service of such a name would share its group with something else."""
    services["services"]["endpoints"] = wide(1)["site-0"]
    found = catalogue.read(services, environment)[1]
    assert [(item.path, item.value) for item in found] == [("services.endpoints", "endpoints")]
    assert catalogue.read(services, {**environment, "aws": None})[1] == []


def test_the_summary_says_what_each_layer_did() -> None:
    """Layers that did not run are not mentioned."""
    results = {
        "VPC": {"changed": True},
        "subnets": {"results": [{"changed": True, "item": {"name": "a"}}, {"changed": False, "item": {"name": "b"}}]},
        "endpoints": {"changed": False, "skipped": True},
        "deleted": {"changed": True, "results": [{"changed": True, "item": "old"}]},
    }
    changed = filters.changed_items(results)
    assert changed == ["VPC", "subnets a", "deleted old"]
    text = filters.provision_summary({"network": changed, "hosts": []}, ["network", "dns", "hosts"], ["look"], True)
    assert text == "network: would change VPC; subnets a; deleted old\nhosts: unchanged\nNote: look."
