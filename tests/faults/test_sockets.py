# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What people who edit together notice when their relay is replaced: nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.sockets import Kit, MissingError, Stand, over, replace

# The full 200 on 20 are for tests/bench/sockets.py.
SOCKETS, DOCUMENTS = 60, 10
RELAY = "sockets_relay.cjs"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """Programs and packages."""
    kit = Kit(tmp_path_factory.mktemp("sockets"))
    try:
        kit.node()
        assert kit.code
    except MissingError as error:
        pytest.fail(str(error), pytrace=False)
    return kit


def replaced(kit: Kit, folder: Path, *, how: signal.Signals = signal.SIGTERM, **settings: Any) -> dict[str, Any]:
    """Return what people noticed of a replacement."""
    with Stand(kit, folder, **settings) as stand:
        return replace(stand, SOCKETS, DOCUMENTS, how=how)


def test_the_collab_server_is_replaced(kit: Kit, tmp_path: Path) -> None:
    with Stand(kit, tmp_path) as stand:
        figures = replace(stand, SOCKETS, DOCUMENTS)
        assert over(figures) == {}, figures
        assert figures["moved"] == SOCKETS
        assert figures["status"] == 0
        report = stand.said("blue", "sent clients away")
    assert (report["documents"], report["connections"]) == (DOCUMENTS, SOCKETS)
    assert report["ms"] / 1000 <= figures["seconds"]


def test_the_collab_server_is_killed(kit: Kit, tmp_path: Path) -> None:
    """All come back at once, which nobody can pace; what they wrote is there."""
    figures = replaced(kit, tmp_path, how=signal.SIGKILL)
    assert over(figures, "peak") == {}, figures
    assert figures["moved"] == SOCKETS


def test_without_pacing_and_shared_store_the_failure_is_seen(kit: Kit, tmp_path: Path) -> None:
    figures = replaced(kit, tmp_path, shared=False, environment={"HAND_OFF_RATE": "100000"})
    assert {"peak", "empty"} <= set(over(figures)), figures


def test_a_relay_that_knows_nothing_is_replaced(kit: Kit, tmp_path: Path) -> None:
    with Stand(kit, tmp_path, server=RELAY, preload=True) as stand:
        figures = replace(stand, SOCKETS, DOCUMENTS)
        assert over(figures) == {}, figures
        assert figures["moved"] == SOCKETS
        assert figures["status"] == -signal.SIGTERM
        assert figures["unaware"] == 0
        report = stand.said("blue", "sent clients away")
    assert (report["documents"], report["connections"]) == (DOCUMENTS, SOCKETS)
    assert report["joined"] > DOCUMENTS, "documents that were left count too"


def test_without_the_module_the_failure_is_seen(kit: Kit, tmp_path: Path) -> None:
    figures = replaced(kit, tmp_path, server=RELAY)
    assert {"peak", "empty"} <= set(over(figures)), figures
