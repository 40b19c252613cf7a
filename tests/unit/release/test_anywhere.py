# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A new host comes first while another one serves: what the playbook compares decides about its migrations."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from ansible.template import trust_as_template
from ansible_collections.fivepointers.platform.plugins.action.release import ActionModule
from ansible_collections.fivepointers.platform.plugins.module_utils.common import systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import phases
from ansible_collections.fivepointers.platform.plugins.module_utils.release.migrations import Migration
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.engines import DEFAULT
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.anywhere import anywhere

from . import test_phases
from .conftest import NODE, SECRETS, make_archive, make_manifest, make_spec
from .test_phases import SYNCHRONIZED, Played, call, schema
from .test_schedules import Hosts

played, job = test_phases.played, test_phases.job
ROOT = Path(__file__).parents[3]
NEW, OLD = "a", "b"
RUNTIMES = {"24": {"version": NODE, "linux-x64": {"url": "file:///x", "sha256": "0" * 64, "strip": 1}}}
ONE, TWO = Migration("one", True, False), Migration("two", False, True)


class Environment:
    """Two hosts of a service, and the controller that deploys to them as the playbook does."""

    def __init__(self, hosts: Hosts, artifacts: Path, capsys: Any, template: Any, patch: pytest.MonkeyPatch) -> None:
        self.hosts, self.artifacts, self.capsys, self.template, self.patch = hosts, artifacts, capsys, template, patch
        self.names = [NEW, OLD]
        self.spec = make_spec(
            hosts=self.names,
            drain=0,
            health={**make_spec()["health"], "start_period": 0.2, "interval": 0.01},
            migrate=["node", "migrate.js"],
            migrations=["node", "list.js"],
        )

    def build(self, version: str, *listing: Migration) -> None:
        """Make an artifact of this version the newest one; it says that it has these migrations."""
        folder = self.artifacts / "orders"
        folder.mkdir(exist_ok=True)
        archive = folder / "archive.tar.gz"
        sha256 = make_archive(archive, {"dist/main.js": version})
        archive.rename(folder / f"{sha256[:16]}.tar.gz")
        (folder / "latest.json").write_text(json.dumps(make_manifest(id=sha256[:16], archive_sha256=sha256)))
        self.patch.setattr(phases, "_listing", lambda item, slot: list(listing))

    def act(self, host: str, phase: str, **changes: Any) -> dict[str, Any]:
        """Run a phase on a host: the action and the module."""
        self.hosts.at(host)
        self.capsys.readouterr()
        arguments = {
            "services": [self.spec],
            "artifacts": str(self.artifacts),
            "secrets": SECRETS,
            "nodejs_archives": RUNTIMES,
            "phase": phase,
            **changes,
        }
        shell = Mock(tmpdir=str(self.artifacts), join_path=os.path.join)
        task = Mock(args=arguments, delegate_to=None, environment=None, async_val=0)
        action = ActionModule(task, Mock(_shell=shell), Mock(check_mode=False), Mock(), Mock(), Mock())
        self.patch.setattr(action, "_transfer_file", shutil.copy)
        self.patch.setattr(action, "_remove_tmp_path", lambda path: None)
        self.patch.setattr(action, "_execute_module", lambda module_args, **more: call(self.capsys, **module_args)[0])
        return action.run(None, {"inventory_hostname": host})

    def compared(self) -> list[dict[str, Any]]:
        """What the play passes to the phases after it has compared all hosts."""
        (play,) = yaml.safe_load((ROOT / "playbooks/parts/deploy.yml").read_text())
        said = {name: {"__release_plan": self.act(name, "plan")} for name in self.names}
        facts = {"ansible_play_hosts_all": self.names, "hostvars": {**said, "ended before it was asked": {}}}
        expression = play["module_defaults"]["fivepointers.platform.release"]["compared"]
        found = self.template(expression, {**facts, "__compared": trust_as_template(play["vars"]["__compared"])})
        assert len(found) == len(self.names)
        return found

    def deploy(self, *names: str, **changes: Any) -> dict[str, Any]:
        """Run these phases on hosts, up to one that fails; return the last answer."""
        answer: dict[str, Any] = {}
        compared = self.compared()
        for phase in ("prepare", "migrate", "switch", "commit"):
            for name in names:
                answer = self.act(name, phase, compared=compared, **changes)
                if answer.get("failed"):
                    return answer
        return answer

    def started(self) -> list[str]:
        """What was started, in order: migration, or candidate."""
        starts = [step for step in self.hosts.played.steps if " start " in step and "orders" in step]
        return ["migration" if "_migration@" in step else "candidate" for step in starts]


@pytest.fixture
def environment(
    played: Played, job: Any, tmp_path: Path, capsys: Any, template: Any, monkeypatch: pytest.MonkeyPatch
) -> Environment:
    """One host serves a release, and the other one is new; it comes first."""
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    made = Environment(Hosts(played, job), artifacts, capsys, template, monkeypatch)
    made.names = [OLD]
    made.spec["hosts"] = [OLD]
    made.build("old", ONE)
    assert not made.deploy(OLD).get("failed")
    assert made.started() == ["migration", "candidate"], "nothing served anywhere"
    made.names = [NEW, OLD]
    made.spec["hosts"] = made.names
    made.hosts.at(NEW)
    played.steps.clear()
    return made


def test_a_migration_on_a_new_host_waits_while_another_host_serves(environment: Environment) -> None:
    environment.build("new", ONE, TWO._replace(contract=False))
    assert not environment.deploy(NEW).get("failed")
    assert environment.started() == ["candidate", "migration"]


def test_on_a_new_host_nothing_is_taken_away_from_what_another_host_serves(environment: Environment) -> None:
    old = environment.act(OLD, "plan")["services"]["orders"]["serving"]
    environment.build("new", ONE, TWO)
    answer = environment.deploy(NEW, OLD)
    assert f"step migrate: two would remove or narrow what release {old} still uses" in answer["msg"]
    assert environment.started() == ["candidate", "candidate"], "no migration ran"
    for host in (NEW, OLD):
        assert not environment.act(host, "take_back").get("failed")
    assert environment.act(OLD, "plan")["services"]["orders"]["serving"] == old
    assert not environment.deploy(NEW, OLD, allow_contract_migrations=True).get("failed")


def test_a_role_used_alone_decides_from_its_own_host(environment: Environment) -> None:
    environment.build("new", ONE, TWO)
    assert not environment.act(NEW, "all").get("failed")
    assert environment.started() == ["migration", "candidate"]


def test_a_new_host_knows_what_the_database_has_moved_past(environment: Environment) -> None:
    applied = TWO._replace(applied=True)
    environment.build("knows-two", ONE, applied)
    assert not environment.deploy(OLD, services=[{**environment.spec, "hosts": [OLD]}]).get("failed")
    # Older code cannot say what a migration is that it does not know.
    environment.build("older", ONE, applied._replace(contract=False, known=False))
    answer = environment.deploy(NEW)
    assert "the database has moved past release" in answer["msg"] and ": two removed or narrowed" in answer["msg"]


def test_a_service_that_was_moved_knows_what_its_database_has_moved_past(environment: Environment) -> None:
    applied = TWO._replace(applied=True)
    environment.build("knows-two", ONE, applied)
    assert not environment.deploy(OLD, services=[{**environment.spec, "hosts": [OLD]}]).get("failed")
    environment.build("older", ONE, applied._replace(contract=False, known=False))
    environment.spec["hosts"] = [NEW]
    gone = environment.act(OLD, "plan", services=[], described=[])
    answer = environment.act(NEW, "prepare", compared=[gone, environment.act(NEW, "plan")])
    assert not answer.get("failed")
    answer = environment.act(NEW, "migrate", compared=[gone, environment.act(NEW, "plan")])
    assert "the database has moved past release" in answer["msg"] and ": two removed or narrowed" in answer["msg"]


def test_a_candidate_on_a_new_host_changes_no_schema_that_another_host_uses(environment: Environment) -> None:
    before, after = SYNCHRONIZED
    asked = iter([schema(before), schema(after)])
    journal = lambda unit, since, lines: [next(asked) if "_fingerprint@" in unit else "the last words"]  # noqa: E731
    environment.patch.setattr(systemd, "journal", journal)
    database = {"name": "database", "prefix": "DATABASE", "engine": DEFAULT, "query": "select 1"}
    environment.build("new", ONE)
    answer = environment.deploy(NEW, services=[{**environment.spec, "schemas": [database]}])
    assert "changed the schema when it started" in answer["msg"] and "is still serving" in answer["msg"]


def service(serving: str, *contracts: str) -> dict[str, Any]:
    return {"serving": serving, "contracts": list(contracts)}


@pytest.mark.parametrize(
    "answers, found",
    [
        ([], {}),
        ([{}, {"services": {}}], {}),
        ([{"services": {"api": service("")}}], {"api": service("")}),
        (
            [
                {"services": {"api": service("", "b")}},
                {"services": {"api": service("r1", "a", "b"), "web": service("r2")}},
            ],
            {"api": service("r1", "b", "a"), "web": service("r2")},
        ),
        # A service that was moved to another host still runs on this one; a retired one does not.
        (
            [
                {"services": {"api": service("")}},
                {
                    "undescribed": {
                        "api": {"runs": True, "release": "r1", "contracts": []},
                        "web": {"runs": False, "release": "r2", "contracts": ["a"]},
                    }
                },
            ],
            {"api": service("r1"), "web": service("", "a")},
        ),
    ],
)
def test_what_serves_anywhere_is_what_any_host_says(answers: list[dict[str, Any]], found: dict[str, Any]) -> None:
    assert anywhere(answers) == found


def test_the_answer_does_not_depend_on_hosts_that_have_not_answered_yet(environment: Environment) -> None:
    environment.build("new", ONE, TWO)
    alone = environment.act(NEW, "plan")
    assert alone["services"]["orders"]["contracts"] == []
    assert environment.act(NEW, "plan", compared=environment.compared()) == alone
