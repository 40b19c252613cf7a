# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manifests of artifacts, as builds leave them on the controller."""

from __future__ import annotations

import json
import os
import re
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.fivepointers.platform.plugins.module_utils.build.signatures import SIGNATURE, signed_by
from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.identifiers import is_artifact_id

SIZES = ("archive_size", "unpacked_size", "files_count")
IDS = "An id is 16 to 64 hexadecimal digits; playbooks/releases.yml and the artifact store list them."
BUILD_FIRST = "Build it first: ansible-playbook playbooks/build.yml"


def parse_manifest(
    text: str | bytes, service: str, artifact: str | None, origin: str, keys: Sequence[str] = ()
) -> dict[str, t.Any]:
    """Return a manifest, checked: its id becomes a part of paths, and its sizes are what unpacking may take.

    :param artifact: the id that it has to have, which is its file's name; None for that of the newest artifact.
    :param origin: where it comes from, for messages.
    :param keys: public keys, one of which has to have signed it; none if nobody has to.
    :raises ArchiveError: naming the service, the value and what to do.
    """
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArchiveError("%s: %s is not a manifest: %s. %s" % (service, origin, error, BUILD_FIRST)) from error
    if not isinstance(manifest, dict):
        raise ArchiveError("%s: %s is not a manifest: it is no mapping. %s" % (service, origin, BUILD_FIRST))
    lacking = [key for key in ("id", "service", "archive_sha256", *SIZES) if key not in manifest]
    if lacking:
        raise ArchiveError("%s: the manifest %s lacks %s. %s" % (service, origin, ", ".join(lacking), BUILD_FIRST))
    wrong = [key for key in SIZES if not _is_size(manifest[key])]
    if not re.fullmatch("[0-9a-f]{64}", str(manifest["archive_sha256"])):
        wrong.append("archive_sha256")
    if "commit" in manifest and not _is_commit(manifest["commit"]):
        wrong.append("commit")
    if not _is_native(manifest.get("native", [])):
        wrong.append("native")
    identifier = manifest["id"]
    if not is_artifact_id(identifier) or (artifact and identifier != artifact):
        wrong.insert(0, "id")
    if manifest["service"] != service:
        wrong.insert(0, "service")
    if wrong:
        # Its content may be hostile: it is shown as Python writes it, and not at length.
        said = ", ".join("%s is %.80r" % (key, manifest[key]) for key in wrong)
        raise ArchiveError(
            "%s: the manifest %s is not one that a build of this service wrote: %s. Find out who can write there. "
            "Then build it again: ansible-playbook playbooks/build.yml -e service=%s" % (service, origin, said, service)
        )
    if keys and not signed_by(manifest, keys):
        what = "has a signature of another key, or was changed" if SIGNATURE in manifest else "is not signed"
        raise ArchiveError(
            "%s: the manifest %s %s. platform_environment.artifact_signing.keys says who may sign. If it was built "
            "before that was set, build it again: ansible-playbook playbooks/build.yml -e service=%s. Otherwise find "
            "out who can write there." % (service, origin, what, service)
        )
    return manifest


def read_manifest(artifacts: str, service: str, artifact: str | None, keys: Sequence[str] = ()) -> dict[str, t.Any]:
    """Return the manifest of a service's newest artifact, or of the requested one; raise ArchiveError."""
    if artifact and not is_artifact_id(artifact):
        raise ArchiveError("%s: %.80r is not the id of an artifact. %s" % (service, artifact, IDS))
    directory = os.path.join(artifacts, service)
    path = os.path.join(directory, (artifact or "latest") + ".json")
    try:
        with open(path, "rb") as handle:
            text = handle.read()
    except FileNotFoundError:
        if artifact:
            known = sorted(name[:-5] for name in _listed(directory) if name.endswith(".json") and name != "latest.json")
            raise ArchiveError(
                "%s: artifact '%s' not found in %s. Known artifacts: %s."
                % (service, artifact, directory, ", ".join(known) or "none")
            ) from None
        raise ArchiveError(
            "%s: no artifact found (%s is missing). %s -e service=%s" % (service, path, BUILD_FIRST, service)
        ) from None
    manifest = parse_manifest(text, service, artifact, path, keys)
    archive = archive_path(artifacts, service, manifest)
    if not os.path.isfile(archive):
        raise ArchiveError("%s: the archive %s is missing. %s -e service=%s" % (service, archive, BUILD_FIRST, service))
    return manifest


def _is_size(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_commit(value: t.Any) -> bool:
    return (
        isinstance(value, dict)
        and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", str(value.get("id"))) is not None
        and _is_size(value.get("time"))
        and isinstance(value.get("dirty"), bool)
    )


def _is_native(value: t.Any) -> bool:
    keys = {"package", "file", "platform", "libc"}
    return isinstance(value, list) and all(
        isinstance(item, dict) and set(item) == keys and all(isinstance(text, str) for text in item.values())
        for item in value
    )


def archive_path(artifacts: str, service: str, manifest: Mapping[str, t.Any]) -> str:
    """Return the path of an artifact's archive on the controller."""
    return os.path.join(artifacts, service, manifest["id"] + ".tar.gz")


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def check_runtime(spec: Mapping[str, t.Any], manifest: Mapping[str, t.Any], node: str) -> None:
    """Raise ArchiveError if the artifact was built with another major version of Node.js than it will run on."""
    built = str(manifest.get("node") or "")
    if built and built.lstrip("v").partition(".")[0] != node.partition(".")[0]:
        raise ArchiveError(
            "%s: artifact %s was built with Node.js %s, but the catalogue says node: '%s' (%s): native modules would "
            "fail to load. Build it again: ansible-playbook playbooks/build.yml -e service=%s"
            % (spec["name"], manifest["id"], built, spec["node"], node, spec["name"])
        )
