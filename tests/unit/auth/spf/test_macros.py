"""Macros (RFC 7208 §7): transformers, escapes, names that are too long."""

from __future__ import annotations

import pytest

from ekiden.auth.spf.macros import parse_domain_spec, parse_explanation

_VALUES = {"s": "a.b-c+d@x.example", "l": "a.b-c+d", "d": "x.example", "i": "192.0.2.3", "v": "in-addr"}


@pytest.mark.parametrize(
    ("macro", "expanded"),
    [
        ("%{l}", "a.b-c+d"),
        ("%{l-}", "a.b.c+d"),
        ("%{l+-}", "a.b.c.d"),
        ("%{lr+-.}", "d.c.b.a"),
        ("%{l2r+-.}", "b.a"),
        ("%{l1+-.}", "d"),
        ("%{l99R}", "b-c+d.a"),
        ("%{L}", "a.b-c%2Bd"),
        ("%{S1@}", "x.example"),
        ("%{ir}.%{v}", "3.2.0.192.in-addr"),
        ("%{d001}", "example"),
    ],
)
def test_transformers(macro: str, expanded: str) -> None:
    if "@" in macro:  # no delimiter: RFC 7208 §7.1
        with pytest.raises(ValueError, match="not a macro"):
            parse_domain_spec(macro)
    else:
        assert parse_domain_spec(macro).name(_VALUES) == expanded


def test_signs() -> None:
    assert parse_domain_spec("a%%b%_c%-d.e").name({}) == "a%b c%20d.e"
    assert parse_explanation("a %% b%_%-").words({}, 99) == "a % b %20"


def test_everything_but_unreserved_characters_is_escaped() -> None:
    """RFC 7208 §7.3, RFC 3986 §2.3."""
    value = "aZ09-._~!/?&=%@ \u00fc\n"
    assert parse_explanation("%{S}").words({"s": value}, 99) == "aZ09-._~%21%2F%3F%26%3D%25%40%20%C3%BC%0A"


def test_labels_on_the_left_of_a_long_name_fall_away() -> None:
    """RFC 7208 §7.3."""
    spec = parse_domain_spec("%{d}.b.test")
    fits = ".".join(["a" * 49] * 4 + ["c" * 46])  # 246 characters, and ".b.test"
    assert spec.name({"d": fits}) == f"{fits}.b.test"
    assert len(f"{fits}.b.test") == 253
    assert spec.name({"d": f"x{fits}"}) == f"{fits.partition('.')[2]}.b.test"
    assert spec.name({"d": f"x.y.{fits}"}) == f"{fits}.b.test"
    assert spec.name({"d": "z" * 5000}) == "b.test"
    assert parse_domain_spec("%{d}." * 300 + "test").name({"d": "a"}) == ("a." * 124 + "test")


def test_the_trailing_dot_is_no_part_of_the_name() -> None:
    assert parse_domain_spec("%{d}.b.test.").name({"d": "a"}) == "a.b.test"
