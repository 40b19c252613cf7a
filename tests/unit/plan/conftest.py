# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A small stack for the tests: catalogue, environment and hosts, which each test may change."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogues
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans

CATALOGUE: dict[str, Any] = {
    "services": {
        "api": {
            "kind": "nestjs_api",
            "port": 3001,
            "health": "/api/health",
            "public": [{"host": "api"}],
            "needs": ["database"],
            "writes": "database",
            "build": {"source": "../examples/api"},
            "migrate": "node dist/migrate.js",
            "secrets": {"JWT_SECRET": "jwt"},
            "environment": {"DATABASE_URL": "${database.url}", "GREETING": "costs $$5"},
        },
        "frontend": {
            "kind": "static_frontend",
            "public": [{"host": "@"}],
            "needs": ["api", "collab"],
            "build": {"source": "../examples/frontend", "environment": {"VITE_API": "${api.url}"}},
        },
        "sites": {"kind": "nextjs", "port": 3002, "health": "/healthz", "public": [{"host": "*"}], "needs": ["api"]},
        "collab": {"kind": "yjs_websocket", "port": 3003, "public": [{"host": "ws"}], "needs": ["api"]},
    },
    "databases": {"database": {"engine": "mysql"}},
    "journeys": [
        {
            "name": "a user logs in and reads a page",
            "steps": [
                {
                    "name": "log in",
                    "service": "api",
                    "request": "POST /api/auth/login",
                    "json": {"email": "${unique}@example.com"},
                    "save": {"token": "accessToken"},
                },
                {
                    "name": "read the page",
                    "service": "sites",
                    "host": "${unique}",
                    "request": "GET /",
                    "headers": {"Authorization": "Bearer ${token}"},
                },
                {"name": "co-edit", "service": "collab", "websocket": "yjs", "room": "${unique}"},
            ],
        }
    ],
}

ENVIRONMENT: dict[str, Any] = {
    "name": "production",
    "domain": "example.com",
    "region": "ap-northeast-2",
    "tls": {"mode": "files", "certificate": "/tls/certificate.pem", "key": "/tls/key.pem"},
    "databases": {
        "database": {
            "host": "db.internal",
            "name": "app",
            "user": "app",
            "password": {"secretsmanager": "platform/database", "key": "password"},
            "max_connections": 150,
        }
    },
    "secrets": {"jwt": {"ssm": "/platform/jwt"}},
}

HOSTS: dict[str, Any] = {
    "edge-1": {"address": "10.0.0.1", "services": ["edge"]},
    "web-1": {"address": "10.0.0.2", "services": ["frontend"]},
    "api-1": {"address": "10.0.0.3", "services": ["api"]},
    "api-2": {"address": "10.0.0.4", "services": ["api"]},
    "sites-1": {"address": "10.0.0.5", "services": ["sites", "collab"]},
}


class Stack:
    """Catalogue, environment and hosts, and what comes of them."""

    def __init__(self) -> None:
        self.catalogue: Any = copy.deepcopy(CATALOGUE)
        self.environment: Any = copy.deepcopy(ENVIRONMENT)
        self.hosts: Any = copy.deepcopy(HOSTS)

    def set(self, path: str, value: Any) -> Stack:
        """Put a value at a path: c.services.api.port, e.domain, h.web-1.address. `del` as value removes."""
        root, *words = path.split(".")
        target = {"c": self.catalogue, "e": self.environment, "h": self.hosts}[root]
        for word in words[:-1]:
            target = target[int(word)] if isinstance(target, list) else target.setdefault(word, {})
        last = int(words[-1]) if isinstance(target, list) else words[-1]
        if value is del_:
            del target[last]
        else:
            target[last] = value
        return self

    def problems(self) -> list[Any]:
        """Return all problems."""
        return catalogues.read(self.catalogue, self.environment, self.hosts)[1]

    def plan(self) -> Any:
        """Return the plan, or raise."""
        return plans.plan(catalogues.load(self.catalogue, self.environment, self.hosts))


del_ = object()


@pytest.fixture
def stack() -> Stack:
    """A stack without mistakes."""
    return Stack()


@pytest.fixture
def remove() -> object:
    """What removes an entry when given to Stack.set."""
    return del_
