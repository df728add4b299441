"""An administrator's change to the messages of one store, whether a server works on it or a command alone.

In:   ChangeMessages, by ids or by filter.
Out:  which messages it applied to; what the scheduler had in hand it gave back first.
Errors: StoreTrouble.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol

from ekiden.message.clock import Clock
from ekiden.message.queued import QueueState
from ekiden.observe.events import Administered, Observer
from ekiden.queue.store import Change, QueueEntry, Store
from ekiden.runtime.requests import Changed, ChangeMessages, Filter

# What a change means for messages that are not named: a state that it does not concern is left alone.
_CONCERNED = {
    Change.RELEASE: frozenset({QueueState.HOLD}),
    Change.REQUEUE: frozenset({QueueState.INCOMING, QueueState.DEFERRED}),
    Change.EXPIRE: frozenset({QueueState.INCOMING, QueueState.DEFERRED, QueueState.HOLD}),
}
_ALL_STATES = frozenset(QueueState)


class SchedulerHands(Protocol):
    """What a change asks of the scheduler, if there is one."""

    def wake(self) -> None:
        """Messages may have become due: look at the store."""

    def withdraw(self, queue_ids: Iterable[str]) -> list[str]:
        """Let go of messages before they are changed in the store; those of which a delivery runs."""


class NoScheduler:
    """For a store that no server works on."""

    def wake(self) -> None:
        """Nobody to wake."""

    def withdraw(self, queue_ids: Iterable[str]) -> list[str]:
        return []


class QueueChanges:
    def __init__(
        self, store: Store, scheduler: SchedulerHands, observer: Observer, clock: Clock, batch: Callable[[], int]
    ) -> None:
        self._store, self._scheduler, self._observer, self._clock = store, scheduler, observer, clock
        self._batch = batch  # messages at a time

    async def apply(self, request: ChangeMessages) -> Changed:
        done: list[str] = []
        async for batch in self._chosen(request):
            done += await self._apply(batch, request.change)
        return Changed(len(done), tuple(done) if request.queue_ids else ())

    async def _chosen(self, request: ChangeMessages) -> AsyncIterator[Sequence[str]]:
        """The ids that the request means, in batches, none of them empty (an empty one would mean all)."""
        limit = self._batch()
        if request.queue_ids:
            for at in range(0, len(request.queue_ids), limit):
                batch = request.queue_ids[at : at + limit]
                if request.filter != Filter():
                    batch = await self._matching(batch, request.filter)
                if batch:
                    yield batch
            return
        states = _CONCERNED.get(request.change, _ALL_STATES) & frozenset(request.filter.states or _ALL_STATES)
        after = ""
        while True:
            entries = await self._store.entries(states=states, limit=limit, after=after)
            found = [
                entry.message.queue_id
                for entry in entries
                if request.filter.matches(entry.state, entry.message) and not self._is_held(entry, request.change)
            ]
            if found:
                yield found
            if len(entries) < limit:
                return
            after = entries[-1].message.queue_id

    def _is_held(self, entry: QueueEntry, change: Change) -> bool:
        """Its sender wants it to go later (RFC 4865): a flush that does not name it leaves it alone."""
        return (
            change is Change.REQUEUE and entry.state is QueueState.INCOMING and entry.message.due > self._clock.time()
        )

    async def _matching(self, queue_ids: Sequence[str], wanted: Filter) -> tuple[str, ...]:
        found: list[str] = []
        for queue_id in queue_ids:
            entry = await self._store.entry(queue_id)
            if entry is not None and wanted.matches(entry.state, entry.message):
                found.append(queue_id)
        return tuple(found)

    async def _apply(self, queue_ids: Sequence[str], change: Change) -> list[str]:
        """What the scheduler has in hand it gives back first: it must not deliver what was just deleted."""
        if change in (Change.HOLD, Change.DELETE):
            self._scheduler.withdraw(queue_ids)
        done = await self._store.change(queue_ids, change, self._clock.time())
        if change in (Change.RELEASE, Change.REQUEUE, Change.EXPIRE):
            self._scheduler.wake()
        for queue_id in done:
            self._observer.emit(Administered(queue_id, change.value))
        return done
