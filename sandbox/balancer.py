"""The data path of an Application Load Balancer, for sandboxes: HAProxy stands in for it.

Listeners, rules, target groups, targets and health checks are what the AWS API answers; nothing is configured here.
It does what an ALB does to requests, and no more: it tries no request again, and it takes a target out only once its
health check failed. It is not AWS: it has one address, and a status of its own where a target cannot be reached (503,
where an ALB says 502 or 504), and a new target gets requests at once, where an ALB waits for its first check.
"""

from __future__ import annotations

import csv
import re
import signal
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxError
from sandbox.state import write
from sandbox.tools import HAPROXY

# What an ALB has when the API does not say, and as long as it waits for a connection.
IDLE_TIMEOUT, CONNECT_TIMEOUT = 60, 10
START_LIMIT = 10.0
SOCKET, HEALTH = "haproxy.sock", "health"
# Header names that an ALB drops when it is told to: all but letters, digits and hyphens.
INVALID_HEADER = "^.*[^-A-Za-z0-9].*$"


def describe(elbv2: Any, ec2: Any, name: str) -> dict[str, Any]:
    """Ask the API for all that makes a load balancer's data path. Both clients are boto3's.

    :returns: attributes, listeners (each with its Rules), groups by ARN (each with Attributes and Targets, the latter
        as address and port).
    """
    try:
        found = elbv2.describe_load_balancers(Names=[name])["LoadBalancers"][0]
    except elbv2.exceptions.LoadBalancerNotFoundException:
        raise SandboxError(f"The account has no load balancer {name}. Run playbooks/provision.yml first.") from None
    arn = found["LoadBalancerArn"]
    listeners = elbv2.describe_listeners(LoadBalancerArn=arn)["Listeners"]
    for listener in listeners:
        listener["Rules"] = elbv2.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]
    groups = {
        item["TargetGroupArn"]: item for item in elbv2.describe_target_groups(LoadBalancerArn=arn)["TargetGroups"]
    }
    for group_arn, group in groups.items():
        group["Attributes"] = _attributes(elbv2.describe_target_group_attributes(TargetGroupArn=group_arn))
        health = elbv2.describe_target_health(TargetGroupArn=group_arn)["TargetHealthDescriptions"]
        targets = [item["Target"] for item in health if item["TargetHealth"]["State"] != "draining"]
        addresses = _addresses(ec2, [item["Id"] for item in targets if item["Id"].startswith("i-")])
        group["Targets"] = sorted(
            (addresses.get(item["Id"], item["Id"]), int(item.get("Port", group["Port"]))) for item in targets
        )
    attributes = _attributes(elbv2.describe_load_balancer_attributes(LoadBalancerArn=arn))
    return {"attributes": attributes, "listeners": listeners, "groups": groups}


def _attributes(answer: Mapping[str, Any]) -> dict[str, str]:
    return {item["Key"]: item["Value"] for item in answer["Attributes"]}


def _addresses(ec2: Any, ids: Sequence[str]) -> dict[str, str]:
    if not ids:
        return {}
    pages = ec2.get_paginator("describe_instances").paginate(InstanceIds=ids)
    instances = [item for page in pages for group in page["Reservations"] for item in group["Instances"]]
    return {item["InstanceId"]: item["PrivateIpAddress"] for item in instances}


def configuration(
    answers: Mapping[str, Any],
    directory: Path,
    certificate: Path,
    address: str = "*",
    ports: Mapping[int, int] | None = None,
) -> str:
    """HAProxy's configuration. Pure.

    :param answers: what `describe` returned.
    :param directory: where HAProxy has its socket, and what it knows of the targets' health across reloads.
    :param certificate: file with certificate, chain and key, in place of what ACM holds.
    :param ports: a listener's port → the port to listen on; itself where none is named.
    """
    attributes = answers["attributes"]
    idle = attributes.get("idle_timeout.timeout_seconds", IDLE_TIMEOUT)
    delays = [
        group["Attributes"].get("deregistration_delay.timeout_seconds", 300) for group in answers["groups"].values()
    ]
    lines = [
        "# Made from what the AWS API answers: HAProxy stands in for the data path of an Application Load Balancer.",
        "global",
        "  log stdout format raw daemon",
        # A reload is how targets go: what they have is finished for as long as the group says.
        f"  hard-stop-after {max(delays, default=300)}s",
        f"  stats socket {directory / SOCKET} level admin expose-fd listeners",
        f"  server-state-file {directory / HEALTH}",
        "defaults",
        "  mode http",
        "  load-server-state-from-file global",
        "  log global",
        "  option httplog",
        "  retries 0",
        f"  timeout connect {CONNECT_TIMEOUT}s",
        *(f"  timeout {side} {idle}s" for side in ("client", "server", "tunnel", "http-keep-alive", "http-request")),
    ]
    names = {arn: f"group_{group['TargetGroupName']}" for arn, group in answers["groups"].items()}
    for listener in answers["listeners"]:
        lines += _frontend(listener, attributes, names, certificate, address, ports or {})
    for arn, group in answers["groups"].items():
        lines += _backend(names[arn], group)
    return "\n".join(lines) + "\n"


def _frontend(
    listener: Mapping[str, Any],
    attributes: Mapping[str, str],
    names: Mapping[str, str],
    certificate: Path,
    address: str,
    ports: Mapping[int, int],
) -> list[str]:
    port, secure = int(listener["Port"]), listener["Protocol"] == "HTTPS"
    oldest = "TLSv1.3" if "TLS13-1-3" in listener.get("SslPolicy", "") else "TLSv1.2"
    tls = f" ssl crt {certificate} alpn h2,http/1.1 ssl-min-ver {oldest}" if secure else ""
    lines = [f"frontend port_{port}", f"  bind {address}:{ports.get(port, port)}{tls}"]
    if attributes.get("routing.http.drop_invalid_header_fields.enabled") == "true":
        lines.append(f"  http-request del-header {INVALID_HEADER} -m reg")
    lines += [
        '  http-request set-header X-Forwarded-For "%[req.fhdr(x-forwarded-for)], %[src]"'
        " if { req.fhdr(x-forwarded-for) -m found }",
        '  http-request set-header X-Forwarded-For "%[src]" if !{ req.fhdr(x-forwarded-for) -m found }',
        f"  http-request set-header X-Forwarded-Proto {'https' if secure else 'http'}",
        f"  http-request set-header X-Forwarded-Port {port}",
    ]
    rules = sorted(listener["Rules"], key=lambda rule: float("inf") if rule["IsDefault"] else int(rule["Priority"]))
    choices: list[str] = []
    actions: list[str] = []
    for number, rule in enumerate(rules):
        conditions = " ".join(_condition(item) for item in rule["Conditions"])
        choices.append(f"  http-request set-var(txn.rule) int({number}) if !{{ var(txn.rule) -m found }} {conditions}")
        actions.append(_action(rule["Actions"], names, f"if {{ var(txn.rule) -m int {number} }}", secure))
    return lines + choices + actions


def _condition(condition: Mapping[str, Any]) -> str:
    """A rule's condition: any of its values."""
    field = condition["Field"]
    if field == "host-header":
        values = (condition.get("HostHeaderConfig") or condition)["Values"]
        return f"{{ req.hdr(host),field(1,:) -i -m reg {_patterns(values)} }}"
    if field == "path-pattern":
        values = (condition.get("PathPatternConfig") or condition)["Values"]
        return f"{{ path -m reg {_patterns(values)} }}"
    raise SandboxError(f"The load balancer's stand-in does not support rules by {field}, only host and path.")


def _patterns(values: Iterable[str]) -> str:
    """An ALB's patterns, of which * and ? are all that is special, as HAProxy's."""
    special = {"*": ".*", "?": "."}
    return " ".join(f"^{''.join(special.get(char, re.escape(char)) for char in value)}$" for value in values)


def _action(actions: Sequence[Mapping[str, Any]], names: Mapping[str, str], when: str, secure: bool) -> str:
    action = actions[-1]
    if action["Type"] == "forward":
        groups = action.get("ForwardConfig", {}).get("TargetGroups") or [action]
        if len(groups) > 1:
            raise SandboxError("The load balancer's stand-in does not support weighted target groups.")
        name = names[groups[0]["TargetGroupArn"]]
        return f"  use_backend {name} {when}"
    if action["Type"] == "redirect":
        config = action["RedirectConfig"]
        if (config.get("Path", "/#{path}"), config.get("Query", "#{query}")) != ("/#{path}", "#{query}"):
            raise SandboxError("The load balancer's stand-in does not support redirects to another path.")
        scheme = {"#{protocol}": "https" if secure else "http"}.get(config["Protocol"], config["Protocol"].lower())
        host = config.get("Host", "#{host}").replace("#{host}", "%[req.hdr(host),field(1,:)]")
        code = config["StatusCode"].removeprefix("HTTP_")
        return f"  http-request redirect location {scheme}://{host}:{config['Port']}%[pathq] code {code} {when}"
    if action["Type"] == "fixed-response":
        config = action["FixedResponseConfig"]
        body = re.sub(r'(["\\$])', r"\\\1", config.get("MessageBody", "")).replace("\n", "\\n")
        kind = config.get("ContentType", "text/plain")
        return f'  http-request return status {config["StatusCode"]} content-type {kind} string "{body}" {when}'
    raise SandboxError(f"The load balancer's stand-in does not support the action {action['Type']}.")


def _backend(name: str, group: Mapping[str, Any]) -> list[str]:
    """A group of targets, with its health check.

    Each stands there once more without, as a backup: with no healthy target left, an ALB tries them all. A rule that
    asks how many are healthy would not do: while HAProxy reloads, the process that ends counts none.
    """
    attributes = group["Attributes"]
    if attributes.get("stickiness.enabled") == "true":
        raise SandboxError("The load balancer's stand-in does not support stickiness.")
    fewest = attributes.get("load_balancing.algorithm.type") == "least_outstanding_requests"
    port = group["HealthCheckPort"]
    check = "check" if port == "traffic-port" else f"check port {port}"
    pace = (
        f"inter {group['HealthCheckIntervalSeconds']}s"
        f" fall {group['UnhealthyThresholdCount']} rise {group['HealthyThresholdCount']}"
    )
    # Named and numbered by what they are, so that a reload knows them again.
    places = [f"{host}:{its_port}" for host, its_port in group["Targets"]]
    return [
        f"backend {name}",
        f"  balance {'leastconn' if fewest else 'roundrobin'}",
        "  option allbackups",
        "  option httpchk",
        f"  http-check send meth GET uri {group['HealthCheckPath']} ver HTTP/1.1 hdr Host health"
        " hdr User-Agent ELB-HealthChecker/2.0 hdr Connection close",
        f"  http-check expect status {group['Matcher']['HttpCode']}",
        f"  timeout check {group['HealthCheckTimeoutSeconds']}s",
        *(_server(place, place, f"{check} {pace}") for place in places),
        *(_server(f"{place}:open", place, "backup") for place in places),
    ]


def _server(name: str, place: str, options: str) -> str:
    return f"  server {name} {place} id {zlib.crc32(name.encode()) & 0x7FFFFFFF} {options}"


def keep_health(directory: Path) -> None:
    """Note the targets' health, for HAProxy to read at its next reload: a dead target does not come back by it."""
    write(directory / HEALTH, _said(directory, "show servers state"))


def _said(directory: Path, command: str) -> bytes:
    """What HAProxy answers to a command."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(directory / SOCKET))
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def command(path: Path) -> list[str]:
    """What runs HAProxy in the foreground with the configuration at `path`; SIGUSR2 makes it read it anew."""
    return [str(HAPROXY), "-W", "-f", str(path)]


def check(path: Path) -> None:
    """Raise a SandboxError unless HAProxy takes the configuration."""
    answer = subprocess.run([HAPROXY, "-c", "-f", path], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SandboxError(f"HAProxy rejected {path}:\n{answer.stderr}")


class Balancer:
    """HAProxy as a process of its own.

    :param directory: where it has its files.
    :param ask: returns the configuration as the API has it now, such as `configuration(describe(…), …)`.
    """

    def __init__(self, directory: Path, ask: Callable[[], str]) -> None:
        self.directory = directory
        self.path = directory / "haproxy.cfg"
        self.log = directory / "haproxy.log"
        self.ask = ask
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it listens."""
        write(self.path, self.ask())
        write(self.directory / HEALTH, "")
        check(self.path)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command(self.path), stdout=log, stderr=subprocess.STDOUT)
        self._await_loaded(0)

    def update(self) -> bool:
        """Ask anew; where the answer differs, reload without dropping a connection. Returns whether it did."""
        text = self.ask()
        if self.process is None or text == self.path.read_text():
            return False
        write(self.path, text)
        check(self.path)
        keep_health(self.directory)
        known = self._loaded()
        self.process.send_signal(signal.SIGUSR2)
        self._await_loaded(known)
        return True

    def healthy(self) -> set[str]:
        """The targets that get requests, each as address:port."""
        rows = csv.DictReader(_said(self.directory, "show stat").decode().splitlines())
        return {row["svname"] for row in rows if row["status"].startswith("UP") and row["check_status"]}

    def stop(self) -> None:
        """Stop it at once."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_LIMIT)
            self.process = None

    def _loaded(self) -> int:
        return self.log.read_text(errors="replace").count("Loading success.")

    def _await_loaded(self, known: int) -> None:
        until = time.monotonic() + START_LIMIT
        while self._loaded() <= known:
            if time.monotonic() > until or self.process is None or self.process.poll() is not None:
                raise SandboxError(f"HAProxy did not start. Its log: {self.log}")
            time.sleep(0.02)
