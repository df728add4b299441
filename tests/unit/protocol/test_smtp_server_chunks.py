"""BDAT: what a client sends in chunks, cut anywhere, and what becomes of chunks that belong nowhere."""

from __future__ import annotations

import pytest

from ekiden.message.reply import Reply, reply
from ekiden.protocol.smtp import commands
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.chunks import ChunkReceiver
from ekiden.protocol.smtp.commands import Content, EndOfChunk, EndOfContent, Event, FirstChunk, Invalid, Question
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.server import SmtpServer, State
from ekiden.protocol.smtp.verbs import Rules

CUTS = (1, 2, 3, 7, 100_000)
OFFER = frozenset({"CHUNKING", "BINARYMIME"})
ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
BINARY = ENVELOPE.replace(b">\r\nRCPT", b"> BODY=BINARYMIME\r\nRCPT")


def server(*, size_limit: int = 0, bare: BareNewline = BareNewline.REJECT, limits: Limits | None = None) -> SmtpServer:
    return SmtpServer(rules=Rules(limits or Limits(), size_limit, False), bare_newline=bare)


def answer_to(event: Question) -> Reply:
    if isinstance(event, Invalid):
        return event.reply
    if isinstance(event, EndOfContent | EndOfChunk) and event.refusal is not None:
        return event.refusal.reply
    if isinstance(event, commands.Data):
        return replies.SEND_CONTENT
    return replies.BYE if isinstance(event, commands.Quit) else replies.OK


def hold(core: SmtpServer, talk: bytes, cut: int = 100_000) -> tuple[list[Event], bytes]:
    """The questions, and all content."""
    events: list[Event] = []
    content = b""
    for at in range(0, len(talk), cut):
        core.receive(talk[at : at + cut])
        while (event := core.next_event()) is not None:
            if isinstance(event, Content):
                content += event.data
                continue
            events.append(event)
            if isinstance(event, FirstChunk):
                continue
            if isinstance(event, commands.Helo):
                core.offer(OFFER if event.extended else frozenset())
            core.reply(answer_to(event))
    return events, content


def chunked(*chunks: bytes, last: bool = True) -> bytes:
    return b"".join(
        b"BDAT %d%s\r\n%s" % (len(chunk), b" LAST" if last and at == len(chunks) - 1 else b"", chunk)
        for at, chunk in enumerate(chunks)
    )


@pytest.mark.parametrize("cut", CUTS)
def test_content_is_what_was_counted(cut: int) -> None:
    """RFC 3030 §2: no dot means anything, and no line end is added inside."""
    text = b"Subject: x\r\n\r\n.\r\n..\r\n\r\n.\r\nQUIT\r\n"
    for at in range(len(text)):
        events, content = hold(server(), ENVELOPE + chunked(text[:at], text[at:]) + b"NOOP\r\n", cut)
        assert content == text
        assert [type(event).__name__ for event in events[3:]] == ["FirstChunk", "EndOfChunk", "EndOfContent", "Noop"]
        assert events[-2] == EndOfContent(None, len(text))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("sent", "stored"),
    [(b"", b""), (b"x", b"x\r\n"), (b"x\r\n", b"x\r\n"), (b"x\r\ny", b"x\r\ny\r\n"), (b"\r\n", b"\r\n")],
)
def test_text_ends_in_a_line_end(cut: int, sent: bytes, stored: bytes) -> None:
    events, content = hold(server(), ENVELOPE + chunked(sent), cut)
    assert content == stored
    assert events[-1] == EndOfContent(None, len(stored))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"a\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n", b"a b\r\n"),
        (b"a\r", b"a \r\n"),
        (b"a\n", b"a\r\n"),
        (b"\r\r\n", b" \r\n"),
        (b"\n\r", b"\r\n \r\n"),
        (b"\n.\n.\r\n.\n", b"\r\n.\r\n.\r\n.\r\n"),
        (b"a\r\n.\r\r\n", b"a\r\n. \r\n"),
    ],
)
def test_bare_newlines(cut: int, sent: bytes, stored: bytes) -> None:
    for at in range(len(sent) + 1):
        talk = ENVELOPE + chunked(sent[:at], sent[at:], b"")
        for mode in (BareNewline.NORMALIZE, BareNewline.NOTE, BareNewline.ALLOW):
            events, content = hold(server(bare=mode), talk, cut)
            assert content == stored
            assert events[-1] == EndOfContent(None, len(stored), has_bare_newline=True)
        events, _ = hold(server(), talk, cut)
        assert isinstance(events[-1], EndOfContent)
        assert events[-1].refusal is not None


@pytest.mark.parametrize("cut", CUTS)
def test_binary_content_is_left_alone(cut: int) -> None:
    """RFC 3030 §3"""
    octets = b"MIME-Version: 1.0\r\n\r\n" + bytes(range(256)) + b"\n\r\x00\r\n.\r"
    for bare in BareNewline:
        events, content = hold(server(bare=bare), BINARY + chunked(octets[:100], octets[100:]), cut)
        assert content == octets
        assert events[-1] == EndOfContent(None, len(octets))


def test_the_next_message_may_be_text_again() -> None:
    core = server()
    hold(core, BINARY + chunked(b"a\nb"))
    events, _ = hold(core, ENVELOPE + chunked(b"a\nb\r\n"))
    assert isinstance(events[-1], EndOfContent)
    assert events[-1].refusal is not None
    assert events[-1].refusal.reason == "bare-newline"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("before", [b"", b"EHLO c\r\n", b"EHLO c\r\nMAIL FROM:<a@b>\r\n", b"HELO c\r\n", ENVELOPE[16:]])
def test_octets_of_a_chunk_that_belongs_nowhere_are_no_commands(before: bytes, cut: int) -> None:
    hidden = b"MAIL FROM:<evil@b>\r\nRCPT TO:<x@y>\r\nQUIT\r\n"
    events, content = hold(server(), before + chunked(hidden) + b"NOOP\r\n", cut)
    assert content == b""
    assert isinstance(events[-2], Invalid)
    assert events[-2].reply.code in (502, 503, 554)
    assert type(events[-1]) is commands.Noop


@pytest.mark.parametrize("cut", CUTS)
def test_after_a_refused_chunk_everything_is_refused_and_read(cut: int) -> None:
    """RFC 3030 §2"""
    core = server()
    events, content = hold(core, ENVELOPE + chunked(b"x\ny\n", last=False), cut)
    assert core.state is State.CHUNK_REFUSED
    for _ in range(3):
        events, content = hold(core, chunked(b"QUIT\r\n", last=False), cut)
        assert isinstance(events[0], EndOfChunk)
        assert events[0].refusal is not None
        assert events[0].refusal.reply.code == 503
        assert content == b""
    for line in (b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<a@b>\r\n", b"DATA\r\n"):
        ((refused,), _) = hold(core, line, cut)
        assert isinstance(refused, Invalid)
        assert refused.reply.code == 503
    events, content = hold(core, chunked(b"QUIT\r\n") + ENVELOPE[16:] + chunked(b"ok\r\n"), cut)
    assert content == b"ok\r\n"
    assert events[-1] == EndOfContent(None, 4)


@pytest.mark.parametrize("end", [b"RSET\r\n", b"EHLO c.example\r\n"])
def test_a_message_can_be_given_up_between_two_chunks(end: bytes) -> None:
    core = server()
    hold(core, ENVELOPE + chunked(b"first\r", last=False) + end)
    assert core.state is State.GREETED
    events, content = hold(core, ENVELOPE + chunked(b"second\r\n"))
    assert content == b"second\r\n"
    assert events[-1] == EndOfContent(None, 8)


def test_a_driver_may_refuse_a_chunk() -> None:
    core = server()
    core.receive(ENVELOPE + chunked(b"x\r\n", last=False))
    while not isinstance(event := core.next_event(), EndOfChunk):
        assert event is not None
        if isinstance(event, commands.Helo):
            core.offer(OFFER)
        if not isinstance(event, Content | FirstChunk):
            core.reply(replies.OK)
    core.reply(reply(452, "4.3.1", "full"))
    assert core.state is State.CHUNK_REFUSED


def test_a_message_over_the_limit_is_refused_in_the_chunk_that_goes_over_it() -> None:
    core = server(size_limit=10)
    events, content = hold(core, ENVELOPE + chunked(b"12345678\r\n", b"x", b""))
    assert content == b"12345678\r\n"
    refusals = [event.refusal for event in events if isinstance(event, EndOfChunk | EndOfContent)]
    assert [refusal and refusal.reason for refusal in refusals] == [None, "message-too-big", "after-refused-chunk"]


def test_line_ends_that_are_added_count() -> None:
    events, _ = hold(server(size_limit=10, bare=BareNewline.NORMALIZE), ENVELOPE + chunked(b"\n" * 6))
    assert isinstance(events[-1], EndOfContent)
    assert events[-1].refusal is not None
    assert events[-1].refusal.reason == "message-too-big"


@pytest.mark.parametrize("envelope", [ENVELOPE, b"EHLO c\r\n", b"", b"HELO c\r\n"])
def test_nobody_waits_for_a_refused_chunk_without_end(envelope: bytes) -> None:
    core = server(size_limit=1000, limits=Limits(refused_chunk_bytes=5000))
    events, _ = hold(core, envelope + b"BDAT 5000\r\n" + b"x" * 5000 + b"NOOP\r\n")
    assert type(events[-1]) is commands.Noop
    events, _ = hold(core, b"BDAT 5001 LAST\r\nNOOP\r\n")
    assert isinstance(events[-1], Invalid)
    assert events[-1].reply.closes
    assert core.closed


@pytest.mark.parametrize(
    "line",
    [
        b"BDAT",
        b"BDAT x",
        b"BDAT -1",
        b"BDAT 5 LAST x",
        b"BDAT 5 FIRST",
        b"BDAT " + b"1" * 21,
        b"BDAT 5\0",
        b"BDAT 5\t6",
        b"bdat 1 2",
    ],
)
def test_a_count_that_cannot_be_read_ends_the_session(line: bytes) -> None:
    core = server()
    events, _ = hold(core, ENVELOPE + line + b"\r\nNOOP\r\n")
    assert events[-1] == Invalid("BDAT", replies.BDAT_SYNTAX, "syntax")
    assert core.closed


def test_nothing_makes_a_command_of_a_chunk() -> None:
    """smtpd_noop_commands = BDAT would leave its octets to be read as commands."""
    rules = Rules(Limits(), 0, False, is_noop=lambda verb: verb in (b"BDAT", b"HELP"))
    core = SmtpServer(rules=rules, bare_newline=BareNewline.REJECT)
    events, content = hold(core, ENVELOPE + chunked(b"QUIT\r\n") + b"HELP\r\n")
    assert content == b"QUIT\r\n"
    assert type(events[-1]) is commands.Noop


def test_little_is_held_however_large_the_chunk() -> None:
    core = server(size_limit=0)
    hold(core, ENVELOPE)
    core.receive(b"BDAT 50000000 LAST\r\n")
    assert isinstance(core.next_event(), FirstChunk)
    for _ in range(100):
        core.receive(b"x" * 50_000)
        while (event := core.next_event()) is not None:
            assert isinstance(event, Content)
        assert not core._lines.waits
    assert core.state is State.RECIPIENTS


def test_a_receiver_holds_one_octet() -> None:
    receiver = ChunkReceiver(bare_newline=BareNewline.REJECT, size_limit=0, binary=False)
    assert receiver.feed(b"abc\r") == b"abc"
    assert receiver.feed(b"\n") == b"\r\n"
    assert receiver.refusal is None
