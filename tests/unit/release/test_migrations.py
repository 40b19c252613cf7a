# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What is read from an application's listing of its migrations, and what it stands in the way of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.release.migrations import (
    Migration,
    MigrationError,
    obstacles,
    parse_listing,
    parse_schema,
    pending_contracts,
    schema_changes,
)
from hypothesis import given
from hypothesis import strategies as st

CREATE = {"name": "Create1", "applied": True, "contract": False}
DROP = {"name": "Drop2", "applied": False, "contract": True}
LOG = '{"time": "2026-01-01T00:00:00Z", "level": "info", "message": "migrations to apply"}'


def line(*entries: Any, **more: Any) -> str:
    return json.dumps({"migrations": list(entries), **more})


@pytest.mark.parametrize(
    "lines",
    [
        [line(CREATE, DROP)],
        [LOG, "> example-api@1.0.0 migrate", "", line(CREATE, DROP)],
        # Lines of another process, or of a logger that ends later, may come in between and after.
        [LOG, f"  {line(CREATE, DROP)}\r", LOG, "{not json", "[1, 2]", '"migrations"', '{"no": "migrations"}'],
        [line(CREATE), "2 migrations", line(CREATE, DROP)],
        [line(CREATE, DROP, level="info")],
    ],
)
def test_the_last_listing_among_other_lines_is_read(lines: list[str]) -> None:
    assert parse_listing(lines) == [Migration("Create1", True, False), Migration("Drop2", False, True)]
    assert parse_listing(iter(lines)) == parse_listing(lines)


def test_what_the_code_does_not_know_is_told_apart() -> None:
    [migration] = parse_listing([line({**CREATE, "known": False})])
    assert not migration.known
    assert Migration(**migration._asdict()) == migration, "as it is kept on the host"


def test_an_application_without_migrations_has_none() -> None:
    assert parse_listing([line()]) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "nothing came. Expected is "),
        (["", " "], "nothing came"),
        ([LOG, "Error: connect ECONNREFUSED"], "the last line is Error: connect ECONNREFUSED. Expected is "),
        ([line(CREATE, DROP)[:-5]], "no JSON object"),
        (["x" * 5000], "x" * 200 + "…"),
        (['{"migrations": ' + "[" * 100_000], "no JSON object"),
        (['{"migrations": {"a": 1}}'], '"migrations" is {"a": 1}, and not a list'),
        ([line(CREATE, "Drop2")], "entry 2 of the migrations is Drop2, and not an object"),
        ([line({"applied": True, "contract": False})], 'entry 1 of the migrations, {"applied": true'),
        ([line({**CREATE, "name": ""})], "has no name"),
        ([line({"name": "A", "applied": True})], "entry 1 of the migrations, A: contract is missing, and must be true"),
        ([line({**CREATE, "applied": "yes"})], "Create1: applied is yes, and must be true or false"),
        ([line({**CREATE, "contract": 0})], "contract is 0"),
        ([line({**CREATE, "known": None})], "known is null"),
        # The newest listing counts, even where an older one could be read.
        ([line(CREATE), '{"migrations": null}'], '"migrations" is null'),
    ],
)
def test_what_is_no_listing_is_refused_with_what_came(lines: list[str], message: str) -> None:
    with pytest.raises(MigrationError) as caught:
        parse_listing(lines)
    assert message in str(caught.value)
    assert "true" in str(caught.value), "what is expected"


LISTING = [
    Migration("Expand1", True, False),
    Migration("Contract2", True, True),
    Migration("Foreign3", True, False, known=False),
    Migration("Expand4", False, False),
    Migration("Contract5", False, True),
]


def test_contract_migrations_that_are_still_to_come_are_named() -> None:
    assert pending_contracts(LISTING) == ["Contract5"]


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ([], ["Contract2"]),
        (["Expand1"], ["Contract2"]),
        (["Expand1", "Contract2"], []),
        # The release that is older still knows more than was applied: no matter.
        (["Contract2", "Contract5", "Other"], []),
    ],
)
def test_a_release_that_does_not_know_a_contract_migration_cannot_come_back(known: list[str], found: list[str]) -> None:
    assert obstacles(LISTING, known) == found


def test_a_schema_is_read_in_parts_and_compared_by_table() -> None:
    before = parse_schema(["(node:7) a warning", '{"schema": {"db.a": "1"}}', '{"schema": {"db.b": "1"}}'])
    assert before == {"db.a": "1", "db.b": "1"}
    assert parse_schema(['{"schema": {}}']) == {}, "an empty database has no tables"
    assert schema_changes(before, before) == ""
    assert schema_changes(before, {"db.b": "2", "db.c": "1"}) == "new: db.c; changed: db.b; gone: db.a"


@pytest.mark.parametrize("lines", [[], ["{"], ['{"schema": 1}']])
def test_what_is_no_schema_is_none(lines: list[str]) -> None:
    with pytest.raises(MigrationError, match="it printed none"):
        parse_schema(lines)


MIGRATIONS = st.lists(
    st.builds(Migration, st.text(min_size=1), st.booleans(), st.booleans(), st.booleans()), max_size=8
)


@given(MIGRATIONS, st.lists(st.sampled_from([LOG, "plain", "", "{"])), st.booleans())
def test_what_is_printed_is_what_is_read(listing: list[Migration], noise: list[str], plain: bool) -> None:
    text = json.dumps({"migrations": [item._asdict() for item in listing]}, ensure_ascii=plain)
    assert parse_listing([*noise, text, *noise]) == listing


@given(MIGRATIONS)
def test_laws(listing: list[Migration]) -> None:
    names = [migration.name for migration in listing]
    assert obstacles(listing, names) == [], "whoever knows them all may come back"
    named = set(obstacles(listing, [])) | set(pending_contracts(listing))
    assert named == {migration.name for migration in listing if migration.contract}
