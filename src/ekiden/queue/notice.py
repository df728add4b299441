"""What the scheduler asks of the maker of delivery status notifications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from ekiden.message.delivery import DeliveryResult
from ekiden.message.envelope import Recipient
from ekiden.message.queued import QueuedMessage

Ended = tuple[Recipient, DeliveryResult]


class RoundOutcome(Struct, frozen=True):
    """What is to be told of one delivery round of a message; recipients that need no word are absent."""

    failed: Sequence[Ended] = ()  # they leave the queue undelivered; also the deferred ones of an expired message
    delayed: Sequence[Ended] = ()  # they stay; set only when a warning of delay is due
    succeeded: Sequence[Ended] = ()  # delivered, relayed or expanded, and NOTIFY=SUCCESS was asked
    expired: bool = False
    retry_until: float = 0.0  # RFC 3464 §2.3.9, seconds since the epoch; with ``delayed``


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
