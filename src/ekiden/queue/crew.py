"""A few loops that take items from one queue: work that needs no task for each item.

A loop that finds no item ends, except that the last ones lie idle until there is one: to wake a task costs less than to
make it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_IDLE_LOOPS = 2  # one for an item, and one for those that come while it is worked on


class Crew(Generic[T]):
    """At most ``limit`` items are worked on at once. ``work`` must not raise (a raise ends its loop, and is reported
    by asyncio as the bug it is)."""

    __slots__ = ("_closed", "_coming", "_idle", "_items", "_tasks", "_work", "limit")

    def __init__(self, work: Callable[[T], Awaitable[None]], limit: int) -> None:
        self._work = work
        self._items: deque[T] = deque()
        self._tasks: set[asyncio.Task[None]] = set()  # loops that work, or are about to
        self._idle: list[tuple[asyncio.Task[None], asyncio.Future[None]]] = []
        self._coming = False  # a loop was called and has not looked at the queue yet
        self._closed = False
        self.limit = limit

    def __len__(self) -> int:
        return len(self._items)

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        return frozenset(self._tasks)

    def add(self, item: T) -> None:
        self._items.append(item)
        if not self._coming and len(self._tasks) < self.limit:
            self._call()

    def close(self) -> None:
        """Forget what nobody works on yet; the loops end with the work that they have."""
        self._closed = True
        self._items.clear()
        while self._idle:
            self._call()

    def _call(self) -> None:
        """One more loop."""
        self._coming = True
        if self._idle:
            task, call = self._idle.pop()
            self._tasks.add(task)
            call.set_result(None)
            return
        task = asyncio.get_running_loop().create_task(self._loop())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _loop(self) -> None:
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        assert me is not None
        items, work = self._items, self._work
        item: T | None
        turn = 0
        while True:
            self._coming = False
            while items:
                item = items.popleft()
                # Work that never waits leaves nothing for a second loop to do; work that does is shared.
                if items and not self._coming and len(self._tasks) < self.limit:
                    self._call()
                await work(item)
                turn += 1
                if turn % 100 == 0:
                    await asyncio.sleep(0)
            if self._closed or len(self._idle) >= _IDLE_LOOPS:
                return
            item = None  # an idle loop keeps none
            call: asyncio.Future[None] = loop.create_future()
            self._tasks.discard(me)
            self._idle.append((me, call))
            await call
