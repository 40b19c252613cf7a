"""What the stand-in reads and measures: files through rotations, the host, processes, StatsD; as the agent says it."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sandbox.cloudwatch_agent import standin_metrics as metrics

SOURCE = Path(__file__).parents[3] / "sandbox/cloudwatch_agent"
REGION = "ap-northeast-2"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stand-in's program, with a home of its own."""
    (tmp_path / "home/logs/state").mkdir(parents=True)
    monkeypatch.setenv("CWAGENT_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(SOURCE))
    spec = importlib.util.spec_from_file_location("standin_agent", SOURCE / "agent.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BATCH_SECONDS = 0.1
    return module


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.02)
    return found


# --- files ------------------------------------------------------------------------------------------------------------


class Logs:
    """The API, as far as it is asked here; away for as long as it is told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.streams: set[tuple[str, str]] = set()
        self.away = False

    def call(self, operation: str, **arguments: Any) -> None:
        assert operation == "PutLogEvents"
        assert not self.away
        self.streams.add((arguments["logGroupName"], arguments["logStreamName"]))
        self.events += arguments["logEvents"]

    @property
    def lines(self) -> list[str]:
        return [event["message"] for event in self.events]


class Tail:
    """The stand-in with one file, started and stopped as the service is."""

    def __init__(self, agent: ModuleType, path: Path) -> None:
        self.agent, self.path, self.logs = agent, path, Logs()
        self.entry = {"file_path": str(path), "log_group_name": "nginx", "log_stream_name": "host/access"}

    def __enter__(self) -> Tail:
        self.agent.stopping.clear()
        self.thread = threading.Thread(target=self.agent.File(self.logs, self.entry).run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.stopping.set()
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()

    def write(self, *lines: object) -> None:
        with self.path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def arrived(self, *lines: object) -> None:
        wanted = [str(line) for line in lines]
        until(lambda: len(self.logs.lines) >= len(wanted))
        assert self.logs.lines == wanted


@pytest.fixture
def tail(agent: ModuleType, tmp_path: Path) -> Tail:
    return Tail(agent, tmp_path / "access.log")


def test_lines_go_as_they_are_from_the_beginning_of_the_file(tail: Tail) -> None:
    tail.write('{"status":200}')
    with tail:
        tail.write('{"status":502}', "")
        tail.arrived('{"status":200}', '{"status":502}')
    assert tail.logs.streams == {("nginx", "host/access")}


def test_a_file_may_come_later_and_lines_in_pieces(tail: Tail) -> None:
    with tail:
        time.sleep(0.1)
        with tail.path.open("a", buffering=1) as file:
            file.write("one ")
            file.flush()
            time.sleep(0.4)
            assert tail.logs.lines == []
            file.write("line\n")
        tail.arrived("one line")


def test_a_file_that_is_renamed_is_read_to_its_end_before_the_next(tail: Tail) -> None:
    with tail:
        tail.write(1)
        tail.arrived(1)
        old = tail.path.rename(tail.path.with_suffix(".1"))
        # nginx writes to the file that it has open until it is told.
        with old.open("a") as file:
            file.write("2\n")
        tail.arrived(1, 2)
        with old.open("a") as file:
            file.write("3\n")
        tail.write(4)
        tail.arrived(1, 2, 3, 4)


def test_a_file_that_is_cut_is_read_from_its_beginning(tail: Tail) -> None:
    with tail:
        tail.write("first", "second")
        tail.arrived("first", "second")
        os.truncate(tail.path, 0)
        tail.write("third")
        tail.arrived("first", "second", "third")


def test_after_a_restart_it_goes_on_where_it_was(tail: Tail) -> None:
    with tail:
        tail.write(1, 2)
        tail.arrived(1, 2)
    tail.write(3)
    with tail:
        tail.arrived(1, 2, 3)
    tail.path.rename(tail.path.with_suffix(".1"))
    tail.write(4)
    with tail:
        tail.arrived(1, 2, 3, 4)


def test_what_did_not_arrive_is_sent_again_after_a_restart(tail: Tail, agent: ModuleType) -> None:
    def away(operation: str, **arguments: Any) -> None:
        tried.append(operation)
        raise agent.ApiError("", "nobody is there")

    tried: list[str] = []
    tail.write(1)
    tail.logs.call, call = away, tail.logs.call  # type: ignore[method-assign]
    with tail:
        until(lambda: tried)
    assert tail.logs.lines == []
    tail.logs.call = call  # type: ignore[method-assign]
    with tail:
        tail.arrived(1)


def test_the_time_is_that_of_the_line(agent: ModuleType) -> None:
    entry = {"timestamp_format": '"time":"%Y-%m-%dT%H:%M:%S', "timezone": "UTC"}
    when = datetime(2026, 11, 26, 17, 58, 6, tzinfo=UTC).timestamp() * 1000
    assert agent.moment('{"time":"2026-11-26T17:58:06+00:00","status":200}', entry) == when
    now = time.time() * 1000
    assert abs(agent.moment("no time", entry) - now) < 5000
    assert abs(agent.moment('{"time":"2026-13-99T17:58:06"}', entry) - now) < 5000
    local = {**entry, "timezone": "Local"}
    assert agent.moment('"time":"2026-11-26T17:58:06', local) == datetime(2026, 11, 26, 17, 58, 6).timestamp() * 1000


# --- metrics ----------------------------------------------------------------------------------------------------------


def measured(read: Callable[[dict[str, Any]], Any], **entry: Any) -> list[tuple[dict[str, float], dict[str, str]]]:
    return list(read(entry))


def test_memory_swap_and_disk_are_shares_of_what_there_is() -> None:
    ((memory, none),) = measured(metrics.memory)
    assert none == {}
    assert 0 < memory["used"] < memory["total"]
    assert memory["used_percent"] == pytest.approx(100 * memory["used"] / memory["total"])
    ((swap, _),) = measured(metrics.swap)
    assert 0 <= swap["used_percent"] <= 100
    ((disk, dimensions),) = measured(metrics.disk, resources=["/"], drop_device=True)
    assert set(dimensions) == {"path", "fstype"} and dimensions["path"] == "/"
    shown = subprocess.run(["df", "--output=pcent", "/"], capture_output=True, text=True, check=True).stdout
    assert disk["used_percent"] == pytest.approx(int(re.sub(r"\D", "", shown)), abs=1.5)


@pytest.fixture
def worker() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a program under a title, which works until it is ended."""
    running: list[subprocess.Popen[str]] = []

    def start(title: str, code: str = "print(1, flush=True); import time; time.sleep(60)") -> subprocess.Popen[str]:
        process = subprocess.Popen([title, "-c", code], executable=sys.executable, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_processes_are_counted_by_their_command_line_and_none_is_a_number(worker: Any) -> None:
    processes = metrics.Processes()
    pattern = "^fivepointers-counted( |$)"
    assert measured(processes.read, pattern=pattern) == [
        ({"pid_count": 0}, {"pattern": pattern, "pid_finder": "native"})
    ]
    worker("fivepointers-counted-2")
    one, two = worker("fivepointers-counted"), worker("fivepointers-counted")
    (count, _), *each = measured(processes.read, pattern=pattern)
    assert count == {"pid_count": 2}
    assert {values["pid"] for values, _ in each} == {one.pid, two.pid}
    assert all(set(dimensions) == {"pattern", "process_name"} for _, dimensions in each)
    assert all(values["memory_rss"] > 1_000_000 for values, _ in each)
    one.kill()
    one.wait()
    assert measured(processes.read, pattern=pattern)[0][0] == {"pid_count": 1}


def test_what_a_process_works_is_measured_between_two_looks(worker: Any) -> None:
    worker("fivepointers-busy", "print(1, flush=True)\nwhile True: pass")
    worker("fivepointers-idle")
    processes = metrics.Processes()

    def usage(name: str) -> float:
        return measured(processes.read, pattern=f"^fivepointers-{name} ")[1][0]["cpu_usage"]

    assert usage("busy") == usage("idle") == 0
    time.sleep(0.5)
    # On a busy machine it may get little; the idle one works nothing.
    assert usage("busy") > 5 > usage("idle")


def test_a_file_names_a_process(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    count, own = measured(metrics.Processes().read, pid_file=str(tmp_path / "pid"))
    assert count == ({"pid_count": 1}, {"pidfile": str(tmp_path / "pid"), "pid_finder": "native"})
    assert own[0]["pid"] == os.getpid()
    assert measured(metrics.Processes().read, pid_file="/none")[0][0] == {"pid_count": 0}


@pytest.fixture
def statsd() -> Iterator[metrics.StatsD]:
    stopping = threading.Event()
    listener = metrics.StatsD("127.0.0.1:0", stopping)
    thread = threading.Thread(target=listener.run)
    thread.start()
    yield listener
    stopping.set()
    thread.join()


def test_services_send_metrics_over_statsd(statsd: metrics.StatsD) -> None:
    lines = ["jobs.done:1|c", "jobs.done:2|c", "depth:4|g", "depth:-1|g", "took:10|ms", "took:30|ms"]
    lines += ["who:a|s", "who:b|s", "who:a|s", "nonsense", "jobs:x|c", "a:1|unknown", "b:1|c|@0"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto("\n".join(lines).encode(), statsd.socket.getsockname())
    found = until(statsd.take)
    assert {item.name: (item.dimensions["metric_type"], item.value, item.statistics) for item in found} == {
        "jobs_done": ("counter", 3.0, None),
        "depth": ("gauge", 3.0, None),
        "who": ("set", 2.0, None),
        "took": ("timing", 0.0, (10, 30, 40, 2)),
    }
    # A gauge stays, and all else begins anew.
    assert [(item.name, item.value) for item in statsd.take()] == [("depth", 3.0)]


def test_counters_are_told_apart_by_their_tags(statsd: metrics.StatsD) -> None:
    for line in ("jobs:1|c", "jobs:2|c|@0.5|#queue:mail", "jobs:1|c"):
        statsd.note(line)
    assert [(item.dimensions, item.value) for item in statsd.take()] == [
        ({"metric_type": "counter"}, 2.0),
        ({"metric_type": "counter", "queue": "mail"}, 4.0),
    ]


# --- against CloudWatch -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def client(service: str, url: str) -> Any:
    keys = {"aws_access_key_id": "reader", "aws_secret_access_key": "reader-of-the-metrics"}
    return boto3.client(service, region_name=REGION, endpoint_url=url, **keys)


SECTION = {
    "namespace": "FivePointers/test",
    "append_dimensions": {"InstanceId": "${aws:InstanceId}"},
    "aggregation_dimensions": [["Service"]],
    "metrics_collected": {
        "mem": {"measurement": ["used_percent"], "append_dimensions": {"Service": "host"}},
        "cpu": {"measurement": ["usage_active"]},
        "procstat": [
            {
                "pattern": "^fivepointers-gone ",
                "append_dimensions": {"Service": "gone"},
                "measurement": ["pid_count", "cpu_usage"],
            }
        ],
    },
}


def meter(agent: ModuleType, url: str, said: list[str], **changes: Any) -> metrics.Meter:
    return metrics.Meter(agent.Api(url, REGION), {**SECTION, **changes}, 60, threading.Event(), said.append)


@pytest.mark.slow
def test_metrics_arrive_under_the_instance_and_under_the_service(agent: ModuleType, account: str) -> None:
    said: list[str] = []
    unknown = meter(agent, account, said)
    unknown.once()
    cloudwatch = client("cloudwatch", account)
    assert cloudwatch.list_metrics(Namespace="FivePointers/test")["Metrics"] == []
    assert "EC2 does not say ${aws:InstanceId} of an instance with the address 127.0.0.1" in said[0]

    ec2 = client("ec2", account)
    network = ec2.create_vpc(CidrBlock="127.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=network, CidrBlock="127.0.0.0/24")["Subnet"]["SubnetId"]
    started = ec2.run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnet, PrivateIpAddress="127.0.0.1"
    )
    instance = started["Instances"][0]["InstanceId"]
    unknown.once()
    found = cloudwatch.list_metrics(Namespace="FivePointers/test")["Metrics"]
    assert {
        (metric["MetricName"], tuple(sorted((it["Name"], it["Value"]) for it in metric["Dimensions"])))
        for metric in found
    } == {
        ("mem_used_percent", (("InstanceId", instance), ("Service", "host"))),
        ("mem_used_percent", (("Service", "host"),)),
        (
            "procstat_lookup_pid_count",
            (
                ("InstanceId", instance),
                ("Service", "gone"),
                ("pattern", "^fivepointers-gone "),
                ("pid_finder", "native"),
            ),
        ),
        ("procstat_lookup_pid_count", (("Service", "gone"),)),
    }
    now = datetime.now(UTC)
    lowest = cloudwatch.get_metric_statistics(
        Namespace="FivePointers/test",
        MetricName="procstat_lookup_pid_count",
        Dimensions=[{"Name": "Service", "Value": "gone"}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=5),
        Period=60,
        Statistics=["Minimum"],
    )
    assert [point["Minimum"] for point in lowest["Datapoints"]] == [0.0]
    assert said[1:] == ["cpu is not measured by the stand-in"]


def test_a_roll_up_that_is_no_shorter_is_left_out(agent: ModuleType) -> None:
    dimensions = {"Service": "api", "InstanceId": "i-1"}
    some = meter(
        agent, "http://127.0.0.1:1", [], aggregation_dimensions=[["Service"], ["InstanceId", "Service"], ["x"], []]
    )
    assert some.rollups(dimensions) == [dimensions, {"Service": "api"}, {}]


def test_without_an_endpoint_nothing_is_sent(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    said: list[str] = []
    monkeypatch.setattr(agent, "log", said.append)
    files = {"collect_list": [{"file_path": "/a.log", "log_group_name": "a"}]}
    config = {"logs": {"logs_collected": {"files": files}}, "metrics": SECTION}
    assert agent.sources(config) == []
    assert len(said) == 2 and all("never sends to AWS" in line for line in said)
    config["logs"]["endpoint_override"] = "http://127.0.0.1:1"
    assert [type(source).__name__ for source in agent.sources(config)] == ["File"]
