"""The connections of one agent: those that wait for the next message to their next hop, and those on their way out."""

from __future__ import annotations

import asyncio

from ekiden.deliver.connection import Connection
from ekiden.deliver.smtp_settings import SmtpSettings


class ConnectionPool:
    """Idle connections by next hop, the newest first out. One timer for all of them closes the old ones."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._idle: dict[str, list[Connection]] = {}
        self._idle_count = 0
        self._open: set[Connection] = set()  # every connection that has a socket
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing = False

    @property
    def idle_count(self) -> int:
        return self._idle_count

    @property
    def open_count(self) -> int:
        return len(self._open)

    def opened(self, connection: Connection) -> None:
        """A connection was made: it is known here until its socket is closed."""
        self._open.add(connection)
        connection.closed.add_done_callback(lambda _: self._open.discard(connection))

    def take(self, next_hop: str) -> Connection | None:
        """An idle connection that can still be used, no longer in the pool."""
        waiting = self._idle.get(next_hop)
        while waiting:
            connection = waiting.pop()
            self._idle_count -= 1
            if not waiting:
                del self._idle[next_hop]
            if connection.usable:
                return connection
            connection.abort()
        return None

    def give_back(self, next_hop: str, connection: Connection) -> None:
        """Keep a connection for the next message, or retire it when its time has come."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        now = loop.time()
        if (
            self._closing
            or not (settings.cache or self._is_kept(next_hop))
            or not connection.usable
            or settings.cache_limit == 0
            or now - connection.born >= settings.reuse_time_s
            # The first use of a connection does not use it again.
            or 0 < settings.reuse_count < connection.uses
        ):
            self.retire(connection)
            return
        if self._idle_count >= settings.cache_limit:
            self._retire_longest_idle()
        connection.idle_since = now
        self._idle.setdefault(next_hop, []).append(connection)
        self._idle_count += 1
        if self._sweeper is None:
            self._sweeper = loop.call_at(now + settings.cache_time_s, self._sweep)

    def _is_kept(self, next_hop: str) -> bool:
        """smtp_connection_cache_destinations, which name next hops or their hosts."""
        kept = self._settings.cache_destinations
        if not kept:
            return False
        name = next_hop.lower()
        return name in kept or name.partition(":")[0].strip("[]") in kept

    def retire(self, connection: Connection) -> None:
        connection.retire(wait_for_reply=not self._settings.skip_quit_response and not self._closing)

    async def close(self) -> None:
        """Retire all idle connections and see every socket closed, without waiting for any server."""
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for waiting in self._idle.values():
            for connection in waiting:
                self.retire(connection)
        self._idle.clear()
        self._idle_count = 0
        leaving = [connection.closed for connection in self._open]
        if leaving:
            # One turn of the loop lets what is buffered go out; then there is nothing left that is worth waiting for.
            await asyncio.sleep(0)
            for connection in tuple(self._open):
                connection.abort()
            await asyncio.wait(leaving)

    def _sweep(self) -> None:
        self._sweeper = None
        loop = asyncio.get_running_loop()
        horizon = loop.time() - self._settings.cache_time_s
        oldest = float("inf")
        for next_hop, waiting in tuple(self._idle.items()):
            keep: list[Connection] = []
            for connection in waiting:
                if connection.idle_since > horizon and connection.usable:
                    keep.append(connection)
                else:
                    self.retire(connection)
            self._idle_count -= len(waiting) - len(keep)
            if keep:
                self._idle[next_hop] = keep
                oldest = min(oldest, keep[0].idle_since)
            else:
                del self._idle[next_hop]
        if self._idle:
            self._sweeper = loop.call_at(oldest + self._settings.cache_time_s, self._sweep)

    def _retire_longest_idle(self) -> None:
        next_hop = min(self._idle, key=lambda hop: self._idle[hop][0].idle_since)
        waiting = self._idle[next_hop]
        connection = waiting.pop(0)
        self._idle_count -= 1
        if not waiting:
            del self._idle[next_hop]
        self.retire(connection)
