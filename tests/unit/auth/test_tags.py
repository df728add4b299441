"""Tag lists (RFC 6376 §3.2)."""

from __future__ import annotations

import pytest

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


def test_numbers_have_digits_only_and_not_too_many() -> None:
    assert number_value({"l": "0"}, "l") == 0
    assert number_value({}, "l") is None
    for wrong in ("", "-1", "+1", "1.0", "1 2", "\u0661", "9" * 77, "9" * 100_000):
        with pytest.raises(TagError):
            number_value({"l": wrong}, "l")


def test_lists_are_divided_by_colons() -> None:
    assert list_value("from : to\t:subject") == ("from", "to", "subject")
    assert list_value("") == ("",)
