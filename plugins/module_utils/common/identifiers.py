# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What identifiers of artifacts and releases look like.

They become parts of paths, on the controller as well as on hosts, and come from where others may write: a bucket, a
file, a command line, a host's journal. So whoever receives one checks it here first.
"""

from __future__ import annotations

import re
import typing as t

_ARTIFACT = re.compile(r"[0-9a-f]{16,64}")
_RELEASE = re.compile(r"[0-9a-f]{12}")


def is_artifact_id(value: t.Any) -> bool:
    """Return whether this is the identifier of an artifact: 16 to 64 hexadecimal digits in lower case."""
    return isinstance(value, str) and _ARTIFACT.fullmatch(value) is not None


def is_release_id(value: t.Any) -> bool:
    """Return whether this is the identifier of a release: 12 hexadecimal digits in lower case."""
    return isinstance(value, str) and _RELEASE.fullmatch(value) is not None
