"""The time that a sender set for the delivery of a message (RFC 2852): when it is over, and what that means.

In:   a message and a time; nothing here reads a clock.
Out:  answers. Times are seconds since the epoch.
"""

from __future__ import annotations

from ekiden.message.delivery import DeliveryResult, failed
from ekiden.message.queued import QueuedMessage
from ekiden.message.status import Status

_EXPIRED = Status(5, 4, 7)  # RFC 3463 §3.5: delivery time expired


def is_over(message: QueuedMessage, now: float) -> bool:
    """Mode R, and the time is over: nothing more is tried (RFC 2852 §4.1.2)."""
    by = message.envelope.deliver_by
    return by is not None and by.returns and by.until <= now


def tells_late(message: QueuedMessage, now: float) -> bool:
    """Mode N, and the time has passed since the round before: the sender hears that the message is late (§4.1.3).

    The message is due at the very time (next_due), so that the round that begins then is the one that tells.
    """
    by = message.envelope.deliver_by
    return by is not None and not by.returns and message.due <= by.until <= now


def next_due(message: QueuedMessage, now: float, due: float) -> float:
    """When to try again: not later than the sender's time, where that is still to come."""
    by = message.envelope.deliver_by
    return min(due, by.until) if by is not None and by.until > now else due


def expired(last: DeliveryResult | None) -> DeliveryResult:
    """The result of a recipient whose time is over, with what its last attempt said."""
    if last is None:
        return failed(_EXPIRED, "the time that the sender set for its delivery is over")
    return failed(
        _EXPIRED,
        f"the time that the sender set for its delivery is over: {last.text}",
        relay=last.relay,
        diagnostic=last.diagnostic,
        remote_mta=last.remote_mta,
    )
