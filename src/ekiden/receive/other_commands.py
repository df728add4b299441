"""Commands that move no mail, and what is no command (RFC 5321 §4.1.1.6 to §4.1.1.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ekiden.cleanup.cleanup import table_refusal
from ekiden.message.reply import Refusal, reply
from ekiden.observe import events
from ekiden.protocol.smtp import commands, server_replies
from ekiden.receive.access import check_recipient
from ekiden.tables.table import TableTrouble

if TYPE_CHECKING:
    from ekiden.receive.session import SmtpSession

_KNOWN_VERBS = frozenset(
    {
        "AUTH",
        "HELO",
        "EHLO",
        "LHLO",
        "MAIL",
        "RCPT",
        "DATA",
        "BDAT",
        "RSET",
        "NOOP",
        "VRFY",
        "ETRN",
        "HELP",
        "QUIT",
        "STARTTLS",
        "XCLIENT",
        "XFORWARD",
    }
)


async def noop(session: SmtpSession, _event: commands.Noop) -> None:
    session.junk += 1
    session.accept("NOOP", server_replies.OK)


async def vrfy(session: SmtpSession, event: commands.Vrfy) -> None:
    """What RCPT would be told, and 252 for yes: whether the mail gets there nobody knows yet (RFC 5321 §3.5.3)."""
    session.junk += 1
    if session.parameters.disable_vrfy_command:
        await session.answer("VRFY", reply(502, "5.5.1", "VRFY command is disabled"))
        return
    try:
        transaction = session.transaction
        sender = None if transaction is None else transaction.sender
        found = await check_recipient(session, event.address, sender, "VRFY")
    except TableTrouble as trouble:
        found = table_refusal(trouble)
    if found is not None:
        await session.refuse("VRFY", found, recipient=str(event.address))
    else:
        session.accept("VRFY", server_replies.vrfy_reply(str(event.address)))


async def help(session: SmtpSession, _event: commands.Help) -> None:
    session.junk += 1
    assert session.core is not None  # there is a conversation
    hidden = "VRFY" if session.parameters.disable_vrfy_command else ""
    session.accept("HELP", server_replies.help_reply(verb for verb in session.core.verbs if verb != hidden))


async def quit(session: SmtpSession, _event: commands.Quit) -> None:
    session.accept("QUIT", server_replies.BYE)


async def invalid(session: SmtpSession, event: commands.Invalid) -> None:
    stage = event.verb or "UNKNOWN"
    # DATA that was pipelined behind refused recipients (RFC 2920 §3.1): their refusals say it all, and a log
    # analyser would count each such message twice.
    if event.reply not in (server_replies.NO_VALID_RECIPIENTS, server_replies.LMTP_NO_VALID_RECIPIENTS):
        session.log_refusal(Refusal(event.reply, event.reason), stage)
    if event.reason == "improper-pipelining":
        assert session.core is not None
        unread = "..." if stage == "AUTH" else _without_secrets(session.core.unread(100))
        text = f"improper command pipelining after {stage} from {session.client}: {unread}"
        session.service.observer.emit(events.Note(session.service.program, text))
    if event.junk:
        session.junk += 1
    await session.answer(stage if stage in _KNOWN_VERBS else "UNKNOWN", event.reply)


def _without_secrets(text: str) -> str:
    """What follows AUTH may be a password."""
    at = text.upper().find("AUTH ")
    return text if at < 0 else f"{text[:at]}AUTH ..."
