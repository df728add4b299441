"""The virtual transport: mailboxes of domains that have no accounts on this host (virtual(8))."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ekiden.config.snapshot import Parameters
from ekiden.deliver.delivery_header import address_bytes, delivery_header, was_delivered_to
from ekiden.deliver.mailbox_channel import MailboxChannel, result_of
from ekiden.deliver.mailbox_jobs import Answer, Transport
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, failed
from ekiden.message.envelope import Recipient
from ekiden.message.status import Status

_RELAY = "virtual"


class VirtualAgent:
    """Asks the deliverer for each recipient; where the mailbox lies and whose it is only the deliverer knows."""

    def __init__(self, channel: MailboxChannel, parameters: Parameters, clock: Clock) -> None:
        self._channel = channel
        self._original = parameters.enable_original_recipient
        self._scan_bytes = parameters.delivered_header_scan_limit
        self._clock = clock

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        started = self._clock.monotonic()
        # All are sent before the first is awaited, so that they share packets and waits for the disk.
        asked = [self._ask(request, recipient) for recipient in request.recipients]
        results = []
        for one in asked:
            if isinstance(one, DeliveryResult):
                results.append(one)
            else:
                results.append(result_of(await one, _RELAY, self._clock.monotonic() - started))
        return results

    async def close(self) -> None:
        """The channel belongs to the worker, who closes it."""

    def _ask(self, request: DeliveryRequest, recipient: Recipient) -> asyncio.Future[Answer] | DeliveryResult:
        try:
            if was_delivered_to(request.content, recipient.address, self._scan_bytes):
                return failed(Status(5, 4, 6), f"mail forwarding loop for {recipient.address}", relay=_RELAY)
        except OSError as error:
            return deferred(Status(4, 3, 0), f"cannot read the message: {error.strerror}", relay=_RELAY)
        return self._channel.submit(
            Transport.VIRTUAL,
            str(recipient.address).encode("utf-8", "surrogateescape"),
            address_bytes(request.envelope.sender),
            delivery_header(request.envelope.sender, recipient, original=self._original),
            request.content,
        )
