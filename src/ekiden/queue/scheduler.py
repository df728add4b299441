"""The scheduler (Postfix's qmgr(8)): takes messages up, has them routed and delivered, and settles what became of them.

    accept, claim -> active set -> routes -> jobs at destinations -> results -> settlement -> removed or deferred
                                                                        `-> notification, born in the settlement

In:   the store, and callables that route, deliver and make notifications; a clock and a source of chance.
Out:  events. A message leaves the queue only in a settlement that the store has taken.
Never: re-reads what it just accepted, makes a task for each message, or delivers a recipient whose result it knows.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult, Route, deferred
from ekiden.message.envelope import Notify, Recipient
from ekiden.message.queued import QueuedMessage
from ekiden.message.status import Status
from ekiden.observe.events import Activated, Attempted, Expired, MessageId, Note, Notified, Observer, Removed
from ekiden.queue import deliver_by
from ekiden.queue.active import ActiveMessage, ActiveSet, Job, active_limits
from ekiden.queue.content_filter import filter_route
from ekiden.queue.crew import Crew
from ekiden.queue.destinations import INTERNAL_ERROR, DeadDestination, Deliver, Dispatcher
from ekiden.queue.notice import Bouncer, RoundOutcome, tells_success
from ekiden.queue.pace import LocalPace, Pace
from ekiden.queue.pump import Pump
from ekiden.queue.retry import due, expires_at, is_expired, retry_rules, warns
from ekiden.queue.settling import Settler, still_pending
from ekiden.queue.steady_time import SteadyTime
from ekiden.queue.store import Settlement, Store

Resolve = Callable[[Address, Address], Awaitable[Route | DeliveryResult]]
# The sender that a recipient's next host is told; of the recipient, the sender as the queue has it, the queue id.
SenderFor = Callable[[Recipient, Address, str], Awaitable[Address | DeliveryResult]]
_DEFERRED_TRANSPORT = deferred(Status(4, 3, 2), "deferred transport")
# After a stop's deadline the store gets this long for the results of what was delivered.
_LAST_COMMIT_S = 5.0
# The look for routes of a message with very many recipients lets others run after this many.
_ROUTES_WITHOUT_WAIT = 100


class SchedulerStatus(Struct, frozen=True):
    """For ``ekiden status``."""

    messages: int  # in memory
    recipients: int
    content_bytes: int
    resolving: int
    waiting_jobs: int
    in_flight: int
    destinations: int
    unwritten: int  # messages whose results the store could not take yet
    dead: Sequence[DeadDestination]


class Scheduler:
    def __init__(
        self,
        *,
        store: Store,
        resolve: Resolve,
        deliver: Deliver,
        bounce: Bouncer,
        observer: Observer,
        clock: Clock,
        random: random_module.Random,
        parameters: Parameters,
        new_queue_id: Callable[[], str],
        process_limits: Mapping[str, int] = MappingProxyType({}),
        pace: Pace | None = None,
        load: Callable[[], float] = lambda: 0.0,
        sender_for: SenderFor | None = None,
    ) -> None:
        """``process_limits``: maxproc of master.cf by transport; 0 is no limit. ``pace``: one that is shared.

        ``sender_for`` is asked about recipients that came under another address.
        """
        self._sender_for = sender_for
        self._store = store
        self._resolve = resolve
        self._bounce = bounce
        self._emit = observer.emit
        self._clock = clock
        self._random = random
        self._new_queue_id = new_queue_id
        self._steady = SteadyTime(clock)
        self._running = False
        self._active = ActiveSet(active_limits(parameters))
        self._routing = Crew(self._route, parameters.qmgr_resolve_limit)
        self._closing = Crew(self._close_round, parameters.qmgr_notice_limit)
        self._dispatcher = Dispatcher(
            deliver=deliver, finished=self._job_finished, observer=observer, clock=clock,
            pace=LocalPace(clock) if pace is None else pace, parameters=parameters, process_limits=process_limits,
        )  # fmt: skip
        self._settler = Settler(
            store=store, settled=self._settled, observer=observer, clock=clock, parameters=parameters
        )
        self._pump = Pump(
            store=store, active=self._active, enter=self._enter_claimed, longest=self._dispatcher.longest,
            observer=observer, clock=clock, steady=self._steady, parameters=parameters, load=load,
        )  # fmt: skip
        self._take_parameters(parameters)

    def _take_parameters(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._deferred_transports = frozenset(parameters.defer_transports)
        self._soft_bounce = parameters.soft_bounce
        self._minds_load = parameters.queue_load_average_limit > 0
        self._rules = retry_rules(parameters)
        self._lease_s = parameters.qmgr_lease_time
        self._bulk_recipients = parameters.qmgr_bulk_recipients
        self._bulk_size = parameters.qmgr_bulk_size
        self._interim_recipients = parameters.qmgr_interim_settle_recipients

    # -- doors

    async def accept(self, message: QueuedMessage) -> None:
        """Make a new message durable and start its delivery, or leave it in the store until there is room.

        It is durable when this returns. Raises StoreTrouble: then it is not in the queue.
        """
        if message.hold:  # an administrator lets it go
            await self._store.put(message)
            return
        if message.due and message.due > self._clock.time():  # held until then (RFC 4865)
            await self._store.put(message)
            self._pump.is_due(message.due)
            return
        if not (self._running and self._active.has_room_for_new()) or (self._minds_load and self._pump.is_overloaded()):
            await self._store.put(message)
            self._pump.mail_waits()
            return
        self._active.take_room(message, claimed=False)
        try:
            await self._store.put(message, lease_s=self._lease_s)
        except BaseException:
            # If this is a cancellation the message may be in the queue all the same; its lease will run out.
            self._active.give_room(message, claimed=False)
            raise
        self._enter(message, claimed=False)

    def start(self) -> None:
        self._running = True
        self._pump.start()

    async def stop(self, timeout_s: float) -> None:
        """End: deliveries in flight have ``timeout_s`` seconds to finish, then they are cancelled.

        What is known by then is settled; the rest stays in the store as it is.
        """
        self._running = False
        self._pump.stop()
        self._routing.close()
        loops = self._dispatcher.stop()
        limit = asyncio.ensure_future(self._clock.sleep(timeout_s))
        try:
            while not limit.done() and (
                tasks := [task for task in (*loops, *self._routing.tasks, *self._closing.tasks) if not task.done()]
            ):
                await asyncio.wait((*tasks, limit), return_when=asyncio.FIRST_COMPLETED)
            self._closing.close()
            tasks = [*loops, *self._routing.tasks, *self._closing.tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for active in self._active.messages.values():
                if active.final is None and any(result is not None for result in active.results):
                    # Due at the next start: there are recipients to try, or a notification to make.
                    active.is_withdrawn = True
                    self._settle_rest(active)
            await self._finish_settling(limit)
        finally:
            limit.cancel()
            self._settler.close()

    async def _finish_settling(self, limit: asyncio.Future[None]) -> None:
        """The last commits: they get what is left of the time, and a little more."""
        finishing = asyncio.ensure_future(self._settler.finish())
        if not limit.done():
            await asyncio.wait((finishing, limit), return_when=asyncio.FIRST_COMPLETED)
        if not finishing.done():
            await asyncio.wait((finishing,), timeout=_LAST_COMMIT_S)
        finishing.cancel()
        unwritten = sum(1 for active in self._active.messages.values() if active.final is not None)
        if unwritten:
            text = f"the results of {unwritten} messages could not be written; they may be delivered twice"
            self._emit(Note("qmgr", text, "error"))

    def flush(self) -> None:
        """All deferred mail is due now, and destinations that did not answer are tried again."""
        self._dispatcher.forget_dead()
        self._pump.flush()

    def wake(self) -> None:
        """The store has changed (an administrator released or requeued mail): look for what is due."""
        self._pump.wake()

    def withdraw(self, queue_ids: Iterable[str]) -> list[str]:
        """Stop what has not begun for these messages, before an administrator's change is made in the store.

        Returns those of which a delivery runs: it ends, and what came of it is settled.
        """
        in_flight: list[str] = []
        for queue_id in queue_ids:
            active = self._active.messages.get(queue_id)
            if active is None or active.final is not None:
                continue
            active.is_withdrawn = True
            for job in active.jobs:
                if not (job.is_started or job.is_dropped):
                    job.is_dropped = True
                    active.open_jobs -= 1
            if active.open_jobs:
                in_flight.append(queue_id)
            else:
                self._end_round(active)
        return in_flight

    def reload(self, parameters: Parameters, process_limits: Mapping[str, int] = MappingProxyType({})) -> None:
        self._take_parameters(parameters)
        self._active.limits = active_limits(parameters)
        self._routing.limit = parameters.qmgr_resolve_limit
        self._closing.limit = parameters.qmgr_notice_limit
        self._dispatcher.reload(parameters, process_limits)
        self._settler.reload(parameters)
        self._pump.reload(parameters)

    def status(self) -> SchedulerStatus:
        taken = self._active.counts
        return SchedulerStatus(
            messages=taken.messages,
            recipients=taken.recipients,
            content_bytes=taken.content_bytes,
            resolving=len(self._routing) + len(self._routing.tasks),
            waiting_jobs=self._dispatcher.waiting_jobs,
            in_flight=self._dispatcher.in_flight,
            destinations=len(self._dispatcher),
            unwritten=self._settler.refused,
            dead=self._dispatcher.dead(),
        )

    # -- a message comes in

    def _enter(self, message: QueuedMessage, *, claimed: bool) -> ActiveMessage:
        before_s = self._clock.time() - message.arrived
        if before_s < 0:
            before_s = 0.0
        active = ActiveMessage(message, self._clock.monotonic(), before_s, is_claimed=claimed)
        active.lease_s = self._lease_s
        self._active.messages[message.queue_id] = active
        envelope = message.envelope
        self._emit(Activated(message.queue_id, str(envelope.sender), active.size, len(message.pending)))
        self._routing.add(active)
        return active

    def _enter_claimed(self, message: QueuedMessage) -> bool:
        """A message from the store; False when it is here already (its lease ran out, or it was made due)."""
        known = self._active.messages.get(message.queue_id)
        if known is not None:
            known.was_claimed_again = True
            return False
        self._active.take_room(message, claimed=True)
        self._enter(message, claimed=True).is_flushed = self._pump.is_of_flush(message)
        return True

    async def _route(self, active: ActiveMessage) -> None:
        """Find every recipient's route and make the jobs. What has no route has its result."""
        message = active.message
        # By transport, its recipients in one delivery (0: any number), next hop, destination, sender.
        groups: dict[tuple[str, int, str, str, Address], list[tuple[int, Recipient]]] = {}
        found: Route | DeliveryResult
        sender = message.envelope.sender
        too_late = message.envelope.deliver_by is not None and deliver_by.is_over(message, self._clock.time())
        for index, pending in enumerate(message.pending):
            if pending.last is not None and pending.last.is_final:
                # It is over for this recipient since an earlier round; only the notification is missing.
                self._keep(active, index, pending.last)
                continue
            recipient = pending.recipient
            started = self._clock.monotonic()
            if too_late:
                self._record(active, index, "error", recipient, deliver_by.expired(pending.last), started)
                continue
            try:
                if message.content_filter:
                    found = filter_route(message.content_filter, recipient.address, self._parameters)
                else:
                    found = await self._resolve(recipient.address, sender)
            except Exception as error:
                found = self._not_routed(active, recipient, error)
            if isinstance(found, DeliveryResult):
                self._record(active, index, "error", recipient, found, started)
                continue
            leaves_from = sender
            if recipient.original is not None and self._sender_for is not None and not message.content_filter:
                named = await self._sender_for(recipient, sender, message.queue_id)
                if isinstance(named, DeliveryResult):
                    self._record(active, index, "error", recipient, named, started)
                    continue
                leaves_from = named
            if found.transport in self._deferred_transports and not active.is_flushed:
                self._record(active, index, found.transport, recipient, _DEFERRED_TRANSPORT, started)
                continue
            if found.address is not recipient.address and found.address != recipient.address:
                recipient = recipient.readdressed(found.address)
            most = self._dispatcher.limits(found.transport).recipients
            key = recipient.address.key if most == 1 else found.next_hop
            groups.setdefault((found.transport, most, found.next_hop, key, leaves_from), []).append((index, recipient))
            if index % _ROUTES_WITHOUT_WAIT == _ROUTES_WITHOUT_WAIT - 1:
                await asyncio.sleep(0)
        if not active.is_withdrawn:
            for (transport, most, next_hop, key, leaves_from), members in groups.items():
                self._add_jobs(active, transport, most, next_hop, key, leaves_from, members)
        active.open_jobs -= 1
        if not active.open_jobs:
            self._end_round(active)

    def _not_routed(self, active: ActiveMessage, recipient: Recipient, error: Exception) -> DeliveryResult:
        text = f"routing of {recipient.address} failed: {type(error).__name__}: {error}"
        self._emit(Note("qmgr", text, "error", active.message.queue_id))
        return deferred(INTERNAL_ERROR, "internal error in routing")

    def _add_jobs(
        self, active: ActiveMessage, transport: str, most: int, next_hop: str, key: str, leaves_from: Address,
        members: list[tuple[int, Recipient]],
    ) -> None:  # fmt: skip
        message = active.message
        envelope = message.envelope
        if leaves_from is not envelope.sender:
            envelope = replace(envelope, sender=leaves_from)
        count = len(members)
        bulky = count > self._bulk_recipients or active.size > self._bulk_size
        for at in range(0, count, most or count):
            indexes, recipients = zip(*members[at : at + (most or count)], strict=True)
            request = DeliveryRequest(
                message.queue_id, transport, next_hop, envelope, recipients, message.content, message.arrived
            )
            job = Job(active, request, indexes, bulky)
            active.jobs.append(job)
            active.open_jobs += 1
            self._dispatcher.add(job, key)

    # -- results

    def _job_finished(self, job: Job, results: Sequence[DeliveryResult]) -> None:
        active, request = job.active, job.request
        for index, recipient, result in zip(job.indexes, request.recipients, results, strict=True):
            self._record(active, index, request.transport, recipient, result, job.started)
        active.open_jobs -= 1
        if not active.open_jobs:
            self._end_round(active)
        elif any(result.status.klass == 2 for result in results):
            # Others of this message still run: a crash must not deliver these again.
            if len(results) >= self._interim_recipients:
                self._settler.settle(active)
            else:
                self._settler.settle_soon(active)

    def _record(
        self, active: ActiveMessage, index: int, transport: str, recipient: Recipient, result: DeliveryResult,
        started: float,
    ) -> None:  # fmt: skip
        """The one place where a recipient gets its result, whoever it comes from."""
        if self._soft_bounce and result.action is Action.FAILED:
            result = replace(result, action=Action.DELAYED)
        action = result.action
        klass = 5 if action is Action.FAILED else 4 if action is Action.DELAYED else 2
        if result.status.klass != klass:
            result = DeliveryResult(
                result.action, result.status.with_class(klass), result.text, result.relay,
                result.diagnostic, result.remote_mta, result.connect_s, result.transmit_s,
            )  # fmt: skip
        self._keep(active, index, result)
        entered = active.entered
        self._emit(
            Attempted(
                active.message.queue_id,
                transport,
                str(recipient.address),
                result,
                active.before_s + self._clock.monotonic() - entered,
                (active.before_s, started - entered, result.connect_s, result.transmit_s),
                "" if recipient.original is None else str(recipient.original),
            )
        )

    def _keep(self, active: ActiveMessage, index: int, result: DeliveryResult) -> None:
        active.results[index] = result
        if result.action is Action.DELAYED:
            active.unfinished += 1
        # From SUCCESS up someone has asked for something; comparing is ten times cheaper than Flag's `&`, and every
        # recipient pays.
        elif result.action is Action.FAILED or active.message.pending[index].recipient.notify >= Notify.SUCCESS:
            active.needs_notice = True

    # -- the end of a round

    def _end_round(self, active: ActiveMessage) -> None:
        if not (active.needs_notice or active.unfinished or active.is_withdrawn):
            active.final = Settlement(active.message.queue_id)
            self._settler.settle(active)
        elif active.needs_notice or (active.unfinished and self._time_tells(active.message)):
            self._closing.add(active)
        else:
            self._settle_rest(active)

    def _age_s(self, message: QueuedMessage) -> float:
        return max(0.0, self._clock.time() - message.ready)

    def _time_tells(self, message: QueuedMessage) -> bool:
        """A deferred message is too old, or its sender is to hear that it is late."""
        age_s = self._age_s(message)
        null_sender = message.envelope.sender.is_null
        return is_expired(self._rules, age_s, null_sender=null_sender) or (
            not null_sender and warns(self._rules, age_s, warned=message.delay_warned)
        )

    def _settle_rest(self, active: ActiveMessage) -> None:
        """Nobody is to be told anything (or cannot be): what is not delivered waits for its next round."""
        message = active.message
        active.final = Settlement(
            message.queue_id,
            still_pending(active),
            due=self._next_due(active),
            delay_warned=message.delay_warned,
        )
        self._settler.settle(active)

    def _next_due(self, active: ActiveMessage) -> float:
        now = self._steady.now()
        if active.is_withdrawn:  # what it still has was not even tried
            return now
        at = due(self._rules, now, self._age_s(active.message), self._random.random())
        return at if active.message.envelope.deliver_by is None else deliver_by.next_due(active.message, now, at)

    async def _close_round(self, active: ActiveMessage) -> None:
        """Compose the notifications that this round calls for, and settle it together with them."""
        message = active.message
        if message.envelope.deliver_by is not None and deliver_by.is_over(message, self._clock.time()):
            self._end_by_time(active)
        outcome = self._outcome(active)
        try:
            notices = await self._bounce.compose(message, outcome, self._new_queue_id)
        except Exception as error:
            text = f"no notification could be made, the message stays: {type(error).__name__}: {error}"
            self._emit(Note("bounce", text, "error", message.queue_id))
            self._settle_rest(active)
            return
        gone = {id(result) for _, result in (*outcome.failed, *outcome.succeeded)}
        pending = tuple([each for each in still_pending(active) if each.last is None or id(each.last) not in gone])
        born = tuple([notice.message for notice in notices])
        at_once = self._running and self._active.has_room_for_new()
        active.final = Settlement(
            message.queue_id,
            pending,
            due=self._next_due(active) if pending else 0.0,
            delay_warned=message.delay_warned or bool(outcome.delayed),
            born=born,
            born_lease_s=self._lease_s if at_once and born else 0.0,
        )
        if outcome.expired:
            self._emit(Expired(message.queue_id, str(message.envelope.sender)))
        for notice in notices:
            if at_once:
                self._active.take_room(notice.message, claimed=False)
            self._emit(Notified(message.queue_id, notice.kind, notice.message.queue_id, notice.to_postmaster))
        self._settler.settle(active)

    @staticmethod
    def _end_by_time(active: ActiveMessage) -> None:
        """The sender wanted it delivered by now or not at all (RFC 2852 §4.1.2): who still waits has failed."""
        for index, result in enumerate(active.results):
            if result is not None and result.action is Action.DELAYED:
                active.results[index] = deliver_by.expired(result)
                active.unfinished -= 1

    def _outcome(self, active: ActiveMessage) -> RoundOutcome:
        message = active.message
        null_sender = message.envelope.sender.is_null
        age_s = self._age_s(message)
        expired = active.unfinished > 0 and is_expired(self._rules, age_s, null_sender=null_sender)
        overdue = not expired and deliver_by.tells_late(message, self._clock.time())
        late = not null_sender and not expired and warns(self._rules, age_s, warned=message.delay_warned)
        failed: list[tuple[Recipient, DeliveryResult]] = []
        delayed: list[tuple[Recipient, DeliveryResult]] = []
        succeeded: list[tuple[Recipient, DeliveryResult]] = []
        for pending, result in zip(message.pending, active.results, strict=True):
            if result is None:
                continue
            ended = (pending.recipient, result)
            if result.action is Action.FAILED or (expired and result.action is Action.DELAYED):
                failed.append(ended)
            elif result.action is Action.DELAYED:
                if late or overdue:
                    delayed.append(ended)
            elif tells_success(message.envelope, pending.recipient, result):
                succeeded.append(ended)
        until = expires_at(self._rules, message.ready, null_sender=null_sender)
        return RoundOutcome(failed, delayed, succeeded, expired, until, overdue)

    def _settled(self, active: ActiveMessage) -> None:
        """The end of the round is durable."""
        final = active.final
        if final is None:
            return
        if final.pending and active.was_claimed_again:
            # The store gave the message out while its settlement was on the way: give it back, due now.
            active.was_claimed_again = active.is_done = False
            active.final = Settlement(
                final.queue_id, final.pending, due=self._steady.now(), delay_warned=final.delay_warned
            )
            self._settler.settle(active)
        else:
            del self._active.messages[final.queue_id]
            self._active.give_room(active.message, claimed=active.is_claimed)
            if self._pump.wants_room:
                self._pump.has_room()
            if final.pending:
                self._pump.is_due(final.due)
            else:
                self._emit(Removed(final.queue_id))
        for message in final.born:
            self._emit(MessageId(message.queue_id, message.message_id))
            if not final.born_lease_s:
                continue
            if self._running:
                self._enter(message, claimed=False)
            else:
                self._active.give_room(message, claimed=False)
        if final.born and not final.born_lease_s:
            self._pump.mail_waits()
