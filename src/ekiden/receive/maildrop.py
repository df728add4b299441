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


class DropError(ValueError):
    """A file in the maildrop that is none of ours."""


def leave(queue_directory: Path, drop: Drop, content: Iterator[bytes]) -> Path:
    """Write a drop durably and return its path. Raises OSError; nothing stays behind then."""
    folder = queue_directory / FOLDER
    name = secrets.token_hex(16)
    hidden, final = folder / f".{name}", folder / name
    # Mode 0644: the server's user must read it; nobody else can find its name.
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(msgspec.json.encode(drop) + b"\n")
            for part in content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(final)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink()
        raise
    # The folder may be written to but not read; fsync needs a descriptor, which only its owner gets.
    with contextlib.suppress(PermissionError):
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)
    return final


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
