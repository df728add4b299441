"""Group commit: everything that waits is made durable at once, and then all who wait are woken.

The event loop gathers operations. When no commit is under way it applies a batch of them, which is work in memory, and
lets a thread do what waits for the disk: the COMMIT. While that runs the next batch gathers, so the busier the server
is, the more messages share an fsync. Operations that may read much (a claim, an administrator's change) are applied on
the thread as well.

The reason for this split is the interpreter's lock: every SQL statement on the thread makes it and the loop take turns,
and on a busy server those turns cost more than the statements. For the same reason, once batches hold more than one
operation, the next one is given time to grow: as long as a few commits take on this disk, ``delay_s`` at most. To wait
for company longer than the disk makes everybody wait would only make the messages late. A server with little to do
never waits.

A commit that fails with an I/O error is never tried again: the kernel may have dropped what it could not write, and the
log's later part would hang on pages that exist in memory only. The connection is closed (which copies what was durable
into the database and drops the log), opened again, and checkpointed; only then is the next batch taken.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ekiden.message.clock import Clock
from ekiden.queue.operations import Leases, Operation, Put, Remove, Transaction, parts
from ekiden.queue.schema import is_refused_operation, trouble_of
from ekiden.queue.store import StoreTrouble

# How long a batch may grow, in the time of a commit: longer saves processor time, shorter makes replies earlier.
_COMMITS_TO_WAIT = 5
_NEWEST_WEIGHT = 0.125  # of the latest commit in the mean of their times
_VACUUM_PAGES = 256  # given back to the file system at a time, when nothing else is to do


class Writer:
    """The writer thread of one shard. Its methods are called on the event loop ``loop`` only."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        path: Path,
        reopen: Callable[[], sqlite3.Connection],
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        batch_limit: int,
        delay_s: float,
        idle_s: float,
        on_ended_files: Callable[[list[str]], None],
        on_corrupt: Callable[[str, str], None],
    ) -> None:
        """``on_ended_files`` is called on the thread, ``on_corrupt`` on the loop."""
        self.leases = Leases()
        self._connection: sqlite3.Connection | None = connection
        self._path, self._reopen, self._loop, self._clock = path, reopen, loop, clock
        self._batch_limit, self._delay_s, self._idle_s = batch_limit, delay_s, idle_s
        self._on_ended_files, self._on_corrupt = on_ended_files, on_corrupt
        self._waiting: list[Operation[Any]] = []  # of the loop
        self._handing_over: asyncio.Handle | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._thread_works = False  # the connection is the thread's while this is true, else the loop's
        self._busy = False
        self._commit_s = delay_s  # how long a commit takes, the latest ones counting most
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"store {path.parent.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._tidy_later()  # a log that an earlier run left is copied, too

    @property
    def thread_id(self) -> int:
        """The system's number of the thread; 0 before start()."""
        return self._thread.native_id or 0

    def submit(self, operation: Operation[Any]) -> None:
        if self._closed:
            operation.future.set_exception(StoreTrouble(f"{self._path}: the queue has been closed"))
            return
        self._waiting.append(operation)
        if self._handing_over is None and not self._thread_works:
            self._schedule()

    async def close(self) -> None:
        """Commit what waits, copy the log into the database, end the thread."""
        if not self._closed:
            self._closed = True
            for handle in (self._handing_over, self._tidying):
                if handle is not None:
                    handle.cancel()
            for at in range(0, len(self._waiting), self._batch_limit):
                batch = self._waiting[at : at + self._batch_limit]
                self._give_to_thread(lambda batch=batch: self._commit(batch), batch)  # type: ignore[misc]
            self._waiting = []
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _schedule(self) -> None:
        # call_soon collects at least what this turn of the loop brings.
        self._handing_over = (
            self._loop.call_later(min(self._delay_s, _COMMITS_TO_WAIT * self._commit_s), self._hand_over)
            if self._busy
            else self._loop.call_soon(self._hand_over)
        )

    def _hand_over(self) -> None:
        """Take what waits; apply it here if that is quick, and have the thread commit it."""
        self._handing_over = None
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        batch, self._waiting = self._waiting[: self._batch_limit], self._waiting[self._batch_limit :]
        self._busy = len(batch) > 1
        connection = self._connection
        if connection is None or not _QUICK.issuperset(map(type, batch)):
            self._give_to_thread(lambda: self._commit(batch), batch)
            return
        transaction = Transaction(connection, self.leases, self._clock.monotonic())
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._apply(transaction, batch)
        except Exception as error:  # what to do about it may take long, and is the thread's
            failure = error
            self._give_to_thread(lambda: self._fail_batch(connection, batch, failure), batch)
        else:
            self._give_to_thread(lambda: self._commit_applied(transaction, batch), batch)

    def _give_to_thread(self, job: Callable[[], None], batch: Sequence[Operation[Any]]) -> None:
        self._thread_works = True
        self._jobs.put(lambda: self._work(job, batch))

    def _take_back(self, *, to_tidy: bool) -> None:
        """The thread has no more to do: the connection is the loop's again. ``to_tidy``: there is something to tidy."""
        self._thread_works = False
        if self._closed:
            return
        if self._waiting:
            self._schedule()
        elif to_tidy:
            self._tidy_later()

    def _committed(self, batch: Sequence[Operation[Any]]) -> None:
        _wake(batch)
        self._take_back(to_tidy=True)

    def _tidy_later(self) -> None:
        self._tidying = self._loop.call_later(self._idle_s, self._tidy_now)

    def _tidy_now(self) -> None:
        self._tidying = None
        if not self._thread_works and self._handing_over is None:
            self._thread_works = True
            self._jobs.put(lambda: self._call_on_loop(self._tidied, self._tidy()))

    def _tidied(self, more: bool) -> None:
        self._take_back(to_tidy=more)

    # Everything below runs on the thread (_apply on whichever has the connection).

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
        self._finish()

    def _work(self, job: Callable[[], None], batch: Sequence[Operation[Any]]) -> None:
        try:
            job()
        except Exception as error:  # a fault of our own must not end the thread that everybody waits for
            _fail(batch, error)
        self._call_on_loop(self._committed, batch)

    def _commit_applied(self, transaction: Transaction, batch: Sequence[Operation[Any]]) -> None:
        connection = transaction.connection
        began = self._clock.monotonic()
        try:
            connection.execute("COMMIT")
        except Exception as error:
            self._fail_batch(connection, batch, error)
        else:
            self._commit_s += (self._clock.monotonic() - began - self._commit_s) * _NEWEST_WEIGHT
            self._took_effect(transaction)

    def _fail_batch(
        self,
        connection: sqlite3.Connection,
        batch: Sequence[Operation[Any]],
        error: Exception,
        *,
        is_last_try: bool = False,
    ) -> None:
        if isinstance(error, sqlite3.Error):
            self._give_up(connection, batch, error, is_last_try)
        else:  # a fault in our own code: nothing of the batch holds, and all who wait hear of it
            self._break(connection)
            _fail(batch, error)

    def _commit(self, batch: Sequence[Operation[Any]], *, is_last_try: bool = False) -> None:
        """Apply a batch as one transaction; afterwards each operation has its result or its error."""
        connection = self._usable_connection(batch)
        if connection is None:
            return
        transaction = Transaction(connection, self.leases, self._clock.monotonic())
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._apply(transaction, batch)
            connection.execute("COMMIT")
        except Exception as error:
            self._fail_batch(connection, batch, error, is_last_try=is_last_try)
            return
        self._took_effect(transaction)

    def _took_effect(self, transaction: Transaction) -> None:
        """The transaction is durable: now what it means beside the database holds, too."""
        self.leases.apply(transaction.lease_changes)
        if transaction.ended_files:
            self._on_ended_files(transaction.ended_files)
        for queue_id, reason in transaction.reports:
            self._call_on_loop(self._on_corrupt, queue_id, reason)

    def _give_up(
        self, connection: sqlite3.Connection, batch: Sequence[Operation[Any]], error: sqlite3.Error, is_last_try: bool
    ) -> None:
        trouble = trouble_of(error, self._path)
        if not trouble.full:
            self._break(connection)
            _fail(batch, trouble)
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._break(connection)
            _fail(batch, trouble)
            return
        # No space for what arrives; what leaves the queue makes some, so it gets a transaction of its own. The log is
        # emptied first: then its file, as long as it is, has room without growing.
        others = [operation for operation in batch if not operation.adds]
        _fail(batch, trouble)
        if others and not is_last_try:
            self._copy_log(connection)
            for operation in others:
                operation.error = operation.result = None
            self._commit(others, is_last_try=True)

    def _apply(self, transaction: Transaction, batch: Sequence[Operation[Any]]) -> None:
        """In the order given, except that neighbouring puts go first, then neighbouring removals, as one each."""
        puts: list[Put] = []
        removes: list[Remove] = []
        leaving: set[str] = set()
        for operation in batch:
            kind = type(operation)
            if kind is Remove:
                removes.append(operation)  # type: ignore[arg-type]
                leaving.update(operation.queue_ids)  # type: ignore[attr-defined]
            elif kind is Put and operation.row[0] not in leaving:  # type: ignore[attr-defined]
                puts.append(operation)  # type: ignore[arg-type]
            else:
                self._apply_merged(transaction, puts, removes)
                puts, removes, leaving = [], [], set()
                self._apply_alone(transaction, operation)
        self._apply_merged(transaction, puts, removes)

    def _apply_merged(self, transaction: Transaction, puts: list[Put], removes: list[Remove]) -> None:
        self._apply_puts(transaction, puts)
        if removes:
            transaction.delete([queue_id for operation in removes for queue_id in operation.queue_ids])

    def _apply_puts(self, transaction: Transaction, puts: list[Put]) -> None:
        for part in parts(puts):
            # A statement that fails leaves nothing behind, so the rows of this one can be tried one by one.
            try:
                transaction.insert([operation.row for operation in part])
            except (sqlite3.Error, ValueError, OverflowError) as error:
                if isinstance(error, sqlite3.Error) and not _is_local(transaction.connection, error):
                    raise
                if len(part) == 1:
                    part[0].error = StoreTrouble(f"{self._path}: {error}")
                    continue
                for operation in part:
                    self._apply_puts(transaction, [operation])
            else:
                for operation in part:
                    row = operation.row  # the lease begins with the commit
                    transaction.begin_lease(row[0], operation.lease_s, row[11] is None)

    def _apply_alone(self, transaction: Transaction, operation: Operation[Any]) -> None:
        """Apply one operation so that, if it is at fault itself, it alone fails."""
        connection = transaction.connection
        leases_before = dict(transaction.lease_changes)
        files_before = len(transaction.ended_files)
        connection.execute("SAVEPOINT one")
        try:
            operation.result = operation.apply(transaction)
            connection.execute("RELEASE one")
        except (sqlite3.Error, ValueError, OverflowError) as error:
            if isinstance(error, sqlite3.Error) and not _is_local(connection, error):
                raise
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
            transaction.lease_changes = leases_before
            del transaction.ended_files[files_before:]
            operation.error = StoreTrouble(f"{self._path}: {error}")

    def _usable_connection(self, batch: Sequence[Operation[Any]]) -> sqlite3.Connection | None:
        if self._connection is None:
            try:
                self._connection = self._recover()
            except StoreTrouble as trouble:
                _fail(batch, trouble)
        return self._connection

    def _recover(self) -> sqlite3.Connection:
        """Open the database after an error. What the log still holds must reach the database before it is used."""
        connection = self._reopen()
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            connection.close()
            raise trouble_of(error, self._path) from error
        if busy:
            connection.close()
            raise StoreTrouble(f"{self._path}: another process reads the queue and hinders its recovery")
        return connection

    def _break(self, connection: sqlite3.Connection) -> None:
        self._connection = None
        try:
            connection.close()
        except sqlite3.Error:
            # The file is closed all the same, and the recovery that comes next checks what became of it.
            return

    def _tidy(self) -> bool:
        """Nothing to do for a while: copy the log into the database, give back space. True asks to be called again."""
        connection = self._connection
        if connection is None:
            return False
        more = False
        try:
            if self._free_pages(connection) > _VACUUM_PAGES:
                connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
                more = True
        except sqlite3.Error:
            self._break(connection)
            return False
        self._copy_log(connection)
        return more

    def _copy_log(self, connection: sqlite3.Connection) -> None:
        """Copy what the log holds into the database, as far as no reader needs it, so that the log starts anew."""
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            # Nothing is lost: the log still has it all. A full disk leaves it at that, any other error is a fault.
            if not trouble_of(error, self._path).full:
                self._break(connection)

    @staticmethod
    def _free_pages(connection: sqlite3.Connection) -> int:
        free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
        return free

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # The last connection that closes copies the log into the database and removes it.
            connection.close()

    def _call_on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop has gone, and with it everyone who waited. What was committed stays committed.
            return


# What takes no more than a few pages in memory.
_QUICK = frozenset({Put, Remove})


def _is_local(connection: sqlite3.Connection, error: sqlite3.Error) -> bool:
    return connection.in_transaction and is_refused_operation(error)


def _fail(operations: Sequence[Operation[Any]], error: Exception) -> None:
    for operation in operations:
        operation.error = error


def _wake(batch: Sequence[Operation[Any]]) -> None:
    for operation in batch:
        if operation.future.done():
            continue
        if operation.error is not None:
            operation.future.set_exception(operation.error)
        else:
            operation.future.set_result(operation.result)
