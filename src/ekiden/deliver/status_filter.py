"""A delivery agent's results, as a table would have them (postconf(5) default_delivery_status_filter).

The table is asked for "status text" of each result, and answers with another "status text". What was delivered stays
delivered, and what was not stays that: an answer that says otherwise is left aside with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ekiden.deliver.agent import Agent
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult
from ekiden.message.status import Status
from ekiden.observe.events import Note, Observer
from ekiden.tables.open import Maps
from ekiden.tables.table import TableTrouble


class FilteredAgent:
    """An Agent in front of another."""

    def __init__(self, agent: Agent, maps: Maps, observer: Observer) -> None:
        self._agent = agent
        self._maps = maps
        self._observer = observer

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        results = await self._agent.deliver(request)
        return [await self._filtered(result, request) for result in results]

    async def close(self) -> None:
        await self._agent.close()

    async def _filtered(self, result: DeliveryResult, request: DeliveryRequest) -> DeliveryResult:
        asked = f"{result.status} {result.text}"
        try:
            answer = await self._maps.lookup(asked)
        except TableTrouble as trouble:
            self._warn(f"delivery status filter: {trouble}", request)
            if result.action is not Action.FAILED:
                return result
            # Nobody knows whether the table would have had it wait, so it waits.
            return replace(result, action=Action.DELAYED, status=result.status.with_class(4))
        if answer is None:
            return result
        status = Status.parse(answer)
        if status is None or status.is_success is not result.status.is_success:
            self._warn(f"delivery status filter: bad answer {answer!r} for {asked!r}", request)
            return result
        text = answer[len(str(status)) :].strip() or result.text
        action = result.action
        if not status.is_success:
            action = Action.FAILED if status.is_permanent else Action.DELAYED
        return replace(result, action=action, status=status, text=text)

    def _warn(self, text: str, request: DeliveryRequest) -> None:
        self._observer.emit(Note(request.transport, text, "warning", request.queue_id))
