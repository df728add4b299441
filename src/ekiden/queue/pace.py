"""When the next delivery may begin where a transport or a destination has a rate delay (postconf(5) ..._rate_delay)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ekiden.message.clock import Clock

# Names whose time is over are forgotten when there are more than this.
_REMEMBERED = 10_000


class Pace(Protocol):
    """What all that deliver keep to. Names are "transport" or "transport:destination"; a delay of 0 is none."""

    def claim(self, delays: Sequence[tuple[str, float]]) -> list[float]:
        """Begin a delivery that each name in ``delays`` must allow; afterwards each waits for its delay in seconds.

        The seconds until each name allows one: only when all are 0 may the delivery begin, and else nothing is
        changed.
        """

    def hold(self, name: str, delay_s: float) -> None:
        """No delivery for ``name`` begins in the next ``delay_s`` seconds."""


class LocalPace:
    """The pace of one worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at: dict[str, float] = {}

    def claim(self, delays: Sequence[tuple[str, float]]) -> list[float]:
        now = self._clock.monotonic()
        waits = [max(0.0, self._free_at.get(name, now) - now) if delay_s else 0.0 for name, delay_s in delays]
        if not any(waits):
            for name, delay_s in delays:
                self._set(name, now, delay_s)
        return waits

    def hold(self, name: str, delay_s: float) -> None:
        self._set(name, self._clock.monotonic(), delay_s)

    def _set(self, name: str, now: float, delay_s: float) -> None:
        if not delay_s:
            return
        if len(self._free_at) >= _REMEMBERED:
            self._free_at = {known: at for known, at in self._free_at.items() if at > now}
        self._free_at[name] = now + delay_s
