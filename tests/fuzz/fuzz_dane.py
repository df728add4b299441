"""Any bytes as certificates and any TLSA records are a match or a mismatch: never an exception, never two outcomes."""

from __future__ import annotations

import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ekiden.dns.resolver import Tlsa
from ekiden.tls.dane import Match, key_of, usable, verify

_NOW = 1_800_000_000.0


def _certificate(name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None, *, ca: bool) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.fromtimestamp(_NOW - 86400, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0] if issuer else subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()).public_bytes(Encoding.DER)


_ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
_ROOT_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
_LEAF = _certificate("mx.test", (_ROOT_NAME, _ROOT_KEY), ca=False)
_ROOT = _certificate("root", None, ca=True)
SEEDS = [_LEAF, _ROOT, _LEAF + _ROOT, key_of(_LEAF) or b""]


def one_input(data: bytes) -> None:
    key = key_of(data)
    assert key is None or key in data
    digest = hashlib.sha256(data).digest()
    records = (
        Tlsa(3, 0, 1, digest),
        Tlsa(3, 1, 1, hashlib.sha256(key or b"").digest()),
        Tlsa(2, 0, 0, data),
        Tlsa(2, 1, 0, key or data),
        Tlsa(data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2] if len(data) > 2 else 0, data[3:]),
    )
    for record in usable(records):
        assert record.usage in (2, 3)
    # The certificate is its own: by usage 3 that is a match, whatever it holds.
    assert isinstance(verify([data], records[:1], ["mx.test"], _NOW), Match)
    for chain in ([data], [data, _ROOT], [_LEAF, data], [_LEAF, _ROOT, data]):
        outcome = verify(chain, records[2:], ["mx.test"], _NOW)
        assert outcome == verify(chain, records[2:], ["mx.test"], _NOW)
        if isinstance(outcome, Match):
            assert outcome.record in records
