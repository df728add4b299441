"""A message in the queue: what the store keeps, the scheduler moves and the delivery agents read."""

from __future__ import annotations

import enum

from msgspec import Struct

from ekiden.message.content import Content
from ekiden.message.delivery import DeliveryResult
from ekiden.message.envelope import Envelope, Recipient


class QueueState(enum.StrEnum):
    """The states that administrators know; docs/queue-states.md has the table of moves."""

    INCOMING = "incoming"
    ACTIVE = "active"
    DEFERRED = "deferred"
    HOLD = "hold"
    CORRUPT = "corrupt"


class Pending(Struct, frozen=True):
    """A recipient that still waits, with the last result if there was an attempt."""

    recipient: Recipient
    last: DeliveryResult | None = None


class QueuedMessage(Struct, frozen=True):
    """Times are seconds since the epoch (wall clock)."""

    queue_id: str
    envelope: Envelope  # as accepted: the recipients here are all there ever were
    content: Content
    arrived: float
    pending: tuple[Pending, ...]  # recipients not yet delivered, bounced or removed
    message_id: str = ""  # the Message-ID field, for the log
    due: float = 0.0
    attempts: int = 0
    delay_warned: bool = False  # a delay DSN has been sent
    content_filter: str = ""  # "transport:nexthop" that all recipients go to instead of their own way; "": none
    hold: str = ""  # a reason: it goes into the queue on hold, where the store keeps the reason

    @property
    def ready(self) -> float:
        """When it could be delivered for the first time: its age counts from here."""
        return max(self.arrived, self.envelope.held_until)

    @property
    def size(self) -> int:
        return self.content.size
