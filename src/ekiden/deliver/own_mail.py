"""Mail that the server writes itself, and that is no notification: into the queue by the same door as all other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ekiden.cleanup.cleanup import Cleanup
from ekiden.cleanup.way import INTERNAL
from ekiden.deliver.own_signature import HostSigner, nothing, signed
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.envelope import Client, Envelope, Notify, Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.message.reply import Refusal
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.queue.store import ContentWriter, StoreTrouble

_BORN_HERE = Client(name="localhost", address="127.0.0.1", protocol="local")


class OwnMail:
    """``await own_mail(sender, recipient, content)`` returns when the message is durable. Raises StoreTrouble."""

    def __init__(
        self,
        intake: Callable[[QueuedMessage], Awaitable[None]],
        content_writer: Callable[[str], ContentWriter],
        new_id: Callable[[], str],
        clock: Clock,
        cleanup: Callable[[], Cleanup],
        *,
        signer: HostSigner = nothing,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``signer`` signs what is sent; ``warn`` is told which signature it could not make."""
        self._intake, self._content_writer, self._new_id = intake, content_writer, new_id
        self._clock, self._cleanup = clock, cleanup
        self._signer, self._warn = signer, warn

    async def __call__(
        self, sender: str, recipient: str, content: bytes, *, tls_optional: bool = False, message_id: str = ""
    ) -> None:
        queue_id = self._new_id()
        to = Recipient(_address(recipient), notify=Notify.NEVER)
        addressed = await self._cleanup().envelope(_address(sender), [to], INTERNAL)
        if isinstance(addressed, Refusal):
            raise StoreTrouble(f"{addressed.reply.text} {addressed.detail}".rstrip())
        content = await signed(content, self._signer(), lambda text: self._warn(f"{queue_id}: {text}"))
        writer = self._content_writer(queue_id)
        try:
            if writer.write(content):
                await writer.drain()
            body = await writer.finish()
        except BaseException:
            await writer.discard()
            raise
        await self._intake(
            QueuedMessage(
                queue_id=queue_id,
                envelope=Envelope(addressed.sender, addressed.recipients, client=_BORN_HERE, tls_optional=tls_optional),
                content=body,
                arrived=self._clock.time(),
                pending=tuple(Pending(each) for each in addressed.recipients),
                message_id=message_id,
            )
        )


def _address(text: str) -> Address:
    address = parse_mailbox(text, lenient=True)
    if address is None:
        raise StoreTrouble(f"bad address syntax: {text!r}")
    return address
