"""The worker's side of pipe(8): commands that services of master.cf hand mail to.

Which command that is, and whose, the deliverer reads in its own master.cf; it is told the name of the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ekiden.config.snapshot import Parameters
from ekiden.deliver.delivery_header import address_bytes, was_delivered_to
from ekiden.deliver.mailbox_channel import MailboxChannel, facts_of, result_of
from ekiden.deliver.mailbox_jobs import Outcome, Transport
from ekiden.deliver.pipe_service import PipeService
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, failed, relayed
from ekiden.message.envelope import Recipient
from ekiden.message.status import OK, Status


class PipeAgent:
    def __init__(self, service: PipeService, channel: MailboxChannel, parameters: Parameters, clock: Clock) -> None:
        self._service = service
        self._channel = channel
        self._scan_bytes = parameters.delivered_header_scan_limit
        self._clock = clock

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        service, size = self._service, request.content.size
        if service.size_limit and size > service.size_limit:
            text = f"message size {size} exceeds size limit {service.size_limit} for command"
            return [failed(Status(5, 2, 3), text, relay=service.name)] * len(request.recipients)
        if not service.one_recipient:
            result = await self._run(request, request.recipients)
            return [result] * len(request.recipients)
        return await asyncio.gather(*(self._one(request, recipient) for recipient in request.recipients))

    async def close(self) -> None:
        """The channel belongs to the worker, who closes it."""

    async def _one(self, request: DeliveryRequest, recipient: Recipient) -> DeliveryResult:
        relay = self._service.name
        if "D" in self._service.flags:
            try:
                if was_delivered_to(request.content, recipient.address, self._scan_bytes):
                    return failed(Status(5, 4, 6), f"mail forwarding loop for {recipient.address}", relay=relay)
            except OSError as error:
                return deferred(Status(4, 3, 0), f"cannot read the message: {error.strerror}", relay=relay)
        return await self._run(request, (recipient,))

    async def _run(self, request: DeliveryRequest, recipients: Sequence[Recipient]) -> DeliveryResult:
        started = self._clock.monotonic()
        answer = await self._channel.submit(
            Transport.PIPE,
            self._service.name.encode(),
            address_bytes(request.envelope.sender),
            b"",
            request.content,
            facts=facts_of(request, recipients[0], recipients=recipients),
        )
        result = result_of(answer, self._service.name, self._clock.monotonic() - started)
        if answer.outcome is Outcome.DELIVERED and "X" not in self._service.flags:
            return relayed(OK, result.text, relay=result.relay, transmit_s=result.transmit_s)
        return result
