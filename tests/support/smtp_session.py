"""Sessions of one SMTP service on a loopback port, with everything behind it faked; and a client that talks to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.content import Content, InlineContent
from ekiden.message.queued import QueuedMessage
from ekiden.message.reply import Refusal, reply
from ekiden.net.outbox import Outbox
from ekiden.observe.events import Event, Rejected
from ekiden.policy.client_limits import LocalCounts
from ekiden.policy.open_access import open_access
from ekiden.queue.store import StoreTrouble
from ekiden.receive.client_name import ClientNames
from ekiden.receive.connection import Connection, DeadlineWatch
from ekiden.receive.service import SmtpService
from ekiden.receive.session import SmtpSession
from ekiden.sasl.exchange import Mechanisms
from ekiden.tables.open import open_table
from ekiden.tables.table import TableTrouble
from ekiden.tls.key_files import KeyFileReader
from ekiden.tls.server_context import ServerTls, server_tls
from ekiden.tls.tickets import TicketKeys
from support.cleanup import cleanup_for, rewrite_clients_for


class Destinations:
    def lasts(self, address: Address) -> bool:
        return False

    async def is_relay_allowed_destination(self, address: Address) -> bool:
        return address.domain in ("", "here.example")

    async def check_recipient(self, address: Address) -> Refusal | None:
        if address.local == "trouble":
            raise TableTrouble("texthash:/x: not there")
        if address.local == "nobody":
            return Refusal(reply(550, "5.1.1", f"<{address}>: User unknown"), "unknown-user")
        return None


_USUAL = {
    "myhostname": "mx.here.example",
    "mynetworks": "192.0.2.0/24",
    "smtpd_peername_lookup": "no",
}


async def _is_local(domain: str) -> bool:
    return domain == "here.example"


class Writer:
    def __init__(self) -> None:
        self.data = b""
        self.size = 0
        self.discarded = False
        self.full_after: int | None = None

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        self.data += bytes(data)
        self.size = len(self.data)
        return self.full_after is not None and self.size > self.full_after

    async def drain(self) -> None:
        raise StoreTrouble("no space", full=True)

    async def finish(self, head: bytes = b"") -> Content:
        return InlineContent(head + self.data)

    async def discard(self) -> None:
        self.discarded = True


class Clock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def time(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class World:
    """One service on a loopback port, with everything behind it faked."""

    def __init__(self, mechanisms: Mechanisms | None = None, command: str = "smtpd", /, **settings: str) -> None:
        self.queued: list[QueuedMessage] = []
        self.events: list[Event] = []
        self.writers: list[Writer] = []
        self.clock = Clock()
        self.trouble: Exception | None = None
        self.space = True
        self.flushed: list[str] = []
        self.flush_trouble: Exception | None = None
        self.full_after: int | None = None
        parameters = Parameters({**_USUAL, **settings})
        self.service = SmtpService(
            parameters,
            intake=self._intake,
            content_writer=self._writer,
            has_space=self._has_space,
            new_queue_id=lambda: f"Q{len(self.writers)}",
            relay_access=open_access(parameters, Destinations(), is_local=_is_local, open_table=open_table),
            cleanup=cleanup_for(parameters),
            rewrite_clients=rewrite_clients_for(parameters, frozenset()),
            names=ClientNames(None, {}),
            counts=LocalCounts(),
            observer=self,
            clock=self.clock,
            flush_site=self._flush_site,
            mechanisms=mechanisms,
            is_lmtp=command == "lmtpd",
            tls=self._tls(parameters),
        )

    def _tls(self, parameters: Parameters) -> ServerTls | None:
        return server_tls(
            parameters,
            KeyFileReader([parameters]).read(),
            service="smtp",
            observer=self,
            tickets=TicketKeys(0.0),
            monotonic=self.clock.monotonic,
        )

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def _intake(self, message: QueuedMessage) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.queued.append(message)

    def _writer(self, _queue_id: str) -> Writer:
        writer = Writer()
        writer.full_after = self.full_after
        self.writers.append(writer)
        return writer

    async def _flush_site(self, domain: str) -> None:
        if self.flush_trouble is not None:
            raise self.flush_trouble
        self.flushed.append(domain)

    async def _has_space(self, size: int) -> bool:
        return self.space

    def rejections(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Rejected)]

    def play(self, talk: Callable[[Talk], Awaitable[None]], watch_interval_s: float = 1.0) -> None:
        async def run() -> None:
            loop = asyncio.get_running_loop()
            watch = DeadlineWatch(loop, watch_interval_s)
            server = await loop.create_server(
                lambda: Connection(partial(SmtpSession, self.service), watch, Outbox(), loop),
                "127.0.0.1",
                0,
            )
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            async with asyncio.timeout(20):
                await talk(Talk(reader, writer))
            writer.close()
            with contextlib.suppress(OSError):  # the server dropped what was still coming, or cut a TLS session
                await writer.wait_closed()
            while watch.connections:
                await asyncio.sleep(0)
            server.close()
            await server.wait_closed()
            watch.close()

        asyncio.run(run())


class Talk:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        lines = []
        while True:
            line = (await self.reader.readline()).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, text: str) -> str:
        self.writer.write(text.encode() + b"\r\n")
        return await self.reply()

    async def hello(self) -> None:
        await self.reply()
        await self.say("EHLO client.example")

    async def envelope(self, *recipients: str) -> list[str]:
        await self.say("MAIL FROM:<a@b.example>")
        return [await self.say(f"RCPT TO:<{recipient}>") for recipient in recipients]


def play(world: World, talk: Callable[[Talk], Awaitable[None]], **options: Any) -> World:
    world.play(talk, **options)
    return world
