"""HELO and EHLO: who the client says it is, and what it may use (RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from ekiden.cleanup.cleanup import table_refusal
from ekiden.protocol.smtp import commands
from ekiden.receive.extensions import Occasion
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession


async def helo(session: SmtpSession, event: commands.Helo) -> None:
    if session.transaction is not None or session.forwarded is not None:
        await session.drop_transaction()
    client = session.client
    verb, protocol = _PLAIN if not event.extended else _LMTP if session.service.is_lmtp else _EXTENDED
    session.client = structs.replace(client, helo=event.name, protocol=protocol)
    session.junk += 1
    core, service = session.core, session.service
    assert core is not None  # there is a conversation
    if not event.extended:
        core.offer(_NOTHING)
        session.accept(verb, service.helo_reply)
        return
    login, tls = service.login, service.tls
    try:
        discarded = service.discarded
        if service.asks_what_to_discard:
            discarded = await service.discarded_keywords(client.address)
        mechanisms = () if login is None else await login.announced(session)
    except TableTrouble as trouble:
        await session.refuse(verb, table_refusal(trouble))
        return
    occasion = Occasion(
        discarded,
        is_trusted=session.trusted or bool(client.login),
        is_encrypted=client.tls is not None,
        can_encrypt=tls is not None and tls.is_ready,
        minute=int(service.clock.time() / 60),
        may_xclient=session.may_xclient,
        may_xforward=session.may_xforward,
        may_log_in=bool(mechanisms),
        mechanisms=mechanisms,
    )
    offered = service.offers.known(occasion) or service.offers.on(occasion)
    core.offer(offered.keywords)
    session.accept(verb, offered.reply)


# The verb, and the protocol that Received: names (RFC 5321 §4.4, RFC 3848).
_PLAIN, _EXTENDED, _LMTP = ("HELO", "SMTP"), ("EHLO", "ESMTP"), ("LHLO", "LMTP")
_NOTHING: frozenset[str] = frozenset()
