"""Canonical header fields, and which of them a signature covers (RFC 6376 §3.4, §3.7, §5.4.2)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.auth.dkim.canonical import SignableHeader, own_input, picks, relaxed_field, simple_field
from ekiden.message.header_fields import fields

HEADER = (
    b"DKIM-Signature: v=1; b=new\r\n"
    b"Received: third\r\n"
    b"Received: second\r\n"
    b"DKIM-Signature: v=1; b=old\r\n"
    b"received: first\r\n"
    b"SUBJect: AbC\r\n"
    b"From: a@x.test\r\n"
)

_PARTS = (
    b"A:",
    b"a :",
    b"B",
    b" ",
    b"\t",
    b"\r\n",
    b"\n",
    b"\r",
    b"x",
    b"; b=",
    b";b =\r\n\ty",
    b"\x0b",
    b": ",
    b"\r\n a",
)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b"A: X\r\n", b"a:X\r\n"),  # RFC 6376 §3.4.5
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
        (b"Subject \t:\t \r\n \r\n\tx\r\n", b"subject:x\r\n"),
        (b"Empty:\r\n", b"empty:\r\n"),
        (b"Empty: \t\r\n  \r\n", b"empty:\r\n"),
        (b"X: a: b\r\n", b"x:a: b\r\n"),
        # Only blank and tab are white space; a bare CR or LF is a character like others.
        (b"X:  a\x0b \x0cb  c\r\n", b"x:a\x0b \x0cb c\r\n"),
        (b"X: a\r b\r\n", b"x:a\r b\r\n"),
        (b"X: \x0b\r\n", b"x:\x0b\r\n"),
        (b"X: a\n b\r\n", b"x:a\n b\r\n"),
        (b"X: a\n", b"x:a\r\n"),
        (b"X: a\r\r\n\n b\r\n", b"x:a\r\r\n\n b\r\n"),  # what is no folding makes none either
        ("X: \u00e9\u3000 b\r\n".encode(), "x:\u00e9\u3000 b\r\n".encode()),
    ],
)
def test_relaxed_fields(raw: bytes, canonical: bytes) -> None:
    assert relaxed_field(raw) == canonical
    assert relaxed_field(canonical) == canonical


def test_simple_fields_are_as_they_are() -> None:
    raw = b"B : Y\t\r\n\tZ  \r\n"
    assert simple_field(raw) == raw
    assert simple_field(raw[:-2]) == raw


def picked(names: str) -> list[bytes]:
    header = SignableHeader(HEADER)
    return [field.raw for field in header.pick(picks(names.split(":")), but=header.fields[0])]


def test_fields_are_taken_from_the_bottom_up_in_the_order_of_the_names() -> None:
    assert picked("from:Received:received") == [
        b"From: a@x.test\r\n",
        b"received: first\r\n",
        b"Received: second\r\n",
    ]


def test_a_name_without_a_field_left_stands_for_nothing() -> None:
    assert picked("subject:x-none:subject:from") == [b"SUBJect: AbC\r\n", b"From: a@x.test\r\n"]


def test_a_signature_does_not_cover_itself_as_a_field() -> None:
    assert picked("from:dkim-signature:dkim-signature") == [b"From: a@x.test\r\n", b"DKIM-Signature: v=1; b=old\r\n"]


def test_signed_bytes_are_the_canonical_fields() -> None:
    header = SignableHeader(HEADER)
    named = header.pick(picks(["subject", "from"]))
    assert header.canonical(named, "relaxed") == b"subject:AbC\r\nfrom:a@x.test\r\n"
    assert header.canonical(named, "simple") == b"SUBJect: AbC\r\nFrom: a@x.test\r\n"


@pytest.mark.parametrize(
    ("raw", "simple"),
    [
        (b"DKIM-Signature: v=1; b=abc; bh=xyz\r\n", b"DKIM-Signature: v=1; b=; bh=xyz"),
        (b"DKIM-Signature: v=1; bh=b=;\r\n\tb =\r\n\ta b\r\n", b"DKIM-Signature: v=1; bh=b=;\r\n\tb ="),
        (b"DKIM-Signature:b=  abc \r\n ; x=1 \r\n", b"DKIM-Signature:b=; x=1 "),
        (b"DKIM-Signature: h=from:b; b=a\r\n", b"DKIM-Signature: h=from:b; b="),
        (b"DKIM-Signature: b=a; b=b\r\n", b"DKIM-Signature: b=; b=b"),
        (b"DKIM-Signature: bb=a; ; =\r\n", b"DKIM-Signature: bb=a; ; ="),
    ],
)
def test_the_signature_covers_its_own_field_without_its_value(raw: bytes, simple: bytes) -> None:
    assert own_input(raw, "simple") == simple
    assert own_input(raw, "relaxed") == relaxed_field(simple + b"\r\n")[:-2]


def test_a_field_of_a_giant_header_is_made_canonical_once() -> None:
    header = SignableHeader(b"A: b \t c\r\n\td\r\n" * 2000)
    assert header.canonical(header.fields, "relaxed") == b"a:b c d\r\n" * 2000
    assert {field.relaxed for field in header.fields} == {b"a:b c d\r\n"}


def test_a_line_feed_too_many_and_one_too_few_are_not_taken_for_a_header_in_lines() -> None:
    header = SignableHeader(b"A: x\nB: y\r\r\n")
    assert header.canonical(header.fields, "relaxed") == b"a:x\r\nb:y\r\r\n"


def test_odd_white_space_anywhere_leaves_every_field_right() -> None:
    for odd in (b"X: \x0b\r\n", b"X: a\r b\r\n", b"X: a\n b\r\n", b"X: a\r\n\r\n", b"X: a\r\nno field\r\n", b"X: a"):
        header = SignableHeader(b"Y: a\x0c  b\r\n\tc\r\n" + odd)
        assert header.canonical(header.fields, "relaxed") == b"".join(
            relaxed_field(field.raw) for field in header.fields
        )


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(_PARTS), max_size=14).map(b"".join))
def test_a_header_taken_apart_is_canonical_as_its_fields_are(octets: bytes) -> None:
    header = SignableHeader(octets)
    assert [(one.name, octets[one.start : one.end]) for one in fields(octets)] == [
        (field.name, field.raw) for field in header.fields
    ]
    for field in header.fields:
        assert header.canonical([field], "relaxed") == relaxed_field(field.raw)
        names = [one.name.decode() for one in reversed(header.fields)]
        covered = b"".join([relaxed_field(one.raw) for one in header.pick(picks(names), but=field)])
        assert header.hash_input(picks(names), "relaxed", field) == covered + own_input(field.raw, "relaxed")
