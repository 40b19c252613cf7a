# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Monitoring of the configured platform, with faults that are made and not said: alarms, dashboard, logs.

The account gets what provision.yml makes of monitoring, and a record of the database; the hosts are those of the other
tests, with their agents.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.plugin_utils.provision.monitoring import missing_metrics
from websockets.sync.client import connect

from tests.integration.harness import Sandbox
from tests.unit.nginx.live import SOCKET, Answer, Client

PERIOD = 60
# The stand-in for CloudWatch looks at a period some seconds after its end.
LATE = 10
NAMESPACE = "FivePointers/sandbox"
DATABASE = "sandbox-database"
# More than an application may log in five minutes before that alone is an alarm.
BURST = 12


@dataclass
class Monitoring:
    """The account of a platform, as who is called by its alarms sees it."""

    platform: Sandbox
    queue: str = ""
    heard: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cloudwatch, self.logs = self.platform.aws("cloudwatch"), self.platform.aws("logs")
        self.sqs = self.platform.aws("sqs")
        self.domain = self.platform.endpoints["domain"]

    def provision(self) -> None:
        """Have provision.yml make what belongs to monitoring, of hosts that it did not make."""
        facts = {
            "platform_sandbox": {**self.platform.endpoints, "provisioned": True},
            # The network that there is was not made by it either; it wants one of its own, and makes none here.
            "platform_sandbox_account": {
                "network": {"cidr": "10.255.0.0/16", "nat": "none", "endpoints": []},
                "hosts": {name: {"services": it["services"]} for name, it in self.platform.endpoints["hosts"].items()},
            },
        }
        arguments = ("--tags", "monitoring", "-e", json.dumps(facts))
        run = self.platform.playbook("playbooks/provision.yml", *arguments).succeeded()
        print(f"provisioned in {run.seconds:.0f} s")

    def subscribe(self) -> None:
        """Have a queue in place of somebody's mail box."""
        self.queue = self.sqs.create_queue(QueueName="people")["QueueUrl"]
        asked = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        topics = self.platform.aws("sns").list_topics()["Topics"]
        (topic,) = [item["TopicArn"] for item in topics if item["TopicArn"].endswith(":sandbox-alarms")]
        arn = asked["Attributes"]["QueueArn"]
        self.platform.aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def told(self) -> list[tuple[str, str]]:
        """All notifications so far of what this platform can be blamed for: states and names of alarms."""
        while messages := self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                said = json.loads(json.loads(message["Body"])["Message"])
                self.heard.append((said["NewStateValue"], said["AlarmName"]))
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        # How full the machine is that runs the tests is not the platform's. The scheduled check has periods of a
        # quarter of an hour: what it says here is of the time before.
        return [item for item in self.heard if item not in OF_BEFORE and item[1] != "sandbox/hosts"]

    def alarms(self) -> dict[str, dict[str, Any]]:
        """All alarms by name."""
        pages = self.cloudwatch.get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        found = [item for page in pages for kind in ("MetricAlarms", "CompositeAlarms") for item in page.get(kind, [])]
        return {item["AlarmName"]: item for item in found}

    def state(self, *names: str) -> dict[str, str]:
        alarms = self.alarms()
        return {name: alarms[name]["StateValue"] for name in names}

    def ask(self, label: str, path: str = "/", **headers: str) -> Answer:
        # A connection that was kept for longer than the edge keeps it would be gone.
        edge = Client(self.platform.endpoints["edge"], self.platform.state / "tls/ca.pem")
        return edge.ask(f"{label}.{self.domain}" if label else self.domain, path, headers=headers)

    def visit(self, times: int = 1) -> set[tuple[str, int]]:
        """Ask for a page that nobody published, of the API and as a page; return what came back from whom."""
        return {
            (label, self.ask(label, path).status)
            for _time in range(times)
            for label, path in (("api", "/api/pages/none"), ("none", "/"))
        }

    def most(self, namespace: str, metric: str, **dimensions: str) -> float:
        """The highest value of a metric in the last minutes; 0 where there is none."""
        now = datetime.now(UTC)
        answer = self.cloudwatch.get_metric_statistics(
            Namespace=namespace, MetricName=metric, Period=PERIOD, Statistics=["Maximum"],
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - timedelta(minutes=5), EndTime=now + timedelta(minutes=1),
        )  # fmt: skip
        return max((point["Maximum"] for point in answer["Datapoints"]), default=0.0)

    def lines(self, group: str, since: float) -> list[tuple[str, dict[str, Any]]]:
        """The events of a log group that are JSON, each with its stream."""
        pages = self.logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/fivepointers/sandbox/{group}", startTime=int(since * 1000)
        )
        events = [event for page in pages for event in page["events"]]
        return [(it["logStreamName"], json.loads(it["message"])) for it in events if it["message"].startswith("{")]


OF_BEFORE = [("OK", "sandbox/front-door")]


def within(seconds: float, look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """Look until what is seen is what is wanted, and return it; fail with what was seen last."""
    until = time.monotonic() + seconds
    while not wanted(seen := look()):
        assert time.monotonic() < until, f"not within {seconds:.0f} s; the last that was seen: {seen}"
        time.sleep(1)
    return seen


@pytest.fixture(scope="module")
def monitoring(platform: Sandbox) -> Iterator[Monitoring]:
    """Monitoring of hosts that have been running for a while, an open WebSocket, and nothing that is raised."""
    it = Monitoring(platform)
    rds = platform.aws("rds")
    with suppress(rds.exceptions.DBInstanceAlreadyExistsFault):
        rds.create_db_instance(
            DBInstanceIdentifier=DATABASE, Engine="mysql", DBInstanceClass="db.t4g.micro",
            AllocatedStorage=20, MasterUsername="nobody", MasterUserPassword="not-asked-for",
        )  # fmt: skip
    it.provision()
    it.subscribe()
    walker = next(host for host in platform.endpoints["hosts"] if "active" in platform.ssh(host, WALKS, check=False))
    platform.ssh(walker, "sudo systemctl start fivepointers-synthetic.service")
    trust = ssl.create_default_context(cafile=str(platform.state / "tls/ca.pem"))
    it.ask("")
    with connect(f"wss://ws.{it.domain}/watched", address=(platform.endpoints["edge"], 443), ssl=trust, proxy=None):
        services = [f"sandbox-{name}" for name in ("api", "sites", "collab", "frontend", "database")]
        # Where hosts were kept, errors of an earlier run are in the periods of alarms yet.
        within(7 * PERIOD, lambda: it.visit() and it.state(*services), lambda seen: set(seen.values()) == {"OK"})
        yield it


WALKS = "systemctl is-active fivepointers-synthetic.timer"


def test_a_stopped_service_is_told_once_by_its_name_and_once_when_it_is_back(monitoring: Monitoring) -> None:
    platform = monitoring.platform
    (host,) = platform.hosts_of("api")
    listing = "systemctl list-units --plain --no-legend --state=active 'fivepointers-api@*'"
    unit = platform.ssh(host, listing).split()[0]
    assert monitoring.visit() == {("api", 404), ("none", 404)}
    before = len(monitoring.told())
    own, service = "sandbox-api/not-running", "sandbox-api"

    def raised() -> set[str]:
        """The alarms of the API that are raised."""
        return {
            name for name, alarm in monitoring.alarms().items() if alarm["StateValue"] == "ALARM" and service in name
        }

    def raised_meanwhile() -> set[str]:
        # Without requests, `down` stays what it was.
        monitoring.visit()
        return raised()

    stopped = time.monotonic()
    platform.ssh(host, f"sudo systemctl stop {unit}")
    try:
        # The pages fail as well, and log more errors than are allowed: nobody shall hear of these.
        assert monitoring.visit(BURST) == {("api", 502), ("none", 500)}
        within(2 * PERIOD + LATE, raised, lambda seen: {own, service} <= seen)
        print(f"raised {time.monotonic() - stopped:.0f} s after the stop")
        alarm = monitoring.alarms()[service]
        assert "service api" in alarm["AlarmDescription"] and "sandbox-api/" in alarm["StateReason"], alarm
    finally:
        platform.ssh(host, f"sudo systemctl start {unit}")
    started = time.monotonic()
    within(PERIOD, monitoring.visit, lambda seen: seen == {("api", 404), ("none", 404)})
    within(2 * PERIOD + LATE, raised_meanwhile, lambda seen: not seen)
    print(f"over {time.monotonic() - started:.0f} s after the start")
    told = within(LATE, lambda: monitoring.told()[before:], lambda seen: ("OK", service) in seen)
    assert told.count(("OK", service)) == 1, told
    # What was silenced may say that it is well.
    assert [name for state, name in told if state == "ALARM"] == [service], told


def test_dashboard_and_alarms_look_at_metrics_that_there_are(monitoring: Monitoring) -> None:
    answer = monitoring.cloudwatch.get_dashboard(DashboardName="sandbox-platform")
    body = json.loads(answer["DashboardBody"])

    def missing() -> list[str]:
        pages = monitoring.cloudwatch.get_paginator("list_metrics").paginate()
        known = [item for page in pages for item in page["Metrics"]]
        there = {(it["Namespace"], it["MetricName"], frozen(it["Dimensions"])) for it in known}
        unseen = [
            f"{name}: {alarm['Namespace']} {alarm['MetricName']}"
            for name, alarm in monitoring.alarms().items()
            if "AlarmRule" not in alarm
            and (alarm["Namespace"], alarm["MetricName"], frozen(alarm["Dimensions"])) not in there
        ]
        return missing_metrics(body, known) + unseen

    def frozen(dimensions: list[dict[str, str]]) -> frozenset[tuple[str, str]]:
        return frozenset((item["Name"], item["Value"]) for item in dimensions)

    titles = [widget["properties"]["title"] for widget in body["widgets"]]
    assert {"collab: open WebSockets", "database: connections"} <= set(titles), titles
    within(2 * PERIOD, missing, lambda seen: not seen)
    # And they say what is the case: a socket is open, and the API keeps connections.
    for namespace, metric, dimensions in (
        (NAMESPACE, "OpenSockets", {"Service": "collab"}),
        ("AWS/RDS", "DatabaseConnections", {"DBInstanceIdentifier": DATABASE}),
    ):
        within(
            2 * PERIOD,
            lambda asked=(namespace, metric), by=dimensions: (*asked, monitoring.most(*asked, **by)),
            lambda seen: seen[-1] >= 1,
        )


@contextmanager
def broken(break_it: Callable[[], Any], mend_it: Callable[[], Any]) -> Iterator[None]:
    break_it()
    try:
        yield
    finally:
        mend_it()


def test_an_error_of_each_service_is_in_its_log_group(monitoring: Monitoring) -> None:
    platform, since = monitoring.platform, time.time() - LATE
    hosts = {service: platform.hosts_of(service)[0] for service in ("api", "sites", "collab", "frontend", "edge")}

    def on(service: str, command: str) -> Callable[[], str]:
        return lambda: platform.ssh(hosts[service], f"sudo sh -c '{command}'")

    # The database lost a table: API and pages fail at one request.
    with broken(
        lambda: platform.sql("RENAME TABLE app.pages TO app.lost"),
        lambda: platform.sql("RENAME TABLE app.lost TO app.pages"),
    ):
        page = monitoring.ask("errors")
    # A document cannot be read.
    document = "/var/lib/fivepointers-collab/documents/unreadable.log"
    with broken(on("collab", f"mkdir {document}"), on("collab", f"rmdir {document}")):
        socket = monitoring.ask("ws", "/unreadable", **SOCKET)
    # A release lost its page.
    index = "/opt/fivepointers/frontend/slots/*/app/index.html"
    with broken(
        on("frontend", f"for file in {index}; do mv $file $file.lost; done"),
        on("frontend", f"for file in {index}.lost; do mv $file ${{file%.lost}}; done"),
    ):
        front = monitoring.ask("")
    assert [page.status, socket.status, front.status] == [500, 500, 500]
    ids = {name: answer.one("X-Request-ID") for name, answer in (("page", page), ("socket", socket), ("front", front))}
    assert all(ids.values()), ids

    def process(service: str, request: str) -> dict[str, Any]:
        """What the error of a process says, by where it has to be found."""
        for _stream, event in monitoring.lines(service, since):
            body = event["body"]
            said = json.loads(body["MESSAGE"]) if body["MESSAGE"].startswith("{") else {}
            if said.get("level") == "error" and said.get("requestId") == ids[request]:
                return {
                    "service": body["SYSLOG_IDENTIFIER"], "host": body["_HOSTNAME"],
                    "release": body["FIVEPOINTERS_RELEASE"],
                }  # fmt: skip
        return {}

    def nginx(service: str, request: str, edge: int) -> dict[str, Any]:
        for stream, line in monitoring.lines("nginx", since):
            # What nginx says besides requests is there as well.
            what = line.get("service"), line.get("request_id"), line.get("edge")
            if what == (service, ids[request], edge) and line["status"] >= 500:
                return {"service": service, "host": stream.split("/")[0], "release": line["release"]}
        return {}

    def found() -> dict[str, dict[str, Any]]:
        return {
            "api": process("api", "page"),
            "sites": process("sites", "page"),
            "collab": process("collab", "socket"),
            "frontend": nginx("frontend", "front", 0),
            **{f"edge, {request}": nginx(service, request, 1) for request, service in AT_THE_EDGE.items()},
        }

    def live(service: str) -> str:
        copies = json.loads(platform.ssh(hosts[service], f"sudo cat /var/lib/fivepointers/{service}/state.json"))
        return max(filter(None, copies), key=lambda copy: copy["number"])["record"]["live"]["release"]

    names = {name: host["inventory_name"] for name, host in platform.endpoints["hosts"].items()}
    seen = within(3 * LATE, found, lambda entries: all(entries.values()))
    assert seen == {
        **{name: {"service": name, "host": hosts[name], "release": live(name)} for name in ("api", "sites", "collab")},
        "frontend": {"service": "frontend", "host": names[hosts["frontend"]], "release": live("frontend")},
        # The edge serves releases of others.
        **{
            f"edge, {request}": {"service": service, "host": names[hosts["edge"]], "release": ""}
            for request, service in AT_THE_EDGE.items()
        },
    }


AT_THE_EDGE = {"page": "sites", "socket": "collab", "front": "frontend"}
