"""DANE: whether a server's certificates are those that TLSA records speak of (RFC 6698, RFC 7671, RFC 7672 §3).

In:   the chain as the server sent it (DER, its own certificate first), TLSA records, the names it may have, the time.
Out:  a Match (which record, at which depth), or a Mismatch with the reason.
Never: raises for what a server or DNS sent, asks an authority that the records do not name, reads a clock.

Usages 0 and 1 lean on public authorities, which SMTP clients do not share (RFC 7672 §3.1.3): such records are unusable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import Struct

from ekiden.dns.resolver import Tlsa
from ekiden.tls.certificate_names import has_name
from ekiden.tls.policy import Problem

TRUST_ANCHOR, END_ENTITY = 2, 3  # usages (RFC 7218 §2.1: DANE-TA, DANE-EE)
CERTIFICATE, KEY = 0, 1  # selectors
FULL, SHA256, SHA512 = 0, 1, 2  # matching types
DIGESTS = {"sha256": SHA256, "sha512": SHA512}
_STRONGEST_FIRST = (SHA512, SHA256)

_HASHES: dict[int, Callable[[bytes], bytes]] = {
    SHA256: lambda data: hashlib.sha256(data).digest(),
    SHA512: lambda data: hashlib.sha512(data).digest(),
}
_DIGEST_OCTETS = {SHA256: 32, SHA512: 64}

_UNREADABLE = (ValueError, x509.InvalidVersion, UnsupportedAlgorithm)

CHAIN_LIMIT = 20  # certificates of a server that are looked at
RECORDS_LIMIT = 100  # TLSA records of one server


class Match(Struct, frozen=True):
    """``depth`` 0 is the server's own certificate."""

    record: Tlsa
    depth: int


class Mismatch(Struct, frozen=True):
    problem: Problem
    text: str


def usable(records: Iterable[Tlsa], digests: Sequence[int] = _STRONGEST_FIRST) -> tuple[Tlsa, ...]:
    """The records that can authenticate an SMTP server (RFC 7672 §3.1, §2.2); ``digests`` are those in use."""
    return tuple(dict.fromkeys(record for record in records if _is_usable(record, digests)))[:RECORDS_LIMIT]


def _is_usable(record: Tlsa, digests: Sequence[int]) -> bool:
    if record.usage not in (TRUST_ANCHOR, END_ENTITY) or record.selector not in (CERTIFICATE, KEY):
        return False
    if record.matching != FULL:
        return record.matching in digests and len(record.data) == _DIGEST_OCTETS[record.matching]
    try:
        if record.selector == CERTIFICATE:
            x509.load_der_x509_certificate(record.data).public_key()
        else:
            load_der_public_key(record.data)
    except _UNREADABLE:
        return False
    return True


def strongest(records: Sequence[Tlsa], digests: Sequence[int] = _STRONGEST_FIRST) -> tuple[Tlsa, ...]:
    """Of each usage and selector only the strongest digest, and what is no digest (RFC 7671 §9).

    ``digests`` come strongest first.
    """
    best: dict[tuple[int, int], int] = {}
    for record in records:
        if record.matching != FULL:
            kind = record.usage, record.selector
            best[kind] = min(best.get(kind, len(digests)), digests.index(record.matching))
    return tuple(
        record
        for record in records
        if record.matching == FULL or digests.index(record.matching) == best[record.usage, record.selector]
    )


def verify(
    chain: Sequence[bytes],
    records: Sequence[Tlsa],
    names: Sequence[str],
    now: float,
    *,
    digests: Sequence[int] = _STRONGEST_FIRST,
) -> Match | Mismatch:
    """Hold a server's certificates against its TLSA records.

    ``names``: what the server may be called: the name that the records were found at, the MX host, the next hop
    (RFC 7672 §3.2.2). They count for usage 2 only; so does the time (RFC 7672 §3.1.1).
    """
    if not chain:
        return Mismatch(Problem.FAILED, "the server showed no certificate")
    chosen = strongest(usable(records, digests), digests)
    for record in chosen:
        if record.usage == END_ENTITY and _matches(record, chain[0]):
            return Match(record, 0)
    anchors = [record for record in chosen if record.usage == TRUST_ANCHOR]
    if not anchors:
        return Mismatch(Problem.FAILED, "the certificate matches no TLSA record")
    return _verify_by_anchor(chain, anchors, names, datetime.fromtimestamp(now, UTC))


def _verify_by_anchor(
    chain: Sequence[bytes], anchors: Sequence[Tlsa], names: Sequence[str], now: datetime
) -> Match | Mismatch:
    certificates = _load(chain[:CHAIN_LIMIT])
    if not certificates or certificates[0][1] != chain[0]:
        return Mismatch(Problem.FAILED, "the certificate cannot be read")
    leaf = certificates[0][0]
    found = _path_to_anchor(certificates, anchors)
    if found is None:
        return Mismatch(Problem.FAILED, "no certificate of the chain matches a TLSA record")
    match, path = found
    if not has_name(leaf, names):
        return Mismatch(Problem.WRONG_NAME, f"the certificate is not for {' or '.join(names)}")
    if not _serves_tls(leaf):
        return Mismatch(Problem.FAILED, "the certificate is not meant for servers")
    if any(not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc for certificate in path):
        return Mismatch(Problem.EXPIRED, "a certificate of the chain has expired or is not valid yet")
    return match


def _path_to_anchor(
    certificates: Sequence[tuple[x509.Certificate, bytes]], anchors: Sequence[Tlsa]
) -> tuple[Match, list[x509.Certificate]] | None:
    """From the server's certificate up, issuer by issuer, to the first that a record names.

    The records may hold the anchor itself, when the server need not send it (RFC 7671 §5.2.1, §5.2.3).
    """
    own = [
        (x509.load_der_x509_certificate(record.data), record.data)
        for record in anchors
        if record.selector == CERTIFICATE and record.matching == FULL
    ]
    pool = [*certificates[1:], *own]
    paths = [[certificates[0][0]]]
    for path in paths:  # it grows: every authority that can be reached is reached once, the nearest first
        current = path[-1]
        for record in anchors:
            if record.selector == KEY and record.matching == FULL and _signed_by_key(current, record.data):
                return Match(record, len(path) - 1), path
        for issuer in [each for each in pool if _issued(each[0], current, len(path) - 1)]:
            pool.remove(issuer)
            paths.append([*path, issuer[0]])
            for record in anchors:
                if _matches(record, issuer[1]):
                    return Match(record, len(path)), paths[-1]
    return None


def _load(chain: Sequence[bytes]) -> list[tuple[x509.Certificate, bytes]]:
    loaded: list[tuple[x509.Certificate, bytes]] = []
    for octets in chain:
        try:
            loaded.append((x509.load_der_x509_certificate(octets), octets))
        except _UNREADABLE:
            continue
    return loaded


def _issued(issuer: x509.Certificate, subject: x509.Certificate, below: int) -> bool:
    """``issuer`` is an authority, may have ``below`` others under it, and signed ``subject`` (RFC 5280 §6.1.4)."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca or (constraints.path_length is not None and constraints.path_length < below):
            return False
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as absent:
        if absent.oid == x509.BasicConstraints.oid:
            return False
    except ValueError:
        return False
    else:
        if not usage.key_cert_sign:
            return False
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _signed_by_key(certificate: x509.Certificate, spki: bytes) -> bool:
    """The bare key of a record signed the certificate."""
    try:
        key = load_der_public_key(spki)
        signature, data, algorithm = (
            certificate.signature,
            certificate.tbs_certificate_bytes,
            certificate.signature_hash_algorithm,
        )
        if isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, data, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            scheme = certificate.signature_algorithm_parameters
            if not isinstance(scheme, padding.PKCS1v15 | padding.PSS):
                return False
            key.verify(signature, data, scheme, algorithm)
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, data)
        else:
            return False
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _serves_tls(certificate: x509.Certificate) -> bool:
    """RFC 5280 §4.2.1.12: a list of purposes, where there is one, has that of a TLS server."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except ValueError:
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in purposes or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes


def _matches(record: Tlsa, certificate: bytes) -> bool:
    selected = certificate if record.selector == CERTIFICATE else key_of(certificate)
    if selected is None:
        return False
    return (selected if record.matching == FULL else _HASHES[record.matching](selected)) == record.data


def key_of(certificate: bytes) -> bytes | None:
    """The SubjectPublicKeyInfo as the certificate has it, octet for octet; None where there is none (RFC 5280 §4.1)."""
    try:
        at, end = _inside(certificate, 0, len(certificate))  # Certificate
        at, end = _inside(certificate, at, end)  # TBSCertificate
        if certificate[at] == 0xA0:  # version
            at = _after(certificate, at, end)
        for _ in range(5):  # serial number, algorithm, issuer, validity, subject
            at = _after(certificate, at, end)
        return certificate[at : _after(certificate, at, end)]
    except (IndexError, ValueError):
        return None


def _inside(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the content of the SEQUENCE at ``at`` begins and ends."""
    if data[at] != 0x30:
        raise ValueError("no SEQUENCE")
    start, length = _length(data, at + 1)
    if start + length > end:
        raise ValueError("ends early")
    return start, start + length


def _after(data: bytes, at: int, end: int) -> int:
    start, length = _length(data, at + 1)
    if start + length > end:
        raise ValueError("ends early")
    return start + length


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where the content begins, and its length (X.690 §8.1.3)."""
    first = data[at]
    if first < 0x80:
        return at + 1, first
    octets = first & 0x7F
    if not 1 <= octets <= 4:
        raise ValueError("no definite length")
    return at + 1 + octets, int.from_bytes(data[at + 1 : at + 1 + octets], "big")
