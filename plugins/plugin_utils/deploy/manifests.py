# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Manifests of artifacts, as builds leave them on the controller."""

from __future__ import annotations

import json
import os
import typing as t
from collections.abc import Mapping

from ansible_collections.fivepointers.platform.plugins.module_utils.common.archive import ArchiveError

BUILD_FIRST = "Build it first: ansible-playbook playbooks/build.yml"


def read_manifest(artifacts: str, service: str, artifact: str | None) -> dict[str, t.Any]:
    """Return the manifest of a service's newest artifact, or of the requested one; raise ArchiveError."""
    directory = os.path.join(artifacts, service)
    path = os.path.join(directory, (artifact or "latest") + ".json")
    try:
        with open(path, encoding="utf-8") as handle:
            manifest = json.load(handle)
        needed = ("id", "archive_sha256", "archive_size", "unpacked_size", "files_count")
        lacking = [key for key in needed if key not in manifest]
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
    except (ValueError, TypeError) as error:
        raise ArchiveError("%s: %s is not a manifest: %s. %s" % (service, path, error, BUILD_FIRST)) from error
    if lacking:
        raise ArchiveError("%s: the manifest %s lacks %s. %s" % (service, path, ", ".join(lacking), BUILD_FIRST))
    archive = archive_path(artifacts, service, manifest)
    if not os.path.isfile(archive):
        raise ArchiveError("%s: the archive %s is missing. %s -e service=%s" % (service, archive, BUILD_FIRST, service))
    return manifest


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
