"""Time as a parameter: production passes the system's, tests and the simulator pass one they drive."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def time(self) -> float:
        """Seconds since the epoch: for what people and other hosts see."""

    def monotonic(self) -> float:
        """Seconds that never step: for durations and deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Wait; returns early only by cancellation."""
