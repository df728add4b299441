"""What sendmail does to the bytes of standard input."""

from __future__ import annotations

import io

import pytest

from ekiden.cli.submission import (
    HEADER_LIMIT_BYTES,
    Refused,
    TooLarge,
    checked,
    header_of,
    header_recipients,
    lines,
    without_hidden,
)


def read(data: bytes, *, dot_ends: bool = True, line_ends: str = "always") -> bytes:
    return b"".join(lines(io.BytesIO(data), dot_ends=dot_ends, line_ends=line_ends))


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"", b""),
        (b"a\n.\nb\n", b"a\n"),
        (b"a\n.", b"a\n."),
        (b"a\r\n.\r\nb\r\n", b"a\n"),
        (b"..\n", b"..\n"),
        (b"From x\n>From y\nFrom: z\nFrom w\n", b"From: z\nFrom w\n"),
        (b"x" * 65536 + b".\nmore\n", b"x" * 65536 + b".\nmore\n"),
        (b"x" * 65535 + b"\r\n.\n", b"x" * 65535 + b"\r\n"),
    ],
    ids=range(8),
)
def test_the_end_and_the_line_ends(data: bytes, content: bytes) -> None:
    assert read(data) == content


def test_a_header_is_read_to_its_empty_line() -> None:
    content = iter((b"A: b\n", b" c\n", b"\n", b"body\n"))
    assert header_of(content) == (b"A: b\n c\n", b"\n")
    assert list(content) == [b"body\n"]
    assert header_of(iter((b"A: b\n",))) == (b"A: b\n", b"")
    with pytest.raises(TooLarge):
        header_of(b"x" * 1000 + b"\n" for _ in range(HEADER_LIMIT_BYTES // 1000 + 2))


def test_recipients_of_the_header() -> None:
    header = b"to: A <a@x.example>,\n b@x.example\nCC : c@x.example\nX-To: no@x.example\nbcc: d@x.example\n"
    assert header_recipients(header, 10) == ["a@x.example", "b@x.example", "c@x.example", "d@x.example"]
    assert header_recipients(b"Resent-Cc: r@x.example\n" + header, 10) == ["r@x.example"]
    with pytest.raises(Refused, match="extract_recipient_limit = 3"):
        header_recipients(header, 3)
    assert without_hidden(header + b"Resent-Bcc: e@x.example,\n f@x.example\n") == header.partition(b"bcc")[0]


@pytest.mark.parametrize("words", ["", "<>", "a b@c@d", "group:;,"])
def test_what_is_no_recipient_is_refused(words: str) -> None:
    with pytest.raises(Refused):
        checked(["fine@x.example", words])
