"""Where things are. Everything lies below the repository, or in /run for what a reboot must forget."""

from __future__ import annotations

import hashlib
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
CACHE = REPO / ".cache"
STATE = REPO / ".sandbox"
VENV = REPO / ".venv"
# What Python compiled of modules that Ansible sent; see files/python/kept_bytecode.py.
BYTECODE = CACHE / "bytecode"
FILES = Path(__file__).resolve().parent / "files"
TOPOLOGIES = Path(__file__).resolve().parent / "topologies"

DEFAULT_NAME = "sandbox"

# Two clones of the repository on one machine are strangers to each other.
CLONE = hashlib.sha256(str(REPO).encode()).hexdigest()[:8]
SHARED_RUNTIME = Path("/run/fivepointers-sandbox")
RUNTIME = SHARED_RUNTIME / CLONE


def state_dir(name: str) -> Path:
    """Directory that the sandbox `name` keeps its keys, secrets and addresses in."""
    return STATE if name == DEFAULT_NAME else STATE / name


def repository_path(path: Path) -> str:
    """`path` relative to the repository where it lies in it, for messages."""
    try:
        return str(path.relative_to(REPO))
    except ValueError:
        return str(path)
