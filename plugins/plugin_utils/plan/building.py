# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The builds of a catalogue: for each service with a source, the arguments of the module C(build). Pure functions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS, Kind
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.plan import service_spec
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.variables import located

BUILD_KEYS = ("command", "output", "lockfile", "install_scripts", "environment", "standalone", "include", "exclude")


class NotBuiltError(ValueError):
    """The requested service cannot be built; the text says why, and which services can."""


def build_specs(
    model: Model, catalogue_file: str, service: str | None = None, tags: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return one entry for each service that has a source; raise NotBuiltError.

    Paths are relative to the folder of C(catalogue_file), and returned as absolute. Tags that name kinds select them.

    :param service: the only ones to build, separated by commas.
    """
    specs = {name: service_spec(model, name) for name in model.services}
    buildable = [name for name, spec in specs.items() if spec["build"].get("source")]
    chosen = buildable if service is None else [name.strip() for name in service.split(",")]
    for name in chosen:
        if name not in buildable:
            why = "has no build.source" if name in specs else "is not in the catalogue"
            raise NotBuiltError(f"'{name}' {why}. Services that can be built: {', '.join(buildable) or 'none'}")
    kinds = set(tags) & set(KINDS)
    folder = os.path.dirname(os.path.abspath(catalogue_file))
    return [
        {**build_spec(specs[name], folder), **build_secrets(model, specs[name])}
        for name in buildable
        if name in chosen and (not kinds or specs[name]["kind"] in kinds)
    ]


def build_secrets(model: Model, spec: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the secrets of one service's entry, as references that the lookup C(secrets) takes."""
    secrets = spec["build"]["secrets"]
    return (
        {"secrets": [{"name": name, **located(model, it)} for name, it in sorted(secrets.items())]} if secrets else {}
    )


def build_spec(spec: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return one service's entry, with absolute paths."""
    build = spec["build"]
    # An unchecked catalogue may name an unknown kind.
    kind = KINDS.get(spec["kind"], Kind(name=spec["kind"], layout="node"))
    source = _absolute(folder, build["source"])
    found = {
        "name": spec["name"],
        "layout": kind.layout,
        "script": kind.script,
        "exported": kind.exported,
        "script_required": kind.script_required,
        "node": spec["node"],
        **{key: spec[key] for key in ("start", "migrate", "migrations")},
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
