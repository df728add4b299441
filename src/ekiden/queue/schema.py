"""The database of one shard: its tables, its settings, and how it is opened.

One row a message, content last, so that listings never touch it. Measured (4 KiB messages, batches of 48): a table with
rowid takes 26 us of CPU for put and removal, one without rowid 35 us, content in a table of its own 35 us; larger pages
cost more, too. Large content is cheaper for the disk in a file of its own (256 KiB: 0.23 ms against
1.3 ms), but a file takes a dozen turns of several threads; in the whole server the two meet at some 300 KiB.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from ekiden.message.queued import QueueState
from ekiden.queue.store import StoreTrouble

Connect = Callable[..., sqlite3.Connection]
"""sqlite3.connect, or one that a test has put faults into."""

APPLICATION_ID = 0x454B4451  # "EKDQ"
VERSION = 1
PAGE_BYTES = 4096
_BUSY_MS = 5000  # how long to wait for a reader of another process (mailq) that stands in the way

_STATES = ", ".join(f"'{state.value}'" for state in QueueState)

# The condition must stand in a query word for word for SQLite to use the index.
WAITING = "state IN ('incoming', 'deferred')"
PARKED = "state IN ('hold', 'corrupt')"

# Index "waiting" holds only what waits: a message that is delivered at once is never in it. Its order serves both
# states together, and with the state in it counting needs no table.
_TABLES = f"""
CREATE TABLE message (
    id           INTEGER PRIMARY KEY,
    queue_id     TEXT    NOT NULL UNIQUE,
    state        TEXT    NOT NULL CHECK (state IN ({_STATES})),
    due          REAL    NOT NULL,
    arrived      REAL    NOT NULL,
    size         INTEGER NOT NULL CHECK (size >= 0),
    sender       TEXT    NOT NULL,
    attempts     INTEGER NOT NULL,
    delay_warned INTEGER NOT NULL CHECK (delay_warned IN (0, 1)),
    reason       TEXT    NOT NULL,
    envelope     BLOB    NOT NULL,
    pending      BLOB,    -- NULL: every recipient of the envelope, none tried yet
    content      BLOB     -- NULL: in the file content/<queue_id>
) STRICT;
CREATE INDEX waiting ON message (due, state) WHERE {WAITING};
CREATE INDEX parked ON message (state) WHERE {PARKED};
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


class Tuning(Struct, frozen=True):
    """What the parameters say about the database, in bytes."""

    log_limit: int
    cache_size: int


def shard_directory(queue_directory: Path, shard: int) -> Path:
    return queue_directory / "shards" / str(shard)


def database(directory: Path) -> Path:
    return directory / "queue.db"


def log_of(database: Path) -> Path:
    """The write-ahead log beside a database."""
    return database.with_name(f"{database.name}-wal")


def content_directory(directory: Path) -> Path:
    return directory / "content"


def open_writer(path: Path, tuning: Tuning, connect: Connect) -> sqlite3.Connection:
    """The connection that writes; makes the tables of a new database. Raises StoreTrouble; never changes a bad file."""
    try:
        connection = connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=_BUSY_MS / 1000
        )
    except sqlite3.Error as error:
        raise StoreTrouble(f"{path}: {error}") from error
    try:
        if _is_new(connection, path):
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            # A queue that once held a million messages gives the space back, a little at a time, when it is idle.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: COMMIT returns after the fsync of the log. That is the promise behind "250".
        connection.execute("PRAGMA synchronous = FULL")
        # Debian's SQLite overwrites deleted rows unless told not to; a queue would write everything twice.
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{tuning.cache_size // 1024}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {max(1, tuning.log_limit // PAGE_BYTES)}")
        connection.execute(f"PRAGMA journal_size_limit = {tuning.log_limit}")
        _migrate(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise trouble_of(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, connect: Connect = sqlite3.connect) -> sqlite3.Connection:
    """A connection for listings, beside a writer or alone; it changes nothing. Raises StoreTrouble."""
    try:
        connection = connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False,
            timeout=_BUSY_MS / 1000,
        )  # fmt: skip
    except sqlite3.Error as error:
        raise trouble_of(error, path) from error
    try:
        _check_owner(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise trouble_of(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    empty: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if empty:
        _check_owner(connection, path)
    return not empty


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreTrouble(f"{path}: this is not a queue of Ekiden; move the file away and start again")
    if version > VERSION:
        raise StoreTrouble(
            f"{path}: made by a newer Ekiden (queue format {version}, this one knows {VERSION}); "
            "run that version again, or let it deliver what the queue holds"
        )


# MIGRATIONS[n] brings version n to n + 1, in the transaction that also sets user_version.
MIGRATIONS: tuple[str, ...] = (f"{_TABLES}PRAGMA application_id = {APPLICATION_ID};",)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    for at in range(version, VERSION):
        connection.executescript(f"BEGIN IMMEDIATE;{MIGRATIONS[at]}PRAGMA user_version = {at + 1};COMMIT;")
    _check_owner(connection, path)


def trouble_of(error: sqlite3.Error, path: Path) -> StoreTrouble:
    """What a database error means for whoever asked, in words that say what to do."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return StoreTrouble(f"{path}: no space left", full=True)
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreTrouble(
            f"{path}: the database is damaged ({error}). Nothing has been changed. Stop Ekiden, keep a copy of the "
            f"directory, save what can be read with `sqlite3 {path.name} .recover`, check the disk, and move the "
            "directory away: Ekiden starts with an empty queue in its place"
        )
    return StoreTrouble(f"{path}: {error}")


def is_refused_operation(error: sqlite3.Error) -> bool:
    """The error lies in one operation (a queue id twice, a value out of range), not in disk or database."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if not code:  # the sqlite3 module's own complaint about a value, before SQLite was asked
        return isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError | sqlite3.DataError)
    return code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE)
