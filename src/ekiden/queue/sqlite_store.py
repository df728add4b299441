"""The embedded store: one SQLite database for each worker, committed in groups.

In:   messages, settlements and changes, from the event loop that opened the store.
Out:  each awaited call returns when its effect is on the disk.
Never: blocks the loop (a writer thread commits, listings read through connections of their own), holds more than what
      waits to be committed and what a claim or a listing asked for.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.message.content import Content, FileContent
from ekiden.message.queued import QueuedMessage, QueueState
from ekiden.message.queueid import arrival_us
from ekiden.queue import content as contents
from ekiden.queue.codec import pack_pending, row_of
from ekiden.queue.durable import Fsync, sync_directory
from ekiden.queue.listing import count_states, read_entries, read_entry
from ekiden.queue.operations import (
    Alter,
    AlterAll,
    Call,
    Claim,
    NextDue,
    Operation,
    Put,
    Remove,
    Round,
    Settle,
    free_active,
)
from ekiden.queue.schema import (
    Connect,
    Tuning,
    content_directory,
    database,
    log_of,
    open_reader,
    open_writer,
    shard_directory,
    trouble_of,
)
from ekiden.queue.spool import Spool, SpoolLimits, SpoolWriter
from ekiden.queue.store import Change, QueueEntry, Settlement, StoreTrouble
from ekiden.queue.writer import Writer

T = TypeVar("T")

_CHANGE_BATCH = 256  # messages of an administrator's change that share a transaction with mail that moves


class ShardInUse(StoreTrouble):
    """Another process (or another store of this one) owns the shard."""


def _ignore_corrupt(queue_id: str, reason: str) -> None:
    """Without an observer: the state and the reason in the queue tell."""


class SqliteStore:
    """One shard of the queue (``queue.store.Store``). Made by ``open``."""

    def __init__(self, directory: Path, shard: int, lock: int, clock: Clock, connect: Connect) -> None:
        self.directory = directory
        self.shard = shard
        self._newest_id = ""
        self.newest_us = 0  # when the newest queue id of this shard was given: for QueueIds(last_us=...)
        self._lock, self._clock, self._connect = lock, clock, connect
        self._path = database(directory)
        self._content = content_directory(directory)
        self._spool: Spool
        self._writer: Writer
        self._loop: asyncio.AbstractEventLoop

    @classmethod
    async def open(
        cls,
        queue_directory: Path,
        *,
        shard: int,
        clock: Clock,
        parameters: Parameters,
        on_corrupt: Callable[[str, str], None] = _ignore_corrupt,
        connect: Connect = sqlite3.connect,
        fsync: Fsync = os.fsync,
    ) -> Self:
        """Take possession of ``shards/<shard>`` below the queue directory, making it if need be.

        Messages that a former owner had under way are free again. ``on_corrupt`` gets queue id and reason of each
        message that is found to be unreadable. Raises ShardInUse, or StoreTrouble whose text says what to do.
        """
        directory = shard_directory(queue_directory, shard)
        lock = await asyncio.to_thread(_prepare, directory)
        store = cls(directory, shard, lock, clock, connect)
        try:
            await store._start(parameters, on_corrupt, fsync)
        except BaseException:
            os.close(lock)
            raise
        return store

    async def _start(self, parameters: Parameters, on_corrupt: Callable[[str, str], None], fsync: Fsync) -> None:
        tuning = Tuning(log_limit=parameters.queue_log_limit, cache_size=parameters.queue_cache_size)
        limits = SpoolLimits(
            inline_limit=parameters.queue_inline_limit,
            buffer_size=parameters.queue_file_buffer_size,
            threads=parameters.queue_file_threads,
            minimum_free=parameters.queue_minfree,
        )
        self._loop = asyncio.get_running_loop()
        self._spool = Spool(self._content, limits=limits, clock=self._clock, fsync=fsync)
        try:
            connection = await asyncio.to_thread(self._recover, tuning)
        except BaseException:
            self._spool.close()
            raise
        self._writer = Writer(
            connection,
            path=self._path,
            reopen=lambda: open_writer(self._path, tuning, self._connect),
            loop=self._loop,
            clock=self._clock,
            batch_limit=parameters.queue_commit_limit,
            delay_s=parameters.queue_commit_delay_milliseconds / 1000,
            idle_s=parameters.queue_log_idle_time,
            on_ended_files=self._spool.remove,
            on_corrupt=on_corrupt,
        )
        self._writer.start()

    def _recover(self, tuning: Tuning) -> sqlite3.Connection:
        """Open the database and put right what a crash left. Blocks."""
        connection = open_writer(self._path, tuning, self._connect)
        try:
            free_active(connection)
            self._spool.sweep(
                lambda name: (
                    connection.execute("SELECT 1 FROM message WHERE queue_id = ?", (name,)).fetchone() is not None
                )
            )
            newest = connection.execute("SELECT queue_id FROM message ORDER BY queue_id DESC LIMIT 1").fetchone()
            mark = connection.execute("SELECT value FROM mark WHERE name = 'newest_us'").fetchone()
            # The names of database and log are in the directory from now on; this makes them last.
            sync_directory(self.directory)
        except sqlite3.Error as error:
            connection.close()
            raise trouble_of(error, self._path) from error
        except OSError as error:
            connection.close()
            raise StoreTrouble(f"{self.directory}: {error.strerror}") from error
        except BaseException:
            connection.close()
            raise
        self.newest_us = max(_time_of(newest[0]) if newest else 0, mark[0] if mark else 0)
        return connection

    # Taking mail in, and moving it on

    @property
    def commit_thread(self) -> int:
        """The system's number of the thread that commits."""
        return self._writer.thread_id

    def content_writer(self, queue_id: str) -> SpoolWriter:
        return SpoolWriter(self._spool, queue_id)

    async def read_content(self, content: Content) -> bytes:
        return await contents.read(content)

    async def has_space(self, size: int = 0) -> bool:
        """Whether queue_minfree, and room for ``size`` more bytes, are there.

        Mail that leaves needs room too, in the write-ahead log. As long as the database has room for all that the log
        holds, the log can start anew, and a queue that has filled the disk can drain.
        """
        if not self._spool.has_space(size):
            return False
        return self._spool.has_plenty or self._spool.has_space(size + _size_of(log_of(self._path)))

    async def put(self, message: QueuedMessage, *, lease_s: float = 0.0) -> None:
        self._newest_id = max(self._newest_id, message.queue_id)
        state = QueueState.ACTIVE if lease_s > 0 else QueueState.HOLD if message.hold else QueueState.INCOMING
        if isinstance(message.content, FileContent):
            await self._put_file(message, state, lease_s)
            return
        future = self._loop.create_future()
        self._writer.submit(Put(future, row_of(message, state), lease_s))
        await future

    async def _put_file(self, message: QueuedMessage, state: QueueState, lease_s: float) -> None:
        await self._own_file(message)
        try:
            await self._do(Put(self._loop.create_future(), row_of(message, state), lease_s))
        except StoreTrouble as trouble:
            # Only a full disk says for sure that no row names the file. After an I/O error one may turn up in the log.
            if trouble.full:
                self._spool.unkeep(message.queue_id)
            raise

    async def _own_file(self, message: QueuedMessage) -> None:
        if isinstance(message.content, FileContent):
            await self._spool.own(message.queue_id, message.content)
            self._spool.keep(message.queue_id)

    async def claim(self, now: float, limit: int, lease_s: float) -> list[QueuedMessage]:
        if limit < 1:
            return []
        return await self._do(Claim(self._loop.create_future(), now, limit, lease_s, self._content))

    async def settle(self, settlement: Settlement) -> None:
        if settlement.pending or settlement.born:
            await self.settle_all((settlement,))
            return
        future = self._loop.create_future()
        self._writer.submit(Remove(future, (settlement.queue_id,)))
        await future

    async def settle_all(self, settlements: Sequence[Settlement]) -> None:
        """Several settlements in one transaction: all of them or, with StoreTrouble, none."""
        removed = [x.queue_id for x in settlements if not x.pending and not x.born]
        operation: Remove | Settle
        if len(removed) == len(settlements):
            operation = Remove(self._loop.create_future(), removed)
        else:
            rounds = [await self._round(x) for x in settlements if x.pending or x.born]
            operation = Settle(self._loop.create_future(), removed, rounds)
        self._writer.submit(operation)
        await operation.future

    async def _round(self, settlement: Settlement) -> Round:
        for message in settlement.born:
            await self._own_file(message)
            self._newest_id = max(self._newest_id, message.queue_id)
        state = QueueState.ACTIVE if settlement.born_lease_s > 0 else QueueState.INCOMING
        return Round(
            settlement.queue_id,
            pack_pending(settlement.pending) if settlement.pending else None,
            settlement.due,
            settlement.delay_warned,
            settlement.lease_s,
            tuple([row_of(message, state) for message in settlement.born]),
            settlement.born_lease_s,
        )

    async def next_due(self) -> float | None:
        return await self._do(NextDue(self._loop.create_future()))

    # What administrators ask

    async def entries(
        self, *, states: frozenset[QueueState] | None = None, limit: int = 0, after: str = ""
    ) -> list[QueueEntry]:
        return await self._read(
            lambda connection: read_entries(
                connection, self._content, str(self.shard), states=states, limit=limit, after=after
            )
        )

    async def entry(self, queue_id: str) -> QueueEntry | None:
        """One message, here with its content."""
        return await self._read(
            lambda connection: read_entry(connection, self._content, str(self.shard), queue_id=queue_id)
        )

    async def counts(self) -> dict[QueueState, int]:
        return await self._read(count_states)

    async def change(self, queue_ids: Sequence[str], change: Change, now: float) -> list[str]:
        """A change to many is several transactions, so that mail moves on between them: an error may come after a part.

        Requeue concerns incoming and deferred messages; release those on hold, and by name also corrupt ones, which
        are read again. A message on hold keeps that state when a delivery that was under way ends.
        """
        done: list[str] = []
        if queue_ids:
            for at in range(0, len(queue_ids), _CHANGE_BATCH):
                part = queue_ids[at : at + _CHANGE_BATCH]
                altered = await self._do(Alter(self._loop.create_future(), part, change, now))
                done += altered
            return done
        if change is Change.EXPIRE:  # it leaves messages where they are found
            after = ""
            while entries := await self.entries(limit=_CHANGE_BATCH, after=after):
                after = entries[-1].message.queue_id
                done += await self.change([entry.message.queue_id for entry in entries], change, now)
            return done
        last = await self.call(lambda transaction: _last_row(transaction.connection))
        while True:
            found = await self._do(AlterAll(self._loop.create_future(), (), change, now, last, _CHANGE_BATCH))
            done += found
            if not found:
                break
        if change is Change.HOLD:
            active = list(self._writer.leases.held)
            if active:
                done += await self.change(active, change, now)
        return done

    async def close(self) -> None:
        """Commit what waits and let go of the shard."""
        if self._lock < 0:
            return
        lock, self._lock = self._lock, -1
        await self._save_mark()
        await self._writer.close()
        await asyncio.to_thread(self._spool.close)
        os.close(lock)

    # For adoption

    async def call(self, function: Callable[[Any], T]) -> T:
        """Run ``function(transaction)`` on the writer thread as part of a commit. Raises StoreTrouble."""
        result: T = await self._do(Call(self._loop.create_future(), function))
        return result

    async def own_content(self, queue_id: str, path: Path, size: int) -> None:
        """Give a message that comes from another shard its content file here, durable. Raises StoreTrouble."""
        await self._spool.own(queue_id, FileContent(str(path), size))
        self._spool.keep(queue_id)

    async def dissolve(self) -> None:
        """Close a shard that holds no message and remove it from the disk. Raises StoreTrouble if it is not empty."""
        if await self.call(lambda transaction: _last_row(transaction.connection)):
            raise StoreTrouble(f"{self.directory}: holds messages")
        lock, self._lock = self._lock, -1
        await self._writer.close()
        await asyncio.to_thread(self._spool.close)
        try:
            await asyncio.to_thread(_remove_shard, self.directory)
        finally:
            os.close(lock)

    async def _save_mark(self) -> None:
        newest = max(self.newest_us, _time_of(self._newest_id))
        try:
            await self.call(
                lambda transaction: (
                    transaction.connection.execute(
                        "INSERT OR REPLACE INTO mark (name, value) VALUES ('newest_us', ?)", (newest,)
                    )
                    and None
                )
            )
        except StoreTrouble:
            # Only an aid against a clock that steps back during a restart; what is in the queue is safe without it.
            return

    async def _do(self, operation: Operation[T]) -> T:
        self._writer.submit(operation)
        return await operation.future

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            connection = open_reader(self._path, self._connect)
            try:
                return query(connection)
            except sqlite3.Error as error:
                raise trouble_of(error, self._path) from error
            finally:
                connection.close()

        return await asyncio.to_thread(run)


def _prepare(directory: Path) -> int:
    """Make the shard's directories, durable, and take its lock; returns the lock. Raises StoreTrouble."""
    try:
        made = content_directory(directory)
        if not made.is_dir():
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
            for parent in (directory, directory.parent, directory.parent.parent):
                sync_directory(parent)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreTrouble(f"{error.filename or directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise ShardInUse(f"{directory}: another Ekiden uses this part of the queue; stop it first") from error
        raise StoreTrouble(f"{directory / 'lock'}: {error.strerror}") from error
    return lock


def _time_of(queue_id: str) -> int:
    try:
        return arrival_us(queue_id)
    except ValueError:
        return 0  # an id of another form: it says nothing about ours


def _last_row(connection: sqlite3.Connection) -> int:
    last: int = connection.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()[0]
    return last


def _remove_shard(directory: Path) -> None:
    """The files of an empty shard, the lock last: until then nobody else can open it. Raises StoreTrouble."""
    path = database(directory)
    try:
        content_directory(directory).rmdir()
        for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"), directory / "lock"):
            name.unlink(missing_ok=True)
        directory.rmdir()
        sync_directory(directory.parent)
    except OSError as error:
        raise StoreTrouble(f"{error.filename or directory}: {error.strerror}") from error


def _size_of(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
