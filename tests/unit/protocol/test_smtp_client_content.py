"""The client's side of the end-of-message truth table: no line end but CRLF, no dot of its own."""

from __future__ import annotations

import re

import pytest

from ekiden.protocol.smtp.client_content import ContentEncoder

CASES = [
    (b"", b".\r\n"),
    (b"a\r\n", b"a\r\n.\r\n"),
    (b"a", b"a\r\n.\r\n"),
    (b".", b"..\r\n.\r\n"),
    (b".\r\n", b"..\r\n.\r\n"),
    (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
    (b"a\r\n..b\r\n.\r\n.", b"a\r\n...b\r\n..\r\n..\r\n.\r\n"),
    (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
    (b"a\r.\rb\r\n", b"a . b\r\n.\r\n"),
    (b"a\n.\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
    (b"a\r\n.\rb", b"a\r\n.. b\r\n.\r\n"),
    (b"a\r\r\nb\r\n", b"a \r\nb\r\n.\r\n"),
    (b"a\r", b"a\r\n.\r\n"),
    (b"\r", b"\r\n.\r\n"),
    (b"\n", b"\r\n.\r\n"),
    (b"a\r\n.\x00\r\n", b"a\r\n..\x00\r\n.\r\n"),
]


def encode(data: bytes, chunk: int, limit: int = 998) -> bytes:
    encoder = ContentEncoder(limit)
    pieces = [encoder.encode(data[at : at + chunk]) for at in range(0, len(data), chunk)]
    return b"".join(pieces) + encoder.end()


@pytest.mark.parametrize(("data", "wire"), CASES)
@pytest.mark.parametrize("chunk", [1, 2, 3, 4096])
def test_dots_are_stuffed_and_line_ends_are_whole(data: bytes, wire: bytes, chunk: int) -> None:
    assert encode(data, chunk) == wire
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", wire) is None


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 4096])
@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"12345678\r\n", b"12345678\r\n"),
        (b"123456789\r\n", b"12345678\r\n 9\r\n"),
        (b"1234567890abcdefg\r\nx\r\n", b"12345678\r\n 90abcde\r\n fg\r\nx\r\n"),
        (b"x\r\n.2345678\r\n", b"x\r\n..2345678\r\n"),
        (b".2345678.\r\n", b"..2345678\r\n .\r\n"),
        (b"1234567\r8\r\n", b"1234567 \r\n 8\r\n"),
    ],
)
def test_long_lines_are_broken_by_a_line_end_and_a_space(data: bytes, wire: bytes, chunk: int) -> None:
    assert encode(data, chunk, limit=8) == wire + b".\r\n"


def test_a_limit_of_zero_breaks_no_line() -> None:
    assert encode(b"x" * 100_000, 4096, limit=0) == b"x" * 100_000 + b"\r\n.\r\n"


@pytest.mark.parametrize("chunk", [999, 1000, 1001, 4096, 100_000])
def test_lines_at_the_limit_pass_as_they_are(chunk: int) -> None:
    data = (b"x" * 998 + b"\r\n") * 50
    assert encode(data, chunk) == data + b".\r\n"
    assert encode(b"y" * 999 + b"\r\n" + data, chunk) == b"y" * 998 + b"\r\n y\r\n" + data + b".\r\n"
