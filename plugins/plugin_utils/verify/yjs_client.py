# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""WebSocket clients that behave like a browser's: plain ones, and ones that edit a Y.js document together.

Needs the Python packages ``websockets`` and, for documents, ``pycrdt``; both are loaded when first used.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.fivepointers.platform.plugins.module_utils.common.http_client import (
    DEFAULT_PORTS,
    ProbeError,
    classify,
    connect,
    split_address,
    tls_context,
)

#: Seconds that a socket must stay open to count as accepted.
STAYS_OPEN = 0.2


@dataclass(frozen=True)
class Target:
    """Where a socket goes: a ws or wss URL, the address to connect to instead of DNS, and what a browser sends."""

    url: str
    connect_to: str | None = None
    origin: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    context: ssl.SSLContext | None = None
    timeout: float = 5.0


class SocketError(Exception):
    """The sockets opened but did not work as they should; the text says which client missed what."""


async def dial(target: Target) -> Any:
    """Open a WebSocket. Raises ProbeError; its kind is the status if the handshake was answered with one."""
    from websockets.asyncio import client
    from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
    from websockets.typing import Origin

    parts = urlsplit(target.url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ProbeError("invalid", f"{target.url!r} is not a ws or wss URL")
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    host, port = split_address(target.connect_to, port) if target.connect_to else (parts.hostname, port)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sock = await asyncio.to_thread(connect, host, port, target.timeout, parts.hostname)
    sock.setblocking(False)
    tls: dict[str, Any] = {}
    if parts.scheme == "wss":
        tls = {"ssl": target.context or tls_context(), "server_hostname": parts.hostname}
    try:
        return await client.connect(
            target.url,
            sock=sock,
            origin=Origin(target.origin) if target.origin else None,
            additional_headers=target.headers,
            open_timeout=target.timeout,
            close_timeout=1,
            proxy=None,
            user_agent_header="fivepointers-probe",
            **tls,
        )
    except BaseException as error:
        sock.close()
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            raise ProbeError(status, f"{address} answered the handshake with {status}", address) from error
        if isinstance(error, (InvalidHandshake, WebSocketException, EOFError)):
            raise ProbeError("closed", f"{address} did not complete the handshake: {error}", address) from error
        if isinstance(error, OSError):
            raise classify(error, address, parts.hostname, connected=True) from error
        raise


async def handshake(target: Target, login: bool = False) -> str:
    """Open a socket, check that it stays open for a moment, and close it.

    With ``login``, a relay may reject clients that are not logged in (close code 1008, or 4000 and above).
    """
    from websockets.exceptions import ConnectionClosed

    socket = await dial(target)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(socket.recv(), STAYS_OPEN)
    except ConnectionClosed as error:
        if login and error.rcvd and (error.rcvd.code == 1008 or error.rcvd.code >= 4000):
            return f"101, then the relay requires a login ({_closing(error)})"
        raise SocketError(f"accepted, then closed immediately ({_closing(error)})") from error
    finally:
        await socket.close()
    return "101, stays open"


async def echo(target: Target, text: str) -> str:
    """Send a text and wait for the same text."""
    socket = await dial(target)
    try:
        start = time.monotonic()
        await socket.send(text)
        await _receive(socket, text, target.timeout, "the server")
        return f"echoed after {_ms(start)}"
    finally:
        await socket.close()


async def broadcast(target: Target, text: str) -> str:
    """Send a text on one socket and wait for it on another."""
    first = await dial(target)
    second = None
    try:
        second = await dial(target)
        # A relay may take a moment to join a client to its room after the handshake.
        await asyncio.sleep(0.05)
        start = time.monotonic()
        await first.send(text)
        await _receive(second, text, target.timeout, "the second client")
        return f"relayed after {_ms(start)}"
    finally:
        await first.close()
        if second:
            await second.close()


async def _receive(socket: Any, text: str, timeout: float, who: str) -> None:
    """Wait for a message that contains the text; others may come before it."""
    from websockets.exceptions import ConnectionClosed

    try:
        async with asyncio.timeout(timeout):
            async for message in socket:
                if text in (message if isinstance(message, str) else bytes(message).decode("utf-8", "replace")):
                    return
        raise SocketError(f"{who} closed the socket before the text arrived")
    except TimeoutError as error:
        raise SocketError(f"the text did not arrive from {who} within {timeout:g} s") from error
    except ConnectionClosed as error:
        raise SocketError(f"the socket was closed before the text arrived ({_closing(error)})") from error


class Editor:
    """One client with the document open."""

    def __init__(self, number: int, target: Target) -> None:
        from pycrdt import Doc, Text

        self.name = f"client {number}"
        self.target = target
        self.document: Any = Doc()
        self.text: Any = self.document.get("text", type=Text)
        self.socket: Any = None
        self.heard = asyncio.Event()
        self.reader: asyncio.Task[str] | None = None

    async def join(self) -> None:
        """Open the socket and request what the others have."""
        from pycrdt import create_sync_message

        self.socket = await dial(self.target)
        self.reader = asyncio.create_task(self._listen())
        await self.socket.send(create_sync_message(self.document))

    async def leave(self) -> None:
        """Close the socket; the document stays."""
        if self.socket:
            await self.socket.close()
        if self.reader:
            await self.reader
        self.socket = self.reader = None

    async def write(self, words: str) -> None:
        """Append to the document; without a socket the edit waits for the next join."""
        from pycrdt import create_update_message

        before = self.document.get_state()
        self.text += words
        if self.socket:
            from websockets.exceptions import ConnectionClosed

            # The client that waits for the edit reports the closed socket.
            with contextlib.suppress(ConnectionClosed):
                await self.socket.send(create_update_message(self.document.get_update(before)))

    async def sees(self, words: list[str], what: str) -> None:
        """Wait until all the words are in the document."""
        deadline = time.monotonic() + self.target.timeout
        while True:
            self.heard.clear()
            missing = [word for word in words if word not in str(self.text)]
            if not missing:
                return
            if self.reader and self.reader.done():
                raise SocketError(f"{self.name} does not see {what}: {self.reader.result()}")
            try:
                await asyncio.wait_for(self.heard.wait(), max(0, deadline - time.monotonic()))
            except TimeoutError as error:
                raise SocketError(
                    f"{self.name} does not see {what} within {self.target.timeout:g} s "
                    f"({len(words) - len(missing)} of {len(words)} edits arrived)"
                ) from error

    async def _listen(self) -> str:
        """Process messages until the socket closes; return how it closed."""
        from pycrdt import YMessageType, handle_sync_message
        from websockets.exceptions import ConnectionClosed

        closing = "the socket was closed"
        try:
            async for message in self.socket:
                if isinstance(message, bytes) and message[:1] == bytes([YMessageType.SYNC]):
                    reply = handle_sync_message(message[1:], self.document)
                    if reply:
                        await self.socket.send(reply)
                self.heard.set()
        except ConnectionClosed as error:
            closing = f"the socket was closed ({_closing(error)})"
        except Exception as error:  # pycrdt raises what Rust panics with
            closing = f"the message is not Y.js protocol ({type(error).__name__}: {error})"
        self.heard.set()
        return closing


async def co_edit(target: Target, clients: int = 3) -> str:
    """Edit one document with several clients, one after the other as people come and go.

    Two see each other's edits; the others join late, see all edits and are seen; the first loses its connection, both
    sides keep writing, and it catches up. Raises ProbeError or SocketError; returns what was seen and how fast.
    """
    editors = [Editor(number, target) for number in range(1, max(2, clients) + 1)]
    first, second, late = editors[0], editors[1], editors[2:]
    try:
        await asyncio.gather(first.join(), second.join())
        start = time.monotonic()
        words = ["[1 writes]", "[2 writes]"]
        await asyncio.gather(first.write(words[0]), second.write(words[1]))
        await asyncio.gather(first.sees(words, "the edit of client 2"), second.sees(words, "the edit of client 1"))
        seen = [f"edits after {_ms(start)}"]
        for number, editor in enumerate(late, 3):
            start = time.monotonic()
            await editor.join()
            await editor.sees(words, "what was written before it joined")
            seen.append(f"late joiner after {_ms(start)}")
            words.append(f"[{number} writes]")
            await editor.write(words[-1])
            await asyncio.gather(*(other.sees(words, f"the edit of {editor.name}") for other in editors[:number]))
        await first.leave()
        words += ["[1 writes offline]", "[2 writes meanwhile]"]
        await first.write(words[-2])
        await second.write(words[-1])
        start = time.monotonic()
        await first.join()
        await asyncio.gather(
            first.sees(words, "what was written while it was away"),
            *(editor.sees(words, "the edit that client 1 made offline") for editor in editors[1:]),
        )
        seen.append(f"reconnect after {_ms(start)}")
        texts = {str(editor.text) for editor in editors}
        if len(texts) != 1:
            raise SocketError(f"the clients ended up with {len(texts)} different texts")
        return f"{len(editors)} clients agree: {', '.join(seen)}"
    finally:
        await asyncio.gather(*(editor.leave() for editor in editors), return_exceptions=True)


def _closing(error: Any) -> str:
    """Code and reason of a closed socket."""
    frame = error.rcvd
    return f"{frame.code} {frame.reason}".strip() if frame else "without a closing frame"


def _ms(start: float) -> str:
    return f"{(time.monotonic() - start) * 1000:.0f} ms"
