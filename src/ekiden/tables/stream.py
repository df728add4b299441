"""A connection to a server that gives one reply to one request, and how servers are named (``inet:``, ``unix:``)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.tables.server_pool import ServerTrouble

T = TypeVar("T")


class ServerAddress(Struct, frozen=True):
    """A host and port, or with an empty host the path of a socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# How an address is written, for errors.
ADDRESS_FORMS = "host, host:port or unix:/path"


def parse_address(text: str, port: int | None) -> ServerAddress:
    """``inet:host:port``, ``host:port``, ``[address]:port`` or ``unix:/path``; ``port`` is for where none is written.

    Raises ConfigError.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in ("unix", "local"):
        if not rest.startswith("/"):
            raise ConfigError(f"{text!r}: write unix:/path, the full path of the socket")
        return ServerAddress("", 0, rest)
    if colon and kind == "inet":
        text = rest
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        written = rest.removeprefix(":") if bracket and rest.startswith(":") else ("" if bracket and not rest else "?")
    elif text.count(":") > 1:
        host, written = text, "?"
    else:
        host, colon, written = text.partition(":")
        written = written or ("?" if colon else "")
    number = port if not written else int(written) if written.isascii() and written.isdigit() else -1
    if not host or number is None or not 0 < number < 65536 or any(char in host for char in " /\0"):
        example = "host:port" if port is None else "host or host:port"
        raise ConfigError(f"{text!r} is not a server: write inet:{example} ([address]:port for IPv6) or unix:/path")
    return ServerAddress(host, number)


class Stream(asyncio.Protocol):
    """Bytes to and from one server. ``limit_bytes``: the most that a reply may have, framing included."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._ended = False

    @classmethod
    async def open(cls, server: ServerAddress, limit_bytes: int, tls: ssl.SSLContext | None = None) -> Stream:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        if server.path:
            _, stream = await loop.create_unix_connection(lambda: cls(limit_bytes), server.path)
        else:
            name = server.host if tls is not None else None
            _, stream = await loop.create_connection(
                lambda: cls(limit_bytes), server.host, server.port, ssl=tls, server_hostname=name
            )
        return stream

    async def start_tls(self, tls: ssl.SSLContext, host: str) -> None:
        """Raises OSError, ServerTrouble."""
        assert self._transport is not None
        if self._buffer:  # it was sent before the encryption, by whoever was on the way
            raise ServerTrouble("the server sent something before TLS was there")
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self._transport, self, tls, server_hostname=host)
        if transport is None:
            raise ServerTrouble("the connection was closed while TLS began")
        self._transport = transport

    @property
    def alive(self) -> bool:
        """False also when something came that nobody asked for: the next reply would be taken for another's."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._ended and not self._buffer

    def send(self, data: bytes) -> None:
        if self._transport is None or self._ended:
            raise ServerTrouble("the server closed the connection")
        self._transport.write(data)

    async def receive(self, parse: Callable[[bytes | bytearray], tuple[T, int] | None]) -> T:
        """The next reply. ``parse`` finds it in what came so far: the value and its length, None when more is needed.

        A ValueError of ``parse``, the end of the connection and a reply above the limit are ServerTrouble.
        """
        while True:
            try:
                found = parse(self._buffer)
            except ValueError as error:
                raise ServerTrouble(f"a reply that cannot be understood: {error}") from error
            if found is not None:
                value, used = found
                del self._buffer[:used]
                return value
            if len(self._buffer) > self._limit:
                raise ServerTrouble(f"a reply longer than {self._limit} bytes")
            if self._ended:
                raise ServerTrouble("the server closed the connection")
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    def close(self) -> None:
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # those of uvloop are no such class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > 2 * self._limit and self._transport is not None:
            self._transport.abort()  # it sends without end what nobody asked for
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
