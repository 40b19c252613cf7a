#!/usr/bin/python3
"""STAND-IN for the Amazon CloudWatch agent, for the sandbox only. Not made by Amazon.

One program under the agent's three names: the control command, the service, and what the service starts. It collects
- the journal: an event is the whole entry under "body", from the moment at which the agent first ran;
- files: an event is a line, through rotations of either kind, from where the last run ended;
- metrics of the host, of processes and over StatsD, with the agent's names and dimensions (standin_metrics.py).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import hmac
import json
import os
import pathlib
import pwd
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

HOME = pathlib.Path(os.environ.get("CWAGENT_HOME", "/opt/aws/amazon-cloudwatch-agent"))
ETC = HOME / "etc"
DROP_INS = ETC / "amazon-cloudwatch-agent.d"
TRANSLATED = ETC / "amazon-cloudwatch-agent.toml"
LOGS = HOME / "logs"
STATE = LOGS / "state"
UNIT = "amazon-cloudwatch-agent.service"
BANNER = "This is a STAND-IN for the Amazon CloudWatch agent, for the sandbox only."
BATCH_EVENTS = 1000
BATCH_BYTES = 900_000
BATCH_SECONDS = 1.0
LINE_BYTES = 256_000
stopping = threading.Event()


def main() -> int:
    """Act as the name that the program was called by."""
    if pathlib.Path(sys.argv[0]).name.endswith("-ctl"):
        return control()
    return serve()


# --- the control command ----------------------------------------------------------------------------------------------


def control() -> int:
    """The agent's control command."""
    parser = argparse.ArgumentParser(prog="amazon-cloudwatch-agent-ctl", description=BANNER)
    actions = ("stop", "start", "status", "fetch-config", "append-config", "remove-config")
    parser.add_argument("-a", dest="action", choices=actions, required=True)
    parser.add_argument("-m", dest="mode", choices=("ec2", "onPremise", "auto"), default="ec2")
    parser.add_argument("-c", dest="location", default="")
    parser.add_argument("-s", dest="restart", action="store_true")
    options = parser.parse_args()
    print(BANNER, file=sys.stderr)
    try:
        if options.action == "status":
            return status()
        if options.action == "start":
            return start()
        if options.action == "stop":
            return systemctl("stop", UNIT)
        change(options.action, options.location)
    except ValueError as error:
        print(f"Configuration validation failed:\n{error}", file=sys.stderr)
        return 1
    if options.restart:
        systemctl("stop", UNIT)
        return start()
    return 0


def status() -> int:
    """Print the state, as the agent does."""
    running = systemctl("is-active", "--quiet", UNIT) == 0
    started = subprocess.run(
        ["systemctl", "show", "--property=ActiveEnterTimestamp", "--value", UNIT],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    state = {
        "status": "running" if running else "stopped",
        "starttime": started if running else "",
        "configstatus": "configured" if TRANSLATED.exists() else "not configured",
        "version": (HOME / "bin" / "CWAGENT_VERSION").read_text().strip(),
        "standin": BANNER,
    }
    print(json.dumps(state, indent=2))
    return 0


def start() -> int:
    """Start the service, now and with the host."""
    if not TRANSLATED.exists():
        print("The stand-in has no default configuration: fetch or append one first.", file=sys.stderr)
        return 1
    return systemctl("daemon-reload") or systemctl("enable", UNIT) or systemctl("restart", UNIT)


def systemctl(*args: str) -> int:
    """Run systemctl, and return its exit status."""
    return subprocess.run(["systemctl", *args], check=False).returncode


def change(action: str, location: str) -> None:
    """Fetch, append or remove a configuration. Raises ValueError; the configurations are then as before."""
    kind, _, name = location.partition(":")
    if kind == "all" and action == "remove-config":
        wanted: dict[str, str] = {}
    elif kind != "file" or not name:
        raise ValueError(f"-c {location}: the stand-in knows file:<path> only")
    else:
        target = f"file_{pathlib.Path(name).name.replace(' ', '_').replace(':', '_')}"
        kept = {} if action == "fetch-config" else {path.name: path.read_text() for path in drop_ins()}
        if action == "remove-config":
            if kept.pop(target, None) is None:
                raise ValueError(f"{DROP_INS / target} does not exist")
            wanted = kept
        else:
            try:
                wanted = {**kept, target: pathlib.Path(name).read_text()}
            except OSError as error:
                raise ValueError(f"-c {location}: {error}") from error
    merged: dict[str, Any] = {}
    for file, text in sorted(wanted.items()):
        try:
            merged = merge(merged, json.loads(text))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    if wanted:
        validate(merged)
    DROP_INS.mkdir(parents=True, exist_ok=True)
    for path in drop_ins():
        if path.name not in wanted:
            path.unlink()
    for file, text in wanted.items():
        replace(DROP_INS / file, text)
    if wanted:
        replace(TRANSLATED, f"# {BANNER}\n# It reads {DROP_INS} itself.\n")
        print("Configuration validation succeeded")
    else:
        TRANSLATED.unlink(missing_ok=True)


def drop_ins() -> list[pathlib.Path]:
    """The configurations that the agent has."""
    return sorted(path for path in DROP_INS.iterdir() if path.is_file()) if DROP_INS.is_dir() else []


def merge(one: dict, other: dict, where: str = "") -> dict:
    """Merge two configurations as the agent does: lists are joined, two different values are a conflict."""
    result = dict(one)
    for key, value in other.items():
        mine = result.get(key, value)
        if isinstance(mine, dict) and isinstance(value, dict):
            result[key] = merge(mine, value, f"{where}/{key}") if key in result else value
        elif isinstance(mine, list) and isinstance(value, list):
            result[key] = mine + [item for item in value if item not in mine]
        elif mine == value:
            result[key] = value
        else:
            raise ValueError(f"{where}/{key}: {mine!r} in one configuration, {value!r} in another")
    return result


def validate(config: dict) -> None:
    """Check a configuration against the published schema. Raises ValueError with every mistake."""
    from standin_schema import mistakes  # beside this file on the host

    found = mistakes(config, json.loads((HOME / "bin" / "schema.json").read_text()))
    if found:
        raise ValueError("\n".join(found))


def replace(path: pathlib.Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.chmod(0o644)
    temporary.replace(path)


# --- the service ------------------------------------------------------------------------------------------------------


def serve() -> int:
    """Ship what the configuration names until the service is stopped."""
    config: dict[str, Any] = {}
    for path in drop_ins():
        config = merge(config, json.loads(path.read_text()))
    become(config.get("agent", {}).get("run_as_user", "root"))
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    log(BANNER)
    threads = [threading.Thread(target=source.run) for source in sources(config)]
    for thread in threads:
        thread.start()
    stopping.wait()
    for thread in threads:
        thread.join(timeout=20)
    log("Stopped.")
    return 0


def sources(config: dict[str, Any]) -> list[Any]:
    """What the configuration names, each with a method run that works until the service is stopped."""
    from standin_metrics import Meter  # beside this file on the host

    region = config.get("agent", {}).get("region") or "us-east-1"
    found: list[Any] = []
    for section in ("logs", "metrics"):
        if section not in config:
            continue
        endpoint = config[section].get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL")
        if not endpoint:
            log(f"No {section}: {section}.endpoint_override is not set, and the stand-in never sends to AWS.")
        elif section == "metrics":
            interval = config.get("agent", {}).get("metrics_collection_interval") or 60
            found.append(Meter(Api(endpoint, region), config[section], interval, stopping, log))
        else:
            for collector, shipper in (("journald", Journal), ("files", File)):
                entries = config[section].get("logs_collected", {}).get(collector, {}).get("collect_list", [])
                found += [shipper(Api(endpoint, region), entry) for entry in entries]
    return found


def become(user: str) -> None:
    """Give up root for the user that the configuration names."""
    STATE.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0 or user == "root":
        return
    account = pwd.getpwnam(user)
    for path in (LOGS, STATE, *LOGS.glob("*.log"), *STATE.iterdir()):
        shutil.chown(path, account.pw_uid, account.pw_gid)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def log(text: str) -> None:
    """Write a line to the agent's own log, and to the journal."""
    line = f"{datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')} [stand-in] {text}"
    print(line, flush=True)
    with (LOGS / "amazon-cloudwatch-agent.log").open("a") as file:
        file.write(line + "\n")


class ApiError(Exception):
    """What the API answered; `kind` is its name for the error, empty where nothing answered."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind or 'no answer'}: {text}")
        self.kind = kind


class Api:
    """The APIs of CloudWatch Logs, CloudWatch and EC2."""

    def __init__(self, endpoint: str, region: str) -> None:
        self.endpoint = endpoint.rstrip("/") + "/"
        self.region = region
        self.key = os.environ.get("AWS_ACCESS_KEY_ID", "standin")
        self.secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "standin-for-the-agent")

    def call(self, operation: str, **arguments: Any) -> None:
        """Call an operation of CloudWatch Logs. Raises ApiError."""
        kind = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"Logs_20140328.{operation}"}
        self._send("logs", kind, json.dumps(arguments).encode())

    def query(self, service: str, version: str, operation: str, arguments: dict[str, Any]) -> str:
        """Call an operation of a service that takes forms and answers with XML. Raises ApiError."""
        form = urllib.parse.urlencode({"Action": operation, "Version": version, **arguments})
        kind = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        return self._send(service, kind, form.encode())

    def _send(self, service: str, kind: dict[str, str], body: bytes) -> str:
        headers = {
            **kind,
            "Host": urllib.parse.urlsplit(self.endpoint).netloc,
            "X-Amz-Date": datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ"),
        }
        headers["Authorization"] = self._authorization(service, headers, body)
        request = urllib.request.Request(self.endpoint, body, headers, method="POST")  # noqa: S310 - the sandbox's own API
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            name = ""
            with contextlib.suppress(ValueError, AttributeError):
                name = json.loads(text).get("__type", "").rpartition("#")[2]
            raise ApiError(name or str(error.code), text[:500]) from error
        except OSError as error:
            raise ApiError("", str(error)) from error

    def _authorization(self, service: str, headers: dict[str, str], body: bytes) -> str:
        """Signature version 4."""
        names = ";".join(sorted(name.lower() for name in headers))
        canonical = "".join(f"{name.lower()}:{value}\n" for name, value in sorted(headers.items()))
        request = f"POST\n/\n\n{canonical}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{headers['X-Amz-Date'][:8]}/{self.region}/{service}/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{headers['X-Amz-Date']}\n{scope}\n{digest}"
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, Signature={signature}"


class Shipper:
    """Ships one entry of a collect_list, from where the last run ended.

    A subclass reads its source in a thread of its own, and puts events in the queue, each with the position after it.
    """

    def __init__(self, api: Api, entry: dict[str, Any], source: str) -> None:
        self.api = api
        self.entry = entry
        self.group = entry["log_group_name"]
        self.stream = entry.get("log_stream_name", "{hostname}")
        for placeholder in ("{hostname}", "{local_hostname}", "{instance_id}"):
            self.stream = self.stream.replace(placeholder, socket.gethostname())
        name = hashlib.sha256(json.dumps([self.group, self.stream, source]).encode()).hexdigest()[:16]
        self.position = STATE / f"{name}.cursor"
        self.events: queue.Queue[tuple[int, str, str]] = queue.Queue(maxsize=5000)

    def read(self) -> None:
        """Put (time in ms, message, position) into the queue, until the service is stopped."""
        raise NotImplementedError

    def close(self) -> None:
        """End the reading."""

    def start(self) -> str:
        """Where the last run ended; empty where there was none."""
        return self.position.read_text().strip() if self.position.exists() else ""

    def run(self) -> None:
        """Read and ship, until the service is stopped."""
        threading.Thread(target=self.read, daemon=True).start()
        try:
            while not stopping.is_set():
                batch = self._batch(BATCH_SECONDS)
                if batch and not self._ship(batch):
                    return
        finally:
            self.close()
        rest = self._batch(0.2)
        if rest:
            self._ship(rest)

    def _batch(self, wait: float) -> list[tuple[int, str, str]]:
        batch: list[tuple[int, str, str]] = []
        size = 0
        until = time.monotonic() + wait
        while len(batch) < BATCH_EVENTS and size < BATCH_BYTES:
            try:
                event = self.events.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                break
            batch.append(event)
            size += len(event[1].encode()) + 26
        return batch

    def _ship(self, batch: list[tuple[int, str, str]]) -> bool:
        """Send a batch, however long the API is away. False where the service was stopped before it arrived."""
        ordered = sorted(batch, key=lambda event: event[0])
        events = [{"timestamp": when, "message": message} for when, message, _position in ordered]
        delay = 1
        while True:
            try:
                self._put(events)
            except ApiError as error:
                log(f"{self.group}: not shipped, again in {delay} s: {error}")
                if stopping.wait(delay):
                    return False
                delay = min(delay * 2, 30)
            else:
                replace(self.position, batch[-1][2] + "\n")
                return True

    def _put(self, events: list[dict[str, Any]]) -> None:
        place = {"logGroupName": self.group, "logStreamName": self.stream}
        try:
            self.api.call("PutLogEvents", logEvents=events, **place)
        except ApiError as error:
            if error.kind != "ResourceNotFoundException":
                raise
            self._create()
            self.api.call("PutLogEvents", logEvents=events, **place)

    def _create(self) -> None:
        for operation, arguments in (
            ("CreateLogGroup", {}),
            ("CreateLogStream", {"logStreamName": self.stream}),
        ):
            try:
                self.api.call(operation, logGroupName=self.group, **arguments)
            except ApiError as error:
                if error.kind != "ResourceAlreadyExistsException":
                    raise
        days = self.entry.get("retention_in_days", -1)
        if days > 0:
            self.api.call("PutRetentionPolicy", logGroupName=self.group, retentionInDays=days)


class Journal(Shipper):
    """Entries of the journal."""

    def __init__(self, api: Api, entry: dict[str, Any]) -> None:
        super().__init__(api, entry, json.dumps(entry.get("units")))
        self.journal: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The journal's reader."""
        cursor = self.start()
        return [
            "journalctl", "--follow", "--output=json", "--all", f"--priority={self.entry.get('priority', 'info')}",
            f"--after-cursor={cursor}" if cursor else "--lines=0",
            *(["--no-tail"] if cursor else []),
            *(f"--unit={unit}" for unit in self.entry.get("units", [])),
            *(f"{field}={value}" for match in self.entry.get("matches", []) for field, value in match.items()),
        ]  # fmt: skip

    def read(self) -> None:
        """Follow the journal."""
        self.journal = subprocess.Popen(self.command(), stdout=subprocess.PIPE)
        assert self.journal.stdout
        for line in self.journal.stdout:
            with contextlib.suppress(ValueError):
                self.events.put(self.event(json.loads(line)))
        if not stopping.is_set():
            log(f"{self.group}: journalctl ended; the service restarts")
            os._exit(1)

    def close(self) -> None:
        """End journalctl."""
        if self.journal:
            self.journal.terminate()
            self.journal.wait()

    @staticmethod
    def event(entry: dict[str, Any]) -> tuple[int, str, str]:
        """An entry as an event."""
        body = {key: value for key, value in entry.items() if key != "__REALTIME_TIMESTAMP"}
        return int(entry["__REALTIME_TIMESTAMP"]) // 1000, json.dumps({"body": body}), entry["__CURSOR"]


class File(Shipper):
    """Lines of a file, which need not exist yet.

    The position is the file's number and the offset after the last line that arrived. A file that was renamed is read
    to its end before the one that took its place; one that was cut is read from its beginning.
    """

    def __init__(self, api: Api, entry: dict[str, Any]) -> None:
        self.path = pathlib.Path(entry["file_path"])
        super().__init__(api, {"log_group_name": str(self.path), **entry}, str(self.path))
        self.refused = ""

    def read(self) -> None:
        """Follow the file."""
        number, _space, offset = self.start().partition(" ")
        while not stopping.is_set():
            handle = self._open()
            if not handle:
                stopping.wait(0.5)
                continue
            with handle:
                inode = os.fstat(handle.fileno()).st_ino
                if str(inode) == number and offset.isdigit():
                    handle.seek(int(offset))
                number = ""
                self._follow(handle, inode)

    def _open(self) -> Any:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            if str(error) != self.refused:
                self.refused = str(error)
                log(f"{self.path}: {error}")
            return None

    def _follow(self, handle: Any, inode: int) -> None:
        """Read until another file has the path, and this one has nothing more."""
        replaced = False
        while not stopping.is_set():
            if os.fstat(handle.fileno()).st_size < handle.tell():
                handle.seek(0)
            start = handle.tell()
            line = handle.readline(LINE_BYTES)
            if line.endswith(b"\n") or len(line) == LINE_BYTES or (line and replaced):
                message = line.decode(errors="replace").rstrip("\r\n")
                if message:
                    self.events.put((moment(message, self.entry), message, f"{inode} {handle.tell()}"))
                continue
            handle.seek(start)
            if replaced:
                return
            try:
                replaced = self.path.stat().st_ino != inode
            except OSError:
                replaced = False
            if not replaced:
                stopping.wait(0.2)


# The agent's directives for time stamps, as it looks for them.
DIRECTIVES = {
    "%B": r"[A-Za-z]+", "%b": r"\w{3}", "%-m": r"\d{1,2}", "%m": r"\d{2}", "%A": r"[A-Za-z]+", "%a": r"\w{3}",
    "%-d": r"\d{1,2}", "%d": r"\d{2}", "%H": r"\d{2}", "%-I": r"\d{1,2}", "%I": r"\d{2}", "%-M": r"\d{1,2}",
    "%M": r"\d{2}", "%-S": r"\d{1,2}", "%S": r"\d{2}", "%Y": r"\d{4}", "%y": r"\d{2}", "%p": r"\w{2}", "%Z": r"\w{3}",
    "%z": r"[+-]\d{4}", "%f": r"\d{1,9}",
}  # fmt: skip


def moment(line: str, entry: dict[str, Any]) -> int:
    """When a line was written, in ms, by its time stamp; now, where it has none."""
    form = entry.get("timestamp_format", "")
    words = re.split(r"(%-?\w)", form)
    found = re.search("".join(DIRECTIVES.get(word, re.escape(word)) for word in words), line) if form else None
    if not found:
        return int(time.time() * 1000)
    try:
        when = datetime.datetime.strptime(found.group(), form.replace("%-", "%"))
    except ValueError:
        return int(time.time() * 1000)
    if when.tzinfo is None and entry.get("timezone") == "UTC":
        when = when.replace(tzinfo=datetime.UTC)
    return int(when.timestamp() * 1000)


if __name__ == "__main__":
    sys.exit(main())
