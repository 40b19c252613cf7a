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

from sandbox.cloudwatch import patterns


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


def test_what_runs_by_a_schedule_has_alarms_for_its_runs(
    load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly = Kind(name="nightly", layout="node", listens="nothing", handover="schedule")
    monkeypatch.setitem(KINDS, "nightly", nightly)
    made = load(monitoring={})
    made.services["collab"].update(kind="nightly", port=None, public=[], url=None, overdue=25, schedule="daily")
    settings = made.environment["aws"]["monitoring"]
    alarms = {item["name"]: item for item in monitoring.service_alarms(made, "collab", settings)}
    assert set(alarms) == {"staging-collab/failed", "staging-collab/overdue", "staging-collab/application-errors"}
    overdue = alarms["staging-collab/overdue"]
    assert (overdue["period"], overdue["evaluation_periods"]) == (3600, 25)
    assert overdue["treat_missing_data"] == "breaching"
    made.services["collab"]["overdue"] = 0
    assert "staging-collab/overdue" not in {
        item["name"] for item in monitoring.service_alarms(made, "collab", settings)
    }
    ended = [item for item in monitoring.metric_filters(made) if item["name"].startswith("staging-runs")]
    line = {"body": {"MESSAGE": "run ended: exit-code 1", "SYSLOG_IDENTIFIER": "collab"}}
    well = {"body": {"MESSAGE": "run ended: success 0", "SYSLOG_IDENTIFIER": "collab"}}
    counted = {
        item["metric_transformation"]["metric_value"]: [
            patterns.compile_pattern(item["pattern"])(text) for text in (line, well)
        ]
        for item in ended
    }
    assert counted == {"0": [True, True], "1": [True, False]}
