"""Opening the directories that hold a mailbox, one component at a time, without following links of strangers.

All opens go through directory descriptors, so that nothing that is renamed or replaced meanwhile can lead a
delivery elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat

_PASS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Strangers(OSError):
    """A symbolic link that neither the superuser nor the server's owner made."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.ELOOP, f"{name} is a symbolic link that may not be followed")


class DirectoryWalk:
    """Opens directories below a base. ``trusted`` are the users whose symbolic links are followed; None: anyone's.

    Directories that had to be made, mode 0700, are synced by sync(); until then they may vanish in a crash.
    """

    def __init__(self, trusted: frozenset[int] | None) -> None:
        self._trusted = trusted
        self._changed: list[int] = []  # descriptors of directories that got a new entry

    def trusts(self, uid: int) -> bool:
        """Whether symbolic links of this user are followed."""
        return self._trusted is None or uid in self._trusted

    def open(self, base: str, parts: list[str], *, create: bool) -> int:
        """A descriptor (O_PATH) of the directory ``base``/``parts``. Raises OSError."""
        fd = os.open(base, _PASS)
        try:
            for part in parts:
                inner = self.step(fd, part, create=create)
                os.close(fd)
                fd = inner
        except BaseException:
            os.close(fd)
            raise
        return fd

    def step(self, fd: int, name: str, *, create: bool, read: bool = False) -> int:
        """A descriptor of the directory ``name`` in ``fd``; with ``read`` one that can be synced. Raises OSError."""
        flags = _READ if read else _PASS
        if self._trusted is None:
            nofollow = 0
        else:
            nofollow = os.O_NOFOLLOW
        for _ in range(2):
            try:
                return os.open(name, flags | nofollow, dir_fd=fd)
            except FileNotFoundError:
                if not create:
                    raise
                self._make(fd, name)
            except OSError as error:
                if nofollow == 0 or error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISLNK(status.st_mode):
                    raise
                if self._trusted is not None and status.st_uid not in self._trusted:
                    raise Strangers(name) from None
                nofollow = 0
        return os.open(name, flags | nofollow, dir_fd=fd)

    def _make(self, fd: int, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:  # made by another delivery just now, or a link that leads nowhere: open() tells
            return
        try:
            self._changed.append(os.open(".", _READ, dir_fd=fd))
        except PermissionError:
            # A directory that may be entered and written but not read cannot be synced by itself.
            os.sync()

    def take_changed(self) -> list[int]:
        """Descriptors of the directories that must be synced because of new entries; the caller closes them."""
        changed, self._changed = self._changed, []
        return changed
