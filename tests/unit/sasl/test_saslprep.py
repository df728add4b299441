"""SASLprep (RFC 4013): the examples of its §3, and what must not pass."""

from __future__ import annotations

import pytest

from ekiden.sasl.saslprep import saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b\u3000c", "a b c"),  # other spaces
        ("pa\u0308ss", "päss"),
        ("\u0627\u0031\u0628", "\u06271\u0628"),  # Arabic around a digit (RFC 3454 §6)
        ("", ""),
    ],
)
def test_one_form_for_all_ways_to_write_it(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared
    assert saslprep(prepared) == prepared


@pytest.mark.parametrize(
    "text",
    [
        "\x07", "\u0627\u0031", "a\0b", "\x7f", "a\u0627", "\ue000", "\udc80", "a\u200eb", "\ufdd0", "\u2ff0ä",
        "\u2028", "ä\x85", "ä\U000e0041",
    ],
)  # fmt: skip
def test_what_is_prohibited_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"\Ait ") as caught:
        saslprep(text)
    assert text not in str(caught.value)


def test_a_character_that_is_too_young_may_be_asked_for_but_not_stored() -> None:
    assert saslprep("\U0001f600x") == "\U0001f600x"
    with pytest.raises(ValueError, match="younger"):
        saslprep("\U0001f600x", stored=True)
