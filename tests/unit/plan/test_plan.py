# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What is derived from a catalogue without mistakes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans


def test_the_plan_has_the_agreed_parts_and_is_plain_data(stack: Any) -> None:
    plan = stack.plan()
    assert set(plan) == {
        "environment",
        "batches",
        "services",
        "hosts",
        "edge",
        "tls",
        "budget",
        "log_groups",
        "synthetic",
        "secrets",
        "known_secrets",
        "notices",
    }
    assert json.loads(json.dumps(plan)) == plan
    assert plan["environment"] == {
        "name": "production",
        "domain": "example.com",
        "region": "ap-northeast-2",
        "tls_mode": "files",
        "front_door": None,
        "brand": "example.com",
        "deployment": {"budget": {}, "rate": 20, "watch": 2},
        "artifacts": {},
        "artifact_keys": [],
        "intended": 0,
        "dashboard": "",
    }


def matches(pattern: str, *lines: str) -> list[bool]:
    return [bool(re.search(pattern, line)) for line in lines]


def test_command_lines_tell_the_services_apart(stack: Any) -> None:
    services = stack.plan()["services"]
    assert services["frontend"]["process_pattern"] == ""
    api = services["api"]["process_pattern"]
    lines = ("fivepointers-api dist/main.js", "fivepointers-api", "fivepointers-api-2 dist/main.js", "tail api")
    assert matches(api, *lines) == [True, True, False, False]


@pytest.mark.parametrize(
    ("start", "lines"),
    [
        ("/usr/bin/python3 app.py", {"fivepointers-api app.py": True, "/usr/bin/python3 app.py": False}),
        (
            "./serve --fast",
            {
                "fivepointers-api --fast": True,
                "/bin/sh /opt/fivepointers/api/releases/0a1b/app/serve --fast": True,
                "/bin/sh /opt/fivepointers/api-2/releases/0a1b/app/serve --fast": False,
            },
        ),
    ],
)
def test_programs_of_ones_own_are_told_apart_as_well(stack: Any, start: str, lines: dict[str, bool]) -> None:
    stack.set("c.services.api.start", start)
    pattern = stack.plan()["services"]["api"]["process_pattern"]
    assert dict(zip(lines, matches(pattern, *lines), strict=True)) == lines


def test_a_program_that_is_looked_for_cannot_be_told_apart(stack: Any) -> None:
    stack.set("c.services.api.start", "deno run main.ts")
    assert stack.plan()["services"]["api"]["process_pattern"] == ""


def test_one_host_walks_the_journeys_on_a_schedule(stack: Any) -> None:
    assert stack.plan()["synthetic"] == {
        "host": "edge-1",
        "interval": 900,
        "log": "/var/log/fivepointers-verify.log",
        "log_group": "/fivepointers/production/verify",
    }
    assert stack.set("e.synthetic", {"interval": 60}).plan()["synthetic"]["interval"] == 60
    assert stack.set("e.synthetic", {"enabled": False}).plan()["synthetic"]["host"] == ""
    stack.set("e.synthetic", {}).set("c.journeys", [])
    assert stack.plan()["synthetic"]["host"] == ""


def test_a_service_that_asks_for_it_finds_where_metrics_go(stack: Any) -> None:
    assert "STATSD_HOST" not in stack.plan()["services"]["api"]["environment"]
    environment = stack.set("c.services.api.statsd", True).plan()["services"]["api"]["environment"]
    assert (environment["STATSD_HOST"], environment["STATSD_PORT"]) == ("127.0.0.1", "8125")


def test_tls_settings_hold_references_with_their_region(stack: Any) -> None:
    certificate = {"secretsmanager": "tls", "key": "crt"}
    stack.set("e.tls", {"mode": "files", "certificate": certificate, "key": {"variable": "k"}})
    assert stack.plan()["tls"] == {
        "mode": "files",
        "certificate": {"secretsmanager": "tls", "key": "crt", "region": "ap-northeast-2"},
        "key": {"variable": "k"},
    }


def test_services_are_deployed_after_what_they_need(stack: Any) -> None:
    assert stack.plan()["batches"] == [["api"], ["sites", "collab"], ["frontend"]]


def test_a_process_has_two_slots_and_a_files_service_has_none(stack: Any) -> None:
    services = stack.plan()["services"]
    assert services["api"]["slots"] == {"blue": 13001, "green": 23001}
    assert services["frontend"]["slots"] == {}
    assert services["frontend"]["port"] == 8080
    assert services["frontend"]["start"] == []


def test_a_specification_carries_what_roles_need(stack: Any) -> None:
    spec = stack.plan()["services"]["api"]
    assert spec["kind"] == "nestjs_api"
    assert spec["user"] == "fp-api"
    assert spec["log_group"] == "/fivepointers/production/api"
    assert spec["hosts"] == ["api-1", "api-2"]
    assert spec["addresses"] == ["10.0.0.3", "10.0.0.4"]
    assert spec["public"] == [
        {"fqdn": "api.example.com", "path": "/", "url": "https://api.example.com", "wildcard": False, "label": ""}
    ]
    assert spec["url"] == "https://api.example.com"
    assert spec["internal_url"] == "http://127.0.0.1:33001"
    assert (spec["node"], spec["pool"], spec["drain"], spec["memory"], spec["body_limit"]) == ("24", 10, 10, "1G", "1m")
    assert spec["start"] == ["node", "dist/main.js"]
    assert spec["migrate"] == ["node", "dist/migrate.js"]
    assert spec["secrets"] == ["database.password", "jwt"]
    assert spec["health"] == {
        "type": "http",
        "path": "/api/health",
        "status": [200],
        "interval": 1,
        "timeout": 2,
        "start_period": 60,
    }


def test_health_has_a_default_where_a_kind_has_a_usual_one(stack: Any) -> None:
    services = stack.plan()["services"]
    assert (services["frontend"]["health"]["type"], services["frontend"]["health"]["path"]) == ("http", "/")
    assert (services["collab"]["health"]["type"], services["collab"]["health"]["status"]) == ("tcp", [])


def test_addresses_of_others_come_as_environment_variables(stack: Any) -> None:
    environment = stack.plan()["services"]["collab"]["environment"]
    assert environment["API_URL"] == "https://api.example.com"
    assert environment["API_INTERNAL_URL"] == "http://127.0.0.1:33001"
    assert environment["PUBLIC_URL"] == "wss://ws.example.com"
    assert environment["ALLOWED_ORIGINS"] == "https://example.com,https://*.example.com"
    assert environment["PORT"] == "${self.port}"
    assert environment["HOST"] == "127.0.0.1"
    assert environment["KEEP_ALIVE_TIMEOUT"] == "75000"
    assert "HOSTNAME" not in environment
    assert stack.plan()["services"]["sites"]["environment"]["HOSTNAME"] == "localhost"


def test_the_database_comes_as_environment_variables_without_its_password(stack: Any) -> None:
    environment = stack.plan()["services"]["api"]["environment"]
    assert {key: value for key, value in environment.items() if key.startswith("DATABASE_")} == {
        "DATABASE_HOST": "db.internal",
        "DATABASE_PORT": "3306",
        "DATABASE_NAME": "app",
        "DATABASE_USER": "app",
        "DATABASE_PASSWORD": "${secret.database.password}",
        "DATABASE_POOL_SIZE": "10",
        "DATABASE_URL": "mysql://app:${secret.database.password|url}@db.internal:3306/app",
    }
    assert environment["GREETING"] == "costs $$5"
    assert environment["JWT_SECRET"] == "${secret.jwt}"


def test_names_in_an_address_are_encoded(stack: Any) -> None:
    stack.set("e.databases.database.user", "a@b$").set("e.databases.database.port", 3307)
    url = stack.plan()["services"]["api"]["environment"]["DATABASE_URL"]
    assert url == "mysql://a%40b%24:${secret.database.password|url}@db.internal:3307/app"


def test_a_browser_gets_public_facts_only(stack: Any) -> None:
    spec = stack.plan()["services"]["frontend"]
    assert spec["environment"] == {
        "API_URL": "https://api.example.com",
        "BASE_DOMAIN": "example.com",
        "COLLAB_URL": "wss://ws.example.com",
        "ENVIRONMENT": "production",
        "PUBLIC_URL": "https://example.com",
        "SERVICE_NAME": "frontend",
    }
    assert spec["build"]["environment"] == {"VITE_API": "https://api.example.com"}


def test_the_catalogue_has_the_last_word_on_a_variable(stack: Any) -> None:
    stack.set("c.services.api.environment.PORT", "80${self.port}").set("c.services.api.environment.HOST", "::1")
    environment = stack.plan()["services"]["api"]["environment"]
    assert (environment["PORT"], environment["HOST"]) == ("80${self.port}", "::1")


@pytest.mark.parametrize(
    "template, expected",
    [
        ("${environment.name}/${environment.domain}/${environment.region}", "production/example.com/ap-northeast-2"),
        ("${self.url}", "https://*.example.com"),
        ("${api.host}", "api.example.com"),
        ("${api.url|url}", "https%3A%2F%2Fapi.example.com"),
        ("${api.internal_url}/v1", "http://127.0.0.1:33001/v1"),
        ("${origins}", "https://example.com,https://*.example.com"),
        ("$HOME $$ $", "$$HOME $$ $$"),
        ("${self.port}", "${self.port}"),
        ("${self.slot_port}", "${self.port}"),
        ("${secret.jwt|url}", "${secret.jwt|url}"),
    ],
)
def test_placeholders_are_resolved_as_far_as_they_are_known(stack: Any, template: str, expected: str) -> None:
    stack.set("c.services.sites.environment", {"A": template})
    assert stack.plan()["services"]["sites"]["environment"]["A"] == expected


def test_the_edge_serves_each_public_name(stack: Any) -> None:
    stack.set("c.services.sites.public", [{"host": "*"}, {"host": "@", "path": "/docs"}])
    edge = stack.plan()["edge"]
    names = [(host["server_name"], host["wildcard"]) for host in edge["virtual_hosts"]]
    assert names == [
        ("api.example.com", False),
        ("example.com", False),
        ("ws.example.com", False),
        ("*.example.com", True),
    ]
    apex = edge["virtual_hosts"][1]["locations"]
    assert [(location["path"], location["service"]) for location in apex] == [("/docs", "sites"), ("/", "frontend")]
    assert edge["virtual_hosts"][2]["locations"] == [
        {
            "path": "/",
            "service": "collab",
            "kind": "yjs_websocket",
            "cors": "edge",
            "body_limit": "1m",
            "timeout": 60,
            "rate_limits": [],
            "sockets_per_client": 300,
            "sticky": None,
            "websocket": True,
            "csp": {},
            "csp_report_only": False,
            "headers": {},
        }
    ]
    assert edge["beside"] == []
    assert edge["upstreams"] == {
        "api": ["10.0.0.3:3001", "10.0.0.4:3001"],
        "frontend": ["10.0.0.2:8080"],
        "sites": ["10.0.0.5:3002"],
        "collab": ["10.0.0.5:3003"],
    }


@pytest.mark.parametrize(
    ("host", "name", "wildcard"),
    [
        ("@", "example.com", False),
        ("web", "web.example.com", False),
        ("eu.web.@", "eu.web.example.com", False),
        ("*.@", "*.example.com", True),
        ("*.eu.@", "*.eu.example.com", True),
    ],
)
def test_hosts_are_below_the_domain(stack: Any, host: str, name: str, wildcard: bool) -> None:
    stack.set("c.services.frontend.public", [{"host": host}]).set("c.services.sites.public", [])
    del stack.catalogue["journeys"]
    (address,) = stack.plan()["services"]["frontend"]["public"]
    assert (address["fqdn"], address["wildcard"]) == (name, wildcard)


def test_a_redirect_may_lead_to_a_name_that_a_wildcard_serves(stack: Any) -> None:
    stack.set("c.services.frontend.public", [{"host": "@"}, {"host": "www.old.@", "redirect": "demo"}])
    (item,) = stack.plan()["services"]["frontend"]["redirects"]
    assert item["to"] == "demo.example.com"


def test_a_redirect_is_a_name_of_the_edge_and_of_nothing_else(stack: Any) -> None:
    before = stack.plan()
    stack.set("c.services.frontend.public", [{"host": "www", "redirect": "@"}, {"host": "@"}])
    after = stack.plan()
    assert after["services"]["frontend"].pop("redirects") == [
        {"fqdn": "www.example.com", "wildcard": False, "to": "example.com"}
    ]
    (own,) = [host for host in after["edge"]["virtual_hosts"] if host["server_name"] == "www.example.com"]
    own_name = {"server_name": "www.example.com", "wildcard": False, "locations": [], "certificate": "edge"}
    assert own == {**own_name, "redirect": "example.com"}
    after["edge"]["virtual_hosts"].remove(own)
    after["services"]["frontend"]["redirects"] = []
    assert after == before, "no origin, no address of its own, nothing that a release is made of"


PAIR = {"certificate": {"secretsmanager": "other"}, "key": "/other.key"}


@pytest.mark.parametrize(
    ("tls", "domains", "certificates"),
    [
        ({"mode": "files", "certificate": "/a", "key": "/b"}, ["other-brand.com"], ("edge", "edge")),
        ({"mode": "files", "certificate": "/a", "key": "/b"}, {"other-brand.com": PAIR}, ("edge", "other-brand.com")),
        ({"mode": "acme"}, {"other-brand.com": {"zone": "Z0123456789"}}, ("edge", "other-brand.com")),
        ({"mode": "acme"}, ["other-brand.com", "www.other-brand.com"], ("edge", "www.other-brand.com")),
        ({"mode": "load_balancer", "trusted": ["10.9.0.0/16"]}, {"other-brand.com": None}, ("edge", "edge")),
    ],
)
def test_a_further_domain_has_names_and_a_certificate(
    stack: Any, tls: Any, domains: Any, certificates: tuple[str, str]
) -> None:
    stack.set("e.tls", tls).set("e.domains", domains)
    stack.set("c.services.frontend.public", [{"host": "@"}, {"host": "www.other-brand.com"}])
    stack.set("c.services.sites.public", [{"host": "*"}, {"host": "*.other-brand.com"}])
    plan = stack.plan()
    found = {host["server_name"]: host for host in plan["edge"]["virtual_hosts"]}
    assert (found["example.com"]["certificate"], found["www.other-brand.com"]["certificate"]) == certificates
    assert found["*.other-brand.com"]["wildcard"]
    origins = plan["edge"]["origins"]
    assert origins["exact"] == ["https://example.com", "https://www.other-brand.com"]
    assert origins["wildcards"] == ["https://*.example.com", "https://*.other-brand.com"]
    assert plan["services"]["frontend"]["environment"]["PUBLIC_URL"] == "https://example.com"
    own = {"certificate": {"secretsmanager": "other", "region": "ap-northeast-2"}, "key": "/other.key"}
    assert plan["tls"].get("domains") == ({"other-brand.com": own} if domains == {"other-brand.com": PAIR} else None)


def test_hosts_reach_what_their_services_call_over_private_addresses(stack: Any) -> None:
    hosts = stack.plan()["hosts"]
    assert hosts["sites-1"] == {
        "address": "10.0.0.5",
        "services": ["sites", "collab"],
        "described": ["sites", "collab"],
        "edge": False,
        "node_versions": ["24"],
        "reserved_ports": [33001],
        "internal": [
            {
                "service": "api",
                "port": 33001,
                "servers": ["10.0.0.3:3001", "10.0.0.4:3001"],
                "timeout": 60,
                "keepalive": True,
            }
        ],
    }
    assert hosts["web-1"]["internal"] == [], "browsers call the API, not the host of the files"
    assert hosts["web-1"]["node_versions"] == []
    assert hosts["edge-1"]["edge"] is True
    assert hosts["edge-1"]["services"] == []


def test_listeners_that_outgoing_connections_could_take_are_reserved(stack: Any) -> None:
    """Linux gives these the ports from 32768 to 60999."""
    assert stack.plan()["hosts"]["web-1"]["reserved_ports"] == []
    stack.set("c.services.sites.port", 40000)
    stack.set("c.services.collab.port", 15000)
    # The front and the green slot; the slots of 40000 are at 50000 and 60000.
    assert stack.plan()["hosts"]["sites-1"]["reserved_ports"] == [33001, 35000, 40000, 50000, 60000]


def test_everything_fits_on_one_host(stack: Any) -> None:
    stack.hosts = {"dev-1": {"address": "10.0.0.1", "services": ["edge", "frontend", "api", "sites", "collab"]}}
    plan = stack.plan()
    host = plan["hosts"]["dev-1"]
    assert host["edge"] is True
    assert plan["edge"]["beside"] == list(plan["services"]), "one nginx: what it reloads for closes its connections"
    assert host["internal"] == [
        {"service": "api", "port": 33001, "servers": ["10.0.0.1:3001"], "timeout": 60, "keepalive": False}
    ]


def test_two_versions_of_node_on_one_host(stack: Any) -> None:
    stack.set("c.services.collab.node", "22")
    assert stack.plan()["hosts"]["sites-1"]["node_versions"] == ["22", "24"]


def test_the_budget_counts_both_slots_of_each_host(stack: Any) -> None:
    assert stack.plan()["budget"] == {
        "database": {
            "needed": 40,
            "allowed": 120,
            "max_connections": 150,
            "lines": [{"service": "api", "processes": 4, "pool": 10, "connections": 40}],
        }
    }


def test_only_secrets_that_are_used_are_referred_to(stack: Any) -> None:
    stack.set("e.secrets.unused", {"variable": "x"})
    plan = stack.plan()
    assert plan["secrets"] == [
        {
            "name": "database.password",
            "secretsmanager": "platform/database",
            "key": "password",
            "region": "ap-northeast-2",
        },
        {"name": "jwt", "ssm": "/platform/jwt", "region": "ap-northeast-2"},
    ]
    assert plan["services"]["sites"]["secrets"] == []
    # A rollback may need one that no service uses any more.
    assert plan["known_secrets"] == [*plan["secrets"], {"name": "unused", "variable": "x"}]


@pytest.mark.parametrize("place", ["databases.database.password", "secrets.jwt"])
@pytest.mark.parametrize(
    "name",
    [
        "rds!db-1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901",
        "rds!cluster-1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901",
        "arn:aws:secretsmanager:ap-northeast-2:111122223333:secret:rds!db-1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-AbCdEf",
    ],
)
def test_a_secret_that_rds_manages_is_used_with_a_notice(stack: Any, place: str, name: str) -> None:
    assert stack.plan()["notices"] == []
    reference = {"secretsmanager": name, "key": "password"}
    plan = stack.set(f"e.{place}", reference).plan()
    assert reference in [{key: item.get(key) for key in reference} for item in plan["secrets"]]
    (notice,) = plan["notices"]
    assert f"platform_environment.{place}: RDS rotates {name} every 7 days" in notice
    assert "database user of their own" in notice


def test_files_that_outlive_releases_have_a_path_and_a_notice_on_several_hosts(stack: Any) -> None:
    assert "STATE_DIRECTORY" not in stack.plan()["services"]["api"]["environment"]
    stack.set("c.services.api.state", True).set("c.services.api.environment", {"UPLOADS": "${self.state}/uploads"})
    plan = stack.plan()
    variables = plan["services"]["api"]["environment"]
    assert variables["STATE_DIRECTORY"] == "/var/lib/fivepointers-api"
    assert variables["UPLOADS"] == "/var/lib/fivepointers-api/uploads"
    hosts = plan["services"]["api"]["hosts"]
    told = [notice for notice in plan["notices"] if "do not share these files" in notice]
    assert len(hosts) > 1 and [notice.partition(" do")[0] for notice in told] == [
        f"services.api.state: {', '.join(hosts)}"
    ]
    # Of one host, there is nothing to tell.
    stack.set("c.services.api.state", False).set("c.services.api.environment", {})
    stack.set("c.services.collab.write", ["data"])
    assert len(stack.plan()["services"]["collab"]["hosts"]) == 1 and stack.plan()["notices"] == []


def test_a_database_of_another_engine_has_its_port_and_scheme(stack: Any) -> None:
    stack.set("c.databases.database.engine", "postgresql")
    stack.set("c.services.api.environment", {"DATABASE_URL": "${database.url}?schema=public"})
    variables = stack.plan()["services"]["api"]["environment"]
    assert variables["DATABASE_PORT"] == "5432"
    address = "postgresql://app:${secret.database.password|url}@db.internal:5432/app?schema=public"
    assert variables["DATABASE_URL"] == address


CA_FILE = "/etc/fivepointers-database-ca.pem"


@pytest.mark.parametrize(
    ("engine", "driver", "options", "node"),
    [
        ("mysql", None, "?ssl=%7B%22rejectUnauthorized%22%3Atrue%2C%22verifyIdentity%22%3Atrue%7D", True),
        ("mysql", "mariadb", "?ssl=true", True),
        ("mysql", "prisma", f"?sslaccept=strict&sslcert={CA_FILE}", False),
        ("mysql", "node", "", True),
        ("postgresql", None, f"?sslmode=verify-full&sslrootcert={CA_FILE}", False),
        ("postgresql", "postgres", "?sslmode=verify-full", True),
        ("postgresql", "prisma", f"?sslmode=require&sslaccept=strict&sslcert={CA_FILE}", False),
        ("postgresql", "node", "", True),
    ],
)
def test_an_address_says_how_its_driver_verifies_the_server(
    stack: Any, engine: str, driver: str | None, options: str, node: bool
) -> None:
    stack.set("e.database_ca", "rds.pem").set("c.databases.database", {"engine": engine})
    if driver:
        stack.set("c.databases.database.driver", driver)
    stack.set("c.services.api.environment", {"A": "${database.url}", "B": "${database.url}?a=$$b", "C": "x?"})
    variables = stack.plan()["services"]["api"]["environment"]
    assert variables["A"].endswith(f"/app{options}")
    # Options of the catalogue follow those of the driver.
    assert variables["B"] == variables["A"] + ("&" if options else "?") + "a=$$b"
    assert variables["C"] == "x?"
    assert variables["DATABASE_CA_FILE"] == CA_FILE
    # Some cannot be given a file in an address, so Node.js itself gets it.
    assert variables.get("NODE_EXTRA_CA_CERTS") == (CA_FILE if node else None)


def test_a_database_without_tls_beside_others(stack: Any) -> None:
    stack.set("e.database_ca", "rds.pem").set("e.databases.database.tls", False)
    variables = stack.plan()["services"]["api"]["environment"]
    assert "?" not in variables["DATABASE_URL"]
    assert not {"DATABASE_CA_FILE", "NODE_EXTRA_CA_CERTS"} & set(variables)


def test_readers_of_a_database(stack: Any) -> None:
    stack.set("c.services.api.environment", {"R": "${database.reader_url}", "H": "${database.reader_host}"})
    variables = stack.plan()["services"]["api"]["environment"]
    assert variables["H"] == variables["DATABASE_HOST"] == "db.internal"
    assert "DATABASE_READER_HOST" not in variables
    stack.set("e.databases.database.reader", "ro.internal")
    variables = stack.plan()["services"]["api"]["environment"]
    assert variables["DATABASE_READER_HOST"] == variables["H"] == "ro.internal"
    assert variables["R"] == "mysql://app:${secret.database.password|url}@ro.internal:3306/app"


def test_several_databases_of_one_service(stack: Any) -> None:
    stack.set("c.databases.events", {"engine": "postgresql"}).set("c.services.api.needs", ["database", "events"])
    stack.set("e.databases.events", {**stack.environment["databases"]["database"], "max_connections": 90})
    stack.set("e.database_ca", "rds.pem")
    plan = stack.plan()
    variables = plan["services"]["api"]["environment"]
    assert (variables["DATABASE_PORT"], variables["EVENTS_PORT"]) == ("3306", "5432")
    assert variables["DATABASE_CA_FILE"] == variables["EVENTS_CA_FILE"] == CA_FILE
    assert {name: budget["allowed"] for name, budget in plan["budget"].items()} == {"database": 120, "events": 72}


@pytest.mark.parametrize(
    ("stated", "timeout", "drain"),
    [
        ({}, 60, 10),
        ({"timeout": 5}, 5, 10),
        ({"timeout": 300}, 300, 300),
        ({"timeout": 300, "drain": 400}, 300, 400),
        ({"drain": 3}, 60, 3),
    ],
)
def test_a_request_may_take_as_long_on_all_hops_and_the_drain_is_no_shorter(
    stack: Any, stated: dict[str, int], timeout: int, drain: int
) -> None:
    for key, value in stated.items():
        stack.set(f"c.services.api.{key}", value)
    plan = stack.plan()
    spec = plan["services"]["api"]
    assert (spec["timeout"], spec["drain"]) == (timeout, drain)
    (api,) = (host for host in plan["edge"]["virtual_hosts"] if host["server_name"] == "api.example.com")
    calls = [call for host in plan["hosts"].values() for call in host["internal"] if call["service"] == "api"]
    assert {api["locations"][0]["timeout"], *(call["timeout"] for call in calls)} == {timeout} and calls


def test_an_environment_overrides_a_few_keys(stack: Any) -> None:
    stack.set("c.services.frontend.csp", {"img-src": "https://cdn.test"})
    stack.set("c.services.frontend.csp_report_only", True)
    stack.set(
        "e.services",
        {
            "frontend": {"csp_report_only": False},
            "api": {
                "pool": 5,
                "node": "22",
                "memory": "2G",
                "drain": 30,
                "body_limit": "10m",
                "health": "/other",
                "environment": {"GREETING": "hello"},
                "public": [{"host": "backend"}],
            },
        },
    )
    spec = stack.plan()["services"]["api"]
    assert (spec["pool"], spec["node"], spec["memory"], spec["drain"], spec["body_limit"]) == (5, "22", "2G", 30, "10m")
    assert spec["health"]["path"] == "/other"
    (apex,) = (host for host in stack.plan()["edge"]["virtual_hosts"] if host["server_name"] == "example.com")
    page = apex["locations"][-1]
    assert (page["csp"], page["csp_report_only"]) == ({"img-src": "https://cdn.test"}, False)
    assert spec["environment"]["GREETING"] == "hello"
    assert "DATABASE_URL" in spec["environment"]
    assert stack.plan()["services"]["frontend"]["environment"]["API_URL"] == "https://backend.example.com"


def test_processes_learn_where_errors_are_sent_from_a_secret(stack: Any) -> None:
    stack.set("e.sentry", {"dsn": {"secretsmanager": "platform/production/sentry", "key": "dsn"}})
    plan = stack.plan()
    reference = {"secretsmanager": "platform/production/sentry", "key": "dsn", "region": "ap-northeast-2"}
    assert {"name": "sentry.dsn", **reference} in plan["secrets"]
    for name, spec in plan["services"].items():
        wanted = None if name == "frontend" else "${secret.sentry.dsn}"
        assert spec["environment"].get("SENTRY_DSN") == wanted, name
    assert plan["services"]["api"]["environment"]["SENTRY_ENVIRONMENT"] == "production"
    stack.set("c.services.api.environment", {"SENTRY_DSN": "https://own@errors.test/1"})
    assert stack.plan()["services"]["api"]["environment"]["SENTRY_DSN"] == "https://own@errors.test/1"


@pytest.mark.parametrize(("path", "health"), [("/", "/"), ("/docs", "/docs")])
def test_pages_below_a_prefix_are_asked_for_there(stack: Any, path: str, health: str) -> None:
    """Whether they are healthy: Next.js with a basePath has nothing outside of it."""
    stack.set("c.services.sites.public", [{"host": "docs", "path": path}])
    del stack.catalogue["services"]["sites"]["health"]
    del stack.catalogue["journeys"]
    assert stack.plan()["services"]["sites"]["health"]["path"] == health


def test_next_starts_through_the_framework_without_standalone_output(stack: Any) -> None:
    assert stack.plan()["services"]["sites"]["start"] == ["node", "server.js"]
    stack.set("c.services.sites.build", {"source": "x", "standalone": False})
    assert stack.plan()["services"]["sites"]["start"][:3] == ["node", "node_modules/next/dist/bin/next", "start"]


def test_a_path_prefix_is_part_of_the_public_address(stack: Any) -> None:
    stack.set("c.services.api.public", [{"host": "@", "path": "/api/"}])
    plan = stack.plan()
    assert plan["services"]["api"]["url"] == "https://example.com/api"
    assert plan["services"]["frontend"]["environment"]["API_URL"] == "https://example.com/api"


# --- origins --------------------------------------------------------------------

ALLOWED = [
    "https://a.example.com",
    "https://a-b.example.com",
    "https://xn--80ak6aa92e.example.com",
    "https://1.example.com",
]
DENIED = [
    "http://a.example.com",
    "https://a.example.com:443",
    "https://a.example.com:8443",
    "https://example.com",
    "https://x.y.example.com",
    "https://evilexample.com",
    "https://evil-example.com",
    "https://example.com.evil.net",
    "https://a.example.com.evil.net",
    "https://a.exampleXcom",
    "https://appXexample.com",
    "https://a.example.com@evil.net",
    "https://a.example.com/",
    "https://a.example.com.",
    "https://a.example.community",
    "https://.example.com",
    "https://-a.example.com",
    "https://a-.example.com",
    "https://a_b.example.com",
    "https://a`b.example.com",
    "https://" + "a" * 64 + ".example.com",
    "null",
    "*",
    "",
    "file://",
    "https://a.example.com,https://b.example.com",
    "https://a.example.com https://b.example.com",
    "localhost:5173",
]


def test_origins_are_those_of_services_with_pages_and_the_extra_ones(stack: Any) -> None:
    extra = ["https://*.partner.example:8443", "https://partner.example", "https://example.com"]
    stack.set("e.cors", {"extra_origins": extra})
    assert stack.plan()["edge"]["origins"] == {
        "exact": ["https://example.com", "https://partner.example"],
        "wildcards": ["https://*.example.com", "https://*.partner.example:8443"],
        "regex": [
            r"^https://(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.example\.com$",
            r"^https://(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\.partner\.example:8443$",
        ],
        "wildcard_credentials": False,
    }
    stack.set("e.cors", {"wildcard_credentials": True})
    assert stack.plan()["edge"]["origins"]["wildcard_credentials"] is True


@pytest.mark.parametrize("origin", ALLOWED)
def test_the_pattern_lets_one_label_in(stack: Any, origin: str) -> None:
    assert re.search(stack.plan()["edge"]["origins"]["regex"][0], origin)


@pytest.mark.parametrize("origin", DENIED)
def test_the_pattern_keeps_the_rest_out(stack: Any, origin: str) -> None:
    assert not re.search(stack.plan()["edge"]["origins"]["regex"][0], origin)


def test_the_pattern_captures_nothing(stack: Any) -> None:
    assert re.compile(stack.plan()["edge"]["origins"]["regex"][0]).groups == 0


def test_another_order_in_the_catalogue_releases_nothing_anew(stack: Any) -> None:
    stack.set("c.services.sites.public", [{"host": "www"}]).set("c.journeys", [])
    before = stack.plan()["services"]
    stack.set("c.services", dict(reversed(stack.catalogue["services"].items())))
    assert stack.plan()["services"] == before


def test_a_developer_may_use_a_local_origin(stack: Any) -> None:
    """Whatever the environment is called."""
    for name in ("dev", "staging", "production"):
        stack.set("e.name", name).set("e.cors", {"extra_origins": ["http://localhost:5173"]})
        assert "http://localhost:5173" in stack.plan()["edge"]["origins"]["exact"]


def test_a_service_is_told_its_own_origin_beside_those_of_pages(stack: Any) -> None:
    """The edge lets it through, so a service that checks for itself has to know it."""
    stack.set("c.services.sites.public", [{"host": "www"}]).set("c.journeys", [])
    allowed = stack.plan()["services"]["api"]["environment"]["ALLOWED_ORIGINS"]
    assert allowed == "https://example.com,https://www.example.com,https://api.example.com"


@pytest.mark.parametrize(
    "address, store",
    [
        (None, {}),
        ("s3://builds", {"bucket": "builds", "prefix": ""}),
        ("s3://builds/", {"bucket": "builds", "prefix": ""}),
        ("s3://builds/team/app", {"bucket": "builds", "prefix": "team/app/"}),
        ("s3://builds/team/", {"bucket": "builds", "prefix": "team/"}),
    ],
)
def test_where_artifacts_are_kept(address: str | None, store: dict[str, str]) -> None:
    assert plans.artifact_store(address) == store


def with_store(stack: Any, access: Any, engine: str = "valkey") -> Any:
    """Add a store that the api needs."""
    stack.set("c.stores", {"queue": {"engine": engine}}).set("c.services.api.needs", ["database", "queue"])
    return stack.set("e.stores", {"queue": access})


@pytest.mark.parametrize(
    ("access", "engine", "url"),
    [
        ({"host": "q.internal"}, "valkey", "rediss://q.internal:6379"),
        ({"host": "q.internal", "tls": False, "port": 6380}, "redis", "redis://q.internal:6380"),
        ({"host": "q", "password": {"variable": "q"}}, "valkey", "rediss://:${secret.queue.password|url}@q:6379"),
        (
            {"host": "q", "user": "a@b", "password": {"variable": "q"}},
            "valkey",
            "rediss://a%40b:${secret.queue.password|url}@q:6379",
        ),
    ],
)
def test_a_service_gets_the_address_of_a_store(stack: Any, access: dict[str, Any], engine: str, url: str) -> None:
    with_store(stack, access, engine).set("c.services.api.environment", {"REDIS": "${queue.url}"})
    plan = stack.plan()
    variables = plan["services"]["api"]["environment"]
    assert variables["REDIS"] == variables["QUEUE_URL"] == url
    assert (variables["QUEUE_HOST"], variables["QUEUE_PORT"]) == (access["host"], str(access.get("port", 6379)))
    assert variables.get("QUEUE_PASSWORD") == ("${secret.queue.password}" if "password" in access else None)
    assert not {"QUEUE_POOL_SIZE", "QUEUE_NAME", "NODE_EXTRA_CA_CERTS"} & set(variables)
    assert ("queue.password" in plan["services"]["api"]["secrets"]) is ("password" in access)
    # No connections are counted: it has no limit that pools reach.
    assert set(plan["budget"]) == {"database"}


def test_a_store_with_a_certificate_of_an_own_authority(stack: Any) -> None:
    with_store(stack, {"host": "q"}).set("e.database_ca", "ca.pem").set("e.databases.database.tls", False)
    variables = stack.plan()["services"]["api"]["environment"]
    assert variables["QUEUE_CA_FILE"] == variables["NODE_EXTRA_CA_CERTS"] == CA_FILE
    assert variables["QUEUE_URL"] == "rediss://q:6379"
