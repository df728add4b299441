"""Languages of regular expressions, and what it takes to translate them to that of Python's ``re``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct


class PatternProblem(Exception):
    """Why a pattern cannot be used: it is wrong, or Python cannot do what it asks for."""


class Pattern(Struct, frozen=True):
    """A translated pattern. ``groups``: the number of each group as it is written -> its number in Python's."""

    text: str
    flags: int
    groups: Mapping[int, int]

    def compiled(self) -> re.Pattern[str]:
        """Raises re.error."""
        return re.compile(self.text, self.flags)


class Dialect(Struct, frozen=True):
    """``flags``: the letters that may follow a pattern. ``translate(source, letters)`` raises PatternProblem."""

    name: str  # of the table type
    flags: str
    translate: Callable[[str, str], Pattern]


# POSIX character classes in the C locale, as members of a set of Python.
CLASSES: Mapping[str, str] = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": "\\x00-\\x7f",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}

# The same for what is not in the class.
OTHERS: Mapping[str, str] = {
    "alnum": "\\x00-/:-@\\[-`{-\\U0010ffff",
    "alpha": "\\x00-@\\[-`{-\\U0010ffff",
    "ascii": "\\x80-\\U0010ffff",
    "blank": "\\x00-\\x08\\n-\\x1f!-\\U0010ffff",
    "cntrl": " -~\\x80-\\U0010ffff",
    "digit": "\\x00-/:-\\U0010ffff",
    "graph": "\\x00- \\x7f-\\U0010ffff",
    "lower": "\\x00-`{-\\U0010ffff",
    "print": "\\x00-\\x1f\\x7f-\\U0010ffff",
    "punct": "\\x00- 0-9A-Za-z\\x7f-\\U0010ffff",
    "space": "\\x00-\\x08\\x0e-\\x1f!-\\U0010ffff",
    "upper": "\\x00-@\\[-\\U0010ffff",
    "word": "\\x00-/:-@\\[-^`{-\\U0010ffff",
    "xdigit": "\\x00-/:-@G-`g-\\U0010ffff",
}


def literal(char: str) -> str:
    """A character that stands for itself, outside of a set or inside."""
    return f"\\U{ord(char):08x}" if not char.isalnum() or not char.isascii() else char
