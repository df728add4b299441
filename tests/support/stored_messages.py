"""Messages, a hand-driven clock and a faulty SQLite, for tests of the store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.content import Content, InlineContent
from ekiden.message.envelope import Envelope, Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.queue.sqlite_store import SqliteStore


class HandClock:
    """Time that moves when the test says so."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.wall = now
        self.steady = 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def message(
    queue_id: str, data: bytes = b"Subject: x\r\n\r\nHello\r\n", *, due: float = 0.0, content: Content | None = None,
    recipients: tuple[str, ...] = ("b",),
) -> QueuedMessage:  # fmt: skip
    envelope = Envelope(Address("a", "here.example"), tuple(Recipient(Address(x, "there.example")) for x in recipients))
    return QueuedMessage(
        queue_id,
        envelope,
        content or InlineContent(data),
        1_700_000_000.0,
        tuple(Pending(recipient) for recipient in envelope.recipients),
        "<1@here.example>",
        due,
    )


def opened(
    directory: Path, *, shard: int = 0, clock: HandClock | None = None, settings: dict[str, str] | None = None,
    **more: Any,
) -> AbstractAsyncContextManager[SqliteStore]:  # fmt: skip
    """``async with opened(tmp_path) as store``: a store that is closed at the end."""

    @asynccontextmanager
    async def manage():  # type: ignore[no-untyped-def]
        store = await SqliteStore.open(
            directory, shard=shard, clock=clock or HandClock(), parameters=Parameters(settings or {}), **more
        )
        try:
            yield store
        finally:
            await store.close()

    return manage()


class FaultySqlite(sqlite3.Connection):
    """A connection that asks ``fault`` before each statement; what that raises is SQLite's error."""

    fault: Callable[[str], None] = staticmethod(lambda statement: None)

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        type(self).fault(sql)
        return super().execute(sql, *arguments)


def faulty_connect(fault: Callable[[str], None]) -> Callable[..., sqlite3.Connection]:
    factory = type("Faulty", (FaultySqlite,), {"fault": staticmethod(fault)})
    return lambda *arguments, **more: sqlite3.connect(*arguments, factory=factory, **more)


def sqlite_error(code: int, text: str = "disk I/O error") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error
