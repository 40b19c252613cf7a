"""What the stand-in measures: the host, processes, and what services send over StatsD.

Names, dimensions and roll-ups are those of the real agent. Of each collector only what the tables here name.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

BATCH = 20
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
UNITS = {
    "_percent": "Percent", "cpu_usage": "Percent", "pid_count": "Count", "memory_rss": "Bytes", "memory_vms": "Bytes",
    "_total": "Bytes", "_used": "Bytes", "_free": "Bytes", "_available": "Bytes", "_cached": "Bytes",
}  # fmt: skip
# Placeholders of append_dimensions, and the element of DescribeInstances that holds each.
OF_INSTANCE = {
    "${aws:InstanceId}": "instanceId", "${aws:ImageId}": "imageId", "${aws:InstanceType}": "instanceType",
}  # fmt: skip


class Sample(NamedTuple):
    """One value, or the statistics of several: (lowest, highest, sum, count)."""

    name: str
    dimensions: dict[str, str]
    value: float
    statistics: tuple[float, float, float, float] | None = None


class Meter:
    """Measures at each interval and publishes, until the service is stopped."""

    def __init__(
        self, api: Any, section: dict[str, Any], interval: float, stopping: threading.Event, log: Callable[[str], None]
    ) -> None:
        self.api = api
        self.section = section
        self.interval = interval
        self.stopping = stopping
        self.log = log
        self.processes = Processes()
        self.statsd: StatsD | None = None
        self.common: dict[str, str] | None = None
        self.said: set[str] = set()

    def run(self) -> None:
        """Measure and publish."""
        if "statsd" in self.section["metrics_collected"]:
            address = self.section["metrics_collected"]["statsd"].get("service_address", ":8125")
            self.statsd = StatsD(address, self.stopping)
            threading.Thread(target=self.statsd.run, daemon=True).start()
        following = time.monotonic()
        while not self.stopping.is_set():
            self.once()
            following += self.interval
            self.stopping.wait(max(0, following - time.monotonic()))

    def once(self) -> None:
        """Measure and publish once. As with the agent, nothing is published before the instance is known."""
        try:
            if self.common is None:
                self.common = self.instance()
            self.publish([sample for sample in self.measure() if sample is not None])
        except Exception as error:  # the next interval tries again, whatever it was
            self._say(f"metrics: {type(error).__name__}: {error}")

    def instance(self) -> dict[str, str]:
        """The dimensions of append_dimensions, by what EC2 says of the instance with this host's address.

        The sandbox has no instance metadata.
        """
        wanted = self.section.get("append_dimensions", {})
        if not wanted:
            return {"host": socket.gethostname()}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            place = urlsplit(self.api.endpoint)
            probe.connect((place.hostname, place.port or 80))
            address = probe.getsockname()[0]
        filters = {
            "Filter.1.Name": "private-ip-address", "Filter.1.Value.1": address,
            "Filter.2.Name": "instance-state-name", "Filter.2.Value.1": "running",
        }  # fmt: skip
        answer = self.api.query("ec2", "2016-11-15", "DescribeInstances", filters)
        found = {}
        for key, placeholder in wanted.items():
            element = OF_INSTANCE.get(placeholder)
            value = re.search(f"<{element}>([^<]+)</{element}>", answer) if element else None
            if not value:
                raise LookupError(f"EC2 does not say {placeholder} of an instance with the address {address}")
            found[key] = value.group(1)
        return found

    def measure(self) -> Iterator[Sample]:
        """Every sample that the configuration asks for."""
        for collector, content in self.section["metrics_collected"].items():
            if collector == "statsd":
                yield from self.statsd.take() if self.statsd else []
                continue
            for entry in content if isinstance(content, list) else [content]:
                stated = entry.get("append_dimensions", {})
                wanted = [self._wanted(collector, item) for item in entry.get("measurement", [])]
                if collector not in COLLECTORS and collector != "procstat":
                    self._say(f"{collector} is not measured by the stand-in")
                    continue
                read = self.processes.read if collector == "procstat" else COLLECTORS[collector]
                known: set[str] = set()
                for values, dimensions in read(entry):
                    known |= set(values)
                    for name in wanted:
                        if name in values:
                            prefix = "procstat_lookup" if name == "pid_count" else collector
                            yield Sample(f"{prefix}_{name}", {**dimensions, **stated}, values[name])
                for name in set(wanted) - known - PROCESS_VALUES:
                    self._say(f"{collector}_{name} is not measured by the stand-in")

    @staticmethod
    def _wanted(collector: str, item: Any) -> str:
        return str(item["name"] if isinstance(item, dict) else item).removeprefix(f"{collector}_")

    def publish(self, samples: list[Sample]) -> None:
        """Send samples, each also in its roll-ups."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        data = [
            (sample, dimensions)
            for sample in samples
            for dimensions in self.rollups({**sample.dimensions, **(self.common or {})})
        ]
        for start in range(0, len(data), BATCH):
            form: dict[str, Any] = {"Namespace": self.section.get("namespace", "CWAgent")}
            for number, (sample, dimensions) in enumerate(data[start : start + BATCH], 1):
                form.update(datum(f"MetricData.member.{number}", sample, dimensions, now))
            self.api.query("monitoring", "2010-08-01", "PutMetricData", form)

    def rollups(self, dimensions: dict[str, str]) -> list[dict[str, str]]:
        """The dimensions, and each aggregation that has fewer of them."""
        wanted = [
            keys
            for keys in self.section.get("aggregation_dimensions", [])
            if len(keys) < len(dimensions) and all(key in dimensions for key in keys)
        ]
        return [dimensions, *({key: dimensions[key] for key in keys} for keys in wanted)]

    def _say(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.log(text)


def datum(prefix: str, sample: Sample, dimensions: dict[str, str], now: str) -> dict[str, Any]:
    """One datum of PutMetricData as a form."""
    form: dict[str, Any] = {f"{prefix}.MetricName": sample.name, f"{prefix}.Timestamp": now}
    unit = next((unit for end, unit in UNITS.items() if sample.name.endswith(end)), "")
    if unit:
        form[f"{prefix}.Unit"] = unit
    if sample.statistics:
        for key, value in zip(("Minimum", "Maximum", "Sum", "SampleCount"), sample.statistics, strict=True):
            form[f"{prefix}.StatisticValues.{key}"] = value
    else:
        form[f"{prefix}.Value"] = sample.value
    for number, (key, value) in enumerate(sorted(dimensions.items()), 1):
        form[f"{prefix}.Dimensions.member.{number}.Name"] = key
        form[f"{prefix}.Dimensions.member.{number}.Value"] = value
    return form


# --- the host ---------------------------------------------------------------------------------------------------------

Values = Iterator[tuple[dict[str, float], dict[str, str]]]


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def memory(_entry: dict[str, Any]) -> Values:
    """The host's memory."""
    now = meminfo()
    cached = now["Cached"] + now.get("SReclaimable", 0)
    used = now["MemTotal"] - now["MemFree"] - now["Buffers"] - cached
    total = now["MemTotal"]
    yield (
        {
            "total": total,
            "free": now["MemFree"],
            "used": used,
            "used_percent": 100 * used / total,
            "available": now["MemAvailable"],
            "available_percent": 100 * now["MemAvailable"] / total,
            "cached": cached,
            "buffered": now["Buffers"],
        },
        {},
    )


def swap(_entry: dict[str, Any]) -> Values:
    """The host's swap; none is used where there is none."""
    now = meminfo()
    used = now["SwapTotal"] - now["SwapFree"]
    percent = 100 * used / now["SwapTotal"] if now["SwapTotal"] else 0.0
    yield {"free": now["SwapFree"], "used": used, "used_percent": percent}, {}


def disk(entry: dict[str, Any]) -> Values:
    """The file systems at the mount points that are asked for."""
    wanted = entry.get("resources", ["*"])
    mounts = {}
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        device, path, kind = line.split()[:3]
        mounts[path] = (device, kind)
    for path, (device, kind) in mounts.items():
        if path not in wanted and "*" not in wanted:
            continue
        try:
            found = os.statvfs(path)
        except OSError:
            continue
        size, free, available = (count * found.f_frsize for count in (found.f_blocks, found.f_bfree, found.f_bavail))
        if not size:
            continue
        used = size - free
        dimensions = {"path": path, "fstype": kind, **({} if entry.get("drop_device") else {"device": device})}
        percent = 100 * used / (used + available) if used + available else 0.0
        yield {"total": size, "used": used, "free": available, "used_percent": percent}, dimensions


COLLECTORS: dict[str, Callable[[dict[str, Any]], Values]] = {"mem": memory, "swap": swap, "disk": disk}


# --- processes --------------------------------------------------------------------------------------------------------

PROCESS_VALUES = {"pid_count", "pid", "cpu_usage", "memory_rss", "memory_vms", "num_threads"}


class Processes:
    """Processes by their command line, their program or a file with their number."""

    def __init__(self, proc: pathlib.Path = pathlib.Path("/proc")) -> None:
        self.proc = proc
        # What a process had used, and when, at the last look; by number and start.
        self.before: dict[tuple[int, int], tuple[float, float]] = {}

    def read(self, entry: dict[str, Any]) -> Values:
        """The number of processes that match, and each with its values. None that matches is a number as well: 0."""
        key = next(key for key in ("pid_file", "exe", "pattern") if key in entry)
        dimension = {"pidfile" if key == "pid_file" else key: str(entry[key])}
        found = list(self._matching(key, str(entry[key])))
        yield {"pid_count": len(found)}, {**dimension, "pid_finder": "native"}
        for pid in found:
            with contextlib.suppress(OSError, ValueError, IndexError):
                values, name = self._values(pid)
                yield values, {**dimension, "process_name": name}

    def _matching(self, key: str, wanted: str) -> Iterator[int]:
        if key == "pid_file":
            with contextlib.suppress(OSError, ValueError):
                yield int(pathlib.Path(wanted).read_text())
            return
        for folder in self.proc.iterdir():
            if not folder.name.isdigit():
                continue
            # A program that belongs to another user cannot be read, here as with the agent.
            with contextlib.suppress(OSError):
                if key == "exe":
                    text = str((folder / "exe").readlink())
                else:
                    text = (folder / "cmdline").read_bytes().replace(b"\0", b" ").strip().decode(errors="replace")
                if text and re.search(wanted, text):
                    yield int(folder.name)

    def _values(self, pid: int) -> tuple[dict[str, float], str]:
        text = (self.proc / str(pid) / "stat").read_text()
        name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        used, started, now = (int(fields[11]) + int(fields[12])) / TICKS, int(fields[19]), time.monotonic()
        last = self.before.get((pid, started))
        self.before[pid, started] = (used, now)
        usage = 100 * (used - last[0]) / (now - last[1]) if last and now > last[1] else 0.0
        return {
            "pid": pid,
            "cpu_usage": usage,
            "num_threads": int(fields[17]),
            "memory_vms": int(fields[20]),
            "memory_rss": int(fields[21]) * PAGE,
        }, name


# --- StatsD -----------------------------------------------------------------------------------------------------------

KINDS = {"c": "counter", "g": "gauge", "ms": "timing", "h": "timing", "s": "set"}


class StatsD:
    """What services send between two looks: counters are added up, of gauges the last holds, times are summed up."""

    def __init__(self, address: str, stopping: threading.Event) -> None:
        host, _colon, port = address.rpartition(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, int(port)))
        self.socket.settimeout(0.5)
        self.stopping = stopping
        self.lock = threading.Lock()
        self.kept: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Any]] = {}

    def run(self) -> None:
        """Take packets until the service is stopped."""
        while not self.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                for line in self.socket.recv(65535).decode(errors="replace").splitlines():
                    self.note(line)
        self.socket.close()

    def note(self, line: str) -> None:
        """Take one line: name:value|kind, then |@rate and |#tag:value,… in any order. Others are left out."""
        name, _colon, rest = line.strip().partition(":")
        value, *parts = rest.split("|")
        if not name or not parts or parts[0] not in KINDS:
            return
        kind = KINDS[parts[0]]
        rate = next((part[1:] for part in parts[1:] if part.startswith("@")), "1")
        tags = next((part[1:] for part in parts[1:] if part.startswith("#")), "")
        pairs = tuple(
            sorted((key, text) for key, _colon, text in (tag.partition(":") for tag in tags.split(",")) if text)
        )
        key = (re.sub(r"[.\-]", "_", name), kind, pairs)
        with self.lock, contextlib.suppress(ValueError, ZeroDivisionError):
            values = self.kept.setdefault(key, [])
            if kind == "set":
                values.append(value)
            elif kind == "counter":
                values.append(float(value) / float(rate))
            elif kind == "gauge":
                values[:] = [(values[-1] if values and value[:1] in "+-" else 0.0) + float(value)]
            else:
                values.append(float(value))

    def take(self) -> list[Sample]:
        """What came since the last time. A gauge stays what it was."""
        with self.lock:
            kept = self.kept
            self.kept = {key: list(values) for key, values in kept.items() if key[1] == "gauge"}
        found = []
        for (name, kind, tags), values in kept.items():
            if not values:
                continue
            dimensions = {"metric_type": kind, **dict(tags)}
            if kind == "timing":
                statistics = (min(values), max(values), sum(values), float(len(values)))
                found.append(Sample(name, dimensions, 0.0, statistics))
            else:
                value = {"counter": sum, "set": lambda some: len(set(some)), "gauge": lambda some: some[-1]}[kind](
                    values
                )
                found.append(Sample(name, dimensions, float(value)))
        return found
