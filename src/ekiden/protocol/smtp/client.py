"""The client's side of SMTP (RFC 5321) and LMTP (RFC 2033), without I/O.

In:   the server's bytes by receive(); what the caller wants by start_tls(), log_in(), begin(), send_content(),
      end_content() and quit().
Out:  bytes for the server by take_output(); events by next_event(), each of which is the caller's turn to act.
Never: a command that holds CR, LF or NUL, a final dot for a transaction without recipients that the server accepted
      (but see RFC 2920 §3.1 below), an exception for anything that a server says.

    Ready          the greeting and EHLO are done           -> start_tls(), log_in(), begin() or quit()
    StartTls       STARTTLS was accepted                    -> a handshake, tls_established()
    TlsDeclined    STARTTLS was refused                     -> as for Ready
    LoggedIn       AUTH was accepted                        -> begin() or quit()
    LoginRefused   AUTH was refused                         -> log_in() or quit()
    LoginFailed    our side of AUTH broke it off            -> log_in() or quit()
    SendContent    DATA was accepted                        -> send_content() ..., end_content()
                   (where the transaction brings its content along the core sends it by itself)
    Finished       the transaction is over, see .outcomes   -> begin() again or quit(), if .reusable
    Refused        the server wants no session              -> close
    SpokeToSelf    the server has our own name              -> close
    Trouble        what the server says is not SMTP         -> close
    Closed         QUIT has its answer                      -> close
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ekiden.message.reply import Reply
from ekiden.protocol.smtp.client_chunks import Chunks
from ekiden.protocol.smtp.client_content import ContentEncoder
from ekiden.protocol.smtp.client_events import (
    CLOSED,
    FINISHED,
    READY,
    SEND_CONTENT,
    START_TLS,
    Closed,
    Event,
    Finished,
    LoggedIn,
    LoginFailed,
    LoginRefused,
    Ready,
    Refused,
    SendContent,
    SpokeToSelf,
    StartTls,
    TlsDeclined,
    Trouble,
)
from ekiden.protocol.smtp.client_extensions import Extensions, extensions_of, server_name
from ekiden.protocol.smtp.client_login import Exchange, LoginProblem, authenticate, challenge_of, response_line
from ekiden.protocol.smtp.client_transaction import Outcome, Stage, Transaction
from ekiden.protocol.smtp.replies import ReplyLimits, ReplyReader, ReplyTrouble


class ClientRules(Struct, frozen=True):
    """What is the same for all connections of one agent."""

    helo_name: str
    lmtp: bool = False
    always_ehlo: bool = True  # no: only where the greeting holds ESMTP
    never_ehlo: bool = False
    discard_keywords: frozenset[str] = frozenset()  # in upper case
    line_length_limit: int = 998
    replies: ReplyLimits = ReplyLimits()
    filter_reply: Callable[[bytes], bytes] | None = None  # of each line that a server says
    mail_auth: bool = False  # AUTH=<> with MAIL FROM where we have logged in (RFC 4954 §5)


class SmtpClient:
    """One connection. ``own_name``: the name that no other server can have; empty: do not look for loops."""

    __slots__ = (
        "_chunks", "_content", "_ended", "_exchange", "_needs_reset", "_out", "_own_name", "_reader", "_rules",
        "extensions", "logged_in", "outcomes", "stage", "transaction",
    )  # fmt: skip

    def __init__(self, rules: ClientRules, *, own_name: str = "") -> None:
        self._rules = rules
        self._own_name = own_name.lower()
        self._reader = ReplyReader(rules.replies, rules.filter_reply)
        self._out: list[bytes] = []
        self._content = ContentEncoder(rules.line_length_limit)
        self._chunks: Chunks | None = None  # of a transaction whose content goes by BDAT
        self._needs_reset = False  # the server still holds a transaction that was given up
        self._ended = False  # nothing the server says counts any more
        self._exchange: Exchange | LoginProblem | None = None  # of the AUTH command that is under way
        self.logged_in = False
        self.stage = Stage.GREETING
        self.extensions = Extensions()
        self.transaction: Transaction | None = None
        # How the last transaction ended, one a recipient; None: the server never decided.
        self.outcomes: list[Outcome | None] = []

    # -- bytes --

    def receive(self, data: bytes) -> None:
        if not self._ended:
            self._reader.receive(data)

    def take_output(self) -> bytes:
        if not self._out:
            return b""
        out = b"".join(self._out)  # one piece is not copied
        self._out = []
        return out

    def next_event(self) -> Event | None:
        """The next event, before which there is nothing left to say; None: more bytes are needed."""
        reader = self._reader
        while reader.pending and not self._ended:
            # An answer before its question: the server and we no longer speak of the same command.
            if self._out and self.stage is not Stage.CONTENT:
                return self._trouble("a reply to a command that was not sent yet")
            try:
                reply = reader.next()
            except ReplyTrouble as trouble:
                return self._trouble(str(trouble))
            if reply is None:
                return None
            event = _HANDLERS[self.stage](self, reply)
            if event is not None:
                return event
        return None

    @property
    def has_unread(self) -> bool:
        """The server has said more than the events so far tell."""
        return self._reader.pending

    @property
    def reusable(self) -> bool:
        """The session can take another transaction: it is idle and the server has said nothing unasked."""
        return self.stage is Stage.IDLE and not self._ended and not self._reader.pending

    # -- what the caller wants --

    def start_tls(self) -> None:
        """Ask for TLS (RFC 3207 §4). Where the server has said something unasked, the next event is Trouble."""
        self._must_be_idle("STARTTLS")
        if not self._reader.pending:
            self._ask(Stage.STARTTLS, b"STARTTLS\r\n")

    def tls_established(self) -> None:
        """The handshake is done: what the server said in plain text is forgotten, EHLO comes again (RFC 3207 §4.2)."""
        if self.stage is not Stage.TLS or self._reader.pending:
            raise RuntimeError(f"no handshake was due, or plain text came in it: {self.stage.name}")
        self.extensions = Extensions()
        self._hello("ESMTP")

    def log_in(self, exchange: Exchange) -> None:
        """AUTH (RFC 4954 §4), in a session that is not logged in yet."""
        self._must_be_idle("AUTH")
        if not self._reader.pending:
            command, self._exchange = authenticate(exchange)
            self._ask(Stage.AUTH, command)

    def begin(self, transaction: Transaction) -> None:
        """Start a transaction: with PIPELINING all of it up to DATA in one burst (RFC 2920 §3.1)."""
        if self.stage is not Stage.IDLE:
            self._must_be_idle("a transaction")
        self.transaction, self.outcomes = transaction, transaction.outcomes
        self._chunks = Chunks(self._rules.line_length_limit, binary=transaction.binary) if transaction.chunked else None
        if self._reader.pending:
            return  # what the server said unasked makes the next event: the session is not to be trusted
        if self._needs_reset:
            self._needs_reset = False
            if not self.extensions.pipelining:
                self._ask(Stage.RSET, b"RSET\r\n")
                return
            self._ask(Stage.RSET, b"RSET\r\n" + self._burst(transaction))
        elif self.extensions.pipelining:
            self.stage = Stage.XFORWARD if transaction.preface else Stage.MAIL
            self._out.append(self._burst(transaction))
        else:
            self._ask_next(transaction)

    def send_content(self, data: bytes) -> None:
        """The next piece of the content, lines as they come. Ignored once the server has broken off."""
        if self._chunks is not None:
            if self.stage is Stage.CONTENT and (chunk := self._chunks.put(data)):
                self._out.append(chunk)
            return
        # A reply in the middle of the content is read first: it decides whether there is any sense in the rest.
        if self.stage is Stage.CONTENT and not self._reader.pending and (encoded := self._content.encode(data)):
            self._out.append(encoded)

    def end_content(self) -> None:
        """All of the content was given: the final dot, in the same output as the last piece; or the last chunk."""
        if self._chunks is not None:
            if self.stage is Stage.CONTENT:
                self._ask(Stage.END_OF_DATA, self._chunks.end())
            return
        if self.stage is Stage.CONTENT and not self._reader.pending:
            self._out.append(self._content.end())
            self.stage = Stage.END_OF_DATA

    def quit(self) -> None:
        """Say goodbye; only where the server waits for a command, else there is nothing to say."""
        if self.stage is Stage.IDLE and not self._ended:
            self._ask(Stage.QUIT, b"QUIT\r\n")

    # -- commands --

    def _must_be_idle(self, what: str) -> None:
        if self.stage is not Stage.IDLE:
            raise RuntimeError(f"{what} cannot begin: the client waits for {self.stage.name}")

    def _ask(self, stage: Stage, command: bytes) -> None:
        self.stage = stage
        self._out.append(command)

    def _ask_next(self, transaction: Transaction) -> None:
        """The next command before RCPT; with PIPELINING it has been sent already."""
        stage, command = Stage.MAIL, b""
        if transaction.prefaced < len(transaction.preface):
            stage, command = Stage.XFORWARD, transaction.preface[transaction.prefaced]
        if self.extensions.pipelining:
            self.stage = stage
        else:
            self._ask(stage, command or self._mail(transaction))

    def _mail(self, transaction: Transaction) -> bytes:
        extensions = self.extensions
        command = b"MAIL FROM:" + transaction.sender
        if extensions.size:
            command += b" SIZE=%d" % transaction.size
        if transaction.binary:
            command += b" BODY=BINARYMIME"
        elif transaction.eight_bit and extensions.eight_bit_mime:
            command += b" BODY=8BITMIME"
        if extensions.smtputf8 and transaction.needs_utf8:
            command += b" SMTPUTF8"
        if self.logged_in and self._rules.mail_auth:
            command += b" AUTH=<>"
        return command + b"\r\n"

    def _burst(self, transaction: Transaction) -> bytes:
        recipients = b"\r\nRCPT TO:".join(transaction.recipients)
        envelope = self._mail(transaction) + b"RCPT TO:" + recipients
        if transaction.preface:
            envelope = b"".join(transaction.preface) + envelope
        if self._chunks is None:
            return envelope + b"\r\nDATA\r\n"
        if not transaction.early or transaction.content is None:
            return envelope + b"\r\n"
        content, transaction.content = transaction.content, None
        return envelope + b"\r\n" + self._chunks.put(content) + self._chunks.end()

    # -- answers, one handler a stage --

    def _greeted(self, reply: Reply) -> Event | None:
        if reply.code // 100 != 2:
            return self._refused(reply)
        if (name := server_name(reply)).lower() == self._own_name != "":
            return self._to_self(name)
        self._hello(reply.text)
        return None

    def _hello(self, greeting: str) -> None:
        rules = self._rules
        helo_name = rules.helo_name.encode("ascii", "replace")
        if rules.lmtp:
            self._ask(Stage.LHLO, b"LHLO " + helo_name + b"\r\n")
        elif not rules.never_ehlo and (rules.always_ehlo or "ESMTP" in greeting.upper().split()):
            self._ask(Stage.EHLO, b"EHLO " + helo_name + b"\r\n")
        else:
            self._ask(Stage.HELO, b"HELO " + helo_name + b"\r\n")

    def _after_hello(self, reply: Reply) -> Event | None:
        if reply.code // 100 != 2:
            # RFC 5321 §3.2: a server that does not know EHLO is asked with HELO.
            if self.stage is Stage.EHLO and reply.code // 100 == 5:
                self._ask(Stage.HELO, b"HELO " + self._rules.helo_name.encode("ascii", "replace") + b"\r\n")
                return None
            return self._refused(reply)
        if self.stage is Stage.HELO:
            self.extensions = Extensions(name=server_name(reply))
        else:
            self.extensions = extensions_of(reply, self._rules.discard_keywords)
        if self.extensions.name.lower() == self._own_name != "":
            return self._to_self(self.extensions.name)
        self.stage = Stage.IDLE
        return READY

    def _after_starttls(self, reply: Reply) -> Event | None:
        if reply.code == 421 or reply.code // 100 == 3:
            return self._refused(reply)
        if reply.code // 100 != 2:
            self.stage = Stage.IDLE
            return TlsDeclined(reply)
        # RFC 3207 §4: nothing follows the reply but the handshake. More can be a reply that somebody on the way put
        # there, to be taken for one that came encrypted (CVE-2011-0411).
        if self._reader.pending:
            return self._trouble("more than one reply to STARTTLS before the handshake")
        self.stage = Stage.TLS
        return START_TLS

    def _amid_handshake(self, reply: Reply) -> Event | None:
        return self._trouble("a reply in plain text in place of the TLS handshake")

    def _after_auth(self, reply: Reply) -> Event | None:
        exchange = self._exchange
        assert exchange is not None
        if reply.code == 421:
            return self._refused(reply)
        if isinstance(exchange, LoginProblem):  # we cancelled; whatever the server says to it, it is over
            self.stage = Stage.IDLE
            return LoginFailed(exchange.mechanism, exchange.text)
        if reply.code == 334:
            challenge = challenge_of(reply)
            answer = challenge if isinstance(challenge, LoginProblem) else exchange.respond(challenge)
            if isinstance(answer, LoginProblem):
                self._exchange = LoginProblem(answer.text, exchange.mechanism)
                self._out.append(b"*\r\n")
            else:
                self._out.append(response_line(answer))
            return None
        if reply.code // 100 == 3:
            return self._trouble(f"a reply that does not fit the command: {reply.text}")
        self._exchange = None
        self.stage = Stage.IDLE
        if reply.code // 100 != 2:
            return LoginRefused(exchange.mechanism, reply)
        if not exchange.complete:
            # The server's last word, which shows that it knows the password too, is missing: no server of ours.
            self._ended = True
            return LoginFailed(exchange.mechanism, "the server ended the exchange before it showed who it is")
        self.logged_in = True
        return LoggedIn(exchange.mechanism)

    def _after_reset(self, reply: Reply) -> Event | None:
        assert self.transaction is not None
        if reply.code == 421:
            return self._give_up(reply)
        if reply.code // 100 != 2:
            # RFC 5321 §4.1.1.5 leaves a server no choice but 250. It is no word about the recipients of this message.
            return self._trouble(f"a reply that does not fit the command: {reply.text}")
        self._ask_next(self.transaction)
        return None

    def _after_xforward(self, reply: Reply) -> Event | None:
        """What a filter does not take of this is its loss: the message goes on (as in Postfix)."""
        assert self.transaction is not None
        if reply.code == 421:
            return self._give_up(reply)
        if reply.code // 100 == 3:
            return self._trouble(f"a reply that does not fit the command: {reply.text}")
        self.transaction.prefaced += 1
        self._ask_next(self.transaction)
        return None

    def _after_mail(self, reply: Reply) -> Event | None:
        transaction = self.transaction
        assert transaction is not None
        severity = reply.code // 100
        if severity == 3:
            return self._trouble(f"a reply that does not fit the command: {reply.text}")
        if reply.code == 421:
            return self._give_up(reply)
        if severity != 2:
            transaction.refused = True
            transaction.decide_open(Stage.MAIL, reply)
            if not self.extensions.pipelining:
                return self._finish()
        self.stage = Stage.RCPT
        if not self.extensions.pipelining:
            self._out.append(b"RCPT TO:" + transaction.recipients[0] + b"\r\n")
        return None

    def _after_rcpt(self, reply: Reply) -> Event | None:
        transaction = self.transaction
        assert transaction is not None
        severity = reply.code // 100
        if severity == 3:
            return self._trouble(f"a reply that does not fit the command: {reply.text}")
        if reply.code == 421:
            return self._give_up(reply)
        at = transaction.next
        transaction.next = at + 1
        if not transaction.refused:
            if severity == 2:
                transaction.accepted.append(at)
            else:
                refusal = _too_many(reply) if transaction.accepted else reply
                transaction.outcomes[at] = Outcome(Stage.RCPT, refusal)
        pipelining = self.extensions.pipelining
        if transaction.next < len(transaction.recipients):
            if not pipelining:
                self._out.append(b"RCPT TO:" + transaction.recipients[transaction.next] + b"\r\n")
        elif pipelining and self._chunks is None:
            self.stage = Stage.DATA
        elif pipelining and transaction.early:
            self.stage = Stage.END_OF_DATA
        elif transaction.accepted:
            if self._chunks is not None:
                self.stage = Stage.CONTENT
                return SEND_CONTENT
            self._ask(Stage.DATA, b"DATA\r\n")
        else:
            self._needs_reset = not transaction.refused
            return self._finish()
        return None

    def _after_data(self, reply: Reply) -> Event | None:
        transaction = self.transaction
        assert transaction is not None
        severity = reply.code // 100
        if severity == 2:
            return self._trouble(f"a reply that does not fit the command: {reply.text}")
        if reply.code == 421:
            return self._give_up(reply)
        if severity == 3:
            if transaction.accepted:
                # What the server says unasked is for the caller to read before there is any sense in the content.
                if transaction.content is None or self._reader.pending:
                    self.stage = Stage.CONTENT
                    return SEND_CONTENT
                self._out += (self._content.encode(transaction.content), self._content.end())
                transaction.content = None  # a connection that waits for its next message keeps none
                self.stage = Stage.END_OF_DATA
                return None
            # RFC 2920 §3.1: a server that accepts DATA for nobody gets a message of nothing. Not so one that refused
            # MAIL and then forgot it, which may have taken recipients; and not in LMTP, where a dot without
            # recipients has no reply (RFC 2033 §4.2).
            if self._rules.lmtp or transaction.refused:
                self._ended = True
                return self._finish()
            self._ask(Stage.END_OF_DATA, b".\r\n")
            return None
        transaction.decide_open(Stage.DATA, reply)
        self._needs_reset = not transaction.refused
        return self._finish()

    def _amid_content(self, reply: Reply) -> Event | None:
        """The server does not wait for the dot: a refusal is one, but it cannot accept what it has not seen."""
        assert self.transaction is not None
        if self._chunks is not None and self._chunks.unanswered:
            return self._after_chunk(reply, self._chunks)
        if reply.code // 100 < 4 or self._rules.lmtp:
            return self._trouble(f"a reply before the end of the message: {reply.text}")
        self.transaction.decide_open(Stage.END_OF_DATA, reply)
        self._ended = True
        return self._finish()

    def _after_chunk(self, reply: Reply, chunks: Chunks) -> Event | None:
        """RFC 3030 §2: each chunk has its reply; a refusal of one is that of the message, whatever follows."""
        assert self.transaction is not None
        if reply.code // 100 == 3:
            return self._trouble(f"a reply that does not fit the command: {reply.text}")
        if reply.code // 100 == 2:
            chunks.unanswered -= 1
            return None
        self.transaction.decide_open(Stage.END_OF_DATA, reply)
        self._ended = True
        return self._finish()

    def _after_content(self, reply: Reply) -> Event | None:
        transaction = self.transaction
        assert transaction is not None
        if self._chunks is not None:
            if self._chunks.unanswered:
                return self._after_chunk(reply, self._chunks)
            if not transaction.accepted and reply.code != 421:  # the content was sent for nobody
                self._needs_reset = not transaction.refused
                return self._finish()
        if reply.code // 100 == 3:
            return self._trouble(f"a reply that does not fit the command: {reply.text}")
        if reply.code == 421:
            return self._give_up(reply)
        accepted, outcome = transaction.accepted, Outcome(Stage.END_OF_DATA, reply)
        if self._rules.lmtp:
            # RFC 2033 §4.2: one reply for each recipient that was accepted, in their order.
            transaction.outcomes[accepted.pop(0)] = outcome
            return self._finish() if not accepted else None
        for at in accepted:
            transaction.outcomes[at] = outcome
        return self._finish()

    def _goodbye(self, reply: Reply) -> Event | None:
        self._ended = True
        self.stage = Stage.IDLE
        return CLOSED

    def _unasked(self, reply: Reply) -> Event | None:
        return self._trouble(f"a reply to no command: {reply.text}")

    # -- ends --

    def _finish(self) -> Event:
        self.stage = Stage.IDLE
        return FINISHED

    def _give_up(self, reply: Reply) -> Event:
        """421, at any point: the server closes, and who is not decided yet is put off (RFC 5321 §3.8)."""
        assert self.transaction is not None
        self.transaction.decide_open(self.stage, reply)
        self._ended = True
        return self._finish()

    def _refused(self, reply: Reply) -> Event:
        self._ended = True
        return Refused(self.stage, reply)

    def _to_self(self, name: str) -> Event:
        self._ended = True
        return SpokeToSelf(self.stage, name)

    def _trouble(self, text: str) -> Event:
        self._ended = True
        self._out.clear()
        return Trouble(self.stage, text)


def _too_many(reply: Reply) -> Reply:
    """RFC 5321 §4.5.3.1.10: 552 may be an old server's "too many recipients", which is temporary."""
    if reply.code == 552 and (reply.status is None or (reply.status.subject, reply.status.detail) == (5, 3)):
        return reply.softened()
    return reply


_HANDLERS: tuple[Callable[[SmtpClient, Reply], Event | None], ...] = tuple(
    {
        Stage.IDLE: SmtpClient._unasked,
        Stage.GREETING: SmtpClient._greeted,
        Stage.EHLO: SmtpClient._after_hello,
        Stage.HELO: SmtpClient._after_hello,
        Stage.LHLO: SmtpClient._after_hello,
        Stage.RSET: SmtpClient._after_reset,
        Stage.MAIL: SmtpClient._after_mail,
        Stage.XFORWARD: SmtpClient._after_xforward,
        Stage.RCPT: SmtpClient._after_rcpt,
        Stage.DATA: SmtpClient._after_data,
        Stage.CONTENT: SmtpClient._amid_content,
        Stage.END_OF_DATA: SmtpClient._after_content,
        Stage.QUIT: SmtpClient._goodbye,
        Stage.STARTTLS: SmtpClient._after_starttls,
        Stage.TLS: SmtpClient._amid_handshake,
        Stage.AUTH: SmtpClient._after_auth,
    }[stage]
    for stage in Stage
)

__all__ = [
    "CLOSED", "FINISHED", "READY", "SEND_CONTENT", "START_TLS", "ClientRules", "Closed", "Event", "Finished",
    "LoggedIn", "LoginFailed", "LoginRefused", "Outcome", "Ready", "Refused", "SendContent", "SmtpClient",
    "SpokeToSelf", "Stage", "StartTls", "TlsDeclined", "Transaction", "Trouble",
]  # fmt: skip
