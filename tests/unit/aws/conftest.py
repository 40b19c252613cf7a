# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The catalogue of the repository, an environment in AWS, and an account of its own in the test's process."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import moto
import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model

from tests.unit.catalogue import catalogue

# Each session of botocore reads what describes the services, which is half the time of a module. Here, all share it.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

ROOT = Path(__file__).resolve().parents[3]
REGION = "ap-northeast-2"
ENVIRONMENT: dict[str, Any] = {
    "name": "staging",
    "domain": "example.com",
    "region": REGION,
    "tls": {"mode": "load_balancer", "trusted": ["10.0.0.0/16"]},
    "databases": {
        "database": {
            "host": "db.internal",
            "name": "app",
            "user": "app",
            "password": {"secretsmanager": "fivepointers/staging/database"},
            "max_connections": 150,
        }
    },
    "secrets": {"jwt": {"secretsmanager": "fivepointers/staging/jwt"}},
    "aws": {},
}


@pytest.fixture
def services() -> dict[str, Any]:
    """The repository's catalogue."""
    return catalogue()


@pytest.fixture
def environment() -> dict[str, Any]:
    """An environment behind a load balancer, to be changed by a test."""
    return copy.deepcopy(ENVIRONMENT)


@pytest.fixture
def load(services: dict[str, Any], environment: dict[str, Any]) -> Callable[..., Model]:
    """Load the model of catalogue and environment, with these settings of `aws`."""

    def model(**aws: Any) -> Model:
        return loading.load(services, {**environment, "aws": aws})

    return model


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty account of moto, in this process."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "SANDBOX123"),
        ("AWS_SECRET_ACCESS_KEY", "unusual-secret-1"),
        ("AWS_DEFAULT_REGION", REGION),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        yield
