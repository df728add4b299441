"""The replies of an SMTP or LMTP server, read from its bytes (RFC 5321 §4.2, RFC 2034).

In:   bytes, in any chunking.
Out:  one Reply at a time.
Never: more than ReplyLimits in memory, an exception other than ReplyTrouble, more than linear work.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from ekiden.message.reply import Reply
from ekiden.message.status import Status

# RFC 5321 §4.2   Reply-line     = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
#                 Reply-code     = %x32-35 %x30-35 %x30-39
# The middle digit may be any: servers in use send 58x and the like, and only the first digit decides.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_KNOWN_LINES = 16  # replies that a connection remembers: "250 2.1.5 Ok" comes with every message
_SHOWN = 100  # how much of a line that is no reply goes into the log


class ReplyTrouble(Exception):
    """The server sent what is no SMTP reply, or too much of it; the text says so, in printable characters."""


class ReplyLimits(Struct, frozen=True):
    line_bytes: int = 2048  # RFC 5321 §4.5.3.1.5 asks for 512
    lines: int = 256
    reply_bytes: int = 20_480


class ReplyReader:
    """Bytes in by receive(), replies out by next()."""

    __slots__ = ("_at", "_buffer", "_code", "_end", "_filter_line", "_known", "_limits", "_lines", "_size", "pending")

    def __init__(self, limits: ReplyLimits, filter_line: Callable[[bytes], bytes] | None = None) -> None:
        """``filter_line`` gives what is to be read in place of a line."""
        self._limits = limits
        self._filter_line = filter_line
        self._known: dict[bytes, Reply] = {}
        self._buffer = b""
        self._at = 0  # where in the buffer the next line begins
        self._end = 0  # of the buffer
        self._code = 0  # of the reply whose first lines are in _lines
        self._lines: list[str] = []
        self._size = 0
        self.pending = False  # there are bytes that no reply has been made of

    def receive(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data if self._at < self._end else data
        self._at, self._end = 0, len(self._buffer)
        if data:
            self.pending = True

    def next(self) -> Reply | None:
        """The next whole reply, or None while its last line is not there. Raises ReplyTrouble, for good."""
        while True:
            buffer, at = self._buffer, self._at
            end = buffer.find(b"\n", at)
            length = (self._end if end < 0 else end + 1) - at
            if length > self._limits.line_bytes:
                raise ReplyTrouble(f"a reply line of more than {self._limits.line_bytes} bytes")
            if end < 0:
                return None
            # A bare LF ends a line too: it is a fault of the server that hurts nobody.
            line = buffer[at : end - 1 if end > at and buffer[end - 1] == 13 else end]
            self._at = end + 1
            self.pending = end + 1 < self._end
            if self._filter_line is not None:
                line = self._filter_line(line)
            if not self._lines and (known := self._known.get(line)) is not None:
                return known
            if (reply := self._take(line, length)) is not None:
                return reply
            self.pending = True

    def _take(self, line: bytes, length: int) -> Reply | None:
        """One line; the reply if it was the last."""
        found = _LINE.fullmatch(line)
        if found is None:
            raise ReplyTrouble(f'not an SMTP reply: "{_printable(line[:_SHOWN])}"')
        code, separator, text = found.groups(b"")
        if not self._lines:
            if separator != b"-":
                reply = _reply(int(code), (_printable(text),))
                if len(self._known) < _KNOWN_LINES:
                    self._known[line] = reply
                return reply
            self._code = int(code)
        # RFC 5321 §4.2.1: all lines have one code. Success and failure at once mean nothing.
        elif code[0] - 48 != self._code // 100:
            raise ReplyTrouble(f"a reply with the codes {self._code} and {int(code)} at once")
        self._size += length
        self._lines.append(_printable(text))
        if len(self._lines) > self._limits.lines:
            raise ReplyTrouble(f"a reply of more than {self._limits.lines} lines")
        if self._size > self._limits.reply_bytes:
            raise ReplyTrouble(f"a reply of more than {self._limits.reply_bytes} bytes")
        if separator == b"-":
            return None
        lines, self._lines, self._size = tuple(self._lines), [], 0
        return _reply(int(code), lines)


def _reply(code: int, lines: tuple[str, ...]) -> Reply:
    """The reply, its enhanced status taken out of the text; one that contradicts the code stays text (RFC 3463 §2).

    RFC 2034 §4 wants it on every line. Cyrus writes it on the last one only, where Postfix looks too.
    """
    status = Status.parse(lines[-1])
    if status is None and len(lines) > 1:
        status = Status.parse(lines[0])
    if status is None or status.klass != code // 100:
        return Reply(code, None, lines, code == 421)
    mark = str(status)
    return Reply(code, status, tuple([_without(mark, line) for line in lines]), code == 421)


def _without(mark: str, line: str) -> str:
    if line.startswith(mark) and line[len(mark) : len(mark) + 1] in ("", " "):
        return line[len(mark) + 1 :]
    return line


def _printable(raw: bytes) -> str:
    """The text as it may stand in a log and a DSN: UTF-8, with no control characters."""
    text = raw.decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char == "\t" else "?" for char in text)


# What a reply without an enhanced status means (RFC 5248 §2.4 and the codes of RFC 5321 §4.2.3); others are x.0.0.
_STATUS_OF_CODE = {
    421: Status(4, 3, 2),
    450: Status(4, 2, 0),
    451: Status(4, 3, 0),
    452: Status(4, 3, 1),
    500: Status(5, 5, 2),
    501: Status(5, 5, 4),
    502: Status(5, 5, 1),
    503: Status(5, 5, 1),
    504: Status(5, 5, 4),
    551: Status(5, 1, 6),
    552: Status(5, 2, 2),
    553: Status(5, 1, 3),
    555: Status(5, 5, 4),
    556: Status(5, 1, 10),
}


def status_of(reply: Reply) -> Status:
    """The enhanced status of a reply: its own, else the one that its code stands for; the class is the code's."""
    if reply.status is not None:
        return reply.status
    return _STATUS_OF_CODE.get(reply.code) or Status(reply.code // 100, 0, 0)
