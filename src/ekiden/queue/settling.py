"""Telling the store how delivery rounds ended, in batches, and again and again until it has taken it.

While a commit is under way the next settlements gather; they go together when it is over. What the store could not take
is kept in memory and offered again later, less and less often: the message is not delivered again meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.message.queued import Pending
from ekiden.observe.events import Note, Observer
from ekiden.queue.active import ActiveMessage
from ekiden.queue.store import BatchStore, Settlement, Store, StoreTrouble


class Settler:
    """``settled(active)`` is called when the final settlement of a message is durable."""

    def __init__(
        self,
        *,
        store: Store,
        settled: Callable[[ActiveMessage], None],
        observer: Observer,
        clock: Clock,
        parameters: Parameters,
    ) -> None:
        self._store = store
        self._batches = store if isinstance(store, BatchStore) else None
        self._settled = settled
        self._observer = observer
        self._clock = clock
        self._parameters = parameters
        self._waiting: list[ActiveMessage] = []
        self._task: asyncio.Task[None] | None = None
        self._refused: list[ActiveMessage] = []  # the store could not take these
        self._retry: asyncio.Task[None] | None = None
        self._partial: dict[str, ActiveMessage] = {}  # partly delivered, and the store does not know yet
        self._partial_timer: asyncio.Task[None] | None = None
        self._retry_s = 0.0

    def reload(self, parameters: Parameters) -> None:
        self._parameters = parameters

    @property
    def refused(self) -> int:
        """How many messages have results that are not durable because of trouble in the store."""
        return len(self._refused)

    def settle(self, active: ActiveMessage) -> None:
        """The round of ``active`` is over (``final`` is set), or a part of it that is worth a commit of its own."""
        if active.is_in_line:
            return
        active.is_in_line = True
        self._waiting.append(active)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def settle_soon(self, active: ActiveMessage) -> None:
        """A part of the round is over: make it durable if the rest takes long."""
        self._partial[active.message.queue_id] = active
        if self._partial_timer is None:
            self._partial_timer = asyncio.get_running_loop().create_task(self._settle_partial())

    async def finish(self) -> None:
        """All that was told is with the store, or was refused once more."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._offer_again()
        while self._task is not None:
            await asyncio.wait((self._task,))

    def close(self) -> None:
        for task in (self._task, self._retry, self._partial_timer):
            if task is not None:
                task.cancel()

    # -- inside

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for active in batch:
                    active.is_in_line = False
                offered = [
                    (active, settlement)
                    for active in batch
                    if (settlement := active.final or _interim(active)) is not None and not active.is_done
                ]
                troubles = await self._offer(offered)
                self._complain(troubles)
                for (active, settlement), trouble in zip(offered, troubles, strict=True):
                    if trouble is not None:
                        self._refuse(active)
                        continue
                    self._retry_s = 0.0
                    if settlement is active.final:
                        active.is_done = True
                        self._settled(active)
                    else:
                        active.partly_settled = len(active.results) - len(settlement.pending)
        finally:
            self._task = None

    async def _offer(self, offered: Sequence[tuple[ActiveMessage, Settlement]]) -> Sequence[BaseException | None]:
        """What became of each: None or the trouble."""
        settlements = [settlement for _, settlement in offered]
        if self._batches is not None and len(settlements) > 1:
            try:
                await self._batches.settle_all(settlements)
                return [None] * len(settlements)
            except Exception as error:
                # One of them may be the cause: each for itself, below.
                self._complain([error])
        if len(settlements) == 1:
            try:
                await self._store.settle(settlements[0])
                return (None,)
            except Exception as error:
                return (error,)
        return await asyncio.gather(*map(self._store.settle, settlements), return_exceptions=True)

    def _complain(self, troubles: Sequence[BaseException | None]) -> None:
        """One line a batch: a full disk does not fill the log too."""
        found = [trouble for trouble in troubles if trouble is not None]
        if found:
            first = found[0]
            why = str(first) if isinstance(first, StoreTrouble) else f"{type(first).__name__}: {first}"
            text = f"the results of {len(found)} deliveries could not be written and will be written later: {why}"
            self._observer.emit(Note("qmgr", text, "error"))

    def _refuse(self, active: ActiveMessage) -> None:
        self._refused.append(active)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().create_task(self._wait_and_retry())

    async def _wait_and_retry(self) -> None:
        first, longest = self._parameters.qmgr_settle_retry_time, self._parameters.qmgr_settle_retry_limit
        self._retry_s = min(longest, self._retry_s * 2 if self._retry_s else first)
        await self._clock.sleep(self._retry_s)
        self._retry = None
        self._offer_again()

    def _offer_again(self) -> None:
        refused, self._refused = self._refused, []
        for active in refused:
            if not active.is_done:
                self.settle(active)

    async def _settle_partial(self) -> None:
        try:
            while self._partial:
                await self._clock.sleep(self._parameters.qmgr_interim_settle_time)
                partial, self._partial = self._partial, {}
                for active in partial.values():
                    if active.final is None and active.open_jobs:
                        self.settle(active)
        finally:
            self._partial_timer = None


def _interim(active: ActiveMessage) -> Settlement | None:
    """What the store is to be told of a round that goes on; None when it knows."""
    pending = still_pending(active)
    if not pending or len(active.results) - len(pending) <= active.partly_settled:
        return None
    return Settlement(
        active.message.queue_id,
        pending,
        delay_warned=active.message.delay_warned,
        lease_s=active.lease_s,
    )


def still_pending(active: ActiveMessage) -> tuple[Pending, ...]:
    """The recipients that the queue must still know: all but those delivered with nothing left to tell of them.

    A failed one stays until its notification is durable; what is known of it stays with it, so that it is not tried
    again.
    """
    return tuple(
        pending if result is None else Pending(pending.recipient, result)
        for pending, result in zip(active.message.pending, active.results, strict=True)
        if result is None or not active.is_silent_success(pending, result)
    )
