"""SASLprep against the examples of RFC 4013 §3 and the rules of RFC 3454."""

from __future__ import annotations

import pytest

from ekiden.sasl.saslprep import saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),  # soft hyphen: to nothing
        ("user", "user"),
        ("USER", "USER"),  # case stays
        ("\u00aa", "a"),  # NFKC
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),  # another space
        ("", ""),
    ],
    ids=ascii,
)
def test_text_gets_its_form(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\x07", "\u0627\u0031", "a\0b", "\ue000", "\ud800", "\u0627a\u0628"], ids=ascii)
def test_text_without_a_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        saslprep(text)


def test_a_new_password_has_no_character_that_was_unassigned() -> None:
    assert saslprep("\u0221") == "\u0221"
    with pytest.raises(ValueError, match="U\\+0221"):
        saslprep("\u0221", stored=True)
