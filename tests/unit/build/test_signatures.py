# Copyright (c) Five Pointers
# MIT License (see LICENSE or https://opensource.org/license/mit)
# SPDX-License-Identifier: MIT
"""Signatures of manifests, with keys as openssl makes them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from ansible_collections.fivepointers.platform.plugins.module_utils.build.signatures import (
    SignatureError,
    Signer,
    signed_by,
)

MANIFEST: dict[str, Any] = {"id": "a" * 16, "service": "api", "archive_sha256": "b" * 64, "files": {"x": "1"}}


def openssl(*arguments: str, text: str = "") -> str:
    done = subprocess.run(["openssl", *arguments], input=text, capture_output=True, text=True, check=True)
    return done.stdout


def private_key(*algorithm: str) -> str:
    return openssl("genpkey", "-algorithm", *(algorithm or ("ed25519",)))


def public_key(pem: str) -> str:
    """The line that docs/ci.md tells people to copy."""
    return openssl("pkey", "-pubout", text=pem).splitlines()[1]


def test_who_has_the_public_key_knows_who_signed_what() -> None:
    ours, theirs = private_key(), private_key()
    signed = Signer(ours).sign(MANIFEST)
    assert Signer(ours).public_key == public_key(ours)
    assert signed_by(signed, [public_key(ours)]) and signed_by(signed, [public_key(theirs), public_key(ours)])
    assert not signed_by(signed, [public_key(theirs)]) and not signed_by(signed, [])
    # As it comes back from a file, whatever the order of its keys.
    assert signed_by(json.loads(json.dumps(dict(reversed(signed.items())), indent=1)), [public_key(ours)])


@pytest.mark.parametrize(
    "change",
    [{"id": "c" * 16}, {"archive_sha256": "c" * 64}, {"service": "web"}, {"files": {}}, {"more": 1},
     {"signature": ""}, {"signature": None}, {"signature": "x"}, {"signature": "AAAA"},
     {"signature": "schlüssel"}],
)  # fmt: skip
def test_whatever_is_changed_shows(change: dict[str, Any]) -> None:
    pem = private_key()
    assert not signed_by({**Signer(pem).sign(MANIFEST), **change}, [public_key(pem)])
    assert not signed_by(MANIFEST, [public_key(pem)])


@pytest.mark.parametrize(
    "pem", ["", "x", private_key().replace("PRIVATE", "PUBLIC"), private_key("x25519"),
            openssl("pkey", "-aes256", "-passout", "pass:word", text=private_key())],
    ids=["empty", "no PEM", "no private key", "another algorithm", "passphrase"],
)  # fmt: skip
def test_a_wrong_private_key_is_told_and_not_shown(pem: str) -> None:
    with pytest.raises(SignatureError, match="it is not") as error:
        Signer(pem)
    assert "BEGIN" not in str(error.value)


def test_a_wrong_public_key_is_an_error_and_never_a_match() -> None:
    with pytest.raises(SignatureError, match="not an Ed25519 public key"):
        signed_by(Signer(private_key()).sign(MANIFEST), ["AAAA"])
