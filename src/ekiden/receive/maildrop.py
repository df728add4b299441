"""The maildrop: where the sendmail command leaves messages, whether the server runs or not.

``maildrop/`` may be written to but not listed by everybody (mode 1733); a drop is one file with an unguessable name,
written under a dotted name, fsync'd, then renamed, so that the server never sees half of one. Its owner is the
submitting user: the server takes the user's identity from the file system, not from the file.

A drop begins with one line of JSON, the envelope; the content follows as the user gave it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from ekiden.message.envelope import Ret

FOLDER = "maildrop"
KNOCK_SOCKET = Path("public", "pickup")
# The envelope line of 1000 long recipients fits with room to spare.
ENVELOPE_LIMIT_BYTES = 4 * 1024 * 1024


class Drop(Struct, frozen=True):
    """The envelope of a drop. Addresses are as the user wrote them; the server completes and checks them."""

    recipients: tuple[str, ...]
    sender: str | None = None  # None: the submitting user; "": the null sender
    full_name: str = ""
    body_8bit: bool = False
    notify: int | None = None  # Notify of all recipients (RFC 3461 §4.1); None: as without the option
    ret: Ret | None = None  # RFC 3461 §4.3
    envid: str = ""  # RFC 3461 §4.4


class DropError(ValueError):
    """A file in the maildrop that is none of ours."""


class DropWriter:
    """One drop while it is written. Raises OSError from every method; nothing stays behind then, or after abandon()."""

    def __init__(self, queue_directory: Path, drop: Drop) -> None:
        self._folder = queue_directory / FOLDER
        self.name = secrets.token_hex(16)
        self._hidden, self._final = self._folder / f".{self.name}", self._folder / self.name
        # Mode 0644: the server's user must read it; nobody else can find its name.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = open(os.open(self._hidden, flags, 0o644), "wb")  # noqa: SIM115 -- open from here to commit()
        try:
            os.fchmod(self._file.fileno(), 0o644)
            self._file.write(msgspec.json.encode(drop) + b"\n")
        except BaseException:
            self.abandon()
            raise

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def commit(self) -> Path:
        """It is durable, and the server may take it."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._hidden.rename(self._final)
        except BaseException:
            self.abandon()
            raise
        # The folder may be written to but not read; fsync needs a descriptor, which only its owner gets.
        with contextlib.suppress(PermissionError):
            folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder_fd)
            finally:
                os.close(folder_fd)
        return self._final

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._hidden.unlink()


def leave(queue_directory: Path, drop: Drop, content: Iterator[bytes]) -> Path:
    """Write a drop durably and return its path. Raises OSError; nothing stays behind then."""
    writer = DropWriter(queue_directory, drop)
    try:
        for part in content:
            writer.write(part)
    except BaseException:
        writer.abandon()
        raise
    return writer.commit()


def knock(queue_directory: Path) -> bool:
    """Tell the server that there is something in the maildrop; False when no server listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knocking:
        try:
            knocking.setblocking(False)
            knocking.sendto(b"drop", str(queue_directory / KNOCK_SOCKET))
        except BlockingIOError:
            return True  # it has been knocked at so often that it is on its way
        except OSError:
            return False
    return True


def read_envelope(file: BinaryIO) -> Drop:
    """The envelope at the start of a drop; ``file`` then stands at the content. Raises DropError."""
    line = file.readline(ENVELOPE_LIMIT_BYTES)
    if not line.endswith(b"\n"):
        raise DropError("the envelope line is missing or too long")
    try:
        return msgspec.json.decode(line, type=Drop)
    except msgspec.MsgspecError as error:
        raise DropError(f"the envelope line cannot be read: {error}") from error
