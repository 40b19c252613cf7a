"""What browsers see of a static frontend, before and after a release."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SHARED = PROJECT / "molecule/shared"
PORT = 8080
IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass
class Answer:
    """What came."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


Ask = Callable[..., Answer]


@pytest.fixture
def ask() -> Ask:
    """Ask the front as the edge does."""
    address = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())[0]["address"]

    def ask(path: str, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return Answer(answer.status, answer.headers, body)

    return ask


def script_of(page: Answer) -> str:
    found = re.search(r"/assets/index-\w+\.js", page.text)
    assert found, page.text
    return found.group(0)


def play(*playbooks: str, **variables: Any) -> tuple[int, str]:
    """Run playbooks of the scenario with changes; give the status and all they say, on one line."""
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"]]
    command += [*(str(SHARED / playbook) for playbook in playbooks), "-e", json.dumps(variables)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("path", ["/", "/index.html", "/orders/42", "/a.b/c"])
def test_pages_and_deep_links_are_the_page_and_asked_for_again(host: Host, ask: Ask, path: str) -> None:
    answer = ask(path)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>Shop</title>" in answer.text


def test_hashed_files_are_kept_for_ever_and_sent_compressed(host: Host, ask: Ask) -> None:
    path = script_of(ask("/"))
    plain, packed = ask(path), ask(path, Accept_Encoding="gzip")
    assert (plain.status, plain.headers["Cache-Control"]) == (200, IMMUTABLE)
    assert packed.headers["Content-Encoding"] == "gzip" and packed.headers["Vary"] == "Accept-Encoding"
    # The length is known only if the file was compressed before: by the build, not for each request.
    assert int(packed.headers["Content-Length"]) == len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body) == plain.body
    smaller = ask(path, Accept_Encoding="gzip, deflate, br, zstd")
    assert smaller.headers["Content-Encoding"] == "br" and len(smaller.body) < len(packed.body)


def test_a_missing_script_is_neither_a_page_nor_remembered(host: Host, ask: Ask) -> None:
    answer = ask("/assets/index-gone.js")
    assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-store")
    assert "Shop" not in answer.text


def test_the_environment_reaches_the_page(host: Host, ask: Ask) -> None:
    answer = ask("/runtime-config.js")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.headers["Content-Type"].startswith(("application/javascript", "text/javascript"))
    assert "</script>" not in answer.text
    values = json.loads(answer.text.removeprefix("window.__CONFIG__ = ").rstrip().removesuffix(";"))
    assert values["GREETING"] == "</script> & welcome"
    assert values["PUBLIC_URL"] == "https://molecule.test"


def test_hidden_files_are_not_served(host: Host, ask: Ask) -> None:
    assert ask("/.hidden").status == 404


def test_files_stay_inside(host: Host, ask: Ask) -> None:
    for path in (
        "/../release.json",
        "/assets/../../release.json",
        "/%2e%2e/release.json",
        "/assets/%2e%2e/%2e%2e/unit",
    ):
        answer = ask(path)
        assert answer.status in (400, 404) or "<title>Shop</title>" in answer.text, path


def test_a_release_replaces_the_page_and_keeps_open_ones_whole(host: Host, ask: Ask) -> None:
    page, earlier = ask("/"), script_of(ask("/"))
    assert ask("/", If_None_Match=page.headers["ETag"]).status == 304
    workers = host.check_output("pgrep --parent $(cat /run/nginx.pid)")
    status, output = play("build.yml", "service.yml", version="again")
    assert status == 0, output
    assert host.check_output("pgrep --parent $(cat /run/nginx.pid)") == workers, "nginx was reloaded"
    after = ask("/", If_None_Match=page.headers["ETag"])
    assert after.status == 200, "the new page is as long as the old one and must not be taken for it"
    assert script_of(after) != earlier
    for path in (earlier, script_of(after)):
        answer = ask(path)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, IMMUTABLE)
    assert "changed=0" in play("service.yml", version="again")[1]


def test_files_of_releases_that_are_gone_go_too(host: Host, ask: Ask) -> None:
    first = script_of(ask("/"))
    # Five are kept.
    for number in range(5):
        status, output = play("build.yml", "service.yml", version=f"no. {number}")
        assert status == 0, output
    assert ask("/").status == 200
    assert ask(first).status == 404
    assert len(host.check_output("ls /opt/fivepointers/shop/releases").split()) == 5
