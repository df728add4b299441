"""The ``smtp`` delivery agent: a message to the servers of its next hop (RFC 5321 §5). ``lmtp`` shares its engine.

A delivery first takes an idle connection of its next hop. Without one it has the next hop's hosts looked up and tries
them in order, until every recipient has a final answer, the hosts end, or smtp_mx_session_limit sessions were held.
What the last server said of a recipient is its result. A next hop may be a list: each member is tried in this way in
turn, and after them each of smtp_fallback_relay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.deliver.connection import Connection, Endpoint
from ekiden.deliver.connection_pool import ConnectionPool
from ekiden.deliver.generic import GenericMaps
from ekiden.deliver.smtp_job import Job
from ekiden.deliver.smtp_outcome import LOOPS
from ekiden.deliver.smtp_security import Policies, Security
from ekiden.deliver.smtp_session import Sessions
from ekiden.deliver.smtp_settings import SmtpSettings, smtp_settings
from ekiden.deliver.smtp_transaction import converse, fitting, has_room, judge, was_stale
from ekiden.message.clock import Clock
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult, deferred
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.observe.events import Note, Observer
from ekiden.protocol.smtp.client import (
    Finished,
)
from ekiden.queue.store import StoreTrouble
from ekiden.route.mx import BetterHosts
from ekiden.tls.key_files import KeyFiles

HostsFor = Callable[[str], Awaitable[Sequence[Host] | DeliveryResult]]
PassOn = Callable[[DeliveryRequest], Awaitable[Sequence[DeliveryResult]]]
Endpoints = Callable[[str], Awaitable[Sequence[Endpoint] | DeliveryResult]]


class SmtpAgent:
    """An Agent. ``hosts_for`` turns a next hop into its hosts in the order to try, or says why there are none.

    ``hostname`` is the name that tells a loop; myhostname unless given. ``loops_to`` delivers instead what would come
    back to this host (best_mx_transport). ``generic`` replaces addresses on the way out; ``policies`` see to TLS.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        hosts_for: HostsFor,
        clock: Clock,
        observer: Observer,
        hostname: str | None = None,
        loops_to: PassOn | None = None,
        generic: GenericMaps | None = None,
        policies: Policies | None = None,
        key_files: Callable[[], KeyFiles] = KeyFiles,
    ) -> None:
        name = parameters.myhostname if hostname is None else hostname
        self._engine = Engine(
            smtp_settings(parameters),
            endpoints=hosts_for,
            clock=clock,
            observer=observer,
            own_name=name,
            security=Security(
                parameters, "smtp", clock=clock, observer=observer, policies=policies, key_files=key_files
            ),
            generic=generic,
        )
        # As Agent has it; what cannot loop goes to the engine without a layer that only passes on.
        self.deliver: Callable[[DeliveryRequest], Coroutine[Any, Any, Sequence[DeliveryResult]]] = (
            self._engine.deliver if loops_to is None else partial(self._deliver_or_pass_on, loops_to)
        )

    async def _deliver_or_pass_on(self, loops_to: PassOn, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        results = await self._engine.deliver(request)
        if not (looping := [at for at, result in enumerate(results) if _is_loop(result)]):
            return results
        theirs = await loops_to(structs.replace(request, recipients=tuple([request.recipients[at] for at in looping])))
        for at, result in zip(looping, theirs, strict=True):
            results[at] = result
        return results

    async def close(self) -> None:
        await self._engine.close()


class Engine:
    """What SMTP and LMTP share: sessions, transactions, the next server, connections used again."""

    def __init__(
        self,
        settings: SmtpSettings,
        *,
        endpoints: Endpoints,
        clock: Clock,
        observer: Observer,
        own_name: str,
        security: Security,
        generic: GenericMaps | None = None,
    ) -> None:
        self.pool = ConnectionPool(settings)
        self._settings = settings
        self._endpoints = endpoints
        self._clock = clock
        self._observer = observer
        self._generic = generic
        self._security = security
        self._sessions = Sessions(settings, security, self.pool, clock=clock, observer=observer, own_name=own_name)

    async def close(self) -> None:
        await self.pool.close()
        await self._security.close()

    async def deliver(self, request: DeliveryRequest) -> list[DeliveryResult]:
        if self._generic is not None:
            renewed = await self._generic.apply(request)
            if isinstance(renewed, DeliveryResult):
                return [renewed] * len(request.recipients)
            request, content = renewed
            job = Job(request, content, quotes=self._settings.quotes)
        else:
            job = Job(request, request.content, quotes=self._settings.quotes)
        if job.open and (connection := self.pool.take(request.next_hop)) is not None:
            is_for_all = connection.suits_all and not request.envelope.require_tls
            if not is_for_all and not await self._sessions.fits(connection, job):
                self.pool.retire(connection)
            # The server may have gone while the connection lay idle: then nothing was tried yet.
            elif await self._transact(connection, job, reused=True):
                job.sessions += 1
                job.tried = connection.endpoint
        if job.open:
            await self._try_next_hops(job)
        results = job.results
        if None in results:
            return [result if result is not None else _NO_SERVER for result in results]
        return results  # type: ignore[return-value]

    async def _try_next_hops(self, job: Job) -> None:
        """Each next hop in turn, as long as there are open recipients."""
        next_hops, fallbacks = _next_hops(job.request.next_hop), self._settings.fallbacks
        problem: DeliveryResult | None = None
        for place, next_hop in enumerate((*next_hops, *fallbacks) if fallbacks else next_hops):
            if place:
                job.sessions = 0
                job.at_fallback = place >= len(next_hops)
            started = self._clock.monotonic()
            found = await self._endpoints(next_hop)
            if isinstance(found, DeliveryResult):
                # Looking for a server is part of setting up a connection, also when there is none in the end.
                problem = structs.replace(found, connect_s=self._clock.monotonic() - started)
                if not found.is_final:
                    job.remember(problem)
                elif _is_loop(found):  # a fallback relay would only send it round once more
                    break
                continue
            await self._try_servers(found, next_hop, job, started)
            if not job.open or isinstance(found, BetterHosts):
                return
        if problem is not None and problem.is_final:
            self._no_servers(problem, job)

    def _no_servers(self, problem: DeliveryResult, job: Job) -> None:
        """The last next hop has no servers at all: final, unless another gave hope or it is our own configuration."""
        whose = "smtp_fallback_relay" if job.at_fallback else "relayhost"
        if job.at_fallback or (self._settings.relayhost and job.request.next_hop == self._settings.relayhost):
            self._observer.emit(Note(self._settings.transport, f"{whose} configuration problem", "warning"))
            job.remember(deferred(Status(4, 3, 5), problem.text, connect_s=problem.connect_s))
            return
        for at in job.open:
            if job.results[at] is None:
                job.results[at] = problem
        job.open = []

    async def _try_servers(self, found: Sequence[Endpoint], next_hop: str, job: Job, started: float) -> None:
        settings = self._settings
        if job.sessions >= settings.session_limit > 0:  # by a connection of the pool
            return
        if settings.address_limit:
            found = found[: settings.address_limit]
        for place, endpoint in enumerate(found):
            if endpoint == job.tried and not job.left:
                continue
            connection = await self._sessions.open(endpoint, next_hop, job, started, best=place == 0)
            if connection is not None:
                job.sessions += 1
                await self._transact(connection, job)
                if job.broke_off and self._sessions.may_be_plain(connection, job):
                    connection = await self._sessions.open(endpoint, next_hop, job, started, best=False, plain=True)
                    if connection is not None:
                        await self._transact(connection, job)
                while job.left:
                    connection = await self._sessions.open(endpoint, next_hop, job, started, best=False)
                    if connection is None:
                        break
                    await self._transact(connection, job)
            if not job.open or job.sessions == settings.session_limit > 0:
                return
            started = self._clock.monotonic()

    # -- a transaction --

    async def _transact(self, connection: Connection, job: Job, *, reused: bool = False) -> bool:
        """Transactions for the open recipients, as a rule one; the connection then goes back to the pool or away.

        ``job.left`` are those that the server takes in another session only. False: it was a reused connection that
        turned out dead or full, and ``job`` is as it was.
        """
        job.left, job.broke_off = [], False
        waiting = job.open.copy()
        while waiting and job.open:
            started = self._clock.monotonic()
            asked, waiting = fitting(job, waiting, connection)
            if not asked:
                self.pool.retire(connection)
                job.left = [] if reused else waiting
                return not reused
            try:
                event = await converse(connection, job, asked, self._settings, now=self._clock.time())
            except StoreTrouble as trouble:
                connection.abort()
                job.settle(deferred(Status(4, 3, 0), f"cannot read the content: {trouble}"))
                return True
            except BaseException:
                connection.abort()
                raise
            if job.notes:
                for text in job.notes:
                    self._observer.emit(Note(self._settings.transport, text, "warning", job.request.queue_id))
                job.notes.clear()
            if event is None:  # there was no need to ask the server
                continue
            if reused and was_stale(event, connection.client):
                connection.abort()
                return False
            reused = False
            transmit_s = self._clock.monotonic() - started
            judge(event, connection, job, transmit_s, assume_final=self._settings.assume_final)
            if not isinstance(event, Finished):
                connection.abort()
                job.broke_off = True
                return True
            if waiting and not connection.usable:
                # The server has had enough of us, so it is not asked again for those that it has not heard of.
                reason = job.results[asked[-1]]
                for at in waiting:
                    job.results[at] = reason if reason is not None and not reason.is_final else _NO_SERVER
                break
            if waiting and not has_room(connection):
                job.left = waiting
                break
        self._give_back(connection, job)
        return True

    def _give_back(self, connection: Connection, job: Job) -> None:
        # The next message tries its own next hop first, and with TLS.
        policy = connection.policy
        is_way_out = policy is None if self._security.has_tls else False
        if job.at_fallback or not has_room(connection) or is_way_out or not (policy is None or policy.reuse):
            self.pool.retire(connection)
        else:
            self.pool.give_back(job.request.next_hop, connection)


def _next_hops(text: str) -> list[str]:
    """The members of ``a.example, [b.example]:587``; a path is one."""
    return [text] if text.startswith("unix:") else text.replace(",", " ").split() or [text]


def _is_loop(result: DeliveryResult) -> bool:
    """Our own finding, no server's reply."""
    return result.status == LOOPS and result.action is Action.FAILED and not result.diagnostic


_NO_SERVER = deferred(Status(4, 4, 4), "no server to connect to")
