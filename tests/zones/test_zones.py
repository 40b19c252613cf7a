# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Seven hosts in two zones behind the balancer's stand-in: each of them loses its power in turn, under load."""

from __future__ import annotations

import http.client
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import balancer
from tests.faults.load import Process, Sample
from tests.faults.sockets import Kit, People
from tests.integration.harness import ROOT, Sandbox, build
from tests.unit.nginx.live import Client

HOSTS = {
    "edge": {"services": ["edge", "frontend", "sites"], "count": 2},
    "api": {"services": ["api"], "count": 3},
    "collab": {"services": ["collab"], "count": 2},
}
# What requests need. tests/provision/test_provision.py has all layers.
LAYERS = "network,security_groups,load_balancer,hosts"
# EVERY_HOST=1 takes the power of each host, and not only of one of each group.
EVERY_HOST = bool(os.environ.get("EVERY_HOST"))
NAMES = [
    f"sandbox-{group}-{number}"
    for group, item in HOSTS.items()
    for number in range(1, (item["count"] if EVERY_HOST else 1) + 1)
]

# Prints the headers of an answer that comes by TLS.
ASK = """
import http.client, json, ssl, sys
connection = http.client.HTTPSConnection(sys.argv[1], context=ssl._create_unverified_context(), timeout=5)
connection.request("GET", "/api/health", headers=json.loads(sys.argv[2]))
print(connection.getresponse().headers)
"""


@dataclass
class Zones:
    """A provisioned sandbox and what stands in for its load balancer."""

    sandbox: Sandbox
    balancer: balancer.Balancer
    address: str

    @property
    def domain(self) -> str:
        return str(self.sandbox.endpoints["domain"])

    @property
    def authority(self) -> Path:
        return Path(self.sandbox.endpoints["ca_file"])


def write_inventory(folder: Path, front_door: str) -> Path:
    """Write the sandbox's inventory anew: with these hosts, and TLS at a load balancer."""
    made = folder / "inventories" / "sandbox"
    shutil.copytree(ROOT / "inventories" / "sandbox", made)
    path = made / "group_vars" / "all" / "environment.yml"
    variables = yaml.safe_load(path.read_text())
    environment = variables["platform_environment"]
    environment["tls"] = {"mode": "load_balancer", "ca": environment["tls"]["ca"]}
    environment["front_door"] = front_door
    variables["platform_sandbox_account"]["hosts"] = HOSTS
    path.write_text(yaml.safe_dump(variables))
    return made


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    """An account that was empty, its hosts, and the balancer in front of them; nothing is configured."""
    it = Sandbox("test-zones")
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()
    it.up("--provisioned")
    address = it.gateway
    it.inventory = str(write_inventory(tmp_path_factory.mktemp("zones"), address))
    it.extra = ["-e", f"platform_catalogue_file={ROOT / 'inventories/services.yml'}"]
    # Those of molecule's scenarios: the integration tests, which run beside this, build changed services.
    it.extra += ["-e", f"platform_artifacts={ROOT / '.cache/molecule/artifacts'}"]
    # What a person does before: a certificate of the public names.
    tls = it.state / "tls"
    certificate, key = (tls / f"{name}.pem" for name in ("certificate", "key"))
    acm = it.aws("acm")
    if not acm.list_certificates()["CertificateSummaryList"]:
        acm.import_certificate(Certificate=certificate.read_bytes(), PrivateKey=key.read_bytes())
    it.warm = True
    it.playbook("playbooks/provision.yml", "--tags", LAYERS).succeeded()
    it.up("--provisioned")
    build(it)
    folder = it.state / "balancer"
    folder.mkdir(exist_ok=True)
    both = folder / "certificate.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    clients = it.aws("elbv2"), it.aws("ec2")
    haproxy = balancer.Balancer(
        folder,
        lambda: balancer.configuration(balancer.describe(*clients, "sandbox-edge"), folder, both, address),
    )
    haproxy.start()
    try:
        yield Zones(it, haproxy, address)
    finally:
        haproxy.stop()
        if not os.environ.get("KEEP_SANDBOX"):
            it.down()


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """People who edit documents together."""
    return Kit(tmp_path_factory.mktemp("sockets"))


def instances(zones: Zones) -> list[dict[str, Any]]:
    answer = zones.sandbox.aws("ec2").describe_instances()
    return [item for reservation in answer["Reservations"] for item in reservation["Instances"]]


def tags(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


def target_group(zones: Zones) -> dict[str, Any]:
    """The balancer's group of edges, as the API has it."""
    found = balancer.describe(zones.sandbox.aws("elbv2"), zones.sandbox.aws("ec2"), "sandbox-edge")
    (group,) = found["groups"].values()
    return dict(group)


def test_each_group_of_hosts_is_in_both_zones_and_the_edges_are_balanced(zones: Zones) -> None:
    found: dict[str, list[str]] = {group: [] for group in HOSTS}
    for item in instances(zones):
        found[tags(item)["Service"]].append(item["Placement"]["AvailabilityZone"])
    for group, item in HOSTS.items():
        assert len(found[group]) == item["count"]
        first, second = sorted(found[group].count(zone) for zone in {*found[group]})
        assert second - first <= 1, found
    behind = {item["PrivateIpAddress"] for item in instances(zones) if "edge" in tags(item)["Services"]}
    (group,) = balancer.describe(zones.sandbox.aws("elbv2"), zones.sandbox.aws("ec2"), "sandbox-edge")[
        "groups"
    ].values()
    assert {address for address, _port in group["Targets"]} == behind and len(behind) == 2


def test_it_is_configured_and_verified_behind_the_balancer(zones: Zones, tmp_path: Path) -> None:
    report = tmp_path / "verify.json"
    site = zones.sandbox.playbook("playbooks/site.yml", "-e", f"verify_report={report}").succeeded()
    results = json.loads(report.read_text())["results"]
    assert len(results) >= 15 and all(result["ok"] for result in results)
    print(f"site.yml {site.seconds:.0f} s")


def test_what_the_balancer_says_of_the_client_counts_and_nothing_else(zones: Zones) -> None:
    """Asked from a host that is no balancer, with headers that lie."""
    client = Client(zones.address, zones.authority)
    moved = client.ask(f"api.{zones.domain}", "/api/health", tls=False)
    assert (moved.status, moved.one("Location")) == (301, f"https://api.{zones.domain}:443/api/health")
    name, asked = f"api.{zones.domain}", "sandbox-api-1"
    lies = {"Host": name, "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Request-ID": "forged-forged"}
    headers = zones.sandbox.ssh(asked, f"python3 - {zones.address} '{json.dumps(lies)}'", stdin=ASK)
    assert "strict-transport-security" in headers.lower(), "the edge did not believe that the user speaks TLS"
    time.sleep(1.5)
    lines = [
        json.loads(line)
        for edge in zones.sandbox.hosts_of("edge")
        for line in zones.sandbox.ssh(edge, "sudo tail -n 200 /var/log/nginx/access.log").splitlines()
    ]
    (line,) = [it for it in lines if it["edge"] and it["host"] == name and it["client"] == zones.sandbox.address(asked)]
    assert (line["client"], line["peer"]) == (zones.sandbox.address(asked), zones.address)
    assert line["request_id"] != "forged-forged"


# --- a host is lost -----------------------------------------------------------------------------------------------

# Requests a second and connections of each kind of load: ten connections, as of ten users.
LOADS = {"api": (20, 3), "post": (10, 2), "front": (15, 2), "pages": (5, 3)}
# So many documents that each Y.js host has some.
SOCKETS, DOCUMENTS = 16, 8
# How long an answer may take at worst. A connection that was there before is given up 13.5 s after the first bytes that
# nobody confirmed, or 19 s after the last word (roles/nginx/templates/sysctl.conf.j2), a new one after 3 s; then the
# next host is asked. The rest is the machine's.
LONGEST_ANSWER, PATIENCE = 22.0, 25.0
# The edge notices as above, and the first attempts to come back may take 3 s each. Of an edge that is dead nobody tells
# its clients: y-websocket looks every 3 s whether it heard nothing for 30 s. One round of many took 66 s, and why is
# not known: this is no promise, but shows whether people come together again at all.
LATEST_EDIT = 90.0


@pytest.fixture(scope="module")
def page(zones: Zones) -> str:
    """The host name of a page that a user has published."""
    client, name, api = Client(zones.address, zones.authority), f"page-{time.time_ns()}", f"api.{zones.domain}"
    headers = {"Content-Type": "application/json"}

    def send(method: str, path: str, content: dict[str, str]) -> Any:
        answer = client.ask(api, path, method, headers, json.dumps(content).encode())
        assert answer.status in (200, 201), answer
        return answer.json

    account = {"email": f"{name}@example.com", "password": f"secret-of-{name}"}
    send("POST", "/api/auth/signup", account)
    headers["Authorization"] = f"Bearer {send('POST', '/api/auth/login', account)['accessToken']}"
    send("PUT", f"/api/pages/{name}", {"title": "A page", "body": "Hello"})
    return f"{name}.{zones.domain}"


@dataclass
class Loss:
    """What users noticed of a host that is gone."""

    moment: float
    #: Connections that the edges kept to it.
    kept: int
    samples: dict[str, list[Sample]]
    people: dict[str, Any]

    def requests(self, *names: str) -> list[Sample]:
        return [sample for name in names or self.samples for sample in self.samples[name]]

    def failed(self, *names: str) -> list[Sample]:
        return [sample for sample in self.requests(*names) if sample.error]

    def in_flight(self, *names: str) -> int:
        return sum(sample.sent <= self.moment < sample.ended for sample in self.requests(*names))

    def longest(self) -> float:
        return max(sample.ended - sample.sent for sample in self.requests() if not sample.error)


def start_loads(zones: Zones, page: str, folder: Path) -> dict[str, Process]:
    api = f"https://api.{zones.domain}/api/health"
    urls = {"api": api, "post": api, "front": f"https://{zones.domain}/", "pages": f"https://{page}/"}
    common = {"connect_to": zones.address, "ca": str(zones.authority), "seconds": 300, "patience": PATIENCE}
    # The API has no such route, and says so.
    special = {"post": {"post": 1.0, "status": 404}}
    loads = {}
    for name, (rate, connections) in LOADS.items():
        options: dict[str, Any] = {**common, **special.get(name, {}), "rate": rate, "connections": connections}
        loads[name] = Process(folder / f"{name}.json", url=urls[name], **options)
    return loads


def lose(zones: Zones, kit: Kit, page: str, host: str, folder: Path, seconds: float) -> Loss:
    """Take a host's power away under load, look on for some seconds, wait for all answers, and give it back."""
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(zones.authority)}
    where = f"wss://ws.{zones.domain}", SOCKETS, DOCUMENTS, zones.address, "60000"
    people = People(kit, *where, environment=environment)
    loads = start_loads(zones, page, folder)
    try:
        time.sleep(2)
        kept = kept_connections(zones, host)
        moment = zones.sandbox.power_off(host)
        time.sleep(seconds)
        # All at once, or the last ones would go on alone.
        with ThreadPoolExecutor(len(loads)) as pool:
            results = list(pool.map(lambda load: load.finish(3 * PATIENCE), loads.values()))
        noticed = people.ask("settle")
    finally:
        people.end()
        for load in loads.values():
            load.__exit__()
        zones.sandbox.power_on(host)
    wait_until_healthy(zones, host)
    samples = [[sample for sample in result.samples if sample.error != "unsent"] for result in results]
    return Loss(moment, kept, dict(zip(loads, samples, strict=True)), noticed)


def wait_until_healthy(zones: Zones, host: str) -> None:
    """Wait until a host that came back answers for all that it carries, and the balancer sends to it."""
    sandbox, address = zones.sandbox, zones.sandbox.address(host)
    known = sandbox.endpoints["services"]
    services = sandbox.endpoints["hosts"][host]["services"]
    until = time.monotonic() + 60
    while True:
        answer = all(answers(address, known[name]["port"]) for name in services if name in known)
        if answer and ("edge" not in services or f"{address}:80" in zones.balancer.healthy()):
            return
        assert time.monotonic() < until, f"{host} did not come back"
        time.sleep(0.3)


def answers(address: str, port: int) -> bool:
    """Whether a front has an application behind it: whatever the status, it is not one of a gateway's."""
    connection = http.client.HTTPConnection(address, port, timeout=3)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def kept_connections(zones: Zones, host: str) -> int:
    """How many connections the edges keep to a host."""
    count = f"ss --no-header --tcp --numeric state established dst {zones.sandbox.address(host)} | wc --lines"
    return sum(int(zones.sandbox.ssh(edge, count)) for edge in zones.sandbox.hosts_of("edge"))


def taken_out_after(zones: Zones) -> float:
    """After how many seconds at most the stand-in sends nothing to a dead edge, by the group's settings.

    An ALB waits for the last check no longer than its timeout; HAProxy for its connection as long as an interval.
    """
    group = target_group(zones)
    return float((group["UnhealthyThresholdCount"] + 1) * group["HealthCheckIntervalSeconds"])


def report(host: str, loss: Loss, bound: int) -> None:
    """Print a row of the table in docs/reliability.md."""
    kinds = {name: f"{len(loss.failed(name))} of {len(samples)}" for name, samples in loss.samples.items()}
    cells = [host, *kinds.values(), bound, loss.in_flight(), f"{loss.longest():.1f}", loss.people["moved"]]
    cells += [f"{loss.people['late']:.1f}", loss.people["missing"]]
    print("| " + " | ".join(map(str, cells)) + " |")
    for sample in loss.failed():
        sent, took = sample.sent - loss.moment, sample.ended - sample.sent
        print(f"    {sample.method} sent at {sent:.2f} s: {sample.error} after {took:.1f} s")


@pytest.mark.parametrize("host", NAMES)
def test_a_host_without_power_takes_no_more_than_what_is_in_flight_on_it(
    zones: Zones, kit: Kit, page: str, host: str, tmp_path: Path
) -> None:
    """In flight is what was sent and not answered when the host died, and what goes there until it is known to be dead.

    Through nginx that is a request on a connection that was kept: each of these takes one. nginx sends it on, but not
    a POST, which may have had an effect, and a page's own call is given up by its application after 5 s. The balancer
    sends nothing twice: until its second failed check, each edge's share.
    """
    group = host.split("-")[1]
    window = taken_out_after(zones) if group == "edge" else 0.0
    loss = lose(zones, kit, page, host, tmp_path, max(8.0, window + 2))
    later = [sample for sample in loss.requests() if loss.moment < sample.sent <= loss.moment + window]
    shares = {"edge": math.ceil(len(later) / 2) + 1, "api": loss.kept, "collab": 0}
    bound = loss.in_flight() + shares[group]
    report(host, loss, bound)

    assert len(loss.failed()) <= bound
    if group == "edge":
        # Two processors carry all of this, and the balancer's checks come late then: 1.7 s were seen.
        assert all(sample.sent <= loss.moment + window + 4 for sample in loss.failed())
    else:
        # Asked again, and answered by another host.
        assert loss.failed("api", "front") == []
    assert loss.longest() <= LONGEST_ANSWER
    assert min(len(samples) for samples in loss.samples.values()) > 20
    assert (loss.people["missing"], loss.people["split"]) == (0, 0)
    assert loss.people["late"] <= LATEST_EDIT
    assert (loss.people["moved"] > 0) is (group != "api")
