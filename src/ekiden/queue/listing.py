"""Reading a shard for people: through a connection of its own, in short steps, with or without a server at work."""

# ruff: noqa: S608 -- the statements are made of this package's own words; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ekiden.message.queued import QueueState
from ekiden.queue.codec import COLUMNS, Unreadable, entry_of, message_of
from ekiden.queue.schema import PARKED, WAITING
from ekiden.queue.store import QueueEntry

_STEP = 500  # rows a read transaction: a long one would keep the write-ahead log from being emptied
_WITHOUT_CONTENT = ", ".join((*COLUMNS[:-1], "content IS NULL"))


def read_entries(
    connection: sqlite3.Connection, content: Path, shard: str, *, states: frozenset[QueueState] | None = None,
    limit: int = 0, after: str = "",
) -> list[QueueEntry]:  # fmt: skip
    """Messages beyond ``after`` in the order of their ids, all or those in ``states``; a limit of 0 is none."""
    found: list[QueueEntry] = []
    for entry in _each(connection, content, shard, states, after, min(limit, _STEP) or _STEP):
        found.append(entry)
        if limit and len(found) >= limit:
            break
    return found


def _each(
    connection: sqlite3.Connection,
    content: Path,
    shard: str,
    states: frozenset[QueueState] | None,
    after: str,
    step: int,
) -> Iterator[QueueEntry]:
    wanted = ""
    if states is not None:
        wanted = f"AND state IN ({', '.join(repr(state.value) for state in states)})"
    query = f"SELECT {_WITHOUT_CONTENT} FROM message WHERE queue_id > ? {wanted} ORDER BY queue_id LIMIT {step}"
    while True:
        rows = connection.execute(query, (after,)).fetchall()
        for row in rows:
            yield entry_of(row, content, shard)
        if len(rows) < step:
            return
        after = rows[-1][0]


def read_entry(connection: sqlite3.Connection, content: Path, shard: str, *, queue_id: str) -> QueueEntry | None:
    """One message, with its content where that can be read."""
    row = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM message WHERE queue_id = ?", (queue_id,)).fetchone()
    if row is None:
        return None
    try:
        return QueueEntry(QueueState(row[1]), message_of(row, content), shard, row[8])
    except Unreadable:
        return entry_of((*row[:-1], row[-1] is None), content, shard)


def count_states(connection: sqlite3.Connection) -> dict[QueueState, int]:
    """How many messages are in each state, from the indexes alone."""
    counts = dict.fromkeys(QueueState, 0)
    connection.execute("BEGIN")
    for condition in (WAITING, PARKED):
        for state, number in connection.execute(
            f"SELECT state, count(*) FROM message WHERE {condition} GROUP BY state"
        ):
            counts[QueueState(state)] = number
    total: int = connection.execute("SELECT count(*) FROM message").fetchone()[0]
    connection.execute("COMMIT")
    counts[QueueState.ACTIVE] = total - sum(counts.values())
    return counts
