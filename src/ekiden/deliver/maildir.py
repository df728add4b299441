"""Delivery into Maildirs, many messages with one wait for the disk.

A message is written to tmp/, made durable, renamed to new/, and new/ is made durable. Nothing incomplete is ever in
new/: if this process dies on any line, what is left is a file in tmp/ (readers of Maildirs remove those after 36
hours), or a whole message in new/ whose delivery was not yet reported and that will come once more.

Files are named ``seconds.MmicrosecondsPprocessQcount.host,S=size``: unique as Maildir demands, and with the size in
bytes that quota-aware readers (Dovecot, Courier) take from the name instead of asking for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from msgspec import Struct

from ekiden.deliver.mailbox_directory import DirectoryWalk
from ekiden.deliver.mailbox_jobs import Answer, WriteJob, delivered
from ekiden.deliver.mailbox_text import ContentTrouble, MailboxFull, Task, answer_for, mailbox_pieces, write_all

# Makes files durable and tells what went wrong with each.
SyncEach = Callable[[Sequence[int]], list[OSError | None]]

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class UniqueNames:
    """Makes the names of this process; ``time`` is the wall clock in seconds."""

    def __init__(self, host: str, process: int, time: Callable[[], float]) -> None:
        # A slash would be a path, a colon begins the flags of a name in cur/.
        self._tail = "." + host.replace("/", "\\057").replace(":", "\\072")
        self._process = process
        self._time = time
        self._count = 0

    def new(self) -> str:
        seconds, micros = divmod(int(self._time() * 1_000_000), 1_000_000)
        self._count += 1
        return f"{seconds}.M{micros:06d}P{self._process}Q{self._count}{self._tail}"


class _Maildir(Struct):
    """The open directories of one Maildir for the length of one batch.

    Longer would be wrong: a Maildir that an administrator moves away must not go on receiving mail.
    """

    tmp: int
    new: int

    def close(self) -> None:
        os.close(self.tmp)
        os.close(self.new)


class _Written(Struct):
    task: Task[WriteJob]
    maildir: _Maildir
    fd: int
    name: str
    size: int


class MaildirBatch:
    """Delivers one batch. ``trusted``: whose symbolic links are followed below a guarded base."""

    def __init__(self, names: UniqueNames, trusted: frozenset[int], sync_each: SyncEach) -> None:
        self._names = names
        self._sync_each = sync_each
        self._guarded = DirectoryWalk(trusted)
        self._open = DirectoryWalk(None)
        self._maildirs: dict[tuple[str, str, bool], _Maildir | OSError] = {}
        self._answers: list[Answer] = []

    def deliver(self, tasks: Sequence[Task[WriteJob]]) -> list[Answer]:
        """Deliver all, each with its own answer. The descriptors of the tasks stay the caller's."""
        written: list[_Written] = []
        try:
            for task in tasks:
                if (done := self._write(task)) is not None:
                    written.append(done)
            renamed = self._rename(self._synced(written))
            self._settle(renamed)
        finally:
            for done in written:
                os.close(done.fd)
            for maildir in self._maildirs.values():
                if isinstance(maildir, _Maildir):
                    maildir.close()
            self._maildirs.clear()
        return self._answers

    def _refuse(self, task: Task[WriteJob], trouble: Exception) -> None:
        job = task.job
        doing = f"maildir delivery failed: {os.path.join(job.base, job.path)}"
        self._answers.append(answer_for(job.id, doing, trouble))

    def _write(self, task: Task[WriteJob]) -> _Written | None:
        job = task.job
        maildir = self._maildir(job.base, job.path, job.guarded)
        if isinstance(maildir, OSError):
            self._refuse(task, maildir)
            return None
        name = self._names.new()
        try:
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=maildir.tmp)
        except OSError as error:
            self._refuse(task, error)
            return None
        size = 0
        try:
            for piece in mailbox_pieces(task):
                size += len(piece)
                if job.limit_bytes and size > job.limit_bytes:
                    raise MailboxFull(f"the message is larger than the limit of {job.limit_bytes} bytes")
                write_all(fd, piece)
        except (OSError, ContentTrouble, MailboxFull) as trouble:
            self._refuse(task, trouble)
            os.close(fd)
            _remove(name, maildir.tmp)
            return None
        return _Written(task, maildir, fd, name, size)

    def _maildir(self, base: str, path: str, guarded: bool) -> _Maildir | OSError:
        key = (base, path, guarded)
        found = self._maildirs.get(key)
        if found is None:
            try:
                found = self._opened(base, path.split("/"), self._guarded if guarded else self._open)
            except OSError as error:
                found = error
            self._maildirs[key] = found
        return found

    def _opened(self, base: str, parts: list[str], walk: DirectoryWalk) -> _Maildir:
        root = walk.open(base, parts, create=True)
        try:
            tmp = walk.step(root, "tmp", create=True)
            try:
                new = walk.step(root, "new", create=False, read=True)
            except FileNotFoundError:
                try:
                    os.close(walk.step(root, "cur", create=True))
                    new = walk.step(root, "new", create=True, read=True)
                except OSError:
                    os.close(tmp)
                    raise
            except OSError:
                os.close(tmp)
                raise
        finally:
            os.close(root)
        return _Maildir(tmp, new)

    def _synced(self, written: list[_Written]) -> list[_Written]:
        if not written:
            return []
        synced = []
        for done, error in zip(written, self._sync_each([done.fd for done in written]), strict=True):
            if error is None:
                synced.append(done)
            else:  # the kernel may have dropped the data and call the next fsync a success: it is not asked again
                _remove(done.name, done.maildir.tmp)
                self._refuse(done.task, error)
        return synced

    def _rename(self, written: list[_Written]) -> list[_Written]:
        renamed = []
        for done in written:
            name = f"{done.name},S={done.size}"
            try:
                os.rename(done.name, name, src_dir_fd=done.maildir.tmp, dst_dir_fd=done.maildir.new)
            except OSError as error:
                _remove(done.name, done.maildir.tmp)
                self._refuse(done.task, error)
                continue
            done.name = name
            renamed.append(done)
        return renamed

    def _settle(self, renamed: list[_Written]) -> None:
        """Make the new names durable, then say so."""
        made = self._guarded.take_changed() + self._open.take_changed()
        try:
            trouble: OSError | None = None
            try:
                for fd in made:
                    os.fsync(fd)
            except OSError as error:
                trouble = error
            synced: dict[int, OSError | None] = {}
            for done in renamed:
                new = done.maildir.new
                if new not in synced:
                    synced[new] = trouble or _sync_directory(new)
                problem = synced[new]
                if problem is None:
                    self._answers.append(delivered(done.task.job.id, "delivered to maildir"))
                else:
                    _remove(done.name, new)
                    self._refuse(done.task, problem)
        finally:
            for fd in made:
                os.close(fd)


def _sync_directory(fd: int) -> OSError | None:
    try:
        os.fsync(fd)
    except OSError as error:
        return error
    return None


def _remove(name: str, directory: int) -> None:
    """Take a file away that will be delivered again; what cannot be removed is a stray file in tmp/, or a duplicate."""
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass
