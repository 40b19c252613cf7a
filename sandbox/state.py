"""What a sandbox keeps on disk: its identity, addresses, keys and secrets."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.console import run
from sandbox.engines import ENGINES, parts
from sandbox.errors import SandboxError
from sandbox.paths import DEFAULT_NAME, STATE, state_dir

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
# Directories of the default sandbox, next to which the others have theirs.
TAKEN_NAMES = ("database", "hosts", "tls", *ENGINES)


def check_name(name: str) -> None:
    """Raise a SandboxError for a name that no sandbox can have."""
    if not NAME.match(name):
        raise SandboxError(f"--name {name!r}: use at most 40 lower-case letters, digits and hyphens.")
    if name in TAKEN_NAMES:
        raise SandboxError(f"--name {name!r} is a directory of the default sandbox; choose another name.")


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace a file at once: readers see the old content or the new one, whole."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fchmod(handle.fileno(), mode)
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass
class State:
    """The state directory of one sandbox."""

    name: str
    directory: Path
    identity: str = ""
    subnet: str = ""
    bare: bool = False
    # Whether its hosts are those that provision.yml made in its account.
    provisioned: bool = False
    addresses: dict[str, str] = field(default_factory=dict)
    # The engine of each container that runs one, by the container's name.
    databases: dict[str, str] = field(default_factory=lambda: parts({}))

    @classmethod
    def load(cls, name: str) -> State:
        """What is on disk; empty for a sandbox that was never up."""
        directory = state_dir(name)
        state = cls(name, directory)
        path = directory / "instance.json"
        if path.exists():
            data = json.loads(path.read_text())
            state.identity, state.subnet = data["identity"], data["subnet"]
            state.bare, state.addresses = data["bare"], data["addresses"]
            state.provisioned = data.get("provisioned", False)
            state.databases = data.get("databases", state.databases)
        return state

    def save(self) -> None:
        """Write what a later `up` must know."""
        self.identity = self.identity or secrets.token_hex(6)
        data: dict[str, Any] = {"name": self.name, "identity": self.identity, "subnet": self.subnet}
        data |= {"bare": self.bare, "provisioned": self.provisioned, "addresses": self.addresses}
        data["databases"] = self.databases
        write(self.directory / "instance.json", json.dumps(data, indent=2) + "\n")

    @property
    def ssh_key(self) -> Path:
        """Private key of the user admin on all hosts."""
        return self.directory / "ssh_key"

    def ensure_keys(self, hosts: Iterable[str]) -> None:
        """Make the user's key and each host's key; keys that exist stay."""
        _key(self.ssh_key, f"sandbox {self.name}")
        for host in hosts:
            directory = self.directory / "hosts" / host
            directory.mkdir(parents=True, exist_ok=True)
            _key(directory / "ssh_host_ed25519_key", host)
            shutil.copyfile(self.directory / "ssh_key.pub", directory / "authorized_keys")

    def host_keys(self, hosts: Iterable[str]) -> dict[str, str]:
        """The public host key of each host, type and key only."""
        return {
            host: " ".join((self.directory / "hosts" / host / "ssh_host_ed25519_key.pub").read_text().split()[:2])
            for host in hosts
        }

    def secrets(self) -> dict[str, str]:
        """The sandbox's secrets, made on first use."""
        path = self.directory / "secrets.json"
        known: Mapping[str, str] = json.loads(path.read_text()) if path.exists() else {}
        wanted = {
            "database": secrets.token_urlsafe(32),
            "jwt": secrets.token_urlsafe(48),
            "aws_access_key_id": f"SANDBOX{secrets.token_hex(8).upper()}",
            "aws_secret_access_key": secrets.token_urlsafe(30),
        }
        merged = {**wanted, **known}
        if merged != known:
            write(path, json.dumps(merged, indent=2) + "\n", 0o600)
        return merged


def others(name: str) -> list[State]:
    """The other sandboxes of this clone that have a state directory."""
    candidates = {path.parent.name for path in STATE.glob("*/instance.json")}
    if (STATE / "instance.json").exists():
        candidates.add(DEFAULT_NAME)
    return [State.load(other) for other in sorted(candidates - {name})]


def _key(path: Path, comment: str) -> None:
    # A pair is whole when the public half, which ssh-keygen writes last, is there.
    public = path.with_name(f"{path.name}.pub")
    if path.exists() and public.exists() and public.stat().st_size:
        return
    path.unlink(missing_ok=True)
    public.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
