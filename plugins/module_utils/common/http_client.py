# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Send one request over the network, and report the response or the exact reason why none came.

Standard library only, Python 3.9 or later: this runs on hosts as well as on the controller.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BODY_LIMIT = 1 << 20
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

#: The usual cause of a failure, by its kind. ``{address}`` is the address that was connected to.
LIKELY = {
    "dns": "the name does not resolve: check the DNS record, or set the address to connect to",
    "refused": "nothing is listening on {address}: the service or its nginx is down, or uses another port or address",
    "connect_timeout": "no reply from {address}: a security group or a route blocks it, or the host is down",
    "answer_timeout": "connected, but no complete response came in time: the process hangs, or waits for something "
    "that it needs (a database?)",
    "unreachable": "there is no route to {address}: check the subnet, the route table and the VPN",
    "closed": "the other side closed the connection without a response: it crashed, or speaks another protocol on "
    "this port (http on an https port?)",
    "tls_name": "the certificate is for another name: it is the wrong one, or the name is missing from it",
    "tls_expired": "the certificate has expired or is not valid yet: renew it, and check this machine's clock",
    "tls_untrusted": "the certificate's issuer is not trusted: the chain is incomplete, or ca_file is the wrong file",
    "tls_refused": "the TLS handshake was rejected: no certificate for this name on {address}",
    "protocol": "the response is not HTTP: another protocol on this port (https on an http port?)",
    "invalid": "the address is not valid: correct it",
    400: "the front considers the request malformed: plain http on an https port, or a header that is too large",
    401: "the path requires a login: use one that does not",
    403: "denied by a rule: an allow-list, the Origin, or the file permissions of static files",
    404: "the path is not served there: check health.path, the global prefix, and the `public` path of the service",
    405: "the path does not support this method",
    413: "the body is larger than body_limit of the service",
    421: "the certificate or virtual host does not match the requested name",
    429: "too many requests: a rate limit",
    500: "the application failed: see the error in its log",
    502: "nginx is up, but its upstream is not: the process is down, still starting, or on another port",
    503: "up, but not ready: the application refuses requests, no upstream is healthy, or it is in maintenance "
    "(playbooks/maintenance.yml)",
    504: "nginx is up, but its upstream does not respond in time",
}


class ProbeError(Exception):
    """No response came. ``kind`` is a key of LIKELY; the text says what happened and where."""

    def __init__(self, kind: str | int, text: str, address: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.address = address

    @property
    def likely(self) -> str:
        return likely(self.kind, self.address)


@dataclass
class Answer:
    """A response: status, headers in order (names in lower case), body (at most 1 MiB), seconds it took."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seconds: float
    reason: str = ""
    certificate: dict = field(default_factory=dict)

    def all(self, name: str) -> list[str]:
        """Return all values of a header, in order."""
        return [value for key, value in self.headers if key == name.lower()]

    def header(self, name: str) -> str:
        """Return the header's values, joined by commas as HTTP does; empty if there are none."""
        return ", ".join(self.all(name))

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def retry_after(self, now: float | None = None) -> float | None:
        """Return the seconds after which to ask again, from a number or a date; None if the response says nothing."""
        text = self.header("retry-after").strip()
        if text.isdigit():
            return float(text)
        try:
            when = email.utils.parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError):
            return None
        return max(0.0, when - (time.time() if now is None else now))

    def describe(self) -> str:
        """Return one line: status, and the redirect's location or the beginning of the body."""
        excerpt = " ".join(self.text[:600].split())[:200]
        line = f"{self.status} {self.reason}".rstrip()
        if 300 <= self.status < 400 and self.header("location"):
            line += f" to {self.header('location')}"
        elif excerpt:
            line += f": {excerpt}"
        return line


def likely(kind: str | int, address: str = "") -> str:
    """Return the likely cause of a kind of failure or a status; empty if unknown."""
    if isinstance(kind, int) and 300 <= kind < 400:
        return "it redirects: request the address that it points to, or list the status as expected"
    text = LIKELY.get(kind) or (LIKELY[500] if isinstance(kind, int) and kind > 504 else "")
    return text.replace("{address}", address or "the address")


def below(prefix: str, path: str) -> bool:
    """Return whether a path, of which the query does not count, is below a prefix: /docs and /docs/x, not /docsx."""
    return f"{path.partition('?')[0]}/".startswith(f"{prefix.rstrip('/')}/")


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Split ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address into host and port."""
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
        if not bracket or (rest and not port):
            raise ProbeError("invalid", f"{text!r} is not an address; write [address]:port")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _colon, port = text.partition(":")
    if not host or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise ProbeError("invalid", f"{text!r} is not an address; write host:port, with a port from 1 to 65535")
    return host, int(port or default_port)


def tls_context(ca_file: str | None = None, validate: bool = True) -> ssl.SSLContext:
    """Return a client context that trusts ``ca_file``, or the system's authorities, or whatever a server has."""
    if not validate:
        # To read the system's authorities takes 30 ms, and none is asked.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ProbeError("invalid", f"ca_file {ca_file}: {error}") from error


def classify(error: BaseException, address: str, name: str = "", connected: bool = False) -> ProbeError:
    """Turn a network exception into a failure that an operator can act on."""
    if isinstance(error, ProbeError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == 62:
            kind = "tls_name"
        elif error.verify_code in (9, 10):
            kind = "tls_expired"
        else:
            kind = "tls_untrusted"
        return ProbeError(kind, f"TLS to {address} for {name}: {error.verify_message}", address)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return ProbeError("closed", f"{address} closed the connection during the TLS handshake", address)
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "unrecognized name" in reason or "handshake failure" in reason or "internal error" in reason:
            return ProbeError("tls_refused", f"{address} rejected the TLS handshake for {name} ({reason})", address)
        if "wrong version number" in reason or "record layer" in reason:
            return ProbeError("closed", f"{address} does not speak TLS ({reason})", address)
        return ProbeError("tls_refused", f"TLS to {address} for {name}: {reason}", address)
    if isinstance(error, socket.gaierror):
        return ProbeError("dns", f"{name or address} does not resolve ({error.strerror})", address)
    if isinstance(error, ConnectionRefusedError):
        return ProbeError("refused", f"connection to {address} refused", address)
    if isinstance(error, (TimeoutError, socket.timeout)):  # two classes in Python 3.9
        if connected:
            return ProbeError(
                "answer_timeout", f"{address} accepted the connection, but did not respond in time", address
            )
        return ProbeError("connect_timeout", f"connecting to {address} timed out", address)
    if isinstance(error, (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead)):
        return ProbeError("closed", f"{address} closed the connection before its response was complete", address)
    if isinstance(error, http.client.HTTPException):
        return ProbeError(
            "protocol", f"{address} sent something that is not HTTP ({error or type(error).__name__})", address
        )
    if isinstance(error, OSError):
        return ProbeError("unreachable", f"{address}: {error.strerror or error}", address)
    return ProbeError("protocol", f"{address}: {type(error).__name__}: {error}", address)


def connect(host: str, port: int, timeout: float, name: str = "") -> socket.socket:
    """Open a TCP connection; raise a ProbeError that says why it failed."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return socket.create_connection((host, port), timeout)
    except (OSError, UnicodeError) as error:
        if isinstance(error, UnicodeError):
            raise ProbeError("invalid", f"{host!r} is not a host name", address) from error
        raise classify(error, address, name or host) from error


def open_port(target: str, timeout: float = 5.0) -> float:
    """Connect to ``host:port`` over TCP, and return the seconds that it took."""
    host, port = split_address(target, 0)
    if not port:
        raise ProbeError("invalid", f"{target!r} has no port; write host:port")
    start = time.monotonic()
    connect(host, port, timeout).close()
    return time.monotonic() - start


def ask(
    url: str,
    *,
    connect_to: str | None = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    timeout: float = 5.0,
    context: ssl.SSLContext | None = None,
    read: Callable[[http.client.HTTPResponse], bytes] | None = None,
) -> Answer:
    """Send one HTTP request, without following redirects, within ``timeout`` seconds in total.

    ``connect_to`` (``host[:port]``) is where to connect; name, SNI and Host header remain those of the URL, as if DNS
    pointed there. ``read`` reads the body, which then need not be complete.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise ProbeError("invalid", f"{url}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ProbeError("invalid", f"{url!r} is not an http or https URL")
    default_port = DEFAULT_PORTS[parts.scheme]
    port = port or default_port
    host, to_port = split_address(connect_to, port) if connect_to else (parts.hostname, port)
    address = f"[{host}]:{to_port}" if ":" in host else f"{host}:{to_port}"
    name = parts.hostname
    literal = f"[{name}]" if ":" in name else name
    sent = {
        "Host": literal if port == default_port else f"{literal}:{port}",
        "User-Agent": "fivepointers-probe",
        "Accept": "*/*",
        "Connection": "close",
        **(headers or {}),
    }
    start = time.monotonic()
    sock = connect(host, to_port, timeout, name)
    late = threading.Event()

    stream = sock

    def give_up() -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(stream, socket.SHUT_RDWR)

    # The socket's timeout restarts with every byte; this one does not.
    timer = threading.Timer(max(0.01, timeout - (time.monotonic() - start)), give_up)
    timer.daemon = True
    timer.start()
    try:
        certificate: dict = {}
        if parts.scheme == "https":
            tls = (context or tls_context()).wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
            stream = tls
            tls.do_handshake()
            certificate = dict(tls.getpeercert() or {})
        connection = http.client.HTTPConnection(name, port, timeout=timeout)
        connection.sock = stream
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        connection.request(method, target, body=body, headers=sent)
        response = connection.getresponse()
        content = (read or _read)(response)
        if late.is_set():
            raise TimeoutError
        if not read and response.length and len(content) < BODY_LIMIT:
            raise http.client.IncompleteRead(content, response.length)
        return Answer(
            status=response.status,
            reason=response.reason or "",
            headers=[(key.lower(), value) for key, value in response.getheaders()],
            body=content,
            seconds=time.monotonic() - start,
            certificate=certificate,
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set():
            raise classify(TimeoutError(), address, name, connected=True) from error
        if isinstance(error, (ValueError, http.client.InvalidURL)) and not isinstance(error, ssl.SSLError):
            raise ProbeError("invalid", f"{method} {url}: {error}", address) from error
        raise classify(error, address, name, connected=True) from error
    finally:
        timer.cancel()
        stream.close()


def _read(response: http.client.HTTPResponse) -> bytes:
    return response.read(BODY_LIMIT)


def certificate_of(
    url: str, *, connect_to: str | None = None, timeout: float = 5.0, context: ssl.SSLContext | None = None
) -> dict:
    """Return the certificate that is presented for an https or wss URL, once it is verified."""
    parts = urlsplit(url)
    port = parts.port or 443
    name = parts.hostname or ""
    host, port = split_address(connect_to, port) if connect_to else (name, port)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    sock = connect(host, port, timeout, name)
    try:
        with (context or tls_context()).wrap_socket(sock, server_hostname=name) as tls:
            return dict(tls.getpeercert() or {})
    except OSError as error:
        raise classify(error, address, name, connected=True) from error
    finally:
        sock.close()


def days_left(certificate: dict, now: float | None = None) -> float:
    """Return the days until ``notAfter`` of a certificate from ``getpeercert``."""
    expires = ssl.cert_time_to_seconds(certificate["notAfter"])
    return (expires - (time.time() if now is None else now)) / 86400


def expiry_date(certificate: dict) -> str:
    """Return ``notAfter`` as a date, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(ssl.cert_time_to_seconds(certificate["notAfter"])))


def complaints(answer: Answer, status: list[int], contains: list[str]) -> list[str]:
    """Return what differs from the expected response; empty if nothing does."""
    found = []
    if answer.status not in status:
        found.append(f"status {answer.status} instead of {' or '.join(map(str, status))}")
    found += [f"the body does not contain {text!r}" for text in contains if text not in answer.text]
    return found
