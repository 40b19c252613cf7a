# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The module's arguments and answers, and what the filter hands to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.testing import patch_module_args
from ansible_collections.fivepointers.platform.plugins.modules import build
from ansible_collections.fivepointers.platform.plugins.plugin_utils.filters.planning import build_specs

from .conftest import MAJOR

ENVIRONMENT = {
    "name": "sandbox",
    "domain": "example.com",
    "region": "ap-northeast-2",
    "tls": {"mode": "load_balancer"},
    "databases": {},
}


@pytest.fixture
def call(
    project: Path, builder: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Run the module as Ansible does; returns its answer."""

    def run(check: bool = False, module: dict[str, Any] | None = None, **service: Any) -> dict[str, Any]:
        args = {
            "service": {
                "name": "api",
                "layout": "node",
                "source": str(project),
                "command": "compile",
                "output": "dist",
                "node": MAJOR,
                **service,
            },
            "artifacts": str(tmp_path / "artifacts"),
            "cache": str(tmp_path / "cache"),
            "_ansible_check_mode": check,
            **(module or {}),
        }
        capfd.readouterr()
        with patch_module_args(args), pytest.raises(SystemExit):
            build.main()
        answer = json.loads(capfd.readouterr().out)
        assert isinstance(answer, dict)
        return answer

    return run


def test_a_project_that_asks_for_another_runtime_is_told(call: Callable[..., dict[str, Any]], project: Path) -> None:
    assert call(check=True)["warnings"] == []
    (project / ".nvmrc").write_text("3")
    (told,) = call(check=True)["warnings"]
    assert told.startswith("api: .nvmrc asks for Node.js 3, and the catalogue has ")


def test_check_mode_tells_the_truth(call: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    would = call(check=True)
    assert would["changed"]
    assert would["built"]
    assert would["summary"] == f"api {would['id']}: would be built (there is no artifact yet)"
    assert not (tmp_path / "artifacts").exists()
    done = call()
    assert done["changed"]
    assert done["id"] == would["id"]
    assert Path(done["archive"]).is_file()
    assert done["diff"] == {"before": "api none\n", "after": f"api {done['id']}\n"}
    for check in (True, False):
        again = call(check=check)
        assert not again["changed"]
        assert not again["built"]
        assert again["summary"].startswith(f"api {done['id']}: unchanged")
    assert call(check=True, environment={"A": "b"})["reason"] == "environment differs from the latest artifact"


def test_a_failure_is_one_sentence_for_people(call: Callable[..., dict[str, Any]]) -> None:
    answer = call(command="exit 4")
    assert answer["failed"]
    assert not answer["changed"]
    assert "'exit 4' failed with status 4" in answer["msg"]
    assert "Traceback" not in answer["msg"]


def test_the_documentation_has_every_option() -> None:
    documented = yaml.safe_load(build.DOCUMENTATION)["options"]["service"]["suboptions"]
    assert {name: option.get("default") for name, option in documented.items()} == {
        name: option.get("default") for name, option in build.SERVICE_OPTIONS.items()
    }


CATALOGUE = {
    "services": {
        "api": {
            "kind": "nestjs_api",
            "port": 3001,
            "health": "/health",
            "public": [{"host": "api"}],
            "build": {"source": "../mono/api", "workspace": ".."},
        },
        "web": {
            "kind": "static_frontend",
            "public": [{"host": "@"}],
            "needs": ["api"],
            "build": {"source": "/src/web", "environment": {"VITE_API": "${api.url}/v1", "COST": "$$5"}},
        },
        "relay": {"kind": "yjs_websocket", "port": 3003, "public": [{"host": "ws"}]},
    },
}


def test_what_is_to_be_built() -> None:
    api, web = build_specs(CATALOGUE, ENVIRONMENT, "/repo/inventories/services.yml")
    assert api["source"] == "/repo/mono/api"
    assert api["workspace"] == "/repo/mono"
    assert api["start"] == ["node", "dist/main.js"]
    assert api["output"] == "dist"
    assert "command" not in api
    assert (api["layout"], api["script"], api["script_required"]) == ("node", "build", True)
    assert web["layout"] == "static"
    assert web["source"] == "/src/web"
    assert web["environment"] == {"VITE_API": "https://api.example.com/v1", "COST": "$5"}
    assert set(api) <= set(build.SERVICE_OPTIONS)


def test_a_workspace_may_be_written_like_the_source() -> None:
    services = {"api": {**CATALOGUE["services"]["api"], "build": {"source": "../../m/api", "workspace": "../../m"}}}
    (api,) = build_specs({"services": services}, ENVIRONMENT, "/x/y/inventories/services.yml")
    assert (api["source"], api["workspace"]) == ("/x/m/api", "/x/m")


@pytest.mark.parametrize(
    "choice, names",
    [
        ({}, ["api", "web"]),
        ({"service": "web"}, ["web"]),
        ({"service": "web, api"}, ["api", "web"]),
        ({"service": "web,api", "tags": ["nestjs_api"]}, ["api"]),
        ({"tags": ["all"]}, ["api", "web"]),
        ({"tags": ["build"]}, ["api", "web"]),
        ({"tags": ["nestjs_api"]}, ["api"]),
        ({"tags": ["yjs_websocket"]}, []),
    ],
)
def test_what_is_chosen(choice: dict[str, Any], names: list[str]) -> None:
    assert [item["name"] for item in build_specs(CATALOGUE, ENVIRONMENT, "/x", **choice)] == names


@pytest.mark.parametrize(
    "service, words", [("api,apy", "'apy' is not in the catalogue"), ("relay", "has no build.source")]
)
def test_what_cannot_be_chosen(service: str, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words) as error:
        build_specs(CATALOGUE, ENVIRONMENT, "/x", service)
    assert "api, web" in str(error.value)


def test_a_wrong_catalogue_is_refused_as_a_whole() -> None:
    wrong = {"services": {"api": {**CATALOGUE["services"]["api"], "kind": "nest"}}}
    with pytest.raises(AnsibleFilterError, match=r"services\.api\.kind"):
        build_specs(wrong, ENVIRONMENT, "/x")


def specs_with(build: dict[str, Any]) -> list[dict[str, Any]]:
    """What is built if the API has more keys in its build."""
    api = CATALOGUE["services"]["api"]
    services = {**CATALOGUE["services"], "api": {**api, "build": {**api["build"], **build}}}
    return build_specs({**CATALOGUE, "services": services}, ENVIRONMENT, "/repo/inventories/services.yml")


def test_secrets_of_a_build_are_handed_over_as_references() -> None:
    api, web = specs_with({"secrets": {"NPM_TOKEN": {"ssm": "/npm"}}})
    assert api["secrets"] == [{"name": "NPM_TOKEN", "ssm": "/npm", "region": "ap-northeast-2"}]
    assert "secrets" not in web


@pytest.mark.parametrize(
    "build, problem",
    [
        ({"secrets": {"NPM_TOKEN": "npm_abc"}}, r"build\.secrets\.NPM_TOKEN(.|\n)*this is not a reference to a secret"),
        ({"secrets": {"A": {"ssm": "/a"}}, "environment": {"A": "1"}}, r"'A' is also set in build\.environment"),
    ],
)
def test_a_secret_in_plain_text_is_no_reference(build: dict[str, Any], problem: str) -> None:
    with pytest.raises(AnsibleFilterError, match=problem) as error:
        specs_with(build)
    assert "npm_abc" not in str(error.value)


@pytest.mark.parametrize("off", ["off", False])
def test_isolation_is_switched_off_however_yaml_reads_off(
    call: Callable[..., dict[str, Any]], project: Path, tmp_path: Path, off: Any
) -> None:
    """A variable in a file is a boolean, one of the command line is text. A secret is in no answer."""
    command = f"mkdir -p dist; cd dist; ls -d {project} > main.js"
    done = call(command=command, secrets={"TOKEN": "canary-of-the-test"}, module={"isolation": off})
    assert done["built"] and "canary" not in json.dumps(done)
    assert "failed with status 2" in call(command=command + " 2> seen")["msg"], "an isolated build saw the source"
