"""The control socket of one worker: ``run/worker-N.sock``, for the owner of the mail system and root only.

In:   requests of the commands (runtime.requests).
Out:  answers of bounded size; a listing comes page by page, a change of many messages is done batch by batch.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.message.queued import QueueState
from ekiden.observe.events import Administered, Note, Observer
from ekiden.queue import content
from ekiden.queue.store import Change, Store, StoreTrouble
from ekiden.runtime.requests import (
    LENGTH_BYTES,
    Answer,
    AskStatus,
    BadMessage,
    Changed,
    ChangeMessages,
    FlushQueue,
    Listed,
    ListQueue,
    MessageLine,
    Refused,
    Request,
    ShowMessage,
    Shown,
    WorkerStatus,
    decode_request,
    frame,
    message_line,
)
from ekiden.runtime.short_path import short_path

# struct ucred of unix(7): pid, uid, gid.
_UCRED = struct.Struct("3i")
# What a change means for messages that are not named: a state that it does not concern is left alone.
_CONCERNED = {
    Change.RELEASE: frozenset({QueueState.HOLD}),
    Change.REQUEUE: frozenset({QueueState.INCOMING, QueueState.DEFERRED}),
}
_ALL_STATES = frozenset(QueueState)
# Recipients that a page of a listing shows for each message that it may hold, on average.
_RECIPIENTS_A_MESSAGE = 10


class SchedulerControl(Protocol):
    """What the control socket asks of the scheduler."""

    def flush(self) -> None:
        """All deferred mail is due now, and destinations that did not answer are tried again."""

    def wake(self) -> None:
        """Messages may have become due: look at the store."""

    def withdraw(self, queue_ids: Iterable[str]) -> list[str]:
        """Let go of messages before they are changed in the store; those of which a delivery runs."""


class Statistics(Protocol):
    """The worker's numbers of this moment for ``ekiden status``."""

    def worker_status(self, counts: dict[str, int]) -> WorkerStatus: ...


class ControlServer:
    """Answers requests; made by the worker, which keeps it from start() to close()."""

    def __init__(
        self,
        path: Path,
        store: Store,
        scheduler: SchedulerControl,
        statistics: Statistics,
        observer: Observer,
        clock: Clock,
        parameters: Callable[[], Parameters],
    ) -> None:
        self._path = path
        self._store, self._scheduler, self._statistics = store, scheduler, statistics
        self._observer, self._clock, self._parameters = observer, clock, parameters
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind and listen, in place of a socket that a dead worker left. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with short_path(self._path) as name:
                try:
                    os.unlink(name)
                except FileNotFoundError:
                    pass
                # The directory (0700) keeps others out already; nobody may connect before listen() anyway.
                sock.bind(name)
                os.chmod(name, 0o600)
            sock.listen(self._parameters().control_connection_limit)
            self._server = await asyncio.start_unix_server(self._connected, sock=sock)
        except OSError:
            sock.close()
            raise

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._is_allowed(writer):
                return
            if len(self._connections) > self._parameters().control_connection_limit:
                await self._send(writer, Refused("too many commands at a time (control_connection_limit)"))
                return
            while (data := await self._read(reader)) is not None:
                await self._send(writer, await self._answer(data))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the command went away or says nothing; there is nobody to tell
        except BadMessage as error:
            self._observer.emit(Note("control", f"control socket: {error}", "warning"))
        except asyncio.CancelledError:
            pass  # close(): the server stops, and this task has nobody above it to tell
        finally:
            self._connections.discard(task)
            writer.close()

    def _is_allowed(self, writer: asyncio.StreamWriter) -> bool:
        sock: socket.socket = writer.get_extra_info("socket")
        _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid in (0, os.geteuid()):
            return True
        self._observer.emit(Note("control", f"control socket: user {uid} turned away", "warning"))
        return False

    async def _read(self, reader: asyncio.StreamReader) -> bytes | None:
        parameters = self._parameters()
        async with asyncio.timeout(parameters.control_timeout):
            head = await reader.read(1)
            if not head:
                return None
            head += await reader.readexactly(LENGTH_BYTES - 1)
            size = int.from_bytes(head, "big")
            if size > parameters.control_message_limit:
                raise BadMessage(f"request of {size} bytes (control_message_limit)")
            return await reader.readexactly(size)

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        parameters = self._parameters()
        data = frame(answer)
        if len(data) > parameters.control_message_limit:
            data = frame(Refused(f"the answer has {len(data)} bytes (control_message_limit)"))
        async with asyncio.timeout(parameters.control_timeout):
            writer.write(data)
            await writer.drain()

    async def _answer(self, data: bytes) -> Answer:
        request = decode_request(data)
        try:
            return await self._do(request)
        except StoreTrouble as trouble:
            return Refused(str(trouble))

    async def _do(self, request: Request) -> Answer:
        match request:
            case ListQueue():
                return await self._list(request)
            case ShowMessage():
                return await self._show(request.queue_id)
            case ChangeMessages():
                return await self._change(request)
            case FlushQueue():
                self._scheduler.flush()
                return Changed((await self._store.counts()).get(QueueState.DEFERRED, 0))
            case AskStatus():
                counts = {state.value: count for state, count in (await self._store.counts()).items()}
                return self._statistics.worker_status(counts)

    async def _list(self, request: ListQueue) -> Listed:
        """One page of what the filter matches, found among at most one page's worth of the queue."""
        limit = self._parameters().control_listing_limit
        states = frozenset(request.filter.states) or None
        entries = await self._store.entries(states=states, limit=limit, after=request.after)
        lines: list[MessageLine] = []
        recipients = 0
        after = request.after
        for entry in entries:
            if request.filter.matches(entry.state, entry.message):
                recipients += len(entry.message.pending)
                if lines and recipients > limit * _RECIPIENTS_A_MESSAGE:
                    return Listed(tuple(lines), after)
                lines.append(message_line(entry))
            after = entry.message.queue_id
        return Listed(tuple(lines), after if len(entries) == limit else "")

    async def _show(self, queue_id: str) -> Shown:
        entry = await self._store.entry(queue_id)
        if entry is None:
            return Shown()
        line = message_line(entry)
        try:
            return Shown(line, await content.read(entry.message.content, self._parameters().control_head_limit))
        except StoreTrouble as trouble:
            return Shown(line, trouble=str(trouble))

    async def _change(self, request: ChangeMessages) -> Changed:
        done: list[str] = []
        async for batch in self._chosen(request):
            done += await self._apply(batch, request.change)
        return Changed(len(done), tuple(done) if request.queue_ids else ())

    async def _chosen(self, request: ChangeMessages) -> AsyncIterator[Sequence[str]]:
        """The ids that the request means, in batches, none of them empty (an empty one would mean all)."""
        limit = self._parameters().control_listing_limit
        if request.queue_ids:
            for at in range(0, len(request.queue_ids), limit):
                yield request.queue_ids[at : at + limit]
            return
        states = _CONCERNED.get(request.change, _ALL_STATES) & frozenset(request.filter.states or _ALL_STATES)
        after = ""
        while True:
            entries = await self._store.entries(states=states, limit=limit, after=after)
            batch = [entry.message.queue_id for entry in entries if request.filter.matches(entry.state, entry.message)]
            if batch:
                yield batch
            if len(entries) < limit:
                return
            after = entries[-1].message.queue_id

    async def _apply(self, queue_ids: Sequence[str], change: Change) -> list[str]:
        """What the scheduler has in hand it gives back first: it must not deliver what was just deleted."""
        if change in (Change.HOLD, Change.DELETE):
            self._scheduler.withdraw(queue_ids)
        done = await self._store.change(queue_ids, change, self._clock.time())
        if change in (Change.RELEASE, Change.REQUEUE):
            self._scheduler.wake()
        for queue_id in done:
            self._observer.emit(Administered(queue_id, change.value))
        return done
