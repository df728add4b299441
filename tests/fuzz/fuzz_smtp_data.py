"""Only <CR><LF>.<CR><LF> ends content, in any chunking; the lines are those that a plain byte-by-byte reader finds.

The reader here is the slow and plain one: a byte at a time, as RFC 5321 §4.5.2 tells it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ekiden.protocol.smtp.data import BareNewline, DataReceiver
from support.pieces import pieces

SEEDS = [
    b"Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n",
    b".\r\n",
    b"..\r\n.x\r\n...\r\n\r\n.\r\n",
    b"a\nb\n.\nc\r.\rd\r\n.\re\r\n.\n\r\n.\r\r\n.\r\n",
    b"\n.\n\n.\r\r.\n\r.\r\n.\r\n\r.\r\n\r\n\0.\r\n\r\n.\r\r\n\r\r\n.\r\r\n\r\n.\r\nrest",
    b"\n..\r\n\r\n..\n..\r..\r\n.\r\n",
]


def one_input(data: bytes) -> None:
    expected = _plain(data)
    for mode in BareNewline:
        judged = _judged(expected, mode)
        assert _fed(pieces(data), data, mode) == judged, mode
        assert _fed((data,), data, mode) == judged, mode


_Result = tuple[bytes | None, bool, bool, bytes]


def _judged(expected: _Result, mode: BareNewline) -> _Result:
    content, ended, bare, rest = expected
    return (None if bare and mode is BareNewline.REJECT else content), ended, bare, rest


def _fed(parts: Iterable[bytes], data: bytes, mode: BareNewline) -> _Result:
    receiver = DataReceiver(bare_newline=mode, size_limit=0)
    out = b""
    fed = 0
    for part in parts:
        fed += len(part)
        out += receiver.feed(part)
        if receiver.ended:
            assert (receiver.refusal is not None) is (mode is BareNewline.REJECT and receiver.has_bare_newline)
            content = None if receiver.refusal is not None else out
            return content, True, receiver.has_bare_newline, data[fed - receiver.unused :]
    return b"", False, False, b""


def _plain(data: bytes) -> _Result:
    """Content, whether it ends, whether a bare CR or LF is in it, and what follows."""
    at, bare = 0, False
    lines: list[bytes] = []
    line, line_start, after_crlf = b"", True, True
    while at < len(data):
        if line_start and after_crlf and data.startswith(b".\r\n", at):
            return b"".join(lines), True, bare, data[at + 3 :]
        byte = data[at : at + 1]
        if line_start and byte == b".":
            at, line_start = at + 1, False
            continue
        line_start = False
        if data.startswith(b"\r\n", at):
            lines.append(line + b"\r\n")
            at, line, line_start, after_crlf = at + 2, b"", True, True
        elif byte == b"\n":
            lines.append(line + b"\r\n")
            at, line, line_start, after_crlf, bare = at + 1, b"", True, False, True
        elif byte == b"\r":
            at, line, bare = at + 1, line + b" ", True
        else:
            at, line = at + 1, line + byte
    return b"", False, False, b""
