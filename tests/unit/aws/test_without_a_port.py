# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A kind that listens on nothing: checks, flows, alarms, graphs and the picture ask for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import Report
from ansible_collections.fivepointers.platform.plugins.plugin_utils import checks
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS, Kind
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.picture import topology
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import flows
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision import monitoring


@pytest.fixture
def model(load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> Model:
    """The repository's stack, in which collab listens on nothing."""
    monkeypatch.setitem(KINDS, "silent", Kind(name="silent", layout="node", listens="nothing"))
    made = load(monitoring={})
    made.services["collab"].update(kind="silent", port=None, public=[], url=None, internal_url="")
    for service in made.services.values():
        service["needs"] = [other for other in service["needs"] if other != "collab"]
    return made


def test_it_has_no_alarm_or_graph_of_requests(model: Model) -> None:
    settings = model.environment["aws"]["monitoring"]
    names = {item["name"] for item in monitoring.service_alarms(model, "collab", settings)}
    assert names == {"staging-collab/not-running", "staging-collab/application-errors"}
    (graph,) = monitoring.service_row(model, "collab")
    assert graph["properties"]["title"] == "collab: errors logged"


def test_the_picture_draws_no_port(model: Model) -> None:
    assert ">silent<" in topology.picture(model)
    assert "silent :" not in topology.picture(model)
    assert not [flow for flow in flows.flows(model) if flow.target == "collab"]


def test_no_service_may_need_it(model: Model) -> None:
    report: Any = Report()
    checks.check_needs(report, model)
    assert not report.problems
    model.services["collab"]["needs"] = []
    model.services["api"]["needs"].append("collab")
    checks.check_needs(report, model)
    assert [(item.path, item.problem) for item in report.problems] == [
        ("services.api.needs", "'collab' listens on nothing, so nothing can call it")
    ]
