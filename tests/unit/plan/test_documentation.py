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
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.values import SECRET_SOURCES
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as planning

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "catalogue.md").read_text()
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)]


def words_in_code() -> set[str]:
    """Return every word of the document that is written as code."""
    spans = re.findall(r"`([^`\n]+)`", TEXT)
    return {word for span in spans for word in re.findall(r"[A-Za-z_][A-Za-z_0-9]*", span)}


@pytest.mark.parametrize(
    "table",
    [
        catalogues.SERVICE_KEYS,
        catalogues.HEALTH_KEYS,
        catalogues.KEEP_KEYS,
        catalogues.DEPLOYMENT_KEYS,
        catalogues.BUDGET_KEYS,
        catalogues.BUILD_KEYS,
        catalogues.PUBLIC_KEYS,
        catalogues.DATABASE_KEYS,
        catalogues.STEP_KEYS,
        catalogues.TLS_KEYS,
        catalogues.ACCESS_KEYS,
        catalogues.CORS_KEYS,
        catalogues.ENVIRONMENT_KEYS,
        KINDS,
        SECRET_SOURCES,
        dict.fromkeys(catalogues.OVERRIDABLE),
        dict.fromkeys(planning.SERVICE_FACTS + planning.DATABASE_FACTS + planning.ENVIRONMENT_FACTS),
    ],
)
def test_every_key_is_documented(table: dict[str, Any]) -> None:
    assert set(table) - words_in_code() == set()


def test_every_derived_variable_is_documented(stack: Any) -> None:
    model = catalogues.load(stack.catalogue, stack.environment, stack.hosts)
    variables = {
        name for service in ("api", "sites", "frontend") for name in planning.derived_environment(model, service)
    }
    assert variables - {"COLLAB_URL"} - words_in_code() == set()


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
    else:
        stack.set("c.journeys", example["journeys"])
    assert stack.problems() == []


@pytest.mark.parametrize(
    "key, default",
    [
        ("node", '`"24"`'),
        ("pool", "10"),
        ("drain", "10"),
        ("body_limit", "`1m`"),
        ("memory", "`1G`"),
        ("cors", "`edge`"),
    ],
)
def test_defaults_are_those_of_the_code(key: str, default: str) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{key}` |"))
    assert row.split("|")[3].strip() == default
    assert str(catalogues.SERVICE_KEYS[key].default) == default.strip('`"')
