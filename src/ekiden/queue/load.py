"""The load average of the host, for those who do less when it is high."""

from __future__ import annotations

from collections.abc import Callable

from ekiden.message.clock import Clock

_KEPT_S = 5.0  # the kernel itself computes it this often


class LoadAverage:
    """Of the last minute. ``read`` gives it; it is not asked more often than it changes."""

    def __init__(self, read: Callable[[], float], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._value = 0.0
        self._read_at = float("-inf")

    def now(self) -> float:
        at = self._clock.monotonic()
        if at - self._read_at >= _KEPT_S:
            self._read_at = at
            self._value = self._read()
        return self._value
