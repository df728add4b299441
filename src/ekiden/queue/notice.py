"""What the scheduler asks of the maker of delivery status notifications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from ekiden.message.delivery import Action, DeliveryResult
from ekiden.message.envelope import Envelope, Notify, Recipient
from ekiden.message.queued import QueuedMessage

Ended = tuple[Recipient, DeliveryResult]


_SILENT = (Notify.NEVER, Notify.GIVEN)


def may_be_told(recipient: Recipient) -> bool:
    """Not NOTIFY=NEVER (RFC 3461 §4.1)."""
    return recipient.notify not in _SILENT


def tells_success(envelope: Envelope, recipient: Recipient, result: DeliveryResult) -> bool:
    """Whether the sender hears from us that a recipient is delivered, relayed or expanded.

    RFC 3461 §5.2.1, §5.2.2: not of what went to a system that reports itself. RFC 2852 §4.1.4: who set a time hears
    when a message is relayed, if a trace was asked for or the next system knows nothing of the time.
    """
    # Comparing is ten times cheaper than a flag's ``in``, and comes first.
    if recipient.notify >= Notify.SUCCESS and Notify.SUCCESS in recipient.notify and not result.dsn_passed:
        return True
    by = envelope.deliver_by
    return (
        by is not None
        and result.action is Action.RELAYED
        and (by.traces or not result.by_passed)
        and may_be_told(recipient)
    )


class RoundOutcome(Struct, frozen=True):
    """What is to be told of one delivery round of a message; recipients that need no word are absent."""

    failed: Sequence[Ended] = ()  # they leave the queue undelivered; also the deferred ones of an expired message
    delayed: Sequence[Ended] = ()  # they stay; set only when a warning of delay is due
    succeeded: Sequence[Ended] = ()  # delivered, relayed or expanded, and somebody is to hear of it
    expired: bool = False
    retry_until: float = 0.0  # RFC 3464 §2.3.9, seconds since the epoch; with ``delayed``
    overdue: bool = False  # ``delayed`` because the sender's own time is over (RFC 2852), not ours


class Notice(Struct, frozen=True):
    """A notification that is ready to be queued. ``kind`` is that of observe.events.Notified."""

    kind: str  # "non-delivery", "delay", "delivery status"
    message: QueuedMessage
    to_postmaster: bool = False


class Bouncer(Protocol):
    async def compose(
        self, message: QueuedMessage, outcome: RoundOutcome, new_queue_id: Callable[[], str]
    ) -> Sequence[Notice]:
        """The notifications that ``outcome`` calls for; none when nobody is to be told. They are not durable yet.

        Must not answer a notification with another one to its sender. An exception keeps the message in the queue.
        """
