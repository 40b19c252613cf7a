"""A package that the pinned key did not sign is refused."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.fivepointers.platform.plugins.modules import openpgp_signature

SIGNED = Path(__file__).parent / "signed"
BEGIN, END = (b"-----%s PGP PUBLIC KEY BLOCK-----" % word for word in (b"BEGIN", b"END"))
FINGERPRINT = (SIGNED / "fingerprint").read_text().strip()

pytestmark = pytest.mark.skipif(not shutil.which("gpgv"), reason="gpgv is not installed")


def check(folder: Path, capsys: pytest.CaptureFixture[str], fingerprint: str = FINGERPRINT) -> dict[str, Any]:
    arguments = {
        "path": str(folder / "package"),
        "signature": str(folder / "package.sig"),
        "key": str(folder / "key.asc"),
        "fingerprint": fingerprint,
    }
    with patch_module_args(arguments), pytest.raises(SystemExit):
        openpgp_signature.main()
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SIGNED, tmp_path / "signed"))


def test_a_signed_package_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spaced = " ".join(FINGERPRINT[i : i + 4].lower() for i in range(0, 40, 4))
    assert check(folder, capsys, spaced)["fingerprint"] == FINGERPRINT


def test_a_binary_key_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "key.asc").write_bytes(openpgp_signature.dearmor((folder / "key.asc").read_bytes()))
    assert check(folder, capsys)["fingerprint"] == FINGERPRINT


def test_a_changed_package_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "package").write_text("another package\n")
    said = check(folder, capsys)
    assert said["failed"]
    assert "is not signed by the key" in said["msg"]
    assert "BAD signature" in said["msg"]


def test_another_key_is_refused_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = check(folder, capsys, "0" * 40)
    assert f"the key {FINGERPRINT} signed it" in said["msg"]


def test_a_missing_signature_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "package.sig").unlink()
    assert "is not signed by the key" in check(folder, capsys)["msg"]


@pytest.mark.parametrize(
    "key", [b"-----BEGIN PGP MESSAGE-----\n", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n?\n-----END PGP"]
)
def test_a_damaged_key_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], key: bytes) -> None:
    (folder / "key.asc").write_bytes(key)
    assert "cannot be used" in check(folder, capsys)["msg"]


def test_armor_may_have_headers_and_other_line_ends() -> None:
    armored = (
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\r\nVersion: x\r\n\r\n%s\r\n=abcd\r\n-----END PGP PUBLIC KEY BLOCK-----"
    )
    assert openpgp_signature.dearmor(armored % base64.b64encode(b"the key")) == b"the key"
