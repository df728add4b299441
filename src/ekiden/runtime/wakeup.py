"""Signals as readable bytes: the supervisor's loop sleeps on one socket instead of being interrupted anywhere."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence


class SignalWakeup:
    """While it is open the given signals do nothing but appear in ``take()``, once its socket is readable."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.socket, self._writer = socket.socketpair()
        self.socket.setblocking(False)
        self._writer.setblocking(False)
        self._handlers = {number: signal.signal(number, _nothing) for number in numbers}
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def take(self) -> list[int]:
        """The signals that came, in order."""
        try:
            return list(self.socket.recv(4096))
        except BlockingIOError:
            return []

    def close_copy(self) -> None:
        """In a child: let go of the sockets (the child has set its own handlers)."""
        self.socket.close()
        self._writer.close()

    def close(self) -> None:
        signal.set_wakeup_fd(self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.close_copy()


def _nothing(number: int, frame: object) -> None:
    """The wake-up socket tells; a handler must exist all the same, or the default action would be taken."""
