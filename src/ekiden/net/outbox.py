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
