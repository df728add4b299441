"""Replies of servers, good and bad (RFC 5321 §4.2)."""

from __future__ import annotations

import pytest

from ekiden.message.reply import Reply
from ekiden.message.status import Status
from ekiden.protocol.smtp.replies import ReplyLimits, ReplyReader, ReplyTrouble, status_of

LIMITS = ReplyLimits()


def read(data: bytes, chunk: int = 0, limits: ReplyLimits = LIMITS) -> list[Reply]:
    reader = ReplyReader(limits)
    found = []
    for at in range(0, len(data), chunk or len(data)):
        reader.receive(data[at : at + (chunk or len(data))])
        while (reply := reader.next()) is not None:
            found.append(reply)
    return found


GOOD = [
    (b"250 2.1.0 Ok\r\n", [(250, "2.1.0", ("Ok",))]),
    (b"250 Ok\r\n", [(250, None, ("Ok",))]),
    (b"250\r\n", [(250, None, ("",))]),
    (b"250 \r\n", [(250, None, ("",))]),
    (b"250 2.1.0 Ok\n", [(250, "2.1.0", ("Ok",))]),
    (b"550 5.7.2\r\n", [(550, "5.7.2", ("",))]),
    (b"550-5.7.2\r\n550 5.7.2\r\n", [(550, "5.7.2", ("", ""))]),
    (b"550-5.7.1 no\r\n550 5.7.1 way\r\n", [(550, "5.7.1", ("no", "way"))]),
    (b"550-5.7.1 no\r\n554 5.7.1 way\r\n", [(554, "5.7.1", ("no", "way"))]),
    (b"550 2.0.0 liar\r\n", [(550, None, ("2.0.0 liar",))]),
    (b"550-No mailbox\r\n550 5.1.1 User unknown\r\n", [(550, "5.1.1", ("No mailbox", "User unknown"))]),
    (b"550-5.1.1 No mailbox\r\n550 User unknown\r\n", [(550, "5.1.1", ("No mailbox", "User unknown"))]),
    (b"250 5.1.1 liar\r\n", [(250, None, ("5.1.1 liar",))]),
    (b"250 2.1.0.9 Ok\r\n", [(250, None, ("2.1.0.9 Ok",))]),
    (b"220-a\r\n220 b\r\n354 go\r\n", [(220, None, ("a", "b")), (354, None, ("go",))]),
    (b"550 5.1.1 a\x00b\tc\x1b[31m\r\n", [(550, "5.1.1", ("a?b c?[31m",))]),
    ("550 5.1.1 宛先\r\n".encode(), [(550, "5.1.1", ("宛先",))]),
    (b"421 4.3.2 bye\r\n", [(421, "4.3.2", ("bye",))]),
]


@pytest.mark.parametrize(("data", "expected"), GOOD)
@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 7])
def test_replies_are_read_in_any_chunking(
    data: bytes, expected: list[tuple[int, str | None, tuple[str, ...]]], chunk: int
) -> None:
    found = [(reply.code, str(reply.status) if reply.status else None, reply.lines) for reply in read(data, chunk)]
    assert found == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n", b"hello\r\n", b"25\r\n", b"2500 x\r\n", b"250Ok\r\n", b"250_Ok\r\n", b"199 x\r\n", b"650 x\r\n",
        b" 250 x\r\n",
        b"250-a\r\n550 b\r\n", b"450-a\r\n250 b\r\n", b"250-a\r\nb\r\n", b"\x16\x03\x01\x02\x00\n",
        b"HTTP/1.1 400 Bad\r\n",
        b"\xb2\xb5\xb0 x\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_what_is_no_reply_is_trouble(data: bytes, chunk: int) -> None:
    with pytest.raises(ReplyTrouble) as caught:
        read(data, chunk)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("chunk", [0, 1, 1000])
def test_a_reply_is_bounded_in_line_lines_and_size(chunk: int) -> None:
    limits = ReplyLimits(line_bytes=600, lines=10, reply_bytes=2000)
    assert read(b"250 " + b"x" * 594 + b"\r\n", chunk, limits)
    for data in (b"x" * 601, b"250 " + b"x" * 595 + b"\r\n", b"250-x\r\n" * 11, (b"250-" + b"x" * 500 + b"\r\n") * 4):
        with pytest.raises(ReplyTrouble, match="more than"):
            read(data, chunk, limits)


def test_a_megabyte_of_reply_is_trouble_and_not_kept() -> None:
    reader = ReplyReader(ReplyLimits())

    def hear_a_megabyte() -> None:
        for _ in range(20_000):
            reader.receive(b"250-" + b"x" * 60 + b"\r\n")
            reader.next()

    with pytest.raises(ReplyTrouble, match="more than"):
        hear_a_megabyte()


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (250, None, "2.0.0"), (550, "5.1.1", "5.1.1"), (550, None, "5.0.0"), (554, None, "5.0.0"), (421, None, "4.3.2"),
        (452, None, "4.3.1"), (556, None, "5.1.10"), (499, None, "4.0.0"),
    ],
)  # fmt: skip
def test_every_reply_has_a_status_of_its_own_class(code: int, status: str | None, expected: str) -> None:
    assert str(status_of(Reply(code, Status.parse(status) if status else None, ("x",)))) == expected


def test_a_reply_remembered_by_its_line_does_not_take_part_in_another() -> None:
    assert [reply.lines for reply in read(b"250 b\r\n250-a\r\n250 b\r\n250 b\r\n")] == [("b",), ("a", "b"), ("b",)]
