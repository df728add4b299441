"""Delivery into mbox files: one file that all messages of a user are appended to.

A message is ``From sender  date``, its lines with ``>`` before those that begin with ``From ``, and an empty line.
All messages that wait for one mbox are appended under one lock and made durable together. When one cannot be
written the file is cut back to where it ended before, so that never a piece of a message stays in it.

Nothing here waits for a lock: an mbox that is locked is tried again when its time has come, so that the other
mailboxes of the same user go on meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from ekiden.deliver.mailbox_directory import DirectoryWalk
from ekiden.deliver.mailbox_jobs import Answer, Form, WriteJob, deferred, delivered
from ekiden.deliver.mailbox_text import (
    ContentTrouble,
    MailboxFull,
    Task,
    answer_for,
    mailbox_pieces,
    quoted_from,
    write_all,
)
from ekiden.deliver.mbox_lock import Busy, LockedMbox, LockRules, NotOurs


class _Waiting(Struct):
    """The messages that wait for one mbox."""

    tasks: list[Task[WriteJob]]
    attempts: int = 0
    next_try: float = 0.0  # monotonic seconds; 0: at once


class _Appended(Struct):
    """An mbox that was written to and is still locked."""

    mbox: LockedMbox
    tasks: list[Task[WriteJob]]
    size_before: int


class MboxQueue:
    """The mbox deliveries of one writer process. Owns the descriptors of the tasks it was given."""

    def __init__(
        self,
        rules: LockRules,
        trusted: frozenset[int],
        sync_each: Callable[[Sequence[int]], list[OSError | None]],
        wall_clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._trusted = trusted
        self._sync_each = sync_each
        self._wall_clock = wall_clock
        self._waiting: dict[tuple[str, str], _Waiting] = {}

    def add(self, task: Task[WriteJob]) -> None:
        self._waiting.setdefault((task.job.base, task.job.path), _Waiting([])).tasks.append(task)

    def next_try(self) -> float | None:
        """When attempt() should be called next (monotonic seconds), or None when nothing waits."""
        return min((waiting.next_try for waiting in self._waiting.values()), default=None)

    def attempt(self, now: float) -> list[Answer]:
        """Deliver to every mbox that is due and can be locked. ``now`` is monotonic."""
        answers: list[Answer] = []
        appended: list[_Appended] = []
        directories: list[int] = []
        for key, waiting in list(self._waiting.items()):
            if waiting.next_try > now:
                continue
            try:
                done = self._append(key, waiting, now, answers, directories)
            except (OSError, NotOurs) as trouble:
                for task in self._take(key):
                    self._refuse(task, trouble, answers)
            else:
                if done is not None:
                    appended.append(done)
        self._settle(appended, directories, answers)
        return answers

    def _append(
        self, key: tuple[str, str], waiting: _Waiting, now: float, answers: list[Answer], directories: list[int]
    ) -> _Appended | None:
        """Lock the mbox and append what waits for it; None when it is locked by another or nothing could be added."""
        job = waiting.tasks[0].job
        *parents, name = job.path.split("/")
        walk = DirectoryWalk(self._trusted if job.guarded else None)
        directory = walk.open(job.base, parents, create=job.guarded)
        directories.append(directory)
        directories.extend(walk.take_changed())
        try:
            mbox = LockedMbox(
                directory, name, job.locks, self._rules, self._wall_clock(), any_file=job.form is Form.FILE
            )
        except Busy as busy:
            waiting.attempts += 1
            waiting.next_try = now + self._rules.delay_s
            if waiting.attempts >= self._rules.attempts:
                held = NotOurs(f"unable to lock for exclusive access: {busy}")
                for task in self._take(key):
                    self._refuse(task, held, answers)
            return None
        done = _Appended(mbox, [], mbox.size)
        for task in self._take(key):
            trouble = self._write(mbox, task)
            if trouble is None:
                done.tasks.append(task)
            else:
                self._refuse(task, trouble, answers)
        return done

    def _take(self, key: tuple[str, str]) -> list[Task[WriteJob]]:
        return self._waiting.pop(key, _Waiting([])).tasks

    def _write(self, mbox: LockedMbox, task: Task[WriteJob]) -> Exception | None:
        """Append one message to an mbox; on trouble the mbox is as it was."""
        job, fd = task.job, mbox.fd
        date = time.asctime(time.localtime(self._wall_clock())).encode()
        sender = b"".join(job.sender.split()) or b"MAILER-DAEMON"
        end = -1
        try:
            end = os.fstat(fd).st_size if mbox.is_regular else 0
            # A message that another program left without its last newline must not swallow this one.
            torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
            lead = b"%sFrom %s  %s\n" % (b"\n\n" if torn else b"", sender, date)
            size, last = end + len(lead) + 1, b"\n"
            for piece in quoted_from(mailbox_pieces(task)):
                if not piece:
                    continue
                size += len(piece)
                if job.limit_bytes and size > job.limit_bytes:
                    raise MailboxFull(f"the mailbox would exceed its limit of {job.limit_bytes} bytes")
                write_all(fd, lead + piece)
                lead, last = b"", piece[-1:]
            write_all(fd, lead + (b"\n" if last == b"\n" else b"\n\n"))
        except (OSError, ContentTrouble, MailboxFull) as trouble:
            try:
                if end >= 0 and mbox.is_regular:
                    os.ftruncate(fd, end)
            except OSError as error:
                return OSError(error.errno, f"{trouble}; then it could not be cut back: {error.strerror}")
            return trouble
        return None

    def _settle(self, appended: list[_Appended], directories: list[int], answers: list[Answer]) -> None:
        """Make everything durable, say so, and unlock."""
        try:
            for done in appended:
                if not done.mbox.is_regular:  # a device or a pipe has taken it and cannot be synced
                    answers.extend(delivered(task.job.id, _success(task.job)) for task in done.tasks)
                    for task in done.tasks:
                        task.close()
            written = [done for done in appended if done.tasks and done.mbox.is_regular]
            outcomes = self._sync_each([done.mbox.fd for done in written]) if written else []
            if any(done.mbox.created for done in written):
                trouble = _directories_trouble(directories)
                outcomes = [outcome or trouble for outcome in outcomes]
            for done, outcome in zip(written, outcomes, strict=True):
                for task in done.tasks:
                    if outcome is not None:
                        self._refuse(task, outcome, answers)
                    else:
                        answers.append(delivered(task.job.id, _success(task.job)))
                        task.close()
                if outcome is not None:
                    try:
                        os.ftruncate(done.mbox.fd, done.size_before)
                    except OSError:  # then the mail may come twice: it is deferred all the same
                        pass
        finally:
            for done in appended:
                done.mbox.release()
            for fd in directories:
                os.close(fd)

    def _refuse(self, task: Task[WriteJob], trouble: Exception, answers: list[Answer]) -> None:
        doing = f"cannot update {_what(task.job)} {os.path.join(task.job.base, task.job.path)}"
        if isinstance(trouble, NotOurs):
            answers.append(deferred(task.job.id, 2, 0, f"{doing}: {trouble}"))
        else:
            answers.append(answer_for(task.job.id, doing, trouble))
        task.close()


def _what(job: WriteJob) -> str:
    return "file" if job.form is Form.FILE else "mailbox"


def _success(job: WriteJob) -> str:
    if job.form is Form.FILE:
        return f"delivered to file: {os.path.join(job.base, job.path)}"
    return "delivered to mailbox"


def _directories_trouble(directories: list[int]) -> OSError | None:
    """fsync directories that may be open for passing through only (O_PATH); what went wrong."""
    try:
        for fd in directories:
            try:
                readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            except PermissionError:  # a spool that may be written but not listed cannot be synced by itself
                os.sync()
                continue
            try:
                os.fsync(readable)
            finally:
                os.close(readable)
    except OSError as error:
        return error
    return None
