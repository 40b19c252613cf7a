# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What is true of a service on any host, given what each host says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def anywhere(answers: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what any host says of each service: {service: {serving: release, contracts: [migration]}}.

    serving: the release of the first host that serves one, empty if none does. contracts: the contract migrations that
    its database has, as far as any host recorded them.
    answers: what the phase plan of the module release returned on each host. A service that a host runs and is not to
    run any more counts: its code uses the database until it is retired. What it recorded of the database counts longer.
    """
    found: dict[str, dict[str, Any]] = {}
    for answer in answers:
        described = answer.get("services") or {}
        left = answer.get("undescribed") or {}
        serving = {name: item["release"] if item["runs"] else "" for name, item in left.items()}
        serving.update({name: item["serving"] for name, item in described.items()})
        for name, item in {**left, **described}.items():
            here = found.setdefault(name, {"serving": "", "contracts": []})
            here["serving"] = here["serving"] or serving[name]
            here["contracts"] += [one for one in item["contracts"] if one not in here["contracts"]]
    return found
