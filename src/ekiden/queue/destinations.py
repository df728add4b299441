"""Destinations, transports, and the loops that deliver: who may start the next delivery.

A destination is a transport and a next hop (with a recipient limit of 1: a transport and a recipient). Each has its
queue, its window and, after it did not answer, a time in which it is left alone. A transport has a number of slots;
each slot in use is one loop (one task) that serves a destination, job after job, and moves on to the next one that
waits for a slot: after every job when others wait, else when its destination has no more. A loop that nobody needs
lies idle until a slot is in use again. A job that may begin at once is given to its loop and never waits in the queue.

Where there is a rate delay, a destination or a whole transport rests between deliveries, and no slot is kept for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult, deferred
from ekiden.message.status import Status
from ekiden.observe.events import Note, Observer
from ekiden.queue.active import Job
from ekiden.queue.concurrency import TransportLimits, Window, is_unreachable, transport_limits
from ekiden.queue.fair_queue import FairQueue
from ekiden.queue.pace import Pace

Deliver = Callable[[DeliveryRequest], Awaitable[Sequence[DeliveryResult]]]
# Whom a loop is to serve (None: it ends), and its first job where that is chosen already.
_Call = tuple["Destination | None", Job | None]
INTERNAL_ERROR = Status(4, 3, 0)
# A loop that works off the jobs of a dead destination never waits; it lets others run after this many.
_JOBS_WITHOUT_WAIT = 50
# So many loops of a transport lie idle: to wake one costs less than to make one.
_IDLE_LOOPS = 20


class Transport:
    __slots__ = ("idle", "is_resting", "limits", "name", "running", "waiting")

    def __init__(self, name: str, limits: TransportLimits) -> None:
        self.name = name
        self.limits = limits
        self.running = 0  # slots in use
        self.is_resting = False  # no delivery begins now, whatever its destination
        self.waiting: deque[Destination] = deque()  # they could deliver if there were a slot
        self.idle: list[asyncio.Future[_Call]] = []  # of loops


class Destination:
    __slots__ = (
        "bulky_running",
        "dead_reason",
        "dead_until",
        "is_resting",
        "is_waiting",
        "jobs",
        "key",
        "running",
        "transport",
        "window",
    )

    def __init__(self, transport: Transport, key: str) -> None:
        self.transport = transport
        self.key = key
        self.jobs: FairQueue[Job] = FairQueue(transport.limits.slot_cost, transport.limits.priority_cost)
        self.window = Window(transport.limits)
        self.running = 0
        self.bulky_running = 0
        self.is_waiting = False  # in transport.waiting
        self.is_resting = False  # the time between two deliveries
        self.dead_until = 0.0  # monotonic; 0: it lives
        self.dead_reason: DeliveryResult | None = None

    @property
    def _has_place_for_bulky(self) -> bool:
        """Bulky jobs leave one place of the window free for small ones, if there is more than one."""
        return self.bulky_running == 0 or self.bulky_running + 1 < self.window.size

    @property
    def wants_slot(self) -> bool:
        """One more delivery could start now."""
        return (
            self.jobs.size > 0
            and not self.is_resting
            and self.running < self.window.size
            and (self.jobs.small > 0 or (self.jobs.bulky > 0 and self._has_place_for_bulky))
        )

    def take(self) -> Job | None:
        """The next job that may start and is still wanted."""
        while True:
            job = self.jobs.take(bulky=not self.bulky_running or self._has_place_for_bulky)
            if job is None or not job.is_dropped:
                return job


class DeadDestination(Struct, frozen=True):
    """For people: a destination that is left alone."""

    transport: str
    destination: str
    for_s: float
    reason: str


class Dispatcher:
    """Runs jobs: ``finished(job, results)`` is called once for each."""

    def __init__(
        self,
        *,
        deliver: Deliver,
        finished: Callable[[Job, Sequence[DeliveryResult]], None],
        observer: Observer,
        clock: Clock,
        pace: Pace,
        parameters: Parameters,
        process_limits: Mapping[str, int],
    ) -> None:
        self._deliver = deliver
        self._finished = finished
        self._observer = observer
        self._clock = clock
        self._pace = pace
        self._parameters = parameters
        self._process_limits = process_limits
        self._transports: dict[str, Transport] = {}
        self._destinations: dict[tuple[str, str], Destination] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarms: set[asyncio.Task[None]] = set()  # they end the rest of a destination or transport
        self._forget_at = parameters.qmgr_idle_destination_limit
        self._stopping = False

    # -- what the scheduler asks

    def limits(self, transport: str) -> TransportLimits:
        found = self._transports.get(transport)
        return found.limits if found is not None else self._transport(transport).limits

    def add(self, job: Job, key: str) -> None:
        """Let a job wait for its delivery at the destination ``key`` of its transport."""
        destination = self._destinations.get((job.request.transport, key))
        if destination is None:
            destination = self._new_destination(job.request.transport, key)
        elif destination.dead_until and self._clock.monotonic() >= destination.dead_until:
            self._revive(destination)
        transport = destination.transport
        if destination.running >= destination.window.size:
            destination.jobs.put(job)
        elif (
            destination.jobs.size  # it is its turn when it is taken from among them
            or job.is_bulky  # it may start only where there is place for such
            or transport.limits.is_paced
            or not self._may_start(destination)
        ):
            destination.jobs.put(job)
            self._want_slot(destination)
        else:
            self._start(destination, job)

    def forget_dead(self) -> None:
        for destination in self._destinations.values():
            if destination.dead_until:
                self._revive(destination)

    def reload(self, parameters: Parameters, process_limits: Mapping[str, int]) -> None:
        self._parameters = parameters
        self._process_limits = process_limits
        for transport in self._transports.values():
            transport.limits = self._limits_of(transport.name)
        for destination in self._destinations.values():
            destination.window.limits = destination.transport.limits
            self._fill(destination)

    def stop(self) -> frozenset[asyncio.Task[None]]:
        """No further job starts; the loops end with the deliveries that run now."""
        self._stopping = True
        for alarm in self._alarms:
            alarm.cancel()
        for transport in self._transports.values():
            while transport.idle:
                transport.idle.pop().set_result((None, None))
        return frozenset(self._tasks)

    # -- what is told of it

    @property
    def in_flight(self) -> int:
        return sum(transport.running for transport in self._transports.values())

    @property
    def waiting_jobs(self) -> int:
        return sum(destination.jobs.size for destination in self._destinations.values())

    def __len__(self) -> int:
        return len(self._destinations)

    def longest(self) -> tuple[Destination, int] | None:
        """The destination with the most jobs, and how many."""
        found = max(self._destinations.values(), key=lambda each: each.jobs.size, default=None)
        return None if found is None else (found, found.jobs.size)

    def dead(self) -> list[DeadDestination]:
        now = self._clock.monotonic()
        return [
            DeadDestination(each.transport.name, each.key, each.dead_until - now, each.dead_reason.text)
            for each in self._destinations.values()
            if each.dead_until > now and each.dead_reason is not None
        ]

    # -- inside

    def _transport(self, name: str) -> Transport:
        transport = self._transports.get(name)
        if transport is None:
            transport = self._transports[name] = Transport(name, self._limits_of(name))
        return transport

    def _limits_of(self, transport: str) -> TransportLimits:
        return transport_limits(self._parameters, transport, self._process_limits.get(transport))

    def _new_destination(self, transport: str, key: str) -> Destination:
        if len(self._destinations) >= self._forget_at:
            self._forget_idle()
        destination = self._destinations[transport, key] = Destination(self._transport(transport), key)
        return destination

    def _forget_idle(self) -> None:
        """Drop what has neither jobs nor loops and is not dead; of the dead keep no more than half the limit."""
        limit = self._parameters.qmgr_idle_destination_limit
        now = self._clock.monotonic()
        kept = {
            key: each
            for key, each in self._destinations.items()
            if each.running or each.jobs.size or each.dead_until > now or each.is_resting
        }
        dead = [key for key, each in kept.items() if not each.running and not each.jobs.size]
        for key in dead[: max(0, len(dead) - limit // 2)]:
            del kept[key]
        self._destinations = kept
        # When all of them are busy, looking again at each new one would cost more than it frees.
        self._forget_at = max(limit, 2 * len(kept))

    def _revive(self, destination: Destination) -> None:
        destination.dead_until = 0.0
        destination.dead_reason = None
        destination.window.reset()

    def _want_slot(self, destination: Destination) -> None:
        """One more loop for ``destination``: at once if the transport has a slot, else when its turn comes."""
        if self._may_start(destination):
            self._start(destination)
        elif not (destination.is_waiting or destination.is_resting or self._stopping):
            destination.is_waiting = True
            destination.transport.waiting.append(destination)

    def _may_start(self, destination: Destination) -> bool:
        """There is a slot that no other destination waits for."""
        if destination.is_waiting or destination.is_resting or self._stopping:
            return False
        transport = destination.transport
        limit = transport.limits.deliveries
        return not transport.is_resting and (transport.running < limit or not limit)

    def _fill(self, destination: Destination) -> None:
        """As many loops as the window and the jobs allow, now that the window may have changed."""
        wanted = min(destination.window.size, destination.running + destination.jobs.size)
        for _ in range(wanted - destination.running):
            self._want_slot(destination)
            if destination.is_waiting or destination.is_resting:
                return

    def _start(self, destination: Destination, job: Job | None = None) -> None:
        transport = destination.transport
        destination.running += 1
        transport.running += 1
        if transport.idle:
            transport.idle.pop().set_result((destination, job))
            return
        task = asyncio.get_running_loop().create_task(self._serve(destination, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, destination: Destination, given: Job | None) -> None:
        """A loop: one slot, job after job until nobody needs it, and again when one is needed.

        ``given``: the first job, which is no more in the queue.
        """
        loop = asyncio.get_running_loop()
        transport = destination.transport
        here: Destination | None = destination  # None: it has no slot
        results: Sequence[DeliveryResult]
        turn = 0
        try:
            while not self._stopping:
                if here is None:
                    if len(transport.idle) >= _IDLE_LOOPS:
                        return
                    job, results = None, ()  # no content is kept for nothing
                    call: asyncio.Future[_Call] = loop.create_future()
                    transport.idle.append(call)
                    here, given = await call
                    continue
                if given is not None:
                    job, given = None if given.is_dropped else given, None
                elif not here.jobs.size:
                    job = None
                elif transport.limits.is_paced and not self._may_begin(here):
                    here = self._next(transport, here)
                    continue
                else:
                    job = here.take()
                if job is not None and self._may_deliver(here, job):
                    turn = 0
                    here.bulky_running += job.is_bulky
                    try:
                        results = await self._deliver(job.request)
                    except Exception as error:
                        results = self._not_delivered(job.request, error)
                    finally:
                        here.bulky_running -= job.is_bulky
                    self._delivered(here, job, results)
                elif job is not None:
                    turn += 1
                    if turn % _JOBS_WITHOUT_WAIT == 0:
                        await asyncio.sleep(0)
                if not (here.jobs.size or transport.waiting):
                    here.running -= 1
                    transport.running -= 1
                    here = None
                elif (
                    job is None
                    or not here.jobs.size
                    or here.is_resting
                    or transport.waiting
                    or here.running > here.window.size
                ):
                    here = self._next(transport, here)
        finally:
            if here is not None:
                here.running -= 1
                transport.running -= 1

    def _next(self, transport: Transport, left: Destination) -> Destination | None:
        """The loop leaves ``left``, which goes to the end of the line if it has more, and serves the first in line.

        None: nobody is in line, and the slot is free.
        """
        left.running -= 1
        if left.wants_slot and not left.is_waiting:
            left.is_waiting = True
            transport.waiting.append(left)
        while transport.waiting and not transport.is_resting:
            destination = transport.waiting.popleft()
            destination.is_waiting = False
            if destination.wants_slot:
                destination.running += 1
                return destination
        transport.running -= 1
        return None

    # -- rests between deliveries

    def _may_begin(self, destination: Destination) -> bool:
        """Claim the time for one delivery; if there is none, who must wait rests until then."""
        transport = destination.transport
        if destination.is_resting or transport.is_resting:
            return False
        if destination.dead_until > self._clock.monotonic():
            return True  # nothing will be delivered
        limits = transport.limits
        delays = ((transport.name, limits.transport_delay_s), (_pace_name(destination), limits.destination_delay_s))
        for_transport, for_destination = self._pace.claim(delays)
        if for_transport:
            self._rest(transport, for_transport)
        if for_destination:
            self._rest(destination, for_destination)
        return not (for_transport or for_destination)

    def _rest(self, who: Transport | Destination, seconds: float) -> None:
        if who.is_resting or self._stopping:
            return
        who.is_resting = True
        alarm = asyncio.get_running_loop().create_task(self._end_rest(who, seconds))
        self._alarms.add(alarm)
        alarm.add_done_callback(self._alarms.discard)

    async def _end_rest(self, who: Transport | Destination, seconds: float) -> None:
        await self._clock.sleep(seconds)
        who.is_resting = False
        if isinstance(who, Destination):
            self._fill(who)
            return
        limit = who.limits.deliveries
        while who.waiting and (who.running < limit or not limit) and not self._stopping:
            destination = who.waiting.popleft()
            destination.is_waiting = False
            if destination.wants_slot:
                self._start(destination)

    # -- a delivery

    def _may_deliver(self, destination: Destination, job: Job) -> bool:
        """Its time has come. False: it is over already, the destination is dead."""
        job.is_started = True
        job.started = self._clock.monotonic()
        if destination.dead_until:
            if job.started < destination.dead_until:
                self._finished(job, [_suspended(destination)] * len(job.indexes))
                return False
            self._revive(destination)
        return True

    def _delivered(self, destination: Destination, job: Job, results: Sequence[DeliveryResult]) -> None:
        """What the destination learns of a delivery."""
        if len(results) != len(job.indexes):
            results = self._completed(job.request, results)
        if results[0].action is Action.DELAYED and is_unreachable(results):
            if not destination.dead_until and destination.window.failed():
                destination.dead_until = self._clock.monotonic() + self._parameters.minimal_backoff_time
                destination.dead_reason = results[0]
        else:
            if destination.dead_until:
                self._revive(destination)
            window = destination.window
            size = window.size
            window.succeeded(destination.running)
            if window.size > size:
                self._fill(destination)
        if delay_s := destination.transport.limits.destination_delay_s:
            self._pace.hold(_pace_name(destination), delay_s)
            self._rest(destination, delay_s)
        self._finished(job, results)

    def _not_delivered(self, request: DeliveryRequest, error: Exception) -> Sequence[DeliveryResult]:
        """An agent that raises has a bug: its recipients wait, the loop lives on."""
        self._complain(request, f"delivery by {request.transport} failed: {type(error).__name__}: {error}")
        return [deferred(INTERNAL_ERROR, "internal error in delivery")] * len(request.recipients)

    def _completed(self, request: DeliveryRequest, results: Sequence[DeliveryResult]) -> Sequence[DeliveryResult]:
        """One result a recipient, whatever the agent does."""
        self._complain(
            request,
            f"delivery by {request.transport} gave {len(results)} results for {len(request.recipients)} recipients",
        )
        missing = deferred(INTERNAL_ERROR, "internal error in delivery: no result")
        return (*results, *[missing] * len(request.recipients))[: len(request.recipients)]

    def _complain(self, request: DeliveryRequest, text: str) -> None:
        self._observer.emit(Note("qmgr", text, "error", request.queue_id))


def _pace_name(destination: Destination) -> str:
    return f"{destination.transport.name}:{destination.key}"


def _suspended(destination: Destination) -> DeliveryResult:
    reason = destination.dead_reason
    if reason is None:
        return deferred(INTERNAL_ERROR, "delivery temporarily suspended")
    return deferred(
        reason.status,
        f"delivery temporarily suspended: {reason.text}",
        diagnostic=reason.diagnostic,
        remote_mta=reason.remote_mta,
    )
