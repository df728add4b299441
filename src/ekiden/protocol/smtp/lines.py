"""The bytes of a client that wait to be read: taken out line by line, or in pieces as content."""

from __future__ import annotations

# Content is taken in pieces: a burst of many small messages must not cost a copy of the whole burst for each.
_PIECE_BYTES = 65_536


class LineBuffer:
    """Input in, lines out. Each byte is copied a bounded number of times, however the input is cut.

    A line over ``limit_bytes`` (line end included) is dropped as it comes in; when it ends its first byte is given
    out in its place, without a line feed.
    """

    __slots__ = ("_at", "_buffer", "_limit", "_more", "_overlong", "waits")

    def __init__(self, limit_bytes: int) -> None:
        # More has come in than was taken out (an attribute: every command asks for it). So it has when what came is
        # of a line over the limit: what comes next is not the beginning of a line.
        self.waits = False
        self._limit = limit_bytes
        self._buffer = b""
        self._at = 0  # where the unread part of the buffer begins
        self._more: list[bytes] = []  # what came in after the buffer
        self._overlong = b""  # the first byte of the line over the limit that we are in

    def extend(self, data: bytes) -> None:
        if self.waits:
            self._more.append(data)
        else:
            self._buffer, self._at, self.waits = data, 0, bool(data)

    def pop(self) -> bytes | None:
        """The next line with its line end, one byte for a line over the limit, None when no whole line is there."""
        while True:
            buffer, at = self._buffer, self._at
            end = buffer.find(b"\n", at) + 1
            if end:
                line = buffer[at:end]
                if end == len(buffer):  # _release, without a call for each command
                    self._buffer, self._at, self.waits = b"", 0, bool(self._more)
                else:
                    self._at = end
                if self._overlong or end - at > self._limit:
                    line, self._overlong = self._overlong or line[:1], b""
                return line
            if self._more:
                self._buffer = b"".join((buffer[at:], *self._more))
                self._at = 0
                self._more.clear()
                continue
            if self._overlong or len(buffer) - at > self._limit:
                self._overlong = self._overlong or buffer[at : at + 1]
                self._buffer, self._at = b"", 0
            elif at:  # of all that came in, only the begun line stays
                self._buffer, self._at = buffer[at:], 0
            return None

    def first_byte(self) -> bytes:
        """The first byte of the line that has not come in whole; b"" when there is none."""
        return self._overlong or self._buffer[self._at : self._at + 1]

    def begin(self, limit: int) -> bytes:
        """The first ``limit`` bytes of what waits; they go on waiting."""
        return b"".join((self._buffer[self._at : self._at + limit], *self._more[:1]))[:limit]

    def take(self) -> bytes:
        """The next piece of what waits, without regard to lines; b"" when nothing does."""
        if self._at == len(self._buffer):
            self._buffer, self._at = b"".join(self._more), 0
            self._more.clear()
        piece = self._buffer
        if self._at or len(piece) > _PIECE_BYTES:
            piece = piece[self._at : self._at + _PIECE_BYTES]
        self._at += len(piece)
        self.waits = self._at < len(self._buffer) or bool(self._more)
        return piece

    def give_back(self, count: int) -> None:
        """The last ``count`` bytes of the piece taken last were not for whoever took it."""
        self._at -= count
        if self._at == len(self._buffer):
            self._release()
        else:
            self.waits = True

    def clear(self) -> None:
        self._buffer, self._at, self._overlong, self.waits = b"", 0, b"", False
        self._more.clear()

    def _release(self) -> None:
        """All of the buffer is taken out. Ten thousand idle sessions must not keep what they have read."""
        self._buffer, self._at, self.waits = b"", 0, bool(self._more)
