"""What the agent is told, and which mistakes are refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.aws.agent import (
    MEASUREMENTS,
    merge,
    metric_name,
    monthly_cost,
    problems,
    published,
)
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters.cloudwatch_agent import (
    cloudwatch_agent_configuration,
    cloudwatch_agent_cost,
)
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator

GROUPS = {"api": "/fivepointers/test/api", "collab": "/fivepointers/test/collab", "nginx": "/fivepointers/test/nginx"}
METRICS = {
    "mem": {"measurement": ["used_percent"]},
    "disk": {"resources": ["/"], "measurement": ["used_percent"], "drop_device": True},
}
PROCESSES = {"api": "^fivepointers-api( |$)", "frontend": ""}
ACCESS = {"path": "/var/log/nginx/access.log", "log_group": GROUPS["nginx"], "timestamp_format": "%Y-%m-%dT%H:%M:%S"}


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


def test_each_service_has_its_own_process_metrics_and_files_have_none() -> None:
    entries = derive(["api", "frontend", "nginx"], processes=PROCESSES)["metrics"]["metrics_collected"]["procstat"]
    assert {entry["append_dimensions"]["Service"]: entry["pattern"] for entry in entries} == {
        "api": "^fivepointers-api( |$)",
        "nginx": "^nginx: (master|worker) process",
    }
    assert {tuple(entry["measurement"]) for entry in entries} == {("pid_count", "cpu_usage", "memory_rss")}


def test_whatever_is_measured_tells_what_it_belongs_to_and_is_there_for_all_hosts_together() -> None:
    more = {"metrics": {"metrics_collected": {"procstat": [{"pattern": "^sshd", "measurement": ["pid_count"]}]}}}
    metrics = derive(["api"], processes=PROCESSES, additional=more)["metrics"]
    assert metrics["aggregation_dimensions"] == [["Service"]]
    assert metrics["append_dimensions"] == {"InstanceId": "${aws:InstanceId}"}
    collected = metrics["metrics_collected"]
    assert collected["mem"] == {"measurement": ["used_percent"], "append_dimensions": {"Service": "host"}}
    assert [entry["pattern"] for entry in collected["procstat"]] == ["^fivepointers-api( |$)", "^sshd"]
    stated = {"mem": {"measurement": ["used"], "append_dimensions": {"Service": "memory"}}}
    kept = derive(["api"], metrics=stated)["metrics"]["metrics_collected"]["mem"]["append_dimensions"]
    assert kept == {"Service": "memory"}


def test_a_file_is_shipped_line_by_line_to_a_stream_of_its_own() -> None:
    config = derive(["nginx"], files=[ACCESS])
    assert config["logs"]["logs_collected"]["files"]["collect_list"] == [
        {
            "file_path": "/var/log/nginx/access.log",
            "log_group_name": "/fivepointers/test/nginx",
            "log_stream_name": "api-1_i-0123/access",
            "retention_in_days": 30,
            "timestamp_format": "%Y-%m-%dT%H:%M:%S",
            "timezone": "Local",
        }
    ]
    assert collected(config)["/fivepointers/test/nginx"]["units"] == ["nginx.service"]
    plain = derive([], files=[{"path": "/a.log", "log_group": "a"}], endpoint_url="http://10.0.0.9:5000")
    assert "timezone" not in plain["logs"]["logs_collected"]["files"]["collect_list"][0]
    assert plain["logs"]["endpoint_override"] == "http://10.0.0.9:5000"


def test_services_may_send_metrics_of_their_own() -> None:
    config = derive([], metrics={}, statsd="127.0.0.1:8125")
    assert config["metrics"]["metrics_collected"]["statsd"]["service_address"] == "127.0.0.1:8125"
    assert "statsd" not in derive([])["metrics"]["metrics_collected"]


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


@given(
    st.lists(st.sampled_from(sorted(GROUPS)), unique=True),
    st.sampled_from([1, 30, 3653]),
    st.sampled_from([{}, METRICS]),
    st.lists(st.sampled_from([ACCESS, {"path": "/a.log", "log_group": "a"}]), unique_by=lambda entry: entry["path"]),
    st.sampled_from(["", "127.0.0.1:8125"]),
)
def test_whatever_is_derived_fits_the_published_schema(
    schema: dict[str, Any], services: list[str], days: int, metrics: Any, files: list[dict[str, str]], statsd: str
) -> None:
    processes = {service: f"^fivepointers-{service}( |$)" for service in services}
    config = derive(services, retention_days=days, metrics=metrics, processes=processes, files=files, statsd=statsd)
    Draft4Validator(schema).validate(config)


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"retention_days": 31}, ["collect_list[0].retention_in_days: 31 is not a retention", "30, 60"]),
    ({"metrics": {"memory": {"measurement": ["used"]}}}, ["metrics_collected.memory: unknown collector"]),
    (
        {"metrics": {"mem": {"measurement": ["used_percnt"]}}},
        ["'used_percnt'; did you mean used_percent?"],
    ),
    ({"metrics": {"mem": {"measurement": ["mem_usd"]}}}, ["unknown name 'mem_usd'; did you mean mem_used?"]),
    ({"metrics": {"mem": {"measurement": [{"name": "fre"}]}}}, ["unknown name 'fre'; did you mean free?"]),
    ({"metrics": {"mem": {}}}, ["metrics_collected.mem.measurement: value is missing"]),
    ({"metrics": {"procstat": {"exe": "nginx", "measurement": ["pid"]}}}, ["procstat: must be a list of mappings"]),
    ({"metrics": {"mem": [{"measurement": ["used"]}]}}, ["mem: must be a mapping"]),
    ({"additional": {"metric": {}}}, ["metric: unknown key; did you mean metrics?"]),
    ({"additional": {"agent": {"regoin": "x"}}}, ["agent.regoin: unknown key; did you mean region?"]),
    (
        {"additional": {"logs": {"logs_collected": {"journald": {"collect_list": [{"units": ["a"]}]}}}}},
        ["journald.collect_list[1].log_group_name: value is missing"],
    ),
    ({"metrics": {"mem": {"measurement": ["x"]}}, "retention_days": 2}, ["retention_in_days", "unknown name 'x'"]),
    ({"colour": "blue"}, ["colour"]),
    ({"processes": {"api": "^api("}}, ["procstat[0].pattern: '^api(' is not a valid regular expression", "correct it"]),
    ({"processes": {"api": "^(?!x)api"}}, ["procstat[0].pattern", "no look-around"]),
    ({"processes": {"api": r"(a)\1"}}, ["procstat[0].pattern", "back references"]),
    (
        {"metrics": {"procstat": [{"exe": "nginx", "measurement": ["pid_count"]}]}},
        ["procstat[0].exe: 'nginx' would never match", "cwagent", "use pattern"],
    ),
    (
        {"metrics": {"procstat": [{"pid_file": "nginx.pid", "measurement": ["pid_count"]}]}},
        ["procstat[0].pid_file: 'nginx.pid' is not an absolute path"],
    ),
    ({"files": [{"path": "access.log", "log_group": "a"}]}, ["files.collect_list[0].file_path: 'access.log'"]),
    ({"files": [{"path": "/a.log"}]}, ["files.collect_list[0].log_group_name: value is missing"]),
    ({"files": [{"path": "/a.log", "log_group": "a b"}]}, ["log_group_name: 'a b' is not a valid name", "letters"]),
    ({"files": [ACCESS, {**ACCESS, "log_group": "b"}]}, ["/var/log/nginx/access.log is listed 2 times", "remove one"]),
    ({"files": [{**ACCESS, "timestamp_format": "%F %T"}]}, ["timestamp_format: %F, %T is not supported", "%Y"]),
    ({"log_stream": "api:1"}, ["journald.collect_list[0].log_stream_name: 'api:1'", "remove : and *"]),
    ({"namespace": "AWS/EC2"}, ["metrics.namespace: 'AWS/EC2' is rejected by CloudWatch"]),
    ({"statsd": ":8125"}, ["statsd.service_address: ':8125' accepts metrics from anyone", "127.0.0.1:8125"]),
    (
        {"additional": {"metrics": {"append_dimensions": {"Host": "api-1"}}}},
        ["metrics.append_dimensions.Host: 'api-1' is ignored by the agent", "${aws:InstanceId}"],
    ),
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


def test_root_may_look_for_programs() -> None:
    entry = {"exe": "nginx", "measurement": ["pid_count"]}
    assert derive([], metrics={"procstat": [entry]}, user="root")["metrics"]["metrics_collected"]["procstat"] == [entry]


def test_metrics_are_counted_as_cloudwatch_counts_them() -> None:
    config = derive(["api", "nginx"], processes=PROCESSES)
    counted = published(config)
    # mem and disk, and three of each of api and nginx.
    assert counted["own"] == 2 + 2 * 3
    assert counted["shared"] == sorted(
        [f"{name} Service=host" for name in ("mem_used_percent", "disk_used_percent")]
        + [
            f"{name} Service={service}"
            for name in ("procstat_lookup_pid_count", "procstat_cpu_usage", "procstat_memory_rss")
            for service in ("api", "nginx")
        ]
    )
    two = published(derive(["api"], metrics={"disk": {"measurement": ["free", "used"], "resources": ["/", "/srv"]}}))
    assert (two["own"], len(two["shared"])) == (4, 2)
    assert published(derive([], metrics={})) == {"own": 0, "shared": []}


@pytest.mark.parametrize(
    ("count", "usd"), [(0, 0), (1, 0.30), (10_000, 3000), (10_001, 3000.10), (250_000, 27_000), (1_000_010, 64_500.2)]
)
def test_the_price_falls_with_the_number(count: int, usd: float) -> None:
    assert monthly_cost([{"own": count, "shared": []}])["usd"] == usd


def test_what_hosts_share_is_paid_once() -> None:
    hosts = [published(derive(["api", "nginx"], processes=PROCESSES))] * 2
    assert monthly_cost(hosts)["metrics"] == 2 * 8 + 8
    said = cloudwatch_agent_cost(hosts)
    assert said.startswith("2 hosts publish 24 metrics: about 7.20 USD a month (list prices of us-east-1")
    assert "logs, 0.50 USD per ingested GB" in said


def test_names_are_those_of_cloudwatch() -> None:
    assert metric_name("mem", "used_percent") == metric_name("mem", "mem_used_percent") == "mem_used_percent"
    assert metric_name("procstat", "pid_count") == "procstat_lookup_pid_count"


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.lists(st.integers()))))
def test_merging_nothing_changes_nothing(config: dict[str, Any]) -> None:
    assert merge(config, {}) == config == merge({}, config)


def test_names_may_stand_with_their_collector_in_front() -> None:
    for collector, names in MEASUREMENTS.items():
        entry = {"measurement": [*names, *(f"{collector}_{name}" for name in names)]}
        content = [entry] if collector == "procstat" else entry
        assert problems({"metrics": {"metrics_collected": {collector: content}}}) == []
