"""Any bytes, in any chunking, are the same answer within its limit, or an HttpError; never another exception."""

from __future__ import annotations

from ekiden.protocol.http import HttpError, HttpResponse, ResponseReader

SEEDS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 302 Found\r\nLocation: https://x.test/\r\n\r\nbody to the end",
    b"HTTP/1.1 204 No Content\r\n\r\n",
]
_LIMIT = 64


def read(data: bytes, size: int) -> HttpResponse | None:
    reader = ResponseReader(_LIMIT)
    try:
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
            if reader.response is not None:
                return reader.response
        return reader.end()
    except HttpError:
        return None


def one_input(data: bytes) -> None:
    whole = read(data, len(data) or 1)
    for size in (1, 3):
        assert read(data, size) == whole
    if whole is not None:
        assert len(whole.body) <= _LIMIT
        assert 200 <= whole.status <= 999
