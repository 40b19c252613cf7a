# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The whole platform on real hosts: one sandbox for the session, taken down at its end.

Set ``KEEP_SANDBOX=1`` to leave the hosts up for a look, or to start the next run from them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.integration.harness import Sandbox, build


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Five bare hosts, a database and the AWS stand-in; artifacts built."""
    it = Sandbox("test")
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()
    it.up()
    build(it)
    it.warm = True
    yield it
    if not os.environ.get("KEEP_SANDBOX"):
        it.down()


@pytest.fixture(scope="session")
def platform(sandbox: Sandbox) -> Sandbox:
    """The same hosts after one run of site.yml."""
    sandbox.playbook("playbooks/site.yml").succeeded()
    return sandbox
