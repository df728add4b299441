"""SASLprep: the one form of a user name or password in which it is compared (RFC 4013, a profile of RFC 3454).

In:   text as a client or an administrator wrote it.
Out:  the prepared text. Raises ValueError, which says what is not allowed and never shows the text.
"""

from __future__ import annotations

import stringprep
import unicodedata

# RFC 4013 §2.3
_PROHIBITED = (
    (stringprep.in_table_c12, "a space that is not the ASCII one"),
    (stringprep.in_table_c21_c22, "a control character"),
    (stringprep.in_table_c3, "a private use character"),
    (stringprep.in_table_c4, "a code point that is no character"),
    (stringprep.in_table_c5, "a surrogate"),
    (stringprep.in_table_c6, "a character that is not for plain text"),
    (stringprep.in_table_c7, "an ideographic description character"),
    (stringprep.in_table_c8, "a character that changes how text is displayed"),
    (stringprep.in_table_c9, "a tagging character"),
)
_DEFINED = unicodedata.ucd_3_2_0  # RFC 3454 §3.1 has the tables of Unicode 3.2


def saslprep(text: str, *, stored: bool = False) -> str:
    """``stored``: it is to be kept, so characters younger than Unicode 3.2 are refused (RFC 3454 §7)."""
    if text.isascii():  # nothing is mapped or reordered there
        if not text.isprintable():
            raise ValueError("it holds a control character")
        return text
    # RFC 4013 §2.1: other spaces become ours, what is commonly mapped to nothing goes.
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    prepared = _DEFINED.normalize("NFKC", mapped)
    for char in prepared:
        for prohibited, what in _PROHIBITED:
            if prohibited(char):
                raise ValueError(f"it holds {what}")
        if stored and stringprep.in_table_a1(char):
            raise ValueError("it holds a character that is younger than Unicode 3.2, which not every client can send")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """RFC 3454 §6."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)):
        raise ValueError("it mixes letters that are written from the right with such that are written from the left")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("it has letters that are written from the right, but does not begin and end with one")
