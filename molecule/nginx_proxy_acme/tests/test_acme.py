"""A certificate that comes and renews by itself: what users see, and what the host does without a controller."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
LIVE = "/etc/letsencrypt/live/fivepointers-edge"
RENEW = "certbot renew --quiet --no-random-sleep-on-renew --cert-name fivepointers-edge"

Converge = Callable[..., str]


@pytest.fixture(scope="module")
def address() -> str:
    instances = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
    return str(instances[0]["address"])


@pytest.fixture
def converge() -> Converge:
    """Run the scenario's playbook again, with changes; return its output."""

    def run(*arguments: str, **variables: Any) -> str:
        command = [
            "ansible-playbook",
            "-i",
            os.environ["MOLECULE_INVENTORY_FILE"],
            str(PROJECT / "molecule/shared/edge.yml"),
        ]
        return subprocess.run(
            [*command, "-e", json.dumps(variables), *arguments],
            cwd=PROJECT,
            env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": "ansible.cfg"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        ).stdout

    return run


def shown(address: str, name: str) -> x509.Certificate:
    """Return the certificate with which a new connection is answered; the authority is a new one at each start."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address, 443), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")


def names(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found.get_values_for_type(x509.DNSName))


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def run(host: Host, command: str) -> str:
    with host.sudo():
        return str(host.check_output(command))


@pytest.mark.parametrize("name", ["acme.test", "api.acme.test", "tenant.acme.test"])
def test_every_name_is_answered_with_the_authoritys_certificate(address: str, name: str) -> None:
    certificate = shown(address, name)
    assert names(certificate) == {"acme.test", "*.acme.test"}
    assert "Pebble" in certificate.issuer.rfc4514_string()


def test_a_further_domain_has_a_certificate_of_its_own(address: str) -> None:
    assert names(shown(address, "www.brand.test")) == {"www.brand.test"}
    assert names(shown(address, "acme.test")) == {"acme.test", "*.acme.test"}


def test_the_key_is_nobodys_to_read(host: Host) -> None:
    with host.sudo():
        assert host.file(f"{LIVE}/privkey.pem").exists
        assert (host.file("/etc/letsencrypt/archive").mode, host.file("/etc/letsencrypt/archive").user) == (
            0o700,
            "root",
        )


def test_another_run_gets_no_other_certificate_and_needs_no_authority(
    host: Host, address: str, converge: Converge
) -> None:
    before = shown(address, "acme.test")
    run(host, "systemctl kill --signal=STOP pebble.service")
    try:
        said = converge()
    finally:
        run(host, "systemctl kill --signal=CONT pebble.service")
    assert "changed=0" in said.rpartition("PLAY RECAP")[2], said
    assert shown(address, "acme.test") == before


def test_the_timer_is_on_and_leaves_alone_what_is_not_due(host: Host, address: str) -> None:
    assert host.service("certbot.timer").is_enabled and host.service("certbot.timer").is_running
    before = shown(address, "acme.test")
    run(host, RENEW)
    assert shown(address, "acme.test") == before


def test_a_renewal_is_taken_up_by_a_reload(host: Host, address: str) -> None:
    before, process = shown(address, "acme.test"), run(host, "cat /run/nginx.pid")
    run(host, f"{RENEW} --force-renewal")
    until(lambda: shown(address, "acme.test") != before)
    assert run(host, "cat /run/nginx.pid") == process, "nginx was not restarted"


def test_a_renewal_leaves_nginx_alone_where_its_files_are_broken(host: Host, address: str) -> None:
    before = shown(address, "acme.test")
    broken = "/etc/nginx/fivepointers/broken.conf"
    run(host, f"echo nonsense > {broken}")
    try:
        run(host, f"{RENEW} --force-renewal || true")
        assert shown(address, "acme.test") == before
    finally:
        run(host, f"rm {broken}")
    run(host, "nginx -t && systemctl reload nginx")
    until(lambda: shown(address, "acme.test") != before)


def test_names_that_change_are_certified(address: str, converge: Converge) -> None:
    edge = yaml.safe_load((SCENARIO / "vars/edge.yml").read_text())["edge"]
    more = {**edge["virtual_hosts"][1], "server_name": "a.b.acme.test"}
    said = converge("--check", edge={**edge, "virtual_hosts": [*edge["virtual_hosts"], more]})
    assert "failed=0" in said.rpartition("PLAY RECAP")[2], said
    assert names(shown(address, "acme.test")) == {"acme.test", "*.acme.test"}
    converge(edge={**edge, "virtual_hosts": [*edge["virtual_hosts"], more]})
    until(lambda: names(shown(address, "a.b.acme.test")) == {"acme.test", "*.acme.test", "a.b.acme.test"})
    assert "changed=0" not in converge().rpartition("PLAY RECAP")[2]
    until(lambda: names(shown(address, "acme.test")) == {"acme.test", "*.acme.test"})


def test_a_zone_that_is_not_there_is_named_and_the_old_certificate_serves(address: str, converge: Converge) -> None:
    edge = yaml.safe_load((SCENARIO / "vars/edge.yml").read_text())["edge"]
    more = {**edge["virtual_hosts"][1], "server_name": "other.test"}
    said = " ".join(converge(edge={**edge, "virtual_hosts": [*edge["virtual_hosts"], more]}).split())
    assert "Unable to find a Route53 hosted zone for _acme-challenge.other.test" in said
    assert names(shown(address, "acme.test")) == {"acme.test", "*.acme.test"}
