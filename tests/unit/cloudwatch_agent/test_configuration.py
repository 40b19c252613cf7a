"""What the agent is told, and which mistakes are refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.filter.cloudwatch_agent_configuration import (
    cloudwatch_agent_configuration,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.cloudwatch_agent import (
    MEASUREMENTS,
    merge,
    problems,
)
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator

GROUPS = {"api": "/fivepointers/test/api", "collab": "/fivepointers/test/collab", "nginx": "/fivepointers/test/nginx"}
METRICS = {
    "mem": {"measurement": ["used_percent"]},
    "disk": {"resources": ["/"], "measurement": ["used_percent"], "drop_device": True},
    "procstat": [{"exe": "nginx", "measurement": ["cpu_usage", "memory_rss"]}],
}


def derive(services: list[str], **changes: Any) -> dict[str, Any]:
    arguments = {
        "log_groups": GROUPS,
        "region": "ap-northeast-2",
        "log_stream": "api-1_i-0123",
        "retention_days": 30,
        "namespace": "FivePointers/test",
        "metrics": METRICS,
    }
    return cloudwatch_agent_configuration(services, **{**arguments, **changes})


def collected(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["log_group_name"]: entry for entry in config["logs"]["logs_collected"]["journald"]["collect_list"]}


def test_each_service_of_the_host_has_its_log_group() -> None:
    entries = collected(derive(["api", "nginx"]))
    assert sorted(entries) == ["/fivepointers/test/api", "/fivepointers/test/nginx"]
    assert entries["/fivepointers/test/api"] == {
        "log_group_name": "/fivepointers/test/api",
        "log_stream_name": "api-1_i-0123",
        "retention_in_days": 30,
        "units": ["fivepointers-api@blue.service", "fivepointers-api@green.service"],
    }
    assert entries["/fivepointers/test/nginx"]["units"] == ["nginx.service"]


def test_a_host_without_services_collects_no_logs() -> None:
    assert "logs" not in derive([])
    assert "metrics" not in derive([], metrics={})


def test_an_endpoint_of_ones_own_is_used_for_logs_and_metrics() -> None:
    config = derive(["api"], endpoint_url="http://10.0.0.9:5000")
    assert config["logs"]["endpoint_override"] == config["metrics"]["endpoint_override"] == "http://10.0.0.9:5000"
    assert "endpoint_override" not in derive(["api"])["logs"]


def test_additions_are_merged_and_lists_are_appended() -> None:
    auth = {"log_group_name": "/fivepointers/test/ssh", "units": ["ssh.service"]}
    more = {"agent": {"debug": True}, "logs": {"logs_collected": {"journald": {"collect_list": [auth]}}}}
    config = derive(["api"], additional=more)
    assert set(collected(config)) == {"/fivepointers/test/api", "/fivepointers/test/ssh"}
    assert config["agent"]["debug"] is True
    assert config["agent"]["region"] == "ap-northeast-2"


@given(st.lists(st.sampled_from(sorted(GROUPS)), unique=True), st.sampled_from([1, 30, 3653]), st.booleans())
def test_whatever_is_derived_fits_the_published_schema(
    schema: dict[str, Any], services: list[str], days: int, metrics: bool
) -> None:
    config = derive(services, retention_days=days, metrics=METRICS if metrics else {})
    Draft4Validator(schema).validate(config)


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"retention_days": 31}, ["collect_list[0].retention_in_days: 31 is not a time", "30, 60"]),
    ({"metrics": {"memory": {"measurement": ["used"]}}}, ["metrics_collected.memory: unknown collector"]),
    (
        {"metrics": {"mem": {"measurement": ["used_percnt"]}}},
        ["'used_percnt'; did you mean used_percent?"],
    ),
    ({"metrics": {"mem": {"measurement": ["mem_usd"]}}}, ["unknown name 'mem_usd'; did you mean mem_used?"]),
    ({"metrics": {"mem": {"measurement": [{"name": "fre"}]}}}, ["unknown name 'fre'; did you mean free?"]),
    ({"metrics": {"mem": {}}}, ["metrics_collected.mem.measurement: missing"]),
    ({"metrics": {"procstat": {"exe": "nginx", "measurement": ["pid"]}}}, ["procstat: must be a list of mappings"]),
    ({"metrics": {"mem": [{"measurement": ["used"]}]}}, ["mem: must be a mapping"]),
    ({"additional": {"metric": {}}}, ["metric: unknown key; did you mean metrics?"]),
    ({"additional": {"agent": {"regoin": "x"}}}, ["agent.regoin: unknown key; did you mean region?"]),
    (
        {"additional": {"logs": {"logs_collected": {"journald": {"collect_list": [{"units": ["a"]}]}}}}},
        ["journald.collect_list[1].log_group_name: missing"],
    ),
    ({"metrics": {"mem": {"measurement": ["x"]}}, "retention_days": 2}, ["retention_in_days", "unknown name 'x'"]),
    ({"colour": "blue"}, ["colour"]),
]


@pytest.mark.parametrize(("changes", "parts"), WRONG, ids=[str(changes) for changes, _ in WRONG])
def test_mistakes_are_refused_with_their_place_and_the_fix(changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        derive(["api"], **changes)
    assert [part for part in parts if part not in str(refused.value)] == []


def test_the_published_schema_lets_these_mistakes_pass(schema: dict[str, Any]) -> None:
    """Why we check them ourselves. Where the schema becomes stricter, our check may go."""
    for config in (
        {"metric": {}},
        {"agent": {"regoin": "x"}},
        {"metrics": {"metrics_collected": {"mem": {"measurement": ["used_percnt"]}}}},
    ):
        assert Draft4Validator(schema).is_valid(config)
        assert problems(config)


def test_no_valid_sample_of_the_agent_is_refused(samples: dict[str, Any]) -> None:
    for name, config in samples.items():
        if name.startswith("valid") and name != "validWindowsMetrics.json":
            assert problems(config) == [], name


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.lists(st.integers()))))
def test_merging_nothing_changes_nothing(config: dict[str, Any]) -> None:
    assert merge(config, {}) == config == merge({}, config)


def test_names_may_stand_with_their_collector_in_front() -> None:
    for collector, names in MEASUREMENTS.items():
        entry = {"measurement": [*names, *(f"{collector}_{name}" for name in names)]}
        content = [entry] if collector == "procstat" else entry
        assert problems({"metrics": {"metrics_collected": {collector: content}}}) == []
