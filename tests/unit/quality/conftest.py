from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def listed(*patterns: str) -> list[Path]:
    """Files of the repository, committed or about to be, relative to it."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return [Path(name) for name in sorted(names) if name and (ROOT / name).is_file()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for `role` each role in turn."""
    if "role" in metafunc.fixturenames:
        roles = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
        metafunc.parametrize("role", roles, ids=[role.name for role in roles])


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def files() -> list[Path]:
    """All files of the repository."""
    return listed()
