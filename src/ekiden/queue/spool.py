"""Content files of one shard: ``content/<queue_id>``, one for each message too large for the database.

A file is durable, with its name, before a row names it; a file that no row names belongs to a message that was never
acknowledged and is swept when the shard is opened. A message that goes takes its file along, after its row is gone.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct, structs

from ekiden.message.clock import Clock
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.queue.durable import Fsync, SyncBatcher, finished
from ekiden.queue.store import HEAD_LIMIT_BYTES, StoreTrouble

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# More free space than mail can use up within that time; with less it is asked for anew each time.
_SPACE_CHECK_S = 1.0
_PLENTY_BYTES = 268_435_456


class SpoolLimits(Struct, frozen=True):
    inline_limit: int  # bytes that stay in memory and go into the database
    buffer_size: int  # bytes that may wait for the disk
    threads: int
    minimum_free: int  # bytes


def trouble(path: Path, error: OSError) -> StoreTrouble:
    return StoreTrouble(f"{path}: {error.strerror or error}", full=error.errno in _NO_SPACE)


class Spool:
    """The content directory, the threads that write to it, and the space that is left on its disk."""

    def __init__(self, directory: Path, *, limits: SpoolLimits, clock: Clock, fsync: Fsync = os.fsync) -> None:
        self.directory = directory
        self.limits = limits
        self._clock = clock
        self._batcher = SyncBatcher(f"spool {directory.parent.name}", fsync=fsync)
        # Threads that are made later must not inherit the one CPU that the loop may keep to by then.
        cpus = os.sched_getaffinity(0)
        self._pool = ThreadPoolExecutor(
            limits.threads,
            thread_name_prefix=f"spool {directory.parent.name}",
            initializer=lambda: os.sched_setaffinity(0, cpus),
        )
        self._checked_at = float("-inf")
        self._free = 0
        self.has_plenty = False  # the last look found more space than mail can use up until the next one
        self._named: set[str] = set()  # files of writers that live, and that a row names or is about to

    def has_space(self, size: int = 0) -> bool:
        """Whether queue_minfree and ``size`` bytes are free; looks once a second at most as long as there is plenty."""
        now = self._clock.monotonic()
        if not self.has_plenty or now - self._checked_at >= _SPACE_CHECK_S:
            self._checked_at = now
            self._free = free_bytes(self.directory)
            self.has_plenty = self._free >= _PLENTY_BYTES
        return self._free >= size and self._free >= self.limits.minimum_free

    async def own(self, queue_id: str, content: FileContent) -> FileContent:
        """The content as the file of ``queue_id``: itself, or a durable link (a forwarded copy shares its origin's).

        Raises StoreTrouble.
        """
        path = self.directory / queue_id
        if content.path == str(path):
            return content
        source = Path(content.path)

        def link() -> int:
            try:
                os.link(source, path, follow_symlinks=False)
            except FileExistsError:
                # Linked by an attempt that then failed. Any other file here is another message's, and stays.
                if not os.path.samefile(source, path):
                    raise
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                    raise
                copy = path.with_name(f"{queue_id}.copy")
                shutil.copyfile(source, copy, follow_symlinks=False)
                os.rename(copy, path)
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

        await self.make_durable(path, link)
        return structs.replace(content, path=str(path))

    async def make_durable(self, path: Path, write: Callable[[], int]) -> None:
        """Run ``write``, which returns an open file, make that durable and close it. Raises StoreTrouble."""
        try:
            await self._batcher.make_durable(write, self.directory)
        except OSError as error:
            raise trouble(path, error) from error

    async def in_pool(self, path: Path, work: Callable[[], int]) -> int:
        """Run blocking work on a file to its end, even when the caller is cancelled. Raises StoreTrouble."""
        try:
            return await finished(asyncio.get_running_loop().run_in_executor(self._pool, work))
        except OSError as error:
            raise trouble(path, error) from error

    def keep(self, queue_id: str) -> None:
        """A row names this file from now on: a writer that is discarded later leaves it alone."""
        self._named.add(queue_id)

    def unkeep(self, queue_id: str) -> None:
        self._named.discard(queue_id)

    def is_kept(self, queue_id: str) -> bool:
        return queue_id in self._named

    def remove(self, queue_ids: Sequence[str]) -> None:
        """Unlink files, in the background; one that stays is swept at the next start. From any thread."""
        paths = [self.directory / queue_id for queue_id in queue_ids]
        self._named.difference_update(queue_ids)
        self._pool.submit(lambda: [_unlink(path) for path in paths])

    def sweep(self, is_named: Callable[[str], bool]) -> list[str]:
        """Remove the files that no row names; returns their names. Blocks. Raises StoreTrouble."""
        swept: list[str] = []
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if not is_named(entry.name):
                        os.unlink(entry.path)
                        swept.append(entry.name)
        except OSError as error:
            raise trouble(self.directory, error) from error
        return swept

    def close(self) -> None:
        """Finish what was begun. Blocks."""
        self._batcher.close()
        self._pool.shutdown(wait=True)


class SpoolWriter:
    """Takes the content of one message (the ContentWriter of this store). One task uses it at a time."""

    __slots__ = ("_buffer", "_drained", "_end", "_handle", "_is_file", "_queue_id", "_spool", "_trouble", "size")

    def __init__(self, spool: Spool, queue_id: str) -> None:
        self.size = 0
        self._spool = spool
        self._queue_id = queue_id
        self._buffer = bytearray()
        self._handle = -1
        self._drained = 0  # bytes that have left the buffer
        self._end = 0  # of what is in the file
        self._is_file = False  # a file of this writer may exist
        self._trouble: StoreTrouble | None = None

    @property
    def _path(self) -> Path:
        # Made when it is wanted: most messages never have a file.
        return self._spool.directory / self._queue_id

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        self._buffer += data
        self.size += len(data)
        return self.size - self._drained >= self._spool.limits.buffer_size

    async def drain(self) -> None:
        if self._trouble is not None:
            raise self._trouble
        if self.size <= self._spool.limits.inline_limit or not self._buffer:
            return
        data, self._buffer = self._buffer, bytearray()
        self._drained = self.size
        self._is_file = True
        try:
            await self._spool.in_pool(self._path, lambda: self._append(data))
        except StoreTrouble as error:
            await self._fail(error)
            raise

    async def finish(self, head: bytes = b"") -> Content:
        if self._trouble is not None:
            raise self._trouble
        head_size = len(head)
        if head_size > HEAD_LIMIT_BYTES:
            raise ValueError(f"a head of {head_size} bytes has no room before the content")
        self.size += head_size
        if not self._is_file and self.size <= self._spool.limits.inline_limit:
            data, self._buffer = b"".join((head, self._buffer)), bytearray()
            return InlineContent(data)
        rest, self._buffer = self._buffer, bytearray()
        self._is_file = True

        def write() -> int:
            self._append(rest)
            _write_all(self._handle, head, HEAD_LIMIT_BYTES - head_size)
            handle, self._handle = self._handle, -1
            return handle

        try:
            await self._spool.make_durable(self._path, write)
        except StoreTrouble as error:
            await self._fail(error)
            raise
        return FileContent(str(self._path), self.size, HEAD_LIMIT_BYTES - head_size)

    async def discard(self) -> None:
        self._buffer = bytearray()
        if self._trouble is None:
            self._trouble = StoreTrouble(f"{self._path}: the content was given up")
        await self._remove()

    async def _fail(self, error: StoreTrouble) -> None:
        self._trouble = error
        self._buffer = bytearray()
        await self._remove()

    async def _remove(self) -> None:
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            os.close(handle)
        if self._is_file and not self._spool.is_kept(self._queue_id):
            self._is_file = False
            await self._spool.in_pool(self._path, lambda: _unlink(self._path))

    def _append(self, data: bytearray) -> int:
        """On a thread: the file is made by the first call."""
        if self._handle < 0:
            # An id that comes again after a crash finds no file here (the sweep), so O_EXCL never fails by accident.
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._end = HEAD_LIMIT_BYTES  # the room before it is a hole that takes no space on the disk
        _write_all(self._handle, data, self._end)
        self._end += len(data)
        return self._handle


def _write_all(handle: int, data: bytes | bytearray, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(handle, view, at)
        view, at = view[count:], at + count


def free_bytes(directory: Path) -> int:
    """The bytes that may still be written below ``directory``; 0 when no file can be made. Raises StoreTrouble."""
    try:
        found = os.statvfs(directory)
    except OSError as error:
        raise trouble(directory, error) from error
    if found.f_files and not found.f_favail:
        return 0
    return found.f_bavail * found.f_frsize


def _unlink(path: Path) -> int:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return 0
    except OSError:
        return 1  # what stays is swept when the shard is opened
    return 0
