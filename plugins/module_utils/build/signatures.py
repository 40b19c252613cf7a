# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Sign manifests of artifacts, and verify them: Ed25519, over all of a manifest but its signature.

A private key is PEM, as ``openssl genpkey -algorithm ed25519`` writes it. A public key is the one line between the
first and the last of what ``openssl pkey -pubout`` writes.
"""

from __future__ import annotations

import base64
import json
import typing as t
from collections.abc import Iterable, Mapping

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

SIGNATURE = "signature"


class SignatureError(Exception):
    """A key that cannot be used. The text never holds the key."""


class Signer:
    """Signs manifests with a private key."""

    def __init__(self, pem: str) -> None:
        """Load a private key. Raises SignatureError."""
        _require_cryptography()
        try:
            key = serialization.load_pem_private_key(pem.strip().encode() + b"\n", None)
        except (ValueError, TypeError) as error:
            raise SignatureError("it is not a private key in PEM without a passphrase") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SignatureError("it is not an Ed25519 key")
        self._key = key
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.public_key = base64.b64encode(public).decode()

    def sign(self, manifest: Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Return the manifest with its signature."""
        signature = base64.b64encode(self._key.sign(_signed(manifest))).decode()
        return {**manifest, SIGNATURE: signature}


def signed_by(manifest: Mapping[str, t.Any], keys: Iterable[str]) -> bool:
    """Return whether one of these public keys' owners signed the manifest. Raises SignatureError for a wrong key."""
    publics = [_public(key) for key in keys]
    try:
        content = _signed(manifest)
        signature = base64.b64decode(str(manifest.get(SIGNATURE, "")), validate=True)
    except (ValueError, RecursionError):
        return False
    for public in publics:
        try:
            public.verify(signature, content)
        except InvalidSignature:
            continue
        return True
    return False


def _signed(manifest: Mapping[str, t.Any]) -> bytes:
    """What a signature is over: the same bytes for the same content, whatever the layout of the file."""
    content = {key: value for key, value in manifest.items() if key != SIGNATURE}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _public(text: str) -> Ed25519PublicKey:
    _require_cryptography()
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True)[-32:])
    except ValueError as error:
        raise SignatureError("it is not an Ed25519 public key in base64") from error


def _require_cryptography() -> None:
    if not HAS_CRYPTOGRAPHY:
        raise SignatureError("the Python package cryptography is missing on the controller: pip install cryptography")
