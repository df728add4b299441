"""From plain text to TLS: STARTTLS (RFC 3207), and listeners where TLS comes first (RFC 8314 §3.3).

Nothing that was said before the handshake counts after it (RFC 3207 §4.2); what comes behind STARTTLS in the clear ends
the session, because it may be another's who hopes to have it taken for the client's (RFC 3207 §6, CVE-2011-0411).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from ekiden.message.reply import Refusal, reply
from ekiden.message.tls_facts import TlsFacts
from ekiden.observe import events
from ekiden.policy.client_limits import Deed
from ekiden.protocol.smtp import commands, server_replies
from ekiden.receive.connection import ServerStops
from ekiden.tls.layer import TlsFailure, TlsLayer

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession


class NoTls(Exception):
    """The handshake did not come about, which the log knows: the session is over without a word."""


async def starttls(session: SmtpSession, _event: commands.StartTls) -> None:
    """Raises NoTls."""
    session.last_command = "STARTTLS"
    core, connection, tls = session.core, session.connection, session.service.tls
    assert core is not None  # there is a conversation
    assert tls is not None  # or the core would not know the command
    if connection.has_unread:
        # Read by nobody yet, so the core has not seen it; it is of the same kind as what the core refuses itself.
        text = f"improper command pipelining after STARTTLS from {session.client}"
        session.service.observer.emit(events.Note(session.service.program, text))
        await session.refuse("STARTTLS", Refusal(server_replies.NOT_SYNCHRONIZED, "improper-pipelining"))
        return
    layer = tls.layer()
    if layer is None:
        await session.refuse("STARTTLS", Refusal(server_replies.TLS_NOT_AVAILABLE, "tls-not-available"))
        return
    await session.drop_transaction()
    session.forwarded = None
    session.accept("STARTTLS", server_replies.READY_TO_START_TLS)
    connection.write(core.take_output())
    if core.closed:  # too many of these: the last reply was another
        return
    await secure(session, layer)
    core.secure(session.service.secured_rules)
    _admit(session)


async def begin_encrypted(session: SmtpSession) -> None:
    """The handshake of a listener with smtpd_tls_wrappermode, before the greeting. Raises NoTls."""
    tls = session.service.tls
    layer = tls.layer() if tls is not None else None
    if layer is None:
        text = f"no certificate for the TLS of this port: dropping the connection from {session.client}"
        session.service.observer.emit(events.Note(session.service.program, text, "warning"))
        raise NoTls
    await secure(session, layer)


async def secure(session: SmtpSession, layer: TlsLayer) -> None:
    """The handshake, and what it tells of the client. Raises NoTls."""
    service, connection, parameters = session.service, session.connection, session.parameters
    tls = service.tls
    assert tls is not None
    connection.deadline = connection.loop.time() + parameters.smtpd_starttls_timeout
    try:
        await connection.start_tls(layer)
    except (TlsFailure, TimeoutError, ServerStops) as failure:
        reason = {TimeoutError: "Connection timed out", ServerStops: "the server stops"}.get(type(failure))
        service.observer.emit(events.TlsFailed(session.client, reason or str(failure), service.program))
        raise NoTls from failure
    connection.deadline = connection.loop.time() + parameters.smtpd_timeout
    facts = tls.facts(layer)
    session.client = structs.replace(session.client, helo="", login="", login_method="", tls=facts)
    _log(session, facts, layer)


def refusal_after_handshake(session: SmtpSession) -> Refusal | None:
    """Why a client gets no session: it begins too many, or lacks the certificate that smtpd_tls_req_ccert wants."""
    tls, facts = session.service.tls, session.client.tls
    if tls is None or facts is None:
        return None
    if not facts.resumed and (refusal := session.check_rate(Deed.TLS)) is not None:
        return refusal
    if not tls.requires_certificate or facts.trusted:
        return None
    reason = "client-certificate-not-trusted" if facts.fingerprint else "no-client-certificate"
    text = f"{session.parameters.myhostname} Error: a trusted client certificate is required"
    return Refusal(reply(421, "4.7.0", text, closes=True), reason)


def _admit(session: SmtpSession) -> None:
    """A client that is refused after the handshake learns it at once."""
    refusal = refusal_after_handshake(session)
    if refusal is not None:
        session.log_refusal(refusal, "STARTTLS")
        session.connection.write(refusal.reply.render())
        raise NoTls


def _log(session: SmtpSession, facts: TlsFacts, layer: TlsLayer) -> None:
    level, emit = session.parameters.smtpd_tls_loglevel, session.service.observer.emit
    if level < 1:
        return
    unknown = getattr(layer.connection, "unknown_name", "")
    if unknown:
        text = f"TLS SNI {unknown} from {session.client} not matched, using default chain"
        emit(events.Note(session.service.program, text))
    emit(events.TlsEstablished(session.client, session.service.program))
    if level >= 2 and facts.fingerprint:
        trouble = f", {layer.verify_trouble}" if layer.verify_trouble else ""
        text = (
            f"{session.client}: subject_CN={facts.peer_name}, issuer_CN={facts.issuer}, "
            f"fingerprint={facts.fingerprint}, pkey_fingerprint={facts.key_fingerprint}{trouble}"
        )
        emit(events.Note(session.service.program, text))
