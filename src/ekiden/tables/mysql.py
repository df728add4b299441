"""``mysql:/path``: a MySQL or MariaDB server (mysql_table(5)), asked through PyMySQL (the extra ``mysql``).

``charset`` is limited to character sets in which no byte of a longer character looks like a quote or a backslash, so
that what is quoted here is quoted for every server.
"""

from __future__ import annotations

import configparser
import functools
import random
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.tables.client_settings import ClientSettings, read_client_settings
from ekiden.tables.key_format import KeyParts
from ekiden.tables.server_pool import Refusal, ServerPool, ServerTrouble, shared_pool
from ekiden.tables.sql_query import Dialect, SqlQuery
from ekiden.tables.sql_table import Rows, SqlTable, pool_limits, shown
from ekiden.tables.stream import ADDRESS_FORMS, ServerAddress, parse_address
from ekiden.tables.table import Opening, TableTrouble
from ekiden.tables.thread_connection import ThreadConnection

if TYPE_CHECKING:
    import pymysql

PORT = 3306

# Python's name for each character set that may be used.
_CHARSETS = {"utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "latin1": "cp1252", "ascii": "ascii"}
# Where the libraries of MySQL and MariaDB look for the socket when the host is "localhost".
_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108
# Errors after which the connection is of no use, or another server might do: of the client itself (2000 up), too many
# connections, shutdown, a broken or killed connection, a lock that was not had (1040 ... in the servers' error lists).
_GONE = frozenset({1040, 1053, 1077, *range(1152, 1162), 1205, 1213, 1927, 4031})


class _Login(Struct, frozen=True):
    user: str
    password: str
    database: str
    charset: str
    timeout_s: float
    tls: tuple[str, str, str, str, bool] | None  # certificate, key, CA file, CA directory, whether the name is verified


def open_type(text: str, opening: Opening) -> MysqlTable:
    """Raises ConfigError."""
    return MysqlTable(read_client_settings("mysql", text, opening.parameters), opening)


class MysqlTable(SqlTable):
    def __init__(self, settings: ClientSettings, opening: Opening) -> None:
        super().__init__(settings, Dialect.MYSQL, opening)
        try:
            import pymysql  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"{self.name}: mysql tables need PyMySQL, which is not installed: pip install 'ekiden[mysql]'"
            ) from error
        servers = settings.servers("hosts", lambda word: parse_address(word, PORT), ADDRESS_FORMS)
        limits = pool_limits(settings, opening)
        options = _option_file(settings)
        charset = settings.choice("charset", "utf8mb4", tuple(_CHARSETS))
        self._encoding = _CHARSETS[charset]
        login = _Login(
            user=settings.text("user", options.get("user", "")),
            password=settings.text("password", options.get("password", "")),
            database=settings.text("dbname", options.get("database", "")),
            charset=charset,
            timeout_s=limits.timeout_s,
            tls=_tls(settings, options),
        )
        self._needs_result = settings.yes("require_result_set", True)
        self._findings = settings.unknown()
        self._pool = shared_pool(
            ("mysql", servers, login, limits),
            lambda: ServerPool(
                servers, functools.partial(_connect, login), limits, order=_shuffled, monotonic=opening.monotonic
            ),
        )

    async def _rows(self, query: SqlQuery, key: KeyParts) -> Rows:
        try:
            key.whole.encode(self._encoding)
        except UnicodeEncodeError:
            return []  # a database in this character set cannot have it
        return await self._pool.ask(
            self.name, lambda connection: connection.run(lambda server: self._ask(server, query, key))
        )

    def _ask(self, server: _Server, query: SqlQuery, key: KeyParts) -> Rows:
        """Runs in the connection's thread. Raises ServerTrouble, Refusal."""
        import pymysql

        if not query.fits(server.escapes):
            text = "the server runs with NO_BACKSLASH_ESCAPES, so the query must have no backslash"
            raise Refusal(f"{self.name}: {text}")
        sql = query.of_key(key, escapes=server.escapes)
        assert sql is not None
        try:
            with server.connection.cursor() as cursor:
                cursor.execute(sql)
                has_rows = cursor.description is not None
                rows = [[_text(value) for value in row] for row in cursor.fetchall()] if has_rows else []
                while cursor.nextset():  # a stored procedure ends with an empty one
                    if cursor.description is not None:
                        raise Refusal(f"{self.name}: the query gave more than one set of results")
        except pymysql.MySQLError as error:
            raise _trouble(self.name, error) from error
        if not has_rows and self._needs_result:
            raise Refusal(f"{self.name}: the query gave no set of results, and require_result_set is yes")
        return rows

    async def close(self) -> None:
        self._pool.close()


class _Server:
    """A connection, and whether a backslash inside a string is an escape there (sql_mode)."""

    def __init__(self, connection: pymysql.Connection, escapes: bool) -> None:
        self.connection = connection
        self.escapes = escapes


async def _connect(login: _Login, address: ServerAddress) -> ThreadConnection[_Server]:
    """Raises ServerTrouble."""
    return await ThreadConnection.open("mysql", lambda: _log_in(login, address), lambda server: _end(server.connection))


def _log_in(login: _Login, address: ServerAddress) -> _Server:
    import pymysql

    path = address.path
    if address.host == "localhost" and address.port == PORT:
        path = next((socket for socket in _SOCKETS if Path(socket).exists()), "")
    if path and not Path(path).exists():  # PyMySQL would leave its own socket open
        raise ServerTrouble("there is no such socket")
    try:
        connection = pymysql.connect(
            host=address.host or "localhost",
            port=address.port or PORT,
            unix_socket=path or None,
            user=login.user or None,
            password=login.password.encode("utf-8", "surrogateescape"),
            database=login.database or None,
            charset=login.charset,
            conv={},  # values stay the text that the server sent
            autocommit=True,
            connect_timeout=login.timeout_s,
            read_timeout=login.timeout_s,
            write_timeout=login.timeout_s,
            program_name="ekiden",
            **({"ssl": _context(*login.tls)} if login.tls is not None else {"ssl_disabled": True}),
        )
    except (pymysql.MySQLError, OSError, ValueError, RuntimeError) as error:
        raise ServerTrouble(shown(error)) from error
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@SESSION.sql_mode")
            row = cursor.fetchone()
    except pymysql.MySQLError as error:
        _end(connection)
        raise ServerTrouble(shown(error)) from error
    modes = str(row[0]).upper() if row else ""
    return _Server(connection, "NO_BACKSLASH_ESCAPES" not in modes.split(","))


def _end(connection: pymysql.Connection) -> None:
    import pymysql

    try:
        connection.close()
    except pymysql.MySQLError:
        return  # it was closed already


def _trouble(name: str, error: Exception) -> ServerTrouble | TableTrouble:
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 2000
    if number in _GONE or 2000 <= number < 3000:
        return ServerTrouble(shown(error))
    return Refusal(f"{name}: {shown(error)}")


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _shuffled(servers: Sequence[ServerAddress]) -> Sequence[ServerAddress]:
    """In random order, those behind sockets of this host first (mysql_table(5), hosts)."""
    mixed = random.sample(servers, len(servers))
    return sorted(mixed, key=lambda server: not server.path)


def _option_file(settings: ClientSettings) -> dict[str, str]:
    """What option_file says in its groups [client] and option_group. Raises ConfigError."""
    group = settings.text("option_group", "client")
    path = settings.text("option_file")
    if not path:
        return {}
    parser = configparser.RawConfigParser(allow_no_value=True, strict=False, comment_prefixes=("#", ";"))
    try:
        parser.read_string("\n".join(_option_lines(Path(path).read_text("utf-8", "surrogateescape"))))
    except (OSError, ValueError, configparser.Error) as error:
        text = getattr(error, "strerror", None) or shown(error)
        raise settings.wrong("option_file", f"cannot be read: {text}") from error
    found: dict[str, str] = {}
    for section in dict.fromkeys(("client", group)):
        if section and parser.has_section(section):
            found.update({name: (value or "").strip("'\"") for name, value in parser.items(section)})
    return found


def _option_lines(text: str) -> list[str]:
    """The lines without !include and !includedir, which have no meaning for a reader of one file."""
    return [line.strip() for line in text.splitlines() if not line.lstrip().startswith("!")]


def _tls(settings: ClientSettings, options: dict[str, str]) -> tuple[str, str, str, str, bool] | None:
    """Raises ConfigError."""
    files = (
        settings.text("tls_cert_file", options.get("ssl-cert", "")),
        settings.text("tls_key_file", options.get("ssl-key", "")),
        settings.text("tls_CAfile", options.get("ssl-ca", "")),
        settings.text("tls_CApath", options.get("ssl-capath", "")),
    )
    verify = settings.yes("tls_verify_cert", False)
    settings.text("tls_ciphers")
    if not any(files) and not verify:
        return None
    try:
        _context(*files, verify)
    except (OSError, ValueError) as error:
        name = next(
            name for name in ("tls_cert_file", "tls_key_file", "tls_CAfile", "tls_CApath", "tls_verify_cert")
            if settings.given(name)
        )  # fmt: skip
        raise settings.wrong(name, f"the certificates or the key cannot be used: {shown(error)}") from error
    return (*files, verify)


@functools.lru_cache(maxsize=16)
def _context(certificate: str, key: str, ca_file: str, ca_path: str, verify: bool) -> ssl.SSLContext:
    """Raises OSError, ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verify
    context.verify_mode = ssl.CERT_REQUIRED if verify or ca_file or ca_path else ssl.CERT_NONE
    if ca_file or ca_path:
        context.load_verify_locations(ca_file or None, None if ca_file else ca_path)
    elif verify:
        context.load_default_certs()
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context
