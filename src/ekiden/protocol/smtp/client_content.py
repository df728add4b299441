"""The content of a message as DATA sends it (RFC 5321 §4.5.2): dots stuffed, lines ended by CRLF and not too long.

The result never holds a bare CR or a bare LF, whatever comes in: a peer that takes one for the end of a line must not
find a second message in ours. It does not depend on how the content is cut into chunks.
"""

from __future__ import annotations

import re

from ekiden.message.newlines import bare_newlines

_STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class ContentEncoder:
    """Encodes one content. ``line_length_limit`` counts bytes without CRLF and stuffed dot; 0 breaks no line."""

    __slots__ = ("_column", "_held", "_limit", "_stuffs")

    def __init__(self, line_length_limit: int, *, stuffs: bool = True) -> None:
        self._stuffs = stuffs
        # A continuation needs a place for its space and one for a byte.
        self._limit = max(line_length_limit, 2) if line_length_limit else 0
        self._column = 0  # bytes of the line that the last chunk left open
        self._held = False  # the last chunk ended in CR: what it is, the next byte tells

    def encode(self, data: bytes) -> bytes:
        """The next chunk, as it goes over the wire."""
        if self._held:
            data = b"\r" + data
        self._held = data[-1:] == b"\r"
        if self._held:
            data = data[:-1]
        if not data:
            return b""
        if any(bare_newlines(data)):
            data = _STRAY.sub(_settle, data)
        if self._limit and not self._lines_fit(data):
            data = self._broken(data)
        stuffed = data
        if self._stuffs:
            if b"." in data and b"\n." in data:
                stuffed = data.replace(b"\n.", b"\n..")
            if self._column == 0 and data[0] == 46:
                stuffed = b"." + stuffed
        newline = data.rfind(b"\n")
        self._column = len(data) - newline - 1 if newline >= 0 else self._column + len(data)
        return stuffed

    def end(self) -> bytes:
        """What follows the last chunk: the end of its line if it has none, and the dot."""
        open_line = self._held or self._column > 0
        self._held, self._column = False, 0
        return b"\r\n.\r\n" if open_line else b".\r\n"

    def _lines_fit(self, data: bytes) -> bool:
        """Whether no line is too long: from line end to line end in jumps of nearly the limit, not line by line."""
        at, room, size = 0, self._limit - self._column, len(data)
        while size - at > room:
            newline = data.rfind(b"\n", at, at + room + 2)
            if newline < 0:
                return False
            at, room = newline + 1, self._limit
        return True

    def _broken(self, data: bytes) -> bytes:
        """``data`` with long lines broken as Postfix breaks them: by CRLF and a space, which folds a header field."""
        lines = data.split(b"\r\n")
        room = self._limit - self._column
        for at, line in enumerate(lines):
            if len(line) > room:
                step = self._limit - 1
                pieces = [line[:room]]
                pieces.extend(line[cut : cut + step] for cut in range(room, len(line), step))
                lines[at] = b"\r\n ".join(pieces)
            room = self._limit
        return b"\r\n".join(lines)


def _settle(stray: re.Match[bytes]) -> bytes:
    # A bare LF is a line end of Unix. A bare CR ends no line anywhere, so it must not begin to.
    return b"\r\n" if stray[0] == b"\n" else b" "
