"""Asks the access rules of a service about a command, and logs what they would have refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ekiden.auth.verdict import Verdicts
from ekiden.cleanup.cleanup import table_refusal
from ekiden.message.address import Address
from ekiden.message.reply import Refusal
from ekiden.policy.access_rules import Decision
from ekiden.policy.conclusion import NOTHING_FOUND
from ekiden.policy.restrictions import Situation
from ekiden.receive.transaction import Transaction
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession


async def check_recipient(
    session: SmtpSession, address: Address, sender: Address | None, stage: str = "RCPT"
) -> Refusal | None:
    """At RCPT, and at VRFY, where there may be no sender. Raises TableTrouble."""
    # RFC 5321 §4.5.1: <postmaster> is let in by that name, whatever the domain is that it gets.
    if address.domain or address.local.lower() != "postmaster":
        address = session.service.cleanup.standard(address)
    access = session.service.relay_access
    if access.rules is not None:
        decision = await access.rules.recipient(Situation(session.client, session.trusted, sender, address))
        return _told(session, decision, stage, str(address))
    found = await access.check_sender(sender) if access.checks_senders and sender is not None else None
    if found is None and not access.is_open(address):
        trusted = session.trusted or (access.trusts_logins and bool(session.client.login))
        found = await access.check(address, trusted=trusted)
    return found


async def check_etrn(session: SmtpSession) -> Refusal | None:
    """Raises TableTrouble."""
    rules = session.service.relay_access.rules
    if rules is None:
        return None
    return _told(session, await rules.etrn(Situation(session.client, session.trusted)), "ETRN")


async def check_data(session: SmtpSession, transaction: Transaction, stage: str = "DATA") -> Refusal | None:
    """Before the content is taken."""
    rules = session.service.relay_access.rules
    if rules is None:
        return None
    try:
        return _told(session, await rules.data(_of_message(session, transaction)), stage)
    except TableTrouble as trouble:
        return table_refusal(trouble)


async def check_end_of_data(session: SmtpSession, transaction: Transaction, verdicts: Verdicts) -> Refusal | None:
    """When the content is there. ``verdicts``: what sender authentication found."""
    rules = session.service.relay_access.rules
    if rules is None:
        return None
    try:
        return _told(session, await rules.end_of_data(_of_message(session, transaction, verdicts)), "END-OF-MESSAGE")
    except TableTrouble as trouble:
        return table_refusal(trouble)


def _of_message(
    session: SmtpSession, transaction: Transaction, verdicts: Verdicts = NOTHING_FOUND.verdicts
) -> Situation:
    """A message has no recipient to judge by when it has several."""
    recipients = transaction.recipients
    only = recipients[0].address if len(recipients) == 1 else None
    return Situation(session.client, session.trusted, transaction.sender, only, verdicts)


def _told(session: SmtpSession, decision: Decision, stage: str, recipient: str = "") -> Refusal | None:
    for warning in decision.warnings:
        session.log_refusal(warning, stage, recipient=recipient, is_warning=True)
    return decision.refusal
