"""A next hop in a thread that keeps each transaction as a value, in the order in which they came."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser

from msgspec import Struct

from support.running import wait_for


class Received(Struct, frozen=True):
    """Addresses are without angle brackets and parameters; lines of the content end in CRLF."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header without the Received: fields; folding removed."""
        header = self.content.partition(b"\r\n\r\n")[0]
        lines = header.decode("utf-8", "surrogateescape").replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n")
        found = [tuple(line.partition(":")[::2]) for line in lines]
        return [(name, value.strip()) for name, value in found if name != "Received"]

    def field(self, name: str) -> str | None:
        """The value of the first field of this name."""
        return next((value for found, value in self.fields if found.lower() == name.lower()), None)

    @property
    def body(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[2]

    @property
    def message(self) -> Message:
        return BytesParser().parsebytes(self.content)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class RecordingSink:
    def __init__(self) -> None:
        received: list[Received] = []
        self._received = received

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):
                    _serve(self, received)

        self._server = _Server(("127.0.0.1", 0), Session)
        self.port: int = self._server.server_address[1]

    @property
    def next_hop(self) -> str:
        return f"[127.0.0.1]:{self.port}"

    def messages(self, count: int) -> list[Received]:
        """All messages so far, when there are ``count``."""
        wait_for(lambda: len(self._received) >= count, f"{count} messages at the sink, there are {len(self._received)}")
        assert len(self._received) == count
        return list(self._received)

    def take(self, count: int = 1) -> list[Received]:
        """The same, and they are forgotten."""
        found = self.messages(count)
        self._received.clear()
        return found

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _serve(session: socketserver.StreamRequestHandler, received: list[Received]) -> None:
    sender = ""
    recipients: list[str] = []
    session.wfile.write(b"220 sink.test ESMTP\r\n")
    for line in session.rfile:
        verb, path = line[:4].upper(), line.partition(b"<")[2].rpartition(b">")[0].decode("utf-8", "surrogateescape")
        answer = b"250 2.0.0 Ok\r\n"
        if verb in (b"EHLO", b"LHLO"):
            answer = b"250-sink.test\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n"
        elif verb == b"MAIL":
            sender, recipients = path, []
        elif verb == b"RCPT":
            recipients.append(path)
        elif verb == b"DATA":
            session.wfile.write(b"354 go\r\n")
            content = bytearray()
            for data in session.rfile:
                if data == b".\r\n":
                    break
                content += data.removeprefix(b".")
            received.append(Received(sender, tuple(recipients), bytes(content)))
        elif verb == b"QUIT":
            session.wfile.write(b"221 2.0.0 Bye\r\n")
            return
        session.wfile.write(answer)


@contextlib.contextmanager
def recording_sink() -> Iterator[RecordingSink]:
    sink = RecordingSink()
    sink.start()
    try:
        yield sink
    finally:
        sink.stop()
