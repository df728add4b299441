"""``pgsql:/path``: a PostgreSQL server (pgsql_table(5)), asked through psycopg 3 (the extra ``postgres``).

``encoding`` is limited to encodings in which no byte of a longer character looks like a quote or a backslash.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.tables.client_settings import ClientSettings, read_client_settings
from ekiden.tables.key_format import KeyParts
from ekiden.tables.server_pool import Refusal, ServerPool, ServerTrouble, shared_pool
from ekiden.tables.sql_query import Dialect, SqlQuery
from ekiden.tables.sql_table import Rows, SqlTable, pool_limits, shown
from ekiden.tables.stream import parse_address
from ekiden.tables.table import Opening

if TYPE_CHECKING:
    import psycopg

PORT = 5432
_URI = ("postgresql://", "postgres://")
# Python's name for each client encoding that may be used.
_ENCODINGS = {"UTF8": "utf-8", "LATIN1": "latin-1", "LATIN9": "iso8859-15", "SQL_ASCII": "ascii"}
# Classes of SQLSTATE after which another server might do: connection exceptions, resources, operator intervention,
# system errors (PostgreSQL's manual, appendix A).
_GONE = ("08", "53", "57", "58")


class _Login(Struct, frozen=True):
    user: str
    password: str
    database: str
    encoding: str
    timeout_s: float


def open_type(text: str, opening: Opening) -> PgsqlTable:
    """Raises ConfigError."""
    return PgsqlTable(read_client_settings("pgsql", text, opening.parameters), opening)


class PgsqlTable(SqlTable):
    def __init__(self, settings: ClientSettings, opening: Opening) -> None:
        super().__init__(settings, Dialect.PGSQL, opening)
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"{self.name}: pgsql tables need psycopg, which is not installed: pip install 'ekiden[postgres]'"
            ) from error
        servers = settings.servers("hosts", _server, "host, host:port, unix:/path or postgresql://...")
        limits = pool_limits(settings, opening)
        encoding = settings.choice("encoding", "UTF8", tuple(_ENCODINGS))
        self._encoding = _ENCODINGS[encoding]
        login = _Login(
            user=settings.text("user"),
            password=settings.text("password"),
            database=settings.text("dbname"),
            encoding=encoding,
            timeout_s=limits.timeout_s,
        )
        if not login.database and any("://" not in server for server in servers):
            settings.needed("dbname", "the name of the database")
        self._findings = settings.unknown()
        self._pool = shared_pool(
            ("pgsql", servers, login, limits),
            lambda: ServerPool(
                servers, functools.partial(_connect, login), limits, order=_shuffled, monotonic=opening.monotonic
            ),
        )

    async def _rows(self, query: SqlQuery, key: KeyParts) -> Rows:
        try:
            key.whole.encode(self._encoding)
        except UnicodeEncodeError:
            return []  # a database in this encoding cannot have it
        return await self._pool.ask(self.name, functools.partial(self._ask, query, key))

    async def _ask(self, query: SqlQuery, key: KeyParts, connection: _Connection) -> Rows:
        """Raises ServerTrouble, Refusal."""
        import psycopg

        handle = connection.handle
        escapes = handle.info.parameter_status("standard_conforming_strings") != "on"
        if not query.fits(escapes):
            text = "the server runs with standard_conforming_strings = off, so the query must have no backslash"
            raise Refusal(f"{self.name}: {text}")
        sql = query.of_key(key, escapes=escapes)
        assert sql is not None
        try:
            async with handle.cursor() as cursor:
                await cursor.execute(sql.encode(self._encoding))
                result = cursor.pgresult
                if result is None or cursor.description is None:
                    raise Refusal(f"{self.name}: the query gave no set of results")
                return [
                    [_text(result.get_value(row, column)) for column in range(result.nfields)]
                    for row in range(result.ntuples)
                ]
        except psycopg.Error as error:
            state = error.sqlstate or "08000"
            if state[:2] in _GONE or not connection.alive:
                raise ServerTrouble(shown(error)) from error
            raise Refusal(f"{self.name}: {shown(error)}") from error

    async def close(self) -> None:
        self._pool.close()


class _Connection:
    def __init__(self, handle: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self.handle = handle

    @property
    def alive(self) -> bool:
        return not self.handle.closed

    def close(self) -> None:
        self.handle.pgconn.finish()


async def _connect(login: _Login, server: _Server) -> _Connection:
    """Raises ServerTrouble."""
    import psycopg

    settings = {
        "connect_timeout": str(max(2, round(login.timeout_s))),
        "application_name": "ekiden",
        "client_encoding": login.encoding,
    }
    if "://" not in server:
        host, _, port = server.rpartition(":")
        settings |= {"host": host, "port": port, "dbname": login.database}
        settings |= {"user": login.user} if login.user else {}
        settings |= {"password": login.password} if login.password else {}
    try:
        conninfo = psycopg.conninfo.make_conninfo(server.uri if "://" in server else "", **settings)
        handle = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    except (psycopg.Error, OSError, ValueError) as error:
        raise ServerTrouble(shown(error)) from error
    return _Connection(handle)


class _Server(str):
    """``host:port``, ``/directory:port`` of a socket, or a URI, which is not shown whole: it may hold a password."""

    __slots__ = ()

    @property
    def uri(self) -> str:
        return str.__str__(self)

    def __str__(self) -> str:
        if "://" not in self:
            return str.__str__(self)
        scheme, _, rest = self.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def _server(word: str) -> _Server:
    """Raises ConfigError."""
    if word.startswith(_URI):
        return _Server(word)
    address = parse_address(word, PORT)
    if not address.path:
        return _Server(f"{address.host}:{address.port}")
    directory, _, name = address.path.rpartition("/")
    if name.startswith(".s.PGSQL."):  # PostgreSQL's library wants the directory and the port that the name ends with
        return _Server(f"{directory}:{name.removeprefix('.s.PGSQL.')}")
    return _Server(f"{address.path}:{PORT}")


def _shuffled(servers: Sequence[_Server]) -> Sequence[_Server]:
    """In random order (pgsql_table(5), hosts)."""
    return random.sample(servers, len(servers))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")
