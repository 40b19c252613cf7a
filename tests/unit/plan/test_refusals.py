# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Every mistake is refused, where it stands, with what stands there and with the fix."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogues

REMOVE = "(remove)"
API, FRONTEND, SITES, COLLAB = "c.services.api", "c.services.frontend", "c.services.sites", "c.services.collab"
MAILS = {"kind": "node_worker"}
NIGHTLY = {**MAILS, "kind": "node_job", "schedule": "daily"}

# name → changes, path of the problem, words of its value, words of the problem and its fix
MISTAKES: dict[str, tuple[dict[str, Any], str, str, tuple[str, ...]]] = {
    # the catalogue as a whole
    "empty catalogue": ({"c.services": {}}, "services", "null", ("no service",)),
    "no services key": ({"c.services": REMOVE}, "services", "null", ("missing",)),
    "services is a list": ({"c.services": ["api"]}, "services", '["api"]', ("a list", "a mapping")),
    "misspelt key of the catalogue": ({"c.database": {}}, "database", "database", ("unknown key", "'databases'?")),
    "service is a string": ({API: "nestjs_api"}, "services.api", "nestjs_api", ("a string", "a mapping")),
    # names
    "upper-case name": ({"c.services.Api": {}}, "services.Api", "Api", ("not a valid name", "lowercase")),
    "underscore in a name": ({"c.services.my_api": {}}, "services.my_api", "my_api", ("not a valid name", "hyphens")),
    "name that is too long": (
        {"c.services." + "a" * 30: {}},
        "services." + "a" * 30,
        "a" * 30,
        ("not a valid name", "29"),
    ),
    "reserved name": ({"c.services.edge": {}}, "services.edge", "edge", ("reserved", "another")),
    "name of a folder on hosts": ({"c.services.node": {}}, "services.node", "node", ("reserved",)),
    "service named like a database": ({"c.databases.api": {}}, "databases.api", "api", ("same name", "Rename")),
    # keys and kinds
    "unknown kind": ({f"{API}.kind": "nestjs"}, "services.api.kind", "nestjs", ("not a known kind", "'nestjs_api'?")),
    "missing kind": ({f"{API}.kind": REMOVE}, "services.api.kind", "null", ("missing", "yjs_websocket")),
    "misspelt key of a service": (
        {f"{SITES}.helth": "/"},
        "services.sites.helth",
        "helth",
        ("unknown key", "'health'?"),
    ),
    "misspelt key of health": (
        {f"{API}.health": {"path": "/", "intervall": 2}},
        "services.api.health.intervall",
        "intervall",
        ("unknown key", "'interval'?"),
    ),
    "misspelt key of public": (
        {f"{API}.public": [{"hots": "api", "host": "api"}]},
        "services.api.public[0].hots",
        "hots",
        ("unknown key", "'host'?"),
    ),
    "misspelt key of build": ({f"{API}.build.sorce": "."}, "services.api.build.sorce", "sorce", ("'source'?",)),
    "build without source": ({f"{API}.build": {}}, "services.api.build.source", "null", ("missing", "folder")),
    "misspelt key of a database": ({"c.databases.database.prot": 1}, "databases.database.prot", "prot", ("'port'?",)),
    "wrong type: port": ({f"{API}.port": "3001"}, "services.api.port", "3001", ("a string", "a whole number")),
    "wrong type: boolean port": ({f"{API}.port": True}, "services.api.port", "true", ("a boolean",)),
    "wrong type: needs": ({f"{API}.needs": "database"}, "services.api.needs", "database", ("a string", "[database]")),
    "wrong type: public": ({f"{API}.public": "api"}, "services.api.public", "api", ("[{host: api}]",)),
    "wrong type: environment": ({f"{API}.environment": ["A=1"]}, "services.api.environment", "A=1", ("a mapping",)),
    "wrong type: spa": ({f"{FRONTEND}.spa": "no"}, "services.frontend.spa", "no", ("true or false",)),
    "policy as text": ({f"{FRONTEND}.csp": "img-src *"}, "services.frontend.csp", "img-src *", ("a mapping",)),
    "misspelt directive": (
        {f"{FRONTEND}.csp": {"image-src": "https://cdn.test"}},
        "services.frontend.csp.image-src",
        "image-src",
        ("not a known directive", "'img-src'?"),
    ),
    "two directives in one": (
        {f"{FRONTEND}.csp": {"img-src": "https://cdn.test; script-src *"}},
        "services.frontend.csp.img-src",
        "https://cdn.test; script-src *",
        ("not valid", "separated by spaces"),
    ),
    "keyword that lost its quotes": (
        {f"{FRONTEND}.csp": {"style-src": "unsafe-inline https://cdn.test"}},
        "services.frontend.csp.style-src",
        "unsafe-inline https://cdn.test",
        ("without single quotes", "a host name", "\"'unsafe-inline'\""),
    ),
    "quotes of a word processor": (
        {f"{FRONTEND}.csp": {"img-src": "\u2018self\u2019"}},
        "services.frontend.csp.img-src",
        "\u2018self\u2019",
        ("not valid", "sources"),
    ),
    "policy of an API": ({f"{API}.csp": {}}, "services.api.csp", "csp", ("is not supported for nestjs_api", "Remove")),
    "policy tried on a relay": (
        {f"{COLLAB}.csp_report_only": True},
        "services.collab.csp_report_only",
        "",
        ("not supported",),
    ),
    "unknown engine": ({"c.databases.database.engine": "mysqll"}, "databases.database.engine", "mysqll", ("'mysql'?",)),
    "engine of another protocol": (
        {"c.databases.database.engine": "mongodb"},
        "databases.database.engine",
        "mongodb",
        ("mysql, postgresql", "as a secret"),
    ),
    "secret of RDS without its key": (
        {"e.databases.database.password": {"secretsmanager": "rds!cluster-0f1e2d3c"}},
        "platform_environment.databases.database.password",
        "rds!cluster-0f1e2d3c",
        ("beside the name of the user", "key: password"),
    ),
    "driver of another engine": (
        {"c.databases.database.driver": "pg"},
        "databases.database.driver",
        "pg",
        ("MySQL has no driver", "mysql2, mariadb, prisma", "ca_file"),
    ),
    "store among databases": (
        {"c.databases.cache": {"engine": "redis", "port": 6379}, f"{API}.needs": ["database", "cache"]},
        "databases.cache.engine",
        "redis",
        ("section 'stores'", "stores: {cache: {engine: redis}}", "the environment"),
    ),
    "database among stores": (
        {"c.stores": {"events": {"engine": "postgresql"}}},
        "stores.events.engine",
        "postgresql",
        ("section 'databases'", "databases: {events: {engine: postgresql}}"),
    ),
    "store without access": (
        {"c.stores": {"queue": {}}},
        "platform_environment.stores.queue",
        "null",
        ("no settings for the store", "Add {host, password}"),
    ),
    "access to an unknown store": (
        {"e.stores": {"queue": {"host": "q"}}},
        "platform_environment.stores.queue",
        "queue",
        ("the catalogue has no store 'queue'",),
    ),
    "store named like a database": (
        {"c.stores": {"database": {}}, "e.stores": {"database": {"host": "q"}}},
        "stores.database",
        "database",
        ("a database has the same name",),
    ),
    "writer of a store": (
        {
            "c.stores": {"queue": {}},
            "e.stores": {"queue": {"host": "q"}},
            f"{SITES}.needs": ["api", "queue"],
            f"{SITES}.writes": "queue",
        },
        "services.sites.writes",
        "queue",
        ("no database 'queue'",),
    ),
    "store of a browser": (
        {
            "c.stores": {"queue": {}},
            "e.stores": {"queue": {"host": "q"}},
            f"{FRONTEND}.needs": ["api", "collab", "queue"],
        },
        "services.frontend.needs",
        "queue",
        ("cannot reach a store",),
    ),
    "name of a schema in a store": (
        {
            "c.stores": {"queue": {}},
            "e.stores": {"queue": {"host": "q"}},
            f"{API}.needs": ["database", "queue"],
            f"{API}.environment": {"A": "${queue.name}"},
        },
        "services.api.environment.A",
        "${queue.name}",
        ("unknown placeholder", "${queue.url}"),
    ),
    "TLS without an authority": (
        {"e.databases.database.tls": True},
        "platform_environment.databases.database.tls",
        "true",
        ("which authorities", "platform_environment.database_ca", "global-bundle.pem"),
    ),
    "file of an authority that is not set": (
        {f"{API}.environment": {"CA": "${database.ca_file}"}},
        "services.api.environment.CA",
        "${database.ca_file}",
        ("no file with the authorities", "platform_environment.database_ca"),
    ),
    # needs
    "unknown need": ({f"{FRONTEND}.needs": ["apis"]}, "services.frontend.needs", "apis", ("'frontend'", "'api'?")),
    "need on itself": ({f"{API}.needs": ["api", "database"]}, "services.api.needs", "api", ("needs itself",)),
    "cycle": ({f"{API}.needs": ["database", "sites"]}, "services.api.needs", "sites", ("api → sites → api",)),
    "database of a browser": (
        {f"{FRONTEND}.needs": ["database"]},
        "services.frontend.needs",
        "database",
        ("cannot reach a database",),
    ),
    # databases
    "second writer": (
        {f"{SITES}.needs": ["api", "database"], f"{SITES}.writes": "database"},
        "services.sites.writes",
        "database",
        ("'api' already writes", "one writer"),
    ),
    "writes without need": ({f"{API}.needs": []}, "services.api.writes", "database", ("does not need it", "Add")),
    "writes to an unknown database": ({f"{API}.writes": "databse"}, "services.api.writes", "databse", ("'database'?",)),
    "database without host": (
        {"e.databases.database.host": REMOVE},
        "platform_environment.databases.database.host",
        "null",
        ("missing", "address"),
    ),
    "database without access": (
        {"e.databases": {}},
        "platform_environment.databases.database",
        "null",
        ("no settings for", "max_connections"),
    ),
    "access to an unknown database": (
        {"e.databases.databse": {}},
        "platform_environment.databases.databse",
        "databse",
        ("no database", "'database'?"),
    ),
    "misspelt key of deployment": (
        {"e.deployment": {"wach": 1}},
        "platform_environment.deployment.wach",
        "wach",
        ("'watch'?",),
    ),
    "misspelt key of the deployment's budget": (
        {"e.deployment": {"budget": {"fails": 0}}},
        "platform_environment.deployment.budget.fails",
        "fails",
        ("'failed'?",),
    ),
    "budget is a list": (
        {"e.deployment": {"budget": []}},
        "platform_environment.deployment.budget",
        "[]",
        ("failed: 0",),
    ),
    "budget below nothing": (
        {"e.deployment": {"budget": {"failed": -1}}},
        "platform_environment.deployment.budget.failed",
        "-1",
        ("a whole number",),
    ),
    "budget in words": (
        {"e.deployment": {"budget": {"latency_p99_ms": "300"}}},
        "platform_environment.deployment.budget.latency_p99_ms",
        "300",
        ("a string",),
    ),
    "budget without an end": (
        {"e.deployment": {"budget": {"longest_stall_ms": math.inf}}},
        "platform_environment.deployment.budget.longest_stall_ms",
        "Infinity",
        ("a whole number",),
    ),
    "pool over the budget": (
        {f"{API}.pool": 40},
        "services.api.pool",
        "40",
        ("160 connections", "allows 120", "80% of 150", "api: 4 processes × pool 40 = 160"),
    ),
    "sum of pools over the budget": (
        {f"{API}.pool": 25, f"{SITES}.needs": ["api", "database"], f"{SITES}.pool": 11},
        "services.api.pool",
        "25",
        ("122 connections", "api: 4 processes × pool 25 = 100", "sites: 2 processes × pool 11 = 22"),
    ),
    # ports
    "port out of range": ({f"{SITES}.port": 70000}, "services.sites.port", "70000", ("out of range", "65535")),
    "port whose slots are out of range": ({f"{SITES}.port": 46000}, "services.sites.port", "46000", ("66000", "45535")),
    "port whose internal address is out of range": ({f"{API}.port": 40000}, "services.api.port", "40000", ("35535",)),
    "missing port": ({f"{API}.port": REMOVE}, "services.api.port", "null", ("no default port", "node_worker")),
    "two services on one port": (
        {f"{COLLAB}.port": 3002},
        "services.collab.port",
        "3002",
        ("sites-1", "3002", "'sites'"),
    ),
    "port of another's slot": ({f"{COLLAB}.port": 13002}, "services.collab.port", "13002", ("blue slot of 'sites'",)),
    "port of an internal address": (
        {f"{COLLAB}.port": 33001},
        "services.api.port",
        "3001",
        ("33001", "front of 'collab'", "internal address of 'api'"),
    ),
    "port of the edge": (
        {f"{FRONTEND}.port": 443, "h.web-1.services": ["edge", "frontend"]},
        "services.frontend.port",
        "443",
        ("the edge", "web-1"),
    ),
    "port of nginx's status page": (
        {f"{FRONTEND}.port": 8099},
        "services.frontend.port",
        "8099",
        ("nginx's status page",),
    ),
    "port of SSH": ({f"{FRONTEND}.port": 22}, "services.frontend.port", "22", ("SSH",)),
    # public addresses
    "same public address": (
        {f"{SITES}.public": [{"host": "api"}]},
        "services.sites.public",
        "api.example.com/",
        ("'api'",),
    ),
    "same address after normalising": (
        {
            f"{API}.public": [{"host": "api"}, {"host": "@", "path": "/docs/"}],
            f"{SITES}.public": [{"host": "*"}, {"host": "@", "path": "/docs"}],
        },
        "services.sites.public",
        "example.com/docs",
        ("'api'", "another host or path"),
    ),
    "two services on the wildcard": (
        {f"{COLLAB}.public": [{"host": "*"}]},
        "services.collab.public",
        "*.example.com/",
        (),
    ),
    "two services on the root": ({f"{API}.public": [{"host": "@"}]}, "services.frontend.public", "example.com/", ()),
    "one address twice": (
        {f"{API}.public": [{"host": "api"}, {"host": "api"}]},
        "services.api.public",
        "api.example.com/",
        ("already",),
    ),
    "bad host": ({f"{API}.public": [{"host": "API_1"}]}, "services.api.public[0].host", "API_1", ("lowercase",)),
    "host with a scheme": ({f"{API}.public": [{"host": "https://api"}]}, "services.api.public[0].host", "https", ()),
    "host with the domain": (
        {f"{API}.public": [{"host": "api.example.com"}]},
        "services.api.public[0].host",
        "api.example.com",
        ("relative", "'api'"),
    ),
    "nested host with the domain": (
        {f"{API}.public": [{"host": "eu.api.example.com"}]},
        "services.api.public[0].host",
        "eu.api.example.com",
        ("relative", "'eu.api.@'"),
    ),
    "host that is a whole domain": (
        {f"{SITES}.public": [{"host": "@", "path": "/x"}, {"host": "other-brand.com"}]},
        "services.sites.public[1].host",
        "other-brand.com",
        ("'other-brand.com' is not below example.com", "platform_environment.domains", "'other-brand.com.@'"),
    ),
    "host below none of the domains": (
        {f"{API}.public": [{"host": "api.third.com"}], "e.domains": ["other-brand.com"]},
        "services.api.public[0].host",
        "api.third.com",
        ("not below example.com or other-brand.com",),
    ),
    "redirect below none of the domains": (
        {
            f"{FRONTEND}.public": [{"host": "@"}, {"host": "other-brand.com", "redirect": "third.com"}],
            "e.domains": ["other-brand.com"],
        },
        "services.frontend.public[1].redirect",
        "third.com",
        ("not below example.com or other-brand.com",),
    ),
    "further domain that is the environment's": (
        {"e.domains": ["example.com"]},
        "platform_environment.domains.example.com",
        "example.com",
        ("own domain",),
    ),
    "further domain of one label": ({"e.domains": ["brand"]}, "platform_environment.domains.brand", "brand", ()),
    "further domain with a scheme": (
        {"e.domains": {"https://other-brand.com": {}}},
        "platform_environment.domains.https://other-brand.com",
        "https://other-brand.com",
        ("not a domain",),
    ),
    "further domains as a string": ({"e.domains": "other.com"}, "platform_environment.domains", "other.com", ("list",)),
    "unknown key of a further domain": (
        {"e.domains": {"other-brand.com": {"zoen": "Z0123456789"}}},
        "platform_environment.domains.other-brand.com.zoen",
        "zoen",
        ("'zone'?",),
    ),
    "zone of a further domain by its name": (
        {"e.domains": {"other-brand.com": {"zone": "other-brand.com"}}},
        "platform_environment.domains.other-brand.com.zone",
        "other-brand.com",
        ("id of a hosted zone",),
    ),
    "certificate of a further domain without its key": (
        {"e.domains": {"other-brand.com": {"certificate": "/tls/other.pem"}}},
        "platform_environment.domains.other-brand.com.key",
        "null",
        ("missing beside 'certificate'",),
    ),
    "certificate of a further domain where the edge requests it": (
        {"e.tls": {"mode": "acme"}, "e.domains": {"other-brand.com": {"certificate": "/a.pem", "key": "/a.key"}}},
        "platform_environment.domains.other-brand.com.certificate",
        "not shown",
        ("mode acme", "mode: files"),
    ),
    "host that ends like the domain": (
        {f"{API}.public": [{"host": "notexample.com"}]},
        "services.api.public[0].host",
        "notexample.com",
        ("not below example.com",),
    ),
    "wildcard of a whole domain": (
        {f"{API}.public": [{"host": "*.co.uk"}]},
        "services.api.public[0].host",
        "*.co.uk",
        ("not below example.com",),
    ),
    # redirects
    "redirect to a whole domain": (
        {f"{FRONTEND}.public": [{"host": "@"}, {"host": "www", "redirect": "other-brand.com"}]},
        "services.frontend.public[1].redirect",
        "other-brand.com",
        ("not below example.com",),
    ),
    "redirect to a name that nobody serves": (
        {f"{FRONTEND}.public": [{"host": "@"}, {"host": "www", "redirect": "eu.web.@"}]},
        "services.frontend.public",
        "web.example.com",
        ("www.example.com would lead to eu.web.example.com", "no service", "api.example.com, example.com"),
    ),
    "redirect to every subdomain": (
        {f"{FRONTEND}.public": [{"host": "@"}, {"host": "www", "redirect": "*"}]},
        "services.frontend.public",
        "*.example.com",
        ("no service has as a public name",),
    ),
    "redirect to itself": (
        {f"{FRONTEND}.public": [{"host": "@"}, {"host": "www", "redirect": "www"}]},
        "services.frontend.public",
        "www.example.com",
        ("which leads to www.example.com",),
    ),
    "redirect to a redirect": (
        {f"{FRONTEND}.public": [{"host": "@"}, {"host": "a", "redirect": "b"}, {"host": "b", "redirect": "@"}]},
        "services.frontend.public",
        "b.example.com",
        ("leads to example.com", "redirect of a.example.com"),
    ),
    "redirect of a name that is served": (
        {f"{FRONTEND}.public": [{"host": "@"}, {"host": "api", "redirect": "@"}]},
        "services.frontend.public",
        "api.example.com",
        ("'api' serves api.example.com",),
    ),
    "redirect of one name to two": (
        {
            f"{FRONTEND}.public": [{"host": "@"}, {"host": "www", "redirect": "@"}],
            f"{API}.public": [{"host": "api"}, {"host": "www", "redirect": "api"}],
        },
        "services.frontend.public",
        "www.example.com",
        ("leads to api.example.com already",),
    ),
    "redirect of a path": (
        {f"{FRONTEND}.public": [{"host": "@"}, {"host": "www", "path": "/a", "redirect": "@"}]},
        "services.frontend.public[1].path",
        "/a",
        ("no path",),
    ),
    "host with a trailing dot": ({f"{API}.public": [{"host": "api."}]}, "services.api.public[0].host", "api.", ()),
    "host with @ in the middle": ({f"{API}.public": [{"host": "a.@.b"}]}, "services.api.public[0].host", "a.@.b", ()),
    "missing host": ({f"{API}.public": [{"path": "/"}]}, "services.api.public[0].host", "null", ('"@"',)),
    "bad public path": (
        {f"{API}.public": [{"host": "api", "path": "v1"}]},
        "services.api.public[0].path",
        "v1",
        ("/docs",),
    ),
    "name that is too long for DNS": (
        {f"{API}.public": [{"host": ".".join(["a" * 60] * 3) + ".@"}], "e.domain": ".".join(["b" * 60] * 2)},
        "services.api.public[0].host",
        "aaa",
        ("253",),
    ),
    # health
    "health that is neither path nor port": (
        {f"{API}.health": {"status": 200}},
        "services.api.health",
        "200",
        ("{tcp: true}",),
    ),
    "health that is both": ({f"{API}.health": {"path": "/", "tcp": True}}, "services.api.health", "tcp", ("not both",)),
    "status of an open port": (
        {f"{API}.health": {"tcp": True, "status": 200}},
        "services.api.health.status",
        "200",
        ("no status",),
    ),
    "status out of range": (
        {f"{API}.health": {"path": "/", "status": [200, 999]}},
        "services.api.health.status",
        "999",
        ("599",),
    ),
    "no status at all": (
        {f"{API}.health": {"path": "/", "status": []}},
        "services.api.health.status",
        "[]",
        ("at least one",),
    ),
    "health path without slash": ({f"{API}.health": "health"}, "services.api.health.path", "health", ("/health",)),
    "missing health": ({f"{API}.health": REMOVE}, "services.api.health", "null", ("no default health check", "tcp")),
    # values
    "unknown Node.js version": ({f"{API}.node": "24.x"}, "services.api.node", "24.x", ('"24"',)),
    "Node.js version as a number": ({f"{API}.node": 22.1}, "services.api.node", "22.1", ("quotes",)),
    "Node.js version that the environment lacks": (
        {f"{API}.node": "20", "e.nodejs": {"24": {"version": "24.21.0"}}},
        "services.api.node",
        "20",
        ("24, 24.21.0", "platform_environment.nodejs"),
    ),
    "archive of Node.js for other hosts than these": (
        {
            "e.nodejs": {"24": {"version": "24.21.0", "url": "https://nodejs.org/node-v24.21.0-linux-x64.tar.xz"}},
            "e.aws": {"hosts": {"all": {"services": ["edge", "api", "sites"], "count": 2, "type": "t4g.small"}}},
        },
        "platform_environment.aws.hosts.all.type",
        "t4g.small",
        ("nodejs['24'] has an archive for linux-x64, and this type is linux-arm64", "linux-arm64: {url: …, sha256: …}"),
    ),
    "bad memory": ({f"{API}.memory": "512 MB"}, "services.api.memory", "512 MB", ("512M",)),
    "bad body limit": ({f"{API}.body_limit": "1MB"}, "services.api.body_limit", "1MB", ("512k",)),
    "limit without a method": (
        {f"{API}.rate_limits": [{"request": "/login", "rate": "30/m"}]},
        "services.api.rate_limits[0].request",
        "/login",
        ("POST /api/auth/login",),
    ),
    "limit of a path that is never asked": (
        {f"{API}.rate_limits": [{"request": "POST /a/../login", "rate": "30/m"}]},
        "services.api.rate_limits[0].request",
        "POST /a/../login",
        ("full path",),
    ),
    "limit with a query": (
        {f"{API}.rate_limits": [{"request": "GET /a?b=1", "rate": "30/m"}]},
        "services.api.rate_limits[0].request",
        "GET /a?b=1",
        ("full path",),
    ),
    "limit without a rate": (
        {f"{API}.rate_limits": [{"request": "POST /login"}]},
        "services.api.rate_limits[0].rate",
        "null",
        ("30/m",),
    ),
    "rate as nginx writes it": (
        {f"{API}.rate_limits": [{"request": "POST /login", "rate": "30r/m"}]},
        "services.api.rate_limits[0].rate",
        "30r/m",
        ("5/s or 30/m",),
    ),
    "rate of nothing": (
        {f"{API}.rate_limits": [{"request": "POST /login", "rate": "0/m"}]},
        "services.api.rate_limits[0].rate",
        "0/m",
        ("5/s or 30/m",),
    ),
    "limit outside the public path": (
        {
            f"{API}.public": [{"host": "api", "path": "/v1"}],
            f"{API}.rate_limits": [{"request": "POST /v11/login", "rate": "30/m"}],
        },
        "services.api.rate_limits[0].request",
        "POST /v11/login",
        ("users cannot send this", "below one of its public addresses"),
    ),
    "two limits of one request": (
        {f"{API}.rate_limits": [{"request": f"POST /{name}", "rate": "30/m"} for name in ("login", "Login/")]},
        "services.api.rate_limits[1].request",
        "POST /Login/",
        ("already has a limit",),
    ),
    "no time at all": ({f"{API}.timeout": 0}, "services.api.timeout", "0", ("from 1 to 86400",)),
    "time for files": ({f"{FRONTEND}.timeout": 9}, "services.frontend.timeout", "timeout", ("static_frontend",)),
    "time for sockets": ({f"{COLLAB}.timeout": 9}, "services.collab.timeout", "timeout", ("yjs_websocket",)),
    "deployments that end requests": (
        {f"{API}.timeout": 300, "e.services": {"api": {"drain": 20}}},
        "platform_environment.services.api.drain",
        "20",
        ("may take 300 s", "end it after 20 s", "Write 300 or more"),
    ),
    "no socket at all": ({f"{COLLAB}.sockets_per_client": 0}, "services.collab.sockets_per_client", "0", ("from 1",)),
    "sockets of files": (
        {f"{FRONTEND}.sockets_per_client": 9},
        "services.frontend.sockets_per_client",
        "sockets_per_client",
        ("static_frontend",),
    ),
    "credentials of files": ({f"{FRONTEND}.aws": True}, "services.frontend.aws", "aws", ("static_frontend",)),
    "metrics of files": ({f"{FRONTEND}.statsd": True}, "services.frontend.statsd", "statsd", ("static_frontend",)),
    "a check each second": ({"e.synthetic": {"interval": 1}}, "platform_environment.synthetic.interval", "1", ("60",)),
    "a check that is turned off by a word": (
        {"e.synthetic": {"enabled": "off"}},
        "platform_environment.synthetic.enabled",
        "off",
        ("true or false",),
    ),
    "name of a log group": ({"c.services.verify": {}}, "services.verify", "verify", ("reserved",)),
    "negative drain": ({f"{API}.drain": -1}, "services.api.drain", "-1", ("out of range",)),
    "unknown CORS": ({f"{API}.cors": "applcation"}, "services.api.cors", "applcation", ("'application'?",)),
    "start through npm": (
        {f"{API}.start": "npm run start"},
        "services.api.start",
        "npm run start",
        ("signals", "node dist"),
    ),
    "start with a shell": (
        {f"{API}.start": "node a.js && node b.js"},
        "services.api.start",
        "&&",
        ("without a shell",),
    ),
    "start with open quotes": ({f"{API}.start": "node 'a.js"}, "services.api.start", "node 'a.js", ("quotation",)),
    "start with a placeholder": (
        {f"{API}.start": "node a.js --port ${self.port}"},
        "services.api.start",
        "${self.port}",
        ("environment", "sh -c 'exec node a.js --port \"$PORT\"'"),
    ),
    "empty start": ({f"{API}.start": ""}, "services.api.start", "", ("not a command",)),
    # a process without a port
    "port of a worker": (
        {"c.services.mails": {**MAILS, "port": 3009}},
        "services.mails.port",
        "port",
        ("node_worker",),
    ),
    "public worker": (
        {"c.services.mails": {**MAILS, "public": [{"host": "mails"}]}},
        "services.mails.public",
        "public",
        ("is not supported for node_worker", "Remove"),
    ),
    "worker that is held": (
        {"c.services.mails": {**MAILS, "hold": 9}},
        "services.mails.hold",
        "hold",
        ("node_worker",),
    ),
    "path of a worker": (
        {"c.services.mails": {**MAILS, "health": "/health"}},
        "services.mails.health",
        "/health",
        ("node_worker has no port", "{running: 5} or {file: 30} or {command: node dist/health.js}"),
    ),
    "file of an API": (
        {f"{API}.health": {"file": 30}},
        "services.api.health",
        "file",
        ("nestjs_api is checked at its port", "/health"),
    ),
    "runs longer than it may take": (
        {"c.services.mails": {**MAILS, "health": {"running": 60}}},
        "services.mails.health.running",
        "60",
        ("start_period of 60 s", "fewer"),
    ),
    "label of a name": (
        {f"{API}.public": [{"host": "api", "label": "acme"}]},
        "services.api.public[0].label",
        "acme",
        ("'api' is no wildcard", "Remove it"),
    ),
    "label of two": (
        {"c.services.sites.public": [{"host": "*", "label": "a.b"}]},
        "services.sites.public[0].label",
        "a.b",
        ("one label",),
    ),
    "job without times": (
        {"c.services.mails": {**MAILS, "kind": "node_job"}},
        "services.mails.schedule",
        "null",
        ("no default schedule", "*-*-* 03:00:00 Asia/Seoul"),
    ),
    "job with a line of cron": (
        {"c.services.mails": {**NIGHTLY, "schedule": "0 3 * * *"}},
        "services.mails.schedule",
        "0 3 * * *",
        ("cron", "*-*-* 03:00:00"),
    ),
    "job with an impossible time": (
        {"c.services.mails": {**NIGHTLY, "schedule": "03:00; reboot"}},
        "services.mails.schedule",
        "reboot",
        ("not a calendar event",),
    ),
    "job that keeps running": (
        {"c.services.mails": {**NIGHTLY, "health": {"running": 5}}},
        "services.mails.health",
        "running",
        ("no process that stays", "{command: "),
    ),
    "job that overlaps": (
        {"c.services.mails": {**NIGHTLY, "handover": "overlap"}},
        "services.mails.handover",
        "handover",
        ("node_job",),
    ),
    "worker with times": (
        {"c.services.mails": {**MAILS, "schedule": "daily"}},
        "services.mails.schedule",
        "schedule",
        ("node_worker",),
    ),
    "request that takes hours": (
        {f"{API}.timeout": 7200},
        "services.api.timeout",
        "7200",
        ("at most 3600", "without a port"),
    ),
    "unknown handover": (
        {"c.services.mails": {**MAILS, "handover": "stop_first"}},
        "services.mails.handover",
        "stop_first",
        ("'stop-first'?",),
    ),
    "handover of an API": (
        {f"{API}.handover": "overlap"},
        "services.api.handover",
        "handover",
        ("nestjs_api", "Remove"),
    ),
    # what a kind does not support
    "standalone of an API": (
        {f"{API}.build.standalone": True},
        "services.api.build.standalone",
        "standalone",
        ("nestjs_api",),
    ),
    "single page of an API": ({f"{API}.spa": True}, "services.api.spa", "spa", ("is not supported",)),
    "start of files": ({f"{FRONTEND}.start": "node a.js"}, "services.frontend.start", "start", ("static_frontend",)),
    "secrets of files": ({f"{FRONTEND}.secrets": {"A": "jwt"}}, "services.frontend.secrets", "secrets", ()),
    "output outside the source": (
        {f"{API}.build.output": "../dist"},
        "services.api.build.output",
        "../dist",
        ("leaves the source folder",),
    ),
    "workspace beside the source": (
        {f"{API}.build.workspace": "../packages"},
        "services.api.build.workspace",
        "../packages",
        ("'../examples/api'", "not inside"),
    ),
    "unknown rule for the lock file": (
        {f"{API}.build.lockfile": "no"},
        "services.api.build.lockfile",
        "no",
        ("optional",),
    ),
    # environment variables
    "bad name of a variable": ({f"{API}.environment.DB-HOST": "a"}, "services.api.environment.DB-HOST", "DB-HOST", ()),
    "variable without a value": ({f"{API}.environment.A": None}, "services.api.environment.A", "null", ("a string",)),
    "value of two lines": ({f"{API}.environment.A": "a\nb"}, "services.api.environment.A", "not shown", ("one line",)),
    "secret in the catalogue": (
        {f"{API}.environment.DB_PASSWORD": "hunter2"},
        "services.api.environment.DB_PASSWORD",
        "not shown",
        ("looks like a secret", "secrets: {DB_PASSWORD: name}"),
    ),
    "state that is not kept": (
        {f"{API}.environment.A": "${self.state}"},
        "services.api.environment.A",
        "${self.state}",
        ("keeps no state", "state: true"),
    ),
    "folder that hides the program": (
        {f"{API}.start": "node ./dist/main.js", f"{API}.write": ["uploads", "dist"]},
        "services.api.write[1]",
        "dist",
        ("would hide dist/main.js", "only it"),
    ),
    "folder in another that is written to": (
        {f"{API}.write": ["public", "public/media"]},
        "services.api.write[0]",
        "public",
        ("would hide public/media",),
    ),
    "folder that hides the packages": (
        {f"{API}.write": ["node_modules/.cache"]},
        "services.api.write[0]",
        "node_modules/.cache",
        ("would hide the packages",),
    ),
    "folder outside of the code": ({f"{API}.write": ["../data"]}, "services.api.write[0]", "../data", ("uploads",)),
    "state of static files": ({f"{FRONTEND}.state": True}, "services.frontend.state", "state", ("not supported",)),
    "unknown placeholder": (
        {f"{API}.environment.A": "${nothing}"},
        "services.api.environment.A",
        "${nothing}",
        ("$$",),
    ),
    "unknown fact": (
        {f"{SITES}.environment.A": "${api.prot}"},
        "services.sites.environment.A",
        "${api.prot}",
        ("${api.url}",),
    ),
    "misspelt placeholder": (
        {f"{SITES}.environment.A": "${apis.url}"},
        "services.sites.environment.A",
        "apis",
        ("'api'?",),
    ),
    "placeholder without a brace": (
        {f"{API}.environment.A": "${self.port"},
        "services.api.environment.A",
        "${self",
        ("brace",),
    ),
    "unknown encoding": ({f"{API}.environment.A": "${self.port|b64}"}, "services.api.environment.A", "b64", ("|url",)),
    "placeholder of a service that is not needed": (
        {f"{API}.environment.A": "${sites.url}"},
        "services.api.environment.A",
        "${sites.url}",
        ("does not need 'sites'", "Add 'sites' to the needs"),
    ),
    "public address of a service that has none": (
        {f"{COLLAB}.public": [], f"{FRONTEND}.environment": {"A": "${collab.url}"}, "c.journeys": []},
        "services.frontend.environment.A",
        "${collab.url}",
        ("no public address", "public: [{host: …}]"),
    ),
    "secret in a browser": (
        {f"{FRONTEND}.environment": {"A": "${secret.jwt}"}},
        "services.frontend.environment.A",
        "${secret.jwt}",
        ("browsers",),
    ),
    "private address in a browser": (
        {f"{FRONTEND}.environment": {"A": "${api.internal_url}"}},
        "services.frontend.environment.A",
        "internal_url",
        ("browsers", "${<service>.url}"),
    ),
    "secret in a build": (
        {f"{SITES}.build": {"source": ".", "environment": {"A": "${secret.jwt}"}}},
        "services.sites.build.environment.A",
        "${secret.jwt}",
        ("builds",),
    ),
    # secrets
    "secret without reference": ({f"{API}.secrets.A": "jwtt"}, "services.api.secrets.A", "jwtt", ("'jwt'?",)),
    "secret as a value": ({f"{API}.secrets.A": "hunter2!"}, "services.api.secrets.A", "not shown", ()),
    "placeholder of an unknown secret": (
        {f"{API}.environment.A": "${secret.x}"},
        "services.api.environment.A",
        "secret.x",
        ("jwt",),
    ),
    "secret and variable at once": (
        {f"{API}.environment.JWT_SECRET": "${secret.jwt}"},
        "services.api.secrets.JWT_SECRET",
        "JWT_SECRET",
        ("Keep one",),
    ),
    "reference that is a value": (
        {"e.secrets.jwt": "hunter2"},
        "platform_environment.secrets.jwt",
        "not shown",
        ("{ssm:",),
    ),
    "password that is a value": (
        {"e.databases.database.password": "hunter2"},
        "platform_environment.databases.database.password",
        "not shown",
        ("secretsmanager",),
    ),
    "reference to two places": (
        {"e.secrets.jwt": {"ssm": "/a", "variable": "a"}},
        "platform_environment.secrets.jwt",
        "ssm, variable",
        ("{variable: name}",),
    ),
    "misspelt reference": (
        {"e.secrets.jwt": {"secretmanager": "a"}},
        "platform_environment.secrets.jwt",
        "secretmanager",
        (),
    ),
    "key of a parameter": (
        {"e.secrets.jwt": {"ssm": "/a", "key": "b"}},
        "platform_environment.secrets.jwt",
        "ssm, key",
        (),
    ),
    # the environment
    "misspelt key of the environment": ({"e.domian": "a.b"}, "platform_environment.domian", "domian", ("'domain'?",)),
    "missing domain": ({"e.domain": REMOVE}, "platform_environment.domain", "null", ("missing",)),
    "bad domain": ({"e.domain": "https://example.com"}, "platform_environment.domain", "https", ("without scheme",)),
    "domain of one label": ({"e.domain": "localhost"}, "platform_environment.domain", "localhost", ("not a domain",)),
    "address as domain": ({"e.domain": "10.0.0.1"}, "platform_environment.domain", "10.0.0.1", ("not a domain",)),
    "bad region": ({"e.region": "seoul"}, "platform_environment.region", "seoul", ("ap-northeast-2",)),
    "bad TLS mode": ({"e.tls.mode": "file"}, "platform_environment.tls.mode", "file", ("'files'?",)),
    "TLS without certificate": (
        {"e.tls.certificate": REMOVE},
        "platform_environment.tls.certificate",
        "null",
        ("mode is files", "load_balancer"),
    ),
    "TLS key itself": (
        {"e.tls.key": "-----BEGIN CERTIFICATE-----\nMIIB\n"},
        "platform_environment.tls.key",
        "(not shown)",
        ("the certificate or key itself", "{secretsmanager: name}"),
    ),
    "TLS key by two references": (
        {"e.tls.key": {"ssm": "/a", "secretsmanager": "b"}},
        "platform_environment.tls.key",
        "ssm, secretsmanager",
        ("do not form a reference",),
    ),
    "ACME directory without TLS": (
        {"e.tls": {"mode": "acme", "directory": "http://ca.test/"}},
        "platform_environment.tls.directory",
        "http://ca.test/",
        ("https",),
    ),
    "ACME e-mail without domain": (
        {"e.tls": {"mode": "acme", "email": "ops"}},
        "platform_environment.tls.email",
        "ops",
        ("e-mail",),
    ),
    "edge that does not know its load balancer": (
        {"e.tls": {"mode": "load_balancer"}},
        "platform_environment.tls.trusted",
        "null",
        ("on edge-1", "no trusted proxies", "[10.0.0.0/20]"),
    ),
    "everybody is the load balancer": (
        {"e.tls": {"mode": "load_balancer", "trusted": ["0.0.0.0/0"]}},
        "platform_environment.tls.trusted[0]",
        "0.0.0.0/0",
        ("every address", "10.0.0.0/16"),
    ),
    "store whose artifacts nobody signs": (
        {"e.artifacts": "s3://builds"},
        "platform_environment.artifact_signing",
        "null",
        ("s3://builds could run any code", "artifact_signing: off"),
    ),
    "signing with a private key": (
        {"e.artifact_signing": {"keys": ["-----BEGIN " + "PRIVATE KEY-----"], "private_key": {"variable": "x"}}},
        "platform_environment.artifact_signing.keys[0]",
        "(not shown)",
        ("openssl pkey -in signing.pem -pubout",),
    ),
    "signing with nobody's key": (
        {"e.artifact_signing": {"keys": [], "private_key": {"variable": "x"}}},
        "platform_environment.artifact_signing.keys",
        "[]",
        ("list of public keys is empty", "artifact_signing: off"),
    ),
    "signing that is on": (
        {"e.artifact_signing": True},
        "platform_environment.artifact_signing",
        "true",
        ("off, or a mapping",),
    ),
    "everybody in two halves is the load balancer": (
        {"e.tls": {"mode": "load_balancer", "trusted": ["0.0.0.0/1", "128.0.0.0/1"]}},
        "platform_environment.tls.trusted",
        "128.0.0.0/1",
        ("could pose as any client", "4294967296"),
    ),
    "everybody in IPv6 is the load balancer": (
        {"e.tls": {"mode": "load_balancer", "trusted": ["2000::/4", "3000::/4"]}},
        "platform_environment.tls.trusted",
        "2000::/4",
        ("could pose as any client",),
    ),
    "TLS key without value": ({"e.tls.key": ""}, "platform_environment.tls.key", "", ("PEM",)),
    "bad network": (
        {"e.tls": {"mode": "load_balancer", "trusted": ["10.0.0.1/8"]}},
        "platform_environment.tls.trusted[0]",
        "10.0.0.1/8",
        ("CIDR",),
    ),
    "any origin": ({"e.cors": {"extra_origins": ["*"]}}, "platform_environment.cors.extra_origins[0]", "*", ()),
    "null origin": ({"e.cors": {"extra_origins": ["null"]}}, "platform_environment.cors.extra_origins[0]", "null", ()),
    "origin with a slash": (
        {"e.cors": {"extra_origins": ["https://a.b/"]}},
        "platform_environment.cors.extra_origins[0]",
        "https://a.b/",
        ("trailing slash",),
    ),
    "origin without TLS": (
        {"e.cors": {"extra_origins": ["http://app.example.com"]}},
        "platform_environment.cors.extra_origins",
        "http://app.example.com",
        ("no TLS", "http_origins: true"),
    ),
    "header that is not ours to set": (
        {"c.services.frontend.headers": {"Cross-Origin-Opener-Polici": "unsafe-none"}},
        "services.frontend.headers.Cross-Origin-Opener-Polici",
        "Cross-Origin-Opener-Polici",
        ("'Cross-Origin-Opener-Policy'?",),
    ),
    "header with another's value": (
        {"c.services.frontend.headers": {"Cross-Origin-Opener-Policy": "same-site"}},
        "services.frontend.headers.Cross-Origin-Opener-Policy",
        "same-site",
        ("unsafe-none",),
    ),
    "feature in the old syntax": (
        {"c.services.frontend.headers": {"Permissions-Policy": "microphone 'self'"}},
        "services.frontend.headers.Permissions-Policy",
        "microphone 'self'",
        ("microphone=(self)",),
    ),
    "header that would end nginx's string": (
        {"c.services.frontend.headers": {"Permissions-Policy": 'microphone=("https://a.b"; $host)'}},
        "services.frontend.headers.Permissions-Policy",
        "$host",
        (),
    ),
    "headers of an API": (
        {"c.services.api.headers": {"X-Robots-Tag": "noindex"}},
        "services.api.headers",
        "headers",
        ("not supported for nestjs_api",),
    ),
    "journey past a prefix": (
        {
            "c.services.api.public": [{"host": "@", "path": "/api"}],
            "c.services.api.rate_limits": [],
            "c.journeys": [{"name": "j", "steps": [{"name": "s", "service": "api", "request": "GET /me"}]}],
        },
        "journeys[0].steps[0].request",
        "GET /me",
        ("full path", "/api/me"),
    ),
    "origin that looks local": (
        {"e.cors": {"extra_origins": ["http://localhost.example.com"]}},
        "platform_environment.cors.extra_origins",
        "http://localhost.example.com",
        ("no TLS",),
    ),
    "origin of any app": (
        {"e.cors": {"extra_origins": ["capacitor://*"]}},
        "platform_environment.cors.extra_origins[0]",
        "capacitor://*",
        ("capacitor://localhost",),
    ),
    "origin of every file": (
        {"e.cors": {"extra_origins": ["file://localhost"]}},
        "platform_environment.cors.extra_origins[0]",
        "file://localhost",
        ("not an origin",),
    ),
    "origin of a top-level domain": (
        {"e.cors": {"extra_origins": ["https://*.com"]}},
        "platform_environment.cors.extra_origins[0]",
        "https://*.com",
        ("top-level",),
    ),
    "origin with its usual port": (
        {"e.cors": {"extra_origins": ["https://a.b:443"]}},
        "platform_environment.cors.extra_origins[0]",
        "443",
        ("Omit",),
    ),
    "bad front door": ({"e.front_door": "localhost"}, "platform_environment.front_door", "localhost", ("IPv4",)),
    "override of an unknown service": (
        {"e.services": {"apis": {"pool": 1}}},
        "platform_environment.services.apis",
        "apis",
        ("no service", "'api'?"),
    ),
    "override of a fixed key": (
        {"e.services": {"api": {"port": 1}}},
        "platform_environment.services.api.port",
        "port",
        ("cannot override", "pool"),
    ),
    "bad override": ({"e.services": {"api": {"pool": 0}}}, "platform_environment.services.api.pool", "0", ("range",)),
    "bad override of a variable": (
        {"e.services": {"api": {"environment": {"A": "${x.y}"}}}},
        "platform_environment.services.api.environment.A",
        "${x.y}",
        ("unknown placeholder",),
    ),
    # hosts
    "no hosts": ({"h": {}}, "hosts", "null", ("no host", "Platform=fivepointers, Environment=production")),
    "tag that names no service": (
        {"h.web-1.services": ["frontend", "apis"]},
        "hosts.web-1.services",
        "apis",
        ("'api'?",),
    ),
    "service without a host": (
        {"h.web-1.services": []},
        "services.frontend",
        "frontend",
        ("no host runs", "Platform=fivepointers, Environment=production, Services=…frontend…"),
    ),
    "no edge": (
        {"h.edge-1.services": []},
        "hosts",
        "api, frontend",
        ("no host is an edge", "load balancer", "…edge…"),
    ),
    "host without address": ({"h.web-1.address": None}, "hosts.web-1.address", "null", ("IPv4",)),
    "two hosts with one address": ({"h.web-1.address": "10.0.0.1"}, "hosts.web-1.address", "10.0.0.1", ("'edge-1'",)),
    "services of a host as a string": (
        {"h.web-1.services": "frontend"},
        "hosts.web-1.services",
        "frontend",
        ("a list",),
    ),
    # journeys
    "header of a proxy that is not said": (
        {"e.tls.client_header": "CF-Connecting-IP", "e.tls.trusted": []},
        "platform_environment.tls.client_header",
        "CF-Connecting-IP",
        ("anybody can send this header", "Add trusted"),
    ),
    "header with more than an address": (
        {"e.tls.client_header": "Forwarded", "e.tls.trusted": ["192.0.2.0/24"]},
        "platform_environment.tls.client_header",
        "Forwarded",
        ("with the address alone",),
    ),
    "header that has a key of its own": (
        {f"{FRONTEND}.headers": {"content-security-policy": "default-src 'self'"}},
        "services.frontend.headers.content-security-policy",
        "content-security-policy",
        ("under csp",),
    ),
    "header that is none": (
        {"e.tls.client_header": "$http_x;"},
        "platform_environment.tls.client_header",
        "$http_x;",
        ("CF-Connecting-IP",),
    ),
    "journey to an unknown service": (
        {"c.journeys.0.steps.0.service": "apis"},
        "journeys[0].steps[0].service",
        "apis",
        ("'api'?",),
    ),
    "journey with an unknown key": (
        {"c.journeys.0.steps.0.expect": 1},
        "journeys[0].steps[0].expect",
        "expect",
        ("unknown key",),
    ),
    "step without a request": (
        {"c.journeys.0.steps.1.request": REMOVE},
        "journeys[0].steps[1]",
        "read the page",
        ("websocket",),
    ),
    "step with a request and a stream": (
        {"c.journeys.0.steps.1.stream": {"request": "GET /events"}},
        "journeys[0].steps[1]",
        "read the page",
        ("stream: {request: GET /path}",),
    ),
    "stream without a request": (
        {"c.journeys.0.steps.1.stream": {"events": 3}},
        "journeys[0].steps[1].stream.request",
        "null",
        ("GET /api/events",),
    ),
    "variable in a stream that nothing saved": (
        {"c.journeys.0.steps.1.request": REMOVE, "c.journeys.0.steps.1.stream": {"request": "GET /${tokn}"}},
        "journeys[0].steps[1].stream.request",
        "${tokn}",
        (),
    ),
    "stream of which something is saved": (
        {
            "c.journeys.0.steps.1.request": REMOVE,
            "c.journeys.0.steps.1.stream": {"request": "GET /events"},
            "c.journeys.0.steps.1.save": {"token": "a"},
        },
        "journeys[0].steps[1].save",
        "token",
        ("cannot be saved", "from a request"),
    ),
    "bad request": ({"c.journeys.0.steps.1.request": "/x"}, "journeys[0].steps[1].request", "/x", ("GET /api/health",)),
    "variable that nothing saved": (
        {"c.journeys.0.steps.0.json": {"a": ["${tokn}"]}},
        "journeys[0].steps[0].json.a[0]",
        "${tokn}",
        (),
    ),
    "subdomain that is not said": (
        {"c.journeys.0.steps.1.host": REMOVE},
        "journeys[0].steps[1].host",
        "null",
        ("subdomain",),
    ),
    "journey without steps": ({"c.journeys.0.steps": REMOVE}, "journeys[0].steps", "null", ("missing",)),
}


def spoilt(stack: Any, changes: dict[str, Any], remove: object) -> Any:
    """Return the stack with the changes."""
    for path, value in changes.items():
        if "." not in path:
            setattr(stack, {"c": "catalogue", "e": "environment", "h": "hosts"}[path], value)
        else:
            stack.set(path, remove if value == REMOVE else value)
    return stack


def test_the_stack_without_mistakes_is_accepted(stack: Any) -> None:
    assert stack.problems() == []


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_where_it_stands_with_its_fix(name: str, stack: Any, remove: object) -> None:
    changes, path, value, words = MISTAKES[name]
    problems = spoilt(stack, changes, remove).problems()
    found = [item for item in problems if item.path == path and value in item.value]
    assert found, problems
    for item in found:
        assert item.problem
        assert item.fix
    text = " ".join(f"{item.problem} {item.fix}" for item in found)
    for word in words:
        assert word in text, text


ALONE = sorted(
    set(MISTAKES)
    # These leave a service out of the plan, which is a second mistake: nothing carries it.
    - {"upper-case name", "underscore in a name", "name that is too long", "reserved name", "name of a folder on hosts"}
    - {"service named like a database", "empty catalogue", "no services key", "services is a list"}
)


@pytest.mark.parametrize("name", ALONE)
def test_one_mistake_is_not_reported_as_many(name: str, stack: Any, remove: object) -> None:
    """What is broken in one place does not look broken elsewhere."""
    problems = spoilt(stack, MISTAKES[name][0], remove).problems()
    assert len({item.path for item in problems}) <= 2, problems


@pytest.mark.parametrize("secret", ["secret as a value", "reference that is a value", "password that is a value"])
def test_what_may_be_a_secret_is_not_shown(secret: str, stack: Any, remove: object) -> None:
    changes = MISTAKES[secret][0]
    problems = spoilt(stack, changes, remove).problems()
    assert "hunter2" not in catalogues.describe(problems)


def test_all_mistakes_are_reported_at_once(stack: Any) -> None:
    stack.set(f"{SITES}.kind", "nexjs").set(f"{SITES}.port", 0).set("e.domain", "X").set("h.web-1.address", "x")
    stack.set(f"{API}.writes", "databse").set(f"{COLLAB}.drain", "long")
    assert {item.path for item in stack.problems()} == {
        "services.sites.kind",
        "services.sites.port",
        "platform_environment.domain",
        "hosts.web-1.address",
        "services.api.writes",
        "services.collab.drain",
    }
    with pytest.raises(catalogues.CatalogueError) as caught:
        stack.plan()
    text = str(caught.value)
    assert "6 problems" in text
    assert text.count("\n\n") == 6
    assert "services.sites.kind: nexjs\n  Problem: this is not a known kind.\n  Fix: Write one of" in text


def test_a_broken_reference_is_not_a_missing_secret_as_well(stack: Any) -> None:
    stack.set("e.secrets.jwt", {"smm": "/x"}).set("c.services.api.environment.A", "${secret.jwt}")
    assert [item.path for item in stack.problems()] == ["platform_environment.secrets.jwt"]


def test_two_cycles_are_both_named(stack: Any) -> None:
    services = stack.catalogue["services"]
    services["api"]["needs"] += ["sites"]
    services["collab"]["needs"] = ["worker"]
    services["worker"] = {"kind": "yjs_websocket", "port": 3009, "needs": ["collab"]}
    stack.hosts["web-1"]["services"].append("worker")
    cycles = [item.problem for item in stack.problems()]
    assert cycles == [
        "the needs form a cycle: api → sites → api",
        "the needs form a cycle: collab → worker → collab",
    ]


@pytest.mark.parametrize(
    "path, value",
    [
        ("c.services.api.health", {"tcp": True}),
        ("c.services.api.health", {"path": "/x?a=1", "status": 204}),
        ("c.services.api.node", 22),
        ("c.services.api.node", "22.23.3"),
        ("c.services.api.start", "sh -c 'exec node server.js --port \"$PORT\"'"),
        ("c.services.api.environment", {"A": 1, "B": True, "C": 1.5, "D": "", "E": "$HOME ${secret.jwt|url}"}),
        ("c.services.api.environment", {"DB_PASSWORD": "${database.password}", "NEXT_PUBLIC_SECRET": "x"}),
        ("c.services.api.public", []),
        ("c.services.api.build", {"source": "../../repo/packages/api", "workspace": "../../repo", "command": ""}),
        ("c.services.api.build", {"source": "../../repo/packages/api", "workspace": "../.."}),
        ("c.services.sites.build", {"source": ".", "standalone": False, "lockfile": "optional"}),
        ("c.databases.database", None),
        ("e.tls", {"mode": "load_balancer", "trusted": ["10.0.0.0/8"]}),
        ("e.tls", {"mode": "acme"}),
        ("e.tls", {"mode": "acme", "email": "ops@example.com", "directory": "https://ca.example.com/acme"}),
        ("e.tls", {"mode": "files", "certificate": {"ssm": "/crt"}, "key": {"secretsmanager": "tls", "key": "key"}}),
        ("e.front_door", None),
        ("e.services", {"api": {"pool": 5, "memory": "2G", "health": "/x", "environment": {"DEBUG": "1"}}}),
        ("e.secrets.jwt", {"variable": "jwt_secret"}),
        ("e.cors", {"extra_origins": ["https://*.partner.example", "https://partner.example:8443"]}),
        ("e.cors", {"extra_origins": ["http://localhost:5173", "http://127.0.0.1", "http://tauri.localhost"]}),
        ("c.services.frontend.headers", {"Permissions-Policy": 'camera=*, microphone=(self "https://a.example:8443")'}),
        ("e.services", {"frontend": {"headers": {"Cross-Origin-Opener-Policy": "", "X-Robots-Tag": "noindex"}}}),
        ("e.cors", {"extra_origins": ["capacitor://localhost", "ionic://localhost", "chrome-extension://abcdef"]}),
        ("e.cors", {"extra_origins": ["http://192.168.1.7:5173"], "http_origins": True}),
        ("h.web-1.services", [" frontend ", ""]),
    ],
)
def test_what_is_right_is_accepted(stack: Any, path: str, value: Any) -> None:
    if path == "c.services.api.public":
        stack.set("c.journeys", []).set("c.services.frontend.build", {"source": "."})
    assert stack.set(path, value).problems() == []


def test_a_load_balancer_needs_an_edge_to_send_to(stack: Any) -> None:
    stack.set("e.tls", {"mode": "load_balancer"}).set("h.edge-1.services", [])
    (found,) = stack.problems()
    assert found.path == "hosts" and "no host is an edge" in found.problem and "load balancer" in found.fix
    stack.hosts = None
    assert stack.problems() == []


@pytest.mark.parametrize("edges, accepted", [(5, True), (6, False)])
def test_only_so_many_edges_get_certificates_of_their_own(stack: Any, edges: int, accepted: bool) -> None:
    stack.set("e.tls", {"mode": "acme"}).set("h.edge-1.services", [])
    for number in range(edges):
        stack.hosts[f"extra-{number}"] = {"address": f"10.0.9.{number}", "services": ["edge"]}
    found = [problem for problem in stack.problems() if problem.path == "platform_environment.tls.mode"]
    assert (found == []) is accepted
    assert all("6 edges" in problem.problem and "load_balancer" in problem.fix for problem in found)


def test_without_hosts_nothing_about_hosts_is_checked(stack: Any) -> None:
    stack.hosts = None
    stack.set("c.services.api.pool", 1000)
    assert stack.problems() == []
    assert stack.plan()["hosts"] == {}


@pytest.mark.parametrize("wrong", [None, [], "x", 1, {"services": None}, {"services": {"a": None}}])
def test_input_of_another_shape_is_refused_and_does_not_raise(stack: Any, wrong: Any) -> None:
    assert catalogues.read(wrong, stack.environment, stack.hosts)[1]
    assert catalogues.read(stack.catalogue, wrong, stack.hosts)[1]
    if wrong is not None:
        assert catalogues.read(stack.catalogue, stack.environment, wrong)[1]
