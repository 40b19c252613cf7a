# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""How the platform tags AWS resources, and what names and tags say. Standard library only, Python 3.9 or later."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Value of the tag ManagedBy of everything that the collection creates.
MANAGED_BY = "fivepointers.platform"
PRODUCTION = re.compile(r"(?:.*-)?prod(?:uction)?(?:-.*)?")


def tagged_services(tags: Mapping[str, str] | None) -> list[str]:
    """Return what runs on an instance according to its tag Services: names of services, and edge."""
    return [name for part in (tags or {}).get("Services", "").split(",") if (name := part.strip())]


def is_production(name: str) -> bool:
    """Whether the name of an environment means that users depend on it."""
    return bool(PRODUCTION.fullmatch(name))
