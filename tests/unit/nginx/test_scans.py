# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What scanners of TLS say of a live edge."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nginx.live import DOMAIN, ROOT, Prefix, edge_plan, put_certificate, start

pytestmark = pytest.mark.slow

FILES = {"mode": "files", "certificate": "x", "key": "y"}
SSLYZE = ROOT / ".cache/tools/sslyze"


WEAK = {
    "ciphers": ("ssl_ciphers ", "ssl_ciphers ECDHE-ECDSA-AES128-SHA:"),
    "tls_curves": ("ssl_ecdh_curve ", "ssl_ecdh_curve secp521r1:"),
}


def sslyze(edge: Any, *names: str) -> str:
    """Scan an edge under names of ours; returns what is not as Mozilla's intermediate guidelines want it."""
    if not SSLYZE.exists():
        pytest.fail(f"{SSLYZE} is missing: run `make setup`", pytrace=False)
    targets = [f"{name}:{edge.prefix.ports[443]}{{127.0.0.1}}" for name in names]
    options = ["--mozilla_config=intermediate", f"--certinfo_ca_file={edge.ca_file}"]
    done = subprocess.run(
        [sys.executable, "-m", "sslyze", *options, *targets],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SSLYZE)},
    )
    verdict = done.stdout.partition("COMPLIANCE AGAINST")[2]
    assert verdict.count("OK - Compliant") + verdict.count("FAILED - Not compliant") == len(names), done.stdout
    return "" if done.returncode == 0 and "FAILED" not in verdict else verdict


def test_sslyze_finds_nothing_against_mozillas_intermediate_guidelines(edge: Any) -> None:
    assert sslyze(edge, f"api.{DOMAIN}", f"tenant.{DOMAIN}") == ""


@pytest.mark.parametrize("issue", WEAK)
def test_sslyze_would_find_something(tmp_path: Path, certificate: Path, issue: str) -> None:
    """The test above can fail."""
    prefix = Prefix(tmp_path)
    prefix.render({"nginx_proxy_domain": DOMAIN, "nginx_proxy_edge": edge_plan(), "nginx_proxy_tls": FILES})
    put_certificate(tmp_path, certificate)
    snippet = tmp_path / "fivepointers/snippets/edge-tls.conf"
    snippet.write_text(snippet.read_text().replace(*WEAK[issue]))
    with contextlib.contextmanager(start)(prefix, certificate) as edge:
        assert f"* {issue}:" in sslyze(edge, f"api.{DOMAIN}")
