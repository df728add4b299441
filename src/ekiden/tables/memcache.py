"""``memcache:/path``: values in a memcached, perhaps in front of another table (memcache_table(5)).

What the backup table answers is put into the memcached for the next time. Anybody who reaches a memcached can write to
it, so it is not for what gives rights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from ekiden.protocol.memcache import (
    KEY_BYTES,
    MemcacheError,
    get_request,
    parse_stored,
    parse_values,
    set_request,
    valid_key,
)
from ekiden.tables.client_settings import ClientSettings, read_client_settings
from ekiden.tables.key_format import Format, KeyDomains, KeyParts, can_be_asked
from ekiden.tables.server_pool import PoolLimits, Refusal, ServerPool, Unreachable, shared_pool
from ekiden.tables.stream import ServerAddress, Stream, parse_address
from ekiden.tables.table import Finding, Opening, Table, TableTrouble, folded

_KEYS_A_REQUEST = 100


def open_type(text: str, opening: Opening) -> MemcacheTable:
    """Raises ConfigError."""
    return MemcacheTable(read_client_settings("memcache", text, opening.parameters), opening)


class MemcacheTable(Table):
    def __init__(self, settings: ClientSettings, opening: Opening) -> None:
        self.name = settings.table
        self._fold = opening.fold
        server = settings.read("memcache", "inet:localhost:11211", lambda text: parse_address(text, 11211))
        self._key_format = settings.read("key_format", "%s", Format)
        self._domains = KeyDomains(settings.words("domain"), opening)
        backup = settings.text("backup")
        self._backup = opening.open(backup) if backup else None
        self._flags = settings.number("flags", 0, maximum=2**16 - 1)
        self._ttl = settings.number("ttl", 3600)
        self._data_limit = settings.number("data_size_limit", 10240, minimum=1)
        self._line_limit = settings.number("line_size_limit", 1024, minimum=KEY_BYTES + 50)
        self._tries = settings.number("max_try", 2, minimum=1)
        self._pause_s = settings.seconds("retry_pause", 1)
        timeout_s = settings.seconds("timeout", 2, minimum=1)
        limits = PoolLimits(opening.parameters.table_connection_limit, timeout_s)
        reply_limit = _KEYS_A_REQUEST * (self._data_limit + self._line_limit)
        self._findings = settings.unknown()

        async def connect(server: ServerAddress) -> Stream:
            return await Stream.open(server, reply_limit)

        name = f"memcache:{server}"
        self._pool = shared_pool(
            (name, reply_limit, limits),
            lambda: ServerPool([server], connect, limits, monotonic=opening.monotonic),
        )

    async def lookup(self, key: str) -> str | None:
        return (await self.lookup_many([key]))[0]

    async def lookup_many(self, keys: Sequence[str]) -> list[str | None]:
        keys = [folded(key, self._fold) for key in keys]
        stored: dict[str, bytes] = {}  # the keys that may be asked for at all, as memcached has them
        for key in keys:
            parts = KeyParts.of(key)
            if not can_be_asked(key):
                continue
            if await self._domains.include(parts) and (name := self._key_format.of_key(parts)) is not None:
                stored[key] = name.encode("utf-8", "surrogateescape")
        found = await self._cached(stored)
        return [found.get(key) if key in stored else None for key in keys]

    async def _cached(self, stored: dict[str, bytes]) -> dict[str, str]:
        """The values there are. Raises TableTrouble."""
        names = [name for name in stored.values() if valid_key(name)]
        values: dict[bytes, bytes] = {}
        trouble = False
        try:
            for at in range(0, len(names), _KEYS_A_REQUEST):
                values |= await self._get(names[at : at + _KEYS_A_REQUEST])
        except TableTrouble:
            if self._backup is None:
                raise
            trouble = True
        found = {key: values[name].decode("utf-8", "surrogateescape") for key, name in stored.items() if name in values}
        if self._backup is None:
            return found
        missing = [key for key in stored if key not in found]
        for key, value in zip(missing, await self._backup.lookup_many(missing), strict=True):
            if value is None:
                continue
            found[key] = value
            if not trouble and valid_key(stored[key]):
                await self._put(stored[key], value)
        return found

    async def _get(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        for left in reversed(range(self._tries)):
            try:
                return await self._pool.ask(self.name, partial(self._ask, names))
            except (Unreachable, Refusal):
                raise
            except TableTrouble:
                if not left:
                    raise
            await asyncio.sleep(self._pause_s)
        raise AssertionError("max_try is at least 1")

    async def _ask(self, names: Sequence[bytes], stream: Stream) -> dict[bytes, bytes]:
        stream.send(get_request(names))
        reply = await stream.receive(
            partial(parse_values, line_limit=self._line_limit, data_limit=self._data_limit),
        )
        if isinstance(reply, MemcacheError):
            raise Refusal(f"{self.name}: the server says: {reply}")
        return reply

    async def _put(self, name: bytes, value: str) -> None:
        """The next lookup is only slower when this does not work, and says so if it cannot be done at all."""
        data = value.encode("utf-8", "surrogateescape")
        if len(data) > self._data_limit:
            return
        request = set_request(name, data, self._flags, self._ttl)

        async def question(stream: Stream) -> None:
            stream.send(request)
            reply = await stream.receive(partial(parse_stored, line_limit=self._line_limit))
            if isinstance(reply, MemcacheError):
                raise Refusal(str(reply))

        try:
            await self._pool.ask(self.name, question)
        except TableTrouble:
            return

    def check(self) -> list[Finding]:
        return self._findings

    async def close(self) -> None:
        self._pool.close()
        if self._backup is not None:
            await self._backup.close()
