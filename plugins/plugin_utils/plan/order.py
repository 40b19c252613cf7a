# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The order in which services are deployed: each after what it needs. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.model import Model


def batches_and_cycles(needs: Mapping[str, Sequence[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Group services into batches, each after what it needs; also return the cycles that prevent this.

    Linear in the number of services and needs. Names in `needs` that are not services are ignored.
    """
    waiting = {name: {other for other in wanted if other in needs} for name, wanted in needs.items()}
    dependents: dict[str, list[str]] = {name: [] for name in needs}
    for name, wanted in waiting.items():
        for other in wanted:
            dependents[other].append(name)
    position = {name: index for index, name in enumerate(needs)}
    batches: list[list[str]] = []
    ready = [name for name, wanted in waiting.items() if not wanted]
    while ready:
        batches.append(ready)
        following = []
        for name in ready:
            del waiting[name]
            for other in dependents[name]:
                waiting[other].discard(name)
                if not waiting[other]:
                    following.append(other)
        ready = sorted(following, key=position.__getitem__)
    return batches, _cycles(waiting)


def _cycles(waiting: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return disjoint cycles among services that wait for each other, each as [a, b, …, a]."""
    cycles: list[list[str]] = []
    done = set()
    for start in waiting:
        path: list[str] = []
        index: dict[str, int] = {}
        name: str | None = start
        while name is not None and name not in done and name not in index:
            index[name] = len(path)
            path.append(name)
            name = next((other for other in sorted(waiting[name]) if other not in done), None)
        if name is not None and name in index:
            cycles.append([*path[index[name] :], name])
        done.update(path)
    return cycles


def deploy_order(model: Model) -> list[list[str]]:
    """Return the batches of services that may be deployed together, in order."""
    return batches_and_cycles({name: service["needs"] for name, service in model.services.items()})[0]
