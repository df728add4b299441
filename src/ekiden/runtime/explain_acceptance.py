"""What this server would do with a message for what the checks find: by the code that does it (policy.examination).

In:   a message, where it came from, the settings of the listener that strangers' mail comes to.
Out:  Findings of the check "server": why nothing would be asked, what is refused and with which words, what is marked.
Never: counts anything for reports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal
from ekiden.policy.sender_authentication import SenderAuthentication
from ekiden.runtime.explain_authentication import Examined, Finding
from ekiden.tables.match import client_list
from ekiden.tables.table import TableTrouble

_CHUNK = 1 << 16


async def would_do(message: Examined, authentication: SenderAuthentication) -> list[Finding]:
    try:
        return [finding async for finding in _would_do(message, authentication)]
    except TableTrouble as trouble:
        return [Finding("server", "refuses", f"for now: a table cannot be asked: {trouble}")]


async def _would_do(message: Examined, authentication: SenderAuthentication) -> AsyncIterator[Finding]:
    parameters = authentication.parameters
    unasked = await _unasked(message.client, authentication)
    if unasked is not None:
        yield unasked
        return
    examination = authentication.examine(message.client, message.sender)
    examination.begin()
    try:
        refusal = await examination.recipient_refusal()
        if refusal is not None:
            yield _refusal(refusal, "at RCPT", f"spf_policy = {parameters.spf_policy}")
            return
        examination.take_header(message.header, message.header)
        for at in range(0, len(message.body), _CHUNK):
            examination.feed(message.body[at : at + _CHUNK])
        conclusion = await examination.conclude()
    finally:
        examination.cancel()
    decision, setting = conclusion.decision, f"dmarc_policy = {parameters.dmarc_policy}"
    words = (("because", decision.words),) if decision.words else ()
    if decision.refusal is not None:
        yield _refusal(decision.refusal, "at the end of the content", setting)
    elif decision.hold:
        yield Finding("server", "holds", "it is put on hold in the queue", words, "dmarc_quarantine_action = hold")
    elif decision.fields:
        yield Finding("server", "marks", decision.fields.decode("utf-8", "replace").strip(), words, setting)
    else:
        yield Finding("server", "accepts", "nothing of this keeps it out", words, setting if words else "")
    if decision.refusal is None and conclusion.results:
        yield Finding("server", "writes", f"Authentication-Results: {parameters.authserv_id}; {conclusion.results}")


async def _unasked(client: Client, authentication: SenderAuthentication) -> Finding | None:
    """Why mail of this client is not examined."""
    parameters = authentication.parameters
    if not authentication.is_wanted(parameters):
        return Finding("server", "accepts", "all checks are switched off", setting="spf_policy, dmarc_policy ...")
    if client.login:
        return Finding("server", "accepts", f"the client has logged in as {client.login}, so nothing is asked")
    if not client.address:
        return Finding("server", "", "what it would do is not known: that depends on the client")
    if await client_list(parameters, "mynetworks").matches(client.address, client.name):
        text = f"{client.address} is one of our own clients, so nothing is asked"
        return Finding("server", "accepts", text, setting="mynetworks")
    if await authentication.is_exempt(client):
        text = f"{client.address} is exempt, so nothing is asked"
        return Finding("server", "accepts", text, setting="authentication_exempt_clients")
    return None


def _refusal(refusal: Refusal, when: str, setting: str) -> Finding:
    words = (("because", refusal.detail),) if refusal.detail else ()
    return Finding("server", "refuses", f"{when}: {refusal.reply.text}", words, setting)
