"""Where passwords are hashed: a few threads beside the event loop, with a bounded queue before them.

argon2, bcrypt and PBKDF2 let other threads run while they compute. What does not fit into the queue is refused at
once: whoever floods us with logins must not make everybody wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

R = TypeVar("R")

# The processors of this process before its loop kept to one of them: threads that hash must not inherit that.
_CPUS = os.sched_getaffinity(0)


class HashingBusy(Exception):
    """Too many passwords wait to be hashed: a temporary error."""


class HashPool:
    """``threads`` hash at a time, ``waiting`` more may wait. The threads begin with the first password."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(
            threads, thread_name_prefix="passwords", initializer=lambda: os.sched_setaffinity(0, _CPUS)
        )
        self._closed = False
        self._limit = threads + waiting
        self._present = 0

    async def run(self, work: Callable[[], R]) -> R:
        """What ``work`` returns, computed in a thread. Raises HashingBusy, and what it raises."""
        if self._closed:
            raise HashingBusy("the configuration that this login began with has ended")
        if self._present >= self._limit:
            raise HashingBusy(f"{self._present} passwords are being checked")
        future = self._executor.submit(work)
        self._present += 1
        loop = asyncio.get_running_loop()
        # The place is free when the thread is: a client that goes away does not stop what it began.
        future.add_done_callback(lambda _: _call(loop, self._leave))
        return await asyncio.wrap_future(future)

    def _leave(self) -> None:
        self._present -= 1

    def close(self) -> None:
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:  # the loop has ended, and its counts with it
        pass
