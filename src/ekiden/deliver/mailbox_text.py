"""From the queue's wire form (CRLF) to the lines of a mailbox (LF), in pieces of bounded size, and onto the disk."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from typing import Generic, TypeVar

from msgspec import Struct

from ekiden.deliver.mailbox_jobs import Answer, RunJob, WriteJob, deferred, failed

_PIECE_BYTES = 262_144


class ContentTrouble(Exception):
    """The content of a message could not be read whole."""


class MailboxFull(Exception):
    """The message does not fit the limit of the mailbox."""


J = TypeVar("J", bound=WriteJob | RunJob)


class Task(Struct, Generic[J], frozen=True):
    """A message for a mailbox or a command and the descriptor of its content, -1 when the job holds it."""

    job: J
    fd: int = -1

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def mailbox_pieces(task: Task[WriteJob] | Task[RunJob]) -> Iterator[bytes]:
    """The message as it is delivered, in pieces: the job's head, then the content with LF. Raises ContentTrouble."""
    job = task.job
    if job.content is not None:
        yield job.head + job.content.replace(b"\r\n", b"\n")
        return
    offset, kept = 0, job.head
    start = max(0, os.fstat(task.fd).st_size - job.size)  # what goes before the content in its file is none of it
    while offset < job.size:
        try:
            piece = os.pread(task.fd, min(_PIECE_BYTES, job.size - offset), start + offset)
        except OSError as error:
            raise ContentTrouble(f"cannot read the message: {error.strerror}") from error
        if not piece:
            raise ContentTrouble(f"the message has {offset} bytes where {job.size} are expected")
        offset += len(piece)
        piece = kept + piece
        kept = b""
        if piece.endswith(b"\r") and offset < job.size:  # its LF may be in the next piece
            piece, kept = piece[:-1], b"\r"
        yield piece.replace(b"\r\n", b"\n")
    if kept:
        yield kept


def command_pieces(task: Task[RunJob]) -> Iterator[bytes]:
    """The message as a command gets it. Raises ContentTrouble."""
    job = task.job
    pieces = mailbox_pieces(task)
    if job.quote_from:
        pieces = _quoted_after_head(pieces)
    if job.dots:
        pieces = dotted(pieces)
    last = b"\n"
    for piece in pieces:
        if piece:
            last = piece[-1:]
            yield piece if job.eol == b"\n" else piece.replace(b"\n", job.eol)
    # A message that does not end a line would run into what a command appends to it.
    end = b"\n" if last != b"\n" else b""
    if job.blank_end:
        end += b"\n"
    if end:
        yield end.replace(b"\n", job.eol)


def _quoted_after_head(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """quoted_from, but for the From_ line that the head begins with."""
    first = next(pieces, b"")
    if first.startswith(b"From "):
        line, newline, first = first.partition(b"\n")
        yield line + newline
    yield from quoted_from(itertools.chain([first], pieces))


def dotted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces with a dot before each line that begins with one."""
    at_line_start = True
    for piece in pieces:
        if not piece:
            continue
        if at_line_start and piece.startswith(b"."):
            yield b"."
        at_line_start = piece.endswith(b"\n")
        yield piece.replace(b"\n.", b"\n..")


def quoted_from(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces with ``>`` before each line that begins with ``From ``, which in an mbox begins a message."""
    at_line_start, kept = True, b""
    for piece in pieces:
        piece = kept + piece
        if at_line_start and piece.startswith(b"From "):
            piece = b">" + piece
        piece = piece.replace(b"\nFrom ", b"\n>From ")
        # What could be the beginning of a "From " that goes on in the next piece waits for it.
        line = piece.rfind(b"\n") + 1
        kept = b""
        if (line or at_line_start) and len(piece) - line < 5 and b"From ".startswith(piece[line:]):
            piece, kept = piece[:line], piece[line:]
            at_line_start = True
        else:
            at_line_start = False
        yield piece
    if kept:
        yield kept


def write_all(fd: int, data: bytes) -> None:
    """Write ``data`` whole. Raises OSError."""
    written = os.write(fd, data)
    while written < len(data):  # a disk that fills up takes a part first and says why only then
        count = os.write(fd, memoryview(data)[written:])
        if count == 0:
            raise OSError(errno.EIO, "nothing was written")
        written += count


def answer_for(number: int, doing: str, trouble: Exception) -> Answer:
    """The answer for a message that could not be written while ``doing`` something."""
    if isinstance(trouble, MailboxFull):
        return failed(number, 2, 2, f"{doing}: {trouble}")
    if isinstance(trouble, ContentTrouble):
        return deferred(number, 3, 0, f"{doing}: {trouble}")
    if not isinstance(trouble, OSError):
        raise trouble
    text = f"{doing}: {trouble.strerror}"
    match trouble.errno:
        case errno.EFBIG:
            return failed(number, 2, 2, text)
        case errno.EDQUOT:
            return deferred(number, 2, 2, text)
        case errno.ENOSPC:
            return deferred(number, 3, 1, text)
        case _:  # ESTALE, EACCES, EROFS, EIO ...: a person can put it right
            return deferred(number, 2, 0, text)
