"""What is said in one turn of the event loop leaves at its end: together, in order, and whoever else fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.connection import Connection as ClientConnection
from ekiden.deliver.smtp_settings import smtp_settings
from ekiden.message.host import Host
from ekiden.net.outbox import Outbox, Output
from ekiden.protocol.smtp.client import SmtpClient
from ekiden.receive.connection import Connection as ServerConnection
from ekiden.receive.connection import DeadlineWatch


class Wire(asyncio.Transport):
    """Notes what a connection does to its socket."""

    def __init__(self, done: list[str]) -> None:
        super().__init__()
        self._done = done

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._done.append(f"write {bytes(data).decode()}")

    def close(self) -> None:
        self._done.append("close")

    def abort(self) -> None:
        self._done.append("abort")

    def is_closing(self) -> bool:
        return False


class Silent:
    async def run(self) -> None:
        pass


class Client:
    """A connection to a server, as a delivery has it."""

    def __init__(self, done: list[str], outbox: Outbox) -> None:
        loop, settings = asyncio.get_running_loop(), smtp_settings(Parameters({}))
        self.connection = ClientConnection(
            SmtpClient(settings.rules), Host("x.example", "127.0.0.1", 25), settings.timeouts, loop, outbox=outbox
        )
        self.connection.connection_made(Wire(done))
        self.write = self.connection._write
        self.close = self.connection._close
        self.abort = self.connection.abort


def server(done: list[str], outbox: Outbox) -> ServerConnection:
    loop = asyncio.get_running_loop()

    def session(_connection: ServerConnection) -> Silent:
        return Silent()

    connection = ServerConnection(session, DeadlineWatch(loop), outbox, loop)
    connection.connection_made(Wire(done))
    return connection


KINDS: list[Callable[[list[str], Outbox], Any]] = [server, Client]


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_turn_says_leaves_at_its_end_each_in_one_write(kind: Callable[[list[str], Outbox], Any]) -> None:
    async def work() -> None:
        outbox, first, second = Outbox(), list[str](), list[str]()
        one, other = kind(first, outbox), kind(second, outbox)
        one.write(b"a")
        other.write(b"b")
        one.write(b"c")
        assert (first, second) == ([], [])
        await asyncio.sleep(0)
        assert (first, second) == (["write ac"], ["write b"])
        one.write(b"d")
        await asyncio.sleep(0)
        assert first == ["write ac", "write d"]

    asyncio.run(work())


@pytest.mark.parametrize("kind", KINDS)
def test_who_closes_has_said_all_before(kind: Callable[[list[str], Outbox], Any]) -> None:
    async def work() -> None:
        done: list[str] = []
        connection = kind(done, Outbox())
        connection.write(b"bye")
        connection.close()
        await asyncio.sleep(0)
        assert done == ["write bye", "close"]
        silent: list[str] = []
        kind(silent, Outbox()).close()
        assert silent == ["close"]

    asyncio.run(work())


@pytest.mark.parametrize("kind", KINDS)
def test_who_gives_up_says_nothing_more(kind: Callable[[list[str], Outbox], Any]) -> None:
    """Least of all a final dot."""

    async def work() -> None:
        done: list[str] = []
        connection = kind(done, Outbox())
        connection.write(b"the end\r\n.\r\n")
        connection.abort()
        if isinstance(connection, ServerConnection):  # its session may not have noticed yet
            connection.write(b"421 too late\r\n")
        await asyncio.sleep(0)
        assert done == ["abort"]

    asyncio.run(work())


def test_who_closes_at_the_end_of_the_turn_is_closing_already() -> None:
    async def work() -> None:
        output = Output(Outbox(), Wire([]))
        output.say(b"bye")
        assert not output.is_closing()
        output.close()
        assert output.is_closing()

    asyncio.run(work())


def test_content_is_sent_before_room_for_more_is_looked_for() -> None:
    async def work() -> None:
        done: list[str] = []
        client = Client(done, Outbox())
        client.write(b"content")
        assert await client.connection.drain(7)
        assert done == ["write content"]

    asyncio.run(work())


def test_a_fault_in_one_does_not_silence_the_others() -> None:
    class Broken:
        def send(self) -> None:
            raise ValueError("a bug")

    async def work() -> None:
        faults: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: faults.append(str(told["exception"])))
        outbox, done = Outbox(), list[str]()
        outbox.add(Broken())
        server(done, outbox).write(b"heard")
        await asyncio.sleep(0)
        assert (faults, done) == (["a bug"], ["write heard"])

    asyncio.run(work())
