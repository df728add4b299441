"""``sqlite:/path``: a database file of SQLite, opened for reading only (sqlite_table(5)).

A query that takes longer than ``timeout`` (ours; $table_lookup_timeout) is interrupted.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from ekiden.tables.client_settings import ClientSettings, read_client_settings
from ekiden.tables.key_format import KeyParts
from ekiden.tables.server_pool import PoolLimits, Refusal, ServerPool, ServerTrouble, shared_pool
from ekiden.tables.sql_query import Dialect, SqlQuery
from ekiden.tables.sql_table import Rows, SqlTable, shown
from ekiden.tables.table import Opening
from ekiden.tables.thread_connection import ThreadConnection

# Who writes to the database may have it locked for a moment.
_LOCK_WAIT_MS = 1000


def open_type(text: str, opening: Opening) -> SqliteTable:
    """Raises ConfigError."""
    return SqliteTable(read_client_settings("sqlite", text, opening.parameters), opening)


class SqliteTable(SqlTable):
    def __init__(self, settings: ClientSettings, opening: Opening) -> None:
        super().__init__(settings, Dialect.SQLITE, opening)
        path = settings.needed("dbpath", "/var/lib/mail/accounts.sqlite")
        if not path.startswith("/"):
            raise settings.wrong("dbpath", "must be a full path, such as /var/lib/mail/accounts.sqlite")
        limits = PoolLimits(
            opening.parameters.table_connection_limit,
            settings.seconds("timeout", opening.parameters.table_lookup_timeout, minimum=1),
        )
        self._findings = settings.unknown()
        self._pool = shared_pool(
            ("sqlite", path, limits),
            lambda: ServerPool([_File(path)], _connect, limits, monotonic=opening.monotonic),
        )

    async def _rows(self, query: SqlQuery, key: KeyParts) -> Rows:
        sql = query.of_key(key, escapes=False)
        assert sql is not None

        async def question(connection: _Connection) -> Rows:
            return await connection.run(lambda handle: _ask(handle, sql, self.name))

        return await self._pool.ask(self.name, question)

    async def close(self) -> None:
        self._pool.close()


_Connection = ThreadConnection[sqlite3.Connection]


class _File(str):
    """The path of a database, as the server of a pool."""

    __slots__ = ()


async def _connect(path: _File) -> _Connection:
    """Raises ServerTrouble."""

    def connect() -> sqlite3.Connection:
        try:
            handle = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)
            handle.execute("PRAGMA query_only = 1")
            handle.execute(f"PRAGMA busy_timeout = {_LOCK_WAIT_MS}")
            handle.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        except sqlite3.Error as error:
            detail = "" if Path(path).exists() else ": there is no such file"
            raise ServerTrouble(shown(error) + detail) from error
        return handle

    before = _identity(path)
    return await ThreadConnection.open(
        "sqlite",
        connect,
        sqlite3.Connection.close,
        sqlite3.Connection.interrupt,
        still_good=lambda: _identity(path) == before,  # not when another file was put in its place
    )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _ask(handle: sqlite3.Connection, sql: str, name: str) -> Rows:
    """Raises ServerTrouble, Refusal."""
    try:
        cursor = handle.execute(sql)
        return [[_text(value) for value in row] for row in cursor.fetchall()]
    except sqlite3.OperationalError as error:
        raise ServerTrouble(shown(error)) from error
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise Refusal(f"{name}: {shown(error)}") from error


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
