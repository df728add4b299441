"""Mail that an alias sends on: a new message in the queue, durable before the old one is done with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.content import Content
from ekiden.message.delivery import DeliveryRequest
from ekiden.message.envelope import Envelope, Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.queue.content import chunks
from ekiden.queue.store import Store


class Forwarded(Struct, frozen=True):
    """``head`` is in wire form (CRLF) and goes before the content of ``request``."""

    request: DeliveryRequest
    recipients: tuple[Recipient, ...]
    head: bytes


# Returns the queue id of the new message when that is durable. Raises StoreTrouble.
Forward = Callable[[Forwarded], Awaitable[str]]


class QueueForward:
    """Puts the message into a store as it came, with other recipients. ``new_id`` makes queue ids of that store."""

    def __init__(self, store: Store, new_id: Callable[[], str], clock: Clock) -> None:
        self._store, self._new_id, self._clock = store, new_id, clock

    async def __call__(self, forwarded: Forwarded) -> str:
        queue_id = self._new_id()
        request = forwarded.request
        old = request.envelope
        message = QueuedMessage(
            queue_id=queue_id,
            envelope=Envelope(old.sender, forwarded.recipients, old.body, old.client),
            content=await self._copy(queue_id, forwarded.head, request.content),
            arrived=self._clock.time(),
            pending=tuple(Pending(recipient) for recipient in forwarded.recipients),
        )
        await self._store.put(message)
        return queue_id

    async def _copy(self, queue_id: str, head: bytes, content: Content) -> Content:
        writer = self._store.content_writer(queue_id)
        try:
            writer.write(head)
            async for piece in chunks(content):
                if writer.write(piece):
                    await writer.drain()
            return await writer.finish()
        except BaseException:
            await writer.discard()
            raise


def forwarded_recipient(address: Address, because_of: Recipient) -> Recipient:
    """A recipient that an alias leads to. A success is reported for the alias, as "expanded" (RFC 3461 §5.2.7.3)."""
    notify = because_of.notify & ~type(because_of.notify).SUCCESS
    return Recipient(address, because_of.original or because_of.address, notify)
