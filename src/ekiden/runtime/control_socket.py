"""The control sockets of one worker.

    run/worker-N.sock      for the owner of the mail system and root only: everything
    public/worker-N.sock   for all users of this host: listing and flushing the queue, as far as authorized_mailq_users
                           and authorized_flush_users let them

In:   requests of the commands (runtime.requests).
Out:  answers of bounded size; a listing comes page by page, a change of many messages is done batch by batch.
Who asks is what the kernel says (SO_PEERCRED). Users and administrators have connections of their own number, so that
nobody can keep the administrator out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.message.queued import QueueState
from ekiden.observe.events import Note, Observer
from ekiden.policy.user_access import refused_user, user_name
from ekiden.queue import content
from ekiden.queue.store import Change, Store, StoreTrouble
from ekiden.runtime.queue_changes import QueueChanges, SchedulerHands
from ekiden.runtime.requests import (
    LENGTH_BYTES,
    Answer,
    AskStatus,
    BadMessage,
    Changed,
    ChangeMessages,
    Filter,
    FlushQueue,
    Listed,
    ListQueue,
    MessageLine,
    Refused,
    ReportSubject,
    Request,
    SendReports,
    ShowMessage,
    Shown,
    WorkerStatus,
    decode_request,
    frame,
    message_line,
)
from ekiden.runtime.short_path import short_path
from ekiden.tables.table import TableTrouble

# struct ucred of unix(7): pid, uid, gid.
_UCRED = struct.Struct("3i")
# The most bytes that a user who is no administrator may say at once: a queue id, a domain.
_USER_REQUEST_BYTES = 4096
# Recipients that a page of a listing shows for each message that it may hold, on average.
_RECIPIENTS_A_MESSAGE = 10


class SchedulerControl(SchedulerHands, Protocol):
    """What the control socket asks of the scheduler."""

    def flush(self) -> None:
        """All deferred mail is due now, and destinations that did not answer are tried again."""


class Statistics(Protocol):
    """The worker's numbers of this moment for ``ekiden status``."""

    def worker_status(self, counts: dict[str, int]) -> WorkerStatus: ...

    async def send_reports(self, subject: ReportSubject) -> int:
        """Send the reports on that subject that are due; how many went out."""


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
        public: Path | None = None,
    ) -> None:
        self._path, self._public = path, public
        self._store, self._scheduler, self._statistics = store, scheduler, statistics
        self._observer, self._clock, self._parameters = observer, clock, parameters
        self._changes = QueueChanges(
            store, scheduler, observer, clock, lambda: self._parameters().control_listing_limit
        )
        self._servers: list[asyncio.Server] = []
        # Connections of administrators, and of all others.
        self._connections: dict[bool, set[asyncio.Task[None]]] = {True: set(), False: set()}

    async def start(self) -> None:
        """Bind and listen, in place of sockets that a dead worker left. Raises OSError."""
        await self._listen(self._path, 0o600)
        if self._public is not None:
            await self._listen(self._public, 0o666)

    async def _listen(self, path: Path, mode: int) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with short_path(path) as name:
                try:
                    os.unlink(name)
                except FileNotFoundError:
                    pass
                # Nobody can connect before listen(); what each may ask then follows from who the kernel says it is.
                sock.bind(name)
                os.chmod(name, mode)
            sock.listen(self._parameters().control_connection_limit)
            self._servers.append(await asyncio.start_unix_server(self._connected, sock=sock))
        except OSError:
            sock.close()
            raise

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        connections = [task for tasks in self._connections.values() for task in tasks]
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        uid = _uid_of(writer)
        connections = self._connections[uid in (0, os.geteuid())]
        connections.add(task)
        try:
            if len(connections) > self._parameters().control_connection_limit:
                await self._send(writer, Refused("too many commands at a time (control_connection_limit)"))
                return
            while (data := await self._read(reader, uid)) is not None:
                await self._send(writer, await self._answer(data, uid))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the command went away or says nothing; there is nobody to tell
        except BadMessage as error:
            self._observer.emit(Note("control", f"control socket: {error}", "warning"))
        except asyncio.CancelledError:
            pass  # close(): the server stops, and this task has nobody above it to tell
        finally:
            connections.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, uid: int) -> bytes | None:
        parameters = self._parameters()
        limit = parameters.control_message_limit if uid in (0, os.geteuid()) else _USER_REQUEST_BYTES
        async with asyncio.timeout(parameters.control_timeout):
            head = await reader.read(1)
            if not head:
                return None
            head += await reader.readexactly(LENGTH_BYTES - 1)
            size = int.from_bytes(head, "big")
            if size > limit:
                raise BadMessage(f"request of {size} bytes, {limit} are allowed (control_message_limit)")
            return await reader.readexactly(size)

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        parameters = self._parameters()
        data = frame(answer)
        if len(data) > parameters.control_message_limit:
            data = frame(Refused(f"the answer has {len(data)} bytes (control_message_limit)"))
        async with asyncio.timeout(parameters.control_timeout):
            writer.write(data)
            await writer.drain()

    async def _answer(self, data: bytes, uid: int) -> Answer:
        request = decode_request(data)
        try:
            refused = "" if uid in (0, os.geteuid()) else await self._denial(request, uid)
            if refused:
                self._observer.emit(Note("control", f"control socket: {refused}", "warning"))
                return Refused(refused, denied=True)
            return await self._do(request)
        except (StoreTrouble, ConfigError, TableTrouble) as trouble:
            return Refused(str(trouble))

    async def _denial(self, request: Request, uid: int) -> str:
        """Why an ordinary user may not ask this; "" when the user may. Raises ConfigError, TableTrouble."""
        parameters = self._parameters()
        match request:
            case ListQueue():
                words, what = parameters.authorized_mailq_users, "view the mail queue"
            case FlushQueue():
                words, what = parameters.authorized_flush_users, "flush the mail queue"
            case ChangeMessages(change=Change.REQUEUE) if request.queue_ids or request.filter != Filter():
                words, what = parameters.authorized_flush_users, "flush the mail queue"
            case _:
                return f"User {user_name(uid)}({uid}) may not do this: only root and the mail_owner may"
        name = await refused_user(words, uid)
        return "" if name is None else f"User {name}({uid}) is not allowed to {what}"

    async def _do(self, request: Request) -> Answer:
        match request:
            case ListQueue():
                return await self._list(request)
            case ShowMessage():
                return await self._show(request.queue_id)
            case ChangeMessages():
                return await self._changes.apply(request)
            case SendReports(subject=subject):
                return Changed(await self._statistics.send_reports(subject))
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


def _uid_of(writer: asyncio.StreamWriter) -> int:
    """The user at the other end."""
    sock: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)
