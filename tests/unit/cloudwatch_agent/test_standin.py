"""The stand-in refuses what the agent's published schema refuses, and keeps the agent's ways with its files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft4Validator

from sandbox.cloudwatch_agent import build
from sandbox.cloudwatch_agent.standin_schema import mistakes

SOURCE = Path(__file__).parents[3] / "sandbox/cloudwatch_agent"
VALID = {"agent": {"region": "ap-northeast-2"}}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stand-in's program, with a home of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/schema.json").write_text((SOURCE / "schema.json").read_text())
    monkeypatch.setenv("CWAGENT_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(SOURCE))
    spec = importlib.util.spec_from_file_location("standin_agent", SOURCE / "agent.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_agrees_with_jsonschema_on_every_sample_of_the_agent(schema: dict, samples: dict[str, Any]) -> None:
    assert len(samples) >= 60
    for name, config in samples.items():
        ours = mistakes(config, schema)
        assert bool(ours) == (not Draft4Validator(schema).is_valid(config)), (name, ours)
        assert bool(ours) == name.startswith("invalid"), (name, ours)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"agent": []}, "/agent: [] is not of type object"),
        ({"agent": {"region": ""}}, "/agent/region: shorter than 1"),
        ({"agent": {"metrics_collection_interval": 0}}, "/agent/metrics_collection_interval: 0 is less than 1"),
        ({"agent": {"metrics_collection_interval": True}}, "True is not of type integer"),
        ({"logs": {}}, "/logs: does not fit anyOf"),
        ({"logs": {"logs_collected": {"journald": {"collect_list": [{}]}}}}, "log_group_name is missing"),
        ({"logs": {"logs_collected": {"journald": {"collect_list": []}}}}, "collect_list: shorter than 1"),
        (
            {"logs": {"logs_collected": {"journald": {"collect_list": [{"log_group_name": "a", "unit": "b"}]}}}},
            "collect_list/0: unknown key unit",
        ),
        (
            {"logs": {"logs_collected": {"journald": {"collect_list": [{"log_group_name": "a"}] * 2}}}},
            "an entry stands twice",
        ),
        (
            {"logs": {"logs_collected": {"journald": {"collect_list": [{"log_group_name": "a", "priority": "x"}]}}}},
            "'x' is not one of emerg",
        ),
    ],
)
def test_it_says_where_a_mistake_is(schema: dict, config: dict[str, Any], part: str) -> None:
    assert part in "\n".join(mistakes(config, schema))
    assert not Draft4Validator(schema).is_valid(config)


def test_the_schema_uses_nothing_that_the_stand_in_does_not_know(schema: dict) -> None:
    with pytest.raises(NotImplementedError, match="format"):
        mistakes("x", {"type": "string", "format": "email"})


def write(path: Path, config: dict[str, Any]) -> str:
    path.write_text(json.dumps(config))
    return f"file:{path}"


def live(agent: ModuleType) -> list[str]:
    return [path.name for path in agent.drop_ins()]


def test_appending_keeps_the_other_configurations_and_fetching_does_not(agent: ModuleType, tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.json", VALID), write(tmp_path / "two.json", {"agent": {"debug": True}})
    agent.change("append-config", one)
    agent.change("append-config", two)
    assert live(agent) == ["file_one.json", "file_two.json"]
    assert agent.TRANSLATED.exists()
    agent.change("fetch-config", two)
    assert live(agent) == ["file_two.json"]
    agent.change("remove-config", two)
    assert live(agent) == []
    assert not agent.TRANSLATED.exists()


def test_a_refused_configuration_changes_nothing(agent: ModuleType, tmp_path: Path) -> None:
    agent.change("append-config", write(tmp_path / "one.json", VALID))
    wrong = write(tmp_path / "wrong.json", {"logs": {}})
    conflict = write(tmp_path / "conflict.json", {"agent": {"region": "us-east-1"}})
    for location, part in (
        (wrong, "/logs"),
        (conflict, "'us-east-1' in one configuration, 'ap-northeast-2' in another"),
        ("file:/none", "/none"),
        ("ssm:x", "file:"),
    ):
        with pytest.raises(ValueError, match=part):
            agent.change("append-config", location)
    assert live(agent) == ["file_one.json"]


def test_an_event_has_the_shape_of_the_agents_own(agent: ModuleType) -> None:
    entry = {"MESSAGE": '{"level":"info"}', "__REALTIME_TIMESTAMP": "1700000000123456", "__CURSOR": "s=1"}
    timestamp, message, position = agent.Journal.event(entry)
    assert (timestamp, position) == (1700000000123, "s=1")
    assert json.loads(message) == {"body": {"MESSAGE": '{"level":"info"}', "__CURSOR": "s=1"}}


def test_the_same_sources_give_the_same_package(tmp_path: Path) -> None:
    one, two = build(tmp_path / "one.deb"), build(tmp_path / "two.deb")
    assert one.read_bytes() == two.read_bytes()
    assert (tmp_path / "one.deb.sha256").read_text() == (tmp_path / "two.deb.sha256").read_text()
    show = ["dpkg-deb", "-f", str(one), "Package", "Description"]
    said = subprocess.run(show, capture_output=True, text=True, check=True)
    assert "Package: amazon-cloudwatch-agent" in said.stdout
    assert "STAND-IN" in said.stdout


def test_the_command_says_that_it_is_a_stand_in(tmp_path: Path) -> None:
    ctl = tmp_path / "amazon-cloudwatch-agent-ctl"
    ctl.symlink_to(SOURCE / "agent.py")
    said = subprocess.run([sys.executable, str(ctl), "--help"], capture_output=True, text=True, check=True).stdout
    assert "STAND-IN" in said
