"""MAIL, RCPT and RSET: the envelope of a message (RFC 5321 §3.3, §4.1.1.2, §4.1.1.3, §4.1.1.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ekiden.cleanup.cleanup import table_refusal
from ekiden.message.envelope import Notify, Recipient
from ekiden.message.reply import Refusal, reply
from ekiden.observe import events
from ekiden.policy.client_limits import Deed
from ekiden.protocol.smtp import commands, server_replies
from ekiden.queue.store import StoreTrouble
from ekiden.receive.access import check_recipient
from ekiden.receive.authentication import examine
from ekiden.receive.message_options import PLAIN, terms
from ekiden.receive.transaction import Transaction, store_refusal
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession


async def mail(session: SmtpSession, event: commands.Mail) -> None:
    session.last_command = "MAIL"
    if session.parameters.smtpd_helo_required and not session.client.helo:
        await session.answer("MAIL", reply(503, "5.5.1", "Error: send HELO/EHLO first"))
        return
    if session.network and (refusal := session.check_rate(Deed.MESSAGE)) is not None:
        await session.refuse("MAIL", refusal, sender=str(event.sender))
        return
    # Half as much again as the largest message, as Postfix asks for: other sessions are writing too.
    if not await session.service.has_space(session.parameters.message_size_limit * 3 // 2):
        await session.refuse("MAIL", store_refusal(StoreTrouble("queue_minfree", full=True)), sender=str(event.sender))
        return
    service = session.service
    if session.judged is not session.client:  # it has logged in since, say
        try:
            session.is_local = await service.rewrite_clients.include(session.client)
            session.judged = session.client
        except TableTrouble as trouble:
            await session.refuse("MAIL", table_refusal(trouble), sender=str(event.sender))
            return
    forwarded = session.forwarded
    is_local = session.is_local if forwarded is None or forwarded.is_local is None else forwarded.is_local
    way = service.local_way if is_local else service.remote_way
    now = service.clock.time()
    agreed = PLAIN
    if event.options is not commands.NO_OPTIONS:
        is_trusted = session.trusted or bool(session.client.login)
        found = terms(event.options, session.parameters, is_trusted=is_trusted, now=now)
        if isinstance(found, Refusal):
            await session.refuse("MAIL", found, sender=str(event.sender))
            return
        agreed = found
    session.transaction = Transaction(event.sender, event.body, now, service.cleanup, way, agreed)
    if not session.parameters.smtpd_delay_open_until_valid_rcpt:
        open_message(session, session.transaction)
    session.accept("MAIL", agreed.reply)


def open_message(session: SmtpSession, transaction: Transaction) -> None:
    transaction.queue_id = session.service.new_queue_id()
    forwarded = session.forwarded
    # RFC 4954 §5: of a client that is nobody, who submitted the message is not believed.
    submitter = (transaction.terms.options.auth or "").removeprefix("<>") if session.client.login else ""
    if forwarded is None:
        accepting = events.Accepting(
            transaction.queue_id, session.client, service=session.service.program, submitter=submitter
        )
    else:
        original = forwarded.client if forwarded.names_client else None
        accepting = events.Accepting(
            transaction.queue_id, session.client, original, forwarded.ident, session.service.program, submitter
        )
    session.service.observer.emit(accepting)


async def rcpt(session: SmtpSession, event: commands.Rcpt) -> None:
    transaction = session.transaction
    assert transaction is not None  # the core's states know RCPT only after an accepted MAIL
    if session.network and (refusal := session.check_rate(Deed.RECIPIENT)) is not None:
        await session.refuse("RCPT", refusal, recipient=str(event.address))
        return
    limit = session.parameters.smtpd_recipient_limit
    if len(transaction.recipients) >= limit:
        transaction.overshoot += 1
        refusal = Refusal(reply(452, "4.5.3", "Error: too many recipients"), "too-many-recipients")
        is_error = transaction.overshoot > session.parameters.smtpd_recipient_overshoot_limit
        await session.refuse("RCPT", refusal, recipient=str(event.address), is_error=is_error)
        return
    try:
        found = await check_recipient(session, event.address, transaction.sender)
        if found is None and session.service.authentication is not None:
            found = await examine(session, transaction, session.service.authentication)
    except TableTrouble as trouble:
        found = table_refusal(trouble)
    if found is not None:
        await session.refuse("RCPT", found, recipient=str(event.address))
        return
    if not transaction.queue_id:
        open_message(session, transaction)
    if event.notify is None and not event.orcpt:
        recipient = Recipient(event.address)
    else:
        recipient = Recipient(event.address, None, event.notify or _USUAL, event.orcpt)
    transaction.recipients.append(recipient)
    session.accept("RCPT", server_replies.RECIPIENT_OK)


_USUAL = Notify.FAILURE | Notify.DELAY  # RFC 3461 §4.1: without NOTIFY


async def rset(session: SmtpSession, _event: commands.Rset) -> None:
    await session.drop_transaction()
    session.junk += 1
    session.accept("RSET", server_replies.OK)
