"""One mail transaction, from MAIL to the end of content; RSET and the end of a message drop it whole."""

from __future__ import annotations

from ekiden.cleanup.cleanup import BAD_CHARACTER, Arrival, Cleanup
from ekiden.cleanup.header_scan import HeaderScan, message_id
from ekiden.cleanup.way import Way
from ekiden.message.address import Address
from ekiden.message.envelope import BodyType, Recipient
from ekiden.message.reply import Refusal, reply
from ekiden.policy.conclusion import ContentReader
from ekiden.policy.examination import Examination
from ekiden.queue.store import ContentWriter, StoreTrouble
from ekiden.receive.message_options import PLAIN, Terms


def store_refusal(trouble: StoreTrouble) -> Refusal:
    """What a client hears when the queue cannot take its message: always "later", never lost."""
    if trouble.full:
        return Refusal(reply(452, "4.3.1", "Insufficient system storage"), "queue-full", str(trouble))
    return Refusal(reply(451, "4.3.0", "Error: queue file write error"), "queue-trouble", str(trouble))


class Transaction:
    """``way`` is how its message goes through ``cleanup``."""

    __slots__ = (
        *(
            "body",
            "cleanup",
            "examination",
            "message_id",
            "overshoot",
            "queue_id",
            "reader",
            "recipients",
            "refusal",
            "scan",
            "sender",
        ),
        *("stage", "started", "terms", "tls_is_optional", "way", "writer"),
    )

    def __init__(
        self, sender: Address, body: BodyType, started: float, cleanup: Cleanup, way: Way, terms: Terms = PLAIN
    ) -> None:
        self.sender = sender
        self.body = body
        self.started = started  # seconds since the epoch
        self.cleanup = cleanup
        self.way = way
        self.terms = terms
        self.recipients: list[Recipient] = []
        self.overshoot = 0
        self.queue_id = ""
        self.message_id = ""
        self.tls_is_optional = False
        self.scan: HeaderScan | None = None  # this, and what reads and writes the content, once it begins
        self.reader: ContentReader | None = None
        self.examination: Examination | None = None  # the reader of mail from strangers
        self.writer: ContentWriter | None = None
        self.refusal: Refusal | None = None  # why the content will be refused at its end
        self.stage = "END-OF-MESSAGE"  # by what name the log knows that end

    async def take(self, data: bytes) -> None:
        """The next part of the content. Once it is refused the rest is let go."""
        scan = self.scan
        if self.refusal is not None or self.writer is None or scan is None:
            return
        rules = self.cleanup.characters
        if rules is not None and self.way.checks:
            if rules.rejects(data):
                await self._refuse(BAD_CHARACTER)
                return
            data = rules.strip(data)
        try:
            if scan.complete:
                congested = self.writer.write(data)
                if self.reader is not None:
                    self.reader.feed(data)
            else:
                rest = scan.feed(data)
                if not scan.complete or (header := await self._header(scan)) is None:
                    return
                congested = self.writer.write(header + rest)
                if self.reader is not None:
                    self.reader.feed(rest[2:])  # after the empty line
            if congested:
                await self.writer.drain()
        except StoreTrouble as trouble:
            await self._refuse(store_refusal(trouble))

    async def _header(self, scan: HeaderScan) -> bytes | None:
        """The header as cleanup wants it; None: there was a reason to refuse the message."""
        if scan.too_long:
            await self._refuse(
                Refusal(reply(552, "5.3.4", "Message header size exceeds fixed limit"), "header-too-long")
            )
            return None
        arrival = Arrival(self.queue_id, self.sender, self.started)
        header = await self.cleanup.header(scan.header, arrival, self.way, has_end=scan.has_end)
        if isinstance(header, Refusal):
            await self._refuse(header)
            return None
        self.message_id = scan.message_id if header is scan.header else message_id(header)
        self.tls_is_optional = scan.tls_is_optional
        return header if self.reader is None else self.reader.take_header(scan.header, header)

    async def check_end(self, hopcount_limit: int) -> Refusal | None:
        """The content is whole: hand over what the scan still holds and decide about the header."""
        scan = self.scan
        if scan is None or self.writer is None or self.refusal is not None:
            return self.refusal
        if not scan.complete:
            rest = scan.finish()
            if (header := await self._header(scan)) is not None:
                self.writer.write(header + rest)
                if self.reader is not None:
                    self.reader.feed(rest[2:])
        if self.refusal is None and scan.hops > hopcount_limit:
            await self._refuse(Refusal(reply(554, "5.4.6", "Error: too many hops"), "too-many-hops"))
        return self.refusal

    async def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        await self.discard()

    async def discard(self) -> None:
        if self.reader is not None:
            self.reader.cancel()
            self.reader = None
        writer, self.writer = self.writer, None
        if writer is not None:
            await writer.discard()
