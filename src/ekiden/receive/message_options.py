"""What MAIL asks for a message by its parameters, and what of it this client gets.

In:   the parameters as the core read them, who the client is, the settings and the time.
Out:  the terms on which the message is taken, or a refusal.

Whom is believed: anybody may ask for DSNs, SMTPUTF8, a time to deliver by, and TLS. To hold a message back is the
business of the server that it is submitted to (RFC 4865 §1), and who may raise a message above others must be trusted
(RFC 6710 §8): both are for clients of mynetworks and clients that have logged in.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.message.envelope import DeliverBy
from ekiden.message.reply import Refusal, Reply, reply
from ekiden.protocol.smtp import server_replies
from ekiden.protocol.smtp.commands import NO_OPTIONS, MailOptions

_HOLD_DENIED = reply(550, "5.7.1", "HOLDFOR and HOLDUNTIL are for clients that may relay through this server")


class Terms(Struct, frozen=True):
    """``options`` as asked for; the rest is what they come to. Times are seconds since the epoch, 0 for none."""

    options: MailOptions = NO_OPTIONS
    reply: Reply = server_replies.SENDER_OK
    deliver_by: DeliverBy | None = None
    held_until: float = 0.0
    priority: int = 0


PLAIN = Terms()


def terms(options: MailOptions, parameters: Parameters, *, is_trusted: bool, now: float) -> Terms | Refusal:
    """On which terms a message is taken whose MAIL had ``options`` at the time ``now``."""
    deliver_by: DeliverBy | None = None
    if (by := options.by) is not None:
        minimum = parameters.smtpd_deliver_by_minimum
        # RFC 2852 §4: only mode R is bound to the minimum, for with mode N nothing is given up.
        if by.returns and by.seconds < minimum:
            text = f"Error: BY={by.seconds} is less than the {minimum:.0f} seconds that this server needs"
            return Refusal(reply(555, "5.5.4", text), "deliver-by-too-soon")
        deliver_by = DeliverBy(now + by.seconds, by.returns, by.traces)
    held_until = _hold(options, parameters, is_trusted=is_trusted, now=now)
    if isinstance(held_until, Refusal):
        return held_until
    priority = options.priority or 0
    if not is_trusted:
        priority = min(priority, 0)
    return Terms(options, _answer(options, priority, held_until), deliver_by, held_until, priority)


def _hold(options: MailOptions, parameters: Parameters, *, is_trusted: bool, now: float) -> float | Refusal:
    """Until when the message is held; 0 for not at all: a time that has passed holds nothing."""
    if options.hold_for is None and options.hold_until is None:
        return 0.0
    if not is_trusted:
        return Refusal(_HOLD_DENIED, "future-release-denied")
    until = now + options.hold_for if options.hold_for is not None else options.hold_until or 0.0
    limit = parameters.smtpd_future_release_limit
    if until > now + limit:
        # RFC 4865 §5: more than what EHLO said is a bad parameter.
        return Refusal(reply(501, "5.5.4", f"Error: held for more than {limit:.0f} seconds"), "future-release-too-far")
    return until if until > now else 0.0


def _answer(options: MailOptions, priority: int, held_until: float) -> Reply:
    if options.priority is not None and priority != options.priority:
        # RFC 6710 §4.1: X.3.6, and the text begins with the new priority.
        return reply(250, "2.3.6", f"{priority} is the priority of this message")
    if held_until:
        return reply(250, "2.1.0", f"Ok, held until {utc_text(held_until)}")
    return server_replies.SENDER_OK


def utc_text(at: float) -> str:
    """``at`` as an Internet date/time (RFC 3339 §5.6), to the second."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
