# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What of a project looks like a credential. Artifacts hold none: stores, hosts and caches of CI keep them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

#: Environment files. The platform sets a service's environment, so they are left out; samples hold no values.
_DOTENV = re.compile(r"(?:^|/)\.env(?:\.(?!(?:example|sample|template|dist)$)[^/]*)?$")
_NAMES = re.compile(
    r"(?:^|/)(?:"
    r"id_(?:rsa|dsa|ecdsa|ed25519)|[^/]+\.(?:p12|pfx|jks|keystore|ppk|kdbx|tfstate|tfstate\.backup|tfvars)"
    r"|[._]netrc|\.pgpass|\.my\.cnf|\.git-credentials|\.dockercfg|\.htpasswd|\.vault_pass"
    r"|\.aws/(?:credentials|config)|\.docker/config\.json|\.kube/config|kubeconfig|terraform\.tfstate\.d/.+"
    r")$"
)
#: A private key with its content. Code that reads keys has such a first line too, and nothing behind it.
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----(?:\s|\\r|\\n)+(?:[A-Za-z0-9+/=]|\s|\\r|\\n){60,}")
#: Larger files are output of builds, or media.
_LOOK_INTO = 1 << 20


def keep_out(
    files: dict[str, Path | bytes], include: Sequence[str], exclude: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Remove environment files and what is excluded from an artifact's files, and look for credentials in the rest.

    Packages of others are not looked into: their tests have keys that open nothing.

    :param include: paths in the artifact that are all right, files or folders.
    :param exclude: paths in the artifact to leave out, files or folders.
    :return: the environment files that were left out, and the paths of what looks like a credential.
    """
    left_out, found = [], []
    for place in sorted(files):
        if _below(place, exclude):
            del files[place]
        elif "node_modules" in place.split("/") or _below(place, include):
            continue
        elif _DOTENV.search(place):
            del files[place]
            left_out.append(place)
        elif _NAMES.search(place) or _holds_a_key(files[place]):
            found.append(place)
    return left_out, found


def _holds_a_key(source: Path | bytes) -> bool:
    if isinstance(source, Path):
        # Dangling links are somebody else's to report.
        if not source.is_file() or source.stat().st_size > _LOOK_INTO:
            return False
        source = source.read_bytes()
    return _PRIVATE_KEY.search(source) is not None


def _below(place: str, paths: Sequence[str]) -> bool:
    return any(place == path or place.startswith(f"{path}/") for path in paths)
