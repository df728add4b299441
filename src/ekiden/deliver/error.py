"""The error(8) and retry(8) transports: every recipient fails, or waits, with the text of the next hop."""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, failed
from ekiden.message.status import Status


class ErrorAgent:
    """``error:5.7.1 no mail for you`` fails, ``error:4.2.0 come back`` and anything of ``retry:`` defers.

    ``default_class`` (5 for error, 4 for retry) counts when the text begins with no enhanced status code.
    """

    def __init__(self, default_class: int = 5) -> None:
        self._default = Status(default_class, 0, 0)
        self._only_defers = default_class == 4

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        text = request.next_hop.strip()
        status = Status.parse(text)
        if status is None or status.is_success:
            status = self._default
        else:
            text = text[len(str(status)) :].lstrip() if text.startswith(str(status)) else text
        if self._only_defers:
            status = status.with_class(4)
        result = (deferred if status.is_temporary else failed)(status, text or "undeliverable address")
        return [result] * len(request.recipients)

    async def close(self) -> None:
        """There is nothing to give back."""
