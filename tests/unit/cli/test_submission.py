"""What sendmail does to the bytes of standard input."""

from __future__ import annotations

import io
import re

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
    # A line that is no field begins the body; a long line comes in several pieces.
    assert header_of(iter((b"A: b", b"ccc\n", b"no field\n", b"B: d\n"))) == (b"A: bccc\n", b"no field\n")
    assert header_of(iter((b" A: b\n", b"C: d\n"))) == (b"", b" A: b\n")
    with pytest.raises(TooLarge):
        header_of(b"X: " + b"x" * 1000 + b"\n" for _ in range(HEADER_LIMIT_BYTES // 1000 + 2))


def test_recipients_of_the_header() -> None:
    header = b"to: A <a@x.example>,\n b@x.example\nCC : c@x.example\nX-To: no@x.example\nbcc: d@x.example\n"
    assert header_recipients(header, 10) == ["a@x.example", "b@x.example", "c@x.example", "d@x.example"]
    assert header_recipients(b"Resent-Cc: r@x.example\n" + header, 10) == ["r@x.example"]
    with pytest.raises(Refused, match="extract_recipient_limit = 3"):
        header_recipients(header, 3)
    assert without_hidden(header + b"Resent-Bcc: e@x.example,\n f@x.example\n") == header.partition(b"bcc")[0]


@pytest.mark.parametrize(
    ("field", "recipients"),
    [
        (b"To: group: a@x.example, B <b@x.example>;, undisclosed-recipients:;", ["a@x.example", "b@x.example"]),
        (b'To: "A, (B)" <a@x.example> (c, d@x.example)', ["a@x.example"]),
        (b"To: joe jim,,<@relay.example:far@x.example>", ["joe", "jim", "far@x.example"]),
        (b'To: "a b"@x.example, c . d @ x.example', ['"a b"@x.example', "c.d@x.example"]),
        (
            b"To: host!user, a%b@x.example, =?utf-8?q?=C3=A9?= <e@x.example>",
            ["host!user", "a%b@x.example", "e@x.example"],
        ),
    ],
)
def test_the_addresses_of_a_field(field: bytes, recipients: list[str]) -> None:
    assert header_recipients(field + b"\n", 10) == recipients


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"To: a@x.example\nCC: <b@x>y.example>,\n c@x.example\n", "bad address in the field CC: "),
        (b"Bcc: a@x..example\n", "bad address in the field Bcc: 'a@x..example'; the message was not taken"),
        (b"To: @x.example\n", "bad address in the field To: '@x.example'"),
        (b"To: a<b@x.example\n", "bad address in the field To: 'a<b@x.example'"),
    ],
)
def test_a_field_with_what_is_no_address_is_refused_by_name(header: bytes, text: str) -> None:
    with pytest.raises(Refused, match=re.escape(text)):
        header_recipients(header, 10)


def test_a_list_on_the_command_line() -> None:
    assert checked(["A <a@x.example>, b@x.example", " c "]) == ["a@x.example", "b@x.example", "c"]


@pytest.mark.parametrize("words", ["", "<>", "a b@c@d", "group:;,"])
def test_what_is_no_recipient_is_refused(words: str) -> None:
    with pytest.raises(Refused):
        checked(["fine@x.example", words])
