"""What happened on a connection, as results: status, and the words that administrators know from Postfix."""

from __future__ import annotations

import errno
import os

from ekiden.deliver.connection import Endpoint, Lost, TimedOut, UnixHost
from ekiden.message.delivery import Action, DeliveryResult, deferred, failed
from ekiden.message.status import Status
from ekiden.protocol.smtp.client import Outcome, Refused, Stage, Trouble
from ekiden.protocol.smtp.replies import status_of

# "in reply to ...", by Stage.
_COMMANDS = (
    "no command", "no command", "EHLO command", "HELO command", "LHLO command", "RSET command", "MAIL FROM command",
    "RCPT TO command", "DATA command", "end of DATA command", "end of DATA command", "QUIT command",
    "STARTTLS command", "TLS handshake", "AUTH command", "XFORWARD command",
)  # fmt: skip
# "... while ...", by Stage.
_DOING = (
    "waiting for the next message", "receiving the initial server greeting", "performing the EHLO handshake",
    "performing the HELO handshake", "performing the LHLO handshake", "sending RSET", "sending MAIL FROM",
    "sending RCPT TO", "sending DATA command", "sending message body",
    "sending end of data -- message may be sent more than once", "sending QUIT",
    "performing the STARTTLS handshake", "performing the TLS handshake", "performing SASL authentication",
    "sending XFORWARD",
)  # fmt: skip

Facts = dict[str, str | float]  # of DeliveryResult: remote_mta and times

LOST = Status(4, 4, 2)  # RFC 3463 §3.5: bad connection
NO_ANSWER = Status(4, 4, 1)  # no answer from host
LOOPS = Status(5, 4, 6)  # routing loop detected
NOT_SMTP = Status(4, 5, 0)  # other or undefined protocol status


def label(endpoint: Endpoint) -> str:
    """``name[address]``, as texts name a server."""
    return str(endpoint) if isinstance(endpoint, UnixHost) else f"{endpoint.name}[{endpoint.address}]"


def facts_of(endpoint: Endpoint, connect_s: float, transmit_s: float = 0.0) -> Facts:
    """What all results of one session share."""
    return {"remote_mta": f"dns; {endpoint.name}", "connect_s": connect_s, "transmit_s": transmit_s}


def of_reply(outcome: Outcome, endpoint: Endpoint, relay: str, facts: Facts, *, final: bool) -> DeliveryResult:
    """The result of a recipient that a reply decided. ``final``: what is accepted counts as delivered, not relayed."""
    reply = outcome.reply
    text = reply.text.rstrip()
    status = reply.status or status_of(reply)
    diagnostic = f"smtp; {text}"
    if reply.code < 400:
        # The class of the status is that of the code.
        action = Action.DELIVERED if final else Action.RELAYED
        return DeliveryResult(action, status, text, relay, diagnostic, **facts)  # type: ignore[arg-type]
    said = f"host {label(endpoint)} said: {text} (in reply to {_COMMANDS[outcome.stage]})"
    return (deferred if reply.code < 500 else failed)(status, said, relay=relay, diagnostic=diagnostic, **facts)


def of_trouble(event: Lost | TimedOut | Trouble, endpoint: Endpoint, facts: Facts) -> DeliveryResult:
    """The result of a recipient that no reply decided, because the connection failed."""
    peer, doing = label(endpoint), _DOING[event.stage]
    status = LOST
    if isinstance(event, Lost):
        text = f"lost connection with {peer} while {doing}"
    elif isinstance(event, TimedOut):
        text = f"conversation with {peer} timed out while {doing}"
    else:
        status = NOT_SMTP
        text = f"host {peer} broke the protocol while {doing}: {event.text}"
    return deferred(status, text, relay=str(endpoint), **facts)


def of_refusal(event: Refused, endpoint: Endpoint, facts: Facts, *, skip_5xx_greeting: bool) -> DeliveryResult:
    """The result of all recipients when a server wants no session."""
    reply = event.reply
    said = reply.text.rstrip()
    text, diagnostic = f"host {label(endpoint)} refused to talk to me: {said}", f"smtp; {said}"
    status, relay = status_of(reply), str(endpoint)
    if reply.code >= 500 and not (event.stage is Stage.GREETING and skip_5xx_greeting):
        return failed(status, text, relay=relay, diagnostic=diagnostic, **facts)
    return deferred(status.with_class(4), text, relay=relay, diagnostic=diagnostic, **facts)


def of_loop(next_hop: str, endpoint: Endpoint, facts: Facts, *, best: bool) -> DeliveryResult:
    """The server is this host. As the best of its next hop that is final; behind better ones we may be the spare."""
    text = f"mail for {next_hop} loops back to myself"
    relay = str(endpoint)
    if best:
        return failed(LOOPS, text, relay=relay, **facts)
    return deferred(LOOPS.with_class(4), text, relay=relay, **facts)


def of_connect(error: OSError, endpoint: Endpoint, *, connect_s: float) -> DeliveryResult:
    if isinstance(error, TimeoutError) or error.errno is None:
        why = os.strerror(errno.ETIMEDOUT) if isinstance(error, TimeoutError) else str(error)
    else:
        # asyncio puts the address into its own text; the log has it already.
        why = os.strerror(error.errno)
    return deferred(NO_ANSWER, f"connect to {endpoint}: {why}", connect_s=connect_s)
