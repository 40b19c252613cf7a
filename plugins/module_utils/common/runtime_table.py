# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The table of archives of a runtime: which archive belongs to a version such as "24".

Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError

SHA256 = re.compile(r"[0-9a-f]{64}\Z")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]*\Z")


def choose(archives: Mapping[Any, Any], wanted: Any, table: str) -> dict[str, Any]:
    """Return the entry of a table of archives for a name such as "24", or for an exact version.

    The entry is {version, url, sha256, strip}. Raises ArchiveError that names the version, the known
    ones, and `table`, the variable to add it to.
    """
    wanted = str(wanted)
    known = {str(name): entry for name, entry in archives.items()}
    entry = known.get(wanted)
    if entry is None:
        entry = next((item for item in known.values() if _version_of(item) == wanted), None)
    example = "'%s': {version: …, url: https://… or file:///…, sha256: …, strip: 1}" % wanted
    if entry is None:
        names = ", ".join("%s (%s)" % (name, _version_of(item)) for name, item in sorted(known.items()))
        raise ArchiveError(
            "There is no archive for version '%s'. Known versions: %s. Add to %s: %s"
            % (wanted, names or "none", table, example)
        )
    if not isinstance(entry, Mapping):
        raise ArchiveError("%s['%s'] is %r; write %s" % (table, wanted, entry, example))
    for key in ("version", "url", "sha256"):
        if not entry.get(key):
            raise ArchiveError("%s['%s'] has no %s; write %s" % (table, wanted, key, example))
    if not VERSION.match(str(entry["version"])):
        raise ArchiveError(
            "%s['%s'].version is %r; give an exact version such as 24.1.0" % (table, wanted, entry["version"])
        )
    if not SHA256.match(str(entry["sha256"])):
        raise ArchiveError(
            "%s['%s'].sha256 is %r; give the 64 hex digits that its publisher lists" % (table, wanted, entry["sha256"])
        )
    try:
        strip = int(entry.get("strip", 1))
    except (TypeError, ValueError):
        strip = -1
    if strip < 0:
        raise ArchiveError(
            "%s['%s'].strip is %r; give a number of leading directories" % (table, wanted, entry["strip"])
        )
    return {
        "version": str(entry["version"]),
        "url": str(entry["url"]),
        "sha256": str(entry["sha256"]),
        "strip": strip,
    }


def _version_of(entry: Any) -> str:
    return str(entry.get("version", "no version")) if isinstance(entry, Mapping) else "malformed"
