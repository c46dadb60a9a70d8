"""The workspace's TLS: an authority of its own, trusted by no one who is not told to, and a leaf for 127.0.0.1."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .. import files

DAYS = 825  # the longest that Apple's verifiers take for a leaf of a private authority
RENEW_DAYS = 30  # before its end a leaf is made anew


def ensure(folder: Path) -> tuple[Path, Path]:
    """(authority, leaf with its key): PEM files in `folder`, made on first use and renewed before they expire.

    The authority's key is dropped once it has signed: nobody can make another leaf that those who trust it would take.
    """
    authority, leaf = folder / "authority.pem", folder / "leaf.pem"
    if not (authority.exists() and leaf.exists() and _fresh(authority)):
        _make(authority, leaf)
    return authority, leaf


def _fresh(path: Path) -> bool:
    end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return end - datetime.datetime.now(datetime.timezone.utc) > datetime.timedelta(days=RENEW_DAYS)


def _make(authority: Path, leaf: Path) -> None:
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)  # clocks differ
    end = start + datetime.timedelta(days=DAYS)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Parity rehearsal authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Parity rehearsal workspace")])

    def builder(subject: x509.Name, of: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(of)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(of), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    def usage(*, signs_certificates: bool) -> x509.KeyUsage:
        others = {"content_commitment", "key_encipherment", "data_encipherment", "key_agreement"}
        return x509.KeyUsage(
            digital_signature=not signs_certificates,
            key_cert_sign=signs_certificates,
            crl_sign=signs_certificates,
            encipher_only=False,
            decipher_only=False,
            **dict.fromkeys(others, False),
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        builder(name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with files.written_whole(leaf, private=True) as file:
        file.write(certificate.public_bytes(pem) + private)
    with files.written_whole(authority) as file:
        file.write(ca.public_bytes(pem))
