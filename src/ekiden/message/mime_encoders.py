"""Content-Transfer-Encodings (RFC 2045 §6) as streams: a body in any chunking goes in, 7-bit lines come out."""

from __future__ import annotations

import binascii
import re
from typing import Protocol

_LINE = 76  # RFC 2045 §6.7 (5), §6.8
_BASE64_BYTES = 57  # of a line
_QUOTED = [b"=%02X" % byte for byte in range(256)]
# RFC 2045 §6.7 (1, 2): what stands for itself, "=" aside; a blank at the end of a line does not.
_UNSAFE = re.compile(rb"[^\t -<>-~]")
SAFE = bytes([byte for byte in range(256) if _UNSAFE.match(bytes([byte])) is None]) + b"\r\n"
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")


class Encoder(Protocol):
    def encode(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class Base64:
    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def encode(self, data: bytes) -> bytes:
        data = self._held + data
        whole = len(data) - len(data) % _BASE64_BYTES
        self._held = data[whole:]
        return b"".join(
            [binascii.b2a_base64(data[at : at + _BASE64_BYTES], newline=False) + b"\r\n"
             for at in range(0, whole, _BASE64_BYTES)]
        )  # fmt: skip

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return binascii.b2a_base64(held, newline=False) + b"\r\n" if held else b""


class QuotedPrintable:
    """Line ends (CRLF) stay line ends; a bare CR or LF is a byte like any other."""

    __slots__ = ("_column", "_held")

    def __init__(self) -> None:
        self._held = b""  # a CR or blanks at the end of a piece: what follows says what they are
        self._column = 0

    def encode(self, data: bytes) -> bytes:
        data = self._held + data
        keep = len(data)
        while keep and data[keep - 1] in b"\r \t" and len(data) - keep < _LINE:
            keep -= 1
        self._held, data = data[keep:], data[:keep]
        if not data:
            return b""
        lines = data.split(b"\r\n")
        out = [self._piece(line, ends=at < len(lines) - 1) for at, line in enumerate(lines)]
        return b"".join(out)

    def end(self) -> bytes:
        held, self._held = self._held, b""
        out = self._piece(held, ends=False, last=True) if held else b""
        self._column = 0
        return out

    def _piece(self, line: bytes, *, ends: bool, last: bool = False) -> bytes:
        column = self._column
        self._column = 0 if ends else column
        if (ends and line and line[-1] in b" \t") or (last and line and line[-1] in b" \t"):
            text = _UNSAFE.sub(_escaped, line[:-1]) + _QUOTED[line[-1]]
        else:
            text = _UNSAFE.sub(_escaped, line)
        if column + len(text) > _LINE - 1:
            text, column = _softly_broken(text, column)
        else:
            column += len(text)
        if ends:
            return text + b"\r\n"
        self._column = column
        return text


def _escaped(found: re.Match[bytes]) -> bytes:
    return _QUOTED[found[0][0]]


def _softly_broken(text: bytes, column: int) -> tuple[bytes, int]:
    """``text`` with soft line breaks, none of them inside an escape, and the column after it."""
    out: list[bytes] = []
    at = 0
    while column + len(text) - at > _LINE - 1:
        cut = at + max(0, _LINE - 1 - column)
        equals = text.rfind(b"=", max(at, cut - 2), cut)
        if equals >= 0:
            cut = equals
        out.append(text[at:cut])
        at, column = cut, 0
    rest = text[at:]
    out.append(rest)
    return b"=\r\n".join(out), column + len(rest)


class Masked:
    """Bytes beyond ASCII that no encoding can bring across: replaced, or left out."""

    __slots__ = ("_mask",)

    def __init__(self, mask: bytes = b"") -> None:
        self._mask = mask

    def encode(self, data: bytes) -> bytes:
        return data if data.isascii() else _EIGHT_BIT.sub(self._mask, data)

    def end(self) -> bytes:
        return b""


class Quoting:
    """A body that is quoted-printable already, with bytes in it that should have been quoted."""

    __slots__ = ()

    def encode(self, data: bytes) -> bytes:
        return data if data.isascii() else _EIGHT_BIT.sub(_escaped, data)

    def end(self) -> bytes:
        return b""


class AsItIs:
    __slots__ = ()

    def encode(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""
