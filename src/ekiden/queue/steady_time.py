"""The time that the scheduler plans with: that of the wall clock, except that it never goes back.

When the wall clock is set back, messages deferred before would wait for as long as it was set back by. Due times are
therefore taken from, and compared with, a time that then runs on as before. A step forward is followed at once: all
that waits is due a little early, once. Ages and lifetimes are measured by the wall clock alone.
"""

from __future__ import annotations

from ekiden.message.clock import Clock


class SteadyTime:
    __slots__ = ("_ahead", "_clock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = clock.time() - clock.monotonic()

    def now(self) -> float:
        """Seconds since the epoch; never less than before."""
        elapsed = self._clock.monotonic()
        self._ahead = max(self._ahead, self._clock.time() - elapsed)
        return self._ahead + elapsed
