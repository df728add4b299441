"""A mailbox writer: the process that writes the mailboxes of one user and group, as that user.

It takes every job that waits on its socket and does them as one batch, so that many messages share one wait for the
disk; while it waits the next batch gathers. It ends when its socket does. It believes the deliverer, which started it.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.deliver.mailbox_jobs import Answer, Form, Inbox, Outbox, WriteJob
from ekiden.deliver.mailbox_text import Task
from ekiden.deliver.maildir import MaildirBatch, SyncEach, UniqueNames
from ekiden.deliver.mbox import MboxQueue
from ekiden.deliver.mbox_lock import LockRules
from ekiden.queue.durable import start_write_back, sync_each


class WriterRules(Struct, frozen=True):
    """What a writer needs to know beside its jobs. ``trusted``: users whose symbolic links are followed."""

    locks: LockRules
    trusted: frozenset[int]
    batch_limit: int


def writer_rules(parameters: Parameters, server_uid: int) -> WriterRules:
    locks = LockRules(
        attempts=parameters.deliver_lock_attempts,
        delay_s=parameters.deliver_lock_delay,
        stale_s=parameters.stale_lock_time,
        strict_ownership=parameters.strict_mailbox_ownership,
        host=parameters.myhostname,
    )
    return WriterRules(locks, frozenset((0, server_uid)), parameters.deliverer_batch_limit)


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
        self._monotonic = monotonic
        self._inbox = Inbox(WriteJob)

    def run(self) -> None:
        """Serve until the deliverer is gone. Raises PacketTrouble, OSError."""
        ready = select.poll()
        ready.register(self._sock, select.POLLIN)
        while True:
            next_try = self._mboxes.next_try()
            ready.poll(None if next_try is None else max(0.0, next_try - self._monotonic()) * 1000 + 1)
            if not self.serve_once():
                return

    def serve_once(self) -> bool:
        """Do everything that waits, without waiting for more; False when the deliverer is gone."""
        tasks, alive = self._waiting_tasks()
        maildirs = [task for task in tasks if task.job.form is Form.MAILDIR]
        for task in tasks:
            if task.job.form is Form.MBOX:
                self._mboxes.add(task)
        if maildirs:
            try:
                answers = MaildirBatch(self._names, self._rules.trusted, self._sync).deliver(maildirs)
            finally:
                for task in maildirs:
                    task.close()
            self._answer(answers)
        self._answer(self._mboxes.attempt(self._monotonic()))
        return alive

    def _waiting_tasks(self) -> tuple[list[Task], bool]:
        tasks: list[Task] = []
        while len(tasks) < self._rules.batch_limit:
            try:
                packet = self._inbox.receive(self._sock)
            except BlockingIOError:
                break
            if packet is None:
                return tasks, False
            jobs, fds = packet
            contents = iter(fds)
            tasks.extend(Task(job, next(contents) if job.content is None else -1) for job in jobs)
        return tasks, True

    def _answer(self, answers: Sequence[Answer]) -> None:
        if not answers:
            return
        outbox = Outbox()
        for answer in answers:
            outbox.put(answer)
        while not outbox.flush(self._sock):
            select.select([], [self._sock], [])
