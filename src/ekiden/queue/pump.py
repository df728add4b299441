"""Takes messages from the store into the active set when they are due and there is room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.message.queued import QueuedMessage
from ekiden.observe.events import Note, Observer
from ekiden.queue.active import ActiveSet
from ekiden.queue.destinations import Destination
from ekiden.queue.retry import retry_rules
from ekiden.queue.steady_time import SteadyTime
from ekiden.queue.store import Change, Store, StoreTrouble

# The store may call a message due that it does not give out; looking again and again would not help.
_LEAST_WAIT_S = 0.1
# What is due later than any retry can be was deferred by a clock that was ahead; this much is not worth a thought.
_FUTURE_GRACE_S = 60.0
# How soon to look again whether the load has fallen.
_LOAD_WAIT_S = 15.0


class Pump:
    """One task: claims what is due, then waits for the next due time, for room, or to be woken."""

    def __init__(
        self,
        *,
        store: Store,
        active: ActiveSet,
        enter: Callable[[QueuedMessage], bool],
        longest: Callable[[], tuple[Destination, int] | None],
        observer: Observer,
        clock: Clock,
        steady: SteadyTime,
        parameters: Parameters,
        load: Callable[[], float],
    ) -> None:
        self._store = store
        self._active = active
        self._enter = enter
        self._longest = longest
        self._observer = observer
        self._clock = clock
        self._steady = steady
        self._parameters = parameters
        self._load = load
        self._was_overloaded = False
        self._run_ends = float("-inf")  # steady time: the queue run that queue_run_message_limit bounds
        self._run_left = 0
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._next_look = float("inf")  # steady time; infinite while it looks
        self.wants_room = False  # mail waits in the store until some leaves the active set
        self._flush = False
        self._flushed_at = float("-inf")  # steady time
        self._clog_warned = float("-inf")

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def reload(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    def flush(self) -> None:
        self._flush = True
        self.wake()

    def is_of_flush(self, message: QueuedMessage) -> bool:
        """Whether a claimed message was in the queue at the last flush and has had no attempt since."""
        return message.due <= self._flushed_at and message.arrived <= self._flushed_at

    def mail_waits(self) -> None:
        """A message that is due was put into the store."""
        if not self.wants_room:
            self.wake()

    def is_due(self, at: float) -> None:
        """A message was deferred until ``at``."""
        if at < self._next_look:
            self.wake()

    def has_room(self) -> None:
        """A message left the active set, and ``wants_room``. It is worth a look when there is room for a batch."""
        if self._active.room_for_claimed(1) >= self._batch(self._active.limits.messages):
            self.wants_room = False
            self.wake()

    def _batch(self, limit: int) -> int:
        return max(1, min(self._parameters.qmgr_claim_limit, limit // 8))

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                wait_s = await self._claim()
            except StoreTrouble as trouble:
                self._observer.emit(Note("qmgr", f"the queue cannot be read: {trouble}", "error"))
                wait_s = self._parameters.qmgr_settle_retry_limit
            except Exception as error:
                text = f"the queue cannot be read: {type(error).__name__}: {error}"
                self._observer.emit(Note("qmgr", text, "error"))
                wait_s = self._parameters.qmgr_settle_retry_limit
            await self._wait(wait_s)

    async def _claim(self) -> float:
        """Take what is due and fits; the seconds until the next look."""
        if self._flush:
            self._flush = False
            self._flushed_at = self._steady.now()
            await self._store.change((), Change.REQUEUE, self._flushed_at)
            self._run_ends = float("-inf")
        longest_s = self._parameters.queue_run_delay
        if self.is_overloaded():
            self.wants_room = False
            return min(longest_s, _LOAD_WAIT_S)
        while True:
            limit = min(
                self._active.room_for_claimed(self._parameters.queue_inline_limit), self._parameters.qmgr_claim_limit
            )
            if self._parameters.queue_run_message_limit and limit > 0:
                left = self._left_of_run()
                if not left:
                    return max(_LEAST_WAIT_S, self._run_ends - self._steady.now())
                limit = min(limit, left)
            if limit <= 0:
                self.wants_room = True
                self._warn_of_clog()
                return longest_s
            self.wants_room = False
            messages = await self._store.claim(self._steady.now(), limit, self._parameters.qmgr_lease_time)
            self._run_left -= len(messages)
            entered = sum([self._enter(message) for message in messages])
            if len(messages) < limit or not entered:
                break
        next_due = await self._store.next_due()
        if next_due is None:
            return longest_s
        wait_s = next_due - self._steady.now()
        if wait_s > retry_rules(self._parameters).longest_wait_s + _FUTURE_GRACE_S:
            # The clock was set back, or all that waits is held until a time that its sender chose (RFC 4865).
            return _LEAST_WAIT_S if await self._store.change((), Change.REQUEUE, self._steady.now()) else longest_s
        return min(longest_s, max(_LEAST_WAIT_S, wait_s))

    def _left_of_run(self) -> int:
        """How many messages this queue run may still take; a new one begins when the time of the last is over."""
        now = self._steady.now()
        if now >= self._run_ends:
            self._run_ends = now + self._parameters.queue_run_delay
            self._run_left = self._parameters.queue_run_message_limit
        return self._run_left

    def is_overloaded(self) -> bool:
        """Whether mail is only queued, because the load of the host has reached queue_load_average_limit."""
        limit = self._parameters.queue_load_average_limit
        if not limit:
            return False
        is_high = self._load() >= limit
        if is_high is not self._was_overloaded:
            self._was_overloaded = is_high
            text = f"load average {self._load():.2f}: mail is " + ("queued only" if is_high else "delivered again")
            self._observer.emit(Note("qmgr", text, "warning" if is_high else "info"))
        return is_high

    async def _wait(self, wait_s: float) -> None:
        self._next_look = self._steady.now() + wait_s
        alarm = asyncio.get_running_loop().create_task(self._ring(wait_s))
        try:
            await self._woken.wait()
        finally:
            alarm.cancel()
            self._next_look = float("inf")

    async def _ring(self, wait_s: float) -> None:
        await self._clock.sleep(wait_s)
        self._woken.set()

    def _warn_of_clog(self) -> None:
        """Tell when one destination fills the active set: others wait because of it."""
        every_s = self._parameters.qmgr_clog_warn_time
        now = self._clock.monotonic()
        if not every_s or now < self._clog_warned + every_s:
            return
        found = self._longest()
        if found is None or found[1] < self._active.counts.messages * 0.8:
            return
        self._clog_warned = now
        destination, jobs = found
        text = f"mail for {destination.transport.name}:{destination.key} fills the active queue: {jobs} deliveries wait"
        self._observer.emit(Note("qmgr", text, "warning"))
