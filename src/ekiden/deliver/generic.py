"""smtp_generic_maps, lmtp_generic_maps: addresses replaced in what goes out (generic(5)).

In:   a delivery request, as the queue has it.
Out:  the same with other addresses, in the envelope and in the header; or a result: deferred when a table does not
      answer.
Never: changes the message in the queue.
"""

from __future__ import annotations

from msgspec.structs import replace

from ekiden.cleanup.address_maps import AddressMaps
from ekiden.cleanup.header_rewriting import rewrite_header
from ekiden.cleanup.header_scan import HeaderScan
from ekiden.message.address import Address
from ekiden.message.address_list import Mailbox
from ekiden.message.content import Content, InlineContent, OutgoingContent, SplicedContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred
from ekiden.message.status import Status
from ekiden.queue.content import read
from ekiden.queue.store import StoreTrouble
from ekiden.tables.table import TableTrouble


class GenericMaps:
    """``header_limit`` bounds what is read of a message to find its header; ``token_limit`` the words of a field."""

    def __init__(self, maps: AddressMaps, *, header_limit: int, token_limit: int) -> None:
        self._maps = maps
        self._header_limit = header_limit
        self._token_limit = token_limit

    async def apply(self, request: DeliveryRequest) -> tuple[DeliveryRequest, OutgoingContent] | DeliveryResult:
        """The request with its other envelope, and the content to send in place of its own."""
        try:
            recipients = [replace(each, address=await self._mapped(each.address)) for each in request.recipients]
            envelope = replace(request.envelope, sender=await self._mapped(request.envelope.sender))
            content = await self._content(request.content)
            return replace(request, envelope=envelope, recipients=tuple(recipients)), content
        except TableTrouble as trouble:
            return deferred(Status(4, 3, 0), f"generic address mapping failed: {trouble}")
        except StoreTrouble as trouble:
            return deferred(Status(4, 3, 0), f"cannot read the content: {trouble}")

    async def _mapped(self, address: Address) -> Address:
        """One step: what a table gives is not looked up again (generic(5))."""
        found = None if address.is_null else await self._maps.find(address)
        return address if found is None else found[0]

    async def _content(self, content: Content) -> OutgoingContent:
        start = await read(content, self._header_limit)
        scan = HeaderScan(self._header_limit)
        scan.feed(start)
        scan.finish()
        if not start.startswith(scan.header):  # no header as cleanup stores them
            return content
        header = await rewrite_header(scan.header, self._renew, token_limit=self._token_limit)
        if header == scan.header:
            return content
        if isinstance(content, InlineContent):
            return InlineContent(header + content.data[len(scan.header) :])
        return SplicedContent(header, content, len(scan.header))

    async def _renew(self, mailbox: Mailbox, _of_sender: bool) -> Address | None:
        if mailbox.odd or mailbox.address.is_null:
            return None
        found = await self._maps.find(mailbox.address)
        return None if found is None else found[0]
