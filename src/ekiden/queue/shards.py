"""The shards of a queue, one a worker: taking over those that nobody owns.

A message changes its shard in two steps, each durable: first it is put into the new one, then removed from the old.
A crash in between leaves it in both; the next adoption finds the queue id already there and only removes. A content
file is linked, not copied, so that it has a name in each shard that names it.
"""

# ruff: noqa: S608 -- the statements are made of this package's own words; every value is bound

from __future__ import annotations

from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.queue.codec import COLUMNS, Row
from ekiden.queue.on_disk import shard_numbers
from ekiden.queue.operations import Transaction
from ekiden.queue.schema import content_directory
from ekiden.queue.sqlite_store import ShardInUse, SqliteStore

_MOVE_AT_ONCE = 64  # messages, each with up to queue_inline_limit of content in memory

_COLUMN_LIST = ", ".join(COLUMNS)
_TAKE = f"SELECT {_COLUMN_LIST} FROM message ORDER BY id LIMIT {_MOVE_AT_ONCE}"
_PUT = (
    f"INSERT INTO message ({_COLUMN_LIST}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (queue_id) DO NOTHING"
)


async def adopt_orphans(
    queue_directory: Path, workers: int, *, into: SqliteStore, clock: Clock, parameters: Parameters
) -> int:
    """Move the messages of the shards that no worker owns into ``into``; returns how many. Raises StoreTrouble.

    The shards from number ``workers`` up are orphans; the worker of shard n takes those whose number is n modulo
    ``workers``, so that each is taken once. To be awaited before the scheduler claims: a message that is in both
    shards after a crash is then removed from the old one before it can be delivered out of the new one. States, due
    times and attempts stay as they are. An emptied shard is removed; one that another process holds is left alone.
    """
    moved = 0
    for number in shard_numbers(queue_directory):
        if number < workers or number % workers != into.shard:
            continue
        try:
            orphan = await SqliteStore.open(queue_directory, shard=number, clock=clock, parameters=parameters)
        except ShardInUse:
            continue
        try:
            moved += await _move_all(orphan, into)
            await orphan.dissolve()
        finally:
            await orphan.close()
    return moved


async def _move_all(orphan: SqliteStore, into: SqliteStore) -> int:
    moved = 0
    while rows := await orphan.call(_take):
        for row in rows:
            if row[-1] is None:
                await _link_content(orphan, into, row)
        moved += await into.call(lambda transaction, rows=rows: _put(transaction, rows))  # type: ignore[misc]
        await orphan.call(lambda transaction, rows=rows: transaction.delete([row[0] for row in rows]))  # type: ignore[misc]
    return moved


async def _link_content(orphan: SqliteStore, into: SqliteStore, row: Row) -> None:
    path = content_directory(orphan.directory) / row[0]
    if path.exists():
        await into.own_content(row[0], path, row[4])
    # Without its file the message moves all the same: the next claim finds it corrupt and keeps it, with the reason.


def _take(transaction: Transaction) -> list[Row]:
    rows: list[Row] = transaction.connection.execute(_TAKE).fetchall()
    return rows


def _put(transaction: Transaction, rows: list[Row]) -> int:
    return sum(transaction.connection.execute(_PUT, row).rowcount for row in rows)
