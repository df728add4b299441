"""A connection of a library that waits for its server: it has a thread of its own, so that the event loop does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

H = TypeVar("H")
R = TypeVar("R")


class ThreadConnection(Generic[H]):
    """``handle`` is the library's connection, which is used in the thread only; ``end`` closes it there.

    ``interrupt`` is called from outside of the thread and ends what it waits for; ``still_good`` tells whether the
    connection may be used again.
    """

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        handle: H,
        end: Callable[[H], None],
        interrupt: Callable[[H], None] | None,
        still_good: Callable[[], bool],
    ) -> None:
        self._executor = executor
        self._handle = handle
        self._end, self._interrupt = end, interrupt
        self._still_good = still_good
        self._closed = False

    @classmethod
    async def open(
        cls,
        name: str,
        connect: Callable[[], H],
        end: Callable[[H], None],
        interrupt: Callable[[H], None] | None = None,
        still_good: Callable[[], bool] = lambda: True,
    ) -> ThreadConnection[H]:
        """Raises what ``connect`` does."""
        executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        connecting = executor.submit(connect)
        try:
            handle = await asyncio.wrap_future(connecting)
        except BaseException:
            # Who waited may be gone while the thread still connects: what it gets then is closed.
            executor.submit(_end_what_came, connecting, end)
            executor.shutdown(wait=False)
            raise
        return cls(executor, handle, end, interrupt, still_good)

    @property
    def alive(self) -> bool:
        return not self._closed and self._still_good()

    async def run(self, work: Callable[[H], R]) -> R:
        """``work`` with the handle, in the thread. Raises what it does."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, self._handle)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._interrupt is not None:
            self._interrupt(self._handle)
        self._executor.submit(self._end, self._handle)
        self._executor.shutdown(wait=False)


def _end_what_came(connecting: Future[H], end: Callable[[H], None]) -> None:
    """Runs in the thread after the connect has ended."""
    if not connecting.cancelled() and connecting.exception() is None:
        end(connecting.result())
