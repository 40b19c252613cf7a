# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Applications that were not written for this collection: built, deployed, verified and released anew as they are."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.fivepointers.platform.plugins.module_utils.build.sources import (
    identity,
    inputs,
    read_source,
    spec_of,
    tracked_names,
)

from tests.integration.harness import ROOT, Sandbox

AWKWARD = ROOT / "tests" / "awkward"
CATALOGUE: dict[str, Any] = yaml.safe_load((AWKWARD / "services.yml").read_text())
SERVICES: dict[str, Any] = CATALOGUE["services"]
#: What is released anew: processes, but for the relay, of which it takes half a minute until it is killed.
PROCESSES = [name for name, service in SERVICES.items() if service["kind"] != "static_frontend" and name != "relay"]
#: Those that take longest to build, of which each lane gets some, and how many lanes there are.
SLOWEST = ("portal", "quotes", "ledger", "orders", "stock", "packer", "handbook")
LANES = 3
#: What somebody asks each of them, where that is no error.
PAGES = (
    ("@", "/"), ("@", "/admin/"), ("@", "/portal/acme"), ("notes", "/notes"), ("quotes", "/"), ("shop", "/prices/1"),
    ("polls", "/health"), ("avatars", "/ann"), ("ledger", "/health"), ("orders", "/stock/shoe"), ("handbook", "/"),
    ("chat", "/health"), ("ticker", "/"), ("album", "/"), ("reminder", "/sent"),
)  # fmt: skip


@pytest.fixture(scope="module")
def awkward() -> Iterator[Sandbox]:
    """Two hosts for all of them, beside two databases and a store."""
    it = Sandbox("test-awkward", topology=str(AWKWARD / "topology.yml"))
    it.extra = ["-e", f"platform_catalogue_file={AWKWARD / 'services.yml'}"]
    # Artifacts and reports of its own: other stages deploy beside this one.
    it.extra += ["-e", f"platform_artifacts={it.state}/artifacts"]
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()
    it.up()
    yield it
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()


@contextlib.contextmanager
def catalogue(change: Callable[[dict[str, Any]], None]) -> Iterator[str]:
    """A changed catalogue beside the other; yields the argument that uses it."""
    content = yaml.safe_load((AWKWARD / "services.yml").read_text())
    change(content["services"])
    path = AWKWARD / ".changed.yml"
    path.write_text(yaml.safe_dump(content))
    try:
        yield f"platform_catalogue_file={path}"
    finally:
        path.unlink()


def test_they_are_built_deployed_and_verified(awkward: Sandbox, tmp_path: Path) -> None:
    report = tmp_path / "verify.json"
    order = [*SLOWEST, *(name for name in SERVICES if name not in SLOWEST)]
    lanes = [",".join(order[number::LANES]) for number in range(LANES)]
    with ThreadPoolExecutor(LANES) as pool:
        for run in pool.map(lambda lane: awkward.playbook("playbooks/build.yml", "-e", f"service={lane}"), lanes):
            run.succeeded()
    awkward.warm = True
    awkward.playbook("playbooks/site.yml", "-e", f"verify_report={report}").succeeded()
    results = json.loads(report.read_text())["results"]
    assert all(result["ok"] for result in results)
    assert {name for name in SERVICES if "public" in SERVICES[name]} <= {result["service"] for result in results}


def test_a_second_run_changes_nothing(awkward: Sandbox) -> None:
    awkward.playbook("playbooks/build.yml").unchanged()
    awkward.playbook("playbooks/site.yml").unchanged()


def test_what_is_written_beside_the_code_is_kept_outside_of_the_release(awkward: Sandbox) -> None:
    lines = awkward.ssh("old-1", "sudo cat /var/lib/fivepointers-relay/write/logs/relay.log").splitlines()
    assert lines[0].endswith(" started") and len(lines) > 1


def test_two_services_of_one_host_use_different_versions_of_node(awkward: Sandbox) -> None:
    commands = awkward.ssh("old-1", "pgrep -f ^fivepointers- | sudo xargs -I @ readlink /proc/@/exe").splitlines()
    versions = {line.split("/")[4].split(".")[0] for line in commands}
    assert versions == {"22", "24"}, commands


@pytest.mark.parametrize(
    ("label", "page", "folder"),
    [("@", "/portal/acme", "/portal/_next/static"), ("@", "/admin/", "/admin/assets"), ("handbook", "/", "/_astro")],
)
def test_hashed_files_are_kept_by_browsers_wherever_their_page_is(
    awkward: Sandbox, label: str, page: str, folder: str
) -> None:
    paths = re.findall(rf'(?:src|href)="({folder}/[^"]+\.(?:js|css))"', awkward.ask(label, page).text)
    assert paths
    for path in paths:
        answer = awkward.ask(label, path)
        assert (answer.status, answer.header("cache-control")) == (200, "public, max-age=31536000, immutable")
        assert not answer.all("content-security-policy"), path


def test_pages_of_the_portal_have_the_nonce_of_their_request(awkward: Sandbox) -> None:
    answer = awkward.ask("@", "/portal/acme")
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", answer.header("content-security-policy")))
    scripts = re.findall(r"<script\b[^>]*", answer.text)
    assert scripts and all(f'nonce="{nonce}"' in script for script in scripts)
    assert answer.header("x-tenant") == "acme"


class Poller:
    """A client of socket.io that polls, and keeps its cookies as browsers do."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.cookie = self.sid = ""
        self.sid = json.loads(self.exchange()[1:])["sid"]
        self.exchange("40")
        self.host = self.receive("welcome")

    def exchange(self, sent: str = "") -> str:
        path = f"/socket.io/?EIO=4&transport=polling&sid={self.sid}".removesuffix("&sid=")
        how: dict[str, Any] = {"method": "POST", "body": sent.encode()} if sent else {}
        answer = self.sandbox.ask("chat", path, headers={"Cookie": self.cookie}, **how)
        assert answer.status == 200, answer.describe()
        for line in answer.all("set-cookie"):
            self.cookie = line.partition(";")[0]
        return answer.text

    def receive(self, event: str) -> Any:
        """What comes with the next event of this name."""
        for _poll in range(5):
            for packet in self.exchange().split("\x1e"):
                if packet.startswith(f'42["{event}",'):
                    return json.loads(packet[2:])[1]
        raise AssertionError(f"no {event} came")


def test_who_polls_stays_on_a_host_and_hears_those_on_the_other(awkward: Sandbox) -> None:
    pollers: dict[str, Poller] = {}
    for _attempt in range(20):
        poller = Poller(awkward)
        pollers.setdefault(poller.host, poller)
        if len(pollers) == 2:
            break
    assert set(pollers) == {"old-1", "old-2"}
    for host, poller in pollers.items():
        poller.exchange(f'42["say","hello from {host}"]')
        for other in pollers.values():
            assert other.receive("said") == {"host": host, "text": f"hello from {host}"}


def test_of_a_monorepo_only_what_a_service_needs_counts_for_its_id(tmp_path: Path) -> None:
    """As for Turborepo, which builds nothing else: the build of the part that it does not need fails."""

    def built() -> str:
        paths = {"source": str(tmp_path / "shop/apps/api"), "workspace": str(tmp_path / "shop")}
        spec = spec_of({"name": "shop", "layout": "node", **SERVICES["shop"]["build"], **paths})
        return identity(inputs(spec, read_source(spec), "24.0.0", tracked_names(spec)))

    shutil.copytree(AWKWARD / "shop", tmp_path / "shop")
    first = built()
    (tmp_path / "shop/apps/web/index.js").write_text("1;")
    assert built() == first
    for path in ("packages/prices/src/index.ts", "turbo.json"):
        with (tmp_path / "shop" / path).open("a") as file:
            file.write("\n")
        assert built() not in (first, "")
        first = built()


def upload(sandbox: Sandbox, name: str, content: bytes) -> None:
    head = f'--edge\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--edge--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    answer = sandbox.ask("album", "/photos", method="POST", headers=headers, body=body, timeout=20)
    assert (answer.status, json.loads(answer.text)) == (201, {"name": name, "size": len(content)})


def live(sandbox: Sandbox) -> dict[str, str]:
    """The release that is live, by service."""
    return {
        name: sandbox.record(sandbox.hosts_of(name)[0], f"{name}/state.json")["live"]["release"] for name in SERVICES
    }


def reminders(sandbox: Sandbox) -> list[tuple[int, int]]:
    """Second and process of each reminder that was sent."""
    lines = sandbox.ask("reminder", "/sent").text.splitlines()
    return [(int(second), int(process)) for second, process in map(str.split, lines)]


def test_all_of_them_are_released_anew_and_go_back_and_nobody_notices(awkward: Sandbox) -> None:
    before = live(awkward)
    photo = os.urandom(900_000)
    upload(awkward, "before.jpg", photo)

    def more(services: dict[str, Any]) -> None:
        for name in PROCESSES:
            services[name]["memory"] = "900M"

    started = time.time()
    with awkward.asked(*PAGES) as failed:
        with catalogue(more) as changed:
            awkward.playbook("playbooks/deploy.yml", "-e", changed).succeeded()
        now = live(awkward)
        assert {name for name in before if now[name] != before[name]} == set(PROCESSES)
        report = json.loads(max((awkward.state / "artifacts/deployments").glob("*.json")).read_text())
        assert report["outcome"] == "committed" and report["probe"]["failed"] == 0, report["probe"]
        upload(awkward, "between.jpg", photo)
        awkward.playbook("playbooks/rollback.yml").succeeded()
        assert live(awkward) == before
    assert failed == []
    for name in ("before", "between"):
        assert awkward.ask("album", f"/photos/{name}.jpg").body == photo
    # Two processes ran all the time, and one of them reminded people: each second, bar the switches.
    sent = [item for item in reminders(awkward) if item[0] >= started]
    order = [process for number, (_second, process) in enumerate(sent) if sent[number - 1][1] != process or not number]
    assert len(order) == 3 and order[0] == order[2], sent
    assert abs(len(sent) - (sent[-1][0] - sent[0][0] + 1)) <= 2, sent


def test_a_project_without_a_lock_file_is_refused_with_the_cure(awkward: Sandbox) -> None:
    with catalogue(lambda services: services["relay"]["build"].pop("lockfile")) as strict:
        run = awkward.playbook("playbooks/build.yml", "-e", strict, "-e", "service=relay")
    assert run.rc != 0
    for word in ("relay", "package-lock.json", "lockfile: optional", "npm install"):
        assert word in run.output, run.output
