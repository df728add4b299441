"""Mail that an alias sends on: a new message in the queue, durable before the old one is done with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct, structs

from ekiden.cleanup.cleanup import Addressed, Cleanup
from ekiden.cleanup.way import INTERNAL
from ekiden.deliver.arc_seal import with_head
from ekiden.deliver.forward_seals import ForwardSeals
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.content import Content, OutgoingContent
from ekiden.message.delivery import DeliveryRequest
from ekiden.message.envelope import Notify, Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.message.reply import Refusal
from ekiden.queue.content import chunks
from ekiden.queue.store import ContentWriter, StoreTrouble


class Forwarded(Struct, frozen=True):
    """``head`` is in wire form (CRLF) and goes before the content of ``request``."""

    request: DeliveryRequest
    recipients: tuple[Recipient, ...]
    head: bytes


# Returns the queue id of the new message when that is durable. Raises StoreTrouble.
Forward = Callable[[Forwarded], Awaitable[str]]


class QueueForward:
    """Queues the message as it came, with other recipients, whose addresses ``cleanup`` maps.

    ``intake`` makes it durable and has it delivered.
    """

    def __init__(
        self,
        intake: Callable[[QueuedMessage], Awaitable[None]],
        content_writer: Callable[[str], ContentWriter],
        new_id: Callable[[], str],
        clock: Clock,
        cleanup: Cleanup,
        seals: ForwardSeals | None = None,
    ) -> None:
        self._cleanup = cleanup
        self._seals = seals
        self._intake, self._content_writer, self._new_id, self._clock = intake, content_writer, new_id, clock

    async def __call__(self, forwarded: Forwarded) -> str:
        queue_id = self._new_id()
        request = forwarded.request
        old = request.envelope
        addressed = await self._cleanup.envelope(old.sender, forwarded.recipients, INTERNAL)
        if isinstance(addressed, Refusal):
            raise StoreTrouble(f"{addressed.reply.text} {addressed.detail}".rstrip())
        message = QueuedMessage(
            queue_id=queue_id,
            envelope=structs.replace(old, sender=addressed.sender, recipients=addressed.recipients),
            content=await self._copy(queue_id, await self._leaving(queue_id, forwarded, addressed)),
            arrived=self._clock.time(),
            pending=tuple(Pending(recipient) for recipient in addressed.recipients),
        )
        await self._intake(message)
        return queue_id

    async def _leaving(self, queue_id: str, forwarded: Forwarded, addressed: Addressed) -> OutgoingContent:
        content = with_head(forwarded.head, forwarded.request.content)
        if self._seals is None:
            return content
        return await self._seals.apply(forwarded.request.envelope, addressed.recipients, content, queue_id)

    async def _copy(self, queue_id: str, content: OutgoingContent) -> Content:
        writer = self._content_writer(queue_id)
        try:
            async for piece in chunks(content):
                if writer.write(piece):
                    await writer.drain()
            return await writer.finish()
        except BaseException:
            await writer.discard()
            raise


def forwarded_recipient(address: Address, because_of: Recipient, *, only: bool = False) -> Recipient:
    """A recipient that an alias leads to.

    Where it leads to one address ``only``, all that the sender asked for goes on with the mail (RFC 3461 §5.2.7.1);
    else a success is reported for the alias, as "expanded", and the rest goes on (§5.2.7.3).
    """
    notify = because_of.notify if only else because_of.notify & ~Notify.SUCCESS
    return structs.replace(because_of.readdressed(address), notify=notify)
