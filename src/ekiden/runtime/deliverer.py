"""The deliverer: the one process that may write every mailbox, and does so only as the mailbox's own user.

Workers ask over socket pairs that the supervisor hands out. For every job the deliverer finds out by itself, from its
own configuration, whose mailbox it is and where it lies (deliver.mailbox_place), and passes it to a writer process that
has become that user (runtime.mailbox_writers). Commands and files are those of root's aliases, of the user's own
.forward, of main.cf and master.cf, which it or a writer reads (deliver.local_delivery). So a worker that was taken over
can send mail to where mail goes anyway, and nothing else: it names no path, no user number, no command. Started by an
ordinary user all of this runs as that user.

It is a poll loop over a few sockets, without an event loop library, threads or the network: little code runs as root.
Tables that ask a server are asked by a process without rights (runtime.table_asker), while other jobs go on.
"""

from __future__ import annotations

import collections
import os
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration, load
from ekiden.config.snapshot import Parameters
from ekiden.deliver.aliases import open_aliases
from ekiden.deliver.local_delivery import Delivery, LocalDeliveries
from ekiden.deliver.mailbox_jobs import (
    Answer,
    Inbox,
    Job,
    Outbox,
    PacketTrouble,
    Transport,
    WriteJob,
    close_all,
    deferred,
    put_answer,
)
from ekiden.deliver.mailbox_place import Owner, Place, Places, VirtualTables
from ekiden.deliver.mailbox_writer import WriterRules, writer_rules
from ekiden.deliver.pipe_delivery import PipeDeliveries
from ekiden.runtime import control
from ekiden.runtime.control import AddPeer, ControlTrouble, Failed, Ready, Reload, Stop
from ekiden.runtime.mailbox_writers import MailboxWriters, WriterLimits
from ekiden.runtime.table_asker import TableAsker
from ekiden.tables.open import Maps, open_table
from ekiden.tables.questions import RIGHTS, Question, Reply, drive, open_trusted, waits
from ekiden.tables.table import Table

Reread = Callable[[Parameters], Configuration]

# Packets taken from one worker before the others get their turn.
_PACKETS_A_TURN = 16


def deliverer_main(configuration: Configuration, control_sock: socket.socket) -> int:
    """Serve until the supervisor says Stop or goes away. Returns the exit status."""
    # A service manager may signal the whole group; what to do then is the supervisor's decision.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        deliverer = Deliverer(configuration, control_sock, reread=reread_configuration)
    except ConfigError as error:
        control.send(control_sock, Failed(f"deliverer: {error}"))
        return os.EX_CONFIG
    control.send(control_sock, Ready())
    deliverer.run()
    return os.EX_OK


def reread_configuration(parameters: Parameters) -> Configuration:
    """The configuration as its directory has it now. Raises OSError, ConfigError, ValueError."""
    return load(Path(parameters.config_directory))


class _Peer:
    """A worker. ``unanswered`` counts its jobs that are under way."""

    def __init__(self, role: str, sock: socket.socket) -> None:
        self.role = role
        self.sock = sock
        self.outbox = Outbox()
        self.unanswered = 0
        self.paused = False  # nothing is read from it: it has enough under way
        self.full = False  # its socket takes no more answers for now
        self.expected = select.EPOLLIN  # what the poll loop looks for
        self.alive = True


class Deliverer:
    def __init__(
        self,
        configuration: Configuration,
        control_sock: socket.socket,
        *,
        reread: Reread,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError when tables cannot be opened."""
        self._parameters = configuration.parameters
        self._control = control_sock
        self._reread = reread
        self._monotonic = monotonic
        self._server = Owner(os.geteuid(), os.getegid())
        self._under_way: dict[int, _UnderWay] = {}
        self._arrived: collections.deque[Answer] = collections.deque()  # of steps, to go on with
        self._askers: list[TableAsker] = []  # of this configuration, and of earlier ones that still answer
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._peers: set[_Peer] = set()
        self._to_flush: set[_Peer] = set()
        self._origins: dict[int, tuple[_Peer, int]] = {}  # by our job number: who asked, and its own number
        self._last_job = 0
        self._inbox: Inbox[Job] = Inbox(Job)
        self._orphaned = False
        self._deadline: float | None = None  # of a stop, monotonic
        self._writers = MailboxWriters(
            self._rules(),
            self._limits(),
            answered=self._answered,
            watch=self._watch,
            unwatch=self._unwatch,
            wait_for_room=self._wait_for_room,
            monotonic=monotonic,
        )
        control_sock.setblocking(False)
        self._offices = open_offices(configuration, self._server, self._new_asker)
        self._watch(control_sock.fileno(), self._hear_control)

    def run(self) -> None:
        """Serve until it is time to stop."""
        next_tick = 0.0
        while not self._finished():
            self._askers = [asker for asker in self._askers if not asker.ended]
            timeout = self._next_tick_s
            if self._deadline is not None:
                timeout = min(timeout or 1.0, 0.1)
            for fd, _ in self._poll.poll(timeout):
                # A handler reads what is there and has what waits sent, whatever the event was. It may be gone:
                # an event before this one closed its descriptor.
                if (handle := self._handlers.get(fd)) is not None:
                    handle()
            self._flush()
            if (now := self._monotonic()) >= next_tick:
                next_tick = now + (self._next_tick_s or 0.0)
                self._writers.tick()
                for asker in self._askers:
                    asker.tick()
                self._flush()
        self._close()

    def _flush(self) -> None:
        """Go on with what has been answered, and send what there is to send."""
        self._writers.flush()
        while self._arrived:
            self._go_on(self._arrived.popleft())
            if not self._arrived:
                self._writers.flush()
        self._flush_answers()

    @property
    def _next_tick_s(self) -> float | None:
        ticks = [self._writers.next_tick_s, *(asker.next_tick_s for asker in self._askers)]
        return min((tick for tick in ticks if tick is not None), default=None)

    def _finished(self) -> bool:
        if self._deadline is None:
            return False
        if self._monotonic() >= self._deadline:
            return True
        return not self._origins and (self._orphaned or not self._peers)

    def _close(self) -> None:
        for peer in list(self._peers):
            self._forget(peer)
        self._writers.close()
        for asker in self._askers:
            asker.close()
        self._poll.close()

    # -- the poll loop ---------------------------------------------------------------------------------------------

    def _watch(self, fd: int, readable: Callable[[], None]) -> None:
        self._handlers[fd] = readable
        self._poll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._handlers[fd]
        self._poll.unregister(fd)

    def _wait_for_room(self, fd: int, wanted: bool) -> None:
        self._poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    # -- the supervisor --------------------------------------------------------------------------------------------

    def _hear_control(self) -> None:
        try:
            received = control.receive(self._control)
        except BlockingIOError:
            return
        except (ControlTrouble, OSError) as error:
            _complain(f"control socket: {error}")
            received = None
        if received is None:  # the supervisor is gone: nobody is told any more, but what is begun is ended
            self._unwatch(self._control.fileno())
            self._orphaned = True
            self._stop_by(self._parameters.stop_timeout)
            return
        message, fds = received
        if isinstance(message, AddPeer) and len(fds) == 1:
            self._add_peer(message.role, fds[0])
            return
        control.close_all(fds)
        if isinstance(message, Stop):
            self._stop_by(message.timeout_s)
        elif isinstance(message, Reload):
            self._reload()

    def _stop_by(self, timeout_s: float) -> None:
        deadline = self._monotonic() + timeout_s
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    def _reload(self) -> None:
        try:
            configuration = self._reread(self._parameters)
            offices = open_offices(configuration, self._server, self._new_asker)
        except (ConfigError, OSError, ValueError) as error:
            _complain(f"reload: {error}; the old configuration stays in force")
            return
        self._offices.asker.retire()
        self._parameters, self._offices = configuration.parameters, offices
        self._writers.renew(self._rules(), self._limits())

    def _new_asker(self, parameters: Parameters, tables: Sequence[tuple[str, bool]]) -> TableAsker:
        asker = TableAsker(
            parameters,
            tables,
            timeout_s=parameters.deliverer_writer_timeout,
            watch=self._watch,
            unwatch=self._unwatch,
            wait_for_room=self._wait_for_room,
            monotonic=self._monotonic,
        )
        self._askers.append(asker)
        return asker

    def _rules(self) -> WriterRules:
        return writer_rules(self._parameters, self._server.uid)

    def _limits(self) -> WriterLimits:
        parameters = self._parameters
        return WriterLimits(
            writers=parameters.deliverer_writer_limit,
            idle_s=parameters.deliverer_writer_idle_time,
            timeout_s=parameters.deliverer_writer_timeout,
        )

    # -- the workers -----------------------------------------------------------------------------------------------

    def _add_peer(self, role: str, fd: int) -> None:
        sock = socket.socket(fileno=fd)
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET:
            _complain(f"{role}: its socket is not a SOCK_SEQPACKET one")
            sock.close()
            return
        sock.setblocking(False)
        peer = _Peer(role, sock)
        self._peers.add(peer)
        self._watch(sock.fileno(), lambda: self._hear_worker(peer))

    def _hear_worker(self, peer: _Peer) -> None:
        if peer.outbox:
            self._to_flush.add(peer)
        if peer.paused:  # there is room for answers, or it is gone: the answer that ends the pause tells
            if not peer.outbox:
                self._forget(peer)
            return
        for _ in range(_PACKETS_A_TURN):
            if peer.unanswered >= self._parameters.deliverer_job_limit:
                peer.paused = True  # a worker of ours never gets here; one that was taken over cannot fill our memory
                self._expect(peer)
                return
            try:
                packet = self._inbox.receive(peer.sock)
            except BlockingIOError:
                return
            except PacketTrouble as error:
                _complain(f"{peer.role}: {error}; it is not heard any more")
                packet = None
            except OSError as error:
                _complain(f"{peer.role}: {error}")
                packet = None
            if packet is None:
                self._forget(peer)
                return
            jobs, fds = packet
            contents = iter(fds)
            for job in jobs:
                self._take(peer, job, next(contents) if job.content is None else -1)

    def _take(self, peer: _Peer, job: Job, fd: int) -> None:
        self._last_job = number = self._last_job + 1
        self._origins[number] = (peer, job.id)
        peer.unanswered += 1
        refusal: Answer | None = None
        if fd >= 0 and not _is_content(fd, job.size):
            refusal = deferred(number, 3, 0, "the content of the message is not a file of the size that was told")
        if refusal is not None:
            self._found(number, job, fd, refusal)
        elif job.transport is Transport.VIRTUAL:
            self._find(number, job, fd, self._offices, self._offices.places.find(job, number), None)
        else:
            offices = self._offices
            self._under_way[number] = under_way = _UnderWay(offices.start(job, number), offices, job, fd)
            self._step(number, under_way, None)

    def _find(
        self,
        number: int,
        job: Job,
        fd: int,
        offices: Offices,
        finding: Coroutine[Any, Any, Place | Answer],
        reply: Reply,
    ) -> None:
        """Find the place of a job, or go on with that when a table has replied."""
        drive(
            finding,
            reply,
            lambda question: offices.ask(question, lambda reply: self._find(number, job, fd, offices, finding, reply)),
            lambda found: self._found(number, job, fd, found),
        )

    def _found(self, number: int, job: Job, fd: int, found: Place | Answer) -> None:
        if isinstance(found, Answer):
            if fd >= 0:
                close_all([fd])
            self._answered(found)
            return
        write = WriteJob(
            number, found.form, found.base, found.path, found.guarded, found.locks, found.limit_bytes,
            job.sender, job.head, job.content, job.size,
        )  # fmt: skip
        self._writers.submit(found.owner, write, fd)

    def _answered(self, answer: Answer) -> None:
        if answer.id in self._under_way:
            self._arrived.append(answer)
        else:
            self._reply(answer)

    def _go_on(self, answer: Answer) -> None:
        under_way = self._under_way.get(answer.id)
        if under_way is not None:
            self._step(answer.id, under_way, answer)

    def _step(self, number: int, under_way: _UnderWay, answer: Answer | Reply) -> None:
        """The next step of a delivery that has several, or its end. ``answer``: None at the beginning."""
        try:
            step = under_way.delivery.send(answer)
        except StopIteration as done:
            del self._under_way[number]
            if under_way.fd >= 0:
                close_all([under_way.fd])
            final: Answer = done.value
            self._reply(final)
            return
        if isinstance(step, Question):
            under_way.offices.ask(step, lambda reply: self._step(number, under_way, reply))
            return
        try:
            fd = os.dup(under_way.fd) if step.job.content is None else -1
        except OSError as error:
            self._arrived.append(deferred(number, 3, 0, f"cannot hand on the message: {error.strerror}"))
            return
        self._writers.submit(step.owner, step.job, fd)

    def _reply(self, answer: Answer) -> None:
        peer, number = self._origins.pop(answer.id)
        peer.unanswered -= 1
        if not peer.alive:
            return
        try:
            put_answer(peer.outbox, answer.for_job(number))
        except OSError as error:
            peer.outbox.put(deferred(number, 3, 0, f"cannot tell how the delivery ended: {error.strerror}"))
        self._to_flush.add(peer)

    def _flush_answers(self) -> None:
        while self._to_flush:
            peer = self._to_flush.pop()
            if not peer.alive:
                continue
            try:
                peer.full = not peer.outbox.flush(peer.sock)
            except OSError:
                self._forget(peer)
                continue
            if peer.unanswered < self._parameters.deliverer_job_limit:
                peer.paused = False
            self._expect(peer)

    def _expect(self, peer: _Peer) -> None:
        """Have the poll loop look for what the worker's socket is needed for now."""
        wanted = (0 if peer.paused else select.EPOLLIN) | (select.EPOLLOUT if peer.full else 0)
        if wanted != peer.expected:
            peer.expected = wanted
            self._poll.modify(peer.sock.fileno(), wanted)

    def _forget(self, peer: _Peer) -> None:
        """The worker is gone. What it asked for is still done, and asked for again by whoever has its queue."""
        peer.alive = False
        self._peers.discard(peer)
        peer.outbox.clear()
        self._unwatch(peer.sock.fileno())
        peer.sock.close()


class _UnderWay(Struct):
    """A delivery of several steps; ``fd`` is the content of its message, -1 when the job holds it."""

    delivery: Delivery
    offices: Offices
    job: Job
    fd: int


class Offices:
    """What finds places and commands, under one configuration."""

    def __init__(self, places: Places, local: LocalDeliveries, pipes: PipeDeliveries, asker: TableAsker) -> None:
        self.places, self._local, self._pipes, self.asker = places, local, pipes, asker
        self.ask = asker.ask

    def start(self, job: Job, number: int) -> Delivery:
        return (self._pipes if job.transport is Transport.PIPE else self._local).start(job, number)


def open_offices(
    configuration: Configuration,
    server: Owner,
    new_asker: Callable[[Parameters, Sequence[tuple[str, bool]]], TableAsker],
) -> Offices:
    """Raises ConfigError."""
    parameters = configuration.parameters
    places = open_places(parameters, server)
    aliases = open_aliases(parameters.alias_maps, parameters=parameters, open_table=_open_here)
    return Offices(
        places,
        LocalDeliveries(parameters, places, aliases, server),
        PipeDeliveries(configuration, server),
        new_asker(parameters, asked_tables(parameters)),
    )


def _open_here(word: str, *, parameters: Parameters, aliases: bool = False) -> Table:
    return open_trusted(word, partial(open_table, parameters=parameters, aliases=aliases), aliases=aliases)


def asked_tables(parameters: Parameters) -> list[tuple[str, bool]]:
    """The tables that only an asker can ask; True for those of aliases. Raises ConfigError."""
    words = [(word, name == "alias_maps") for name in sorted(RIGHTS) for word in getattr(parameters, name)]
    return [(word, aliases) for word, aliases in dict.fromkeys(words) if waits(word)]


def open_places(parameters: Parameters, server: Owner) -> Places:
    """Raises ConfigError."""

    def tables(words: tuple[str, ...]) -> Maps | None:
        return Maps([_open_here(word, parameters=parameters) for word in words]) if words else None

    return Places(
        parameters,
        VirtualTables(
            mailboxes=tables(parameters.virtual_mailbox_maps),
            uids=tables(parameters.virtual_uid_maps),
            gids=tables(parameters.virtual_gid_maps),
        ),
        server,
        commands=tables(parameters.mailbox_command_maps),
    )


def _is_content(fd: int, size: int) -> bool:
    """Only a regular file is read: a pipe or a terminal would make a writer wait for ever."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and 0 <= size <= status.st_size


def _complain(text: str) -> None:
    print(f"ekiden deliverer: {text}", file=sys.stderr, flush=True)  # noqa: T201
