"""Connections of one process to the servers of a table: made at the first lookup, reused, given up when idle.

A connection that turns out to be closed is replaced by a new one at once. A server that cannot be reached, breaks off
or is too slow is left alone for a time while the others are asked.
"""

from __future__ import annotations

import asyncio
import collections
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from ekiden.tables.table import Seconds, TableTrouble


class ServerTrouble(Exception):
    """The server was not reached or broke off: the connection is of no more use, and another server may be asked."""


class Refusal(TableTrouble):
    """The server understood and said no: another would say the same, and the connection is as good as before."""


class Unreachable(TableTrouble):
    """No server took a connection."""


class Connection(Protocol):
    @property
    def alive(self) -> bool:
        """False when it is known to be closed."""

    def close(self) -> None:
        """Let go of it without waiting for anything."""


C = TypeVar("C", bound=Connection)
S = TypeVar("S", bound=Hashable)
R = TypeVar("R")


class PoolLimits(Struct, frozen=True):
    """Times are seconds."""

    connections: int
    timeout_s: float  # of a connect, of a question, and of the wait for a free connection
    idle_s: float = 60.0  # after which an unused connection is closed
    retry_s: float = 0.0  # in which a server that failed is not asked


class ServerPool(Generic[S, C]):
    """``order`` gives the servers in the order in which they are tried, anew each time that one is needed."""

    def __init__(
        self,
        servers: Sequence[S],
        connect: Callable[[S], Awaitable[C]],
        limits: PoolLimits,
        *,
        order: Callable[[Sequence[S]], Sequence[S]] = tuple,
        monotonic: Seconds = time.monotonic,
    ) -> None:
        self._servers = tuple(servers)
        self._connect = connect
        self._limits = limits
        self._order = order
        self._monotonic = monotonic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places = asyncio.Semaphore(limits.connections)
        self._idle: collections.deque[tuple[float, S, C]] = collections.deque()  # the longest unused first
        self._sweeping: asyncio.TimerHandle | None = None
        self._rests_until: dict[S, tuple[float, str]] = {}

    async def ask(self, name: str, question: Callable[[C], Awaitable[R]]) -> R:
        """The answer to ``question``, a function that uses a connection; ``name`` is the table that asks.

        It may be called again with another connection after it raised ServerTrouble or an OSError, or took too long.
        Raises TableTrouble.
        """
        self._use_running_loop()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await self._places.acquire()
        except TimeoutError:
            limit = self._limits.connections
            raise TableTrouble(f"{name}: no connection is free, {limit} are in use") from None
        try:
            return await self._ask(name, question)
        finally:
            self._places.release()

    def close(self) -> None:
        """Close what is unused. What is in use is closed when its question has been answered and it has been idle."""
        while self._idle:
            self._idle.popleft()[2].close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    @property
    def unused(self) -> int:
        return len(self._idle)

    async def _ask(self, name: str, question: Callable[[C], Awaitable[R]]) -> R:
        reasons: list[str] = []
        reached = False
        while self._idle:
            _, server, connection = self._idle.pop()
            if not connection.alive:
                connection.close()
                continue
            try:
                return await self._put(question, server, connection)
            except TimeoutError:
                reached = True
                self._let_rest(server, "it does not answer", reasons)
                break
            except (OSError, EOFError, ServerTrouble):
                continue  # it was closed while it was not used
        for server in self._order(self._servers):
            if self._rests(server):
                continue
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    connection = await self._connect(server)
                reached = True
                return await self._put(question, server, connection)
            except TimeoutError:
                self._let_rest(server, "it does not answer", reasons)
            except (OSError, EOFError, ServerTrouble) as error:
                self._let_rest(server, _text_of(error), reasons)
        if not reasons:
            reasons = [f"{server}: {text}" for server, (_, text) in self._rests_until.items()]
        text = f"{name}: {'; '.join(reasons)}"
        raise TableTrouble(text) if reached else Unreachable(text)

    async def _put(self, question: Callable[[C], Awaitable[R]], server: S, connection: C) -> R:
        reusable = False
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                answer = await question(connection)
            reusable = True
        except Refusal:
            reusable = True
            raise
        finally:
            if reusable and connection.alive:
                self._keep(server, connection)
            else:
                connection.close()
        return answer

    # -- servers that failed ---------------------------------------------------------------------------------------

    def _let_rest(self, server: S, reason: str, reasons: list[str]) -> None:
        reasons.append(f"{server}: {reason}")
        self._rests_until[server] = (self._monotonic() + self._limits.retry_s, reason)

    def _rests(self, server: S) -> bool:
        until, _ = self._rests_until.get(server, (0.0, ""))
        if server in self._rests_until and self._monotonic() >= until:
            del self._rests_until[server]
        return server in self._rests_until

    # -- connections that are not in use ---------------------------------------------------------------------------

    def _use_running_loop(self) -> None:
        """Connections belong to an event loop; those of one that has ended are forgotten."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._idle.clear()
            self._sweeping = None
            self._places = asyncio.Semaphore(self._limits.connections)
            self._loop = loop

    def _keep(self, server: S, connection: C) -> None:
        self._idle.append((self._monotonic(), server, connection))
        if self._sweeping is None:
            self._sweep_later(self._limits.idle_s)

    def _sweep_later(self, seconds: float) -> None:
        assert self._loop is not None
        self._sweeping = self._loop.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        now = self._monotonic()
        while self._idle and now - self._idle[0][0] >= self._limits.idle_s:
            self._idle.popleft()[2].close()
        if self._idle:
            self._sweep_later(max(0.05, self._limits.idle_s - (now - self._idle[0][0])))


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or "the connection was closed"


# Tables that are opened several times (a list for each restriction, each class of domains ...) ask through one pool. An
# entry goes when the last of its tables does, at the latest when its connections have been idle.
_SHARED: weakref.WeakValueDictionary[Hashable, ServerPool[object, Connection]] = weakref.WeakValueDictionary()


def shared_pool(key: Hashable, make: Callable[[], ServerPool[S, C]]) -> ServerPool[S, C]:
    """The pool for ``key``, which says everything that matters for its connections; made if there is none."""
    found = _SHARED.get(key)
    if found is None:
        made = make()
        _SHARED[key] = made  # type: ignore[assignment]
        return made
    return found  # type: ignore[return-value]
