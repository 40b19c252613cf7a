# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What unit tests share."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from hypothesis import settings

from tests.unit.disk import Disk

# A busy machine is slow, which is no mistake of what is tested.
settings.register_profile("project", deadline=None)
# make check tries fewer examples than make test.
settings.register_profile("quick", deadline=None, max_examples=15)
settings.load_profile(os.environ.get("EXAMPLES", "project"))


def pytest_collection_finish() -> None:
    """Look for garbage among what tests make, and not in all that was imported and collected: forks would copy it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def template() -> Callable[[str, dict[str, Any]], Any]:
    """Template a text as Ansible does, over variables as a playbook has them: template(text, variables)."""

    def render(text: str, variables: dict[str, Any]) -> Any:
        return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))

    return render


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small file system that a test may fill."""
    if os.geteuid():
        pytest.skip("only root can mount a file system")
    # In memory: each write to the file system is flushed.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        disk = Disk(Path(folder) / "disk.img", tmp_path / "disk")
        try:
            yield disk
        finally:
            disk.close()
