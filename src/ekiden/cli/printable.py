"""What strangers wrote, for a terminal that must not be driven by it."""

from __future__ import annotations

_CHARACTERS = 500


def printable(line: str) -> str:
    """One line of bounded length without control, direction and other characters that cannot be seen."""
    return "".join(char if char.isprintable() else "?" for char in line[:_CHARACTERS])
