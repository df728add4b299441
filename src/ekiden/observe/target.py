"""Where the lines of the mail log go: a file, standard output, the syslog daemon. No target ever blocks or raises."""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Sequence
from typing import Protocol

# POSIX: a write of this size to a pipe that is ready does not block, and lines of several processes do not mix.
_PIPE_BUF = 4096


class Target(Protocol):
    def write(self, lines: Sequence[bytes]) -> int:
        """Write whole lines in order; how many were taken. The caller may offer the others again."""

    def reopen(self) -> None:
        """Begin anew, in a file of the same name (log rotation)."""

    def close(self) -> None: ...


class FileTarget:
    """Appends to a file. Raises OSError when it cannot be opened; later trouble (a full disk) is told by write()."""

    def __init__(self, path: str, permissions: int) -> None:
        self._path, self._permissions = path, permissions
        self._fd = self._opened()

    def _opened(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(self._path, flags, self._permissions)

    def write(self, lines: Sequence[bytes]) -> int:
        data = b"".join(lines)
        try:
            written = os.write(self._fd, data)
            if written < len(data):  # the disk is about to be full: end with a whole line, or tell what was taken
                written += os.write(self._fd, data[written:])
        except OSError:
            return 0
        return len(lines) if written == len(data) else data.count(b"\n", 0, written)

    def reopen(self) -> None:
        try:
            fresh = self._opened()
        except OSError:
            return  # an unprivileged worker may not create the file: the old one goes on
        os.close(self._fd)
        self._fd = fresh

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class StreamTarget:
    """Writes to an open descriptor (standard output) that may be a pipe with a slow reader."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            self._waits = not stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:  # closed by whoever started us: every write fails, and that is not our trouble
            self._waits = False

    def write(self, lines: Sequence[bytes]) -> int:
        taken = 0
        while taken < len(lines):
            end, size = taken, 0
            while end < len(lines) and (end == taken or size + len(lines[end]) <= _PIPE_BUF):
                size += len(lines[end])
                end += 1
            try:
                if self._waits and not self._ready():
                    break
                os.write(self._fd, b"".join(lines[taken:end]))
            except OSError:
                break
            taken = end
        return taken

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        """The descriptor is not ours to close."""


class SyslogTarget:
    """Sends each line as a datagram to the syslog daemon (RFC 3164 §4.1), or to standard error where there is none."""

    def __init__(self, path: str, fallback: Target | None = None) -> None:
        self._path = path
        self._fallback: Target = StreamTarget(2) if fallback is None else fallback
        self._socket: socket.socket | None = None

    def _connected(self) -> socket.socket | None:
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                fresh.connect(self._path)
            except OSError:
                fresh.close()
                return None
            self._socket = fresh
        return self._socket

    def write(self, lines: Sequence[bytes]) -> int:
        taken = retried = 0
        while taken < len(lines):
            daemon = self._connected()
            if daemon is None:
                return taken + self._fallback.write(lines[taken:])
            try:
                daemon.send(lines[taken].rstrip(b"\n"))
                taken += 1
            except BlockingIOError:  # the daemon is behind
                break
            except OSError:  # it went away; once more, for it may have been restarted
                self.close()
                retried += 1
                if retried > 1:
                    break
        return taken

    def reopen(self) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
