# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The table of archives of a runtime: which archive belongs to a version such as "24", on which platform.

Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError

SHA256 = re.compile(r"[0-9a-f]{64}\Z")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]*\Z")
#: A platform, as archives of Node.js name theirs.
PLATFORM = re.compile(r"(?:linux|darwin|win)-(?:x64|arm64|armv7l|ppc64le|s390x|riscv64|loong64)(?:-musl)?(?![a-z0-9])")
KEYS = ("version", "url", "sha256", "strip")
#: Of an archive whose name does not say for which platform it is.
ANY = ""


def find(archives: Mapping[Any, Any], wanted: Any) -> Any:
    """Return the entry of a table for a name such as "24", or for an exact version; None if there is none."""
    known = {str(name): entry for name, entry in archives.items()}
    return known.get(str(wanted)) or next((item for item in known.values() if version_of(item) == str(wanted)), None)


def platforms_of(entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the archives of an entry by platform, unchecked.

    An entry is {version, linux-x64: {url, sha256, strip}, linux-arm64: {…}}, or, for one platform, {version, url,
    sha256, strip}. The archive's name then says for which; ANY if it does not.
    """
    common = {key: value for key, value in entry.items() if not PLATFORM.fullmatch(str(key))}
    apart = {
        key: {**common, **value} for key, value in entry.items() if key not in common and isinstance(value, Mapping)
    }
    if apart:
        return apart
    named = PLATFORM.search(str(common.get("url") or ""))
    return {named[0] if named else ANY: common}


def choose(archives: Mapping[Any, Any], wanted: Any, table: str) -> dict[str, Any]:
    """Return the entry of a table of archives for a name such as "24", or for an exact version, checked.

    That is {version, archives: {platform: {url, sha256, strip}}}. Raises ArchiveError that names the version, the known
    ones, and `table`, the variable to add it to.
    """
    wanted = str(wanted)
    entry = find(archives, wanted)
    example = "'%s': {version: …, linux-x64: {url: https://… or file:///…, sha256: …, strip: 1}}" % wanted
    if entry is None:
        known = {str(name): item for name, item in archives.items()}
        names = ", ".join("%s (%s)" % (name, version_of(item) or "no version") for name, item in sorted(known.items()))
        raise ArchiveError(
            "There is no archive for version '%s'. Known versions: %s. Add to %s: %s"
            % (wanted, names or "none", table, example)
        )
    if not isinstance(entry, Mapping):
        raise ArchiveError("%s['%s'] is %r; write %s" % (table, wanted, entry, example))
    unknown = sorted(str(key) for key in entry if key not in KEYS and not PLATFORM.fullmatch(str(key)))
    if unknown:
        raise ArchiveError(
            "%s['%s'] has the key '%s', which is no platform such as linux-x64 or linux-arm64; write %s"
            % (table, wanted, unknown[0], example)
        )
    chosen = {}
    versions = set()
    for platform, archive in platforms_of(entry).items():
        where = "%s['%s']%s" % (table, wanted, "['%s']" % platform if platform in entry else "")
        chosen[platform] = _checked(archive, where, example)
        versions.add(str(archive["version"]))
    if len(versions) > 1:
        raise ArchiveError(
            "%s['%s'] has the versions %s; all hosts run the same one" % (table, wanted, " and ".join(sorted(versions)))
        )
    return {"version": versions.pop(), "archives": chosen}


def pick(archives: Mapping[str, Any], platform: str, which: str) -> Any:
    """Return the archive of a version for this machine's platform, or raise ArchiveError. which: the entry's place."""
    if platform in archives or ANY in archives:
        return archives[platform if platform in archives else ANY]
    raise ArchiveError(lacking(which, archives, platform, "this machine"))


def lacking(which: str, archives: Iterable[str], platform: str, machine: str) -> str:
    """Return what to say if a version has no archive for a machine."""
    wanted = ", ".join("%s: {url: …, sha256: …}" % name for name in sorted({*archives, platform}))
    return "%s has an archive for %s, and %s is %s. Write one for each: {version: …, %s}" % (
        which,
        " and ".join(archives),
        machine,
        platform,
        wanted,
    )


def _checked(entry: Mapping[str, Any], where: str, example: str) -> dict[str, Any]:
    """Return url, sha256 and strip of an archive."""
    for key in ("version", "url", "sha256"):
        if not entry.get(key):
            raise ArchiveError("%s has no %s; write %s" % (where, key, example))
    if not VERSION.match(str(entry["version"])):
        raise ArchiveError("%s.version is %r; give an exact version such as 24.1.0" % (where, entry["version"]))
    if not SHA256.match(str(entry["sha256"])):
        raise ArchiveError(
            "%s.sha256 is %r; give the 64 hex digits that its publisher lists" % (where, entry["sha256"])
        )
    try:
        strip = int(entry.get("strip", 1))
    except (TypeError, ValueError):
        strip = -1
    if strip < 0:
        raise ArchiveError("%s.strip is %r; give a number of leading directories" % (where, entry["strip"]))
    return {"url": str(entry["url"]), "sha256": str(entry["sha256"]), "strip": strip}


def version_of(entry: Any) -> str:
    """Return the version of an entry, unchecked; empty if it states none."""
    known = platforms_of(entry) if isinstance(entry, Mapping) else {}
    return str(next((archive["version"] for archive in known.values() if archive.get("version")), ""))
