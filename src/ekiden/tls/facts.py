"""What a finished handshake tells of the other side, for Received:, log and policy."""

from __future__ import annotations

import hashlib
import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from msgspec import Struct

from ekiden.message.tls_facts import TlsFacts

_NAME_CHARACTERS = 256  # of a name that a certificate gives; the peer chose it


class Certificate(Struct, frozen=True):
    """What names a certificate. Fingerprints are in upper case with colons, as Postfix's tables have them."""

    name: str  # common name of the subject; "" without one
    issuer: str
    fingerprint: str
    key_fingerprint: str  # "" when the key is of a kind that cannot be read


def certificate_of(der: bytes, digest: str) -> Certificate:
    """``digest`` is a name of OpenSSL's (sha256). What the certificate's bytes are, a hostile peer chose: never raises
    for them."""
    fingerprint = fingerprint_of(der, digest)
    try:
        parsed = x509.load_der_x509_certificate(der)
        key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        key_fingerprint = fingerprint_of(key, digest)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        return Certificate("", "", fingerprint, "")
    return Certificate(_common_name(parsed, "subject"), _common_name(parsed, "issuer"), fingerprint, key_fingerprint)


def fingerprint_of(data: bytes, digest: str) -> str:
    """Raises ValueError when there is no such digest."""
    return ":".join(f"{byte:02X}" for byte in hashlib.new(digest, data, usedforsecurity=False).digest())


def facts_of(
    connection: ssl.SSLObject, *, digest: str, trusted: bool = False, verified: bool = False, server_name: str = ""
) -> TlsFacts:
    """The facts of a connection whose handshake is done. ``trusted`` and ``verified`` only whoever verified knows."""
    cipher, _, bits = connection.cipher() or ("", "", 0)
    der = connection.getpeercert(binary_form=True)
    certificate = certificate_of(der, digest) if der else Certificate("", "", "", "")
    return TlsFacts(
        protocol=connection.version() or "",
        cipher=cipher,
        bits=bits,
        peer_name=certificate.name,
        issuer=certificate.issuer,
        fingerprint=certificate.fingerprint,
        key_fingerprint=certificate.key_fingerprint,
        trusted=trusted and bool(der),
        verified=verified and bool(der),
        resumed=bool(connection.session_reused),
        server_name=server_name,
    )


def _common_name(certificate: x509.Certificate, of: str) -> str:
    try:
        name = certificate.subject if of == "subject" else certificate.issuer
        found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return ""
    value = found[0].value if found else ""
    # The name goes into header fields and log lines: one line, printable, of a bounded length.
    shown = value if isinstance(value, str) else ""
    return "".join(char if char.isprintable() else "?" for char in shown[:_NAME_CHARACTERS])
