"""A few loops that take items from one queue and end when there are none: work that needs no task for each item."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Crew(Generic[T]):
    """At most ``limit`` items are worked on at once. ``work`` must not raise (a raise ends its loop, and is reported
    by asyncio as the bug it is)."""

    __slots__ = ("_coming", "_items", "_tasks", "_work", "limit")

    def __init__(self, work: Callable[[T], Awaitable[None]], limit: int) -> None:
        self._work = work
        self._items: deque[T] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming = False  # a loop was started and has not looked at the queue yet
        self.limit = limit

    def __len__(self) -> int:
        return len(self._items)

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        return frozenset(self._tasks)

    def add(self, item: T) -> None:
        self._items.append(item)
        if not self._coming and len(self._tasks) < self.limit:
            self._start()

    def clear(self) -> None:
        """Forget what nobody works on yet."""
        self._items.clear()

    def _start(self) -> None:
        self._coming = True
        task = asyncio.get_running_loop().create_task(self._loop())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _loop(self) -> None:
        self._coming = False
        items, work = self._items, self._work
        turn = 0
        while items:
            item = items.popleft()
            # Work that never waits leaves nothing for a second loop to do; work that does is shared.
            if items and not self._coming and len(self._tasks) < self.limit:
                self._start()
            await work(item)
            turn += 1
            if turn % 100 == 0:
                await asyncio.sleep(0)
