"""What the connections of an event loop say in one of its turns, sent together at its end.

To send wakes who waits for it; where that is a process of this host, it is often given the sender's processor at once.
So the work of a turn is done first. And what a processor does again at once, as a way through the kernel, costs it a
fraction.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Sender(Protocol):
    def send(self) -> None:
        """Let out what was said."""


class Outbox:
    """Those who have something to say, until the end of the turn."""

    __slots__ = ("_senders",)

    def __init__(self) -> None:
        self._senders: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """``sender.send()`` is called when the turn ends; once for each call of this. Needs a running event loop."""
        if not self._senders:
            asyncio.get_running_loop().call_soon(self._send)
        self._senders.append(sender)

    def _send(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            try:
                sender.send()
            except Exception as error:  # a fault of ours in one connection must not silence the others
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a connection could not send", "exception": error}
                )


class Output:
    """What one connection has said and not sent yet. ``transport`` is its socket."""

    __slots__ = ("_closes", "_outbox", "_said", "_transport")

    def __init__(self, outbox: Outbox, transport: asyncio.Transport) -> None:
        self._outbox = outbox
        self._transport = transport
        self._said = b""
        self._closes = False  # once it is sent

    def say(self, data: bytes) -> None:
        if self._said:
            self._said += data
        elif data:
            self._said = data
            self._outbox.add(self)

    def send(self) -> None:
        said, self._said = self._said, b""
        if said:
            self._transport.write(said)
        if self._closes:
            self._closes = False
            self._transport.close()

    def drop(self) -> None:
        """Nobody is there to hear it."""
        self._said, self._closes = b"", False

    def close(self) -> None:
        """Close the connection, once what was said is sent."""
        if self._said:
            self._closes = True
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once and send nothing more."""
        self.drop()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._closes or self._transport.is_closing()
