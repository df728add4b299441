"""DATA and BDAT: the content of a message, and the moment it becomes ours (RFC 5321 §4.1.1.4, RFC 3030 §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ekiden.cleanup.cleanup import Addressed
from ekiden.cleanup.header_scan import HeaderScan
from ekiden.cleanup.received import received_field
from ekiden.cleanup.smtputf8 import needs_smtputf8
from ekiden.message.envelope import BodyType, Envelope
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.message.reply import Refusal
from ekiden.observe import events
from ekiden.policy.conclusion import NOTHING_FOUND, Conclusion
from ekiden.protocol.smtp import commands, server_replies
from ekiden.queue.store import StoreTrouble
from ekiden.receive.access import check_data, check_end_of_data
from ekiden.receive.authentication import account, conclude, seal, sign
from ekiden.receive.message_options import PLAIN
from ekiden.receive.transaction import Transaction, store_refusal

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession


async def data(session: SmtpSession, _event: commands.Data) -> None:
    transaction = session.transaction
    assert transaction is not None  # the core's states know DATA only after an accepted RCPT
    if transaction.body is BodyType.BINARY_MIME:
        await session.answer("DATA", server_replies.BINARY_NEEDS_BDAT)
        return
    if session.service.asks_before_content:
        refusal = await _refusal_of_content(session, transaction, "DATA")
        if refusal is not None:
            await session.refuse("DATA", refusal)
            return
    begin(session, transaction)
    session.accept("DATA", server_replies.SEND_CONTENT)


async def first_chunk(session: SmtpSession, _event: commands.FirstChunk) -> None:
    transaction = session.transaction
    assert transaction is not None  # the core's states know a first chunk only after an accepted RCPT
    transaction.stage = "BDAT"
    transaction.refusal = await _refusal_of_content(session, transaction, "BDAT")
    if transaction.refusal is None:  # else the answer to the chunk says it
        begin(session, transaction)


async def _refusal_of_content(session: SmtpSession, transaction: Transaction, stage: str) -> Refusal | None:
    """Why it is not wanted, before it comes."""
    refusal = await check_data(session, transaction, stage)
    signer = session.service.signer
    return refusal if refusal is not None or signer is None else await sign(session, transaction, signer)


def begin(session: SmtpSession, transaction: Transaction) -> None:
    """Content follows."""
    service = session.service
    trace = received_field(
        client=session.client,
        queue_id=transaction.queue_id,
        recipients=tuple(transaction.recipients),
        hostname=session.parameters.myhostname,
        mail_name=session.parameters.mail_name,
        at=service.clock.time(),
        hides_client=session.parameters.smtpd_hide_client_session,
        smtputf8=transaction.terms.options.smtputf8,
        names_login=session.parameters.smtpd_sasl_authenticated_header,
        shows_tls=session.parameters.smtpd_tls_received_header,
        asked_certificate=session.service.tls is not None and session.service.tls.asks_certificate,
    )
    transaction.scan = HeaderScan(session.parameters.header_block_limit)
    transaction.writer = service.content_writer(transaction.queue_id)
    transaction.writer.write(trace)


async def take(session: SmtpSession, event: commands.Content) -> None:
    if session.transaction is not None:
        await session.transaction.take(event.data)


async def end_of_chunk(session: SmtpSession, event: commands.EndOfChunk) -> None:
    transaction = session.transaction
    assert transaction is not None  # chunks outside of transactions stay in the core
    session.last_command = "BDAT"
    refusal = transaction.refusal or event.refusal
    if refusal is None:
        session.accept("BDAT", server_replies.chunk_reply(event.size))
        return
    await session.refuse("BDAT", refusal)
    # That was the answer for the message; the chunks behind it hear that they are too late.
    transaction.refusal = Refusal(server_replies.AFTER_REFUSED_CHUNK, "after-refused-chunk")
    await transaction.discard()


async def end_of_content(session: SmtpSession, event: commands.EndOfContent) -> None:
    transaction = session.transaction
    assert transaction is not None  # content follows an accepted DATA or RCPT
    stage = session.last_command = transaction.stage
    session.junk = 0
    if event.has_bare_newline and event.refusal is None:
        session.service.observer.emit(
            events.Note(
                session.service.program, f"bare newline in content from {session.client}", queue_id=transaction.queue_id
            )
        )
    refusal = await transaction.check_end(session.parameters.hopcount_limit) or event.refusal
    conclusion = NOTHING_FOUND
    if refusal is None and transaction.reader is not None:
        conclusion, refusal = await conclude(session, transaction, transaction.reader)
    if refusal is None and session.service.asks_after_content:
        refusal = await check_end_of_data(session, transaction, conclusion.verdicts)
    if refusal is None:
        refusal = await queue(session, transaction, conclusion)
    if session.service.accounts and (refusal is None or refusal is conclusion.decision.refusal):
        account(session, transaction, conclusion)
    if refusal is not None:
        await session.refuse(stage, refusal)
    else:
        assert session.core is not None
        session.received += 1
        answer = server_replies.queued_reply(transaction.queue_id)
        if stage == "BDAT":
            session.accept(stage, answer)
        else:
            session.core.reply(answer)
    await session.drop_transaction()
    if session.service.stopping:
        session.connection.hurry()


async def queue(session: SmtpSession, transaction: Transaction, conclusion: Conclusion) -> Refusal | None:
    """Hand the message to the queue: from the return of this call on we are responsible for it."""
    service, writer = session.service, transaction.writer
    assert writer is not None  # check_end has refused a message whose content is gone
    addressed = await service.cleanup.envelope(transaction.sender, transaction.recipients, transaction.way)
    if isinstance(addressed, Refusal):
        return addressed
    recipients, head = addressed.recipients, conclusion.head
    if transaction.examination is not None and transaction.examination.seals:
        sealed = await seal(session, transaction, transaction.examination, conclusion, recipients)
        if isinstance(sealed, Refusal):
            return sealed
        head = sealed + head
    try:
        content = await writer.finish(head)
        # From here on the content may be the queue's: a session that is cancelled must not take it away again.
        transaction.writer = None
        message = QueuedMessage(
            queue_id=transaction.queue_id,
            envelope=_envelope(session, transaction, addressed),
            content=content,
            arrived=transaction.started,
            pending=tuple(map(Pending, recipients)),
            message_id=transaction.message_id,
            due=transaction.terms.held_until,
            content_filter=session.parameters.content_filter,
            hold=conclusion.decision.hold,
        )
        service.observer.emit(events.MessageId(message.queue_id, message.message_id))
        await service.intake(message)
    except StoreTrouble as trouble:
        await writer.discard()
        return store_refusal(trouble)
    return None


def _envelope(session: SmtpSession, transaction: Transaction, addressed: Addressed) -> Envelope:
    terms, parameters = transaction.terms, session.parameters
    client = session.client if session.forwarded is None else session.origin
    tls_optional = transaction.tls_is_optional and parameters.tls_required_enable
    smtputf8 = False
    if session.service.detects_smtputf8:
        smtputf8 = needs_smtputf8(addressed, b"" if transaction.scan is None else transaction.scan.header)
    if terms is PLAIN and not smtputf8:
        return Envelope(addressed.sender, addressed.recipients, transaction.body, client, tls_optional=tls_optional)
    options = terms.options
    return Envelope(
        addressed.sender,
        addressed.recipients,
        transaction.body,
        client,
        smtputf8=options.smtputf8 or smtputf8,
        ret=options.ret,
        envid=options.envid,
        deliver_by=terms.deliver_by,
        priority=terms.priority,
        require_tls=options.require_tls,
        held_until=terms.held_until,
        tls_optional=tls_optional,
    )
