"""The content of a message as it comes in by BDAT (RFC 3030 §2): counted octets instead of a line with a dot.

In:   the octets of the chunks, in pieces of any size; where each chunk begins and which is the last.
Out:  the content, lines ending in CRLF unless it is BINARYMIME; why it cannot be accepted.
Never: looks for dots; holds more than one byte between two pieces or two chunks.
"""

from __future__ import annotations

import re

from ekiden.message.newlines import bare_newlines
from ekiden.message.reply import Refusal, Reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import Bdat, Invalid
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.states import State

# RFC 3030 §2    bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF      chunk-size = 1*DIGIT
_ARGUMENTS = re.compile(rb"([0-9]{1,20})(?: +(LAST))?", re.IGNORECASE)

# Why a chunk is not part of a message, by the state in which it comes.
OUT_OF_PLACE: dict[State, Reply] = {
    State.CONNECTED: replies.NEED_MAIL,
    State.GREETED: replies.NEED_MAIL,
    State.SENDER: replies.NO_VALID_RECIPIENTS,
    State.CHUNK_REFUSED: replies.AFTER_REFUSED_CHUNK,
}


def parse_bdat(arguments: bytes) -> Bdat | Invalid:
    """The size and the mark of the last chunk. Without a size nobody knows what is a command: the session ends."""
    found = _ARGUMENTS.fullmatch(arguments)
    if found is None:
        return Invalid("BDAT", replies.BDAT_SYNTAX, "syntax")
    return Bdat(int(found[1]), found[2] is not None)


class ChunkReceiver:
    """The chunks of one message: ``begin``, then ``feed`` with what it counts; ``finish`` after the last one."""

    __slots__ = (
        "_announced",
        "_bare_cr",
        "_bare_lf",
        "_binary",
        "_holds_cr",
        "_in_line",
        "_rejects",
        "_size_limit",
        "size",
    )

    def __init__(self, *, bare_newline: BareNewline, size_limit: int, binary: bool) -> None:
        """``size_limit`` is in octets, 0 for none. ``binary``: BODY=BINARYMIME, whose octets mean nothing here."""
        self._rejects = bare_newline is BareNewline.REJECT
        self._size_limit = size_limit
        self._binary = binary
        self._announced = 0  # octets in all chunks so far
        self._holds_cr = False  # the last octet was a CR, whose LF may come
        self._in_line = False  # the content so far does not end in a line end
        self._bare_lf = False
        self._bare_cr = False
        self.size = 0  # octets of content

    @property
    def has_bare_newline(self) -> bool:
        return self._bare_lf or self._bare_cr

    @property
    def refusal(self) -> Refusal | None:
        """Why the content is not acceptable as far as it is known."""
        if self._rejects and self._bare_lf:
            return Refusal(replies.BARE_LF, "bare-newline", "<LF> without <CR> in content")
        if self._rejects and self._bare_cr:
            return Refusal(replies.BARE_CR, "bare-newline", "<CR> without <LF> in content")
        if self._size_limit and max(self.size, self._announced) > self._size_limit:
            return Refusal(replies.MESSAGE_TOO_BIG, "message-too-big", f"over {self._size_limit} octets")
        return None

    def begin(self, size: int) -> None:
        """A chunk of ``size`` octets follows."""
        self._announced += size

    def feed(self, data: bytes) -> bytes:
        """The content in this piece; b"" once the content is refused: the rest of it is let go."""
        return self._out(data if self._binary else self._clean(data))

    def finish(self) -> bytes:
        """What is missing at the end of the last chunk: text ends in a line end, as it does after DATA."""
        if self._binary:
            return b""
        rest = b"\r\n" if self._in_line or self._holds_cr else b""
        if self._holds_cr:
            self._bare_cr = True
            rest = b" \r\n"
        self._holds_cr = self._in_line = False
        return self._out(rest)

    def _clean(self, data: bytes) -> bytes:
        """``data`` with whole line ends; none is cut apart."""
        if self._holds_cr:
            data = b"\r" + data
        self._holds_cr = data.endswith(b"\r")
        if self._holds_cr:
            data = data[:-1]
        if data:
            self._in_line = not data.endswith(b"\n")
        bare_lf, bare_cr = bare_newlines(data)
        if bare_lf or bare_cr:
            self._bare_lf |= bare_lf
            self._bare_cr |= bare_cr
            # As in DATA (data.py): a bare LF becomes a line end, a bare CR a space.
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b" ").replace(b"\n", b"\r\n")
        return data

    def _out(self, data: bytes) -> bytes:
        self.size += len(data)
        return b"" if self.refusal is not None else data


class Chunk:
    """The chunk that is being read: ``left`` octets of it are still to come. A refused one is read and let go.

    ``first``: it begins a message, which the driver does not know yet.
    """

    __slots__ = ("first", "last", "left", "receiver", "refused", "size")

    def __init__(
        self, bdat: Bdat, receiver: ChunkReceiver | None, refused: Invalid | None = None, *, first: bool = False
    ) -> None:
        self.first = first
        self.size = self.left = bdat.size
        self.last = bdat.last
        self.receiver = receiver
        self.refused = refused  # why it is part of no message

    def take(self, data: bytes) -> tuple[bytes, int]:
        """The content in ``data``, and how many of its last bytes are behind the chunk."""
        piece = data[: self.left]
        self.left -= len(piece)
        return self.receiver.feed(piece) if self.receiver is not None else b"", len(data) - len(piece)
