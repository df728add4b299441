"""``redis:/path``: string values of a Redis or Valkey server.

The parameters are in the habit of Postfix's other clients: host, port and prefix of the patch that distributions have;
key_format, domain and timeout of memcache_table(5); hosts (tried in their order), user, password, dbname (a number),
result_format, expansion_limit, idle_interval and retry_interval of mysql_table(5).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ekiden.protocol.resp import Reply, RespError, parse_reply, request
from ekiden.tables.client_settings import ClientSettings, read_client_settings
from ekiden.tables.key_format import Format, KeyDomains, KeyParts, can_be_asked, joined
from ekiden.tables.server_pool import PoolLimits, Refusal, ServerPool, ServerTrouble, shared_pool
from ekiden.tables.stream import ADDRESS_FORMS, ServerAddress, Stream, parse_address
from ekiden.tables.table import Finding, Opening, Table, folded

PORT = 6379
_VALUE_BYTES = 100_000
_KEYS_A_REQUEST = 100


def open_type(text: str, opening: Opening) -> RedisTable:
    """Raises ConfigError."""
    return RedisTable(read_client_settings("redis", text, opening.parameters), opening)


class RedisTable(Table):
    def __init__(self, settings: ClientSettings, opening: Opening) -> None:
        self.name = settings.table
        self._fold = opening.fold
        port = settings.number("port", PORT, minimum=1, maximum=65535)
        given = "hosts" if settings.given("hosts") else "host"
        servers = settings.servers(given, lambda word: parse_address(word, port), ADDRESS_FORMS)
        self._prefix = settings.text("prefix")
        self._key_format = settings.read("key_format", "%s", Format)
        self._result_format = settings.read("result_format", "%s", Format)
        self._domains = KeyDomains(settings.words("domain"), opening)
        self._expansion_limit = settings.number("expansion_limit", 0)
        login = (
            settings.text("user"),
            settings.text("password"),
            settings.number("dbname", 0, maximum=65535),
        )
        limits = PoolLimits(
            opening.parameters.table_connection_limit,
            settings.seconds("timeout", opening.parameters.table_lookup_timeout, minimum=1),
            settings.seconds("idle_interval", 60, minimum=1),
            settings.seconds("retry_interval", 0),
        )
        self._findings = settings.unknown()
        self._pool = shared_pool(
            ("redis", servers, login, limits),
            lambda: ServerPool(servers, partial(_connect, *login), limits, monotonic=opening.monotonic),
        )

    async def lookup(self, key: str) -> str | None:
        return (await self.lookup_many([key]))[0]

    async def lookup_many(self, keys: Sequence[str]) -> list[str | None]:
        parts = [KeyParts.of(folded(key, self._fold)) for key in keys]
        names: list[bytes | None] = []
        for part in parts:
            name = self._key_format.of_key(part) if await self._domains.include(part) else None
            can = name is not None and can_be_asked(part.whole) and self._result_format.has_all_of(part)
            names.append((self._prefix + (name or "")).encode("utf-8", "surrogateescape") if can else None)
        wanted = list(dict.fromkeys(name for name in names if name is not None))
        values: dict[bytes, str | None] = {}
        for at in range(0, len(wanted), _KEYS_A_REQUEST):
            values |= await self._pool.ask(self.name, partial(self._question, wanted[at : at + _KEYS_A_REQUEST]))
        limit = self._expansion_limit
        return [
            None if name is None else joined(self.name, [values[name]], self._result_format, part, limit)
            for name, part in zip(names, parts, strict=True)
        ]

    async def _question(self, names: Sequence[bytes], stream: Stream) -> dict[bytes, str | None]:
        single = len(names) == 1  # GET tells that a value is no string; MGET takes it for none at all
        reply = await _command(stream, b"GET" if single else b"MGET", *names)
        if isinstance(reply, RespError):
            raise Refusal(f"{self.name}: the server says: {reply}")
        items = [reply] if single else reply
        if not isinstance(items, list) or len(items) != len(names):
            raise ServerTrouble("a reply that does not fit the command")
        found: dict[bytes, str | None] = {}
        for name, item in zip(names, items, strict=True):
            if item is not None and not isinstance(item, bytes):
                raise ServerTrouble("a reply that does not fit the command")
            found[name] = None if item is None else item.decode("utf-8", "surrogateescape")
        return found

    def check(self) -> list[Finding]:
        return self._findings

    async def close(self) -> None:
        self._pool.close()


async def _connect(user: str, password: str, database: int, server: ServerAddress) -> Stream:
    """Raises OSError, ServerTrouble."""
    stream = await Stream.open(server, _KEYS_A_REQUEST * (_VALUE_BYTES + 100))
    try:
        if password:
            words = [user, password] if user else [password]
            await _expect_ok(stream, b"AUTH", *(word.encode("utf-8", "surrogateescape") for word in words))
        if database:
            await _expect_ok(stream, b"SELECT", str(database).encode())
    except BaseException:
        stream.close()
        raise
    return stream


async def _expect_ok(stream: Stream, *words: bytes) -> None:
    reply = await _command(stream, *words)
    if reply != b"OK":
        raise ServerTrouble(f"{words[0].decode()} is refused: {reply!s}")


async def _command(stream: Stream, *words: bytes) -> Reply:
    stream.send(request(words))
    return await stream.receive(partial(parse_reply, value_limit=_VALUE_BYTES))
