"""A connection to an LDAP server: TLS, bind, searches one after the other."""

from __future__ import annotations

import ssl
from functools import partial
from urllib.parse import unquote

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.protocol.ldap import messages
from ekiden.protocol.ldap.messages import Done, Entry, Scope
from ekiden.tables.server_pool import Refusal, ServerTrouble
from ekiden.tables.stream import ServerAddress, Stream, parse_address

MESSAGE_BYTES = 8_388_608
_PORTS = {"ldap": 389, "ldaps": 636}
# Results after which another server might do (RFC 4511 §4.1.9): busy, unavailable, unwilling to perform.
_GONE = frozenset({51, 52, 53})


class LdapServer(Struct, frozen=True):
    address: ServerAddress
    tls: bool = False  # from the first byte on (ldaps)

    def __str__(self) -> str:
        return f"ldaps://{self.address}" if self.tls else str(self.address)


class LdapLogin(Struct, frozen=True):
    """``mechanism``: "simple", "external", or "" for none."""

    mechanism: str
    name: str
    password: str
    start_tls: bool
    tls: ssl.SSLContext | None


class Search(Struct, frozen=True):
    base: str
    scope: Scope
    filter: bytes  # encoded
    attributes: tuple[str, ...]
    dereference: int
    size_limit: int
    timeout_s: float


def parse_server(word: str, port: int) -> LdapServer:
    """``host``, ``host:port``, ``ldap://host:port``, ``ldaps://host``, ``ldapi://%2Fpath``. Raises ConfigError."""
    scheme, separator, rest = word.partition("://")
    if not separator:
        return LdapServer(parse_address(f"inet:{word}", port))
    rest = rest.rstrip("/")
    if scheme == "ldapi":
        return LdapServer(parse_address(f"unix:{unquote(rest) or '/run/ldapi'}", None))
    if scheme not in _PORTS or "/" in rest:
        raise ConfigError(f"{word!r} is not a server: write ldap://host:port, ldaps://host:port or ldapi://%2Fpath")
    return LdapServer(parse_address(f"inet:{rest or 'localhost'}", _PORTS[scheme]), tls=scheme == "ldaps")


class LdapConnection:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._number = 0

    @classmethod
    async def open(cls, login: LdapLogin, server: LdapServer) -> LdapConnection:
        """Raises OSError, ServerTrouble."""
        stream = await Stream.open(server.address, MESSAGE_BYTES, login.tls if server.tls else None)
        connection = cls(stream)
        try:
            if login.start_tls and not server.tls and login.tls is not None:
                await connection._finish("STARTTLS", messages.start_tls_request(connection._next()))
                await stream.start_tls(login.tls, server.address.host)
            if login.mechanism == "simple":
                request = messages.bind_request(connection._next(), login.name, login.password)
                await connection._finish("the bind", request)
            elif login.mechanism == "external":
                await connection._finish("the bind", messages.bind_external_request(connection._next(), login.name))
        except BaseException:
            stream.close()
            raise
        return connection

    async def bind(self, name: str, password: str) -> Done:
        """Whether the server takes a name and a password, in its own words. Raises ServerTrouble.

        An empty password must not come here: such a bind succeeds as nobody, whatever the name (RFC 4513 §5.1.2).
        """
        if not name or not password:
            raise ValueError("a bind needs a name and a password")
        self._stream.send(messages.bind_request(self._next(), name, password))
        message = await self._receive(self._number)
        if not isinstance(message, Done):
            raise ServerTrouble("an answer to no question")
        return message

    async def search(self, wanted: Search, name: str) -> list[Entry]:
        """What is found; nothing where the base does not exist. Raises ServerTrouble, Refusal."""
        number = self._next()
        self._stream.send(
            messages.search_request(
                number,
                wanted.base,
                wanted.scope,
                wanted.filter,
                wanted.attributes,
                dereference=wanted.dereference,
                size_limit=wanted.size_limit,
                time_limit_s=max(1, round(wanted.timeout_s)),
            )
        )
        found: list[Entry] = []
        while True:
            message = await self._receive(number)
            if isinstance(message, Entry):
                found.append(message)
            elif isinstance(message, Done):
                if message.code in (messages.SUCCESS, messages.NO_SUCH_OBJECT):
                    return found
                if message.code in _GONE:
                    raise ServerTrouble(str(message))
                raise Refusal(f"{name}: the server says: {message}")

    @property
    def alive(self) -> bool:
        return self._stream.alive

    def close(self) -> None:
        if self._stream.alive:
            self._stream.send(messages.unbind_request(self._next()))
        self._stream.close()

    async def _finish(self, what: str, request: bytes) -> None:
        """Send a request that has one answer, which must be success. Raises ServerTrouble."""
        self._stream.send(request)
        message = await self._receive(self._number)
        if not isinstance(message, Done) or message.code != messages.SUCCESS:
            raise ServerTrouble(f"{what} is refused: {message}")

    async def _receive(self, number: int) -> Entry | Done | messages.Other:
        message = await self._stream.receive(partial(messages.parse_message, limit=MESSAGE_BYTES))
        if message.id != number:  # 0: the server says that it closes the connection (RFC 4511 §4.4.1)
            raise ServerTrouble(f"the server says: {message}" if message.id == 0 else "an answer to no question")
        return message

    def _next(self) -> int:
        self._number = self._number % (2**31 - 1) + 1
        return self._number
