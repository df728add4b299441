"""One mail transaction, from MAIL to the end of content; RSET and the end of a message drop it whole."""

from __future__ import annotations

from ekiden.cleanup.header_scan import HeaderScan
from ekiden.message.address import Address
from ekiden.message.envelope import BodyType, Recipient
from ekiden.message.reply import Refusal, reply
from ekiden.queue.store import ContentWriter, StoreTrouble


def store_refusal(trouble: StoreTrouble) -> Refusal:
    """What a client hears when the queue cannot take its message: always "later", never lost."""
    if trouble.full:
        return Refusal(reply(452, "4.3.1", "Insufficient system storage"), "queue-full", str(trouble))
    return Refusal(reply(451, "4.3.0", "Error: queue file write error"), "queue-trouble", str(trouble))


class Transaction:
    __slots__ = ("body", "overshoot", "queue_id", "recipients", "refusal", "scan", "sender", "started", "writer")

    def __init__(self, sender: Address, body: BodyType, started: float) -> None:
        self.sender = sender
        self.body = body
        self.started = started  # seconds since the epoch
        self.recipients: list[Recipient] = []
        self.overshoot = 0
        self.queue_id = ""
        self.scan: HeaderScan | None = None
        self.writer: ContentWriter | None = None
        self.refusal: Refusal | None = None  # why the content will be refused at its end

    def begin_content(self, writer: ContentWriter, scan: HeaderScan, trace: bytes) -> None:
        """``trace`` is what goes before the content: our Received: field."""
        self.writer, self.scan = writer, scan
        writer.write(trace)

    async def take(self, data: bytes) -> None:
        """The next part of the content. Once it is refused the rest is let go."""
        if self.refusal is not None or self.writer is None or self.scan is None:
            return
        try:
            if self.writer.write(self.scan.feed(data)):
                await self.writer.drain()
        except StoreTrouble as trouble:
            await self._refuse(store_refusal(trouble))
            return
        if self.scan.too_long:
            await self._refuse(
                Refusal(reply(552, "5.3.4", "Message header size exceeds fixed limit"), "header-too-long")
            )

    async def check_end(self, hopcount_limit: int) -> Refusal | None:
        """The content is whole: hand over what the scan still holds and decide about the header."""
        if self.scan is None or self.writer is None or self.refusal is not None:
            return self.refusal
        self.writer.write(self.scan.finish())
        if self.scan.hops > hopcount_limit:
            await self._refuse(Refusal(reply(554, "5.4.6", "Error: too many hops"), "too-many-hops"))
        elif self.scan.too_long:
            await self._refuse(
                Refusal(reply(552, "5.3.4", "Message header size exceeds fixed limit"), "header-too-long")
            )
        return self.refusal

    async def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        await self.discard()

    async def discard(self) -> None:
        writer, self.writer = self.writer, None
        if writer is not None:
            await writer.discard()
