# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Measure what people notice of a replaced Y.js relay: .venv/bin/python tests/bench/sockets.py

200 clients of y-websocket edit 20 documents through a real front while its slots are switched.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "collections")]

from tests.faults.sockets import BARS, Kit, MissingError, Stand, over, replace  # noqa: E402

SOCKETS, DOCUMENTS = 200, 20
RELAY = "sockets_relay.cjs"
CASES: list[tuple[str, dict[str, Any], signal.Signals]] = [
    ("collab", {}, signal.SIGTERM),
    ("collab, killed", {}, signal.SIGKILL),
    ("collab, all at once", {"environment": {"HAND_OFF_RATE": "100000"}}, signal.SIGTERM),
    ("collab, no shared store", {"shared": False}, signal.SIGTERM),
    ("relay with handoff.cjs", {"server": RELAY, "preload": True}, signal.SIGTERM),
    ("relay with handoff.cjs, killed", {"server": RELAY, "preload": True}, signal.SIGKILL),
    ("relay with handoff.cjs, Node.js 22", {"server": RELAY, "preload": True, "node": "22"}, signal.SIGTERM),
    ("relay alone", {"server": RELAY}, signal.SIGTERM),
]
COLUMNS = {
    "out": "out s",
    "late": "late s",
    "peak": "connects/s",
    "edits": "edits",
    "missing": "missing",
    "empty": "empty",
    "incomplete": "incomplete",
    "unaware": "unaware",
    "seconds": "stop s",
}


def main() -> int:
    """Print a table; out of the bars is a failure where they are promised."""
    wanted = sys.argv[1:]
    failed = False
    print(f"{SOCKETS} sockets, {DOCUMENTS} documents; bars: " + ", ".join(f"{k} {v}" for k, v in BARS.items()))
    print(f"{'':36}" + "".join(f"{title:>12}" for title in COLUMNS.values()))
    with tempfile.TemporaryDirectory() as folder:
        kit = Kit(Path(folder))
        for number, (name, settings, how) in enumerate(CASES):
            if wanted and not any(word in name for word in wanted):
                continue
            with Stand(kit, Path(folder) / str(number), **settings) as stand:
                figures = replace(stand, SOCKETS, DOCUMENTS, how=how)
            print(f"{name:36}" + "".join(f"{figures[key]:>12}" for key in COLUMNS), flush=True)
            failed |= name in ("collab", "relay with handoff.cjs") and bool(over(figures))
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MissingError as error:
        sys.exit(str(error))
