"""One-time codes (RFC 6238, RFC 4226): the RFC's own vectors, a library of others, drift and replay."""

from __future__ import annotations

import base64

import pyotp
import pytest

from ekiden.sasl.totp import accepted_step, code_at, enrolment_url, new_secret

_SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
        (2000000000, "69279037"), (20000000000, "65353130"),
    ],
)  # fmt: skip
def test_the_vectors_of_rfc_6238_appendix_b(seconds: int, code: str) -> None:
    assert code_at(_SECRET, seconds // 30) == code[-6:]


def test_a_library_of_others_agrees() -> None:
    for number in range(50):
        secret = new_secret()
        assert code_at(secret, 1000 + number) == pyotp.TOTP(secret).at((1000 + number) * 30)
    read = pyotp.parse_uri(enrolment_url(secret, "anna@example.com", "mx.example"))
    assert (read.secret, read.name, read.issuer) == (secret, "anna@example.com", "mx.example")


def test_a_code_counts_one_step_around_and_once() -> None:
    now = 1_000_000 * 30 + 5
    for step in (999_999, 1_000_000, 1_000_001):
        assert accepted_step(_SECRET, code_at(_SECRET, step), now) == step
        assert accepted_step(_SECRET, code_at(_SECRET, step), now, last_step=step) is None
    for step in (999_998, 1_000_002):
        assert accepted_step(_SECRET, code_at(_SECRET, step), now) is None
    for code in ("", "x", "94287082", "\0", "9" * 1000, "\udcff"):
        assert accepted_step(_SECRET, code, now) is None
    with pytest.raises(ValueError, match="base32"):
        code_at("1!", 1)
