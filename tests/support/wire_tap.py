"""A wire that is listened to: a port that passes everything on to another, and keeps what each side said."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Conversation:
    """What was said on one connection, in its order: True for the client, and the bytes."""

    def __init__(self) -> None:
        self.pieces: list[tuple[bool, bytes]] = []
        self._lock = threading.Lock()

    def add(self, is_client: bool, data: bytes) -> None:
        with self._lock:
            self.pieces.append((is_client, data))

    def said(self, is_client: bool) -> bytes:
        return b"".join(data for who, data in self.pieces if who is is_client)

    @property
    def client(self) -> bytes:
        return self.said(True)

    @property
    def server(self) -> bytes:
        return self.said(False)

    def answered_between(self, first: bytes, second: bytes) -> bool:
        """Whether the server spoke between two things that the client said."""
        heard = b""
        waiting = False
        for is_client, data in self.pieces:
            if is_client:
                heard += data
                if second in heard:
                    return False
                waiting = waiting or first in heard
            elif waiting:
                return True
        raise AssertionError(f"the client did not say {second!r}")


class WireTap:
    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.conversations: list[Conversation] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 20)
            except OSError:
                client.close()
                return
            heard = Conversation()
            self.conversations.append(heard)
            threading.Thread(target=_carry, args=(client, server, heard), daemon=True).start()

    def close(self) -> None:
        self._listener.close()


def _carry(client: socket.socket, server: socket.socket, heard: Conversation) -> None:
    """Both ways until both have ended; then no socket is left for a later test to stumble over."""
    with client, server:
        back = threading.Thread(target=_pass_on, args=(server, client, heard, False), daemon=True)
        back.start()
        _pass_on(client, server, heard, True)
        back.join()


def _pass_on(source: socket.socket, drain: socket.socket, heard: Conversation, is_client: bool) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            heard.add(is_client, data)
            drain.sendall(data)
        drain.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def wire_tap(target: int) -> Iterator[WireTap]:
    tap = WireTap(target)
    try:
        yield tap
    finally:
        tap.close()
