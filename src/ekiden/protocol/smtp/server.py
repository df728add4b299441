"""The server's side of SMTP as a pure state machine (RFC 5321, RFC 1870, RFC 2920).

In:   the bytes of a client, in pieces of any size: ``receive``.
Out:  one event at a time: ``next_event``. Each question among them wants its ``reply`` before the next event comes;
      so a client that pipelines needs no special care, and what it sends behind DATA is content only if DATA was
      accepted. ``take_output`` has all replies since it was last called, for one write. ``has_more`` says whether
      asking again may give another event before more bytes have come.
Never: does I/O, raises for what a client sends, keeps more of it than a line and what the driver has not asked for.

    core.receive(data)
    while (event := core.next_event()) is not None:
        if type(event) is Content: ...take it...
        else: core.reply(...)
    write(core.take_output())
"""

from __future__ import annotations

import functools
import re

from msgspec import structs

from ekiden.message.envelope import BodyType
from ekiden.message.reply import Refusal, Reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.chunks import OUT_OF_PLACE, Chunk, ChunkReceiver, parse_bdat
from ekiden.protocol.smtp.commands import (
    AuthResponse,
    AuthStart,
    Bdat,
    Content,
    EndOfChunk,
    EndOfContent,
    Event,
    FirstChunk,
    Helo,
    Invalid,
    Mail,
    Noop,
    Question,
    Rcpt,
    StartTls,
)
from ekiden.protocol.smtp.data import BareNewline, DataReceiver
from ekiden.protocol.smtp.limits import Limits, PathLimits
from ekiden.protocol.smtp.lines import LineBuffer
from ekiden.protocol.smtp.login import parse_response
from ekiden.protocol.smtp.parse_envelope import is_ascii
from ekiden.protocol.smtp.printable import printable
from ekiden.protocol.smtp.server_replies import ehlo_reply, greeting, helo_reply, queued_reply, vrfy_reply
from ekiden.protocol.smtp.states import State, next_state
from ekiden.protocol.smtp.verbs import NOT_IMPLEMENTED, VERBS, Rules

__all__ = [
    "BareNewline",
    "Limits",
    "PathLimits",
    "SmtpServer",
    "State",
    "ehlo_reply",
    "greeting",
    "helo_reply",
    "queued_reply",
    "vrfy_reply",
]

# RFC 2920 §3.1: what a client says next must wait for the reply to one of these; that to other commands need not.
_ENDS_GROUP = frozenset({"AUTH", "DATA", "EHLO", "HELO", "NOOP", "STARTTLS", "VRFY", "XCLIENT"})

# "Subject:" for a command: the content of a message that nobody asked for, or a web client's request.
_HEADER_FIELD = re.compile(rb"[!-9;-~]+:")

# Whatever follows these was sent too early, whoever allows what else.
_LAST = frozenset({AuthStart, AuthResponse, StartTls})

# They have answers of their own where EHLO did not offer them, and HELP leaves them out.
_NAMED_BY_EHLO = frozenset({b"AUTH", b"STARTTLS", b"XCLIENT", b"XFORWARD"})

_BDAT = VERBS[b"BDAT"]
_LOGIN_STATE = State.LOGIN
_NOTHING: frozenset[str] = frozenset()

_CONTROL_CHARACTERS = bytes((*range(0x20), 0x7F))

# No SMTP command begins with anything but a letter. A TLS ClientHello (0x16), a binary protocol or an XML document
# does; it is recognised by its first byte, for a line feed may never come. Spaces and line ends have answers of
# their own.
_MAY_BEGIN_LINE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz \t\r\n"


@functools.lru_cache(maxsize=512)
def _move(state: State, question: type[Question], reply: Reply, softens: bool) -> tuple[State, bytes]:
    """Where a reply leads, and its bytes: nearly every one is one of a few dozen that are given over and over."""
    return next_state(state, question, reply), (reply.softened() if softens else reply).render()


class SmtpServer:
    """One session. ``state`` is for reading; only ``reply`` moves it, by the table in states.py.

    ``bare_newline`` may be changed between two events: it depends on the client, which XCLIENT changes.
    """

    __slots__ = (
        *("_chunks", "_content", "_earlier", "_extended", "_lines", "_mail", "_open", "_output", "_rules"),
        *("bare_newline", "has_more", "state"),
    )

    def __init__(
        self,
        *,
        rules: Rules,
        bare_newline: BareNewline,
    ) -> None:
        self.state = State.CONNECTED
        self._rules = rules
        self.bare_newline = bare_newline
        self._lines = LineBuffer(rules.line_bytes)
        self._open: Question | None = None  # the question that waits for its reply
        self._content: DataReceiver | Chunk | None = None
        self._chunks: ChunkReceiver | None = None  # the message that comes in chunks
        self._extended = False  # the client said EHLO and was told what it may do
        self._mail: Mail | None = None  # the last one that was accepted
        self._output = b""  # the last reply that nobody has taken
        self._earlier: list[bytes] = []  # those before it: only a client that pipelines has any
        self.has_more = False

    @property
    def closed(self) -> bool:
        """The session is over: nothing more is read."""
        return self.state is State.CLOSED

    def receive(self, data: bytes) -> None:
        if self.state is not State.CLOSED:
            self._lines.extend(data)

    def next_event(self, data: bytes = b"") -> Event | None:
        """The next event; None while a question is open, when more bytes are needed, and when the session is over.

        With ``data`` it is received first.
        """
        lines, rules, receiver = self._lines, self._rules, self._content
        if data:
            if self._open is None and not lines.waits:  # what comes need not go through the buffer
                if receiver is None:
                    known = rules.known(data)
                    if known is not None and self.state in known[0] and rules.filter_line is None:
                        self.has_more, self._open = False, known[1]
                        return self._open
                elif type(receiver) is DataReceiver and not receiver.ended:
                    return self._next_content(receiver, data)
            self.receive(data)
        if self._open is not None or self.state is State.CLOSED:
            return None
        if receiver is not None:
            self.has_more = True
            if type(receiver) is DataReceiver:
                return self._next_content(receiver)
            assert type(receiver) is Chunk
            return self._next_of_chunk(receiver)
        if not lines.waits:
            return None
        line = lines.pop()
        self.has_more = lines.waits
        if line is not None:
            # (No command is legal within a login. Where lines are filtered, this is not yet what is executed.)
            if (known := rules.known(line)) is not None and self.state in known[0] and rules.filter_line is None:
                self._open = known[1]
            elif self.state is _LOGIN_STATE:
                self._open = self._login_response(line)
            else:
                self._open = self._parse(line) if rules.filter_line is None else self._parse_filtered(line)
                if self._open is None:
                    assert type(self._content) is Chunk
                    self.has_more = True
                    return self._next_of_chunk(self._content)
            if (rules.forbids_early_input or type(self._open) in _LAST) and lines.waits:
                self._open = self._early(self._open)
        elif self.state is not _LOGIN_STATE and (first := lines.first_byte()) and _is_foreign(first):
            self._open = Invalid("", replies.NOT_SMTP, "not-smtp")
        return self._open

    def reply(self, reply: Reply) -> None:
        """The answer to the open question. Raises RuntimeError when there is none."""
        question = self._open
        if question is None:
            raise RuntimeError("a reply without a question")
        self._open = None
        if type(question) is Helo:
            self._extended = question.extended and reply.code == 250
        # (That to a message has its queue id, and comes once only.)
        move = _move.__wrapped__ if type(question) is EndOfContent else _move
        state, output = move(self.state, type(question), reply, self._rules.soft_bounce)
        if self._output:
            self._earlier.append(self._output)
        self._output = output
        if state is not self.state:
            self.state, self._content = state, None
            if type(question) is Mail:
                self._mail, self._chunks = question, None
            elif state is State.CONTENT:
                self._content = DataReceiver(bare_newline=self.bare_newline, size_limit=self._rules.size_limit)
            elif state is State.CONNECTED:
                self._extended = False  # another client's session begins
                self.offer(_NOTHING)
            elif state is State.CLOSED and self._lines.waits:
                self._lines.clear()

    def offer(self, extensions: frozenset[str]) -> None:
        """What the client may use from now on, by the keywords of EHLO: to be said before its EHLO or HELO is answered.

        A parameter or verb of any other extension is refused (RFC 5321 §4.1.1.11).
        """
        rules = self._rules
        self._rules = rules.siblings.get(extensions) or rules.offering(extensions)

    def secure(self, rules: Rules) -> None:
        """The connection is encrypted from now on, and these are its rules. What was said before is forgotten.

        Raises RuntimeError while a question is open.
        """
        if self._open is not None:
            raise RuntimeError("a question is open")
        self._rules = rules
        self._extended = False
        self._lines = LineBuffer(rules.line_bytes)

    @property
    def verbs(self) -> list[str]:
        """The commands that the client may use now, for HELP."""
        rules = self._rules
        return [
            name.decode("ascii")
            for name, verb in rules.verbs.items()
            if (not verb.extension or verb.extension in rules.offered)
            and (name not in _NAMED_BY_EHLO or name.decode("ascii") in rules.offered)
        ]

    def unread(self, limit: int) -> str:
        """What the client has said and nobody has read, as far as it can be shown: for the log."""
        return printable(self._lines.begin(limit), limit)

    def take_output(self) -> bytes:
        output, self._output = self._output, b""
        if self._earlier:
            output = b"".join((*self._earlier, output))
            self._earlier.clear()
        return output

    def _parse(self, line: bytes) -> Question | None:
        """What a line means; None for BDAT, whose octets come next."""
        if len(line) > self._rules.limits.command_line_bytes and line[:5].upper() != b"AUTH ":
            return Invalid("", replies.LINE_TOO_LONG, "line-too-long")
        text = line[:-2]
        if line[-2:] != b"\r\n":
            refusal = self._bad_line_end(line)
            if refusal is not None:
                return refusal
            text = line[:-1]
        name, _, arguments = text.strip(b" ").partition(b" ")
        verbs = self._rules.verbs
        verb = verbs.get(name) or verbs.get(name.upper())
        if verb is None and _is_foreign(line[:1]):
            return Invalid("", replies.NOT_SMTP, "not-smtp")
        if verb is not None and verb.name == b"BDAT":
            bdat = parse_bdat(arguments.strip(b" "))
            return bdat if isinstance(bdat, Invalid) else self._begin_chunk(bdat)
        if len(text.translate(None, _CONTROL_CHARACTERS)) != len(text):
            if b"\r" in text:
                return Invalid(printable(name), replies.BARE_CR_IN_COMMAND, "bare-newline")
            return Invalid(printable(name), replies.CONTROL_CHARACTER, "control-character")
        if verb is None:
            return self._unknown(name.upper())
        if self.state not in verb.states:
            return Invalid(
                printable(verb.name), self._rules.out_of_order(verb.name, self.state), "bad-sequence", verb.junk
            )
        if verb.extension and verb.extension not in self._rules.offered:
            return Invalid(printable(verb.name), replies.NOT_IMPLEMENTED, "not-implemented", verb.junk)
        command = verb.parse(arguments.strip(b" "), self._rules)
        if type(command) is Rcpt and not (line.isascii() or is_ascii(command.address)):
            # What the line means depends on the transaction: it is not to be remembered.
            if self._mail is not None and self._mail.options.smtputf8:
                return command
            return Invalid("RCPT", replies.SMTPUTF8_NOT_DECLARED, "needs-smtputf8")
        # Of lines in another form (a bare LF, say) each session must judge for itself.
        if not isinstance(command, Invalid) and line.endswith(b"\r\n"):
            self._rules.remember(line, verb, command)
        return command

    def _login_response(self, line: bytes) -> Question:
        if not line.endswith(b"\n") or len(line) > self._rules.limits.auth_line_bytes:
            return AuthResponse(b"", Refusal(replies.AUTH_LINE_TOO_LONG, "line-too-long"))
        if not line.endswith(b"\r\n") and self.bare_newline is BareNewline.REJECT:
            return Invalid("AUTH", self._rules.coded(replies.BARE_LF_IN_COMMAND), "bare-newline")
        return parse_response(line.rstrip(b"\r\n"))

    def _parse_filtered(self, line: bytes) -> Question | None:
        assert self._rules.filter_line is not None
        if line[-2:] != b"\r\n":
            return self._parse(line)
        executed = self._rules.filter_line(line[:-2].lstrip(b" \t"))
        if isinstance(executed, Reply):
            return Invalid("", executed, "table-trouble")
        return self._parse(executed + b"\r\n")

    def _early(self, question: Question) -> Question:
        """``question``, or the end of the session: the client did not wait where it must (RFC 2920 §3.1)."""
        match question:
            case Helo(extended=extended):
                verb = "EHLO" if extended else "HELO"
            case AuthStart() | AuthResponse():
                # What comes behind is part of an exchange that has not got so far, or of a session that is not yet
                # somebody's: nobody could say as whom it was meant (RFC 4954 §4).
                verb = "AUTH"
            case StartTls():
                # It came in the clear, and may be of somebody between the client and us, who would have it taken for
                # what the client says under encryption (RFC 3207 §6, CVE-2011-0411).
                verb = "STARTTLS"
            case Invalid(verb=verb):
                if verb.upper().encode() not in self._rules.verbs:
                    return question
            case _:
                verb = type(question).__name__.upper()
        if self._extended and verb not in _ENDS_GROUP:
            return question
        return Invalid(verb, replies.NOT_SYNCHRONIZED, "improper-pipelining")

    def _unknown(self, name: bytes) -> Question:
        rules = self._rules
        if not name:
            return Invalid("", replies.BAD_SYNTAX, "syntax")
        if rules.is_noop is not None and rules.is_noop(name):
            return Noop()
        if _HEADER_FIELD.match(name) is not None or rules.is_forbidden(name):
            return Invalid(printable(name), replies.NOT_SMTP, "not-smtp")
        if name in NOT_IMPLEMENTED:
            return Invalid(printable(name), replies.NOT_IMPLEMENTED, "not-implemented")
        return Invalid(printable(name), replies.UNKNOWN_COMMAND, "unknown-command")

    def _bad_line_end(self, line: bytes) -> Invalid | None:
        """What is wrong with a line that does not end in CRLF; None when it is taken all the same."""
        if _is_foreign(line[:1]):
            return Invalid("", replies.NOT_SMTP, "not-smtp")
        if not line.endswith(b"\n"):
            return Invalid("", replies.LINE_TOO_LONG, "line-too-long")
        if self.bare_newline is BareNewline.REJECT:
            return Invalid("", self._rules.coded(replies.BARE_LF_IN_COMMAND), "bare-newline")
        return None

    def _begin_chunk(self, bdat: Bdat) -> Invalid | None:
        """What BDAT begins: a part of the message, or octets that are read and let go, so that none is a command.

        Invalid, if there are so many that the session ends.
        """
        verb = self._rules.verbs[b"BDAT"]
        if verb is not _BDAT:
            # The rules let nobody say it now, before encryption has begun; with what answer they say there.
            denied = verb.parse(b"", self._rules)
            assert isinstance(denied, Invalid)
            refusal, reason = denied.reply, denied.reason
        elif verb.extension not in self._rules.offered:
            refusal, reason = replies.NOT_IMPLEMENTED, "not-implemented"
        elif self.state in OUT_OF_PLACE:
            refusal, reason = OUT_OF_PLACE[self.state], "bad-sequence"
            if self.state is State.SENDER:
                refusal = self._rules.out_of_order(b"DATA", State.SENDER)
            elif self.state is State.CHUNK_REFUSED:
                reason = "after-refused-chunk"
        else:
            chunks = self._chunks
            first = chunks is None
            if chunks is None:
                binary = self._mail is not None and self._mail.body is BodyType.BINARY_MIME
                chunks = self._chunks = ChunkReceiver(
                    bare_newline=self.bare_newline, size_limit=self._rules.size_limit, binary=binary
                )
            chunks.begin(bdat.size)
            if (too_big := chunks.refusal) is None or bdat.size <= self._rules.limits.refused_chunk_bytes:
                self._content = Chunk(bdat, chunks, first=first)
                return None
            refusal, reason = too_big.reply, too_big.reason
        if bdat.size > self._rules.limits.refused_chunk_bytes:
            # Nobody waits for all that; and what comes is not to be taken for commands.
            return Invalid("BDAT", structs.replace(refusal, closes=True), reason)
        self._content = Chunk(bdat, None, Invalid("BDAT", refusal, reason))
        return None

    def _next_content(self, receiver: DataReceiver, data: bytes = b"") -> Event | None:
        """``data`` is what nothing else waits with; without it all that is read lies in the buffer."""
        lines = self._lines
        while not receiver.ended:
            if data:
                content = receiver.feed(data)
                if receiver.unused:
                    lines.extend(data[-receiver.unused :])
                data = b""
            elif piece := lines.take():
                content = receiver.feed(piece)
                lines.give_back(receiver.unused)
            else:
                return None
            if content:
                self.has_more = True
                return Content(content)
        refusal = receiver.refusal
        if refusal is not None:
            refusal = self._coded(refusal)
        self.has_more = lines.waits
        self._open = EndOfContent(refusal, receiver.size, receiver.has_bare_newline)
        return self._open

    def _next_of_chunk(self, chunk: Chunk) -> Event | None:
        if chunk.first:
            chunk.first = False
            return FirstChunk()
        if chunk.left:
            data = self._lines.take()
            if not data:
                return None
            content, unused = chunk.take(data)
            self._lines.give_back(unused)
            return Content(content)
        receiver = chunk.receiver
        if receiver is not None and chunk.last and (content := receiver.finish()):
            return Content(content)
        self._content = None
        if receiver is not None:
            refusal = receiver.refusal
            if refusal is not None:
                refusal = self._coded(refusal)
            if chunk.last:
                self._open = EndOfContent(refusal, receiver.size, receiver.has_bare_newline)
            else:
                self._open = EndOfChunk(chunk.size, refusal)
        else:
            assert chunk.refused is not None
            self._open = chunk.refused
            if self.state is State.CHUNK_REFUSED:
                refusal = Refusal(chunk.refused.reply, chunk.refused.reason)
                self._open = EndOfContent(refusal) if chunk.last else EndOfChunk(chunk.size, refusal)
        return self._open

    def _coded(self, refusal: Refusal) -> Refusal:
        if refusal.reason != "bare-newline":
            return refusal
        return structs.replace(refusal, reply=self._rules.coded(refusal.reply))


def _is_foreign(first_byte: bytes) -> bool:
    return first_byte not in _MAY_BEGIN_LINE
