# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What the controller makes of a service: files, identifiers, messages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.signatures import Signer
from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import environments, releases
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds.nextjs import KIND as NEXTJS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import compose, manifests

from .conftest import NODE, SECRETS, make_archive, make_manifest, make_request, make_spec

PROCESSES = ("nestjs_api", "nextjs", "yjs_websocket")
KINDS = (*PROCESSES, "static_frontend")


# --- identifiers --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_release_has_the_same_id_on_every_host_and_in_every_run(kind: str) -> None:
    first = make_request(make_spec(kind))
    assert first["release"] == make_request(make_spec(kind), host="api-2")["release"]
    spec = make_spec(kind)
    spec["environment"] = dict(reversed(spec["environment"].items()))
    assert first["release"] == make_request(spec)["release"]
    assert len(first["release"]) == 12 and int(first["release"], 16) >= 0


@pytest.mark.parametrize(
    "part, changes",
    [
        ("code", {"manifest": make_manifest(id="c" * 16)}),
        ("environment", {"spec": make_spec(environment={"A": "2"}, secrets=[])}),
        ("environment", {"secrets": {**SECRETS, "jwt": "another"}}),
        ("unit", {"spec": make_spec(memory="2G")}),
        ("unit", {"spec": make_spec(start=["node", "other.js"])}),
        ("unit", {"spec": make_spec(migrate=["node", "migrate.js"])}),
        ("front", {"spec": make_spec(body_limit="2m")}),
        ("runtime", {"node": "22.1.0"}),
    ],
)
def test_each_part_changes_the_id(part: str, changes: dict[str, Any]) -> None:
    before, after = make_request(), make_request(**changes)
    assert before["release"] != after["release"]
    differ = [name for name in releases.PARTS if before["parts"][name] != after["parts"][name]]
    # Another runtime stands in the unit, too.
    assert differ == (["unit", "runtime"] if part == "runtime" else [part])


def test_a_frontends_values_are_part_of_its_id() -> None:
    one = make_request(make_spec("static_frontend"))
    other = make_request(make_spec("static_frontend", environment={"A": "2"}))
    assert one["release"] != other["release"]


def test_no_secret_is_in_what_the_module_gets_or_in_the_id() -> None:
    text = json.dumps(make_request(make_spec(environment={"U": "x://a:${secret.database.password|url}@b"})))
    assert not [value for value in (*SECRETS.values(), "canary%20p%40ss") if value in text]
    assert "${secret.database.password|url}" in text


def test_trying_out_secrets_costs_more_than_a_hash(
    cheap_digests: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "SCRYPT", cheap_digests)
    start = time.perf_counter()
    environments.secret_digest("orders", {"A": "1"})
    assert time.perf_counter() - start > 0.01
    assert environments.secret_digest("orders", {"A": "1"}) != environments.secret_digest("bills", {"A": "1"})


# --- units ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROCESSES)
def test_units_are_what_operators_rely_on(kind: str) -> None:
    request = make_request(make_spec(kind))
    unit = systemd.parse_unit(request["unit"])
    service = unit["Service"]
    app = f"/opt/fivepointers/orders/releases/{request['release']}/app"
    assert service["ExecStart"] == [f"@/opt/fivepointers/node/{NODE}/bin/node fivepointers-orders dist/main.js"]
    assert service["WorkingDirectory"] == [app]
    assert service["User"] == ["fp-orders"]
    assert service["EnvironmentFile"] == ["/etc/fivepointers/orders/%i.env"]
    assert (service["Restart"], service["SuccessExitStatus"]) == (["always"], ["143"])
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"], "it would give up for ever"
    assert service["TimeoutStopSec"] == ["30s"] and service["MemoryMax"] == ["1G"]
    assert service["SystemCallErrorNumber"] == ["EPERM"], "refused calls would kill"
    assert "MemoryDenyWriteExecute" not in service, "it kills V8"
    assert f"FIVEPOINTERS_RELEASE={request['release']}" in service["LogExtraFields"]
    assert unit["Install"]["WantedBy"] == ["multi-user.target"]
    assert compose.RELEASE not in request["unit"]
    assert ("BindPaths" in service) == (kind == "nextjs")


def test_folders_that_are_written_to_outlive_the_release() -> None:
    request = make_request(make_spec("nextjs", write=["uploads", "public/media"]))
    service = systemd.parse_unit(request["unit"])["Service"]
    app = f"/opt/fivepointers/orders/releases/{request['release']}/app"
    kept = "fivepointers-orders/write"
    assert service["StateDirectory"] == [f"fivepointers-orders {kept}/uploads {kept}/public/media"]
    assert service["BindPaths"] == [
        f"%S/{kept}/uploads:{app}/uploads",
        f"%S/{kept}/public/media:{app}/public/media",
        f"%C/fivepointers-orders/{request['release']}:{app}/.next/cache",
    ]
    # Nothing can be mounted where nothing is.
    assert request["writable"] == [".next/cache", "uploads", "public/media"]


def test_migrations_run_in_the_same_sandbox_once() -> None:
    request = make_request(make_spec(migrate=["node", "dist/migrate.js", "--all"]))
    unit, migration = systemd.parse_unit(request["unit"]), systemd.parse_unit(request["migration"])
    assert migration["Service"]["Type"] == ["oneshot"] and "Restart" not in migration["Service"]
    assert migration["Service"]["ExecStart"][0].endswith("bin/node dist/migrate.js --all")
    assert "Install" not in migration
    ours = {"Type", "ExecStart", "Restart", "RestartSec", "RestartSteps", "RestartMaxDelaySec", "TimeoutStartSec"}
    rest = [{key: value for key, value in found["Service"].items() if key not in ours} for found in (unit, migration)]
    assert rest[0] == rest[1]
    assert make_request()["migration"] == ""


@pytest.mark.parametrize(
    "argv, line",
    [
        (["node", "a b.js"], '/node/bin/node "a b.js"'),
        (["./bin/serve", "--port=1"], "/app/bin/serve --port=1"),
        (["bin/serve"], "/app/bin/serve"),
        (["/usr/bin/python3", "x.py"], "/usr/bin/python3 x.py"),
        (["tsx", "x.ts"], "/usr/bin/env tsx x.ts"),
    ],
)
def test_programs_are_the_runtimes_the_codes_or_the_hosts(argv: list[str], line: str) -> None:
    assert compose.command(argv, "/node", "/app") == line


def test_a_process_is_called_by_its_service_unless_its_program_is_looked_for() -> None:
    titled = "@/node/bin/node fivepointers-api a.js"
    assert compose.command(["node", "a.js"], "/node", "/app", "fivepointers-api") == titled
    assert compose.command(["tsx", "x.ts"], "/node", "/app", "fivepointers-api") == "/usr/bin/env tsx x.ts"


def test_next_keeps_the_title_and_what_the_catalogue_says() -> None:
    stated = make_spec("nextjs")
    stated["environment"] = {"NODE_OPTIONS": "--max-old-space-size=300"}
    options = make_request(stated)["environment"]["NODE_OPTIONS"]
    assert options == f"{NEXTJS.node_options} --max-old-space-size=300"
    assert make_request(make_spec("nextjs"))["environment"]["NODE_OPTIONS"] == NEXTJS.node_options
    assert "NODE_OPTIONS" not in make_request(make_spec("nestjs_api"))["environment"]


def test_only_services_that_may_get_the_hosts_credentials() -> None:
    """Their migrations too: they run the same code."""
    commands = {"migrate": ["node", "migrate.js"], "migrations": ["node", "list.js"]}
    for aws in (False, True):
        for kind in PROCESSES:
            request = make_request(make_spec(kind, aws=aws, **commands))
            for unit in ("unit", "migration", "listing"):
                denied = systemd.parse_unit(systemd.for_version(request[unit], 252))["Service"].get("IPAddressDeny")
                # Not the DNS server and the clock of AWS, which are at .253 and .123.
                assert denied == (None if aws else ["169.254.169.254 fd00:ec2::254"]), (kind, unit)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
@pytest.mark.parametrize("kind", PROCESSES)
def test_systemd_rates_the_units_two_or_better(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "fivepointers-orders@blue.service"
    path.write_text(systemd.for_version(make_request(make_spec(kind))["unit"], 252))
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


# --- what frontends are told ------------------------------------------------------------


def test_values_of_a_frontend_cannot_leave_their_script() -> None:
    text = compose.runtime_config({"A": "</script><script>alert(1)//", "B": "\u2028$$5", "C": 'quo"te'})
    assert "<" not in text and "\u2028" not in text
    values = json.loads(text.removeprefix("window.__CONFIG__ = ").removesuffix(";\n"))
    assert values == {"A": "</script><script>alert(1)//", "B": "\u2028$5", "C": 'quo"te'}


# --- artifacts ----------------------------------------------------------------------------


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    folder = tmp_path / "orders"
    folder.mkdir()
    sha256 = make_archive(folder / f"{'a' * 16}.tar.gz", {"x": "y"})
    for name in ("latest", "a" * 16):
        (folder / f"{name}.json").write_text(json.dumps(make_manifest(archive_sha256=sha256, service="orders")))
    return tmp_path


def test_the_newest_artifact_is_taken_unless_one_is_named(artifacts: Path) -> None:
    assert manifests.read_manifest(str(artifacts), "orders", None)["id"] == "a" * 16
    assert manifests.read_manifest(str(artifacts), "orders", "a" * 16)["id"] == "a" * 16


@pytest.mark.parametrize(
    "service, artifact, spoil, told",
    [
        ("bills", None, "", "bills: no artifact found"),
        ("orders", "f" * 16, "", f"Known artifacts: {'a' * 16}"),
        ("orders", None, "manifest", "is not a manifest"),
        ("orders", None, "depth", "is not a manifest"),
        ("orders", None, "key", "lacks archive_sha256"),
        ("orders", None, "service", "lacks service"),
        ("orders", None, "archive", "is missing"),
        ("orders", "a" * 16, "another", "id is 'ffff"),
        ("orders", None, "escape", "id is '../../x'"),
        ("orders", "../latest", "", "is not the id of an artifact"),
    ],
)
def test_an_artifact_that_is_not_there_is_told_with_the_fix(
    artifacts: Path, service: str, artifact: str | None, spoil: str, told: str
) -> None:
    latest = artifacts / "orders/latest.json"
    if spoil == "manifest":
        latest.write_text("{")
    elif spoil == "depth":
        latest.write_text("[" * 100_000)
    elif spoil in ("key", "service"):
        lacking = "archive_sha256" if spoil == "key" else "service"
        manifest = json.loads(latest.read_text())
        latest.write_text(json.dumps({key: value for key, value in manifest.items() if key != lacking}))
    elif spoil == "another":
        (artifacts / f"orders/{artifact}.json").write_text(json.dumps(make_manifest(id="f" * 16, service="orders")))
    elif spoil == "escape":
        latest.write_text(json.dumps(make_manifest(id="../../x", service="orders")))
    elif spoil == "archive":
        os.unlink(artifacts / f"orders/{'a' * 16}.tar.gz")
    with pytest.raises(archive.ArchiveError, match=told) as error:
        manifests.read_manifest(str(artifacts), service, artifact)
    assert artifact or "ansible-playbook playbooks/build.yml" in str(error.value)


def test_only_signed_artifacts_are_taken_where_keys_are_stated(artifacts: Path) -> None:
    pem = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True)
    signer = Signer(pem.stdout)
    latest = artifacts / "orders/latest.json"
    manifest = json.loads(latest.read_text())

    def read() -> dict[str, Any]:
        return manifests.read_manifest(str(artifacts), "orders", None, [signer.public_key])

    with pytest.raises(archive.ArchiveError, match=r"latest\.json is not signed\. .*artifact_signing\.keys"):
        read()
    signed = signer.sign(manifest)
    latest.write_text(json.dumps(signed))
    assert read() == signed
    latest.write_text(json.dumps({**signed, "archive_sha256": "c" * 64}))
    with pytest.raises(archive.ArchiveError, match="has a signature of another key, or was changed"):
        read()


@pytest.mark.parametrize(
    "built, fits", [(NODE, True), ("v24.0.0", True), ("24.x", True), ("", True), ("22.9.1", False)]
)
def test_code_runs_with_the_major_version_that_it_was_built_with(built: str, fits: bool) -> None:
    if fits:
        manifests.check_runtime(make_spec(), make_manifest(node=built), NODE)
    else:
        with pytest.raises(archive.ArchiveError, match=r"built with Node\.js 22\.9\.1.*Build it again"):
            manifests.check_runtime(make_spec(), make_manifest(node=built), NODE)


def test_a_known_digest_of_the_environment_gives_the_same_release_and_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = make_request()
    monkeypatch.setattr(environments, "secret_digest", lambda *_arguments: pytest.fail("it is computed again"))
    assert make_request(environment_digest=first["parts"]["environment"]) == first


def test_what_listens_on_nothing_has_no_front() -> None:
    request = make_request(make_spec(port=None, slots={"blue": 0, "green": 0}))
    assert (request["port"], request["front"]) == (0, "")
    assert "ExecStart=" in request["unit"]
