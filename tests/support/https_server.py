"""An HTTPS server of one answer, on the running loop: what policy hosts and report collectors do to us."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from support.certificates import Pair

Answer = Callable[[bytes], bytes | None]  # of a request's bytes; None: silence


def text(body: bytes, *, status: str = "200 OK", media_type: str = "text/plain", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class HttpsServer:
    """``async with HttpsServer(pair, directory, answer) as server``: ``port``, and the ``requests`` that came."""

    def __init__(
        self, pair: Pair, directory: Path, answer: Answer, *, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        certificate, key = pair.write(directory, f"https-{id(self)}")
        self.answer = answer
        self.requests: list[bytes] = []
        self.port = port
        self._address = address
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._server: asyncio.Server | None = None
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> HttpsServer:
        self._server = await asyncio.start_server(self._serve, self._address, self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._stopping.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            for line in asked.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    asked += await reader.readexactly(int(line.partition(b":")[2]))
            self.requests.append(asked)
            said = self.answer(asked)
            if said is None:
                await self._stopping.wait()
            else:
                writer.write(said)
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()
