"""The end-of-message detector: what ends a message, what comes out, in every cut."""

from __future__ import annotations

import itertools
import json

import pytest

from ekiden.message.newlines import bare_newlines
from ekiden.protocol.smtp.data import BareNewline, DataReceiver
from support.dialogs import chunks
from support.requirements import require_conformance

END = b"\r\n.\r\n"
LENIENT = (BareNewline.NORMALIZE, BareNewline.NOTE, BareNewline.ALLOW)


def receive(data: bytes, chunk: int, mode: BareNewline, size_limit: int = 0) -> tuple[bytes, DataReceiver, bytes]:
    """The content that came out, the receiver, and what is behind the end of the message."""
    receiver = DataReceiver(bare_newline=mode, size_limit=size_limit)
    out, at = b"", 0
    for part in chunks(data, chunk):
        at += len(part)
        out += receiver.feed(part)
        if receiver.ended:
            return out, receiver, data[at - receiver.unused :]
    return out, receiver, b""


@pytest.mark.parametrize("mode", list(BareNewline))
@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("tail", "ends"),
    [
        (b"\r\n.\r\n", True),
        (b"\n.\r\n", False),
        (b"\r\n.\n", False),
        (b"\n.\n", False),
        (b"\r.\r\n", False),
        (b"\r.\r", False),
        (b"\r\n.\r", False),
        (b"\r\n.\r\r\n", False),
        (b"\r\r\n.\r\r\n", False),
        (b"\r\n.\x00\r\n", False),
        (b"\r\n\x00.\r\n", False),
        (b"\r\n..\r\n", False),
        (b"\r\n. \r\n", False),
        (b"\n\r.\r\n", False),
        (b"\r\n\r.\r\n", False),
    ],
)
def test_only_crlf_dot_crlf_ends_a_message(tail: bytes, ends: bool, chunk: int, mode: BareNewline) -> None:
    _, receiver, _ = receive(b"hello" + tail, chunk, mode)
    assert receiver.ended is ends


@pytest.mark.parametrize("mode", list(BareNewline))
def test_no_known_smuggling_sequence_ends_a_message(mode: BareNewline) -> None:
    known = json.loads(require_conformance("smtp", "smuggling-eod-sequences.json").read_text("utf-8"))
    sequences = {*known["inbound_eod_sequences"], *known["outbound_eod_sequences"]}
    assert len(sequences) >= 9
    for sequence in sequences:
        attack = b"hello" + sequence.encode("latin-1") + b"MAIL FROM:<x@y.example>\r\n"
        for chunk in range(len(attack) + 1):
            _, receiver, rest = receive(attack + b".\r\nNOOP\r\n", chunk, mode)
            assert receiver.ended
            assert rest == b"NOOP\r\n", (sequence, chunk)
            bare = sequence not in ("\r\n\0.\r\n",)
            assert receiver.has_bare_newline is bare
            assert (receiver.refusal is not None) is (bare and mode is BareNewline.REJECT)


@pytest.mark.parametrize("chunk", range(12))
@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
        (b"a\r\n...b\r\n.\r\n", b"a\r\n..b\r\n"),
        (b".x\r\n.\r\n", b"x\r\n"),
        (b"a.b\r\nc.\r\n.\r\n", b"a.b\r\nc.\r\n"),
        (b"\r\n\r\n..\r\n\r\n.\r\n", b"\r\n\r\n.\r\n\r\n"),
        (b"\xff\x00\x80\r\n.\r\n", b"\xff\x00\x80\r\n"),
    ],
)
@pytest.mark.parametrize("mode", list(BareNewline))
def test_dot_stuffing_is_undone(sent: bytes, content: bytes, chunk: int, mode: BareNewline) -> None:
    out, receiver, rest = receive(sent + b"QUIT\r\n", chunk, mode)
    assert (out, receiver.size, rest) == (content, len(content), b"QUIT\r\n")
    assert receiver.refusal is None
    assert not receiver.has_bare_newline


@pytest.mark.parametrize("chunk", range(8))
@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b"a\nb\r\n", b"a\r\nb\r\n"),
        (b"\n\n\r\n", b"\r\n\r\n\r\n"),
        (b"a\rb\r\n", b"a b\r\n"),
        (b"a\r\r\nb\r\n", b"a \r\nb\r\n"),
        (b"a\n\rb\r\n", b"a\r\n b\r\n"),
        (b"a\n..b\n.c\r\n", b"a\r\n.b\r\nc\r\n"),
        (b"a\n.\nb\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\r\n.\nb\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\n.\r\nb\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\r.\r\n", b"a .\r\n"),
    ],
)
@pytest.mark.parametrize("mode", LENIENT)
def test_bare_newlines_are_made_whole(sent: bytes, content: bytes, chunk: int, mode: BareNewline) -> None:
    out, receiver, _ = receive(sent + b".\r\n", chunk, mode)
    assert receiver.ended
    assert out == content
    assert receiver.has_bare_newline
    assert receiver.refusal is None


@pytest.mark.parametrize("chunk", range(6))
@pytest.mark.parametrize(
    ("sent", "text"),
    [(b"a\nb", "<LF>"), (b"a\rb", "<CR>"), (b"a\rb\nc", "<LF>"), (b"\n", "<LF>"), (b"\r", "<CR>"), (b"\r\r\n", "<CR>")],
)
def test_bare_newlines_are_refused_and_the_rest_let_go(sent: bytes, text: str, chunk: int) -> None:
    out, receiver, rest = receive(sent + b"secret" * 10 + END + b"x", chunk, BareNewline.REJECT)
    assert receiver.ended
    assert rest == b"x"
    assert receiver.refusal is not None
    assert receiver.refusal.reply.text == f"550 5.5.2 Error: bare {text} received"
    assert b"\n" not in out


@pytest.mark.parametrize("chunk", [0, 1, 3, 100])
def test_content_over_the_limit_is_let_go(chunk: int) -> None:
    lines = b"123456\r\n" * 10
    out, receiver, _ = receive(lines + b".\r\n", chunk, BareNewline.REJECT, size_limit=80)
    assert out == lines
    assert receiver.refusal is None
    out, receiver, rest = receive(b"." + lines + b"+" + END + b"R", chunk, BareNewline.REJECT, size_limit=80)
    assert receiver.ended
    assert rest == b"R"
    assert len(out) <= 80
    assert receiver.refusal is not None
    assert receiver.refusal.reply.text == "552 5.3.4 Error: message file too big"


def test_a_bare_newline_counts_more_than_the_size_whatever_came_first() -> None:
    for data in (b"a" * 100 + b"\n" + END, b"\n" + b"a" * 100 + END):
        _, receiver, _ = receive(data, 10, BareNewline.REJECT, size_limit=50)
        assert receiver.refusal is not None
        assert receiver.refusal.reason == "bare-newline"


@pytest.mark.parametrize("length", range(8))
def test_bare_newlines_are_those_that_a_plain_reader_finds(length: int) -> None:
    for letters in itertools.product(b"\r\n.x\xff", repeat=length):
        content = bytes(letters)
        rest = content.replace(b"\r\n", b"")
        assert bare_newlines(content) == (b"\n" in rest, b"\r" in rest), content
