"""SASLprep: names and passwords in the one form in which they are compared (RFC 4013, a profile of RFC 3454).

In:   text as somebody typed it.
Out:  the prepared text; for most text (ASCII) the same.
Errors: ValueError for text that has no such form.
"""

from __future__ import annotations

import stringprep
import unicodedata

# RFC 4013 §2.3
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool = False) -> str:
    """``stored`` text (a new password) may hold no character that Unicode 3.2 did not know (RFC 3454 §7)."""
    if text.isascii() and text.isprintable():
        return text
    # RFC 4013 §2.1 and §2.2
    mapped = [" " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)]
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", "".join(mapped))
    for char in prepared:
        if any(is_prohibited(char) for is_prohibited in _PROHIBITED):
            raise ValueError(f"the character U+{ord(char):04X} is not allowed in a name or password")
        if stored and stringprep.in_table_a1(char):
            raise ValueError(f"the character U+{ord(char):04X} is too new for a name or password")
    # RFC 3454 §6: text with right-to-left characters is so from its first to its last, and has no other letters.
    if any(map(stringprep.in_table_d1, prepared)):
        if any(map(stringprep.in_table_d2, prepared)):
            raise ValueError("left-to-right and right-to-left letters are mixed")
        if not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
            raise ValueError("right-to-left text must begin and end with a right-to-left letter")
    return prepared
