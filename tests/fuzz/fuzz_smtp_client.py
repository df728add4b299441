"""Whatever a server says, turn by turn, the client answers the same in any chunking and claims no more than was said.

A recipient is decided only by a reply, accepted only by a 2xx reply after the dot; what goes out holds no bare CR or
LF; the content goes out only after a 354 and ends in exactly one CRLF dot CRLF. Where STARTTLS is offered, nothing but
the end of the session follows a turn that says more than its one reply; we are logged in only by a 2xx reply to AUTH.
Content that a transaction brings along makes the same conversation as content that the caller gives when it is asked.

The input's turns are separated by ``|``; after the last one the server is gone. The whole input is the content, too.
"""

from __future__ import annotations

import re
import zlib

from ekiden.protocol.smtp.client import (
    START_TLS,
    ClientRules,
    Event,
    LoggedIn,
    LoginFailed,
    LoginRefused,
    Ready,
    SendContent,
    SmtpClient,
    Stage,
    StartTls,
    TlsDeclined,
    Transaction,
    Trouble,
)
from ekiden.protocol.smtp.client_login import LoginProblem
from ekiden.protocol.smtp.replies import ReplyLimits

LIMITS = ReplyLimits(line_bytes=64, lines=8, reply_bytes=256)
STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n")

COMMANDS = (b"EHLO", b"LHLO", b"HELO", b"MAIL", b"RCPT", b"BDAT", b"RSET", b"QUIT", b"STAR")

_EHLO = b"220 mx\r\n|250-mx\r\n250-SIZE 9\r\n250 PIPELINING\r\n|"
_GREETED = b"220 mx\r\n|250-mx\r\n250 "
_TAKEN = b"|250 Ok\r\n|250 Ok\r\n|550 no\r\n|354 go\r\n|250 Ok\r\n"
SEEDS = [
    _EHLO + b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go\r\n552 too big\r|\n",
    _EHLO + b"250 Ok\r\n250 Ok\r\n550 no\r\n354 go\r\n|250 2.0.0 Ok\r\n|221 bye\r\n",
    _EHLO + b"250 Ok\r\n550 no\r\n550 no\r\n354 go\r\n|250 Ok\r\n",
    _EHLO + b"250 Ok\r\n550 no\r\n550 no\r\n554 no\r\n|" + b"250 Ok\r\n" * 4 + b"354 go\r\n|250 Ok\r\n250 Ok\r\n",
    b"220 mx\r\n|500 what\r\n|250 mx\r\n|250 Ok\r\n|250 Ok\r\n|452 full\r\n|354 go\r\n|250 Ok\r\n",
    b"220 mx\r\n|250 mx\r\n|250 Ok\r\n|421 bye\r\n",
    b"554 no\r\n",
    _EHLO + b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go\r\n552 too big\r\n",
    _EHLO + b"250 Ok\r\n250 Ok\r\n550 no\r\n250 Ok\r\n|250 Ok\r\n250 Ok\r\n250 Ok\r\n|250 Ok\r\n250 Ok\r\n",
    _EHLO + b"250 Ok\r\n250 Ok\r\n550 no\r\n|250 Ok\r\n|250 Ok\r\n250 Ok\r\n250 Ok\r\n|552 big\r\n250 Ok\r\n",
    _GREETED + b"STARTTLS\r\n|220 go\r\n|250 mx\r\n" + _TAKEN,
    _GREETED + b"STARTTLS\r\n|220 go\r\n250 mx\r\n|250 mx\r\n",
    _GREETED + b"STARTTLS\r\n|454 no\r\n" + _TAKEN,
    _GREETED + b"AUTH X\r\n|334 YQ==\r\n|334 Yg==\r\n|235 Ok\r\n" + _TAKEN,
    _GREETED + b"AUTH X\r\n|334 ?\r\n|501 off\r\n|250 Ok\r\n",
    _GREETED + b"AUTH X\r\n|235 Ok\r\n|250 Ok\r\n",
    _EHLO + b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go\r\n|250 Ok\r\n|\r\n.\r\nMAIL FROM:<>\r\n\n.\n\r.\r.\r\n.\n",
]


class Exchange:
    """Two answers, whatever the challenges are."""

    mechanism = "X"
    initial = None

    def __init__(self) -> None:
        self.answers = [b"one", b"two"]

    @property
    def complete(self) -> bool:
        return not self.answers

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        return self.answers.pop(0) if self.answers else LoginProblem("no more")


_NO_HANDSHAKE = Trouble(Stage.STARTTLS, "more than one reply")


def held(
    turns: list[bytes], content: bytes, chunk: int, *, lmtp: bool, chunked: bool = False, brings_content: bool = False
) -> tuple[list[Event], bytes, list[object]]:
    """The events of a conversation of up to two transactions, all that was sent, and the outcomes of both."""
    client = SmtpClient(ClientRules("client.example", lmtp=lmtp, replies=LIMITS))
    events: list[Event] = []
    outcomes: list[object] = []
    sent = bytearray()
    begun = 0
    wants_tls = wants_login = True
    for turn in turns:
        met: list[Event] = []
        for at in range(0, len(turn), chunk):
            client.receive(turn[at : at + chunk])
            while (event := client.next_event()) is not None:
                met.append(event)
            if met and isinstance(met[-1], StartTls) and at + chunk < len(turn):
                # What is left of the turn is no handshake: the core sees it in the same piece, or the socket after it.
                return [*events, *met[:-1], _NO_HANDSHAKE], bytes(sent), [*outcomes, *client.outcomes]
        if met and isinstance(met[-1], Trouble) and met[-1].stage is Stage.STARTTLS:
            return [*events, *met[:-1], _NO_HANDSHAKE], bytes(sent), [*outcomes, *client.outcomes]
        sent += client.take_output()
        events += met
        if not met:
            continue
        event = met[-1]
        if isinstance(event, SendContent) and client.stage is Stage.CONTENT:
            step = 64 if chunked else chunk  # each piece is a chunk of BDAT, with a reply of its own
            for at in range(0, len(content), step):
                client.send_content(content[at : at + step])
            client.end_content()
            wire = client.take_output()
            # Nothing goes out when the server has already begun to say something.
            assert chunked or not wire or (b"\r\n" + wire).find(b"\r\n.\r\n") == len(wire) - 3
            sent += wire
        elif isinstance(event, StartTls):
            assert event is START_TLS
            client.tls_established()
            sent += client.take_output()
        elif wants_tls and isinstance(event, Ready) and client.reusable and client.extensions.starttls:
            wants_tls = False
            client.start_tls()
            sent += client.take_output()
        elif (
            wants_login and isinstance(event, Ready | TlsDeclined) and client.reusable and client.extensions.mechanisms
        ):
            wants_login = False
            client.log_in(Exchange())
            sent += client.take_output()
        elif client.reusable:
            assert isinstance(event, Ready | LoggedIn | LoginFailed | LoginRefused) or client.stage is Stage.IDLE
            assert client.logged_in == any(isinstance(each, LoggedIn) for each in events)
            outcomes += client.outcomes
            if begun < 2:
                begun += 1
                paths = [b"<a@d.example>", b"<b@d.example>"]
                early = chunked and begun == 1
                brought = content if early or brings_content else None
                client.begin(
                    Transaction(b"<s@s.example>", paths, size=9, chunked=chunked, content=brought, early=early)
                )
            else:
                client.quit()
            sent += client.take_output()
    return events, bytes(sent), [*outcomes, *client.outcomes]


def _without_send_content(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, SendContent)]


def commands(sent: bytes) -> list[bytes]:
    """What a server takes for commands, where chunks have the size that they claim."""
    found: list[bytes] = []
    at = 0
    while at < len(sent):
        end = sent.index(b"\r\n", at)
        found.append(sent[at:end])
        at = end + 2
        if found[-1].startswith(b"BDAT "):
            at += int(found[-1].split()[1])
    assert at == len(sent)
    return found


_SEEDS = frozenset(SEEDS)


def one_input(data: bytes) -> None:
    turns = [turn for turn in data.split(b"|") if turn]
    kind = zlib.crc32(data)
    every = data in _SEEDS  # others are tried one way each: that makes three times as many
    for lmtp in (False, True) if every else (bool(kind & 1),):
        whole = held(turns, data, max(1, len(data)), lmtp=lmtp)
        for chunk in (1, 2, 5) if every else ((1, 2, 5)[kind % 3],):
            assert held(turns, data, chunk, lmtp=lmtp) == whole
        events, sent, outcomes = whole
        assert STRAY.search(sent) is None
        for outcome in outcomes:
            if outcome is not None and outcome.reply.code < 400:  # type: ignore[attr-defined]
                assert outcome.stage is Stage.END_OF_DATA  # type: ignore[attr-defined]
                assert b".\r\n" in sent
        unasked, *rest = held(turns, data, max(1, len(data)), lmtp=lmtp, brings_content=True)
        assert [*_without_send_content(unasked), *rest] == [*_without_send_content(events), sent, outcomes]
        chunked = held(turns, data, max(1, len(data)), lmtp=lmtp, chunked=True)
        for chunk in (1, 5) if every else ((1, 5)[kind >> 1 & 1],):
            assert held(turns, data, chunk, lmtp=lmtp, chunked=True) == chunked
        _, sent, outcomes = chunked
        assert STRAY.search(sent) is None
        found = commands(sent)
        assert b"AUTH" in {line[:4] for line in found} or {line[:4] for line in found} <= {*COMMANDS}
        for outcome in outcomes:
            if outcome is not None and outcome.reply.code < 400:  # type: ignore[attr-defined]
                assert outcome.stage is Stage.END_OF_DATA  # type: ignore[attr-defined]
                assert b" LAST\r\n" in sent
