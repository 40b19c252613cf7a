"""When the agent is given its configuration, and when it is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.fivepointers.platform.plugins.modules import cloudwatch_agent_config as module

CONFIG = {"agent": {"region": "ap-northeast-2"}}
FINE = module.Found(installed=True, live=CONFIG, translated=True, active=True, enabled=True, missing_groups=())


@pytest.mark.parametrize(
    ("found", "apply", "start"),
    [
        (FINE, [], []),
        (replace(FINE, installed=False, live=None, active=False), ["the agent is not installed yet"], []),
        (replace(FINE, live=None), ["the agent does not have this configuration"], []),
        (replace(FINE, live={}), ["the agent is running with another configuration"], []),
        (replace(FINE, translated=False), ["the agent has not translated its configuration"], []),
        (replace(FINE, missing_groups=("a", "b")), ["cwagent is not a member of a, b"], []),
        (replace(FINE, active=False), [], ["the agent is not running"]),
        (replace(FINE, enabled=False), [], ["the agent does not start at boot"]),
    ],
)
def test_the_plan_names_each_reason(found: module.Found, apply: list[str], start: list[str]) -> None:
    assert module.plan(found, CONFIG, "cwagent") == (apply, start)


class Host:
    """A host of files in a temporary directory, with a control command and a systemctl that note their calls."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.calls = path / "calls"
        self.calls.touch()
        (path / "path").mkdir()
        self._program(
            path / "path/systemctl",
            f"""
              case "$1" in
                is-*) test -e {path}/running ;;
                enable) touch {path}/running ;;
                status) echo it is dead; exit 3 ;;
              esac""",
        )
        monkeypatch.setenv("PATH", f"{path / 'path'}:/usr/bin:/bin")

    def _program(self, file: Path, body: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "$(basename $0) $*" >> {self.calls}\n{body}\n')
        file.chmod(0o755)

    def install(self, fails: bool = False, dies: bool = False) -> None:
        etc = self.path / "agent/etc"
        (etc / "amazon-cloudwatch-agent.d").mkdir(parents=True)
        self._program(
            self.path / "agent/bin/amazon-cloudwatch-agent-ctl",
            "echo the region is missing; exit 1"
            if fails
            else f"""
              source="${{6#file:}}"
              cp "$source" {etc}/amazon-cloudwatch-agent.d/file_"$(basename "$source")"
              touch {etc}/amazon-cloudwatch-agent.toml
              {"true" if dies else f"touch {self.path}/running"}""",
        )

    def run(self, capsys: pytest.CaptureFixture[str], check: bool = False, **arguments: Any) -> dict[str, Any]:
        self.calls.write_text("")
        given = {
            "configuration": CONFIG,
            "agent_directory": str(self.path / "agent"),
            "source_directory": str(self.path / "etc"),
            "state_directory": str(self.path / "state"),
            "groups": [],
            "_ansible_check_mode": check,
            "_ansible_diff": True,
        }
        with patch_module_args({**given, **arguments}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    def handed_over(self) -> bool:
        return "amazon-cloudwatch-agent-ctl -a append-config" in self.calls.read_text()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "etc").mkdir()
    return Host(tmp_path, monkeypatch)


def test_the_second_run_leaves_the_agent_alone(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.install()
    first = host.run(capsys)
    assert first["changed"]
    assert first["restarted"]
    assert host.handed_over()
    assert '"region": "ap-northeast-2"' in first["diff"][0]["after"]
    second = host.run(capsys)
    assert not second["changed"]
    assert second["reasons"] == []
    assert not host.handed_over()


def test_what_someone_else_fetched_is_noticed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.install()
    host.run(capsys)
    (host.path / "agent/etc/amazon-cloudwatch-agent.d/file_fivepointers.json").unlink()
    said = host.run(capsys)
    assert said["reasons"] == ["the agent does not have this configuration"]
    assert host.handed_over()


def test_a_stopped_agent_is_started_without_handing_over(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.install()
    host.run(capsys)
    (host.path / "running").unlink()
    said = host.run(capsys)
    assert said["changed"]
    assert not said["restarted"]
    assert not host.handed_over()
    assert "systemctl enable --now" in host.calls.read_text()


def test_check_mode_says_what_would_be_done_and_does_nothing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    said = host.run(capsys, check=True)
    assert said["changed"]
    assert said["reasons"] == ["the agent is not installed yet"]
    assert not (host.path / "etc/cloudwatch_agent").exists()
    host.install()
    assert host.run(capsys, check=True)["restarted"]
    assert not host.handed_over()
    host.run(capsys)
    assert not host.run(capsys, check=True)["changed"]


def test_without_the_agent_it_says_what_to_do(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Install the package" in host.run(capsys)["msg"]


def test_a_refused_configuration_is_reported_and_taken_back(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.install(fails=True)
    said = host.run(capsys)
    assert said["failed"]
    assert "the region is missing" in said["msg"]
    assert not (host.path / "etc/cloudwatch_agent/fivepointers.json").exists()


def test_an_agent_that_dies_is_a_failure(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.install(dies=True)
    said = host.run(capsys)
    assert said["failed"]
    assert "it is dead" in said["msg"]
