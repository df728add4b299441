"""Tag lists (RFC 6376 §3.2)."""

from __future__ import annotations

import base64
import contextlib
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiden.auth.tags import TagError, base64_value, list_value, number_value, parse_tags


def test_white_space_around_tags_is_no_part_of_them() -> None:
    assert parse_tags(b" v = 1 ;\r\n\ta=rsa-sha256\t; b=abc\r\n def ;c=; \r\n") == {
        "v": "1",
        "a": "rsa-sha256",
        "b": "abc def",
        "c": "",
    }


def test_names_are_case_sensitive_and_values_may_hold_equals_signs_and_utf8() -> None:
    assert parse_tags("V=1;v=a=b==;i=jürgen@bücher.test".encode()) == {
        "V": "1",
        "v": "a=b==",
        "i": "jürgen@bücher.test",
    }


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "not a tag"),
        (b"v=1; ;", "not a tag"),
        (b"v=1;;b=2", "not a tag"),
        (b"v", "not a tag"),
        (b"1v=1", "not a tag"),
        (b"a-b=1", "not a tag"),
        (b"v=1; a=2; v=1", "v= is there twice"),
        (b"v=1\0", "control characters"),
        (b"v=1\ra", "control characters"),
        (b"v=1\na", "control characters"),
        (b"v=\xff", "no UTF-8"),
    ],
)
def test_what_is_no_tag_list(octets: bytes, said: str) -> None:
    with pytest.raises(TagError, match=said):
        parse_tags(octets)


def test_base64_is_strict_but_for_white_space() -> None:
    assert base64_value({"b": "dGVz \t dAo="}, "b") == b"test\n"
    assert base64_value({"p": ""}, "p") == b""
    for wrong in ("dGVzdAo", "dGVz-Ao=", "====", "dGVzdA=o", "dGVzdAo=dGVzdAo=", "dGV\u00e9"):
        with pytest.raises(TagError):
            base64_value({"b": wrong}, "b")
    with pytest.raises(TagError, match="b= is missing"):
        base64_value({}, "b")


def test_what_is_base64_is_as_the_grammar_has_it() -> None:
    # RFC 6376 §2.10   base64string = ALPHADIGITPS *([FWS] ALPHADIGITPS) [ [FWS] "=" [ [FWS] "=" ] ]
    grammar = re.compile(r"[A-Za-z0-9+/]*={0,2}")
    for length in range(9):
        for text in map("".join, itertools.product("A/=-", repeat=length)):
            try:
                expected = base64.b64decode(text) if grammar.fullmatch(text) and length % 4 == 0 else None
            except ValueError:
                expected = None
            try:
                found = base64_value({"b": text}, "b")
            except TagError:
                found = None
            assert found == expected, text


def test_numbers_have_digits_only_and_not_too_many() -> None:
    assert number_value({"l": "0"}, "l") == 0
    assert number_value({}, "l") is None
    for wrong in ("", "-1", "+1", "1.0", "1 2", "\u0661", "9" * 77, "9" * 100_000):
        with pytest.raises(TagError):
            number_value({"l": wrong}, "l")


def test_lists_are_divided_by_colons() -> None:
    assert list_value("from : to\t:subject") == ("from", "to", "subject")
    assert list_value("") == ("",)


@settings(max_examples=1000, deadline=None)
@given(st.text("ab1_ \t;=\x01\x7fé\u2003", max_size=24))
def test_a_list_is_read_as_spec_by_spec(text: str) -> None:
    specs = text.split(";")
    if len(specs) > 1 and not specs[-1].strip(" \t"):
        specs.pop()
    pairs = [tuple(part.strip(" \t") for part in spec.split("=", 1)) for spec in specs]
    good = (
        all(len(pair) == 2 and pair[0].isascii() and pair[0].isidentifier() and pair[0][0] != "_" for pair in pairs)
        and len({pair[0] for pair in pairs}) == len(pairs)
        and not set(text) & {"\x01", "\x7f"}
    )
    if good:
        assert list(parse_tags(text.encode()).items()) == pairs
    else:
        with pytest.raises(TagError):
            parse_tags(text.encode())


@pytest.mark.parametrize("part", [" ", ";", "a", "a=1;", "a=b ", "=", "a= \t"])
@pytest.mark.parametrize("end", ["", "\x01", ";", "x y=1"])
def test_a_giant_list_is_read_in_linear_time(part: str, end: str) -> None:
    for begin in ("", "a=", ";", "a=b"):
        with contextlib.suppress(TagError):
            parse_tags((begin + part * 50_000 + end).encode())
