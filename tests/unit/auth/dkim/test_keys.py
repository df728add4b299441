"""Keys that sign: which files are taken, what is said of the others, and the record of a key."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ekiden.auth.dkim.keys import (
    ED25519_SHA256,
    RSA_SHA256,
    KeyTrouble,
    new_private_key,
    private_key,
    signing_key,
    zone_lines,
)
from support.requirements import require_program

RSA = new_private_key(RSA_SHA256)
ED25519 = new_private_key(ED25519_SHA256)
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()


def test_a_key_of_either_form_and_kind_is_read() -> None:
    found = signing_key("Example.COM.", "S1", RSA)
    assert (found.domain, found.selector, found.algorithm, found.bits) == ("example.com", "s1", RSA_SHA256, 2048)
    assert found.advice == ""
    private = private_key(RSA)
    assert isinstance(private, rsa.RSAPrivateKey)
    old = private.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN)
    assert old.startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    assert signing_key("example.com", "s1", old).record == found.record
    other = signing_key("example.com", "s2", ED25519)
    assert (other.algorithm, other.bits) == (ED25519_SHA256, 256)


def test_the_seed_in_base64_is_a_key_of_ed25519() -> None:
    """RFC 8463 §A.2 has this key and its record."""
    found = signing_key("football.example.com", "brisbane", b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n")
    assert found.record == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    assert found.record_name == "brisbane._domainkey.football.example.com"


def test_internationalized_names_become_a_labels() -> None:
    assert signing_key("bücher.example", "größe", RSA).record_name == "xn--gre-6ka8i._domainkey.xn--bcher-kva.example"


def of_size(bits: int) -> bytes:
    return rsa.generate_private_key(65537, bits).private_bytes(PEM, PKCS8, PLAIN)


def damaged() -> bytes:
    """A key one of whose numbers belongs to another."""
    keys = (rsa.generate_private_key(65537, 1024).private_numbers() for _ in range(2))
    # An exponent must be less than the modulus it stands beside.
    second, first = sorted(keys, key=lambda numbers: numbers.public_numbers.n)
    numbers = rsa.RSAPrivateNumbers(
        first.p, first.q, second.d, first.dmp1, second.dmq1, first.iqmp, first.public_numbers
    )
    key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    return key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN)


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (b"", "no private key in PEM form"),
        (b"\x00" * 100_000, "too large"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no private key in it"),
        (RSA.replace(b"\n", b"\n*", 3), "cannot be read"),
        (RSA[:400], "cannot be read"),
        (damaged(), "damaged"),
        (private_key(RSA).private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")), "password"),
        (ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, PLAIN), "neither RSA nor Ed25519"),
    ],
)
def test_what_cannot_sign_is_refused_with_its_reason(pem: bytes, said: str) -> None:
    with pytest.raises(KeyTrouble, match=said) as caught:
        private_key(pem)
    assert "\n" not in str(caught.value)


def test_a_short_key_is_refused_and_one_that_is_not_long_is_spoken_of(tmp_path: Path) -> None:
    """RFC 8301 §3.2."""
    openssl = require_program("openssl")
    small = tmp_path / "small.pem"
    subprocess.run([openssl, "genrsa", "-out", small, "768"], check=True, capture_output=True)
    with pytest.raises(KeyTrouble, match="768 bits"):
        private_key(small.read_bytes())
    assert "2048" in signing_key("example.com", "s", of_size(1024)).advice


@pytest.mark.parametrize(
    ("domain", "selector"),
    [
        *(("", "s"), ("exa mple.com", "s"), ("192.0.2.1", "s"), ("example.com", ""), ("example.com", "a;b")),
        *(("example.com", "-s"), ("example.com", "a..b"), ("a" * 60 + ".example.com", ".".join(["s" * 60] * 4))),
    ],
)
def test_names_that_cannot_be_asked_for_are_refused(domain: str, selector: str) -> None:
    with pytest.raises(KeyTrouble):
        signing_key(domain, selector, ED25519)


def test_a_key_does_not_show_its_secret() -> None:
    assert repr(signing_key("example.com", "s", ED25519)) == "<SigningKey s._domainkey.example.com ed25519-sha256>"


def test_the_record_of_a_zone_file_is_the_text_in_strings() -> None:
    found = signing_key("example.com", "s", new_private_key(RSA_SHA256, bits=2048))
    lines = zone_lines(found.record_name, found.record)
    strings = re.findall(r'"([^"]*)"', lines)
    assert "".join(strings) == found.record
    assert all(len(string) <= 255 for string in strings)
    assert lines.startswith("s._domainkey.example.com. IN TXT (")
    assert base64.b64decode(found.public_text)[:1] == b"0"
    small = signing_key("example.com", "s", ED25519)
    assert zone_lines(small.record_name, small.record).count("\n") == 1


def test_too_few_bits_are_not_made() -> None:
    with pytest.raises(KeyTrouble):
        new_private_key(RSA_SHA256, bits=512)
