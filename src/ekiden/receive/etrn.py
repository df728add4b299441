"""ETRN: a host that was away asks for its mail (RFC 1985).

For clients that smtpd_etrn_restrictions let, and only for domains of fast_flush_domains, which are those that this host
relays to: what is due for anybody else is tried when its time has come. The answer comes as soon as the queue knows;
what is then delivered goes to the host that the DNS and the transport tables name, whoever asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ekiden.cleanup.cleanup import table_refusal
from ekiden.message.reply import Refusal, reply
from ekiden.protocol.smtp import commands
from ekiden.receive.access import check_etrn
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession

# RFC 1985 §5.3; the enhanced codes are ours to choose (RFC 2034 §4 wants them).
STARTED = reply(250, "2.0.0", "Queuing started")
_UNABLE = reply(458, "4.3.0", "Unable to queue messages")


class FlushTrouble(Exception):
    """The queue could not be asked; the text is for the log."""


async def etrn(session: SmtpSession, event: commands.Etrn) -> None:
    session.last_command = "ETRN"
    session.junk += 1
    service = session.service
    try:
        if (refusal := await check_etrn(session)) is not None:
            await session.refuse("ETRN", refusal)
            return
        eligible = await service.flush_domains.matches(event.domain)
    except TableTrouble as trouble:
        await session.refuse("ETRN", table_refusal(trouble))
        return
    if not eligible:
        refused = reply(459, "4.7.0", f"<{event.domain}>: service unavailable")
        await session.refuse("ETRN", Refusal(refused, "etrn-denied", "not in fast_flush_domains"))
        return
    try:
        await service.flush_site(event.domain)
    except FlushTrouble as trouble:
        await session.refuse("ETRN", Refusal(_UNABLE, "etrn-trouble", str(trouble)))
        return
    session.accept("ETRN", STARTED)
