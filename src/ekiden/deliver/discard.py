"""The discard(8) transport: every recipient is called delivered, and nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.message.delivery import DeliveryRequest, DeliveryResult, delivered
from ekiden.message.status import OK


class DiscardAgent:
    """The next hop is the reason that the log shows; "discarded" without one."""

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        # A transport without next hop is given the recipient's domain, which is no reason.
        reason = request.next_hop.strip()
        domains = {recipient.address.domain.lower() for recipient in request.recipients}
        text = f"discarded: {reason}" if reason and reason.lower() not in domains else "discarded"
        return [delivered(OK, f"2.0.0 {text}")] * len(request.recipients)

    async def close(self) -> None:
        """There is nothing to give back."""
