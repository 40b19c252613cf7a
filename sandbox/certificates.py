"""The sandbox's certificate authority, and certificates that it signs."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.errors import SandboxError
from sandbox.state import write

AUTHORITY_DAYS = 3650
# Browsers refuse more than 398, and Mozilla's guidelines for servers more than 366.
CERTIFICATE_DAYS = 365
RENEW_DAYS = 30


def ensure(authority: Path, certificate: Path, key: Path, names: Sequence[str], title: str) -> bool:
    """Make the certificate of `names` unless a good one is there.

    :param authority: file of the authority's certificate; its key lies beside it as ca-key.pem.
    :param names: host names and addresses; the first is the subject.
    :param title: what the authority calls itself.
    :returns: whether a certificate was made.
    """
    ca, ca_key = _authority(authority, authority.with_name("ca-key.pem"), title)
    if _good(certificate, key, names, ca):
        return False
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
    leaf = (
        _builder(names[0], ca.subject, CERTIFICATE_DAYS)
        .public_key(leaf_key.public_key())
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write(key, _private(leaf_key), 0o600)
    write(certificate, leaf.public_bytes(serialization.Encoding.PEM))
    return True


def _authority(path: Path, key_path: Path, title: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if path.exists() and key_path.exists():
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        # The certificate is written last: a key without its certificate is from an interrupted run.
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SandboxError(f"{key_path} holds another kind of key than the sandbox makes. Remove it.")
        if certificate.public_key() == key.public_key() and _days_left(certificate) > CERTIFICATE_DAYS:
            return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    certificate = (
        _builder(title, subject, AUTHORITY_DAYS)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write(key_path, _private(key), 0o600)
    write(path, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _builder(subject: str, issuer: x509.Name, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        # A machine whose clock is a little behind accepts it as well.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _good(certificate: Path, key: Path, names: Sequence[str], ca: x509.Certificate) -> bool:
    if not certificate.exists() or not key.exists():
        return False
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    try:
        leaf.verify_directly_issued_by(ca)
    except Exception:  # the library raises one of three, and all mean: make a new one
        return False
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        set(found) == {_alternative(name) for name in names}
        and leaf.public_key() == private.public_key()
        and _days_left(leaf) > RENEW_DAYS
    )


def _days_left(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
