"""Making files durable, many at a time.

An fsync costs a wait for the disk, whoever asks for it. So the write-back of all files is started first and waited for
afterwards: the disk works on them together, and the file system's journal commits once for most of them.

In:   open files, and the directories that hold their names.
Out:  nothing, when all of it would survive a power loss.
Errors: OSError. A file whose fsync failed must be given up: the kernel has forgotten which of its pages are dirty, so a
second fsync that succeeds proves nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import Struct

Fsync = Callable[[int], None]

_SYNC_FILE_RANGE_WRITE = 2


def _find_sync_file_range() -> Callable[[int], object]:
    """Linux's sync_file_range(2) for a whole file, or nothing at all where there is no such call."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return lambda handle: None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call.restype = ctypes.c_int
    return lambda handle: call(handle, 0, 0, _SYNC_FILE_RANGE_WRITE)


# Only a hint to start early: its errors (a pipe, a file system without it) do not matter, fsync has the last word.
start_write_back = _find_sync_file_range()


def sync_files(fds: Sequence[int], directories: Sequence[int | Path], *, fsync: Fsync = os.fsync) -> None:
    """Make files and the names in their directories durable. Blocks; raises the first OSError after trying all."""
    if len(fds) > 1:
        for handle in fds:
            start_write_back(handle)
    trouble = first_trouble(sync_each(fds, fsync=fsync))
    for directory in distinct(directories):
        try:
            sync_directory(directory, fsync=fsync)
        except OSError as error:
            trouble = trouble or error
    if trouble is not None:
        raise trouble


def sync_each(fds: Sequence[int], *, fsync: Fsync = os.fsync) -> list[OSError | None]:
    """Make files durable whose write-back has begun; what went wrong with each, in their order. Blocks."""
    outcomes: list[OSError | None] = []
    for handle in fds:
        try:
            fsync(handle)
        except OSError as error:
            outcomes.append(error)
        else:
            outcomes.append(None)
    return outcomes


def sync_directory(directory: int | Path, *, fsync: Fsync = os.fsync) -> None:
    """Make the names in a directory durable: files made, linked, renamed. Blocks; raises OSError."""
    if isinstance(directory, int):
        fsync(directory)
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(handle)
    finally:
        os.close(handle)


def distinct(directories: Iterable[int | Path]) -> list[int | Path]:
    return list(dict.fromkeys(directories))


def first_trouble(outcomes: Iterable[OSError | None]) -> OSError | None:
    return next((error for error in outcomes if error is not None), None)


class _Job(Struct, eq=False):
    write: Callable[[], int]
    directory: int | Path
    future: asyncio.Future[int]
    loop: asyncio.AbstractEventLoop
    handle: int = -1
    error: BaseException | None = None


class SyncBatcher:
    """Threads that take every file that waits and make them durable together, as the store commits messages.

    With two of them one batch is written while the disk still works on the other.
    """

    def __init__(self, name: str, *, threads: int = 2, limit: int = 64, fsync: Fsync = os.fsync) -> None:
        self._limit = limit
        self._fsync = fsync
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name} {number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def make_durable(self, write: Callable[[], int], directory: int | Path) -> None:
        """Run ``write`` in the thread (it returns an open file), sync that file and its directory, and close it.

        Raises what ``write`` raises, or OSError.
        """
        loop = asyncio.get_running_loop()
        job = _Job(write, directory, loop.create_future(), loop)
        self._waiting.put(job)
        # A caller that is cancelled must not leave a thread at work on a file that it goes on to remove.
        await finished(job.future)

    def close(self) -> None:
        """Finish what waits and end the threads. Blocks."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        running = True
        while running:
            jobs: list[_Job] = []
            item = self._waiting.get()
            while True:
                if item is None:  # each thread takes one end for itself
                    running = False
                    break
                jobs.append(item)
                if len(jobs) >= self._limit:
                    break
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
            if jobs:
                self._work(jobs)

    def _work(self, jobs: list[_Job]) -> None:
        for job in jobs:
            try:
                job.handle = job.write()
                start_write_back(job.handle)
            except BaseException as error:  # whatever it is belongs to the one who waits for this file
                job.error = error
        written = [job for job in jobs if job.error is None]
        outcomes = sync_each([job.handle for job in written], fsync=self._fsync)
        for job, outcome in zip(written, outcomes, strict=True):
            job.error = outcome
            os.close(job.handle)
        for directory in distinct(job.directory for job in written):
            try:
                sync_directory(directory, fsync=self._fsync)
            except OSError as error:
                for job in written:
                    if job.directory == directory:
                        job.error = job.error or error
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.loop, []).append(job)
        for loop, done in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, done)


async def finished(future: asyncio.Future[int]) -> int:
    """The outcome of work that a thread does; a cancellation waits for its end and then takes effect."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen: the cancellation goes first
        raise cancelled
    return future.result()


def _wake(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.handle)
