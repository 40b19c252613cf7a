# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Measures the user impact of a deployment, through the front door, while it runs.

Requests are sent at a steady rate whether or not earlier ones have been answered, since a probe that waits for a
stalled response misses what later requests would have hit. Nothing is retried: every failure is one that a user has.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import math
import re
import secrets
import select
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.fivepointers.platform.plugins.module_utils.common import http_client
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify import yjs_client
from ansible_collections.fivepointers.platform.plugins.plugin_utils.verify.derive import fits

#: Seconds for one request, and for opening one socket.
TIMEOUT = 5.0
#: Limit of requests under way; requests beyond it are not sent, but counted.
UNDER_WAY = 200
#: Seconds between two edits, like a user who types now and then.
EDIT_EVERY = 1.0
#: Seconds until an edit that has not arrived is missing; stop() waits this long for the last edits.
PATIENCE = 1.5
#: Seconds before y-websocket reconnects: the first delay, doubling up to the longest.
REDIAL = (0.1, 2.5)
#: Seconds that Chromium waits for the connection to end after a closing frame.
CLOSING = 2.0
#: After these codes y-websocket does not reconnect until the page is reloaded.
NO_RETURN = range(4400, 4500)
#: How many good samples, bad samples and outages are kept; all are counted.
KEPT = 1000
KEPT_OUTAGES = 100
KEPT_FAILURES = 20
KEPT_TEXT = 200
#: Width of a latency bucket: a percentile is off by half a percent at most.
STEP = math.log(1.01)

Result = dict[str, Any]


class Thinned:
    """Samples in bounded memory: the slowest of every `stride` successive ones, so that no peak is lost."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stride = 1
        self.last = 0
        self.items: list[list[Any]] = []

    def add(self, sample: list[Any]) -> None:
        """Add [at, ms, …]."""
        if self.items and self.last < self.stride:
            self.last += 1
            if sample[1] > self.items[-1][1]:
                self.items[-1] = sample
            return
        self.items.append(sample)
        self.last = 1
        if len(self.items) > self.limit:
            pairs = [self.items[index : index + 2] for index in range(0, len(self.items), 2)]
            self.items = [max(pair, key=lambda item: item[1]) for pair in pairs]
            self.last = self.stride * (len(pairs[-1]) - 1) + self.last
            self.stride *= 2


class Most:
    """The longest duration in milliseconds, and when it began."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.at = 0.0

    def add(self, ms: float, at: float) -> None:
        """Add one that began `at` seconds after the start."""
        if ms > self.ms:
            self.ms, self.at = ms, at


class Spread:
    """A distribution of durations in bounded memory: counts in buckets of one percent."""

    def __init__(self, parts: Iterable[Spread] = ()) -> None:
        self.classes: dict[int, int] = {}
        self.most = Most()
        for part in parts:
            self.most.add(part.most.ms, part.most.at)
            for key, count in part.classes.items():
                self.classes[key] = self.classes.get(key, 0) + count

    def add(self, ms: float, at: float) -> None:
        """Add one of `ms` milliseconds."""
        key = round(math.log(max(ms, 0.01)) / STEP)
        self.classes[key] = self.classes.get(key, 0) + 1
        self.most.add(ms, at)

    def percentile(self, share: float) -> float:
        """The milliseconds within which this share of all finished."""
        wanted = share * sum(self.classes.values())
        reached = 0
        for key in sorted(self.classes):
            reached += self.classes[key]
            if reached >= wanted:
                return round(min(math.exp(key * STEP), self.most.ms), 1)
        return 0.0

    def figures(self, *shares: int) -> dict[str, float]:
        """Percentiles by name, the longest, and when the longest began."""
        found = {f"p{share}": self.percentile(share / 100) for share in shares}
        return {**found, "max": round(self.most.ms, 1), "max_at": round(self.most.at, 3)}


class Line:
    """A connection that is kept open for the next request, as browsers do."""

    def __init__(self, url: str, connect_to: str | None, context: ssl.SSLContext) -> None:
        parts = urlsplit(url)
        name = parts.hostname or ""
        default = http_client.DEFAULT_PORTS[parts.scheme]
        host, port = http_client.split_address(connect_to or parts.netloc.rpartition("@")[2], parts.port or default)
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.headers = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "fivepointers-probe", "Accept": "*/*"}
        self.connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        sock = http_client.connect(host, port, TIMEOUT, name)
        try:
            if parts.scheme == "https":
                sock = context.wrap_socket(sock, server_hostname=name)
        except (OSError, ValueError) as error:
            sock.close()
            raise http_client.classify(error, self.address, name, connected=True) from error
        self.connection.sock = sock

    def get(self) -> tuple[int, str]:
        """The status and reason of one request; raises ProbeError."""
        try:
            self.connection.request("GET", self.path, headers=self.headers)
            response = self.connection.getresponse()
            response.read(http_client.BODY_LIMIT)
            if not response.isclosed():
                self.close()
            return response.status, response.reason
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise http_client.classify(error, self.address, connected=True) from error

    def usable(self) -> bool:
        """Whether the server has not closed it meanwhile: every client checks before it sends."""
        sock = self.connection.sock
        if sock is None:
            return False
        try:
            return not select.select([sock], [], [], 0)[0]
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Close it."""
        self.connection.close()


class Service:
    """The measurements of one service over HTTP."""

    def __init__(self) -> None:
        self.requests = 0
        self.failed = 0
        self.spread = Spread()
        self.stall = Most()


class Asked:
    """One address that is requested repeatedly, and since when a response is outstanding."""

    def __init__(self, service: str, url: str, status: Any) -> None:
        self.service = service
        self.url = url
        self.status = status
        self.up = False
        self.first_success = 0.0
        self.why = ""
        self.waiting: float | None = None
        self.under_way = 0
        self.idle: list[Line] = []


class Sockets:
    """The measurements of the sockets of one service; times in seconds since the start."""

    def __init__(self, service: str, url: str, origin: str | None) -> None:
        self.service = service
        self.url = url
        self.origin = origin
        self.up = 0
        self.why = ""
        self.codes: dict[str, int] = {}
        self.outages: list[Result] = []
        self.out: dict[str, Result] = {}
        self.longest = Most()
        self.written: dict[int, float] = {}
        self.edits = 0
        self.delay = Spread()


class Probe:
    """Requests `targets` at `rate` requests per second in total, and keeps two clients in a document of each relay.

    `targets`: {service, url, kind: "http" or "websocket", status: accepted ones (default 200 to 399)}. `connect_to`
    (`host[:port]`) is where connections go; name, SNI and Host header stay those of the URL. Methods never raise.
    """

    def __init__(
        self,
        targets: Sequence[Mapping[str, Any]],
        rate: float = 20,
        ca_file: str | None = None,
        connect_to: str | None = None,
    ) -> None:
        self.rate = rate
        self.ca_file = ca_file
        self.connect_to = connect_to or None
        self.context: ssl.SSLContext | None = None
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self.began: float | None = None
        self.ended: float | None = None
        self.started = 0.0
        self.threads: list[threading.Thread] = []
        self.asked: list[Asked] = []
        self.sockets: list[Sockets] = []
        self.services: dict[str, Service] = {}
        self.problems: list[str] = []
        self.good = Thinned(KEPT)
        self.bad = Thinned(KEPT)
        self.failures: list[Result] = []
        self.failed_at: list[float] = []
        self.unsent = 0
        for target in targets:
            try:
                self._take(target)
            except Exception as error:  # an unusable target must not end a deployment
                self.problems.append(f"a target is unusable ({type(error).__name__}: {error})")

    def _take(self, target: Mapping[str, Any]) -> None:
        service, url = str(target["service"]), str(target["url"])
        if target["kind"] == "websocket":
            self.sockets.append(Sockets(service, url, target.get("origin")))
            return
        status = target.get("status") or list(range(200, 400))
        self.asked.append(Asked(service, url, [status] if isinstance(status, int) else status))
        self.services.setdefault(service, Service())

    def start(self) -> None:
        """Start measuring, in threads that do not keep the process from ending."""
        if self.sockets:
            # Loading them during requests would slow the requests down.
            with contextlib.suppress(ImportError):
                importlib.import_module("pycrdt")
                importlib.import_module("websockets.asyncio.client")
        self.began, self.started = time.monotonic(), time.time()
        try:
            self.context = http_client.tls_context(self.ca_file)
            if self.asked and self.rate > 0:
                self.threads.append(self._thread(self._ask_all))
            if self.sockets:
                self.threads.append(self._thread(self._keep_sockets))
        except Exception as error:
            self._problem("nothing could be measured", error)

    def result(self) -> Result:
        """The measurement so far."""
        with self.lock:
            return self._result()

    def stop(self) -> Result:
        """Stop, and return the measurement; takes two seconds at most."""
        deadline = time.monotonic() + (PATIENCE + 0.2 if self.ended is None else 0.0)
        self.ending.set()
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        while time.monotonic() < deadline and any(asked.under_way for asked in self.asked):
            time.sleep(0.01)
        with self.lock:
            if self.ended is None:
                self.ended = self._now()
            return self._result()

    def _thread(self, what: Callable[..., None], *arguments: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                what(*arguments)
            except Exception as error:
                self._problem("the probe itself failed", error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _problem(self, what: str, error: BaseException) -> None:
        text = f"{what} ({error if isinstance(error, http_client.ProbeError) else f'{type(error).__name__}: {error}'})"
        with self.lock:
            if text not in self.problems and len(self.problems) < KEPT_FAILURES:
                self.problems.append(text)

    def _now(self) -> float:
        return 0.0 if self.began is None else time.monotonic() - self.began

    # --- requests ---

    def _ask_all(self) -> None:
        tick = 0
        while not self.ending.wait(max(0.0, tick / self.rate - self._now())):
            asked = self.asked[tick % len(self.asked)]
            fresh = tick // len(self.asked) % 2 == 1
            with self.lock:
                full = sum(item.under_way for item in self.asked) >= UNDER_WAY
                if full:
                    self.unsent += 1
                else:
                    asked.under_way += 1
            if not full:
                self._thread(self._ask, asked, fresh)
            # After a pause of this machine the rate continues; a burst would measure the probe itself.
            tick = max(tick + 1, int(self._now() * self.rate))

    def _ask(self, asked: Asked, fresh: bool) -> None:
        sent = self._now()
        with self.lock:
            if asked.up and asked.waiting is None:
                asked.waiting = sent
        what = ""
        try:
            status, reason = self._answer(asked, fresh)
            if not fits(status, asked.status):
                what = f"{status} {reason}".rstrip()
        except http_client.ProbeError as error:
            what = str(error)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
        with self.lock:
            asked.under_way -= 1
            if self.ended is None:
                self._note(asked, sent, self._now(), what)

    def _answer(self, asked: Asked, fresh: bool) -> tuple[int, str]:
        if fresh:
            answer = http_client.ask(asked.url, connect_to=self.connect_to, timeout=TIMEOUT, context=self.context)
            return answer.status, answer.reason
        with self.lock:
            line = asked.idle.pop() if asked.idle else None
        if line and not line.usable():
            line.close()
            line = None
        line = line or Line(asked.url, self.connect_to, self.context or http_client.tls_context(self.ca_file))
        answered = line.get()
        with self.lock:
            asked.idle.append(line)
            spare = asked.idle[:-1]
            asked.idle = asked.idle[-1:]
        for other in spare:
            other.close()
        return answered

    def _note(self, asked: Asked, sent: float, done: float, what: str) -> None:
        if what and not asked.up:
            # It was already down: the deployment harms nobody, and may be the fix.
            asked.why = what
            return
        service = self.services[asked.service]
        service.requests += 1
        ms = (done - sent) * 1000
        index = list(self.services).index(asked.service)
        (self.bad if what else self.good).add([round(sent, 3), round(ms, 1), int(not what), index])
        if what:
            service.failed += 1
            self.failed_at = [*self.failed_at[:1], sent]
            if len(self.failures) < KEPT_FAILURES:
                # Without what may be secret: credentials before the host name, and the query.
                url = re.sub(r"//[^/]*@", "//", asked.url.partition("?")[0])
                failure = {"at": round(sent, 3), "service": asked.service, "url": url, "what": what[:KEPT_TEXT]}
                self.failures.append(failure)
            return
        service.spread.add(ms, sent)
        if not asked.up:
            asked.up, asked.first_success = True, sent
        elif asked.waiting is not None:
            service.stall.add((done - asked.waiting) * 1000, asked.waiting)
        asked.waiting = done if asked.under_way else None

    # --- sockets ---

    def _keep_sockets(self) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._document(sockets) for sockets in self.sockets))

        asyncio.run(all_of_them())

    async def _document(self, sockets: Sockets) -> None:
        """Two clients in one document until the end; one writes, the other reads."""
        target = yjs_client.Target(
            sockets.url,
            connect_to=self.connect_to,
            origin=sockets.origin,
            context=self.context if sockets.url.startswith("wss:") else None,
            timeout=TIMEOUT,
        )
        run = secrets.token_hex(4)
        try:
            writer, reader = yjs_client.Editor(1, target), yjs_client.Editor(2, target)
        except ImportError as error:
            sockets.why = f"the Python package {error.name} is not installed on the controller"
            return
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._stay(sockets, writer),
                self._stay(sockets, reader),
                self._write(sockets, writer, run),
            )
        ]
        watching = reader.text.observe(lambda _event: self._read(sockets, reader.text, run))
        try:
            while not self.ending.is_set():
                await asyncio.sleep(0.05)
                for task in tasks:
                    if task.done():
                        task.result()
            patience = self._now() + PATIENCE
            while sockets.written and self._now() < patience:
                await asyncio.sleep(0.02)
        except Exception as error:
            self._problem(f"measuring the sockets of {sockets.service} ended early", error)
        finally:
            for task in tasks:
                task.cancel()
            # What follows is not measured, and nothing waits for it.
            reader.text.unobserve(watching)
            await asyncio.gather(*tasks, writer.leave(), reader.leave(), return_exceptions=True)

    async def _stay(self, sockets: Sockets, editor: Any) -> None:
        """Keep a socket open as y-websocket does, and record how long it is out."""
        attempts = 0
        was_up = False
        while True:
            try:
                await self._join(editor)
            except Exception as error:
                why = str(error) or type(error).__name__
                with contextlib.suppress(Exception):
                    await editor.leave()
                attempts += 1
                with self.lock:
                    if was_up:
                        sockets.out[editor.name]["attempts"] = attempts
                    else:
                        sockets.why = why
            else:
                attempts = 0
                with self.lock:
                    sockets.up += not was_up
                    outage = sockets.out.pop(editor.name, None)
                    if outage:
                        outage["until"] = round(self._now(), 3)
                        sockets.longest.add((outage["until"] - outage["at"]) * 1000, outage["at"])
                        sockets.outages = [*sockets.outages, outage][:KEPT_OUTAGES]
                was_up = True
                at = await self._until_closed(editor)
                with self.lock:
                    code = self._closed(sockets, editor, round(at, 3))
                with contextlib.suppress(Exception):
                    await editor.leave()
                if code in NO_RETURN:
                    return
            await asyncio.sleep(min(REDIAL[0] * 2**attempts, REDIAL[1]))

    async def _join(self, editor: Any) -> None:
        """Open the socket; it counts as open once the relay answers."""
        editor.heard.clear()
        await editor.join()
        await asyncio.wait_for(editor.heard.wait(), TIMEOUT)
        if editor.reader.done():
            raise yjs_client.SocketError(editor.reader.result())

    async def _until_closed(self, editor: Any) -> float:
        """When the closing frame or the end came. A connection still open after the frame is closed, as browsers do."""
        at: float | None = None
        while not editor.reader.done():
            if at is None and editor.socket.state.name == "CLOSING":
                at = self._now()
            if at is not None and self._now() - at > CLOSING:
                await editor.socket.close()
            await asyncio.wait([editor.reader], timeout=0.02)
        return self._now() if at is None else at

    def _closed(self, sockets: Sockets, editor: Any, at: float) -> int:
        code = int(editor.socket.close_code or 1006)
        sockets.codes[str(code)] = sockets.codes.get(str(code), 0) + 1
        outage = {"at": at, "until": at, "service": sockets.service, "who": editor.name, "attempts": 0}
        sockets.out[editor.name] = {**outage, "what": editor.reader.result()}
        return code

    async def _write(self, sockets: Sockets, editor: Any, run: str) -> None:
        while sockets.up < 2:
            await asyncio.sleep(0.02)
        number = 0
        while not self.ending.is_set():
            number += 1
            with self.lock:
                sockets.edits += 1
                sockets.written[number] = self._now()
            # The document outlives the deployment, and must not grow with every one.
            editor.text.clear()
            await editor.write(f"[{run}-{number}]")
            await asyncio.sleep(EDIT_EVERY)

    def _read(self, sockets: Sockets, text: Any, run: str) -> None:
        """Record which edits the other client sees."""
        seen = max((int(number) for number in re.findall(rf"\[{run}-(\d+)\]", str(text))), default=0)
        now = self._now()
        with self.lock:
            for number in [number for number in sockets.written if number <= seen]:
                at = sockets.written.pop(number)
                sockets.delay.add((now - at) * 1000, at)

    # --- the result ---

    def _result(self) -> Result:
        now = self._now() if self.ended is None else self.ended
        services = list(self.services.values())
        by_service = {name: self._of_service(name, service, now) for name, service in self.services.items()}
        stall = max(by_service.values(), key=lambda item: item["longest_stall_ms"], default=None)
        return {
            "started": round(self.started, 3),
            "seconds": round(now, 3),
            "requests": sum(service.requests for service in services),
            "failed": sum(service.failed for service in services),
            "unanswered": sum(asked.under_way for asked in self.asked),
            "unsent": self.unsent,
            "latency_ms": Spread(service.spread for service in services).figures(50, 95, 99),
            "longest_stall_ms": stall["longest_stall_ms"] if stall else 0,
            "longest_stall_at": stall["longest_stall_at"] if stall else 0.0,
            "by_service": by_service,
            "failures": list(self.failures),
            "failed_at": [round(at, 3) for at in self.failed_at],
            "sockets": self._of_sockets(now),
            "services": list(self.services),
            "samples": sorted([*self.good.items, *self.bad.items]),
            "down_before": {
                asked.service: round(asked.first_success, 3) for asked in self.asked if asked.up and asked.why
            },
            "unmeasured": self._unmeasured(),
        }

    def _of_service(self, name: str, service: Service, now: float) -> Result:
        stall = Most()
        stall.add(service.stall.ms, service.stall.at)
        for asked in self.asked:
            if asked.service == name and asked.waiting is not None:
                stall.add((now - asked.waiting) * 1000, asked.waiting)
        return {
            "requests": service.requests,
            "failed": service.failed,
            "latency_ms": service.spread.figures(50, 95, 99),
            "longest_stall_ms": round(stall.ms),
            "longest_stall_at": round(stall.at, 3),
        }

    def _of_sockets(self, now: float) -> Result:
        codes: dict[str, int] = {}
        longest, outages, missing = Most(), [], 0
        delay = Spread(sockets.delay for sockets in self.sockets)
        for sockets in self.sockets:
            for code, count in sockets.codes.items():
                codes[code] = codes.get(code, 0) + count
            longest.add(sockets.longest.ms, sockets.longest.at)
            outages += sockets.outages
            for outage in sockets.out.values():
                longest.add((now - outage["at"]) * 1000, outage["at"])
                outages.append({**outage, "until": round(now, 3)})
            for at in sockets.written.values():
                # Its delay is not known yet, but is at least this long.
                delay.most.add((now - at) * 1000, at)
                missing += now - at >= PATIENCE
        figures = delay.figures(50)
        return {
            "services": sorted({sockets.service for sockets in self.sockets}),
            "closed": sum(codes.values()),
            "codes": dict(sorted(codes.items())),
            "longest_out_ms": round(longest.ms),
            "longest_out_at": round(longest.at, 3),
            "outages": sorted(outages, key=lambda outage: outage["at"]),
            "edit_delay_ms": figures,
            "edits": sum(sockets.edits for sockets in self.sockets),
            "edits_missing": missing,
        }

    def _unmeasured(self) -> list[str]:
        never = [
            f"{asked.service} never answered: {asked.why or 'no response'}"[:KEPT_TEXT]
            for asked in self.asked
            if not asked.up and self.threads
        ]
        never += [
            f"the sockets of {sockets.service} never opened: {sockets.why}"[:KEPT_TEXT]
            for sockets in self.sockets
            if sockets.up < 2 and sockets.why
        ]
        return self.problems + never
