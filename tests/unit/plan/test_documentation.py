# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""docs/catalogue.md says what the code does: every key stands there, and every example is accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogues
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue import keys as catalogue_keys
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import SERVERS, Engine, Store
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.values import SECRET_SOURCES
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import variables
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.variables import (
    ENVIRONMENT_FACTS,
    SERVICE_FACTS,
)

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "catalogue.md").read_text()
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)]


def words_in_code() -> set[str]:
    """Return every word of the document that is written as code."""
    spans = re.findall(r"`([^`\n]+)`", TEXT)
    return {word for span in spans for word in re.findall(r"[A-Za-z_][A-Za-z_0-9]*", span)}


@pytest.mark.parametrize(
    "table",
    [
        catalogue_keys.SERVICE_KEYS,
        catalogue_keys.HEALTH_KEYS,
        catalogue_keys.KEEP_KEYS,
        catalogue_keys.DEPLOYMENT_KEYS,
        catalogue_keys.BUDGET_KEYS,
        catalogue_keys.BUILD_KEYS,
        catalogue_keys.PUBLIC_KEYS,
        catalogue_keys.DATABASE_KEYS,
        catalogue_keys.STEP_KEYS,
        catalogue_keys.TLS_KEYS,
        catalogue_keys.ACCESS_KEYS,
        catalogue_keys.STORE_KEYS,
        catalogue_keys.STORE_ACCESS_KEYS,
        SERVERS,
        catalogue_keys.CORS_KEYS,
        catalogue_keys.ENVIRONMENT_KEYS,
        KINDS,
        SECRET_SOURCES,
        dict.fromkeys(catalogue_keys.OVERRIDABLE),
        dict.fromkeys(SERVICE_FACTS + Engine.facts + Store.facts + ENVIRONMENT_FACTS),
    ],
)
def test_every_key_is_documented(table: dict[str, Any]) -> None:
    assert set(table) - words_in_code() == set()


def test_every_derived_variable_is_documented(stack: Any) -> None:
    model = catalogues.load(stack.catalogue, stack.environment, stack.hosts)
    derived = {
        name for service in ("api", "sites", "frontend") for name in variables.derived_environment(model, service)
    }
    assert derived - {"COLLAB_URL"} - words_in_code() == set()


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_is_accepted(number: int, stack: Any) -> None:
    example = EXAMPLES[number]
    stack.hosts = None
    if "platform_environment" in example:
        stack.environment = example["platform_environment"]
    elif "services" in example:
        stack.catalogue = {"databases": {}, **example}
        if not stack.catalogue["databases"]:
            stack.environment["databases"] = {}
        stack.environment["stores"] = {name: {"host": "store.internal"} for name in example.get("stores", {})}
    else:
        stack.set("c.journeys", example["journeys"])
    assert stack.problems() == []


@pytest.mark.parametrize(
    "key, default",
    [
        ("node", '`"24"`'),
        ("pool", "10"),
        ("timeout", "60"),
        ("body_limit", "`1m`"),
        ("memory", "`1G`"),
        ("cors", "`edge`"),
    ],
)
def test_defaults_are_those_of_the_code(key: str, default: str) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{key}` |"))
    assert row.split("|")[3].strip() == default
    assert str(catalogue_keys.SERVICE_KEYS[key].default) == default.strip('`"')
