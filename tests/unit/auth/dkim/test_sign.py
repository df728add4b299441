"""Signatures that we make: dkimpy takes them, and takes nothing that they should not let through."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.auth.dkim.keys import ED25519_SHA256, RSA_SHA256, new_private_key, signing_key
from ekiden.auth.dkim.sign import FIELDS_OF_A_NAME_LIMIT, OVERSIGNED, SIGNED, SigningOptions
from ekiden.config.snapshot import Parameters
from support.dkim_oracle import records, signed, verifies

RSA = signing_key("example.com", "rsa", new_private_key(RSA_SHA256))
ED25519 = signing_key("example.com", "ed", new_private_key(ED25519_SHA256))
DNS = records(RSA, ED25519)
HEADER = (
    b"Received: from a.example\r\n\tby mx.example; Mon, 30 Nov 2026 00:00:00 +0000\r\n"
    b"From: Anna  <anna@example.com>\r\nTo: Bert <bert@example.org>,\r\n  carl@example.org\r\n"
    b"Subject: a \t test\r\nDate: Mon, 30 Nov 2026 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n"
)
BODY = b"Hello  \r\n\r\n world\t.\r\n\r\n\r\n"
FORMS = list(itertools.product(("simple", "relaxed"), repeat=2))


def tags(field: bytes) -> dict[str, str]:
    text = re.sub(r"\s+", "", field.decode().partition(":")[2])
    return dict(spec.split("=", 1) for spec in text.split(";"))


def names(field: bytes) -> list[str]:
    return tags(field)["h"].split(":")


@pytest.mark.parametrize(("header_form", "body_form"), FORMS)
@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_signatures_of_both_kinds_verify(header_form: str, body_form: str, chunk: int) -> None:
    fields = signed(HEADER, BODY, [RSA, ED25519], SigningOptions(header_form, body_form), chunk=chunk)
    message = fields + HEADER + b"\r\n" + BODY
    assert verifies(message, DNS)
    assert verifies(message, DNS, index=1)
    assert fields.count(b"DKIM-Signature:") == 2
    assert tags(fields.split(b"DKIM-Signature")[1])["a"] == RSA_SHA256  # in the order of the keys


_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")), max_size=40
)
_LINES = st.lists(st.sampled_from([b"", b" ", b"\t", b"x", b"x ", b" x", b"x  y", b".", b"-" * 80]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    subject=_TEXT,
    more=st.lists(st.tuples(st.sampled_from(["To", "to", "X-A", "Subject", "Cc"]), _TEXT), max_size=5),
    lines=_LINES,
    form=st.sampled_from(FORMS),
    fold=st.booleans(),
)
def test_any_message_verifies(
    subject: str, more: list[tuple[str, str]], lines: list[bytes], form: tuple[str, str], fold: bool
) -> None:
    fields = [("From", "anna@example.com"), ("Subject", subject), *more]
    colon = ":\r\n\t" if fold else ": "
    header = "".join(f"{name}{colon}x{text}\r\n" for name, text in fields).encode()
    body = b"".join(line + b"\r\n" for line in lines)
    assert verifies(signed(header, body, [ED25519], SigningOptions(*form)) + header + b"\r\n" + body, DNS)


@pytest.mark.parametrize("name", OVERSIGNED)
def test_an_oversigned_field_cannot_be_added(name: str) -> None:
    """RFC 6376 §8.15; not even where there was none, but for what servers add (RFC 5321 §6.4)."""
    addition = f"{name}: other\r\n".encode()
    for header in (HEADER, b"From: anna@example.com\r\n"):
        message = signed(header, BODY, [ED25519]) + header + b"\r\n" + BODY
        assert verifies(message, DNS)
        may = name in ("Date", "Message-ID") and f"{name}:".encode() not in header
        assert verifies(addition + message, DNS) is may


def test_a_field_that_is_signed_only_where_it_is_there() -> None:
    assert "In-Reply-To" not in names(signed(HEADER, BODY, [ED25519]))
    header = HEADER + b"in-reply-to: <0@example.org>\r\n"
    assert names(signed(header, BODY, [ED25519])).count("In-Reply-To") == 1


def test_what_is_on_top_of_the_header_is_not_signed() -> None:
    field = signed(HEADER, BODY, [ED25519])
    message = field + HEADER + b"\r\n" + BODY
    assert verifies(b"Received: from b.example\r\nReturn-Path: <x@example.org>\r\n" + message, DNS)
    assert not {"received", "return-path"} & {name.lower() for name in names(field)}


def test_from_is_signed_whatever_the_options_say() -> None:
    """RFC 6376 §5.4."""
    options = SigningOptions(signed=("Subject",), oversigned=("subject", "X-Own"))
    assert names(signed(HEADER, BODY, [ED25519], options)) == ["From", "Subject", "Subject", "X-Own"]


def test_times_are_told_and_the_length_of_the_body_never_is() -> None:
    found = tags(signed(HEADER, BODY, [ED25519], SigningOptions(lifetime_s=3600), now=1_790_000_000.9))
    assert (found["t"], found["x"]) == ("1790000000", "1790003600")
    assert "l" not in found
    assert "x" not in tags(signed(HEADER, BODY, [ED25519]))


def test_an_identity_is_of_the_domain_or_below() -> None:
    options = SigningOptions(identity="a;b=c@mail.example.com")
    field = signed(HEADER, BODY, [ED25519], options)
    assert tags(field)["i"] == "a=3Bb=3Dc@mail.example.com"
    assert verifies(field + HEADER + b"\r\n" + BODY, DNS)
    for other in ("@example.org", "@badexample.com"):
        with pytest.raises(ValueError, match="not of the domain"):
            signed(HEADER, BODY, [ED25519], SigningOptions(identity=other))


def test_lines_are_folded() -> None:
    many = HEADER + b"To: x@example.org\r\n" * 40
    for keys in ([RSA], [ED25519]):
        field = signed(many, BODY, keys)
        lines = field.split(b"\r\n")
        assert lines.pop() == b""
        assert all(line.startswith(b"\t") and line.strip() for line in lines[1:])
        assert max(len(line) for line in lines) <= 78


def test_the_longest_names_fit_into_lines_of_smtp() -> None:
    """RFC 5322 §2.1.1: 998 octets."""
    domain = ".".join(["a" * 63, "b" * 63, "c" * 40])
    key = signing_key(domain, "s" * 63, new_private_key(ED25519_SHA256))
    field = signed(HEADER, BODY, [key], SigningOptions(identity=f"{'u' * 64}@{domain}"))
    assert max(len(line) for line in field.split(b"\r\n")) < 400
    assert verifies(field + HEADER + b"\r\n" + BODY, records(key))


def test_h_does_not_grow_with_what_a_client_sends() -> None:
    for more in (FIELDS_OF_A_NAME_LIMIT - 2, FIELDS_OF_A_NAME_LIMIT - 1, FIELDS_OF_A_NAME_LIMIT, 5000):
        header = HEADER + b"To: x@example.org\r\n" * more
        field = signed(header, BODY, [ED25519])
        assert names(field).count("To") == FIELDS_OF_A_NAME_LIMIT
        assert verifies(field + header + b"\r\n" + BODY, DNS)


def test_without_keys_there_is_nothing() -> None:
    assert signed(HEADER, BODY, []) == b""


def test_the_parameters_default_to_what_signatures_cover_by_default() -> None:
    parameters = Parameters()
    assert set(parameters.dkim_sign_headers) == set(SIGNED)
    assert set(parameters.dkim_oversign_headers) == set(OVERSIGNED)
