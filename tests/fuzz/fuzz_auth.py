"""Any bytes of a client in any chunking give the same replies; nobody is logged in without the secret in them.

Never an exception, never anybody but the account of that secret (RFC 4954 §4). The first byte chooses the connection,
the rest is what the client sends after EHLO.
"""

from __future__ import annotations

import base64
from collections.abc import Coroutine
from typing import Any, TypeVar

from ekiden.message.reply import Reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import AuthResponse, AuthStart, Content, EndOfContent, FirstChunk, Helo, Invalid
from ekiden.protocol.smtp.server import BareNewline, Limits, SmtpServer, ehlo_reply
from ekiden.protocol.smtp.server_replies import auth_challenge
from ekiden.protocol.smtp.verbs import Rules
from ekiden.sasl.accounts import Outcome, Verdict
from ekiden.sasl.exchange import Challenge, Facts, MechanismServer, Step, Success
from ekiden.sasl.own_mechanisms import OwnMechanisms
from ekiden.sasl.scram import ScramHash
from ekiden.sasl.scram_server import MadeUp
from support.sasl import KnownAccounts, ScramTalk

R = TypeVar("R")

_BOUND = {"tls-exporter": b"exported"}
_OFFERED = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "PLAIN"})
_CONNECTIONS = (
    Facts(),
    Facts(tls=True, channel_bindings=_BOUND, offered=_OFFERED),
    Facts(tls=True, certificate_verified=True, certificate_name="bob"),
    Facts(tls=True, certificate_verified=False, certificate_name="bob"),
)


class _Tokens:
    scope = "mail"
    discovery = ""

    async def verify_token(self, token: str, name: str) -> Verdict:
        return Verdict(Outcome.OK, "bob") if token == "good.token" else Verdict(Outcome.WRONG)


_OWN = OwnMechanisms(KnownAccounts(), MadeUp(lambda: b"secret"), tokens=_Tokens(), nonce=lambda: "serverNonce")
_RULES = Rules(
    Limits(auth_line_bytes=600), 0, False, forbids_early_input=False, is_forbidden=lambda _: False, has_login=True
)


def _b64(data: bytes) -> bytes:
    return base64.b64encode(data)


def _scram(mechanism: str, **options: Any) -> bytes:
    talk = ScramTalk(ScramHash.SHA256, "bob", "secret", **options)
    exchange = _OWN.exchange()
    step = _now(exchange.start(mechanism, talk.begin, _CONNECTIONS[1]))
    assert isinstance(step, Challenge)
    lines = (b"AUTH " + mechanism.encode(), _b64(talk.begin), _b64(talk.answer(step.data)), b"", b"NOOP", b"")
    return b"\r\n".join(lines)


def _now(step: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that waits for nothing."""
    try:
        step.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    raise AssertionError("it waits")


_PLAIN = _b64(b"\0bob\0secret")
SEEDS = [
    mode + text
    for mode in (b"\0", b"\1", b"\2", b"\3")
    for text in (
        b"AUTH PLAIN " + _PLAIN + b"\r\n",
        b"AUTH PLAIN\r\n" + _PLAIN + b"\r\nMAIL FROM:<a@b.example>\r\nAUTH PLAIN\r\nRSET\r\n",
        b"AUTH PLAIN " + _b64(b"alice\0bob\0secret") + b"\r\n",
        b"AUTH LOGIN\r\n" + _b64(b"bob") + b"\r\n" + _b64(b"secret") + b"\r\nAUTH LOGIN " + _b64(b"bob") + b"\r\n*\r\n",
        _scram("SCRAM-SHA-256"),
        _scram("SCRAM-SHA-256-PLUS", flag="p", binding="tls-exporter", bound=b"exported"),
        b"AUTH SCRAM-SHA-1\r\n=\r\nAUTH SCRAM-SHA-256 =\r\nAUTH SCRAM-SHA-256 " + _b64(b"y,,n=bob,r=x") + b"\r\n\r\n",
        b"AUTH EXTERNAL =\r\nAUTH EXTERNAL\r\n\r\nAUTH EXTERNAL " + _b64(b"alice") + b"\r\n",
        b"AUTH OAUTHBEARER " + _b64(b"n,a=bob,\x01auth=Bearer good.token\x01\x01") + b"\r\n",
        b"AUTH XOAUTH2 " + _b64(b"user=bob\x01auth=Bearer bad.token\x01\x01") + b"\r\n\r\n",
        b"AUTH PLAIN\r\n" + b"A" * 700 + b"\r\nAUTH " + b"X" * 21 + b"\r\nAUTH PLAIN !\r\nAUTH PLAIN\r\n\xff\r\n",
    )
]
# What a client must have said to become bob: in base64 or not, it is in its bytes.
_SECRETS = {"PLAIN": b"secret", "LOGIN": b"secret", "OAUTHBEARER": b"good.token", "XOAUTH2": b"good.token"}


def one_input(data: bytes) -> None:
    if not data:
        return
    facts, talk = _CONNECTIONS[data[0] % len(_CONNECTIONS)], data[1:]
    size = 1 + len(data) % 9
    assert _hold(talk, size, facts) == _hold(talk, 0, facts), size


def _hold(talk: bytes, size: int, facts: Facts) -> bytes:
    """All that the server says. Lines come one by one, for nothing may be pipelined behind AUTH."""
    core = SmtpServer(rules=_RULES, bare_newline=BareNewline.REJECT)
    session = _Session(core, facts)
    for line in (b"EHLO x\r\n", *talk.splitlines(keepends=True)):
        for at in range(0, len(line), size or len(line)):
            core.receive(line[at : at + (size or len(line))])
            session.answer()
    return session.output


class _Session:
    """The driver, as small as it can be."""

    def __init__(self, core: SmtpServer, facts: Facts) -> None:
        self.core = core
        self.facts = facts
        self.output = b""
        self._mechanism = ""
        self._exchange: MechanismServer | None = None
        self._success: Success | None = None
        self._said: list[bytes] = []

    def answer(self) -> None:
        while (event := self.core.next_event()) is not None:
            if isinstance(event, Content | FirstChunk):
                continue
            reply = self._reply(event)
            assert 200 <= reply.code < 600
            assert all(" " <= char <= "~" for line in reply.lines for char in line), reply
            self.core.reply(reply)
        self.output += self.core.take_output()

    def _reply(self, event: object) -> Reply:
        match event:
            case AuthStart(mechanism=mechanism, initial=initial):
                self._exchange, self._mechanism, self._success = _OWN.exchange(), mechanism, None
                self._said = [initial or b""]
                return self._of(_now(self._exchange.start(mechanism, initial, self.facts)))
            case AuthResponse(refusal=refusal) if refusal is not None:
                return refusal.reply
            case AuthResponse(data=data):
                if self._success is not None:
                    return replies.AUTH_CANCELLED if data else replies.LOGGED_IN
                assert self._exchange is not None
                self._said.append(data)
                return self._of(_now(self._exchange.respond(data)))
            case Helo():
                return ehlo_reply("mail.example", ())
            case Invalid(reply=reply):
                return reply
            case EndOfContent(refusal=refusal):
                return replies.OK if refusal is None else refusal.reply
        return replies.OK

    def _of(self, step: Step) -> Reply:
        if isinstance(step, Challenge):
            return auth_challenge(_b64(step.data).decode())
        if not isinstance(step, Success):
            return replies.AUTH_CANCELLED
        assert step.account == "bob", step
        if self._mechanism == "EXTERNAL":
            assert self.facts.certificate_verified
        elif self._mechanism in _SECRETS:
            assert any(_SECRETS[self._mechanism] in said for said in self._said), self._said
        if step.final is None:
            return replies.LOGGED_IN
        self._success = step
        return auth_challenge(_b64(step.final).decode())
