"""What can be done to a shard, each thing as one object that the writer thread applies inside a transaction.

Puts and removals are what mail is made of, so the writer merges theirs into statements of many rows; the others are
applied one by one. Everything here runs on the writer thread.
"""

# ruff: noqa: S608 -- the statements are made of this package's own words; every value is bound

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ekiden.message.content import FileContent
from ekiden.message.delivery import Action, DeliveryResult, failed
from ekiden.message.queued import Pending, QueuedMessage, QueueState
from ekiden.message.status import Status
from ekiden.queue.codec import COLUMNS, Row, Unreadable, entry_of, message_of, pack_pending
from ekiden.queue.schema import PARKED, WAITING
from ekiden.queue.store import Change

T = TypeVar("T")

# Statements of some sizes stay prepared. Each execution makes the threads of the worker take turns, which costs more
# than the rows do, so ordinary batches are one statement: a batch of 100 puts is 64 + 32 + 4 rows, one of 13 is one.
_AT_ONCE = 24
_SIZES = (64, 32, *range(_AT_ONCE, 0, -1))
_COLUMN_LIST = ", ".join(COLUMNS)
_ROW_MARKS = "(" + ", ".join("?" * len(COLUMNS)) + ")"
_INSERT = {size: f"INSERT INTO message ({_COLUMN_LIST}) VALUES " + ", ".join([_ROW_MARKS] * size) for size in _SIZES}
_IS_SAME = "SELECT 1 FROM message WHERE queue_id = ? AND arrived = ? AND size = ? AND sender = ?"
_DELETE = {size: f"DELETE FROM message WHERE queue_id IN ({', '.join('?' * size)})" for size in _SIZES}
_ACTIVATE = {
    size: f"UPDATE message SET state = 'active' WHERE queue_id IN ({', '.join('?' * size)})" for size in _SIZES
}
_CLAIM = f"SELECT {_COLUMN_LIST} FROM message WHERE {WAITING} AND due <= ? ORDER BY due LIMIT ?"
_NEXT_DUE = f"SELECT due FROM message WHERE {WAITING} ORDER BY due LIMIT 1"
# A message on hold whose delivery was under way keeps its place; the round counts all the same.
_POSTPONE = (
    "UPDATE message SET state = CASE state WHEN 'hold' THEN 'hold' ELSE 'deferred' END, due = ?, pending = ?, "
    "delay_warned = max(delay_warned, ?), attempts = attempts + 1 WHERE queue_id = ?"
)
# A part of a round: the message stays with whoever delivers it, and the round does not count yet.
_GO_ON = (
    "UPDATE message SET state = CASE state WHEN 'hold' THEN 'hold' ELSE 'active' END, pending = ?, "
    "delay_warned = max(delay_warned, ?) WHERE queue_id = ?"
)
_RESTING_STATE = "CASE WHEN attempts > 0 THEN 'deferred' ELSE 'incoming' END"


class Lease(Struct):
    """Whose turn a message is: it is active until ``until`` (monotonic seconds)."""

    until: float
    in_file: bool


class Leases:
    """The leases of a shard. They live in memory alone: the shard has one owner, which holds its lock.

    When the owner dies its leases die with it, and the next owner finds every active message free. Kept on the
    monotonic clock, so that a step of the wall clock never hands out a message that is being delivered.
    """

    def __init__(self) -> None:
        self.held: dict[str, Lease] = {}
        self._none_expires_before = float("inf")

    def apply(self, changes: dict[str, Lease | None]) -> None:
        for queue_id, lease in changes.items():
            if lease is None:
                self.held.pop(queue_id, None)
            else:
                self.held[queue_id] = lease
                self._none_expires_before = min(self._none_expires_before, lease.until)

    def expired(self, now: float) -> list[str]:
        """The messages whose lease ran out; looks through all leases only when one can have."""
        if now < self._none_expires_before:
            return []
        found = [queue_id for queue_id, lease in self.held.items() if lease.until <= now]
        self._none_expires_before = min((x.until for x in self.held.values() if x.until > now), default=float("inf"))
        if found:  # they stay in the table until claimed again
            self._none_expires_before = now
        return found


class Transaction:
    """One transaction under way: the connection, and what is to happen once it is durable."""

    __slots__ = ("connection", "ended_files", "lease_changes", "leases", "monotonic", "reports")

    def __init__(self, connection: sqlite3.Connection, leases: Leases, monotonic: float) -> None:
        self.connection = connection
        self.leases = leases
        self.monotonic = monotonic
        self.lease_changes: dict[str, Lease | None] = {}
        self.ended_files: list[str] = []  # queue ids whose content file nobody names any more
        self.reports: list[tuple[str, str]] = []  # (queue id, reason) of messages found corrupt

    def lease(self, queue_id: str) -> Lease | None:
        if queue_id in self.lease_changes:
            return self.lease_changes[queue_id]
        return self.leases.held.get(queue_id)

    def begin_lease(self, queue_id: str, seconds: float, in_file: bool) -> None:
        if seconds > 0:
            self.lease_changes[queue_id] = Lease(self.monotonic + seconds, in_file)

    def is_in_file(self, queue_id: str) -> bool:
        """Whether the content of a message that has no lease, which would know, lies in a file."""
        row = self.connection.execute("SELECT content IS NULL FROM message WHERE queue_id = ?", (queue_id,)).fetchone()
        return row is not None and bool(row[0])

    def insert(self, rows: Sequence[Row]) -> None:
        for part in parts(rows):
            self.connection.execute(_INSERT[len(part)], tuple(chain.from_iterable(part)))

    def insert_once(self, rows: Sequence[Row]) -> None:
        """As insert(), but a message that is there already stays as it is.

        A commit that failed may have reached the disk all the same, and what is tried again must then succeed.
        Another message of the same id is an error, as ever.
        """
        self.insert([row for row in rows if not self._has(row)])

    def _has(self, row: Row) -> bool:
        found = self.connection.execute(_IS_SAME, (row[0], row[3], row[4], row[5])).fetchone()
        return found is not None

    def delete(self, queue_ids: Sequence[str]) -> None:
        """Remove messages; ids that are not there do not matter."""
        for queue_id in queue_ids:
            lease = self.lease(queue_id)
            if lease.in_file if lease is not None else self.is_in_file(queue_id):
                self.ended_files.append(queue_id)
            self.lease_changes[queue_id] = None
        for part in parts(queue_ids):
            self.connection.execute(_DELETE[len(part)], part)

    def activate(self, queue_ids: Sequence[str]) -> None:
        for part in parts(queue_ids):
            self.connection.execute(_ACTIVATE[len(part)], part)


def parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """The items in runs of the sizes for which statements stay prepared."""
    left = len(items)
    if 0 < left <= _AT_ONCE:
        return (items,)
    found: list[Sequence[T]] = []
    at = 0
    for size in _SIZES:
        while left >= size:
            found.append(items[at : at + size])
            at, left = at + size, left - size
    return found


class _Outcome(Struct, Generic[T], kw_only=True, eq=False):
    result: T | None = None
    error: Exception | None = None


class Operation(_Outcome[T], Generic[T]):
    """One thing to do, the caller that waits for it, and what came of it."""

    future: asyncio.Future[T]

    adds = False  # needs space: what must give way when the disk is full

    def apply(self, transaction: Transaction) -> T:
        raise NotImplementedError


class Put(Operation[None]):
    row: Row
    lease_s: float

    adds = True

    def apply(self, transaction: Transaction) -> None:
        transaction.insert((self.row,))
        transaction.begin_lease(self.row[0], self.lease_s, self.row[11] is None)


class Remove(Operation[None]):
    """The end of messages that leave nothing behind."""

    queue_ids: Sequence[str]

    def apply(self, transaction: Transaction) -> None:
        transaction.delete(self.queue_ids)


class Round(Struct, frozen=True):
    """A settlement as the database takes it: packed, its born messages as rows."""

    queue_id: str
    pending: bytes | None  # None: nobody waits any more
    due: float
    delay_warned: bool
    lease_s: float
    born: tuple[Row, ...]
    born_lease_s: float


class Settle(Operation[None]):
    """Rounds of which something remains, recipients or messages born, along with removals: all of it or none."""

    queue_ids: Sequence[str]
    rounds: Sequence[Round]

    @property
    def adds(self) -> bool:  # type: ignore[override]
        return any(one.born for one in self.rounds)

    def apply(self, transaction: Transaction) -> None:
        transaction.delete(self.queue_ids)
        for one in self.rounds:
            # A message that an administrator has deleted meanwhile is not there any more; what is born of it lives.
            transaction.insert_once(one.born)
            for row in one.born:
                transaction.begin_lease(row[0], one.born_lease_s, row[11] is None)
            if one.pending is None:
                transaction.delete((one.queue_id,))
            elif one.lease_s > 0:
                self._go_on(transaction, one)
            else:
                transaction.connection.execute(_POSTPONE, (one.due, one.pending, int(one.delay_warned), one.queue_id))
                transaction.lease_changes[one.queue_id] = None

    @staticmethod
    def _go_on(transaction: Transaction, one: Round) -> None:
        done = transaction.connection.execute(_GO_ON, (one.pending, int(one.delay_warned), one.queue_id))
        if done.rowcount:
            lease = transaction.lease(one.queue_id)
            in_file = lease.in_file if lease is not None else transaction.is_in_file(one.queue_id)
            transaction.begin_lease(one.queue_id, one.lease_s, in_file)


class Claim(Operation[list[QueuedMessage]]):
    now: float
    limit: int
    lease_s: float
    content_directory: Path

    def apply(self, transaction: Transaction) -> list[QueuedMessage]:
        claimed: list[QueuedMessage] = []
        self._free_expired(transaction)
        # A corrupt row leaves the index, so each round of the loop finds the next ones.
        while len(claimed) < self.limit:
            wanted = self.limit - len(claimed)
            rows = transaction.connection.execute(_CLAIM, (self.now, wanted)).fetchall()
            good = [message for row in rows if (message := self._read(transaction, row)) is not None]
            transaction.activate([message.queue_id for message in good])
            claimed += good
            if len(rows) < wanted:
                break
        for message in claimed:
            transaction.begin_lease(message.queue_id, self.lease_s, isinstance(message.content, FileContent))
        return claimed

    def _free_expired(self, transaction: Transaction) -> None:
        for queue_id in transaction.leases.expired(transaction.monotonic):
            if transaction.lease(queue_id) is None:
                continue
            transaction.connection.execute(
                f"UPDATE message SET state = {_RESTING_STATE} WHERE queue_id = ? AND state = 'active'", (queue_id,)
            )
            transaction.lease_changes[queue_id] = None

    def _read(self, transaction: Transaction, row: Row) -> QueuedMessage | None:
        try:
            message = message_of(row, self.content_directory)
            if isinstance(message.content, FileContent):
                _check_file(Path(message.content.path), message.content.start + message.content.size)
        except Unreadable as error:
            reason = str(error)
            transaction.connection.execute(
                "UPDATE message SET state = 'corrupt', reason = ? WHERE queue_id = ?", (reason, row[0])
            )
            transaction.reports.append((row[0], reason))
            return None
        return message


def _check_file(path: Path, size: int) -> None:
    try:
        found = os.stat(path).st_size
    except OSError as error:
        raise Unreadable(f"the content file {path.name}: {error.strerror}") from error
    if found != size:
        raise Unreadable(f"the content file {path.name} has {found} bytes instead of {size}")


class NextDue(Operation[float | None]):
    def apply(self, transaction: Transaction) -> float | None:
        row = transaction.connection.execute(_NEXT_DUE).fetchone()
        return None if row is None else row[0]


# What each change may be applied to when it names messages. A requeue leaves hold alone: what an administrator has
# put aside comes back by a release only. Releasing a corrupt message has it read again (the file may be back).
# An incoming message that is due later is one that its sender wants held until then (RFC 4865): it must be named.
_MAY_CHANGE = {
    Change.HOLD: frozenset({QueueState.INCOMING, QueueState.ACTIVE, QueueState.DEFERRED}),
    Change.RELEASE: frozenset({QueueState.HOLD, QueueState.CORRUPT, QueueState.INCOMING}),
    Change.REQUEUE: frozenset({QueueState.INCOMING, QueueState.DEFERRED}),
    Change.DELETE: frozenset(QueueState),
    Change.EXPIRE: frozenset({QueueState.INCOMING, QueueState.DEFERRED, QueueState.HOLD}),
}

# The next messages that a change of all of them concerns; each is out of its own condition once changed.
_NEXT_OF_ALL = {
    Change.HOLD: f"SELECT queue_id FROM message WHERE {WAITING} AND id <= :last ORDER BY due LIMIT :limit",
    Change.RELEASE: f"SELECT queue_id FROM message WHERE {PARKED} AND state = 'hold' AND id <= :last LIMIT :limit",
    # What is incoming and not yet due is held until a time that its sender chose (RFC 4865): it must be named.
    Change.REQUEUE: f"SELECT queue_id FROM message WHERE {WAITING} AND due > :now AND state = 'deferred' "
    "AND id <= :last ORDER BY due LIMIT :limit",
    Change.DELETE: "SELECT queue_id FROM message WHERE id <= :last ORDER BY id LIMIT :limit",
}
_WITHOUT_CONTENT = f"SELECT {', '.join((*COLUMNS[:-1], 'content IS NULL'))} FROM message WHERE queue_id = ?"
# What a sender is told of a message that nobody had tried to deliver yet.
_EXPIRED = failed(Status(5, 4, 7), "message is administratively expired")


class Alter(Operation[list[str]]):
    """An administrator's change to messages by id."""

    queue_ids: Sequence[str]
    change: Change
    now: float

    def apply(self, transaction: Transaction) -> list[str]:
        return self.alter(transaction, self.queue_ids)

    def alter(self, transaction: Transaction, queue_ids: Sequence[str]) -> list[str]:
        execute = transaction.connection.execute
        done: list[str] = []
        for queue_id in queue_ids:
            row = execute("SELECT state, due FROM message WHERE queue_id = ?", (queue_id,)).fetchone()
            if row is None or QueueState(row[0]) not in _MAY_CHANGE[self.change]:
                continue
            if self.change is Change.RELEASE and row[0] == "incoming" and row[1] <= self.now:
                continue  # it is not held
            if self.change is Change.HOLD:
                execute(
                    "UPDATE message SET state = 'hold', reason = 'by the administrator' WHERE queue_id = ?", (queue_id,)
                )
            elif self.change is Change.REQUEUE:
                execute("UPDATE message SET due = min(due, ?) WHERE queue_id = ?", (self.now, queue_id))
            elif self.change is Change.RELEASE:
                # The delivery that was under way when the message was put on hold may still be.
                state = "'active'" if transaction.lease(queue_id) is not None else _RESTING_STATE
                execute(
                    f"UPDATE message SET state = {state}, reason = '', due = min(due, ?) WHERE queue_id = ?",
                    (self.now, queue_id),
                )
            elif self.change is Change.EXPIRE and not self._expire(transaction.connection, queue_id):
                continue
            done.append(queue_id)
        if self.change is Change.DELETE:
            transaction.delete(done)
        return done

    def _expire(self, connection: sqlite3.Connection, queue_id: str) -> bool:
        """Whoever still waits has failed, with the last reason; the next round finds only the notification missing."""
        row = connection.execute(_WITHOUT_CONTENT, (queue_id,)).fetchone()
        entry = entry_of(row, Path(), "")
        if entry.state is QueueState.CORRUPT:
            return False
        pending = tuple(Pending(waits.recipient, _given_up(waits.last)) for waits in entry.message.pending)
        connection.execute(
            "UPDATE message SET pending = ?, due = min(due, ?) WHERE queue_id = ?",
            (pack_pending(pending), self.now, queue_id),
        )
        return True


def _given_up(last: DeliveryResult | None) -> DeliveryResult:
    if last is None:
        return _EXPIRED
    return last if last.is_final else replace(last, action=Action.FAILED, status=last.status.with_class(5))


class AlterAll(Alter):
    """A change to the next ``limit`` of all messages that it concerns, the rows up to ``last``; it names none."""

    last: int
    limit: int

    def apply(self, transaction: Transaction) -> list[str]:
        rows = transaction.connection.execute(
            _NEXT_OF_ALL[self.change], {"now": self.now, "last": self.last, "limit": self.limit}
        ).fetchall()
        return self.alter(transaction, [row[0] for row in rows])


class Call(Operation[Any]):
    """Anything else that wants the writer's connection for a moment."""

    function: Callable[[Transaction], Any]

    def apply(self, transaction: Transaction) -> Any:
        return self.function(transaction)


def free_active(connection: sqlite3.Connection) -> None:
    """At start: whoever had leased these is gone.

    No index has the active messages (each message would pay for it twice), but the other indexes have all the rest, so
    that a million deferred messages are not read to find them.
    """
    connection.execute(
        f"UPDATE message SET state = {_RESTING_STATE} WHERE id IN (SELECT id FROM message EXCEPT "
        f"SELECT id FROM message WHERE {WAITING} EXCEPT SELECT id FROM message WHERE {PARKED})"
    )
