"""``socketmap:inet:host:port:name`` and ``socketmap:unix:/path:name``: a server that speaks netstrings.

socketmap_table(5), "PROTOCOL". Whoever answers at the address is believed, so it is not for what gives rights.
"""

from __future__ import annotations

from functools import partial

from ekiden.config.errors import ConfigError
from ekiden.protocol.netstring import netstring, parse_netstring
from ekiden.tables.key_format import can_be_asked
from ekiden.tables.server_pool import PoolLimits, Refusal, ServerPool, ServerTrouble, shared_pool
from ekiden.tables.stream import ServerAddress, Stream, parse_address
from ekiden.tables.table import Opening, Table, TableTrouble

# Digits of the length, colon and comma.
_FRAMING_BYTES = 11


def open_type(text: str, opening: Opening) -> SocketmapTable:
    """Raises ConfigError."""
    return SocketmapTable(text, opening)


class SocketmapTable(Table):
    whole_keys = True

    def __init__(self, text: str, opening: Opening) -> None:
        self.name = f"socketmap:{text}"
        address, _, self._map = text.rpartition(":")
        if not address.startswith(("inet:", "unix:")) or not self._map or " " in self._map:
            raise ConfigError(f"{self.name}: write socketmap:inet:host:port:name or socketmap:unix:/path:name")
        try:
            server = parse_address(address, None)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error.text}") from error
        parameters = opening.parameters
        self._query_limit = parameters.socketmap_max_query_size
        self._reply_limit = reply_limit = parameters.socketmap_max_reply_size
        limits = PoolLimits(parameters.table_connection_limit, parameters.table_service_timeout)
        name = f"socketmap:{address}"

        async def connect(server: ServerAddress) -> Stream:
            return await Stream.open(server, reply_limit + _FRAMING_BYTES)

        self._pool = shared_pool(
            (name, reply_limit, limits),
            lambda: ServerPool([server], connect, limits, monotonic=opening.monotonic),
        )

    async def lookup(self, key: str) -> str | None:
        if not can_be_asked(key):
            return None
        request = f"{self._map} {key}".encode("utf-8", "surrogateescape")
        if len(request) > self._query_limit:
            limit = f"socketmap_max_query_size = {self._query_limit}"
            raise TableTrouble(f"{self.name}: a query of {len(request)} bytes, more than {limit}")
        return await self._pool.ask(self.name, partial(self._question, netstring(request)))

    async def _question(self, request: bytes, stream: Stream) -> str | None:
        stream.send(request)
        reply = await stream.receive(partial(parse_netstring, limit=self._reply_limit))
        status, _, data = reply.partition(b" ")
        text = data.decode("utf-8", "surrogateescape")
        if status == b"OK":
            return text
        if status == b"NOTFOUND":
            return None
        if status in (b"TEMP", b"TIMEOUT", b"PERM"):
            raise Refusal(f"{self.name}: {status.decode()} {text[:200]!r}")
        raise ServerTrouble(f"a reply that begins with neither OK, NOTFOUND, TEMP, TIMEOUT nor PERM: {status[:20]!r}")

    async def close(self) -> None:
        self._pool.close()
