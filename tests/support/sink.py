"""A next hop that remembers every message it has said 250 to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Sink:
    """An SMTP server on a loopback port of its own; ``on_message`` gets each content before its 250 is sent."""

    def __init__(self, on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=16 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink.example ESMTP\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go\r\n")
                    self._on_message(await reader.readuntil(b"\r\n.\r\n"))
                    writer.write(b"250 2.0.0 Ok\r\n")
                elif verb == b"QUIT":
                    writer.write(b"221 2.0.0 Bye\r\n")
                    break
                else:
                    writer.write(b"250 2.0.0 Ok\r\n")
                if not reader._buffer:  # type: ignore[attr-defined]  # one write for a pipelined burst
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the server under test was killed: that is what the test is about
        finally:
            writer.close()
