# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""What of a project looks like a credential. Artifacts hold none: stores, hosts and caches of CI keep them."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.fivepointers.platform.plugins.module_utils.build.commands import BuildError

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
#: Text from here on is the output of generators; a bundle of a large application is a tenth of it.
_LOOK_INTO = 16 << 20
#: Of what detect-secrets knows, what has no form of its own (it goes by entropy, or by the words around), is slow to
#: find, or may be public: tokens for browsers, addresses. Private keys are looked for here.
_UNSURE = frozenset(
    {
        "Artifactory Credentials", "Base64 High Entropy String", "Basic Auth Credentials", "Cloudant Credentials",
        "Hex High Entropy String", "IBM COS HMAC Credentials", "IBM Cloud IAM Key", "JSON Web Token", "Private Key",
        "Public IP (ipv4)", "Secret Keyword", "SoftLayer Credentials",
    }
)  # fmt: skip
#: In longer words, such as a program of WebAssembly in base64, anything comes up.
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/_")
#: What the documentation of AWS calls its keys.
_EXAMPLE = "EXAMPLE"
#: A secret this short would be found anywhere.
_SHORTEST = 8


def keep_out(
    files: dict[str, Path | bytes], include: Sequence[str], exclude: Sequence[str], secrets: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Remove environment files and what is excluded from an artifact's files, and look for credentials in the rest.

    Packages of others are known by the names of their files only: what they contain is public.

    :param include: paths in the artifact that are all right, files or folders.
    :param exclude: paths in the artifact to leave out, files or folders.
    :param secrets: values that the build was given, and that no file may hold.
    :return: the environment files that were left out, and what looks like a credential: path → why.
    """
    left_out: list[str] = []
    found: dict[str, str] = {}
    sought = [secret.encode() for secret in secrets if len(secret) >= _SHORTEST]
    for place in sorted(files):
        package = "node_modules" in place.split("/")
        if below(place, exclude):
            del files[place]
            continue
        why = ""
        if sought and any(secret in _content(files[place]) for secret in sought):
            why = "a secret of build.secrets"
        elif below(place, include):
            continue
        elif _NAMES.search(place):
            why = "its name"
        elif package:
            continue
        elif _DOTENV.search(place):
            del files[place]
            left_out.append(place)
        else:
            why = _looks_like(_content(files[place], _LOOK_INTO))
        if why:
            found[place] = why
    return left_out, found


def _content(source: Path | bytes, limit: int | None = None) -> bytes:
    """Return a file's content; nothing if it is larger than a limit, or a broken link, which others report."""
    if isinstance(source, bytes):
        return source
    if not source.is_file() or (limit is not None and source.stat().st_size > limit):
        return b""
    return source.read_bytes()


def _looks_like(content: bytes) -> str:
    """Return what kind of credential a text holds; empty if it holds none."""
    if b"\0" in content[:1024]:
        return ""
    if _PRIVATE_KEY.search(content):
        return "Private Key"
    text = content.decode("latin-1")
    for detector in _detectors():
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                around = text[max(0, match.start() - 1) : match.start()], text[match.end() : match.end() + 1]
                if not match.group().endswith(_EXAMPLE) and not _LETTERS.issuperset(around):
                    return str(detector.secret_type)
    return ""


@functools.cache
def _detectors() -> list[Any]:
    try:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    except ImportError as error:
        raise BuildError(
            "The Python package detect-secrets, which finds credentials in artifacts, is missing on the controller: "
            "pip install detect-secrets"
        ) from error
    known: dict[str, Any] = get_mapping_from_secret_type_to_class()
    return [make() for kind, make in known.items() if kind not in _UNSURE]


def below(place: str, paths: Sequence[str]) -> bool:
    """Return whether a path is one of these, or in a folder that is."""
    return any(place == path or place.startswith(f"{path}/") for path in paths)
