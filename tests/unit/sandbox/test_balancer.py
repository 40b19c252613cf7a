"""The stand-in for a load balancer's data path: from the API's answers to requests that arrive."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import moto
import pytest

from sandbox import balancer, certificates
from sandbox.errors import SandboxError
from sandbox.tools import HAPROXY

GROUP = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/edge/1"
FORWARD = [{"Type": "forward", "TargetGroupArn": GROUP}]
DEFAULT = {"IsDefault": True, "Priority": "default", "Conditions": [], "Actions": FORWARD}
REDIRECT = {
    "Type": "redirect",
    "RedirectConfig": {
        "Protocol": "HTTPS", "Port": "443", "Host": "#{host}", "Path": "/#{path}", "Query": "#{query}",
        "StatusCode": "HTTP_301",
    },
}  # fmt: skip


def answers(targets: list[tuple[str, int]], *rules: dict[str, Any]) -> dict[str, Any]:
    """What the API says of a load balancer with two listeners; the rules are those of https."""
    return {
        "attributes": {
            "idle_timeout.timeout_seconds": "3600",
            "routing.http.drop_invalid_header_fields.enabled": "true",
        },
        "listeners": [
            {"Port": 80, "Protocol": "HTTP", "Rules": [{**DEFAULT, "Actions": [REDIRECT]}]},
            {
                "Port": 443,
                "Protocol": "HTTPS",
                "SslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
                "Rules": [DEFAULT, *rules],
            },
        ],
        "groups": {
            GROUP: {
                "TargetGroupName": "edge",
                "HealthCheckPath": "/edge-health",
                "HealthCheckPort": "traffic-port",
                "HealthCheckIntervalSeconds": 1,
                "HealthCheckTimeoutSeconds": 1,
                "HealthyThresholdCount": 2,
                "UnhealthyThresholdCount": 2,
                "Matcher": {"HttpCode": "200"},
                "Attributes": {"deregistration_delay.timeout_seconds": "300"},
                "Targets": targets,
            }
        },
    }


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost with its key, in one file."""
    place = tmp_path_factory.mktemp("tls")
    pem, key = place / "certificate.pem", place / "key.pem"
    certificates.ensure(place / "ca.pem", pem, key, ["localhost"], "test")
    both = place / "both.pem"
    both.write_bytes(pem.read_bytes() + key.read_bytes())
    return both


def test_haproxy_takes_it(certificate: Path, tmp_path: Path) -> None:
    """With rules by host and path, and every action."""
    rules = (
        {
            "IsDefault": False,
            "Priority": "10",
            "Conditions": [
                {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com", "example.com"]}},
                {"Field": "path-pattern", "Values": ["/a?/*"]},
            ],
            "Actions": FORWARD,
        },
        {
            "IsDefault": False,
            "Priority": "20",
            "Conditions": [{"Field": "path-pattern", "Values": ["/gone"]}],
            "Actions": [
                {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "410", "MessageBody": 'a "b" $c'}}
            ],
        },
    )
    path = tmp_path / "haproxy.cfg"
    path.write_text(balancer.configuration(answers([("10.0.0.1", 80)], *rules), tmp_path, certificate))
    balancer.check(path)
    text = path.read_text()
    assert "timeout tunnel 3600s" in text
    assert "inter 1s fall 2 rise 2" in text
    assert "hard-stop-after 300s" in text
    path.write_text(text + "nonsense\n")
    with pytest.raises(SandboxError, match="nonsense"):
        balancer.check(path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"Conditions": [{"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}}]}, "source-ip"),
        ({"Actions": [{"Type": "authenticate-oidc"}]}, "authenticate-oidc"),
        ({"Actions": [{**REDIRECT, "RedirectConfig": {**REDIRECT["RedirectConfig"], "Path": "/x"}}]}, "another path"),  # type: ignore[dict-item]
        ({"Actions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": [{}, {}]}}]}, "weighted"),
    ],
)
def test_what_it_does_not_know_is_refused(change: dict[str, Any], word: str, certificate: Path, tmp_path: Path) -> None:
    """A stand-in that quietly did something else would prove nothing."""
    with pytest.raises(SandboxError, match=word):
        balancer.configuration(
            answers([], {**DEFAULT, "IsDefault": False, "Priority": "1", **change}), tmp_path, certificate
        )


def test_the_account_is_asked(monkeypatch: pytest.MonkeyPatch, certificate: Path, tmp_path: Path) -> None:
    """Listener, target group and the private addresses of instances come from the API."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    with moto.mock_aws():
        session = boto3.session.Session("SANDBOX123", "unusual-secret-1", region_name="eu-west-1")
        elbv2, ec2 = session.client("elbv2"), session.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{number}.0/24", AvailabilityZone=f"eu-west-1{zone}")["Subnet"]
            for number, zone in enumerate("ab")
        ]
        ids = [subnet["SubnetId"] for subnet in subnets]
        instance = ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=ids[0], PrivateIpAddress="10.9.0.7"
        )["Instances"][0]
        group = elbv2.create_target_group(
            Name="edge", Protocol="HTTP", Port=80, VpcId=vpc, HealthCheckPath="/edge-health"
        )["TargetGroups"][0]["TargetGroupArn"]
        elbv2.register_targets(TargetGroupArn=group, Targets=[{"Id": instance["InstanceId"]}])
        arn = elbv2.create_load_balancer(Name="edge", Subnets=ids)["LoadBalancers"][0]["LoadBalancerArn"]
        elbv2.create_listener(
            LoadBalancerArn=arn, Protocol="HTTP", Port=80, DefaultActions=[{**FORWARD[0], "TargetGroupArn": group}]
        )
        text = balancer.configuration(balancer.describe(elbv2, ec2, "edge"), tmp_path, certificate)
        assert "server 10.9.0.7:80 10.9.0.7:80 id" in text
        assert "uri /edge-health" in text
        with pytest.raises(SandboxError, match="no load balancer other"):
            balancer.describe(elbv2, ec2, "other")


# --- requests on the loopback ----------------------------------------------------------


class Edge(http.server.BaseHTTPRequestHandler):
    """A target that tells its name and the headers that it got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"name": self.connection.getsockname()[1], "headers": headers}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Target(http.server.ThreadingHTTPServer):
    """A target that says nothing of connections that are reset."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def target() -> Iterator[Target]:
    """A target that can be killed: it then refuses connections."""
    server = Target(("127.0.0.1", 0), Edge)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        kill(server)
        thread.join()


def kill(server: Target) -> None:
    """End a target as a host ends that loses its power; twice is as good as once."""
    server.shutdown()
    server.server_close()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ask(port: int, certificate: Path | None, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    """One request on a connection of its own."""
    if certificate:
        context = ssl.create_default_context(cafile=str(certificate.with_name("ca.pem")))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "localhost", port, timeout=5, context=context
        )
    else:
        connection = http.client.HTTPConnection("localhost", port, timeout=5)
    connection.request("GET", path, headers={"Connection": "close", **headers})
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


@pytest.mark.slow
def test_requests_go_through_and_around_a_dead_target(certificate: Path, tmp_path: Path) -> None:
    """A target that dies gets requests until its check failed twice, then none; what is deregistered loses none."""
    assert HAPROXY.exists(), "HAProxy is fetched by `make test`, or sandbox.tools.ensure_haproxy()"
    plain, secure = free_port(), free_port()
    with target() as first, target() as second, target() as third:
        state = answers([("127.0.0.1", server.server_port) for server in (first, second, third)])
        ports = {80: plain, 443: secure}
        haproxy = balancer.Balancer(
            tmp_path, lambda: balancer.configuration(state, tmp_path, certificate, "127.0.0.1", ports)
        )
        haproxy.start()
        try:
            moved = ask(plain, None, "/a/b?c=d", Host="api.example.com:80")
            assert (moved.status, moved.getheader("Location")) == (301, "https://api.example.com:443/a/b?c=d")

            headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "Not_A_Header": "x"}
            got = json.loads(ask(secure, certificate, **headers).body)["headers"]  # type: ignore[attr-defined]
            assert got["x-forwarded-for"] == "192.0.2.1, 127.0.0.1"
            assert (got["x-forwarded-proto"], got["x-forwarded-port"]) == ("https", "443")
            assert "not_a_header" not in got

            # One after the other, so that one request at most is in flight when a target dies.
            kill(first)
            failed, until = 0, time.monotonic() + 4
            last_failure = begin = time.monotonic()
            while time.monotonic() < until:
                if ask(secure, certificate).status != 200:
                    failed, last_failure = failed + 1, time.monotonic()
            assert failed, "a load balancer tries nothing again, so what it sent to the dead target has failed"
            assert last_failure - begin < 3.2  # two checks, a second apart, and what scheduling adds

            del state["groups"][GROUP]["Targets"][1]
            update = threading.Thread(target=haproxy.update)
            update.start()
            statuses: list[int] = []
            after: list[bytes] = []
            while update.is_alive() or len(after) < 20:
                done = not update.is_alive()
                answer = ask(secure, certificate)
                statuses.append(answer.status)
                after += [answer.body] if done else []  # type: ignore[attr-defined]
            assert set(statuses) == {200}
            assert {json.loads(body)["name"] for body in after} == {third.server_port}
            assert not haproxy.update()
        finally:
            haproxy.stop()


def test_a_process_is_not_left_behind(certificate: Path, tmp_path: Path) -> None:
    """Master and worker end together."""
    state = answers([])
    ports = {80: free_port(), 443: free_port()}
    haproxy = balancer.Balancer(
        tmp_path, lambda: balancer.configuration(state, tmp_path, certificate, "127.0.0.1", ports)
    )
    haproxy.start()
    haproxy.stop()
    found = subprocess.run(["pgrep", "-f", str(haproxy.path)], capture_output=True, text=True, check=False)
    assert found.stdout == ""
