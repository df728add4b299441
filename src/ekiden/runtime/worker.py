"""One worker: a whole mail server of its own, unprivileged, with one queue shard (design: shared nothing).

It is told what to do over its control socket: listeners and peers come, the configuration changes, it stops.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import sys
import time
from collections.abc import Awaitable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ekiden import __version__
from ekiden.config.load import load
from ekiden.deliver.bounce import MailBouncer
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.message.address import Address
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, Route
from ekiden.message.envelope import Recipient
from ekiden.message.queued import QueueState
from ekiden.message.queueid import QueueIds
from ekiden.net.outbox import Outbox
from ekiden.observe.events import Note
from ekiden.observe.log import MailLog
from ekiden.observe.table_warnings import table_warnings
from ekiden.queue.load import LoadAverage
from ekiden.queue.scheduler import Scheduler
from ekiden.queue.shards import adopt_orphans
from ekiden.queue.sqlite_store import SqliteStore
from ekiden.queue.store import Change, StoreTrouble
from ekiden.receive.connection import Connection, DeadlineWatch
from ekiden.receive.etrn import FlushTrouble
from ekiden.receive.pickup import Pickup
from ekiden.receive.service import SmtpService
from ekiden.receive.session import SmtpSession
from ekiden.runtime import control
from ekiden.runtime.control_client import RunningServer, ServerTrouble
from ekiden.runtime.control_socket import ControlServer
from ekiden.runtime.key_vault import take_keys
from ekiden.runtime.requests import Filter, ReportSubject, WorkerStatus
from ekiden.runtime.stations import Doors, Stations
from ekiden.runtime.system_clock import SystemClock
from ekiden.runtime.worker_context import Listener, WorkerContext

# Objects that a busy worker makes are short-lived and mostly without cycles: the collector looks less often than
# Python's default, and never at what was there before the first connection.
_GC_THRESHOLDS = (50_000, 20, 50)
# The store's thread takes the interpreter's lock for microseconds at a time and must not wait 5 ms for each turn.
_SWITCH_INTERVAL_S = 0.001
_DOMAINS_S = 10.0  # between two looks at what is known of other domains
# Sessions in the middle of a message get a moment to finish it when the server stops.
_STOP_POLL_S = 0.05


def worker_main(context: WorkerContext) -> int:
    """Run until told to stop; the exit status."""
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        return runner.run(Worker(context).run())


def _stay_on_own_cpu(index: int, workers: int, commit_thread: int) -> None:
    """The event loop of each worker and the thread that commits for it keep to one CPU, if there are enough for all.

    The two never run at once (the interpreter's lock), so a second CPU only means waking it up, which in a virtual
    machine is dear, and moving what the first has in its cache. Threads that work on files go where there is room.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if 1 < workers <= len(cpus):
        for thread in (0, commit_thread):
            os.sched_setaffinity(thread, {cpus[index]})


class Worker:
    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        parameters = context.configuration.parameters
        self._configuration = context.configuration
        self._clock = SystemClock()
        self._log = MailLog(
            parameters,
            hostname=parameters.myhostname.partition(".")[0],
            pid=os.getpid(),
            clock_time=time.time,
            programs={
                service.name: service.command for service in context.configuration.services if service.type == "unix"
            },
        )
        self._mailboxes = MailboxChannel(
            job_limit=parameters.deliverer_job_limit, restart_wait_s=parameters.deliverer_restart_wait
        )
        self._servers: dict[control.ListenerKey, asyncio.Server] = {}
        self._services: dict[str, SmtpService] = {}
        self._retired: list[SmtpService] = []
        self._stopped = asyncio.Event()
        self._stop_timeout_s = parameters.stop_timeout
        self._started = time.monotonic()
        self._configured = time.time()
        self._reload_trouble = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = asyncio.Lock()

    async def run(self) -> int:
        with table_warnings(self._log):
            return await self._run()

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        self._watch, self._outbox = DeadlineWatch(loop), Outbox()
        try:
            await self._start()
        except (StoreTrouble, OSError, ValueError) as error:
            self._log.emit(Note("worker", f"worker {self._context.index} cannot start: {error}", "fatal"))
            control.send(self._context.control, control.Failed(str(error)))
            self._log.close()
            return 1
        control.send(self._context.control, control.Ready())
        await self._stopped.wait()
        await self._stop()
        return 0

    # -- start

    async def _start(self) -> None:
        context, loop = self._context, asyncio.get_running_loop()
        parameters = self._configuration.parameters
        queue_directory = Path(parameters.queue_directory)
        self._store = await SqliteStore.open(
            queue_directory,
            shard=context.index,
            clock=self._clock,
            parameters=parameters,
            on_corrupt=self._on_corrupt,
        )
        if parameters.worker_cpu_affinity:
            _stay_on_own_cpu(context.index, context.workers, self._store.commit_thread)
        ids = QueueIds(context.index, self._store.newest_us)
        moved = await adopt_orphans(
            queue_directory, context.workers, into=self._store, clock=self._clock, parameters=parameters
        )
        if moved:
            self._log.emit(Note("qmgr", f"{moved} messages of workers that are no more were taken over"))
        self._bouncer = MailBouncer(
            parameters=parameters,
            cleanup=lambda: self._stations.cleanup,
            clock=self._clock,
            observer=self._log,
            signer=lambda: self._stations.host_signer,
        )
        load = LoadAverage(lambda: os.getloadavg()[0], self._clock)
        self._scheduler = Scheduler(
            store=self._store,
            resolve=self._resolve,
            sender_for=self._sender_for,
            deliver=self._deliver,
            bounce=self._bouncer,
            observer=self._log,
            clock=self._clock,
            random=random.Random(),
            parameters=parameters,
            new_queue_id=lambda: ids.new(self._clock.time()),
            process_limits=self._process_limits(),
            pace=context.pace,
            load=load.now,
        )
        self._doors = Doors(
            intake=self._scheduler.accept,
            content_writer=self._store.content_writer,
            has_space=self._store.has_space,
            new_queue_id=lambda: ids.new(self._clock.time()),
            mailboxes=self._mailboxes,
            counts=context.counts,
            rates=context.rates,
            login_failures=context.login_failures,
            mailbox_logins=context.mailbox_logins,
            observer=self._log,
            clock=self._clock,
            flush_site=self._flush_site,
            load=load.now,
            key_files=context.key_files,
            tickets=context.tickets,
            announces=context.index == 0,
        )
        self._stations = Stations(self._configuration, self._doors)
        self._control_server = ControlServer(
            queue_directory / "run" / f"worker-{context.index}.sock",
            self._store,
            self._scheduler,
            self,
            self._log,
            self._clock,
            lambda: self._configuration.parameters,
            public=queue_directory / "public" / f"worker-{context.index}.sock",
        )
        await self._control_server.start()
        # The peers that lie in the control socket come before the first delivery.
        context.control.setblocking(False)
        loop.add_reader(context.control.fileno(), self._on_control)
        self._on_control()
        self._scheduler.start()
        for listener in context.listeners:
            await self._listen(listener)
        self._spawn(self._watch_domains())
        self._pickup: Pickup | None = None
        if context.index == 0:
            self._pickup = Pickup(self._stations.pickup_service(), queue_directory)
            self._pickup.listen()
            self._spawn(self._pickup.run())

    async def _watch_domains(self) -> None:
        """What is known of TLS with other domains is kept fresh; what is counted of it and of DMARC is kept."""
        while True:
            await self._clock.sleep(_DOMAINS_S)
            await self._stations.domain_tls.tick(first=self._context.index == 0)
            await self._stations.dmarc_reports.tick(first=self._context.index == 0)

    def _process_limits(self) -> dict[str, int]:
        """This worker's share of what the column maxproc allows each transport; at least one delivery at a time."""
        index, workers = self._context.index, self._context.workers
        return {
            service.name: max(1, service.maxproc // workers + (index < service.maxproc % workers))
            if service.maxproc
            else 0
            for service in self._configuration.services
            if service.type == "unix" and service.maxproc is not None
        }

    # The stations change at a reload; the scheduler always asks those of now.

    def _resolve(self, address: Address, sender: Address) -> Awaitable[Route | DeliveryResult]:
        return self._stations.router.resolve(address, sender)

    def _sender_for(self, recipient: Recipient, sender: Address, queue_id: str) -> Awaitable[Address | DeliveryResult]:
        return self._stations.sender_for(recipient, sender, queue_id)

    def _deliver(self, request: DeliveryRequest) -> Awaitable[Sequence[DeliveryResult]]:
        return self._stations.deliver(request)

    async def _flush_site(self, domain: str) -> None:
        """What waits for ``domain`` with any worker is due now. Raises FlushTrouble."""
        parameters = self._configuration.parameters

        def ask() -> None:
            with RunningServer(Path(parameters.queue_directory), parameters) as server:
                server.change(Change.REQUEUE, [], Filter(domain=domain))

        async with self._flushing:
            try:
                await asyncio.to_thread(ask)
            except (ServerTrouble, OSError) as trouble:
                raise FlushTrouble(str(trouble)) from trouble

    def _on_corrupt(self, queue_id: str, reason: str) -> None:
        self._log.emit(Note("qmgr", f"the message cannot be read and is kept as corrupt: {reason}", "error", queue_id))

    def _spawn(self, coroutine: object) -> None:
        task = asyncio.ensure_future(coroutine)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.emit(Note("worker", f"{type(error).__name__}: {error}", "error"))

    async def _listen(self, listener: Listener) -> None:
        name = listener.key.service
        if name not in self._services:
            self._services[name] = self._stations.smtp_service(listener.service)
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            return Connection(partial(SmtpSession, self._services[name]), self._watch, self._outbox, loop)

        backlog = self._configuration.parameters.smtpd_listen_backlog
        if listener.socket.family == socket.AF_UNIX:
            # The socket stays when one worker stops: the others go on with it.
            stays: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            server = await loop.create_unix_server(connection, sock=listener.socket, backlog=backlog, **stays)
        else:
            server = await loop.create_server(connection, sock=listener.socket, backlog=backlog)
        self._servers[listener.key] = server

    # -- what the supervisor says

    def _on_control(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                received = control.receive(self._context.control)
            except BlockingIOError:
                return
            if received is None:  # the supervisor is gone: finish what is in flight, then go too
                loop.remove_reader(self._context.control.fileno())
                self._stopped.set()
                return
            message, descriptors = received
            match message:
                case control.AddPeer(role="deliverer"):
                    self._mailboxes.attach(socket.socket(fileno=descriptors[0]))
                case control.AddListeners(listeners=keys):
                    self._spawn(self._add_listeners(keys, descriptors))
                case control.RemoveListeners(listeners=keys):
                    for key in keys:
                        if (server := self._servers.pop(key, None)) is not None:
                            server.close()
                case control.KeysChanged(reloading=reloading):
                    self._doors.key_files = take_keys(descriptors[0])
                    if not reloading:
                        self._renew_keys()
                case control.Reload():
                    self._reload()
                case control.Stop(timeout_s=timeout_s):
                    self._stop_timeout_s = timeout_s
                    self._stopped.set()
                case _:
                    for descriptor in descriptors:
                        os.close(descriptor)

    async def _add_listeners(self, keys: tuple[control.ListenerKey, ...], descriptors: list[int]) -> None:
        services = {f"{service.name}/{service.type}": service for service in self._configuration.services}
        for key, descriptor in zip(keys, descriptors, strict=True):
            sock = socket.socket(fileno=descriptor)
            service = services.get(key.service)
            if service is None:
                sock.close()
                continue
            await self._listen(Listener(service, sock, key))

    def _renew_keys(self) -> None:
        for service in (*self._services.values(), *self._retired):
            if service.tls is not None:
                service.tls.renew(self._doors.key_files)

    def _reload(self) -> None:
        """New sessions and deliveries use the new configuration; those that run end as they began."""
        configuration = load(self._context.directory)
        try:
            if configuration.errors:
                raise ValueError(str(configuration.errors[0]))
            stations = Stations(configuration, self._doors)
            services = {f"{service.name}/{service.type}": service for service in configuration.services}
            renewed = {name: stations.smtp_service(services[name]) for name in self._services if name in services}
            pickup = stations.pickup_service()
        except ValueError as error:
            self._reload_trouble = str(error)
            self._log.emit(Note("worker", f"reload: {error}; the old configuration stays", "error"))
            return
        old, self._stations, self._configuration = self._stations, stations, configuration
        self._retired = [service for service in (*self._retired, *self._services.values()) if service.sessions]
        self._services.update(renewed)
        if self._pickup is not None:
            self._pickup.service = pickup
        self._scheduler.reload(configuration.parameters, self._process_limits())
        self._bouncer.parameters = configuration.parameters
        self._log.reopen()
        self._reload_trouble, self._configured = "", time.time()
        self._spawn(self._close_later(old))

    async def _close_later(self, stations: Stations) -> None:
        """Deliveries of the old stations that run are bounded by their own time-outs; their connections then go."""
        await self._clock.sleep(stations.configuration.parameters.stop_timeout)
        await stations.close()

    # -- status (runtime.control_socket.Statistics)

    def worker_status(self, counts: dict[str, int]) -> WorkerStatus:
        status = self._scheduler.status()
        # What is in memory is active whatever the store's row says of it.
        counts = {state.value: counts.get(state.value, 0) for state in QueueState}
        return WorkerStatus(
            worker=self._context.index,
            pid=os.getpid(),
            version=__version__,
            uptime_s=time.monotonic() - self._started,
            sessions=self._sessions(),
            deliveries=status.in_flight,
            active=status.messages,
            counts=counts,
            configured=self._configured,
            reload_trouble=self._reload_trouble,
        )

    async def send_reports(self, subject: ReportSubject) -> int:
        """What other workers have counted is in the file already; of all workers the first one reports it."""
        source = self._stations.domain_tls if subject == "tls" else self._stations.dmarc_reports
        await source.tick(first=False)
        return await source.report() if self._context.index == 0 else 0

    def _sessions(self) -> int:
        return sum(service.sessions for service in (*self._services.values(), *self._retired))

    # -- stop

    async def _stop(self) -> None:
        """Accept nothing new; sessions end at their next command, deliveries within the deadline."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._stop_timeout_s
        for server in self._servers.values():
            server.close()
        if self._pickup is not None:
            self._pickup.close()
        for task in list(self._tasks):
            task.cancel()
        for service in (*self._services.values(), *self._retired):
            service.stopping = True
        for connection in list(self._watch.connections):
            connection.hurry()
        while self._sessions() and loop.time() < end:
            await asyncio.sleep(_STOP_POLL_S)
        for connection in list(self._watch.connections):
            connection.abort()
        await self._scheduler.stop(max(0.1, end - loop.time()))
        self._watch.close()
        await self._control_server.close()
        await self._stations.close()
        self._mailboxes.close()
        await self._store.close()
        self._log.close()
