# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The HTTP Observatory itself grades the pages behind the sandbox's front door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.harness import ROOT, Sandbox

OBSERVATORY = ROOT / ".cache/tools/observatory/node_modules/@mdn/mdn-http-observatory/src/scan.js"
NAMES = ROOT / "tests/tools/observatory/names.cjs"


def grade(platform: Sandbox, host: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The scan of a host, and what each test took away."""
    assert OBSERVATORY.exists(), f"{OBSERVATORY} is missing: run `make setup`"
    told = platform.endpoints
    node = Path(sys.executable).parent / "node"
    done = subprocess.run(
        [str(node), "--require", str(NAMES), str(OBSERVATORY), host],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "FRONT_DOOR": told["edge"], "NODE_EXTRA_CA_CERTS": told["ca_file"]},
    )
    result = json.loads(done.stdout)
    assert done.returncode == 0 and "scan" in result, done.stdout + done.stderr
    print(f"{host}: {result['scan']['grade']}, {result['scan']['score']}")
    lost = {test["result"]: test["scoreModifier"] for test in result["tests"].values() if test["scoreModifier"] < 0}
    return result["scan"], lost


def test_the_frontends_html_grades_a_plus(platform: Sandbox) -> None:
    scan, lost = grade(platform, platform.endpoints["domain"])
    assert lost == {}
    assert scan["grade"] == "A+" and scan["score"] >= 100
    assert scan["statusCode"] == 200 and scan["responseHeaders"]["content-type"].startswith("text/html")


def test_a_published_page_loses_nothing_but_for_the_scripts_of_its_framework(platform: Sandbox) -> None:
    """Next.js writes scripts into its pages, which only the application itself could sign."""
    scan, lost = grade(platform, f"any.{platform.endpoints['domain']}")
    assert lost == {"csp-implemented-with-unsafe-inline": -20}
    assert scan["score"] == 80
