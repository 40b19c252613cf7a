# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The repository's own catalogue and environments fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.fivepointers.platform.plugins.lookup.catalogue import read_catalogue
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as catalogues

from sandbox import endpoints, engines, plan

INVENTORIES = Path(__file__).resolve().parents[3] / "inventories"
SANDBOX = {
    "domain": "sandbox.test",
    "edge": "10.0.0.1",
    "subnet": "10.0.0.0/24",
    "database": {"host": "10.0.0.9", "port": 3306},
    "ca_file": "/state/tls/ca.pem",
    **endpoints.servers(plan.servers(), engines.parts(plan.servers()), "sandbox"),
    "nodejs": {"24": {"version": "24.21.0", "url": "file:///x", "sha256": "0"}},
}


@pytest.mark.parametrize("provisioned", [True, False])
@pytest.mark.parametrize("name", ["sandbox", "development", "staging", "production"])
def test_the_catalogue_fits_each_environment(name: str, provisioned: bool, template: Any) -> None:
    variables: dict[str, Any] = {}
    for file in sorted((INVENTORIES / name / "group_vars" / "all").glob("*.yml")):
        variables.update(DataLoader().load_from_file(str(file), trusted_as_template=True))
    variables.update(platform_sandbox={**SANDBOX, "provisioned": provisioned}, platform_sandbox_state="/state")
    environment = template("{{ platform_environment }}", variables)
    if name in ("sandbox", "development"):
        assert bool(environment["aws"]) == provisioned
    catalogue = read_catalogue(str(INVENTORIES / "services.yml"))
    assert catalogues.read(catalogue, environment)[1] == []
    names = list(catalogue["services"])
    single = {"dev-1": {"address": "10.0.0.1", "services": ["edge", *names]}}
    spread = {
        f"{service}-1": {"address": f"10.0.0.{number}", "services": [service]}
        for number, service in enumerate(["edge", *names], 1)
    }
    for hosts in (single, spread):
        assert catalogues.read(catalogue, environment, hosts)[1] == []
