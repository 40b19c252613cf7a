# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""A Y.js relay in two slots behind the real front, with people who edit while it is replaced."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.release.releases import flag_path
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy.compose import front_text

from sandbox import nodejs
from tests.unit.nginx import live
from tests.unit.release.conftest import make_spec

FOLDER = Path(__file__).resolve().parent
COLLAB = live.ROOT / "examples" / "collab"
MODULE = live.ROOT / "plugins/plugin_utils/deploy/templates/handoff.cjs"
PORT = 3003
SLOTS = {"blue": 13003, "green": 23003}
#: What a replacement may do to 200 sockets on 20 documents.
BARS = {"out": 1.0, "late": 1.0, "peak": 50, "missing": 0, "split": 0, "empty": 0, "incomplete": 0}


class MissingError(Exception):
    """Something that these measurements need is not there; the message says how to get it."""


def unpack_node(major: str, folder: Path) -> Path:
    """Return the program of one of the sandbox's runtimes, unpacked below a folder."""
    item = nodejs.VERSIONS[major]
    archive = nodejs.path(item)
    if not archive.exists():
        raise MissingError(f"Node.js {item['version']} is not here ({archive}): run make setup")
    program = folder / f"node-{major}"
    with tarfile.open(archive) as packed:
        member = next(entry for entry in packed if entry.name.endswith("/bin/node"))
        content = packed.extractfile(member)
        assert content is not None
        with program.open("wb") as target:
            shutil.copyfileobj(content, target)
    program.chmod(0o755)
    return program


def install(folder: Path) -> Path:
    """Return a copy of the example server with its packages, and with the people and the relay of these tests."""
    own = live.ROOT / ".venv" / "bin" / "npm"
    npm = str(own) if own.exists() else shutil.which("npm")
    if npm is None:
        raise MissingError("npm is not here: run make setup")
    target = folder / "collab"
    shutil.copytree(COLLAB, target, ignore=shutil.ignore_patterns("node_modules", "state"))
    environment = {**os.environ, "PATH": f"{Path(npm).parent}:{os.environ['PATH']}"}
    subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--silent"], cwd=target, env=environment, check=True)
    for name in ("sockets.mjs", "sockets_relay.cjs"):
        shutil.copy(FOLDER / name, target / name)
    return target


@dataclass
class Kit:
    """What all measurements share: programs and packages."""

    folder: Path

    @functools.cached_property
    def code(self) -> Path:
        """The servers, the people and their packages."""
        return install(self.folder)

    def node(self, major: str = "24") -> Path:
        """Return a runtime."""
        program = self.folder / f"node-{major}"
        return program if program.exists() else unpack_node(major, self.folder)


class People:
    """Clients of y-websocket that type, in a process of their own."""

    def __init__(
        self, kit: Kit, url: str, sockets: int, documents: int, *where: str, environment: dict[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [str(kit.node()), "sockets.mjs", url, str(sockets), str(documents), *where],
            cwd=kit.code,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer()

    def answer(self) -> dict[str, Any]:
        """Return what they say next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the people are gone"
        return dict(json.loads(line))

    def end(self) -> None:
        """Send them away."""
        self.process.kill()
        self.process.communicate()

    def ask(self, word: str) -> dict[str, Any]:
        """Have them do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.answer()


@dataclass
class Stand:
    """The front, and what is in its slots."""

    kit: Kit
    folder: Path
    server: str = "server.js"
    #: Preloads the module that hands sockets over.
    preload: bool = False
    shared: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    node: str = "24"
    port_variable: str = "PORT"

    def __post_init__(self) -> None:
        self.prefix = live.Prefix(self.folder / "nginx")
        self.prefix.path.mkdir(parents=True)
        self.flag = self.folder / "green"
        # As in a plan, blue's is the lower one.
        self.ports = dict(zip(SLOTS, sorted(map(self.prefix.port, SLOTS.values())), strict=True))
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Stand:
        spec = make_spec("yjs_websocket", name="collab", port=PORT, slots=self.ports)
        front = front_text(spec).replace(flag_path("collab"), str(self.flag))
        files = live.render({})
        for log in ("access.log", "error.log"):
            (self.prefix.path / log).touch()
        self.prefix.write({**files, "fivepointers/service-collab.conf": front})
        # live.start waits for the first of the ports, which has to be nginx's.
        self.prefix.ports = {PORT: self.prefix.port(PORT)}
        self.stack.enter_context(contextlib.contextmanager(live.start)(self.prefix, None))
        self.stack.callback(self.end)
        self.start(*SLOTS)
        return self

    def __exit__(self, *_reason: object) -> None:
        self.stack.close()

    @property
    def port(self) -> int:
        """Where the front listens."""
        return self.prefix.ports[PORT]

    def start(self, *slots: str) -> None:
        """Start the processes of slots, and wait until they answer."""
        for slot in slots:
            self.spawn(slot)
        for slot in slots:
            self.wait_until(functools.partial(self.answers, slot))

    def spawn(self, slot: str) -> None:
        """Start a slot's process."""
        other = "green" if slot == "blue" else "blue"
        state = self.folder / ("state" if self.shared else f"state-{slot}")
        state.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            self.port_variable: str(self.ports[slot]),
            "STATE_DIRECTORY": str(state),
            **(self.preloaded(slot) if self.preload else {"HAND_OFF_PEER_PORT": str(self.ports[other])}),
            **self.environment,
        }
        with self.log(slot).open("a") as log:
            self.processes[slot] = subprocess.Popen(
                [str(self.kit.node(self.node)), self.server],
                cwd=self.kit.code,
                env=environment,
                stdout=log,
                stderr=log,
                text=True,
            )

    def preloaded(self, slot: str) -> dict[str, str]:
        """Return what a unit says that preloads the module."""
        return {
            "NODE_OPTIONS": f"--require={MODULE}",
            "HAND_OFF_SLOT": slot,
            "HAND_OFF_PORTS": ",".join(f"{name}:{port}" for name, port in self.ports.items()),
            "HAND_OFF_STATUS": str(self.status(slot)),
        }

    def answers(self, slot: str) -> bool:
        """Return whether a slot's process listens."""
        assert self.processes[slot].poll() is None, self.log(slot).read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[slot]), timeout=5):
            return True
        return False

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that has to come true."""
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, "\n".join(self.log(slot).read_text() for slot in SLOTS)
            time.sleep(0.02)

    def log(self, slot: str) -> Path:
        """Where a slot's output goes."""
        return self.folder / f"{slot}.log"

    def lines(self, slot: str, message: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines of a slot's log with this message and these fields."""
        lines = [json.loads(line) for line in self.log(slot).read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["message"].endswith(message) and fields.items() <= line.items()]

    def said(self, slot: str, message: str) -> dict[str, Any]:
        """Return the last line of a slot's log with this message."""
        return self.lines(slot, message)[-1]

    def wait_for(self, slot: str, message: str, **fields: Any) -> None:
        """Wait for a line of a slot's log."""
        self.wait_until(lambda: self.lines(slot, message, **fields))

    def status(self, slot: str) -> Path:
        """Where a slot says that its documents are joined with the other's."""
        return self.folder / f"{slot}.json"

    def join(self, *slots: str) -> dict[str, int]:
        """Have slots (blue) join their documents with the other's at the same time; return what the last one did."""
        slots = slots or ("blue",)
        for slot in slots:
            self.status(slot).unlink(missing_ok=True)
        for slot in slots:
            self.processes[slot].send_signal(signal.SIGUSR2)
        for slot in slots:
            self.wait_until(self.status(slot).exists)
        return dict(json.loads(self.status(slots[-1]).read_text()))

    def switch(self) -> None:
        """Send new requests to green."""
        self.flag.touch()

    def stop(self, slot: str = "blue", how: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Stop a slot as systemd does; return its exit status and the seconds that it took."""
        started = time.monotonic()
        self.processes[slot].send_signal(how)
        try:
            code = self.processes[slot].wait(30)
        except subprocess.TimeoutExpired:
            self.processes[slot].kill()
            code = self.processes[slot].wait()
        return code, time.monotonic() - started

    def end(self) -> None:
        """End what is left."""
        for process in self.processes.values():
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def people(self, sockets: int, documents: int) -> Iterator[People]:
        """Have people at work, through the front."""
        people = People(self.kit, f"ws://127.0.0.1:{self.port}", sockets, documents)
        try:
            yield people
        finally:
            people.end()


def replace(stand: Stand, sockets: int, documents: int, *, how: signal.Signals = signal.SIGTERM) -> dict[str, Any]:
    """Replace blue by green under people; return what they noticed, with the seconds that blue took to stop."""
    with stand.people(sockets, documents) as people:
        if stand.preload:
            stand.join()
        stand.switch()
        during = people.ask("late")
        code, seconds = stand.stop(how=how)
        after = people.ask("late")
        noticed = people.ask("finish")
    found = {key: max(during[key], after[key]) for key in during}
    return {**noticed, **found, "status": code, "seconds": round(seconds, 2)}


def over(figures: dict[str, Any], *but: str) -> dict[str, Any]:
    """Return the figures that are over the bars."""
    return {key: figures[key] for key, bar in BARS.items() if key not in but and figures[key] > bar}
