# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Services, archives, and a host's directories in a temporary one."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.common import archive, systemd
from ansible_collections.fivepointers.platform.plugins.module_utils.release import environments, files, releases
from ansible_collections.fivepointers.platform.plugins.plugin_utils.catalogue.kinds import KINDS
from ansible_collections.fivepointers.platform.plugins.plugin_utils.deploy import compose
from ansible_collections.fivepointers.platform.plugins.plugin_utils.plan.plan import kind_facts

NODE = "24.21.0"
SECRETS = {"jwt": "canary-token", "database.password": "canary p@ss"}


def make_spec(kind: str = "nestjs_api", **changes: Any) -> dict[str, Any]:
    """Return a service as the plan describes it."""
    files = kind == "static_frontend"
    spec: dict[str, Any] = {
        "name": "orders",
        **kind_facts(KINDS[kind]),
        "port": 8080 if files else 3001,
        "public": [],
        "slots": {} if files else {"blue": 13001, "green": 23001},
        "node": "24",
        "health": {"type": "http", "path": "/", "status": [200], "interval": 1, "timeout": 2, "start_period": 60},
        "hosts": ["api-1", "api-2"],
        "start": [] if files else ["node", "dist/main.js"],
        "migrate": [],
        "migrations": [],
        "schemas": [],
        "write": [],
        "schema_at_start": "refuse",
        "environment": {"A": "1"} if files else {"PORT": "${self.port}", "TOKEN": "${secret.jwt}", "A": "1"},
        "secrets": [] if files else ["jwt"],
        "spa": True,
        "timeout": 60,
        "schedule": "",
        "drain": 10,
        "hold": 0,
        "hand_off": "bridge" if kind == "yjs_websocket" else "",
        "keep": {"releases": 5, "bytes": 1 << 30},
        "body_limit": "1m",
        "live_signal": False,
        "memory": "1G",
        "aws": False,
        "user": "fp-orders",
    }
    return {**spec, **changes}


def make_manifest(**changes: Any) -> dict[str, Any]:
    """Return a manifest as builds write it."""
    manifest = {
        "service": "orders",
        "id": "a" * 16,
        "archive_sha256": "b" * 64,
        "archive_size": 1000,
        "unpacked_size": 4000,
        "files_count": 3,
        "node": NODE,
    }
    return {**manifest, **changes}


def make_request(
    spec: dict[str, Any] | None = None, manifest: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return what the module gets."""
    spec = spec or make_spec()
    arguments = {"node": NODE if spec["slots"] else "", "secrets": SECRETS, "host": "api-1", **changes}
    return compose.compose(spec, manifest or make_manifest(), **arguments)


def make_archive(path: Path, members: dict[str, Any]) -> str:
    """Write a tar.gz; a value is text, or a TarInfo to be named. Returns its SHA-256."""
    with gzip.GzipFile(path, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, value in members.items():
            info = value if isinstance(value, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            content = b""
            if not isinstance(value, tarfile.TarInfo):
                content = value.encode()
                info.size, info.mtime = len(content), 1_000_000_000
            archive.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    """Return a member that is a link."""
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


@pytest.fixture(autouse=True)
def cheap_digests(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Digests of secrets that cost nothing; gives what they cost otherwise."""
    real = dict(environments.SCRYPT)
    monkeypatch.setattr(environments, "SCRYPT", {"n": 2, "r": 1, "p": 1})
    return real


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's directories, empty."""
    names = {"HOME": "opt", "SETTINGS": "etc", "STATE": "var", "CACHE": "cache", "DATA": "data", "NGINX": "nginx"}
    for name, path in names.items():
        monkeypatch.setattr(releases, name, str(tmp_path / path))
    (tmp_path / "var").mkdir()
    # A busy machine takes seconds for it.
    monkeypatch.setattr(archive, "sync_filesystem", lambda directory: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for name, path in {"UNITS": "units", "WANTS": "units/wants", "PARKED": "units/parked"}.items():
        monkeypatch.setattr(systemd, name, str(tmp_path / path))
    monkeypatch.setattr(releases, "group_id", lambda name: os.getegid())
    monkeypatch.setattr(systemd, "version", lambda: 252)
    monkeypatch.setattr(systemd, "states", lambda units: {unit: systemd.UnitState(unit) for unit in units})
    return tmp_path


@pytest.fixture
def stage(tmp_path: Path, host: Path) -> Callable[..., releases.Wanted]:
    """Put a release of these files onto the host."""

    def stage(content: dict[str, Any], spec: dict[str, Any] | None = None) -> releases.Wanted:
        archive = tmp_path / "archive.tar.gz"
        sha256 = make_archive(archive, content)
        manifest = make_manifest(id=sha256[:16], archive_sha256=sha256, files_count=len(content))
        wanted = releases.Wanted(**make_request(spec, manifest))
        files.stage(wanted, "archive", str(archive), SECRETS)
        files.share(wanted)
        return wanted

    return stage
