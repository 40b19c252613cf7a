# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The environment variables of releases on a host: their identifier, the secrets of now for a release of then, and what
must not be shown of them.

Beside the values, which only root can read, a release keeps the templates that they were made from: the names of its
secrets.

Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive as archives
from ansible_collections.fivepointers.platform.plugins.module_utils.common.files import listed, read
from ansible_collections.fivepointers.platform.plugins.module_utils.common.masks import masks
from ansible_collections.fivepointers.platform.plugins.module_utils.common.placeholders import (
    PlaceholderError,
    secret_names,
)
from ansible_collections.fivepointers.platform.plugins.module_utils.release import adoption, releases
from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import (
    ReleaseError,
    Wanted,
    environment_path,
    fill_secrets,
    release_path,
)

VALUES, TEMPLATES = "environment", "environment.templates"
OWN_FILES = {*releases.TEXTS.values(), "release.json", VALUES, TEMPLATES}

# Each guess at a secret costs a twentieth of a second.
SCRYPT = {"n": 1 << 14, "r": 8, "p": 1}
# A line of an environment file, as systemd.environment_file writes it.
LINE = re.compile(r'^([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"$', re.MULTILINE | re.DOTALL)


def secret_digest(name: str, filled: Mapping[str, str]) -> str:
    """Return a digest of environment variables that makes guessing their secrets expensive."""
    text = json.dumps(filled, sort_keys=True).encode()
    return hashlib.scrypt(text, salt=b"fivepointers release " + name.encode(), dklen=8, **SCRYPT).hex()


def release_id(parts: Mapping[str, str]) -> str:
    """Return the identifier of a release with these parts."""
    return hashlib.sha256(json.dumps([parts[part] for part in releases.PARTS]).encode()).hexdigest()[:12]


def _texts(path: str) -> dict[str, str] | None:
    """Return the variables in a file of a release; None if it has no such file, or a damaged one."""
    try:
        found = json.loads(read(path) or "")
    except ValueError:
        return None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else None


def templates_of(name: str, release: str) -> dict[str, str] | None:
    """Return the templates of a release's variables; None if an earlier version staged it, without them."""
    return _texts(os.path.join(release_path(name, release), TEMPLATES))


def secrets_of(name: str, release: str) -> list[str] | None:
    """Return the names of the secrets that a release uses; None if they are not known."""
    record = releases.read_release(name, release)
    if not record.get("wanted", {}).get("slots"):
        return []
    templates = templates_of(name, release)
    if templates is None:
        return None
    return sorted({secret for template in templates.values() for secret in secret_names(template)})


def with_secrets_of_now(wanted: Wanted, secrets: Mapping[str, str]) -> Wanted:
    """Return a kept release with the secrets of now, under the names of then.

    It is the same release where none of them changed, or where its templates are not known. Otherwise it is another
    one, with an identifier of its own, and everything but the values is that of the kept one.

    Raises ReleaseError for a secret that was not passed.
    """
    templates = templates_of(wanted.name, wanted.release) if wanted.process else None
    if templates is None:
        return wanted
    directory = release_path(wanted.name, wanted.release)
    try:
        filled = fill_secrets(templates, secrets)
    except PlaceholderError as error:
        raise ReleaseError(
            "%s: release %s cannot come back with the secrets of now: %s. Nothing was changed. Go back with the values "
            "of then: -e secrets=then" % (wanted.name, wanted.release, error)
        ) from error
    if filled == _texts(os.path.join(directory, VALUES)):
        return wanted
    parts = {**wanted.parts, "environment": secret_digest(wanted.name, filled)}
    release = release_id(parts)
    paths = {file: os.path.join(directory, file) for file in listed(directory) if file not in OWN_FILES}
    changes: dict[str, Any] = {key: getattr(wanted, key).replace(wanted.release, release) for key in releases.TEXTS}
    return dataclasses.replace(
        wanted,
        release=release,
        parts=parts,
        environment=templates,
        files={file: read(path) or "" for file, path in paths.items() if os.path.isfile(path)},
        of=wanted.of or wanted.release,
        **changes,
    )


def kept_masks(services: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Return what must not be shown: of each kept release, of the slots, and of what a port was taken over from.

    services: templates of each, as far as the caller knows them. A release of an earlier version has none of its own,
    and its variables mostly have the names that they have in others.
    """
    found: set[str] = set()
    for name, passed in services.items():
        kept = [release for release in listed(release_path(name)) if not release.startswith(archives.TEMPORARY)]
        own = {release: templates_of(name, release) or {} for release in kept}
        known = dict(passed)
        for templates in own.values():
            known.update(templates)
        for release in kept:
            variables = _texts(os.path.join(release_path(name, release), VALUES)) or {}
            found |= masks(variables, {**known, **own[release]})
        for slot in releases.SLOTS:
            # Somebody may have changed it by hand.
            try:
                lines = LINE.findall(read(environment_path(name, slot)) or "")
            except ValueError:
                continue
            found |= masks({key: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for key, value in lines}, known)
        try:
            process = adoption.recorded(name).get("process")
        except ReleaseError:
            # The phase that needs it says that it is damaged, and that has to get out.
            continue
        environment = process.get("environment") if isinstance(process, dict) else None
        if isinstance(environment, dict):
            found |= masks({str(key): str(value) for key, value in environment.items()}, known)
    return found
