"""AUTH: a client shows who it is (RFC 4954 §4, §6).

What a client hears of a failure is the same whether an account does not exist, is disabled or has another password;
the log has the reason.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from ekiden.cleanup.cleanup import table_refusal
from ekiden.message.reply import Refusal, Reply, reply
from ekiden.observe import events
from ekiden.policy.client_limits import Deed
from ekiden.protocol.smtp import commands, server_replies
from ekiden.sasl.exchange import Challenge, Failure, MechanismServer, Step, Success
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession

_ALREADY = reply(503, "5.5.1", "Error: already authenticated")
_NEEDS_TLS = reply(538, "5.7.11", "Encryption required for requested authentication mechanism")  # RFC 4954 §6
_UNKNOWN_MECHANISM = reply(504, "5.5.4", "Error: unrecognized authentication mechanism")
_FAILED = reply(535, "5.7.8", "Error: authentication failed: (reason unavailable)")
_TEMPORARY = reply(454, "4.7.0", "Temporary authentication failure")
_MALFORMED = reply(501, "5.5.2", "Error: malformed authentication message")


class LoginExchange(Struct):
    """One exchange, from AUTH to its end. ``success`` waits for the client to confirm the server's last word."""

    mechanism: str
    server: MechanismServer
    success: Success | None = None

    def abandon(self) -> None:
        self.server.abandon()


async def start(session: SmtpSession, event: commands.AuthStart) -> None:
    session.last_command = "AUTH"
    service = session.service.login
    assert service is not None  # the core's rules know AUTH only where there is login
    client = session.client
    if not client.helo:
        await session.answer("AUTH", server_replies.AUTH_NEEDS_HELO)
        return
    if client.login:
        await session.answer("AUTH", _ALREADY)
        return
    refusal = session.service.login_failures.before(client, session.network) or session.check_rate(Deed.AUTH)
    if refusal is not None:
        await session.refuse("AUTH", refusal)
        return
    if service.needs_tls(client.tls):
        await _refuse(session, event.mechanism, _NEEDS_TLS, "encryption required")
        return
    try:
        facts = await service.facts(session)
    except TableTrouble as trouble:
        await session.refuse("AUTH", table_refusal(trouble))
        return
    if event.mechanism not in facts.offered:
        over_tls = () if facts.tls else await service.usable(structs.replace(facts, tls=True))
        answer = _NEEDS_TLS if event.mechanism in over_tls else _UNKNOWN_MECHANISM
        await _refuse(session, event.mechanism, answer, "Invalid authentication mechanism")
        return
    server = service.mechanisms.exchange()
    exchange = session.exchange = LoginExchange(event.mechanism, server)
    step = await server.start(event.mechanism, event.initial, facts)
    await _go_on(session, exchange, step)


async def respond(session: SmtpSession, event: commands.AuthResponse) -> None:
    exchange = session.exchange
    assert exchange is not None  # the core has a response only after a challenge
    if event.refusal is not None:
        session.exchange = None
        exchange.abandon()
        is_cancelled = event.refusal.reply is server_replies.AUTH_CANCELLED
        _warn(session, exchange.mechanism, "" if is_cancelled else "malformed response", "", is_aborted=is_cancelled)
        await session.answer("AUTH", event.refusal.reply)
        return
    if exchange.success is None:
        await _go_on(session, exchange, await exchange.server.respond(event.data))
    elif event.data:
        # RFC 4422 §3.6: the server has said its last word; there is nothing to say to it.
        await _go_on(session, exchange, Failure("a response after the end", malformed=True))
    else:
        await _go_on(session, exchange, structs.replace(exchange.success, final=None))


async def _go_on(session: SmtpSession, exchange: LoginExchange, step: Step) -> None:
    if session.connection.has_unread:
        # Sent before the reply, in a packet of its own: of the same kind as what the core refuses itself.
        session.exchange = None
        exchange.abandon()
        text = f"improper command pipelining after AUTH from {session.client}"
        session.service.observer.emit(events.Note("smtpd", text))
        await session.refuse("AUTH", Refusal(server_replies.NOT_SYNCHRONIZED, "improper-pipelining"))
        return
    match step:
        case Challenge(data=data):
            _challenge(session, data)
            return
        case Success(final=final) if final is not None:
            # SMTP has no room for data with a success: they are one more challenge (RFC 4954 §4).
            exchange.success = step
            _challenge(session, final)
            return
    session.exchange = None
    client, failures = session.client, session.service.login_failures
    if isinstance(step, Success):
        judgement = failures.after(client, session.network, step.account, accepted=True)
        if judgement.refusal is not None:
            await _refuse(
                session, exchange.mechanism, judgement.refusal.reply, judgement.refusal.detail, account=step.account
            )
            return
        session.client = structs.replace(client, login=step.account, login_method=exchange.mechanism)
        session.accept("AUTH", server_replies.LOGGED_IN)
        return
    assert isinstance(step, Failure)
    answer = _MALFORMED if step.malformed else _TEMPORARY if step.temporary else _FAILED
    if answer is _FAILED:
        judgement = failures.after(client, session.network, step.account, accepted=False)
        if judgement.refusal is not None:
            answer = judgement.refusal.reply
        if judgement.wait_s:
            await session.service.clock.sleep(judgement.wait_s)
    await _refuse(session, exchange.mechanism, answer, step.reason, account=step.account)


def _challenge(session: SmtpSession, data: bytes) -> None:
    assert session.core is not None  # there is a conversation
    session.core.reply(server_replies.auth_challenge(base64.b64encode(data).decode("ascii")))


async def _refuse(session: SmtpSession, mechanism: str, answer: Reply, reason: str, *, account: str = "") -> None:
    _warn(session, mechanism, reason, account)
    await session.answer("AUTH", answer)


def _warn(session: SmtpSession, mechanism: str, reason: str, account: str, *, is_aborted: bool = False) -> None:
    session.service.observer.emit(
        events.LoginFailed(session.client, mechanism, reason, account=account, is_aborted=is_aborted)
    )
