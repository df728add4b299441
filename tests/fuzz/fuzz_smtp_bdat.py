"""Octets that BDAT announced are never commands; any bytes in any chunking give the same events and replies.

The first byte chooses the treatment of bare newlines and what the session was offered; the rest is what the client
sends. DATA is refused here, so that every line that is a command has exactly one answer: a second, plain reading of
the bytes finds the same commands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ekiden.message.envelope import BodyType
from ekiden.message.reply import Reply, reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import (
    Content,
    Data,
    EndOfChunk,
    EndOfContent,
    Event,
    FirstChunk,
    Helo,
    Invalid,
    Mail,
    Question,
    Quit,
    Rcpt,
)
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.printable import printable
from ekiden.protocol.smtp.server import SmtpServer
from ekiden.protocol.smtp.verbs import Rules
from support.pieces import pieces

LIMIT = 120
SIZE_LIMIT = 150
DISCARD_LIMIT = 400
_MODES = list(BareNewline)
_RULES = Rules(Limits(command_line_bytes=LIMIT, helo_bytes=40, refused_chunk_bytes=DISCARD_LIMIT), SIZE_LIMIT, False)
_OFFERS = (frozenset({"CHUNKING", "BINARYMIME", "8BITMIME"}), frozenset({"8BITMIME"}))

_TO = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
_BINARY = b"EHLO c.example\r\nMAIL FROM:<a@b.example> BODY=BINARYMIME\r\nRCPT TO:<c@d.example>\r\n"
SEEDS = [
    mode + text
    for mode in (b"\0", b"\1", b"\2", b"\3", b"\4")
    for text in (
        _TO + b"BDAT 5\r\na\r\nb\rBDAT 3 LAST\r\n\nc\nQUIT\r\n",
        _TO + b"BDAT 0\r\nBDAT 6 LAST\r\nNOOP\r\nNOOP\r\n",
        _TO + b"BDAT 6 LAST\r\nRSET\r\nBDAT 6 LAST\r\nRSET\r\nMAIL FROM:<x@y>\r\n",
        _BINARY + b"BDAT 4\r\n\r\n\x00\nBDAT 2 LAST\r\n\r.NOOP\r\n",
        _BINARY + b"DATA\r\nBDAT 0 LAST\r\n",
        _TO + b"BDAT 200\r\n" + b"NOOP\r\n  " * 25 + b"BDAT 8 LAST\r\nNOOP\r\n\r\nNOOP\r\n",
        b"BDAT 8 LAST\r\nQUIT\r\n\r\nBDAT 401\r\nNOOP\r\n",
        _TO + b"BDAT 4\r\nx\ny\nRCPT TO:<c@d.example>\r\nDATA\r\nBDAT 6\r\nQUIT\r\nBDAT 1 LAST\r\nxNOOP\r\n",
        _TO + b"BDAT\r\nQUIT\r\n",
        _TO + b"BDAT 5 LAST x\r\nNOOP\r\n",
        _TO + b"BDAT 99999999999999999999999\r\nNOOP\r\n",
        b"MAIL FROM:<a@b>\r\nRCPT TO:<refused@x>\r\nBDAT 6\r\nNOOP\r\nbdat 6 last\r\nNOOP\r\nHELO x\r\n",
    )
]


def one_input(data: bytes) -> None:
    if not data:
        return
    mode, offer, talk = _MODES[data[0] % len(_MODES)], _OFFERS[data[0] // 4 % 2], data[1:]
    whole = _hold([talk], mode, offer)
    names = [_name(event) for event in whole[0] if not isinstance(event, Content | FirstChunk)]
    for said, read in zip(names, _commands(talk), strict=False):
        assert said in (read, ""), (said, read, names)
    assert _hold([*pieces(talk)], mode, offer) == whole, mode


def _hold(talk: Sequence[bytes], mode: BareNewline, offer: frozenset[str]) -> tuple[list[Event], bytes, bool]:
    """The events, with the content of a message in one, and the output."""
    core = SmtpServer(rules=_RULES, bare_newline=mode)
    events: list[Event] = []
    content, output, binary = b"", b"", False
    most = 2 * sum(map(len, talk)) + 2  # a bare LF becomes two octets
    for piece in talk:
        event = core.next_event(piece)
        while event is not None:
            if isinstance(event, Content):
                content += event.data
                assert len(content) <= SIZE_LIMIT
                event = core.next_event()
                continue
            events.append(event)
            if isinstance(event, FirstChunk):
                content = b""
                event = core.next_event()
                continue
            if isinstance(event, Mail):
                binary = event.body is BodyType.BINARY_MIME
            if isinstance(event, EndOfContent) and event.refusal is None:
                assert event.size == len(content)
                assert binary or _is_text(content)
                assert len(content) <= most
                events.append(Content(content))
            if isinstance(event, Helo):
                core.offer(offer if event.extended else frozenset())
            core.reply(_answer(event))
            had_more = core.has_more
            event = core.next_event()
            assert had_more or event is None
        output += core.take_output()
        assert len(core._lines._buffer) - core._lines._at <= LIMIT
    return events, output, core.closed


def _is_text(content: bytes) -> bool:
    lines = content.replace(b"\r\n", b"")
    return b"\r" not in lines and b"\n" not in lines and (not content or content.endswith(b"\r\n"))


def _answer(event: Question) -> Reply:
    if isinstance(event, Invalid):
        return event.reply
    if isinstance(event, EndOfContent | EndOfChunk) and event.refusal is not None:
        return event.refusal.reply
    if isinstance(event, Rcpt):
        refused = event.address.local == "refused"
        return reply(554, "5.7.1", "Relay access denied") if refused else replies.RECIPIENT_OK
    if isinstance(event, Data):
        return reply(451, "4.3.0", "no DATA here")
    return replies.BYE if isinstance(event, Quit) else replies.OK


_NAMES: dict[type, str] = {EndOfChunk: "BDAT", EndOfContent: "BDAT"}


def _name(event: Event) -> str:
    if isinstance(event, Invalid):
        return event.verb.upper()
    if isinstance(event, Helo):
        return "EHLO" if event.extended else "HELO"
    return _NAMES.get(type(event)) or type(event).__name__.upper()


_BDAT = re.compile(rb" *BDAT +([0-9]{1,20})(?: +LAST)? *\r?\n", re.IGNORECASE)


def _commands(talk: bytes) -> list[str]:
    """The commands in ``talk``: lines, and behind BDAT the octets that are none."""
    found: list[str] = []
    at = 0
    while (end := talk.find(b"\n", at) + 1) > 0:
        line = talk[at:end]
        at = end
        if len(line) > LIMIT:
            found.append("")
            continue
        text = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        words = text.strip(b" ").split(b" ")
        found.append(printable(words[0]).upper())
        counted = _BDAT.fullmatch(line)
        if counted is not None:
            at += int(counted[1])
    return found
