"""A connection to a server that answers questions works on each event loop that the server may run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from ekiden.tables.stream import ServerAddress, Stream


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("unix", [True, False], ids=["unix", "tcp"])
def test_a_question_and_its_answer(loop: Callable[[], asyncio.AbstractEventLoop], unix: bool, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    def parse(data: bytes | bytearray) -> tuple[bytes, int] | None:
        end = data.find(b"\n") + 1
        return (bytes(data[:end]), end) if end else None

    async def scene() -> None:
        if unix:
            server = await asyncio.start_unix_server(serve, tmp_path / "socket")
            address = ServerAddress("", 0, str(tmp_path / "socket"))
        else:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            address = ServerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
        stream = await Stream.open(address, 1000)
        assert stream.alive
        stream.send(b"hello\n")
        assert await stream.receive(parse) == b"HELLO\n"
        stream.close()
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scene())
