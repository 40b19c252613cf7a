# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The filter that says what is to be built."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.fivepointers.platform.plugins.module_utils.common.schema import plain
from ansible_collections.fivepointers.platform.plugins.plugin_utils import loading as schema
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS, Kind
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan import plan as plans

BUILD_KEYS = ("command", "output", "lockfile", "install_scripts", "environment", "standalone")


def build_specs(
    catalogue: Any,
    environment: Any,
    catalogue_file: str,
    service: str | None = None,
    tags: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return what the module ``build`` needs of each service that has a source."""
    try:
        model = schema.load(catalogue, environment)
    except schema.CatalogueError as error:
        raise AnsibleFilterError(f"\n{error}") from None
    specs = {name: plans.service_spec(model, name) for name in model.services}
    buildable = [name for name, spec in specs.items() if spec["build"].get("source")]
    if service is not None and service not in buildable:
        why = "has no build.source" if service in specs else "is not in the catalogue"
        raise AnsibleFilterError(
            f"build_specs: '{service}' {why}. Services that can be built: {', '.join(buildable) or 'none'}"
        )
    # Run tags select kinds; a run without such tags builds all.
    kinds = {str(plain(tag)) for tag in tags} & set(KINDS)
    folder = os.path.dirname(os.path.abspath(str(plain(catalogue_file))))
    return [
        build_spec(specs[name], folder)
        for name in buildable
        if service in (None, name) and (not kinds or specs[name]["kind"] in kinds)
    ]


def build_spec(spec: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return one service's part, with absolute paths."""
    build = spec["build"]
    # A catalogue that nobody checked may name a kind that does not exist.
    kind = KINDS.get(spec["kind"], Kind(name=spec["kind"], layout="node"))
    source = _absolute(folder, build["source"])
    found = {
        "name": spec["name"],
        "layout": kind.layout,
        "script": kind.script,
        "script_required": kind.script_required,
        "node": spec["node"],
        "start": spec["start"],
        "source": source,
        **{key: build[key] for key in BUILD_KEYS if build.get(key) is not None},
    }
    if build.get("workspace"):
        # Relative to the source ("..") or, like the source itself, to the catalogue.
        options = [_absolute(base, build["workspace"]) for base in (source, folder)]
        found["workspace"] = next((path for path in options if f"{source}/".startswith(f"{path}/")), options[0])
    return found


def _absolute(folder: str, path: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


class FilterModule:
    """The filter by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by name."""
        return {"build_specs": build_specs}
