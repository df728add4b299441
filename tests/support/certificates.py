"""Certificates of tests: an authority of their own, and what it issues, as PEM files."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Pair(Struct, frozen=True):
    """A certificate with its key. ``chain`` are the certificates above it, without the root."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate, and the chain behind it."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, *self.chain))

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """``NAME.pem`` and ``NAME.key``, each replaced in one step."""
        paths = directory / f"{name}.pem", directory / f"{name}.key"
        for path, data in zip(reversed(paths), (self.key_pem, self.pem), strict=True):
            fresh = path.with_suffix(f"{path.suffix}.new")
            fresh.write_bytes(data)
            fresh.chmod(0o600)
            os.replace(fresh, path)
        return paths


class Authority:
    """A root, or with ``issuer`` an authority below another. ``ca`` False: it only plays one."""

    def __init__(
        self,
        name: str = "Test Root",
        *,
        issuer: Authority | None = None,
        days: tuple[float, float] = (-1, 365),
        path_length: int | None = None,
        ca: bool = True,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = issuer
        signer = issuer or self
        subject = _name(name) if issuer is None else issuer.certificate.subject
        builder = _builder(name, self.key, days).issuer_name(subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
        self.certificate: x509.Certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def issue(self, *names: str, key: str = "ec", days: tuple[float, float] = (-1, 30), client: bool = False) -> Pair:
        """A certificate for ``names``, the first of which is the common name; ``days``: its life, from now."""
        private: Key = (
            rsa.generate_private_key(65537, 2048) if key == "rsa" else ec.generate_private_key(ec.SECP256R1())
        )
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        certificate = (
            _builder(names[0], private, days)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Pair(certificate, private, () if self.issuer is None else (self.certificate,))


def self_signed(*names: str, days: tuple[float, float] = (-1, 30), common_name: str = "") -> Pair:
    """``common_name``: the first name unless given; it may hold what no host name may."""
    common_name = common_name or names[0]
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(common_name, key, days)
        .issuer_name(_name(common_name))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(common_name: str, key: Key, days: tuple[float, float] = (-1, 365)) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )
