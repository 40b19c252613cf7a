# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The inventory: whom it finds, what it keeps, what it refuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.aws import recorder

pytestmark = pytest.mark.slow
CONFIG = "plugin: fivepointers.platform.aws_ec2\nenvironment: staging\nregions: [ap-northeast-2]\n"
CACHE = "cache: true\ncache_plugin: ansible.builtin.jsonfile\ncache_connection: {folder}/cache\ncache_timeout: 600\n"


@pytest.fixture
def api() -> Iterator[recorder.Api]:
    with recorder.Api() as found:
        yield found


def launch(api: recorder.Api, **tags: str) -> str:
    """Run an instance, and return its id."""
    found = {"Platform": "fivepointers", "Environment": "staging", **tags}
    specification = {"ResourceType": "instance", "Tags": [{"Key": key, "Value": found[key]} for key in found]}
    done = api.client("ec2").run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=[specification]
    )
    return str(done["Instances"][0]["InstanceId"])


def ask(
    api: recorder.Api, folder: Path, config: str = CONFIG, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Have the inventory listed."""
    path = folder / "aws_ec2.yml"
    path.write_text(config.replace("{folder}", str(folder)))
    return api.run("ansible-inventory", "-i", str(path), "--list", *arguments, **environment)


def listed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what was listed. What is marked as no template is a text."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout, object_hook=lambda it: it.get("__ansible_unsafe", it))
    return found


def names(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the names of the hosts, before the ids."""
    return {name.split("_")[0] for name in listed(done)["_meta"]["hostvars"]}


def test_hosts_are_the_running_instances_of_the_environment_in_groups_by_service(
    api: recorder.Api, tmp_path: Path
) -> None:
    ids = [launch(api, Name="web", Services="edge, api"), launch(api, Name="web", Services="api")]
    launch(api, Name="other", Services="api", Environment="production")
    launch(api, Name="foreign", Services="api", Platform="another")
    api.client("ec2").stop_instances(InstanceIds=[launch(api, Name="stopped", Services="api")])
    found = listed(ask(api, tmp_path))
    both, one = f"web_{ids[0]}", f"web_{ids[1]}"
    assert found["service_edge"]["hosts"] == [both]
    assert sorted(found["service_api"]["hosts"]) == sorted([both, one])
    assert set(found["platform"]["children"]) == {"service_edge", "service_api"}
    assert set(found["_meta"]["hostvars"]) == {both, one}
    variables = found["_meta"]["hostvars"][both]
    (reservation,) = api.client("ec2").describe_instances(InstanceIds=ids[:1])["Reservations"]
    (instance,) = reservation["Instances"]
    assert {name: value for name, value in variables.items() if name.startswith("aws_")} == {
        "aws_availability_zone": instance["Placement"]["AvailabilityZone"],
        "aws_instance_id": ids[0],
        "aws_instance_type": instance["InstanceType"],
        "aws_private_ip_address": instance["PrivateIpAddress"],
        "aws_tags": {"Environment": "staging", "Name": "web", "Platform": "fivepointers", "Services": "edge, api"},
    }


def test_a_tag_that_looks_like_a_template_stays_text(api: recorder.Api, tmp_path: Path) -> None:
    launch(api, Name="web", Services="api", Note="{{ 6 * 7 }}")
    for _times in range(2):
        (variables,) = listed(ask(api, tmp_path, CONFIG + CACHE))["_meta"]["hostvars"].values()
        assert variables["aws_tags"]["Note"] == "{{ 6 * 7 }}"


def test_instances_that_nothing_runs_on_are_all_named(api: recorder.Api, tmp_path: Path) -> None:
    launch(api, Name="web", Services="api")
    ids = [launch(api, Name="bare"), launch(api, Name="empty", Services=" , ")]
    done = ask(api, tmp_path)
    assert done.returncode != 0
    told = " ".join(done.stderr.split())
    assert f"No tag Services, or an empty one: bare_{ids[0]}, empty_{ids[1]}. It names what runs" in told


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (CONFIG + "hostnames: [tag:Name]\n", "hostnames: no option of fivepointers.platform.aws_ec2"),
        (CONFIG + "cahce: true\n", "cahce: no option of"),
        (CONFIG.replace("environment: staging\n", ""), "environment"),
        (CONFIG.replace("regions: [ap-northeast-2]\n", ""), "regions"),
        (CONFIG.replace("[ap-northeast-2]", "[]"), "regions: []: name each AWS region"),
        (CONFIG.replace("ap-northeast-2", "\"{{ lookup('env', 'NOWHERE') }}\""), "regions: ['']: name each AWS region"),
        (CONFIG.replace("fivepointers.platform.aws_ec2", "fivepointers.platform.aws_ec3"), "aws_ec3"),
    ],
    ids=["library's", "typo", "environment", "regions", "no region", "empty region", "plugin"],
)
def test_a_wrong_file_is_refused_by_name(api: recorder.Api, tmp_path: Path, config: str, told: str) -> None:
    launch(api, Name="web", Services="api")
    done = ask(api, tmp_path, config)
    assert done.returncode != 0, done.stdout
    assert told in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr


def test_the_cache_answers_without_the_api_until_it_is_flushed(api: recorder.Api, tmp_path: Path) -> None:
    launch(api, Name="old", Services="api")
    asked = listed(ask(api, tmp_path, CONFIG + CACHE))
    launch(api, Name="new", Services="edge")
    api.calls.clear()
    assert listed(ask(api, tmp_path, CONFIG + CACHE)) == asked
    assert api.calls == []
    assert names(ask(api, tmp_path, CONFIG + CACHE, "--flush-cache")) == {"old", "new"}
    api.calls.clear()
    assert names(ask(api, tmp_path, CONFIG + CACHE)) == {"old", "new"}
    assert api.calls == []


@pytest.mark.parametrize(
    ("config", "environment"),
    [
        (CONFIG.replace("staging", "production"), {}),
        (CONFIG.replace("ap-northeast-2", "eu-central-1"), {}),
        (CONFIG, {"AWS_ACCESS_KEY_ID": "another"}),
        (CONFIG, {"AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}),
    ],
    ids=["environment", "region", "account", "endpoint"],
)
def test_the_cache_never_answers_for_another_environment_or_account(
    api: recorder.Api, tmp_path: Path, config: str, environment: dict[str, str]
) -> None:
    launch(api, Name="web", Services="api")
    assert names(ask(api, tmp_path, CONFIG + CACHE)) == {"web"}
    api.calls.clear()
    done = ask(api, tmp_path, config + CACHE, **environment)
    assert api.calls or "127.0.0.1:9" in done.stderr


def test_an_answer_that_was_refused_is_not_kept(api: recorder.Api, tmp_path: Path) -> None:
    name = launch(api, Name="bare")
    assert ask(api, tmp_path, CONFIG + CACHE).returncode != 0
    api.client("ec2").create_tags(Resources=[name], Tags=[{"Key": "Services", "Value": "api"}])
    assert names(ask(api, tmp_path, CONFIG + CACHE)) == {"bare"}


def test_an_answer_without_hosts_is_not_kept(api: recorder.Api, tmp_path: Path) -> None:
    assert names(ask(api, tmp_path, CONFIG + CACHE)) == set()
    launch(api, Name="web", Services="api")
    assert names(ask(api, tmp_path, CONFIG + CACHE)) == {"web"}
