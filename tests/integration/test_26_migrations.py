# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A migration that takes something away: refused, allowed, failed, applied; and then there is no way back behind it.

A release that changes the schema by itself when it starts is stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.integration.harness import ROOT, Run, Sandbox, podman
from tests.integration.test_25_deployments import Stack

NAME = "DropLeftovers1764000000000"
MIGRATION = f"""
import type {{ MigrationInterface, QueryRunner }} from 'typeorm';

export class {NAME} implements MigrationInterface {{
  readonly contract = true;

  async up(query: QueryRunner): Promise<void> {{
    await query.query('DROP TABLE leftovers');
  }}

  async down(): Promise<void> {{}}
}}
"""
# The copy is in no repository, so its code names no commit.
OLDER = ("-e", "older=true")
ALLOW = (*OLDER, "-e", "allow_contract_migrations=true")


@pytest.fixture(scope="module")
def stack(platform: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A newest artifact of the API whose code has the migration."""
    it = Stack(platform, tmp_path_factory.mktemp("catalogues"))
    source = it.folder / "api"
    ignored = shutil.ignore_patterns("node_modules", "dist", ".build")
    shutil.copytree(ROOT / "examples/api", source, ignore=ignored)
    (source / "src/database/migrations/1764000000000-drop-leftovers.ts").write_text(MIGRATION)
    options = source / "src/database/options.ts"
    known = "migrations: [CreateUsersAndPages1760000000000"
    text = options.read_text()
    assert known in text
    text = f"import {{ {NAME} }} from './migrations/1764000000000-drop-leftovers.js';\n{text}"
    synchronized = "synchronize: process.env.SYNCHRONIZE === 'yes'"
    assert "synchronize: false" in text
    options.write_text(text.replace(known, f"{known}, {NAME}").replace("synchronize: false", synchronized))
    latest = ROOT / ".artifacts/api/latest.json"
    before = latest.read_bytes()
    try:
        catalogue = it.catalogue(api={"build": {"source": str(source)}})
        platform.playbook("playbooks/build.yml", "-e", catalogue, "-e", "service=api").succeeded()
        assert latest.read_bytes() != before
        yield it
    finally:
        latest.write_bytes(before)
        platform.sql(f"drop table if exists app.leftovers; delete from app.migrations where name = '{NAME}'")
        platform.ssh(platform.hosts_of("api")[0], "sudo rm -f /var/lib/fivepointers/api/schema.json")
        it.deploy().succeeded()


def refused(run: Run) -> str:
    """What a run said that failed."""
    assert run.rc != 0, run.output[-3000:]
    return " ".join(run.output.split())


def applied(stack: Stack) -> bool:
    return NAME in stack.sandbox.sql("select name from app.migrations")


def test_it_is_refused_while_the_release_that_serves_may_use_what_it_takes_away(stack: Stack) -> None:
    before = stack.live()
    said = refused(stack.deploy(*OLDER))
    assert f"{NAME} would remove or narrow what release {before['api']} still uses. The schema was not changed." in said
    assert "allow_contract_migrations=true" in said
    assert stack.live() == before and len(stack.running("api")) == 1
    assert not applied(stack)


def test_allowed_it_runs_and_where_it_fails_the_old_release_serves_and_the_schema_is_told(stack: Stack) -> None:
    before = stack.live()
    said = refused(stack.deploy(*ALLOW))
    assert "the migrations of release" in said and f"Release {before['api']} is still serving." in said
    assert f"The schema lacks: {NAME}. All before are applied." in said
    assert "Unknown table 'app.leftovers'" in said, "its last log lines"
    assert stack.live() == before and not applied(stack)


def test_mended_it_is_applied_and_nothing_leads_back_behind_it(stack: Stack) -> None:
    before = stack.live()
    stack.sandbox.sql("create table app.leftovers (id int)")
    stack.deploy(*ALLOW).succeeded()
    after = stack.live()
    assert after["api"] != before["api"] and applied(stack)
    said = refused(stack.sandbox.playbook("playbooks/rollback.yml", "-e", "service=api"))
    assert f"the database has moved past release {before['api']}: {NAME} removed or narrowed what it uses" in said
    # Neither does a deployment of the code from before.
    artifacts = {path.stem for path in (ROOT / ".artifacts/api").glob("*.json")} - {"latest"}
    newest = json.loads((ROOT / ".artifacts/api/latest.json").read_text())["id"]
    older, *_rest = artifacts - {newest}
    said = refused(stack.deploy("-e", f"artifact=api:{older}", *ALLOW))
    assert f"the database has moved past release {before['api']}" in said
    assert stack.live() == after


@pytest.fixture
def restored(stack: Stack) -> Iterator[None]:
    """The database as it was: what changes a schema by itself takes defaults and indexes away, too."""
    database = ("exec", f"{stack.sandbox.name}.database", "sh", "-ec")
    assert podman(*database, "mariadb-dump app > /tmp/app.sql").returncode == 0
    yield
    assert podman(*database, "mariadb app < /tmp/app.sql").returncode == 0


@pytest.mark.usefixtures("restored")
def test_a_release_that_changes_the_schema_when_it_starts_is_stopped(stack: Stack) -> None:
    before = stack.live()
    stack.sandbox.sql("alter table app.pages add column draft int")
    changed = {"environment": {"SYNCHRONIZE": "yes"}}
    said = refused(stack.deploy(*ALLOW, "-e", "service=api", api=changed))
    assert "changed the schema when it started, and not by `migrate` (changed: database.pages" in said
    assert f"Release {before['api']} is still serving, with the schema as it is now." in said
    assert stack.live() == before and len(stack.running("api")) == 1
