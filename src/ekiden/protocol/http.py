"""HTTP/1.1 as a client that asks once and closes (RFC 9112): a request as bytes, and the answer to it. No I/O.

In:   method, host, path, fields; the server's bytes in any pieces, and their end.
Out:  the bytes of the request; one HttpResponse within the limits.
Never: raises anything but HttpError for any bytes, keeps more than the limits, follows a redirect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

_HEAD_LIMIT_BYTES = 16 * 1024
_CHUNK_LINE_LIMIT_BYTES = 256
_INTERIM_LIMIT = 10  # 1xx answers before the real one

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n\0]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


class HttpError(ValueError):
    """What a server said is no answer, or more of one than is wanted."""


class HttpResponse(Struct, frozen=True):
    """``fields`` are by name in lower case; of a name that came more than once, all values joined by commas."""

    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """``text/plain``, in lower case and without parameters."""
        return self.fields.get("content-type", "").partition(";")[0].strip().lower()


def request(method: str, host: str, path: str, fields: Mapping[str, str], body: bytes = b"") -> bytes:
    """``host`` may end in ``:port``. Raises ValueError for what would be more than one line."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields.items())]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    lines.append("Connection: close")
    if any("\r" in line or "\n" in line or "\0" in line for line in lines) or len(lines[0].split(" ")) != 3:
        raise ValueError("a line break or blank in a request")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class ResponseReader:
    """Feed it what comes; ``response`` is there once it is whole. ``body_limit`` is in bytes."""

    def __init__(self, body_limit: int) -> None:
        self.response: HttpResponse | None = None
        self._limit = body_limit
        self._buffer = bytearray()
        self._status = 0
        self._fields: dict[str, str] | None = None  # None: the head is not whole yet
        self._interim = 0
        self._length: int | None = None  # of the body; None: to the end, or chunked
        self._chunked = False
        self._chunk_left: int | None = None  # of the chunk with its CRLF; None: its size comes next
        self._in_trailer = False
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Raises HttpError."""
        if self.response is not None:
            return
        self._buffer += data
        while self._fields is None and self.response is None:
            if not self._head():
                return
        if self.response is None:
            self._take_body()

    def end(self) -> HttpResponse:
        """The server closed the connection. Raises HttpError when that was too early."""
        if self.response is None:
            if self._fields is None or self._chunked or self._length is not None:
                raise HttpError("the answer ends early")
            self._finish()
        assert self.response is not None
        return self.response

    def _head(self) -> bool:
        """Read one head, if it is whole."""
        end = self._buffer.find(b"\r\n\r\n", 0, _HEAD_LIMIT_BYTES)
        if end < 0:
            if len(self._buffer) >= _HEAD_LIMIT_BYTES:
                raise HttpError("the head of the answer is too long")
            return False
        status, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        found = _STATUS_LINE.fullmatch(status)
        if found is None:
            raise HttpError("no HTTP answer")
        self._status = int(found[1])
        fields = _fields(lines)
        if self._status < 200:
            self._interim += 1
            if self._status == 101 or self._interim > _INTERIM_LIMIT:
                raise HttpError("too many interim answers, or of another protocol")
            return True
        self._fields = fields
        self._body_form(fields)
        return True

    def _body_form(self, fields: Mapping[str, str]) -> None:
        """RFC 9112 §6.3."""
        coding, length = fields.get("transfer-encoding"), fields.get("content-length")
        if fields.get("content-encoding", "identity").lower() != "identity":
            raise HttpError("the answer is encoded, which was not asked for")
        if self._status in (204, 304):
            self._length = 0
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise HttpError("the answer has an unknown transfer coding")
            self._chunked = True
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) <= 12):
                raise HttpError("the answer has no proper length")
            self._length = int(length)
            self._check(self._length)

    def _take_body(self) -> None:
        if self._chunked:
            self._take_chunks()
            return
        self._body += self._buffer
        self._buffer.clear()
        if self._length is None:
            self._check(len(self._body))
        elif len(self._body) >= self._length:
            del self._body[self._length :]
            self._finish()

    def _take_chunks(self) -> None:
        """RFC 9112 §7.1."""
        buffer = self._buffer
        while True:
            if self._chunk_left is None:
                end = buffer.find(b"\r\n", 0, _CHUNK_LINE_LIMIT_BYTES)
                if end < 0:
                    if len(buffer) >= _CHUNK_LINE_LIMIT_BYTES:
                        raise HttpError("a line between chunks is too long")
                    return
                line = bytes(buffer[:end])
                del buffer[: end + 2]
                if self._in_trailer:
                    if not line:
                        self._finish()
                        return
                    self._interim += 1
                    if self._interim > 100:
                        raise HttpError("too many fields after the body")
                    continue
                found = _CHUNK_SIZE.fullmatch(line)
                if found is None:
                    raise HttpError("no proper chunk")
                size = int(found[1], 16)
                self._check(len(self._body) + size)
                self._in_trailer = size == 0
                self._chunk_left = None if size == 0 else size
                continue
            if self._chunk_left:
                taken = buffer[: self._chunk_left]
                self._body += taken
                del buffer[: len(taken)]
                self._chunk_left -= len(taken)
            if self._chunk_left or len(buffer) < 2:
                return
            if buffer[:2] != b"\r\n":
                raise HttpError("a chunk does not end where it says")
            del buffer[:2]
            self._chunk_left = None

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise HttpError(f"the answer is larger than {self._limit} bytes")

    def _finish(self) -> None:
        assert self._fields is not None
        self._check(len(self._body))
        self.response = HttpResponse(self._status, self._fields, bytes(self._body))


def _fields(lines: list[bytes]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise HttpError("no proper field in the head of the answer")
        name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
