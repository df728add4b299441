"""The server core as its driver sees it: events, replies, memory."""

from __future__ import annotations

import sys

import pytest

from ekiden.message.address import Address
from ekiden.message.envelope import BodyType
from ekiden.message.reply import Reply, reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import (
    Content,
    Data,
    EndOfContent,
    Event,
    Helo,
    Help,
    Invalid,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    Vrfy,
)
from ekiden.protocol.smtp.server import BareNewline, Limits, SmtpServer, State, ehlo_reply
from ekiden.protocol.smtp.verbs import Rules
from support.dialogs import chunks
from support.honours import honours

ANSWERS: dict[type, Reply] = {
    Helo: ehlo_reply("mail.example", ("PIPELINING",)),
    Mail: replies.SENDER_OK,
    Rcpt: replies.RECIPIENT_OK,
    Data: replies.SEND_CONTENT,
    EndOfContent: replies.OK,
    Quit: replies.BYE,
}
ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"


def new_core(bare_newline: BareNewline = BareNewline.REJECT, size_limit: int = 0) -> SmtpServer:
    return SmtpServer(rules=Rules(Limits(), size_limit, False), bare_newline=bare_newline)


def drain(core: SmtpServer) -> list[Event]:
    events: list[Event] = []
    while (event := core.next_event()) is not None:
        events.append(event)
        if isinstance(event, Content):
            continue
        core.reply(event.reply if isinstance(event, Invalid) else ANSWERS.get(type(event), replies.OK))
    return events


def one(line: bytes, core: SmtpServer | None = None) -> Event:
    core = core or new_core()
    core.receive(line + b"\r\n")
    (event,) = drain(core)
    return event


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"EHLO client.example", Helo("client.example", True)),
        (b"helo client.example", Helo("client.example", False)),
        (b"EHLO [IPv6:2001:db8::1]", Helo("[IPv6:2001:db8::1]", True)),
        (b'EHLO a b <x> (y) \\ ; " @', Helo("a?b??x???y?????????", True)),
        ("EHLO grüße".encode(), Helo("gr????e", True)),
        (b"MAIL FROM:<a@b.example>", Mail(Address("a", "b.example"))),
        (b"MAIL FROM:<>", Mail(Address(""))),
        (
            b"Mail From:<a@b.example> Size=10 Body=8BitMime",
            Mail(Address("a", "b.example"), 10, BodyType.EIGHT_BIT_MIME),
        ),
        (
            b"MAIL FROM:<a@b.example> BODY=8BITMIME SIZE=10",
            Mail(Address("a", "b.example"), 10, BodyType.EIGHT_BIT_MIME),
        ),
        (b"MAIL FROM:<a@b.example> BODY=7BIT", Mail(Address("a", "b.example"))),
        (b'MAIL FROM:<"a b"@b.example>  SIZE=0', Mail(Address("a b", "b.example"), 0)),
        (b"MAIL FROM: test@example.com", Mail(Address("test", "example.com"))),
        (b"NOOP", Noop()),
        (b"NOOP x y", Noop()),
        (b"HELP", Help()),
        (b"RSET", Rset()),
        (b"VRFY <a@b>", Vrfy(Address("a", "b"))),
        (b"QUIT", Quit()),
        (b" QUIT ", Quit()),
    ],
)
def test_commands(line: bytes, event: Event) -> None:
    assert one(line) == event


@pytest.mark.parametrize("line", [b"MAIL FROM:<a@b.example>", b"mail from: <a@b.example> "])
def test_the_common_form_and_the_full_parser_agree(line: bytes) -> None:
    assert one(line) == Mail(Address("a", "b.example"))


@pytest.mark.parametrize(
    ("line", "verb", "reason", "code"),
    [
        (b"", "", "syntax", 500),
        (b"   ", "", "syntax", 500),
        (b"XYZZY now", "XYZZY", "unknown-command", 500),
        (b"STARTTLS", "STARTTLS", "not-implemented", 502),
        (b"burl 1", "BURL", "not-implemented", 502),
        (b"DATA", "DATA", "bad-sequence", 503),
        (b"RCPT TO:<a@b>", "RCPT", "bad-sequence", 503),
        (b"MAIL FROM:<a@b@c>", "MAIL", "bad-address", 501),
        (b"MAIL FROM:<a@b> X=1", "MAIL", "unknown-parameter", 555),
        (b"NOOP \x00", "NOOP", "control-character", 501),
        (b"NOOP \r", "NOOP", "bare-newline", 501),
        (b"X" * 3000, "", "line-too-long", 500),
        (b"GET / HTTP/1.1", "GET", "not-smtp", 221),
        (b"\x16\x03\x01", "", "not-smtp", 221),
        (b"<" * 3000, "", "not-smtp", 221),
        ("é".encode(), "", "not-smtp", 221),
        (b"A" * 1000, "A" * 64, "unknown-command", 500),
        ("Aé".encode(), "A??", "unknown-command", 500),
    ],
)
@pytest.mark.parametrize("chunk", [0, 1, 100])
def test_refusals(line: bytes, verb: str, reason: str, code: int, chunk: int) -> None:
    core = new_core()
    events: list[Event] = []
    for part in chunks(line + b"\r\n", chunk):
        core.receive(part)
        events += drain(core)
    (event,) = events
    assert isinstance(event, Invalid)
    assert (event.verb, event.reason, event.reply.code) == (verb, reason, code)
    assert core.closed is event.reply.closes


def test_junk_is_marked_on_refusals_too() -> None:
    event = one(b"RSET now")
    assert isinstance(event, Invalid)
    assert event.junk


def test_one_question_at_a_time() -> None:
    core = new_core()
    core.receive(b"NOOP\r\nRSET\r\n")
    assert core.next_event() == Noop()
    assert core.next_event() is None
    core.reply(replies.OK)
    assert core.next_event() == Rset()
    core.reply(replies.OK)
    assert core.next_event() is None
    assert core.take_output() == b"250 2.0.0 Ok\r\n" * 2
    assert core.take_output() == b""


def test_a_reply_without_a_question_is_a_bug() -> None:
    with pytest.raises(RuntimeError):
        new_core().reply(replies.OK)


def test_a_burst_gets_its_replies_in_one_write() -> None:
    core = new_core()
    core.receive(ENVELOPE)
    drain(core)
    assert core.state is State.CONTENT
    assert core.take_output().count(b"\r\n") == 5


@pytest.mark.parametrize("chunk", [0, 1, 2, 50])
def test_a_message_and_what_follows(chunk: int) -> None:
    core, events = new_core(), list[Event]()
    for part in chunks(ENVELOPE + b"one\r\n..two\r\n.\r\nNOOP\r\nMAIL FROM:<x@y.example>\r\n", chunk):
        core.receive(part)
        events += drain(core)
    content = b"".join([event.data for event in events if isinstance(event, Content)])
    assert content == b"one\r\n.two\r\n"
    assert [event for event in events if not isinstance(event, Content)][4:] == [
        EndOfContent(None, len(content)),
        Noop(),
        Mail(Address("x", "y.example")),
    ]
    assert core.state is State.SENDER


def test_a_refused_data_leaves_the_transaction() -> None:
    core = new_core()
    core.receive(ENVELOPE + b"NOOP\r\n")
    for _ in range(3):
        event = core.next_event()
        core.reply(ANSWERS[type(event)])
    assert core.next_event() == Data()
    core.reply(reply(452, "4.3.1", "Insufficient system storage"))
    assert core.state is State.RECIPIENTS
    assert core.next_event() == Noop()


@pytest.mark.parametrize("code", [250, 451, 550])
def test_the_end_of_content_ends_the_transaction_accepted_or_not(code: int) -> None:
    core = new_core()
    core.receive(ENVELOPE)
    drain(core)
    core.receive(b".\r\n")
    assert core.next_event() == EndOfContent(None, 0)
    core.reply(Reply(code, None, ("x",)))
    assert core.state is State.GREETED


@honours("soft_bounce")
def test_a_server_may_refuse_nothing_for_good() -> None:
    core = SmtpServer(rules=Rules(Limits(), 0, False, soft_bounce=True), bare_newline=BareNewline.REJECT)
    core.receive(b"NONSENSE\r\n")
    assert core.next_event() is not None
    core.reply(reply(550, "5.1.1", "no", "really"))
    assert core.take_output() == b"450-4.1.1 no\r\n450 4.1.1 really\r\n"


def test_421_closes() -> None:
    core = new_core()
    core.receive(b"NOOP\r\nNOOP\r\n")
    core.next_event()
    core.reply(reply(421, "4.7.0", "mail.example Error: too many errors"))
    assert core.closed
    assert core.next_event() is None
    core.receive(b"NOOP\r\n")
    assert core.next_event() is None


def test_the_size_limit_is_for_announcement_and_content() -> None:
    core = new_core(size_limit=100)
    assert isinstance(one(b"MAIL FROM:<a@b.example> SIZE=101", core), Invalid)
    assert isinstance(one(b'MAIL FROM:<"a"@b.example> SIZE=101', core), Invalid)
    assert one(b"MAIL FROM:<a@b.example> SIZE=100", core) == Mail(Address("a", "b.example"), 100)


def test_a_noted_bare_newline_reaches_the_driver() -> None:
    core = new_core(BareNewline.NOTE)
    core.receive(ENVELOPE + b"a\nb\r\n.\r\n")
    assert drain(core)[-1] == EndOfContent(None, 6, has_bare_newline=True)


def test_an_endless_line_takes_no_memory() -> None:
    core = new_core()
    for _ in range(160):
        core.receive(b"x" * 65_536)
        assert core.next_event() is None
    assert sum(sys.getsizeof(getattr(core._lines, name)) for name in core._lines.__slots__) < 1024
    core.receive(b"\r\n")
    event = core.next_event()
    assert isinstance(event, Invalid)
    assert event.reason == "line-too-long"


def test_an_idle_session_keeps_nothing_it_has_read() -> None:
    core = new_core()
    core.receive(ENVELOPE + b"x" * 200_000 + b"\r\n.\r\nNOOP\r\n")
    drain(core)
    assert sum(sys.getsizeof(getattr(core._lines, name)) for name in core._lines.__slots__) < 1024


def test_a_burst_of_many_small_messages_is_not_copied_for_each() -> None:
    """The pieces handed to the content receiver are bounded, whatever waits behind."""
    core = new_core()
    message = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n"
    core.receive(message * 2000)
    events = drain(core)
    assert sum(isinstance(event, EndOfContent) for event in events) == 2000
    assert core.state is State.GREETED


def test_remembered_lines_mean_the_same_in_every_session_and_state() -> None:
    rules = Rules(Limits(), 0, False)
    for _ in range(3):
        core = SmtpServer(rules=rules, bare_newline=BareNewline.REJECT)
        core.receive(b"MAIL FROM:<a@b.example>\r\nMAIL FROM:<a@b.example>\r\n")
        first = core.next_event()
        assert isinstance(first, Mail)
        core.reply(replies.SENDER_OK)
        # The very same line, at a time when it must not come.
        second = core.next_event()
        assert isinstance(second, Invalid)
        assert second.reply == replies.NESTED_MAIL


def test_the_memory_of_lines_is_bounded() -> None:
    rules = Rules(Limits(), 0, False)
    core = SmtpServer(rules=rules, bare_newline=BareNewline.REJECT)
    for at in range(5000):
        core.receive(b"VRFY user%d\r\n" % at)
        assert core.next_event() is not None
        core.reply(replies.OK)
        core.take_output()
    assert sum(rules.known(b"VRFY user%d\r\n" % at) is not None for at in range(5000)) <= 1024
