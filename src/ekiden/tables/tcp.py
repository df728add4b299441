"""``tcp:host:port``: a server that answers ``get key`` line by line (tcp_table(5), "PROTOCOL DESCRIPTION").

Whoever answers at the address is believed, so it is not for what gives rights.
"""

from __future__ import annotations

import re
from functools import partial

from ekiden.config.errors import ConfigError
from ekiden.tables.key_format import can_be_asked
from ekiden.tables.server_pool import PoolLimits, Refusal, ServerPool, ServerTrouble, shared_pool
from ekiden.tables.stream import ServerAddress, Stream, parse_address
from ekiden.tables.table import Opening, Table

REPLY_BYTES = 4096  # the line end included

# What must be encoded: "%", white space, and what is not printable ASCII.
_UNSAFE = re.compile(rb"[^\x21-\x24\x26-\x7e]")
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})?")


def open_type(text: str, opening: Opening) -> TcpTable:
    """Raises ConfigError."""
    return TcpTable(text, opening)


class TcpTable(Table):
    whole_keys = True

    def __init__(self, text: str, opening: Opening) -> None:
        self.name = name = f"tcp:{text}"
        try:
            server = parse_address(f"inet:{text}", None)
        except ConfigError as error:
            raise ConfigError(f"{name}: write tcp:host:port, for IPv6 tcp:[address]:port") from error
        parameters = opening.parameters
        limits = PoolLimits(parameters.table_connection_limit, parameters.table_service_timeout)

        async def connect(server: ServerAddress) -> Stream:
            return await Stream.open(server, REPLY_BYTES)

        self._pool = shared_pool(
            (name, limits), lambda: ServerPool([server], connect, limits, monotonic=opening.monotonic)
        )

    async def lookup(self, key: str) -> str | None:
        if not can_be_asked(key):
            return None
        return await self._pool.ask(self.name, partial(self._question, encode(key)))

    async def _question(self, key: bytes, stream: Stream) -> str | None:
        stream.send(b"get " + key + b"\n")
        status, text = await stream.receive(parse_reply)
        if status == 200:
            return text
        if status == 500:
            return None
        if status == 400:
            raise Refusal(f"{self.name}: the server says: {text[:200]!r}")
        raise ServerTrouble(f"a reply with the status {status}, which is none of 200, 400, 500")

    async def close(self) -> None:
        self._pool.close()


def encode(key: str) -> bytes:
    raw = key.encode("utf-8", "surrogateescape")
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], raw)


def parse_reply(buffer: bytes | bytearray) -> tuple[tuple[int, str], int] | None:
    """Status and decoded text of the first line, and its length; None when it is not whole. Raises ValueError."""
    end = buffer.find(b"\n", 0, REPLY_BYTES)
    if end < 0:
        if len(buffer) >= REPLY_BYTES:
            raise ValueError(f"a line of more than {REPLY_BYTES} bytes")
        return None
    status, _, text = bytes(buffer[:end]).removesuffix(b"\r").partition(b" ")
    if len(status) != 3 or not status.isdigit():
        raise ValueError("a line without a status of three digits")
    return (int(status), _ENCODED.sub(_decoded, text).decode("utf-8", "surrogateescape")), end + 1


def _decoded(found: re.Match[bytes]) -> bytes:
    if found[1] is None:
        raise ValueError("a % that is not followed by two hexadecimal digits")
    return bytes([int(found[1], 16)])
