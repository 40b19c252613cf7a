# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The database migrations of an application, and what they mean for deployments and rollbacks. Pure functions.

The command `migrations` of a service prints one JSON object as its last line, in the order in which they run:
``{"migrations": [{"name": "AddTitle1700000000000", "applied": true, "contract": false, "known": true}]}``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

EXPECTED = '{"migrations": [{"name": "…", "applied": true, "contract": false}]} in one line'
SHOWN = 200


class MigrationError(Exception):
    """A listing cannot be read; the text says what came and what is expected."""


class Migration(NamedTuple):
    """One migration.

    applied: the database has it. contract: it removes or narrows something that older code uses. known: the code that
    printed the list contains it; otherwise it cannot tell whether it is a contract migration.
    """

    name: str
    applied: bool
    contract: bool
    known: bool = True


def parse_listing(lines: Iterable[str]) -> list[Migration]:
    """Return the migrations of the last JSON object with the key "migrations"; other lines are logs and ignored.

    Raises MigrationError if there is none, or if the last one is malformed: earlier ones are outdated.
    """
    last: str | None = None
    found: Mapping[str, Any] | None = None
    for line in lines:
        text = line.strip()
        last = text or last
        # Parse only lines that may be the right one.
        if text.startswith("{") and '"migrations"' in text:
            value = _json(text)
            if isinstance(value, dict) and "migrations" in value:
                found = value
    if found is None:
        came = "the last line is %s" % _shown(last) if last else "nothing came"
        raise MigrationError('there is no JSON object with "migrations": %s. Expected is %s' % (came, EXPECTED))
    entries = found["migrations"]
    if not isinstance(entries, list):
        raise MigrationError('"migrations" is %s, and not a list. Expected is %s' % (_shown(entries), EXPECTED))
    return [_migration(number, entry) for number, entry in enumerate(entries, 1)]


def pending_contracts(listing: Iterable[Migration]) -> list[str]:
    """Return the names of contract migrations that are not applied yet."""
    return [migration.name for migration in listing if migration.contract and not migration.applied]


def obstacles(listing: Iterable[Migration], known_by_target: Collection[str]) -> list[str]:
    """Return the names of applied contract migrations that the target of a rollback does not know.

    listing: that of the release which is live, or of the database. known_by_target: names that the release knows.
    """
    known = frozenset(known_by_target)
    return [
        migration.name
        for migration in listing
        if migration.contract and migration.applied and migration.name not in known
    ]


def remembered(stored: Iterable[Migration], listing: Iterable[Migration]) -> list[Migration]:
    """Return a listing; for migrations that its code does not know, what earlier code said of them."""
    contracts = {migration.name: migration.contract for migration in stored}
    return [
        migration if migration.known else migration._replace(contract=contracts.get(migration.name, False))
        for migration in listing
    ]


def parse_schema(lines: Iterable[str]) -> dict[str, str]:
    """Return the digest of each table, by "database.table", that a fingerprint printed.

    Raises MigrationError with its problem, or with what came instead.
    """
    values = [value for value in map(_json, lines) if isinstance(value, dict)]
    problems = [str(value["problem"]) for value in values if "problem" in value]
    found = [value["schema"] for value in values if isinstance(value.get("schema"), dict)]
    if problems or not found:
        raise MigrationError(problems[-1] if problems else "it printed none")
    return {str(name): str(digest) for part in found for name, digest in part.items()}


def schema_changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return the tables that are new, changed or gone, in words; empty if there are none."""
    found = {
        "new": [name for name in after if name not in before],
        "changed": [name for name in after if before.get(name, after[name]) != after[name]],
        "gone": [name for name in before if name not in after],
    }
    return "; ".join("%s: %s" % (word, ", ".join(sorted(names))) for word, names in found.items() if names)


def _json(text: str) -> Any:
    """Return the value of a JSON text; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _migration(number: int, entry: Any) -> Migration:
    """Return one entry of a listing; raise MigrationError for what is wrong with it."""
    where = "entry %d of the migrations" % number
    if not isinstance(entry, dict):
        raise MigrationError("%s is %s, and not an object. Expected is %s" % (where, _shown(entry), EXPECTED))
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise MigrationError("%s, %s, has no name. Expected is %s" % (where, _shown(entry), EXPECTED))
    flags = {"known": True, **entry}
    for key in ("applied", "contract", "known"):
        if not isinstance(flags.get(key), bool):
            came = _shown(flags[key]) if key in flags else "missing"
            raise MigrationError("%s, %s: %s is %s, and must be true or false" % (where, name, key, came))
    return Migration(name, flags["applied"], flags["contract"], flags["known"])


def _shown(value: Any) -> str:
    """Return a value as JSON, cut to what a message has room for; a line of a log as it is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
