"""An SMTP or LMTP server on 127.0.0.1 (or a unix socket) that says what the test wants, well or badly.

    async with FakePeer({"RCPT": [b"250 Ok\\r\\n", b"550 5.1.1 no\\r\\n"], "DOT": Act.CLOSE}) as peer: ...

``script`` gives the answers by command: "GREETING", the verbs, "DOT" for the end of the content, "BDAT" for a chunk
that is not the last one. An answer is bytes,
an Act, a function of the command line that gives one of these, or a tuple of them, one after the other. A list is used
up, one answer a command; its last stays. What the script leaves out is answered well.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, Union

from ekiden.message.host import Host


class Act(enum.Enum):
    STALL = "say nothing more, and keep the connection open"
    CLOSE = "close the connection"
    RESET = "end the connection by a reset"


Answer = Union[bytes, Act, "tuple[Answer, ...]", Callable[[bytes], "Answer"]]
Script = Mapping[str, "Answer | list[Answer]"]

_GOOD: dict[str, Answer] = {
    "GREETING": b"220 fake.example ESMTP\r\n",
    "EHLO": b"250-fake.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n",
    "HELO": b"250 fake.example\r\n",
    "MAIL": b"250 2.1.0 Ok\r\n",
    "RCPT": b"250 2.1.5 Ok\r\n",
    "DATA": b"354 go\r\n",
    "BDAT": b"250 2.0.0 Ok\r\n",
    "DOT": b"250 2.0.0 Ok: queued as F00\r\n",
    "NOBODY": b"554 5.5.1 no valid recipients\r\n",
    "RSET": b"250 2.0.0 Ok\r\n",
    "QUIT": (b"221 2.0.0 Bye\r\n", Act.CLOSE),
}
_GOOD["LHLO"] = _GOOD["EHLO"]
PLAIN = b"250 fake.example\r\n"  # an EHLO answer without extensions


class FakePeer:
    """``lines`` holds every command of all connections, ``contents`` every content as it came, with its dot."""

    def __init__(self, script: Script | None = None, *, path: str = "", name: str = "fake.example") -> None:
        self._script: dict[str, Answer | list[Answer]] = {**_GOOD, **(script or {})}
        self._path = path
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self.name = name
        self.port = 0
        self.connections = 0
        self.open = 0
        self.lines: list[bytes] = []
        self.contents: list[bytes] = []
        self.chunks: list[int] = []  # the sizes of all chunks of BDAT

    @property
    def host(self) -> Host:
        return Host(self.name, "127.0.0.1", self.port)

    @property
    def verbs(self) -> list[str]:
        return [line[:4].decode("ascii", "replace").upper() for line in self.lines]

    async def __aenter__(self) -> Self:
        if self._path:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=1 << 24)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._sessions.discard(task)
            writer.close()
            try:
                await writer.wait_closed()
            except (ConnectionError, asyncio.CancelledError):
                pass

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lmtp = False
        accepted = 0
        chunked = bytearray()
        if not await self._answer("GREETING", b"", reader, writer):
            return
        while line := await reader.readline():
            self.lines.append(line)
            verb = line[:4].decode("ascii", "replace").upper().strip()
            lmtp = lmtp or verb == "LHLO"
            if verb == "BDAT":
                words = line.split()
                self.chunks.append(int(words[1]))
                chunked += await reader.readexactly(self.chunks[-1])
                if len(words) == 3:
                    if accepted:
                        self.contents.append(bytes(chunked))
                    chunked.clear()
                    for _ in range(accepted if lmtp and accepted else 1):
                        answer = "DOT" if accepted else "NOBODY"
                        if not await self._answer(answer, line, reader, writer):
                            return
                    continue
            said = await self._answer(verb, line, reader, writer)
            if not said:
                return
            if verb == "MAIL":
                accepted = 0
            accepted += verb == "RCPT" and said.startswith(b"2")
            if verb == "DATA" and said.startswith(b"354"):
                content = bytearray()
                while not content.endswith(b"\r\n.\r\n") and content != b".\r\n":
                    piece = await reader.readline()
                    if not piece:
                        return
                    content += piece
                self.contents.append(bytes(content))
                for _ in range(accepted if lmtp else 1):
                    if not await self._answer("DOT", b"", reader, writer):
                        return

    async def _answer(
        self, verb: str, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        """Say what the script has; the last that was said, or b"" when the session is over."""
        answer = self._script.get(verb, b"500 5.5.2 what?\r\n")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(line)
        said = b""
        for part in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
                said = part
            elif part is Act.STALL:
                while await reader.read(65536):
                    pass
                return b""
            elif part is Act.RESET:
                writer.transport.abort()
                return b""
            else:
                return b""
        return said
