"""The pid file: a lock that says that the server runs, and which process to signal."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

NAME = "ekiden.pid"


class AlreadyRunning(Exception):
    """Another server has this queue. ``pid`` is 0 when it has not written its number yet."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path}: the server is already running" + (f" (process {pid})" if pid else ""))
        self.pid = pid


class PidFile:
    """Held locked (flock(2)) as long as the server runs; the kernel frees the lock however it ends.

    The file stays behind, without a lock, so that a new server never locks a file that another just unlinked.
    """

    def __init__(self, queue_directory: Path) -> None:
        """Take the lock. Raises AlreadyRunning or OSError."""
        self.path = queue_directory / NAME
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _read(self._fd)
            os.close(self._fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise AlreadyRunning(self.path, pid) from None
            raise
        self.write(os.getpid())

    def write(self, pid: int) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{pid}\n".encode(), 0)

    def close_copy(self) -> None:
        """In a child: drop the descriptor; the lock belongs to the open file and ends with its last copy."""
        os.close(self._fd)

    def close(self) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def running_pid(queue_directory: Path) -> int | None:
    """The process of the server that holds this queue, or None when none runs.

    Raises PermissionError and other OSErrors when the file cannot be read.
    """
    try:
        fd = os.open(queue_directory / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        # A shared lock that can be had shows that nobody holds the exclusive one; closing gives it back at once.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(fd) or None
    finally:
        os.close(fd)
    return None


def _read(fd: int) -> int:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0
