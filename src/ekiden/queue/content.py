"""Reading the content of a queued message, wherever it lies.

In:   a Content value (in memory, or a file of the spool).
Out:  its bytes, at once or in pieces; what is not in memory is read in a thread: the event loop waits for no disk.
Errors: StoreTrouble when the file cannot be opened, cannot be read, or is shorter than its name in the queue says.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from ekiden.message.content import Content, FileContent, InlineContent, OutgoingContent, SplicedContent
from ekiden.queue.store import StoreTrouble

CHUNK_BYTES = 262_144


async def chunks(content: OutgoingContent, size: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
    """The content in order, in pieces of at most ``size`` bytes; inline content comes as the one piece it is."""
    if isinstance(content, InlineContent):
        if content.data:
            yield content.data
        return
    start = 0
    if isinstance(content, SplicedContent):
        yield content.head
        start, content = content.skipped, content.file
    # The name of a queued file is as good as always in the kernel's memory; its data is asked for without waiting.
    handle = _open(content)
    try:
        at = start
        while at < content.size:
            wanted = min(size, content.size - at)
            piece = _read_cached(handle, wanted, content.start + at)
            if not piece:
                piece = await asyncio.to_thread(_read, content, handle, wanted, content.start + at)
            at += len(piece)
            yield piece
    finally:
        os.close(handle)


async def read(content: Content, limit: int | None = None) -> bytes:
    """The content in memory, or its first ``limit`` bytes."""
    if isinstance(content, InlineContent):
        return content.data if limit is None else content.data[:limit]
    return await asyncio.to_thread(_read_file, content, limit)


def _open(content: FileContent) -> int:
    try:
        return os.open(content.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise StoreTrouble(f"{content.path}: {error.strerror}") from error


def _read_cached(handle: int, size: int, at: int) -> bytes:
    """What of the piece is in the page cache; b"" when none is, or the file system cannot tell (preadv2(2))."""
    buffer = bytearray(size)
    try:
        count = os.preadv(handle, [buffer], at, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: it must be read; EOPNOTSUPP; a true error shows again when a thread reads
        return b""
    return bytes(buffer if count == size else memoryview(buffer)[:count])


def _read(content: FileContent, handle: int, size: int, at: int) -> bytes:
    try:
        piece = os.pread(handle, size, at)
    except OSError as error:
        raise StoreTrouble(f"{content.path}: {error.strerror}") from error
    if not piece:
        raise StoreTrouble(f"{content.path}: ends after {at - content.start} of {content.size} bytes")
    return piece


def _read_file(content: FileContent, limit: int | None) -> bytes:
    wanted = content.size if limit is None else min(limit, content.size)
    handle = _open(content)
    try:
        pieces: list[bytes] = []
        at = 0
        while at < wanted:
            pieces.append(_read(content, handle, wanted - at, content.start + at))
            at += len(pieces[-1])
        return b"".join(pieces)
    finally:
        os.close(handle)
