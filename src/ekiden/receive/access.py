"""Asks the access rules of a service about a command, and logs what they would have refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ekiden.cleanup.cleanup import table_refusal
from ekiden.message.address import Address
from ekiden.message.reply import Refusal
from ekiden.policy.access_rules import AccessRules, Decision
from ekiden.policy.restrictions import Situation
from ekiden.receive.transaction import Transaction
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession


async def check_recipient(
    session: SmtpSession, transaction: Transaction, rules: AccessRules, address: Address
) -> Refusal | None:
    """At RCPT. Raises TableTrouble."""
    decision = await rules.recipient(Situation(session.client, session.trusted, transaction.sender, address))
    return _told(session, decision, "RCPT", str(address))


async def check_data(session: SmtpSession, transaction: Transaction, stage: str = "DATA") -> Refusal | None:
    """Before the content is taken."""
    rules = session.service.relay_access.rules
    if rules is None or not rules.has_data:
        return None
    try:
        return _told(session, await rules.data(_of_message(session, transaction)), stage)
    except TableTrouble as trouble:
        return table_refusal(trouble)


async def check_end_of_data(session: SmtpSession, transaction: Transaction) -> Refusal | None:
    """When the content is there."""
    rules = session.service.relay_access.rules
    if rules is None or not rules.has_end_of_data:
        return None
    try:
        return _told(session, await rules.end_of_data(_of_message(session, transaction)), "END-OF-MESSAGE")
    except TableTrouble as trouble:
        return table_refusal(trouble)


def _of_message(session: SmtpSession, transaction: Transaction) -> Situation:
    """A message has no recipient to judge by when it has several."""
    recipients = transaction.recipients
    only = recipients[0].address if len(recipients) == 1 else None
    return Situation(session.client, session.trusted, transaction.sender, only)


def _told(session: SmtpSession, decision: Decision, stage: str, recipient: str = "") -> Refusal | None:
    for warning in decision.warnings:
        session.log_refusal(warning, stage, recipient=recipient, is_warning=True)
    return decision.refusal
