"""Any bytes in any chunking give the same events and replies; never an exception, never more than a line kept.

Pieces are received and asked about in one step, the whole in two: that must not matter either.

The first byte chooses the treatment of bare newlines; the rest is what the client sends.
"""

from __future__ import annotations

from collections.abc import Iterable

from ekiden.message.reply import Reply, reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import Content, Data, EndOfContent, Event, Helo, Invalid, Mail, Quit, Rcpt
from ekiden.protocol.smtp.data import DataReceiver
from ekiden.protocol.smtp.server import BareNewline, Limits, SmtpServer, ehlo_reply
from ekiden.protocol.smtp.verbs import Rules
from support.pieces import pieces

LIMIT = 120
_MODES = list(BareNewline)
_ANSWERS: dict[type, Reply] = {
    Helo: ehlo_reply("mail.example", ("PIPELINING",)),
    Mail: replies.SENDER_OK,
    Data: replies.SEND_CONTENT,
    Quit: replies.BYE,
}

_ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@b.example> SIZE=10\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
SEEDS = [
    mode + text
    for mode in (b"\0", b"\1", b"\2", b"\3")
    for text in (
        _ENVELOPE + b"Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
        _ENVELOPE + b"a\nb\rc\r\n.\nd\n.\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\nRSET\r\n",
        b"MAIL FROM: test@example.com\r\nRCPT TO:<refused@x>\r\nDATA\r\nSubject: no\r\n.\r\n",
        b"NOOP\r\nVRFY x\r\nHELP\r\nRSET\r\nSTARTTLS\r\nXYZZY\r\n\r\nNOOP\n" + b"x" * 200 + b"\r\nQUIT\r\nNOOP\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    )
]


def one_input(data: bytes) -> None:
    if not data:
        return
    mode, talk = _MODES[data[0] % len(_MODES)], data[1:]
    whole = _hold((talk,), mode)
    assert _hold(pieces(talk), mode, in_one_step=True) == whole, mode
    assert _hold(talk.splitlines(keepends=True), mode, in_one_step=True) == whole, mode


def _hold(talk: Iterable[bytes], mode: BareNewline, *, in_one_step: bool = False) -> tuple[list[Event], bytes, bool]:
    """The events, with the content of a message in one, and the output."""
    core = SmtpServer(rules=Rules(Limits(command_line_bytes=LIMIT, helo_bytes=40), 150, False), bare_newline=mode)
    events: list[Event] = []
    content, output = b"", b""
    for piece in talk:
        if in_one_step:
            event = core.next_event(piece)
        else:
            core.receive(piece)
            event = core.next_event()
        while event is not None:
            if isinstance(event, Content):
                assert event.data
                content += event.data
                event = core.next_event()
                continue
            if isinstance(event, EndOfContent):
                assert event.refusal is not None or event.size == len(content)
                # How much of a refused message came before the refusal is a matter of the cut.
                events.append(Content(content if event.refusal is None else b""))
                content = b""
            events.append(event)
            answer = _answer(event)
            assert 200 <= answer.code < 600
            assert all(" " <= char <= "~" for line in answer.lines for char in line), answer
            core.reply(answer)
            had_more = core.has_more
            event = core.next_event()
            assert had_more or event is None
        output += core.take_output()
        assert core._lines._at <= len(core._lines._buffer) <= LIMIT
        assert not core._lines._more
        assert not isinstance(core._content, DataReceiver) or len(core._content._held) <= 4
    return events, output, core.closed


def _answer(event: Event) -> Reply:
    if isinstance(event, Invalid):
        return event.reply
    if isinstance(event, EndOfContent):
        return event.refusal.reply if event.refusal is not None else replies.queued_reply("4Fz")
    if isinstance(event, Rcpt):
        refused = event.address.local == "refused"
        return reply(554, "5.7.1", "Relay access denied") if refused else replies.RECIPIENT_OK
    return _ANSWERS.get(type(event), replies.OK)
