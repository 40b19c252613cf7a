# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""The catalogue of the repository, read once."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "inventories" / "services.yml"


def catalogue() -> dict[str, Any]:
    """Return the catalogue of the repository, to be changed by a test."""
    return copy.deepcopy(_read())


@functools.cache
def _read() -> dict[str, Any]:
    content = yaml.safe_load(FILE.read_text())
    assert isinstance(content, dict)
    return content
