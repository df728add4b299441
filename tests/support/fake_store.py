"""A Store in memory, which fails on demand and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from ekiden.message.clock import Clock
from ekiden.message.content import Content, InlineContent
from ekiden.message.queued import QueuedMessage, QueueState
from ekiden.queue.store import Change, ContentWriter, QueueEntry, Settlement, StoreTrouble


class FakeStore:
    """``states`` and ``messages`` are what is durable. ``trouble`` is asked before each put, settle and claim."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.messages: dict[str, QueuedMessage] = {}
        self.states: dict[str, QueueState] = {}
        self.leases: dict[str, float] = {}  # monotonic
        self.settlements: list[Settlement] = []
        self.born: list[QueuedMessage] = []  # ever
        self.puts = 0
        self.claims: list[tuple[float, int]] = []
        self.removed: list[str] = []
        self.trouble: Callable[[str, str], bool] = lambda verb, queue_id: False

    def restart(self) -> None:
        """The process that held the leases is gone."""
        self.leases.clear()

    async def _work(self, verb: str, queue_id: str = "") -> None:
        await asyncio.sleep(0)
        if self.trouble(verb, queue_id):
            raise StoreTrouble("disk full", full=True)

    def content_writer(self, queue_id: str) -> ContentWriter:
        raise NotImplementedError

    async def read_content(self, content: Content) -> bytes:
        assert isinstance(content, InlineContent)
        return content.data

    async def put(self, message: QueuedMessage, *, lease_s: float = 0.0) -> None:
        await self._work("put", message.queue_id)
        self.puts += 1
        self._insert(message, lease_s)

    def _insert(self, message: QueuedMessage, lease_s: float) -> None:
        assert message.queue_id not in self.messages, "a queue id was used twice"
        self.messages[message.queue_id] = message
        self.states[message.queue_id] = QueueState.ACTIVE if lease_s else QueueState.INCOMING
        if lease_s:
            self.leases[message.queue_id] = self._clock.monotonic() + lease_s

    def _waits(self, queue_id: str) -> bool:
        state = self.states[queue_id]
        if state is QueueState.ACTIVE:
            return self.leases.get(queue_id, 0.0) <= self._clock.monotonic()
        return state in (QueueState.INCOMING, QueueState.DEFERRED)

    async def claim(self, now: float, limit: int, lease_s: float) -> list[QueuedMessage]:
        await self._work("claim")
        self.claims.append((now, limit))
        due = [each for each in self.messages.values() if self._waits(each.queue_id) and each.due <= now]
        due.sort(key=lambda each: each.due)
        for message in due[:limit]:
            self.states[message.queue_id] = QueueState.ACTIVE
            self.leases[message.queue_id] = self._clock.monotonic() + lease_s
        return due[:limit]

    async def settle(self, settlement: Settlement) -> None:
        await self._work("settle", settlement.queue_id)
        self._apply(settlement)

    def _apply(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)
        for message in settlement.born:
            self.born.append(message)
            self._insert(message, settlement.born_lease_s)
        queue_id = settlement.queue_id
        if queue_id not in self.messages:
            return
        if not settlement.pending:
            del self.messages[queue_id], self.states[queue_id]
            self.leases.pop(queue_id, None)
            self.removed.append(queue_id)
            return
        message = self.messages[queue_id]
        self.messages[queue_id] = msgspec.structs.replace(
            message,
            pending=settlement.pending,
            due=message.due if settlement.lease_s else settlement.due,
            delay_warned=message.delay_warned or settlement.delay_warned,
        )
        if settlement.lease_s:
            self.leases[queue_id] = self._clock.monotonic() + settlement.lease_s
            return
        self.leases.pop(queue_id, None)
        if self.states[queue_id] is not QueueState.HOLD:
            self.states[queue_id] = QueueState.DEFERRED

    async def next_due(self) -> float | None:
        await self._work("next_due")
        return min((each.due for each in self.messages.values() if self._waits(each.queue_id)), default=None)

    async def entries(
        self, *, states: frozenset[QueueState] | None = None, limit: int = 0, after: str = ""
    ) -> list[QueueEntry]:
        found = [
            QueueEntry(state, self.messages[queue_id], "fake")
            for queue_id, state in sorted(self.states.items())
            if queue_id > after and (states is None or state in states)
        ]
        return found[:limit] if limit else found

    async def entry(self, queue_id: str) -> QueueEntry | None:
        if queue_id not in self.messages:
            return None
        return QueueEntry(self.states[queue_id], self.messages[queue_id], "fake")

    async def change(self, queue_ids: Sequence[str], change: Change, now: float) -> list[str]:
        await self._work("change")
        done: list[str] = []
        for queue_id in list(queue_ids or self.messages):
            state = self.states.get(queue_id)
            if change is Change.DELETE and state is not None:
                del self.messages[queue_id], self.states[queue_id]
                self.leases.pop(queue_id, None)
            elif change is Change.HOLD and state not in (None, QueueState.HOLD):
                self.states[queue_id] = QueueState.HOLD
            elif change is Change.RELEASE and queue_ids and state is QueueState.INCOMING:
                if self.messages[queue_id].due <= now:
                    continue
                self.messages[queue_id] = msgspec.structs.replace(self.messages[queue_id], due=now)
            elif change is Change.RELEASE and state is QueueState.HOLD:
                self.states[queue_id] = QueueState.ACTIVE if queue_id in self.leases else QueueState.DEFERRED
                self.messages[queue_id] = msgspec.structs.replace(self.messages[queue_id], due=now)
            elif change is Change.REQUEUE and (
                state is QueueState.DEFERRED or (state is QueueState.INCOMING and queue_ids)
            ):
                self.messages[queue_id] = msgspec.structs.replace(self.messages[queue_id], due=now)
            else:
                continue
            done.append(queue_id)
        return done

    async def counts(self) -> dict[QueueState, int]:
        states = list(self.states.values())
        return {state: states.count(state) for state in QueueState}

    async def close(self) -> None:
        self.leases.clear()


class FakeBatchStore(FakeStore):
    """One that takes several settlements in one transaction."""

    batches = 0

    async def settle_all(self, settlements: Sequence[Settlement]) -> None:
        if any(self.trouble("settle", each.queue_id) for each in settlements):
            await asyncio.sleep(0)
            raise StoreTrouble("disk full", full=True)
        self.batches += 1
        await asyncio.sleep(0)
        for settlement in settlements:
            self._apply(settlement)
