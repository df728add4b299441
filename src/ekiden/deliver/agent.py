"""The interface of delivery agents: one request in, one result a recipient out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ekiden.message.delivery import DeliveryRequest, DeliveryResult


class Agent(Protocol):
    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        """Deliver a message to the recipients of the request; results in their order.

        Expected trouble is a result (deferred or failed), never an exception; cancellation means the
        server stops: what is not known to be delivered is not reported as delivered.
        """

    async def close(self) -> None:
        """Give back connections and other resources."""
