"""The deliverer's writers: one forked process for each user and group that mailboxes are written as.

A writer becomes its user for good right after the fork, and is told what to write over a socket pair. It is kept while
there is work and for a time after; the number of writers is bounded, and work for further users waits for a free place.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from msgspec import Struct

from ekiden.deliver.mailbox_jobs import Answer, Inbox, Outbox, PacketTrouble, RunJob, WriterJob, content_of, deferred
from ekiden.deliver.mailbox_place import Owner
from ekiden.deliver.mailbox_writer import MailboxWriter, WriterRules
from ekiden.runtime.privileges import PrivilegeTrouble, forbid_new_privileges, set_process_title


class WriterLimits(Struct, frozen=True):
    """Times are seconds."""

    writers: int
    idle_s: float
    timeout_s: float  # without an answer while there is work


class Writer:
    """One process and the jobs that it has not answered."""

    def __init__(self, owner: Owner, pid: int, sock: socket.socket, now: float) -> None:
        self.owner = owner
        self.pid = pid
        self.sock = sock
        self.outbox = Outbox()
        self.unanswered: set[int] = set()
        self.heard = now  # when it last answered, or got work while it had none
        self.full = False  # its socket takes no more for now
        self.retiring = False  # gets no more work and ends when it has answered
        self.patience_s = 0.0  # how long the commands that it was given may run


class MailboxWriters:
    """All writers. ``answered`` is called once for every job.

    The poll loop: ``watch`` has a function called when a descriptor is readable, ``unwatch`` ends that, and
    ``wait_for_room`` tells whether to call it also when the descriptor is writable.
    """

    def __init__(
        self,
        rules: WriterRules,
        limits: WriterLimits,
        *,
        answered: Callable[[Answer], None],
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        wait_for_room: Callable[[int, bool], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._rules, self._limits = rules, limits
        self._answered = answered
        self._watch, self._unwatch, self._wait_for_room = watch, unwatch, wait_for_room
        self._monotonic = monotonic
        self._writers: dict[Owner, Writer] = {}
        self._retiring: set[Writer] = set()
        self._waiting: dict[Owner, collections.deque[tuple[WriterJob, int]]] = {}
        self._to_flush: set[Writer] = set()
        self._ending: dict[int, int] = {}  # processes that end, by the descriptor that tells when they have
        self._inbox: Inbox[Answer] = Inbox(Answer)

    def submit(self, owner: Owner, job: WriterJob, fd: int) -> None:
        """Have a job written as ``owner``; ``fd`` is its content (-1: in the job) and ours to close."""
        writer = self._writers.get(owner)
        if writer is None:
            if owner in self._waiting or not self._has_room():
                self._waiting.setdefault(owner, collections.deque()).append((job, fd))
                return
            try:
                writer = self._start(owner)
            except OSError as error:
                if fd >= 0:
                    os.close(fd)
                self._answered(deferred(job.id, 3, 0, f"cannot start a mailbox writer: {error.strerror}"))
                return
        self._give(writer, job, fd)

    def flush(self) -> None:
        """Send what was submitted."""
        while self._to_flush:
            writer = self._to_flush.pop()
            try:
                full = not writer.outbox.flush(writer.sock)
                if full != writer.full:
                    writer.full = full
                    self._wait_for_room(writer.sock.fileno(), full)
            except OSError:
                self._lost(writer)

    def renew(self, rules: WriterRules, limits: WriterLimits) -> None:
        """A new configuration: from now on other processes, which know it, do the work."""
        self._rules, self._limits = rules, limits
        for writer in list(self._writers.values()):
            self._retire(writer)

    def tick(self) -> None:
        """End what is idle, kill what hangs."""
        now = self._monotonic()
        for writer in self._all():
            silent = now - writer.heard
            if writer.unanswered:
                if silent >= self._limits.timeout_s + writer.patience_s:
                    os.kill(writer.pid, signal.SIGKILL)  # its end of the socket then tells
            elif silent >= self._limits.idle_s:
                self._retire(writer)

    @property
    def next_tick_s(self) -> float | None:
        """How long until tick() is needed; None when nothing runs."""
        return 1.0 if self._writers or self._retiring else None

    def close(self) -> None:
        """Let go of all writers: each ends when it has done what it was given."""
        for writer in self._all():
            writer.outbox.clear()
            writer.sock.close()

    # -- the processes ---------------------------------------------------------------------------------------------

    def _all(self) -> list[Writer]:
        return [*self._writers.values(), *self._retiring]

    def _has_room(self) -> bool:
        """Whether another process may be started; if not, an idle one is asked to end."""
        if len(self._writers) + len(self._retiring) + len(self._ending) < self._limits.writers:
            return True
        if not self._retiring and not self._ending:
            idle = [writer for writer in self._writers.values() if not writer.unanswered]
            # All at work, perhaps for ever: the one that was first in line ends when it has answered.
            first = min(idle, key=lambda writer: writer.heard) if idle else next(iter(self._writers.values()))
            self._retire(first)
        return False

    def _give(self, writer: Writer, job: WriterJob, fd: int) -> None:
        if not writer.unanswered:
            writer.heard = self._monotonic()
        writer.unanswered.add(job.id)
        if isinstance(job, RunJob):
            writer.patience_s = max(writer.patience_s, job.time_limit_s)
        writer.outbox.put(job, fd)
        self._to_flush.add(writer)

    def _start_waiting(self) -> None:
        while self._waiting and self._has_room():
            owner = next(iter(self._waiting))
            for job, fd in self._waiting.pop(owner):
                self.submit(owner, job, fd)

    def _start(self, owner: Owner) -> Writer:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            here.close()
            there.close()
            raise
        if pid == 0:
            _play(owner, there, self._rules)
        there.close()
        here.setblocking(False)
        writer = Writer(owner, pid, here, self._monotonic())
        self._writers[owner] = writer
        self._watch(here.fileno(), lambda: self._heard(writer))
        return writer

    def _heard(self, writer: Writer) -> None:
        while True:
            try:
                packet = self._inbox.receive(writer.sock)
            except BlockingIOError:
                break
            except PacketTrouble:  # it runs a user's rights: what it says is checked like anybody's
                os.kill(writer.pid, signal.SIGKILL)
                packet = None
            if packet is None:
                self._lost(writer)
                return
            writer.heard = self._monotonic()
            fds = iter(packet[1])
            for answer in packet[0]:
                answer = content_of(answer, fds)
                if answer.id in writer.unanswered:
                    writer.unanswered.discard(answer.id)
                    self._answered(answer)
        if writer.outbox:
            self._to_flush.add(writer)
        if not writer.unanswered:
            if writer.retiring:
                self._end(writer)
            self._start_waiting()

    def _retire(self, writer: Writer) -> None:
        writer.retiring = True
        if self._writers.get(writer.owner) is writer:
            del self._writers[writer.owner]
        if writer.unanswered:
            self._retiring.add(writer)
        else:
            self._end(writer)

    def _end(self, writer: Writer) -> None:
        if self._writers.get(writer.owner) is writer:
            del self._writers[writer.owner]
        self._retiring.discard(writer)
        self._to_flush.discard(writer)
        writer.outbox.clear()
        self._unwatch(writer.sock.fileno())
        writer.sock.close()
        pid = writer.pid
        tells = os.pidfd_open(pid)
        self._ending[tells] = pid
        self._watch(tells, lambda: self._ended(tells))

    def _ended(self, tells: int) -> None:
        os.waitpid(self._ending.pop(tells), 0)
        self._unwatch(tells)
        os.close(tells)
        self._start_waiting()

    def _lost(self, writer: Writer) -> None:
        unanswered = sorted(writer.unanswered)
        writer.unanswered.clear()
        self._end(writer)
        for number in unanswered:
            self._answered(deferred(number, 3, 0, "the mailbox writer ended before it answered"))


def _play(owner: Owner, sock: socket.socket, rules: WriterRules) -> NoReturn:
    """The life of a writer process, from the fork on."""
    code = os.EX_SOFTWARE
    try:
        gc.freeze()  # nothing of the deliverer is ever collected here: its objects own descriptors closed below
        _close_all_but({0, 1, 2, sock.fileno()})
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        set_process_title(f"ekiden: mailbox {owner.uid}", None)
        os.umask(0o077)
        os.chdir("/")
        _become(owner)
        MailboxWriter(sock, rules, os.getpid()).run()
        code = os.EX_OK
    except OSError as error:
        print(f"ekiden mailbox writer for user {owner.uid}: {error}", file=sys.stderr)  # noqa: T201
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _become(owner: Owner) -> None:
    """Become the mailbox's user for good. Raises OSError, PrivilegeTrouble."""
    if os.geteuid() == 0:
        os.setgroups([owner.gid])
        os.setresgid(owner.gid, owner.gid, owner.gid)
        os.setresuid(owner.uid, owner.uid, owner.uid)
    if os.getresuid() != (owner.uid,) * 3 or os.getresgid() != (owner.gid,) * 3:
        raise PrivilegeTrouble(f"could not become user {owner.uid}, group {owner.gid}")
    if not owner.commands:  # what a user runs may be sudo or a program of a group, as in that user's own session
        forbid_new_privileges()


def _close_all_but(kept: set[int]) -> None:
    for fd in _open_descriptors():
        if fd not in kept:
            with contextlib.suppress(OSError):
                os.close(fd)


def _open_descriptors() -> Iterator[int]:
    return iter([int(name) for name in os.listdir("/proc/self/fd")])
