"""The certificate authority and what it signs."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from sandbox import certificates

NAMES = ["sandbox.test", "*.sandbox.test"]


class Files:
    def __init__(self, directory: Path) -> None:
        self.ca, self.certificate, self.key = (directory / name for name in ("ca.pem", "certificate.pem", "key.pem"))

    def ensure(self, names: list[str]) -> bool:
        return certificates.ensure(self.ca, self.certificate, self.key, names, "a sandbox")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    assert files.ensure(NAMES)
    return files


def test_openssl_takes_it_for_the_domain_and_its_subdomains(files: Files) -> None:
    ssl.create_default_context(cafile=str(files.ca))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    for name in ("sandbox.test", "api.sandbox.test"):
        assert handshake(server, files.ca, name), name
    for name in ("a.b.sandbox.test", "other.test"):
        assert not handshake(server, files.ca, name), name


def test_a_good_certificate_stays(files: Files) -> None:
    before = files.certificate.read_bytes()
    assert not files.ensure(NAMES)
    assert files.certificate.read_bytes() == before


def test_another_domain_gets_another_certificate_of_the_same_authority(files: Files) -> None:
    authority = files.ca.read_bytes()
    assert files.ensure(["other.test", "10.80.0.3"])
    assert files.ca.read_bytes() == authority
    names = x509.load_pem_x509_certificate(files.certificate.read_bytes()).extensions
    found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(item.value) for item in found] == ["other.test", "10.80.0.3"]


def test_it_is_renewed_before_it_ends(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "RENEW_DAYS", certificates.CERTIFICATE_DAYS + 1)
    assert files.ensure(NAMES)


@pytest.mark.parametrize("lost", ["key.pem", "certificate.pem", "ca-key.pem", "ca.pem"])
def test_a_lost_file_is_made_up_for(files: Files, lost: str) -> None:
    (files.ca.parent / lost).unlink()
    assert files.ensure(NAMES)
    assert not files.ensure(NAMES)


def test_a_key_of_another_certificate_is_noticed(files: Files, tmp_path: Path) -> None:
    other = Files(tmp_path / "other")
    other.ensure(NAMES)
    files.key.write_bytes(other.key.read_bytes())
    assert files.ensure(NAMES)


def test_keys_are_for_the_owner_only(files: Files) -> None:
    assert {path.stat().st_mode & 0o777 for path in (files.key, files.ca.with_name("ca-key.pem"))} == {0o600}


def handshake(server: ssl.SSLContext, ca: Path, name: str) -> bool:
    client = ssl.create_default_context(cafile=str(ca))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_server, server_hostname=name)
    done = set()
    for _ in range(10):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return client_side in done
