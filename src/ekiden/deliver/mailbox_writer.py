"""A mailbox writer: the process that writes the mailboxes of one user and group, as that user.

It takes every job that waits on its socket and does them as one batch, so that many messages share one wait for the
disk; while it waits the next batch gathers. It ends when its socket does. It believes the deliverer, which started it.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.deliver.command_run import CommandRuns
from ekiden.deliver.mailbox_directory import DirectoryWalk
from ekiden.deliver.mailbox_jobs import (
    Answer,
    Form,
    Inbox,
    Outbox,
    Outcome,
    ReadJob,
    RunJob,
    WriteJob,
    WriterJob,
    deferred,
    put_answer,
)
from ekiden.deliver.mailbox_text import Task
from ekiden.deliver.maildir import MaildirBatch, SyncEach, UniqueNames
from ekiden.deliver.mbox import MboxQueue
from ekiden.deliver.mbox_lock import LockRules
from ekiden.deliver.target_reader import Unusable, read_forward, read_include
from ekiden.deliver.targets import FoundTargets, encode_found
from ekiden.queue.durable import start_write_back, sync_each


class WriterRules(Struct, frozen=True):
    """What a writer needs to know beside its jobs. ``trusted``: users whose symbolic links are followed."""

    locks: LockRules
    trusted: frozenset[int]
    batch_limit: int
    command_limit: int = 20
    forward_limit: int = 65_536
    include_limit: int = 10_485_760


def writer_rules(parameters: Parameters, server_uid: int) -> WriterRules:
    locks = LockRules(
        attempts=parameters.deliver_lock_attempts,
        delay_s=parameters.deliver_lock_delay,
        stale_s=parameters.stale_lock_time,
        strict_ownership=parameters.strict_mailbox_ownership,
        host=parameters.myhostname,
    )
    return WriterRules(
        locks,
        frozenset((0, server_uid)),
        parameters.deliverer_batch_limit,
        parameters.command_concurrency_limit,
        parameters.forward_file_size_limit,
        parameters.include_file_size_limit,
    )


def sync_together(fds: Sequence[int]) -> list[OSError | None]:
    """Make files durable: the disk gets all of them to write before the first is waited for."""
    if len(fds) > 1:
        for fd in fds:
            start_write_back(fd)
    return sync_each(fds)


class MailboxWriter:
    """``process`` is this process's id, for the names of Maildir files."""

    def __init__(
        self,
        sock: socket.socket,
        rules: WriterRules,
        process: int,
        *,
        sync: SyncEach = sync_together,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sock = sock
        self._rules = rules
        self._sync = sync
        self._names = UniqueNames(rules.locks.host, process, wall_clock)
        self._mboxes = MboxQueue(rules.locks, rules.trusted, sync, wall_clock)
        self._poll = select.poll()
        self._runs = CommandRuns(self._poll, rules.command_limit, monotonic)
        self._monotonic = monotonic
        self._inbox: Inbox[WriterJob] = Inbox(WriterJob)

    def run(self) -> None:
        """Serve until the deliverer is gone. Raises PacketTrouble, OSError."""
        own = self._sock.fileno()
        self._poll.register(own, select.POLLIN)
        while True:
            times = [time for time in (self._mboxes.next_try(), self._runs.next_deadline()) if time is not None]
            wait = max(0.0, min(times) - self._monotonic()) * 1000 + 1 if times else None
            for fd, _ in self._poll.poll(wait):
                if fd != own:
                    self._runs.serve(fd)
            if not self.serve_once():
                self._runs.kill_all()
                return

    def serve_once(self) -> bool:
        """Do everything that waits, without waiting for more; False when the deliverer is gone."""
        tasks, alive = self._waiting_tasks()
        maildirs: list[Task[WriteJob]] = []
        answers: list[Answer] = []
        read = _ForwardReader(self._rules.forward_limit)
        for job, fd in tasks:
            if isinstance(job, RunJob):
                self._runs.add(Task(job, fd))
                continue
            if isinstance(job, ReadJob):
                answers.append(self._include(job))
                continue
            task = Task(job, fd)
            if (answer := read.answer(job)) is not None:
                task.close()
                answers.append(answer)
            elif job.form is Form.MAILDIR:
                maildirs.append(task)
            else:
                self._mboxes.add(task)
        if maildirs:
            try:
                answers += MaildirBatch(self._names, self._rules.trusted, self._sync).deliver(maildirs)
            finally:
                for task in maildirs:
                    task.close()
        self._answer(answers)
        self._answer(self._mboxes.attempt(self._monotonic()))
        self._runs.expire()
        self._answer(self._runs.take_answers())
        return alive

    def _include(self, job: ReadJob) -> Answer:
        walk = DirectoryWalk(self._rules.trusted if job.guarded else None)
        try:
            found = read_include(job.path, self._rules.include_limit, walk)
        except Unusable as why:
            return deferred(job.id, 3, 5, f":include:{job.path} is not obeyed: {why}")
        except OSError as error:
            return deferred(job.id, 2, 4, f"cannot read :include:{job.path}: {error.strerror}")
        return Answer(job.id, Outcome.GOES_ON, 0, 0, "", encode_found(found))

    def _waiting_tasks(self) -> tuple[list[tuple[WriterJob, int]], bool]:
        tasks: list[tuple[WriterJob, int]] = []
        while len(tasks) < self._rules.batch_limit:
            try:
                packet = self._inbox.receive(self._sock)
            except BlockingIOError:
                break
            if packet is None:
                return tasks, False
            jobs, fds = packet
            contents = iter(fds)
            tasks.extend((job, next(contents) if job.content is None else -1) for job in jobs)
        return tasks, True

    def _answer(self, answers: Sequence[Answer]) -> None:
        if not answers:
            return
        outbox = Outbox()
        for answer in answers:
            put_answer(outbox, answer)
        while not outbox.flush(self._sock):
            select.select([], [self._sock], [])


class _ForwardReader:
    """Looks for the user's own instructions, once for all messages of a batch."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._known: dict[tuple[str, ...], FoundTargets | OSError | None] = {}

    def answer(self, job: WriteJob) -> Answer | None:
        """The answer for a message that is not to be written now; None when it is."""
        if job.home and not os.path.isdir(job.home):
            return deferred(job.id, 3, 0, f"cannot access home directory {job.home}")
        found = self._find(job.forward) if job.forward else None
        if isinstance(found, OSError):
            return deferred(job.id, 3, 0, f"cannot read {job.forward[-1]}: {found.strerror}")
        if found is None:
            return None if job.form is not Form.NONE else Answer(job.id, Outcome.GOES_ON, 0, 0, "")
        return Answer(job.id, Outcome.GOES_ON, 0, 0, "", encode_found(found))

    def _find(self, paths: tuple[str, ...]) -> FoundTargets | OSError | None:
        if paths not in self._known:
            try:
                self._known[paths] = read_forward(paths, self._limit_bytes)
            except OSError as error:
                self._known[paths] = error
        return self._known[paths]
