"""A clock that tests drive: sleep() ends when the test moves the time there."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class FakeClock:
    """``time()`` is wall time, which may step; ``monotonic()`` only grows. Both are in seconds."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.wall = now
        self._mono = 1000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self._mono

    def step(self, seconds: float) -> None:
        """The wall clock is set; nothing else moves."""
        self.wall += seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._mono + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking the sleepers in order and letting each do its work."""
        end = self._mono + seconds
        await settle_down()
        while True:
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if not self._sleepers or self._sleepers[0][0] > end:
                break
            at, _, future = heapq.heappop(self._sleepers)
            self.wall += at - self._mono
            self._mono = at
            future.set_result(None)
            await settle_down()
        self.wall += end - self._mono
        self._mono = end
        await settle_down()


async def settle_down(turns: int = 40) -> None:
    """Let everything run that can run without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], turns: int = 20_000) -> None:
    """Let others run until ``condition``; AssertionError when it does not come."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition did not come true")
