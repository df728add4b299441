"""What is kept for SCRAM (RFC 5802, RFC 5803, RFC 7677), against the examples of the RFCs."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from ekiden.sasl.scram_secret import derive, parse_secret

_KEY = "A" * 43 + "="


def test_the_example_of_rfc_7677_section_3_can_be_checked_with_it() -> None:
    secret = derive("sha256", "pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    first_bare = "n=user,r=rOprNGfwEbeRWgbNEkqO"
    first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = ",".join((first_bare, first, final)).encode()
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(secret.pair.stored_key, message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == secret.pair.stored_key
    server = base64.b64encode(hmac.digest(secret.pair.server_key, message, "sha256"))
    assert server == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_text_form_survives_the_way_to_a_file() -> None:
    for name in ("sha1", "sha256"):
        secret = derive(name, "pencil", b"salt", 4096)
        assert parse_secret(secret.text) == secret
        assert secret.fits("pencil")
        assert not secret.fits("Pencil")
        assert "***" in repr(secret)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA", f"SCRAM-SHA-256$1:c2FsdA==${_KEY}:{_KEY}",
        f"SCRAM-MD5$4096:c2FsdA==${_KEY}:{_KEY}", f"SCRAM-SHA-256$4096:====${_KEY}:{_KEY}",
        f"SCRAM-SHA-1$4096:c2FsdA==${_KEY}:{_KEY}",
    ],
)  # fmt: skip
def test_what_is_no_verifier_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SCRAM"):
        parse_secret(text)
