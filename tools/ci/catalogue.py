# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the tools beside this file read from the catalogue, and what they use of the collection."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# The collection is found where this file is, whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "collections"))

from ansible.errors import AnsibleError
from ansible_collections.fivepointers.platform.plugins.lookup.catalogue import parse_catalogue
from ansible_collections.fivepointers.platform.plugins.module_utils.build import node_modules
from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError, read_object
from ansible_collections.fivepointers.platform.plugins.module_utils.build.package_managers import LOCK_FILES, lock_file
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import Spec, spec_of
from ansible_collections.fivepointers.platform.plugins.module_utils.build.store import Store
from ansible_collections.fivepointers.platform.plugins.module_utils.common.identifiers import is_artifact_id
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import report as deploy_report
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.building import build_spec
from yaml import YAMLError

__all__ = [
    "LOCK_FILES",
    "BuildError",
    "Spec",
    "Store",
    "deploy_report",
    "is_artifact_id",
    "lock_file",
    "node_modules",
    "read_object",
]

CATALOGUE = "inventories/services.yml"


class CatalogueError(Exception):
    """The catalogue cannot be used; the text says why."""


def parse(text: str, path: str) -> dict[str, Any]:
    """Return the catalogue of a text."""
    try:
        found = parse_catalogue(text)
    except (YAMLError, AnsibleError, ValueError) as error:
        raise CatalogueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("services"), dict):
        raise CatalogueError(f"{path} has no mapping `services`.")
    return found


def built_services(catalogue: dict[str, Any], folder: Path) -> dict[str, Spec]:
    """Return what is built, by service, in the order of the catalogue. `folder` is where the catalogue stands."""
    found = {}
    for name, entry in catalogue["services"].items():
        build = (entry or {}).get("build") or {}
        if build.get("source"):
            about = {"name": name, "kind": entry.get("kind"), "node": entry.get("node"), "build": build}
            about.update({key: [] for key in ("start", "migrate", "migrations")})
            try:
                found[str(name)] = spec_of(build_spec(about, str(folder)))
            except BuildError as error:
                raise CatalogueError(f"services.{name}: {error}") from error
    return found


def selected(names: str, known: dict[str, Spec]) -> list[str]:
    """Return the services of a list such as "api,sites"; raise CatalogueError for one that is not built."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise CatalogueError(f"{', '.join(unknown)}: no such service is built. Those are: {', '.join(known)}.")
    return list(dict.fromkeys(wanted))
