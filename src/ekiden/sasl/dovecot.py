"""Login by Dovecot's auth socket (``smtpd_sasl_type = dovecot``): its mechanisms, relayed word by word.

One connection a process, made when it is first needed, for all exchanges at a time. What Dovecot does not answer within
the time, or never answers because it is away, is a temporary failure.
"""

from __future__ import annotations

import asyncio
import itertools
import os

from ekiden.protocol.dovecot_auth import Accepted, Continue, DovecotAuthClient, Event, Mechanism, Ready, Refused
from ekiden.sasl.exchange import Challenge, Facts, Failure, MechanismTraits, Step, Success
from ekiden.tables.server_pool import ServerTrouble
from ekiden.tables.stream import ServerAddress

_READ_BYTES = 65_536


class DovecotMechanisms:
    """``timeout_s`` is for a connect and for each step of an exchange."""

    def __init__(self, server: ServerAddress, timeout_s: float) -> None:
        self._server, self._timeout_s = server, timeout_s
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._offered: tuple[MechanismTraits, ...] = ()

    async def mechanisms(self) -> tuple[MechanismTraits, ...]:
        """Those of last time while Dovecot is away: who tries them hears that it is for now, and not for good."""
        try:
            link = await self.link()
        except (OSError, ServerTrouble, TimeoutError):
            return self._offered
        self._offered = tuple(_traits(each) for each in link.mechanisms if _can_be_relayed(each))
        return self._offered

    def exchange(self) -> DovecotExchange:
        return DovecotExchange(self, self._timeout_s)

    async def link(self) -> _Link:
        """The connection; a new one where there is none or it has ended.

        Raises OSError, ServerTrouble, TimeoutError.
        """
        async with self._connecting:
            if self._link is None or self._link.ended:
                async with asyncio.timeout(self._timeout_s):
                    self._link = await _Link.open(self._server)
            return self._link

    async def aclose(self) -> None:
        if self._link is not None:
            self._link.close()


class _Link:
    """A connection whose greeting is over; answers go to whoever has the number."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._core = DovecotAuthClient(os.getpid())
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Event]] = {}
        self.mechanisms: tuple[Mechanism, ...] = ()
        self.ended = False
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, server: ServerAddress) -> _Link:
        """Raises OSError, ServerTrouble."""
        if server.path:
            reader, writer = await asyncio.open_unix_connection(server.path)
        else:
            reader, writer = await asyncio.open_connection(server.host, server.port)
        link = cls(reader, writer)
        try:
            await link._greet()
        except BaseException:
            link.close()
            raise
        link._reading = asyncio.ensure_future(link._read())
        return link

    async def _greet(self) -> None:
        self._flush()
        while True:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise ServerTrouble("Dovecot closed the connection")
            try:
                events = self._core.receive(data)
            except ValueError as error:
                raise ServerTrouble(f"not Dovecot's auth protocol: {error}") from error
            for event in events:
                if isinstance(event, Ready):
                    self.mechanisms = event.mechanisms
                    return

    async def _read(self) -> None:
        reason = "Dovecot closed the connection"
        try:
            while data := await self._reader.read(_READ_BYTES):
                for event in self._core.receive(data):
                    if not isinstance(event, Ready):
                        self._give(event)
        except OSError as error:
            reason = str(error)
        except ValueError as error:
            reason = f"not Dovecot's auth protocol: {error}"
        finally:
            self._end(reason)

    def _give(self, event: Continue | Accepted | Refused) -> None:
        waiting = self._waiting.pop(event.id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(event)

    def _end(self, reason: str) -> None:
        self.ended = True
        self._writer.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ServerTrouble(reason))
        self._waiting.clear()

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._end("the connection is closed")

    # --- exchanges

    def number(self) -> int:
        return next(self._numbers)

    async def auth(
        self, number: int, mechanism: str, parameters: dict[str, str | None], initial: bytes | None
    ) -> Event:
        """Raises ServerTrouble, ValueError."""
        self._core.auth(number, mechanism, parameters, initial)
        return await self._answer_to(number)

    async def respond(self, number: int, data: bytes) -> Event:
        """Raises ServerTrouble, ValueError."""
        self._core.answer(number, data)
        return await self._answer_to(number)

    def cancel(self, number: int) -> None:
        if not self.ended:
            self._core.cancel(number)
            self._flush()

    async def _answer_to(self, number: int) -> Event:
        if self.ended:
            raise ServerTrouble("Dovecot closed the connection")
        waiting: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self._flush()
        try:
            return await waiting
        finally:
            self._waiting.pop(number, None)

    def _flush(self) -> None:
        self._writer.write(self._core.take_output())


class DovecotExchange:
    """One exchange, all of it over one connection."""

    def __init__(self, mechanisms: DovecotMechanisms, timeout_s: float) -> None:
        self._mechanisms, self._timeout_s = mechanisms, timeout_s
        self._link: _Link | None = None
        self._number = 0
        self._open = False

    async def start(self, mechanism: str, initial: bytes | None, facts: Facts) -> Step:
        try:
            link = self._link = await self._mechanisms.link()
            self._number = link.number()
            self._open = True
            async with asyncio.timeout(self._timeout_s):
                return self._step(await link.auth(self._number, mechanism, _parameters(facts), initial))
        except (OSError, ServerTrouble, TimeoutError) as error:
            return self._trouble(error)
        except ValueError as error:
            self._open = False
            return Failure(str(error), malformed=True)

    async def respond(self, data: bytes) -> Step:
        if self._link is None or not self._open:
            return Failure("a response without an exchange", malformed=True)
        try:
            async with asyncio.timeout(self._timeout_s):
                return self._step(await self._link.respond(self._number, data))
        except (OSError, ServerTrouble, TimeoutError) as error:
            return self._trouble(error)
        except ValueError as error:
            self.abandon()
            return Failure(str(error), malformed=True)

    def abandon(self) -> None:
        if self._link is not None and self._open:
            self._link.cancel(self._number)
        self._open = False

    def _step(self, event: Event) -> Step:
        match event:
            case Continue(data=data):
                return Challenge(data)
            case Accepted(user=user, data=data):
                self._open = False
                return Success(user, data)
            case Refused():
                self._open = False
                return Failure(f"Dovecot: {event.reason}", event.temporary, event.user)
        raise AssertionError("a greeting in the middle of an exchange")

    def _trouble(self, error: Exception) -> Failure:
        if isinstance(error, TimeoutError):
            self.abandon()
        self._open = False
        return Failure(f"Dovecot's auth socket: {error or 'it does not answer'}", temporary=True)


def _can_be_relayed(mechanism: Mechanism) -> bool:
    """Channel binding needs what only this end of the TLS connection knows, and Dovecot is not told."""
    return "private" not in mechanism.traits and not mechanism.name.endswith("-PLUS")


def _traits(mechanism: Mechanism) -> MechanismTraits:
    traits = mechanism.traits
    return MechanismTraits(
        mechanism.name,
        plaintext="plaintext" in traits,
        anonymous="anonymous" in traits,
        dictionary="dictionary" in traits,
        active="active" in traits,
        forward_secrecy="forward-secrecy" in traits,
        mutual="mutual-auth" in traits,
    )


def _parameters(facts: Facts) -> dict[str, str | None]:
    found: dict[str, str | None] = {"service": facts.service, "nologin": None}
    for name, address, port_name, port in (
        ("lip", facts.local_address, "lport", facts.local_port),
        ("rip", facts.remote_address, "rport", facts.remote_port),
    ):
        if address:
            found[name] = address
        if port:
            found[port_name] = str(port)
    if facts.tls:
        found["secured"] = None
    if facts.server_name:
        found["local_name"] = facts.server_name
    if facts.certificate_verified:
        found["valid-client-cert"] = None
        if facts.certificate_name:
            found["cert_username"] = facts.certificate_name
    return found
