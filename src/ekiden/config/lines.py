"""The line format that main.cf, master.cf and the sources of tables share (postconf(5), master(5), postmap(5)).

Lines that are empty, or whose first visible character is ``#``, count for nothing, also in the midst of others.
A line that begins with white space continues the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

_BLANKS = " \t\r\f\v"


class LogicalLine(Struct, frozen=True):
    """A line with its continuations: ``number`` is that of its first line, from 1."""

    number: int
    text: str  # the pieces joined by newline, each without white space at its end
    orphan: bool = False  # it begins with white space, but there is no line that it could continue


def logical_lines(text: str) -> Iterator[LogicalLine]:
    pieces: list[str] = []
    first = 0
    orphan = False
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip(_BLANKS)
        visible = line.lstrip(_BLANKS)
        if not visible or visible[0] == "#":
            continue
        if pieces and len(visible) != len(line):
            pieces.append(line)
            continue
        if pieces:
            yield LogicalLine(first, "\n".join(pieces), orphan)
        pieces, first, orphan = [line], number, len(visible) != len(line)
    if pieces:
        yield LogicalLine(first, "\n".join(pieces), orphan)
