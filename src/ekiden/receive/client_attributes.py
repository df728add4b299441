"""XCLIENT and XFORWARD: a gateway or a content filter says which client it speaks for, if it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, structs

from ekiden.cleanup.cleanup import table_refusal
from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal, Reply, reply
from ekiden.protocol.smtp import commands, server_replies
from ekiden.protocol.smtp.client_attributes import parse_xclient, parse_xforward
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession

_DENIED = Refusal(reply(550, "5.7.0", "Error: insufficient authorization"), "not-authorized")


class Forwarded(Struct, frozen=True):
    """What XFORWARD said of the next message: where it came from before its filter, for log, bounces and pipes."""

    client: Client = Client(protocol="unknown")
    names_client: bool = False
    ident: str = ""  # the queue id that it had there
    is_local: bool | None = None  # whether it was written on this host; None: not said


async def xclient(session: SmtpSession, event: commands.XClient) -> None:
    session.junk += 1
    if not session.may_xclient:
        await session.refuse("XCLIENT", _DENIED)
        return
    found = parse_xclient(event.arguments)
    if isinstance(found, Reply):
        await session.refuse("XCLIENT", Refusal(found, "syntax"))
        return
    await session.drop_transaction()
    try:
        await session.become(found.instead_of(session.client))
    except TableTrouble as trouble:
        refusal = table_refusal(trouble)
        await session.refuse("XCLIENT", structs.replace(refusal, reply=structs.replace(refusal.reply, code=421)))
        return
    # The session begins anew, with another client.
    session.accept("XCLIENT", session.service.greeting)


async def xforward(session: SmtpSession, event: commands.XForward) -> None:
    if not session.may_xforward:
        await session.refuse("XFORWARD", _DENIED)
        return
    found = parse_xforward(event.arguments)
    if isinstance(found, Reply):
        await session.refuse("XFORWARD", Refusal(found, "syntax"))
        return
    before = session.forwarded or Forwarded()
    session.forwarded = Forwarded(
        found.added_to(before.client),
        before.names_client or found.names_client,
        before.ident if found.ident is None else found.ident,
        before.is_local if found.is_local is None else found.is_local,
    )
    session.accept("XFORWARD", server_replies.OK)
