"""HTTP answers, whole and in pieces, and those that are none (RFC 9112)."""

from __future__ import annotations

import pytest

from ekiden.protocol.http import HttpError, HttpResponse, ResponseReader, request


def read(data: bytes, *, size: int = 0, limit: int = 1000) -> HttpResponse:
    reader = ResponseReader(limit)
    step = size or len(data) or 1
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    return reader.response or reader.end()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("size", [0, 1, 2, 7])
@pytest.mark.parametrize(
    ("data", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (OK + b"Content-Length: 5\r\n\r\nhelloand more", b"hello"),
        (OK + b"\r\nto the end", b"to the end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 None\r\n\r\n", b""),
    ],
)
def test_bodies(data: bytes, body: bytes, size: int) -> None:
    assert read(data, size=size).body == body


def test_fields() -> None:
    response = read(OK + b"Content-Type: Text/Plain; charset=utf-8\r\nX: a\r\nx:b \r\nContent-Length: 0\r\n\r\n")
    assert (response.status, response.media_type, response.fields["x"]) == (200, "text/plain", "a, b")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"220 mx.test ESMTP\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 999999\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 12,
        OK + b"bad field\r\n\r\n",
        OK + b"A: b\r\n folded\r\n\r\n",
        OK + b"A: " + b"x" * 20000,
        OK + b"Content-Length: 1001\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001 + b"0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 300,
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 200,
        OK + b"\r\n" + b"x" * 1001,
    ],
)
@pytest.mark.parametrize("size", [0, 3])
def test_answers_that_are_none(data: bytes, size: int) -> None:
    with pytest.raises(HttpError):
        read(data, size=size)


def test_a_request() -> None:
    assert request("GET", "h.test", "/a?b", {"X": "y"}) == (
        b"GET /a?b HTTP/1.1\r\nHost: h.test\r\nX: y\r\nConnection: close\r\n\r\n"
    )
    assert request("POST", "h.test:8443", "/", {}, b"body").endswith(
        b"Content-Length: 4\r\nConnection: close\r\n\r\nbody"
    )


@pytest.mark.parametrize(
    ("host", "path", "fields"),
    [
        ("h.test\r\nX: y", "/", {}),
        ("h.test", "/ HTTP/1.1\r\nX: y", {}),
        ("h.test", "/a b", {}),
        ("h.test", "/", {"X": "a\nb"}),
        ("h.test", "/é", {}),
    ],
)
def test_a_request_is_one(host: str, path: str, fields: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        request("GET", host, path, fields)
