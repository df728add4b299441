"""The driver between a socket and a session's coroutine: bytes in on request, bytes out in one write, a deadline.

A session waits for one thing at a time, so one waiter is enough. Deadlines of all connections of a worker are
looked at by one timer (DeadlineWatch): ten thousand idle sessions cost no timer each.

TLS is a layer of our own between the two, not the event loop's: so what came before the handshake, and how long it
takes, is decided here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ekiden.net.outbox import Outbox, Output
from ekiden.tls.layer import TlsFailure, TlsLayer

# Bytes of a client that may wait while its session is busy; then reading pauses and TCP slows the client down.
_READ_AHEAD_BYTES = 262_144


class ServerStops(Exception):
    """Raised once out of read(): the server stops, and a session that is between messages should end now."""


class Session(Protocol):
    def run(self) -> Coroutine[Any, Any, None]:
        """The conversation on a connection, from its beginning to its end."""


class DeadlineWatch:
    """Ends the waiting of connections whose deadline has passed, once a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float = 1.0) -> None:
        self._loop = loop
        self._interval_s = interval_s
        self._timer: asyncio.TimerHandle | None = None
        self.connections: set[Connection] = set()

    def add(self, connection: Connection) -> None:
        self.connections.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for connection in [late for late in self.connections if late.deadline < now]:
            connection.expire()
        if self.connections:
            self._timer = self._loop.call_later(self._interval_s, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(asyncio.Protocol):
    """One accepted connection; the conversation is its session's to hold."""

    __slots__ = (
        "_eof",
        "_hurried",
        "_layer",
        "_outbox",
        "_output",
        "_paused_reading",
        "_received",
        "_session",
        "_task",
        "_waiter",
        "_watch",
        "_writable",
        "congested",
        "deadline",
        "expired",
        "loop",
        "lost",
        "transport",
        "write",
    )

    def __init__(
        self,
        session: Callable[[Connection], Session],
        watch: DeadlineWatch,
        outbox: Outbox,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._session = session
        self._watch = watch
        self._outbox = outbox
        self.loop = loop
        self.deadline = float("inf")
        self.expired = False
        self.lost = False
        self.congested = False  # the client does not read its replies: the session must wait for writable()
        self._eof = False
        self._hurried = False
        self._layer: TlsLayer | None = None
        self._paused_reading = False
        self._received: bytes = b""
        self._waiter: asyncio.Future[bytes] | None = None  # who reads, while there is nothing to read
        self._writable: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        # Takes bytes for the client, which leave with the outbox.
        self.write: Callable[[bytes], None] = _say_nothing

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._output = Output(self._outbox, self.transport)
        self.write = self._output.say
        self._watch.add(self)
        self._task = self.loop.create_task(self._session(self).run())

    def data_received(self, data: bytes) -> None:
        if self._layer is not None:
            data = self._decrypted(self._layer, data)
            if not data:
                return
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            try:
                waiter.set_result(data)
                return
            except asyncio.InvalidStateError:  # the session was cancelled
                pass
        self._received = self._received + data if self._received else data
        if len(self._received) >= _READ_AHEAD_BYTES and not self._paused_reading:
            self._paused_reading = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return True  # the client may have closed its side only: it still gets its replies

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self._eof = True
        self.write = _say_nothing
        self._output.drop()
        if self in self._watch.connections:  # else we closed it
            self._watch.connections.discard(self)
        if self._waiter is not None:
            self._wake()
        if self.congested:
            self.resume_writing()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable, self.congested = self.loop.create_future(), True

    def resume_writing(self) -> None:
        writable, self._writable, self.congested = self._writable, None, False
        if writable is not None and not writable.done():
            writable.set_result(None)

    # What a session calls.

    @property
    def local_peer(self) -> tuple[str, int] | None:
        """Who is at the other end of a socket of this host, whose address is its place in the file system; else None.

        As in Postfix, that is a client at the loopback address: who may connect, the file system has decided.
        """
        sock = self.transport.get_extra_info("socket")
        return ("127.0.0.1", 0) if sock is not None and sock.family == socket.AF_UNIX else None

    def read(self) -> asyncio.Future[bytes]:
        """The next bytes of the client; b"" when it has closed. Raises TimeoutError at the deadline, ServerStops.

        To be awaited at once. (It is no coroutine, for every command would go through it.)
        """
        waiter: asyncio.Future[bytes] = self.loop.create_future()
        if self._received or self._hurried or self.expired or self._eof:
            self._answer(waiter)
        else:
            self._waiter = waiter
        return waiter

    def _answer(self, waiter: asyncio.Future[bytes]) -> None:
        """What the client has said is read before the reason why it says no more."""
        if self._received:
            waiter.set_result(self._received)
            self._received = b""
            if self._paused_reading:
                self._paused_reading = False
                self.transport.resume_reading()
        elif self._hurried:
            self._hurried = False
            waiter.set_exception(ServerStops())
        elif self.expired:
            waiter.set_exception(TimeoutError())
        else:
            waiter.set_result(b"")

    def unread(self, data: bytes) -> None:
        """Give back what was read too much: it is what read() returns next."""
        self._received = data + self._received

    def _write_encrypted(self, data: bytes) -> None:
        assert self._layer is not None
        try:
            data = self._layer.send(data)
        except TlsFailure:
            self.abort()
            return
        self._output.say(data)

    @property
    def has_unread(self) -> bool:
        """The client has said more than the session has read."""
        return bool(self._received)

    @property
    def encryption(self) -> ssl.SSLObject | None:
        """The TLS connection, once its handshake is done."""
        return self._layer.connection if self._layer is not None else None

    async def start_tls(self, layer: TlsLayer) -> None:
        """The handshake: what comes from now on is TLS, and so is what has come and nobody has read.

        Raises TlsFailure, TimeoutError at the deadline, ServerStops; the connection is of no more use then, and says
        nothing any more.
        """
        self._output.send()
        self.write = _say_nothing  # what can be said is the handshake's
        while True:
            data = await self.read()
            if self._received:  # it came since, and before we woke up
                data += await self.read()
            if not data:
                raise TlsFailure("lost connection")
            try:
                done = layer.handshake(data)
                # What the client said at once behind its part of the handshake.
                early = layer.receive(b"") if done else b""
            finally:
                # After a failure that is an alert, which tells the client why.
                if (output := layer.take_output()) and not self.lost:
                    self.transport.write(output)
            if done:
                break
        self._layer = layer
        if not self.lost:
            self.write = self._write_encrypted
        self._received = early
        if layer.ended:
            self._eof = True

    def _decrypted(self, layer: TlsLayer, data: bytes) -> bytes:
        """What the client says in ``data``; what cannot be read ends the connection, as if it were cut."""
        try:
            data = layer.receive(data)
        except TlsFailure:
            data = b""
            self._eof = True
        if layer.ended:
            self._eof = True
        if (output := layer.take_output()) and not self.lost:
            self._output.say(output)
        if self._eof and not data:
            self._wake()
        return data

    async def writable(self) -> None:
        """Wait until the client has taken what was written. Raises TimeoutError at the deadline."""
        while self._writable is not None and not self.lost:
            if self.expired:
                raise TimeoutError
            await asyncio.shield(self._writable)

    def close(self) -> None:
        """Send what is written, then close."""
        self._watch.connections.discard(self)
        if self._layer is not None and not self.lost:
            self._layer.close()
            self._output.say(self._layer.take_output())
        self._output.close()

    def abort(self) -> None:
        self._watch.connections.discard(self)
        self.write = _say_nothing
        self._output.abort()

    def hurry(self) -> None:
        """The server stops: who waits for a command learns it now."""
        self._hurried = True
        self._wake()

    def expire(self) -> None:
        """The deadline has passed: whoever waits gets TimeoutError."""
        self.expired = True
        self.deadline = float("inf")
        self._wake()
        self.resume_writing()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            self._answer(waiter)


def _say_nothing(_data: bytes) -> None:
    """What writing comes to while nobody can be told anything."""
