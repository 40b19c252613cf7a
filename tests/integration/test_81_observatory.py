# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The HTTP Observatory itself grades the pages behind the sandbox's front door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from tests.integration.harness import ROOT, Sandbox
from tests.unit.nginx.live import Client

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


def publish(platform: Sandbox) -> str:
    """Publish a page, and return its host."""
    told, slug = platform.endpoints, f"page-{uuid.uuid4().hex[:12]}"
    client = Client(told["edge"], Path(told["ca_file"]))

    def ask(method: str, path: str, content: dict[str, str], **headers: str) -> Any:
        headers["Content-Type"] = "application/json"
        answer = client.ask(f"api.{told['domain']}", path, method, headers, json.dumps(content).encode())
        assert answer.status in (200, 201), (path, answer)
        return answer.json

    account = {"email": f"{slug}@example.com", "password": uuid.uuid4().hex}
    ask("POST", "/api/auth/signup", account)
    token = ask("POST", "/api/auth/login", account)["accessToken"]
    ask("PUT", f"/api/pages/{slug}", {"title": "A page", "body": "Its text"}, Authorization=f"Bearer {token}")
    return f"{slug}.{told['domain']}"


def test_the_frontends_html_grades_a_plus(platform: Sandbox) -> None:
    scan, lost = grade(platform, platform.endpoints["domain"])
    assert lost == {}
    assert scan["grade"] == "A+" and scan["score"] >= 100
    assert scan["statusCode"] == 200 and scan["responseHeaders"]["content-type"].startswith("text/html")


def test_a_published_page_grades_a_plus(platform: Sandbox) -> None:
    """The example signs its framework's scripts itself. With the edge's policy, which lets them be, it would be 80."""
    scan, lost = grade(platform, publish(platform))
    assert lost == {}
    assert scan["grade"] == "A+" and scan["score"] >= 100
