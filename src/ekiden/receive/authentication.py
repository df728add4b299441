"""Sender authentication in a session: who is examined, when, and what is said of it in the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ekiden.cleanup.cleanup import table_refusal
from ekiden.message.envelope import Recipient
from ekiden.message.reply import Refusal
from ekiden.observe import events
from ekiden.policy.conclusion import NOTHING_FOUND, Conclusion, ContentReader
from ekiden.policy.examination import Examination
from ekiden.policy.sender_authentication import SenderAuthentication
from ekiden.policy.signing import MessageSigner
from ekiden.receive.transaction import Transaction
from ekiden.reports.collect import Evaluated
from ekiden.reports.request import looks_like_report
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession


async def examine(
    session: SmtpSession, transaction: Transaction, authentication: SenderAuthentication
) -> Refusal | None:
    """A recipient was found good: now it counts who really sends the message. What SPF has against it.

    Raises TableTrouble.
    """
    if session.trusted or session.client.login:
        return None
    examination = transaction.examination
    if examination is None:
        if authentication.exempts_some and await authentication.is_exempt(session.client):
            return None
        examination = transaction.reader = transaction.examination = authentication.examine(
            session.client, transaction.sender
        )
        examination.begin()
    return await examination.recipient_refusal() if authentication.refuses_by_spf else None


async def sign(session: SmtpSession, transaction: Transaction, signer: MessageSigner) -> Refusal | None:
    """Content follows: if it is of one of our own clients, what leaves is signed."""
    if transaction.reader is None:
        try:
            transaction.reader = await signer.of_client(session.client)
        except TableTrouble as trouble:
            return table_refusal(trouble)
    return None


async def seal(
    session: SmtpSession,
    transaction: Transaction,
    examination: Examination,
    conclusion: Conclusion,
    recipients: Sequence[Recipient],
) -> bytes | Refusal:
    """The ARC fields that go on with the message; b"" without any. ``recipients``: as the queue gets them."""
    try:
        sealed = await examination.sealed(conclusion, recipients)
    except TableTrouble as trouble:
        return table_refusal(trouble)
    service = session.service
    if sealed.trouble:
        service.observer.emit(events.Note(service.program, sealed.trouble, "warning", queue_id=transaction.queue_id))
    elif sealed.note:
        service.observer.emit(
            events.Note(service.program, f"no ARC seal: {sealed.note}", queue_id=transaction.queue_id)
        )
    return sealed.fields


def account(session: SmtpSession, transaction: Transaction, conclusion: Conclusion) -> None:
    """The message was taken, or refused because its owner asks for that: its owner may hear of it (RFC 9990)."""
    examination, authentication = transaction.examination, session.service.authentication
    report = None if authentication is None else authentication.report
    if examination is None or report is None or conclusion.verdicts.dmarc is None:
        return
    decision, parameters = conclusion.decision, session.parameters
    evaluated = Evaluated(
        verdicts=conclusion.verdicts,
        client_address=session.client.address,
        now=transaction.started,
        envelope_from=transaction.sender.domain,
        envelope_to=tuple({recipient.address.domain: None for recipient in transaction.recipients}),
        disposition=decision.disposition,
        reasons=() if decision.reason is None else (decision.reason,),
        discovery=parameters.dmarc_discovery,
        is_report=looks_like_report(examination.header),
    )
    report(evaluated, examination.header)


async def conclude(
    session: SmtpSession, transaction: Transaction, reader: ContentReader
) -> tuple[Conclusion, Refusal | None]:
    """The content is whole: what was found, and the refusal where that is the answer."""
    try:
        conclusion = await reader.conclude()
    except TableTrouble as trouble:
        return NOTHING_FOUND, table_refusal(trouble)
    for warning in conclusion.warnings:
        session.service.observer.emit(
            events.Note(session.service.program, warning, "warning", queue_id=transaction.queue_id)
        )
    transaction.reader = None  # it has done its work: there is nothing to cancel
    if conclusion.results:
        session.service.observer.emit(
            events.Authenticated(
                transaction.queue_id, conclusion.results, conclusion.decision.words, session.service.program
            )
        )
    return conclusion, conclusion.decision.refusal
