"""The content of a message as BDAT sends it (RFC 3030 §2): in chunks of known size, nothing stuffed, no final dot.

Text is made clean as for DATA: a server may hand it on by DATA. Binary content (RFC 3030 §3) goes as it is.
"""

from __future__ import annotations

from ekiden.protocol.smtp.client_content import ContentEncoder


class Chunks:
    """One content. A piece goes out when the next one comes, so that the last is known for what it is."""

    __slots__ = ("_encoder", "_held", "unanswered")

    def __init__(self, line_length_limit: int, *, binary: bool) -> None:
        self._encoder = None if binary else ContentEncoder(line_length_limit, stuffs=False)
        self._held = b""
        self.unanswered = 0  # chunks before the last that no reply has come to

    def put(self, data: bytes) -> bytes:
        """What goes over the wire now, for the next piece of the content."""
        if self._encoder is not None:
            data = self._encoder.encode(data)
        if not data:
            return b""
        out, self._held = self._held, data
        if not out:
            return b""
        self.unanswered += 1
        return b"BDAT %d\r\n%b" % (len(out), out)

    def end(self) -> bytes:
        """The last chunk, which may be empty."""
        rest = self._held
        if self._encoder is not None:
            rest += self._encoder.end().removesuffix(b".\r\n")
        return b"BDAT %d LAST\r\n%b" % (len(rest), rest)
